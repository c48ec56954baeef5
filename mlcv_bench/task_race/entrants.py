"""Who races on a task: the notes' rules, a user's rule, or any class of torch.optim or of a third party."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlcv_bench.errors import UsageError
from mlcv_bench.names import is_specification, load_specification, near_misses
from mlcv_bench.optimizers.rule import REGISTRY, RULES, Rule, find, split

FIRST_ORDER = tuple(
    name for name, rule in RULES.items() if rule.needs == "gradient" and name not in {"adam_l2", "adamw_torch"}
)
"""The optimizers of a race on a task, unless others are named."""

BESIDE: dict[str, tuple[float, ...]] = {
    "momentum": (0.5, 0.8, 0.95, 0.99),
    "beta": (0.8, 0.95, 0.99, 0.999),
    "beta1": (0.5, 0.8, 0.95, 0.99),
}
"""Values of momentum or beta that are tried beside the best rate."""


Setting = float | bool | str | tuple[float, ...]
"""A setting of an optimizer of a third party; a rule's are numbers."""


@dataclass(frozen=True)
class TaskEntrant:
    """One optimizer of a race: a rule, or a torch.optim.Optimizer class from elsewhere."""

    label: str
    given: tuple[tuple[str, Setting], ...]
    defaults: tuple[tuple[str, float], ...]
    rule: Rule | None
    optimizer: Any = None

    @property
    def tunable(self) -> bool:
        """Whether its learning rate is free: it has one, and the user did not set it."""
        return "lr" in dict(self.defaults) and "lr" not in dict(self.given)

    @property
    def settings(self) -> dict[str, Any]:
        """Every hyperparameter that is passed on: a rule's all, of a foreign class those that were given."""
        return {**dict(self.defaults), **dict(self.given)} if self.rule is not None else dict(self.given)

    @property
    def default_rate(self) -> float | None:
        """The rate of the protocol `default`; None for an optimizer without one."""
        rate = {**dict(self.defaults), **dict(self.given)}.get("lr")
        return rate if isinstance(rate, float) else None

    @property
    def beside(self) -> str | None:
        """The hyperparameter tuned beside the rate, or None: there is none, or the user set it."""
        if self.rule is None:
            return None
        return next((name for name in BESIDE if name in self.rule.defaults and name not in dict(self.given)), None)


def find_entrant(text: str) -> TaskEntrant:
    """Return the optimizer that `text` names: `adam:beta1=0.95`, `torch.optim:AdamW:weight_decay=0.1`, a user's rule.

    Raises:
        UsageError: nothing has this name, or it has no such hyperparameter.

    """
    name, given = split(text, read_setting)
    found = load_specification(name) if is_specification(name) and name not in REGISTRY.entry_points() else None
    if inspect.isclass(found):
        return _foreign(text.strip(), name, found, given)
    rule, given = find(text)
    return TaskEntrant(text.strip(), tuple(given.items()), tuple(rule.defaults.items()), rule)


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


def _foreign(label: str, name: str, found: type, given: Mapping[str, Setting]) -> TaskEntrant:
    from torch.optim import Optimizer  # noqa: PLC0415 - the notes' own rules are found without torch

    if not issubclass(found, Optimizer):
        raise UsageError(f"{name} is no torch.optim.Optimizer; name an optimizer's class, such as torch.optim:AdamW")
    parameters = list(inspect.signature(found).parameters.values())[1:]
    for key in given:
        known = [parameter.name for parameter in parameters]
        if key not in known and not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            close = near_misses(key, known)
            hint = f" (did you mean {close[0]}?)" if close else ""
            raise UsageError(f"{name} has no {key}{hint}; it takes {', '.join(known)}")
        value = given[key]
        if not all(
            math.isfinite(part)
            for part in (value if isinstance(value, tuple) else (value,))
            if not isinstance(part, str)
        ):
            raise UsageError(f"{name}: {key} must be finite, not {value}")
        if key == "lr" and not isinstance(value, float):
            raise UsageError(f"{name}: lr takes a number, not {value}")
    defaults = {
        parameter.name: float(parameter.default)
        for parameter in parameters
        if isinstance(parameter.default, int | float) and not isinstance(parameter.default, bool)
    }
    return TaskEntrant(label, tuple(given.items()), tuple(defaults.items()), None, found)


def find_entrants(texts: Sequence[str]) -> list[TaskEntrant]:
    """Read optimizers as typed; one may come several times under different settings.

    Raises:
        UsageError: an unknown name or hyperparameter, or the same entry twice.

    """
    found: dict[str, TaskEntrant] = {}
    for text in texts:
        entrant = find_entrant(text)
        if entrant.label in found:
            raise UsageError(f"{entrant.label} races twice; give one of them other settings, as in {text}:lr=0.1")
        found[entrant.label] = entrant
    return list(found.values())
