"""Any class of torch.optim or of a third party, as it races: its settings, its building, what its step asks for."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from mlcv_bench.errors import UsageError
from mlcv_bench.names import (
    first_line,
    is_specification,
    load_specification,
    module_of,
    name_of,
    parts_of,
    refuse_settings,
    split_settings,
    user_code,
)
from mlcv_bench.optimizers import rule
from mlcv_bench.optimizers.rule import Rule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from torch import Tensor
    from torch.optim import Optimizer

Setting = float | bool | str | tuple[float, ...]
"""A setting of an optimizer of a third party; a rule's are numbers."""

EVERY = "all"
"""The attribute that stands for every optimizer of a module, as in `torch.optim:all`."""


@dataclass(frozen=True)
class ThirdPartyOptimizer:
    """A torch.optim.Optimizer class: the name that messages have for it, and the numbers that it takes by default."""

    name: str
    kind: type[Optimizer]
    defaults: Mapping[str, float]

    needs: ClassVar[Literal["gradient"]] = "gradient"
    built_in: ClassVar[bool] = False

    def settings(self, given: Mapping[str, Setting]) -> dict[str, Setting]:
        """Return what it is built with: its own rate, overridden by what is given; it knows its other defaults."""
        rate: dict[str, Setting] = {"lr": self.defaults["lr"]} if "lr" in self.defaults else {}
        return rate | dict(given)

    def build(self, parameters: Iterable[Tensor], settings: Mapping[str, Any]) -> Optimizer:
        """Return the optimizer of some parameters.

        A whole number is passed as one, and the name of one of torch's optimizers as its class where it stands for a
        parameter without a default: the base of SAM (Foret et al. 2021), say.

        Raises:
            UsageError: the class does not take these parameters or settings.

        """
        import torch  # noqa: PLC0415 - loaded already, with the class

        required = {p.name for p in _parameters_of(self.kind) if p.default is p.empty}
        passed: dict[str, Any] = {}
        for name, value in settings.items():
            passed[name] = value
            if isinstance(value, float) and value == int(value) and name != "lr":
                passed[name] = int(value)
            elif isinstance(value, str) and name in required:
                passed[name] = getattr(torch.optim, value, value)
        try:
            with user_code():
                return self.kind(parameters, **passed)
        except Exception as error:
            example = "; give its settings as in torch.optim:Adam:lr=0.001,betas=(0.9,0.99)"
            way_out = example if isinstance(error, TypeError) else ""
            raise UsageError(f"{self.name} cannot be built: {first_line(error)}{way_out}") from error


AnyOptimizer = Rule | ThirdPartyOptimizer
"""What races: an update rule, or a class that has its own step."""


def find(named: str | Callable[..., Any]) -> tuple[AnyOptimizer, dict[str, Setting]]:
    """Return the optimizer that a text names, and what is set: `adam:beta1=0.95`, `torch.optim:AdamW:lr=0.1`.

    In Python a rule or a class may stand for itself, with functools.partial for its settings.

    Raises:
        UsageError: nothing has this name, or it has no such hyperparameter.

    """
    found: Any = None
    if isinstance(named, str):
        name, given = split_settings(named, read_setting)
        if is_specification(name):
            found = load_specification(name)
    else:
        found, settings = parts_of(named)
        name = name_of(found)
        given = {key: float(value) if type(value) is int else value for key, value in settings.items()}
    if inspect.isclass(found):
        return _read(name, found, given), given
    own, numbers = rule.find(named)
    return own, dict(numbers)


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


def written(value: Setting) -> str:
    """Return a setting as `read_setting` reads it, without spaces."""
    if isinstance(value, tuple):
        return f"({','.join(map(repr, value))})"
    return str(value).lower() if isinstance(value, bool) else value if isinstance(value, str) else repr(value)


def every(named: str) -> list[str] | None:
    """Return the texts that `torch.optim:all` or `mine.py:all:lr=0.1` stands for, or None of any other text.

    A package's are all that it shows, imported ones too; those of a module or a file are its own.

    Raises:
        UsageError: there is no such module, or it has no optimizer.

    """
    name, settings = split_settings(named, str) if is_specification(named) else (named, {})
    place, _, attribute = name.rpartition(":")
    if not place or attribute != EVERY:
        return None
    module = module_of(name)
    from torch.optim import Optimizer  # noqa: PLC0415 - the notes' own rules are found without torch

    found: dict[type, str] = {}
    for own, item in vars(module).items():
        if not (inspect.isclass(item) and issubclass(item, Optimizer)) or item is Optimizer or own.startswith("_"):
            continue
        if hasattr(module, "__path__") or item.__module__ == module.__name__:
            found.setdefault(item, own)
    if not found:
        raise UsageError(f"{place} has no torch.optim.Optimizer class; name a module that has some, as torch.optim:all")
    given = ",".join(f"{key}={value}" for key, value in settings.items())
    return [f"{place}:{own}" + (f":{given}" if given else "") for own in sorted(found.values(), key=str.casefold)]


def _parameters_of(kind: type) -> list[inspect.Parameter]:
    """Return what a class takes after the parameters that it drives."""
    return list(inspect.signature(kind).parameters.values())[1:]


def _read(name: str, found: type, given: Mapping[str, Setting]) -> ThirdPartyOptimizer:
    import torch  # noqa: PLC0415 - the notes' own rules are found without torch

    if not issubclass(found, torch.optim.Optimizer):
        raise UsageError(f"{name} is no torch.optim.Optimizer; name an optimizer's class, such as torch.optim:AdamW")
    parameters = _parameters_of(found)
    known = [parameter.name for parameter in parameters]
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    if not takes_any:
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
    own = ThirdPartyOptimizer(name, found, defaults)
    if not takes_any or "lr" in known:
        return own
    # What it takes by any name it passes on, SAM to its base: the rate that it then has is seen on one that is built.
    with contextlib.suppress(UsageError):
        rate = own.build([torch.zeros(1, requires_grad=True)], given).param_groups[0].get("lr")
        if isinstance(rate, int | float):
            return dataclasses.replace(own, defaults={**defaults, "lr": float(rate)})
    return own


def needs_closure(step: Callable[..., Any]) -> bool:
    """Tell whether an optimizer's step cannot be called without a closure, as LBFGS's, which calls it first of all."""
    parameters = inspect.signature(step).parameters.values()
    return any(p.default is p.empty and p.kind in {p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD} for p in parameters)


def asks_for_closure(build: Callable[[], tuple[Optimizer, Sequence[Tensor]]]) -> bool:
    """Tell whether a step that can be called without a closure works only with one, as SAM's (Foret et al. 2021).

    Tried on what `build` returns, an optimizer and its parameters, fresh ones each time, with gradients of zero, as
    nothing else says it.
    """
    import torch  # noqa: PLC0415 - loaded already, with the class

    def works(*, closure: bool) -> bool:
        try:
            with torch.random.fork_rng(devices=[]), user_code():
                made, parameters = build()

                def evaluate() -> Tensor:
                    for parameter in parameters:
                        parameter.grad = torch.zeros_like(parameter)
                    return torch.zeros(())

                evaluate()
                step: Any = made.step
                step(*([evaluate] if closure else []))
        except Exception:  # noqa: BLE001 - whatever a user's step raises; the first real step says it
            return False
        return True

    return not works(closure=False) and works(closure=True)
