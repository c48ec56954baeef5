"""What happens to any optimizer's rate and gradient at a step: schedules with warm-up, and clipping by norm.

An engine multiplies the learning rate of step t = 1, 2, ..., `steps` by `Schedule.factor(t, steps)`, and the gradient,
with its noise and before the update sees it, by `clip_factor(norm, clip_norm)`. A rule without a rate keeps its steps.
Weight decay that is not multiplied by the rate (the notes' adamw) is not scheduled either, as in PyTorch, whose
schedulers change the rate alone. Newton's direction is that of the clipped gradient, its rate (1 by default) scheduled.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from mlcv_bench.errors import UsageError
from mlcv_bench.functions import maximum
from mlcv_bench.names import check_choices
from mlcv_bench.records import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

ScheduleName = Literal["constant", "cosine", "step", "linear"]
SCHEDULES: tuple[ScheduleName, ...] = get_args(ScheduleName)


@dataclass(frozen=True)
class Schedule:
    """How the rate moves over a run: a warm-up of some steps, then a schedule over the steps that remain.

    Attributes:
        name: `constant`, 1. `cosine`, from 1 towards 0 along half a cosine (Loshchilov and Hutter 2017, without
            restarts). `step`, a tenth after half of the steps and a hundredth after three quarters (He et al. 2016,
            section 4.2). `linear`, from 1 towards 0. The last step still moves: 0 would come after it.
        warm_up: the steps N in which the factor rises from 1 / N to 1 (Goyal et al. 2017, section 2.2).

    """

    name: ScheduleName = "constant"
    warm_up: int = 0

    def check(self, steps: int | None = None) -> None:
        """Refuse a schedule that there is not, and a warm-up that fills a run of so many steps, where they are known.

        Raises:
            UsageError: one sentence on the first thing that is wrong.

        """
        check_choices("--schedule", [self.name], SCHEDULES)
        if self.warm_up < 0:
            raise UsageError(f"--warm-up takes at least 0 steps, not {self.warm_up}")
        if steps is not None and self.warm_up >= max(steps, 1):
            raise UsageError(f"--warm-up {self.warm_up} leaves no step of the run's {steps}; give fewer")

    @property
    def constant(self) -> bool:
        """Whether it leaves the rate as it is."""
        return self == CONSTANT

    def remarks(self, without_rate: Sequence[str]) -> list[str]:
        """Return a sentence on the optimizers, by their labels, that have no rate for it to move."""
        if self.constant or not without_rate:
            return []
        return [f"{', '.join(without_rate)}: without lr, so that the schedule changes nothing"]

    def factor(self, t: int, steps: int) -> float:
        """Return what the rate is multiplied by at step `t` = 1, 2, ..., `steps`."""
        if t <= self.warm_up:
            return t / self.warm_up
        taken, left = t - 1 - self.warm_up, steps - self.warm_up
        match self.name:
            case "cosine":
                return 0.5 * (1 + math.cos(math.pi * taken / left))
            case "step":
                return 1.0 if 2 * taken < left else 0.1 if 4 * taken < 3 * left else 0.01
            case "linear":
                return 1 - taken / left
        return 1.0


CONSTANT = Schedule()
"""Leaves the rate as it is."""


class ScheduledRates:
    """The rates that an optimizer's groups were built with, scaled anew for every step; a group without lr has none."""

    def __init__(self, optimizer: Any) -> None:  # noqa: ANN401 - a torch.optim.Optimizer, and this module loads no torch
        """Remember the rates of all groups."""
        self._optimizer = optimizer
        self._rates = [group.get("lr") for group in optimizer.param_groups]

    def scale(self, factor: float) -> None:
        """Take the next steps at this share of each group's own rate."""
        for group, rate in zip(self._optimizer.param_groups, self._rates, strict=True):
            if rate is not None:
                group["lr"] = rate * factor


def clip_factor(norm: Any, clip_norm: float) -> Any:  # noqa: ANN401 - a float, or a tensor with a norm a run
    """Return min(1, `clip_norm` / `norm`): what a gradient of Euclidean norm `norm` is multiplied by.

    Pascanu et al. 2013, section 3.2. For many runs in one tensor, `norm` has an entry a run, as
    torch.linalg.vector_norm(gradients, dim=1, keepdim=True) has. torch.nn.utils.clip_grad_norm_ divides by norm + 1e-6.
    """
    return clip_norm / maximum(norm, clip_norm)


def check_clip_norm(clip_norm: float | None) -> None:
    """Refuse a bound that no gradient can be scaled to.

    Raises:
        UsageError: it is not above 0, or not finite.

    """
    if clip_norm is not None and not 0 < clip_norm < math.inf:
        raise UsageError(f"--clip-norm takes a number above 0, not {clip_norm:g}")


def step_columns(schedule: Schedule, clip_norm: float | None) -> dict[str, Any]:
    """Return the columns of a run that say what was done to its rate and gradient."""
    return {"schedule": schedule.name, "warm_up": schedule.warm_up, "clip_norm": clip_norm}


STEP_COLUMNS = tuple(step_columns(CONSTANT, None))


def title_part(schedule: Schedule, clip_norm: float | None) -> str:
    """Return the end of a table's title: `, cosine schedule, warm-up of 10 steps`; nothing for a constant rate."""
    parts = [
        *([f"{schedule.name} schedule"] if schedule.name != "constant" else []),
        *([f"warm-up of {counted(schedule.warm_up, 'step')}"] if schedule.warm_up else []),
        *([f"gradients clipped to norm {clip_norm:g}"] if clip_norm is not None else []),
    ]
    return "".join(f", {part}" for part in parts)
