"""Who races on a task: the notes' rules, a user's rule, or any class of torch.optim or of a third party."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mlcv_bench.errors import UsageError
from mlcv_bench.names import (
    is_specification,
    label_of,
    load_specification,
    name_of,
    parts_of,
    refuse_settings,
    split_settings,
)
from mlcv_bench.optimizers.rule import REGISTRY, Rule, find, proper

ALSO_TUNED: dict[str, tuple[float, ...]] = {
    "momentum": (0.5, 0.8, 0.95, 0.99),
    "beta": (0.8, 0.95, 0.99, 0.999),
    "beta1": (0.5, 0.8, 0.95, 0.99),
}
"""Values of momentum or beta that are tried near the best rate."""

Setting = float | bool | str | tuple[float, ...]
"""A setting of an optimizer of a third party; a rule's are numbers."""


@dataclass(frozen=True)
class TaskOptimizer:
    """One optimizer of a race: a rule, or a torch.optim.Optimizer class of a third party."""

    named: str | Callable[..., Any]
    """The text that names it, or the function or class itself."""
    given: Mapping[str, Setting]
    defaults: Mapping[str, float]
    rule: Rule | None
    third_party: Any = None

    @property
    def label(self) -> str:
        """What is shown of it."""
        return label_of(self.named)

    @property
    def tunable(self) -> bool:
        """Whether its learning rate is free: it has one, and the user did not set it."""
        return "lr" in self.defaults and "lr" not in self.given

    @property
    def settings(self) -> dict[str, Any]:
        """Every hyperparameter that is passed on: all of a rule's, those that were given of a third party's."""
        return {**self.defaults, **self.given} if self.rule is not None else dict(self.given)

    @property
    def settings_without_rate(self) -> tuple[tuple[str, Any], ...]:
        """The settings of a job, which lists its rates apart."""
        return tuple((name, value) for name, value in self.settings.items() if name != "lr")

    @property
    def default_rate(self) -> float | None:
        """The rate of the protocol `default`; None for an optimizer without one."""
        rate = {**self.defaults, **self.given}.get("lr")
        return rate if isinstance(rate, float) else None

    @property
    def also_tuned(self) -> str | None:
        """The hyperparameter that is tuned after the rate, or None: there is none, or the user set it."""
        if self.rule is None:
            return None
        return next((name for name in ALSO_TUNED if name in self.rule.defaults and name not in self.given), None)


def find_optimizer(named: str | Callable[..., Any]) -> TaskOptimizer:
    """Return the optimizer that a text names: `adam:beta1=0.95`, `torch.optim:AdamW:weight_decay=0.1`, a user's rule.

    In Python the rule or the class may stand for itself, with functools.partial for its settings.

    Raises:
        UsageError: nothing has this name, or it has no such hyperparameter.

    """
    found: Any = None
    if isinstance(named, str):
        name, given = split_settings(named, read_setting)
        if is_specification(name) and name not in REGISTRY.entry_points():
            found = load_specification(name)
    else:
        found, settings = parts_of(named)
        name = name_of(found)
        given = {key: float(value) if type(value) is int else value for key, value in settings.items()}
    if inspect.isclass(found):
        return _third_party(named, name, found, given)
    rule, own = find(named)
    return TaskOptimizer(proper(named) if isinstance(named, str) else named, own, rule.defaults, rule)


def read_setting(text: str) -> Setting:
    """Read `0.9`, `true`, `(0.9,0.99)` or a word such as `strong_wolfe`.

    Raises:
        ValueError: it is none of these.

    """
    text = text.strip()
    if text.lower() in {"true", "false"}:
        return text.lower() == "true"
    if text.startswith("(") and text.endswith(")"):
        return tuple(float(part) for part in text[1:-1].split(",") if part.strip())
    return text if text.isidentifier() and text.lower() not in {"nan", "inf", "infinity"} else float(text)


def _third_party(
    named: str | Callable[..., Any], name: str, found: type, given: Mapping[str, Setting]
) -> TaskOptimizer:
    from torch.optim import Optimizer  # noqa: PLC0415 - the notes' own rules are found without torch

    if not issubclass(found, Optimizer):
        raise UsageError(f"{name} is no torch.optim.Optimizer; name an optimizer's class, such as torch.optim:AdamW")
    parameters = list(inspect.signature(found).parameters.values())[1:]
    known = [parameter.name for parameter in parameters]
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        refuse_settings(name, given, known)
    for key, value in given.items():
        numbers = value if isinstance(value, tuple) else (value,)
        if not all(math.isfinite(number) for number in numbers if isinstance(number, int | float)):
            raise UsageError(f"{name}: {key} must be finite, not {value}")
        if key == "lr" and not isinstance(value, float):
            raise UsageError(f"{name}: lr takes a number, not {value}")
    defaults = {
        parameter.name: float(parameter.default)
        for parameter in parameters
        if isinstance(parameter.default, int | float) and not isinstance(parameter.default, bool)
    }
    return TaskOptimizer(named, given, defaults, None, found)
