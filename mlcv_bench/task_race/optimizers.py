"""Who races on a task: the notes' rules, a user's rule, or any class of torch.optim or of a third party."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mlcv_bench.names import label_of
from mlcv_bench.optimizers import third_party
from mlcv_bench.optimizers.rule import Rule, proper
from mlcv_bench.optimizers.third_party import AnyOptimizer, Setting

ALSO_TUNED: dict[str, tuple[float, ...]] = {
    "momentum": (0.5, 0.8, 0.95, 0.99),
    "beta": (0.8, 0.95, 0.99, 0.999),
    "beta1": (0.5, 0.8, 0.95, 0.99),
}
"""Values of momentum or beta that are tried near the best rate."""


@dataclass(frozen=True)
class TaskOptimizer:
    """One optimizer of a race: a rule, or a torch.optim.Optimizer class of a third party."""

    named: str | Callable[..., Any]
    """The text that names it, or the function or class itself."""
    given: Mapping[str, Setting]
    own: AnyOptimizer

    @property
    def rule(self) -> Rule | None:
        """Its rule, or None of a class."""
        return self.own if isinstance(self.own, Rule) else None

    @property
    def label(self) -> str:
        """What is shown of it."""
        return label_of(self.named)

    @property
    def tunable(self) -> bool:
        """Whether its learning rate is free: it has one, and the user did not set it."""
        return "lr" in self.own.defaults and "lr" not in self.given

    @property
    def settings(self) -> dict[str, Any]:
        """Every hyperparameter that is passed on: all of a rule's, those that were given of a third party's."""
        return {**self.own.defaults, **self.given} if self.rule is not None else dict(self.given)

    @property
    def settings_without_rate(self) -> tuple[tuple[str, Any], ...]:
        """The settings of a job, which lists its rates apart."""
        return tuple((name, value) for name, value in self.settings.items() if name != "lr")

    @property
    def default_rate(self) -> float | None:
        """The rate of the protocol `default`; None for an optimizer without one."""
        rate = {**self.own.defaults, **self.given}.get("lr")
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
    own, given = third_party.find(named)
    return TaskOptimizer(proper(named) if isinstance(named, str) else named, given, own)
