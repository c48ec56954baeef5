"""A rule's schema, read from its signature, and the way from `adam:lr=0.1,beta1=0.95` to a rule and its settings."""

from __future__ import annotations

import inspect
import math
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from mlcv_bench.errors import UsageError
from mlcv_bench.names import Registry, first_line, label_of, name_of, parts_of, refuse_settings, spelled, split_settings
from mlcv_bench.optimizers import more, rules
from mlcv_bench.records import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import ModuleType

T = TypeVar("T")
Needs = Literal["gradient", "hessian"]

HALF_OPEN = "at least 0 and below 1"
NOT_NEGATIVE = "at least 0 and finite"
LIMITS: dict[str, tuple[str, Callable[[float], bool]]] = {
    "lr": ("above 0 and finite", lambda value: 0 < value < math.inf),
    "momentum": ("from 0 to 1", lambda value: 0 <= value <= 1),
    "beta": (HALF_OPEN, lambda value: 0 <= value < 1),
    "beta1": (HALF_OPEN, lambda value: 0 <= value < 1),
    "beta2": (HALF_OPEN, lambda value: 0 <= value < 1),
    "beta3": (HALF_OPEN, lambda value: 0 <= value < 1),
    "eps": (NOT_NEGATIVE, lambda value: 0 <= value < math.inf),
    "weight_decay": (NOT_NEGATIVE, lambda value: 0 <= value < math.inf),
    "damping": (NOT_NEGATIVE, lambda value: 0 <= value < math.inf),
}
"""What each hyperparameter may be, in words and as a test; a user's own names need only be finite."""


@dataclass(frozen=True)
class Rule:
    """One update rule: its function, and what the function's signature says about it."""

    name: str
    update: Callable[..., Any]
    slots: tuple[str, ...]
    defaults: Mapping[str, float]
    needs: Needs
    lookahead: Callable[..., Any] | None = None

    @property
    def summary(self) -> str:
        """The first line of the rule's docstring: its update and its section of the notes."""
        return (inspect.getdoc(self.update) or "").partition("\n")[0]

    @property
    def built_in(self) -> bool:
        """Whether it is this package's own; a user's rule may have the name of one."""
        return RULES.get(self.name) is self

    def lookahead_names(self) -> tuple[str, ...]:
        """Return the names after `x` that the look-ahead reads: slots and hyperparameters."""
        return tuple(inspect.signature(self.lookahead).parameters)[1:] if self.lookahead else ()

    def gradient_point(self, x: T, known: Mapping[str, Any]) -> T:
        """Return where the gradient is taken: at `x`, or ahead of it, as slots and hyperparameters have it."""
        return self.lookahead(x, *(known[name] for name in self.lookahead_names())) if self.lookahead else x

    def step(self, x: Any, g: Any, t: int, *slots: Any, **settings: Any) -> tuple[Any, ...]:  # noqa: ANN401 - floats or tensors
        """Return the parameter and the slots after step `t` = 1, 2, ..."""
        result = self.update(x, g, t, *slots, **settings)
        return result if isinstance(result, tuple) else (result,)

    def settings(self, given: Mapping[str, float]) -> dict[str, float]:
        """Return every hyperparameter: the defaults, overridden by `given`, each within its limits.

        Raises:
            UsageError: the rule has no such hyperparameter, or its value is outside the limits.

        """
        refuse_settings(self.name, given, self.defaults, "no hyperparameter")
        for name, value in given.items():
            if not isinstance(value, int | float):
                raise UsageError(f"{self.name}: {name} takes a number, not {value!r}")
            words, allowed = LIMITS.get(name, ("finite", math.isfinite))
            if not allowed(value):
                msg = f"{self.name}: {name} must be {words}, not {value:g}"
                raise UsageError(msg)
        return {**self.defaults, **given}


def read(function: Callable[..., Any], *, name: str | None = None) -> Rule:
    """Read a rule from its function: slots, hyperparameters and needs from the signature.

    Raises:
        UsageError: the signature is no rule's, or the function does not return the parameter and its slots.

    """
    own = name_of(function)
    name = name or own
    how = f"a rule reads def {name}(x, g, t, *slots, lr=0.1, ...)"
    if inspect.isclass(function) or not callable(function):
        msg = f"{name} is no update rule; {how}; optim-race takes a torch.optim class too"
        raise UsageError(msg)
    parameters = list(inspect.signature(function).parameters.values())
    if [p.name for p in parameters[2:3]] != ["t"] or any(p.kind is not p.POSITIONAL_OR_KEYWORD for p in parameters):
        msg = f"{name} is no update rule: {how}"
        raise UsageError(msg)
    slots = tuple(p.name for p in parameters[3:] if p.default is p.empty)
    defaults: dict[str, float] = {}
    for parameter in parameters[3 + len(slots) :]:
        if not isinstance(parameter.default, int | float) or isinstance(parameter.default, bool):
            msg = f"{name}: the default of {parameter.name} must be a number, not {parameter.default!r}"
            raise UsageError(msg)
        defaults[parameter.name] = float(parameter.default)
    needs: Needs = "hessian" if parameters[1].name == "newton_direction" else "gradient"
    home = vars(sys.modules[function.__module__]) if function.__module__ in sys.modules else {}
    # A rule may call its look-ahead NAME_query too.
    lookahead = home.get(f"{own}_lookahead") or home.get(f"{own}_query")
    rule = Rule(name, function, slots, defaults, needs, lookahead)
    check_result(rule)
    return rule


def check_result(rule: Rule) -> None:
    """Run a rule once on plain floats and refuse one that does not return the parameter and its slots."""
    try:
        size = len(rule.step(1.0, 0.5, 1, *(0.0 for _ in rule.slots), **rule.defaults))
    except Exception as error:
        takes = "it takes floats, + - * / ** and mlcv_bench.functions"
        msg = f"{rule.name} raised {type(error).__name__} on floats: {first_line(error)}; {takes}"
        raise UsageError(msg) from error
    if size != 1 + len(rule.slots):
        wanted = ", ".join(("x", *rule.slots))
        msg = f"{rule.name} returns {counted(size, 'value')}; it has to return {wanted}"
        raise UsageError(msg)


def defined_in(module: ModuleType) -> dict[str, Rule]:
    """Return the rules that a module defines, in its order: every function whose third parameter is `t`."""
    functions = [item for name, item in vars(module).items() if inspect.isfunction(item) and item.__name__ == name]
    return {f.__name__: read(f) for f in functions if list(inspect.signature(f).parameters)[2:3] == ["t"]}


NOTES: dict[str, Rule] = defined_in(rules)
"""The rules of the notes, in their order."""

RULES: dict[str, Rule] = NOTES | {name: rule for name, rule in defined_in(more).items() if name not in NOTES}
"""Every built-in rule: those of the notes, then the field's."""

DEFAULT_OPTIMIZERS = tuple(name for name in NOTES if name not in {"adam_l2", "adamw_torch"})
"""The rules of a race unless others are named; on a task those of them that need no Hessian."""

REGISTRY: Registry[Rule] = Registry("optimizer", "optimizers", RULES, "mlcv_bench.optimizers")


def proper(given: str | Callable[..., Any]) -> str:
    """Return what names a rule as it is spelled here, whatever its case: SGD:lr=0.1 is sgd:lr=0.1.

    What is given itself keeps the name that it has.
    """
    if not isinstance(given, str):
        return label_of(given)
    name, colon, settings = given.strip().partition(":")
    return spelled(name, RULES) + colon + settings


def find(given: str | Rule | Callable[..., Any]) -> tuple[Rule, dict[str, float]]:
    """Return the rule that a text names, or that is given itself, and the hyperparameters that are set.

    Args:
        given: `adam`, `adam:lr=0.1,beta1=0.95`, `package.module:function`, `file.py:function:lr=0.1`, the name of
            an entry point in the group `mlcv_bench.optimizers`; or a function, with functools.partial(function, lr=0.1)
            for its hyperparameters.

    Raises:
        UsageError: nothing has this name, a hyperparameter does not exist or is outside its limits.

    """
    name: str | None = None
    if isinstance(given, str):
        name, settings = split_settings(given)
        found = REGISTRY.get(name)
    else:
        found, settings = parts_of(given)
    rule = found if isinstance(found, Rule) else read(found, name=name if name in REGISTRY.entry_points() else None)
    rule.settings(settings)
    return rule, settings
