"""The same tuning budget for every optimizer on a task: a log grid of rates, then trials near the best."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from mlcv_bench.task_race.jobs import Run
from mlcv_bench.task_race.optimizers import ALSO_TUNED, TaskOptimizer
from mlcv_bench.task_race.request import TuneFor

Settings = tuple[tuple[str, Any], ...]

NEAR_RATES = 3
NEAR_TRIALS = 12
"""Trials after the grid: 4 values of momentum or beta at 3 rates each, or 12 finer rates where there is neither."""


@dataclass(frozen=True)
class Score:
    """How one setting did on the tuning seeds: mean steps to the target, a miss counted as the whole budget."""

    rate: float
    settings: Settings
    steps: float
    loss: float
    hits: int

    def order(self, tune_for: TuneFor) -> tuple[float, float, float]:
        """Return what is lowest for the best setting: steps, then the validation loss, or the other way round."""
        return (self.steps, self.loss, self.rate) if tune_for == "steps" else (self.loss, self.steps, self.rate)


def score(rate: float, settings: Settings, runs: Sequence[Run], budget: int) -> Score:
    """Return the score of one setting from its runs on all tuning seeds."""
    steps = [budget if run.first_hit is None or run.diverged_at is not None else run.first_hit for run in runs]
    losses = [math.inf if run.diverged_at is not None or run.best_loss is None else run.best_loss for run in runs]
    hits = sum(run.first_hit is not None and run.diverged_at is None for run in runs)
    return Score(rate, settings, fmean(steps), fmean(losses), hits)


@dataclass(frozen=True)
class TaskSweep:
    """Every setting that was tried for one optimizer on one task, the grid of rates first."""

    grid: tuple[Score, ...]
    near_best: tuple[Score, ...]
    tune_for: TuneFor
    budget: int

    @property
    def best(self) -> Score:
        """The best of all settings tried."""
        return min((*self.grid, *self.near_best), key=lambda found: found.order(self.tune_for))

    @property
    def best_of_grid(self) -> int:
        """The position of the best rate of the grid."""
        return min(range(len(self.grid)), key=lambda i: self.grid[i].order(self.tune_for))

    @property
    def on_edge(self) -> bool:
        """Whether the best rate of the grid is its first or last, so that a better one may lie outside."""
        return self.best_of_grid in (0, len(self.grid) - 1)

    @property
    def width(self) -> float | None:
        """Decades of neighbouring rates within twice the best rate's steps; None where none met the target."""
        middle = self.best_of_grid
        if self.grid[middle].hits == 0 or len(self.grid) == 1:
            return None
        limit = 2 * self.grid[middle].steps
        good = [found.hits > 0 and found.steps <= limit for found in self.grid]
        low = high = middle
        while low > 0 and good[low - 1]:
            low -= 1
        while high < len(good) - 1 and good[high + 1]:
            high += 1
        return (high - low + 1) * spacing([found.rate for found in self.grid])


def spacing(rates: Sequence[float]) -> float:
    """Return the decades between neighbours of a log grid."""
    return math.log10(rates[-1] / rates[0]) / (len(rates) - 1) if len(rates) > 1 else 1.0


def trials_near_best(
    optimizer: TaskOptimizer, best: float, rates: Sequence[float]
) -> list[tuple[Settings, tuple[float, ...]]]:
    """Return the second half of the budget: settings, and the rates to try each with.

    Momentum multiplies the steps' length by 1 / (1 - momentum), so its rates move with 1 - momentum. An optimizer with
    neither momentum nor beta gets as many rates between those of the grid.
    """
    settings = dict(optimizer.settings_without_rate)
    gap = spacing(rates)
    name = optimizer.also_tuned
    if name is None:
        # 12 places in the two gaps on either side of the best, none on the grid itself.
        half = NEAR_TRIALS // 2
        places = [gap * 2 * (i + 0.5) / half for i in range(half)]
        shifts = sorted([-place for place in places] + places)
        return [(tuple(settings.items()), tuple(best * 10**shift for shift in shifts))]
    found: list[tuple[Settings, tuple[float, ...]]] = []
    for value in ALSO_TUNED[name]:
        scale = (1 - value) / (1 - settings[name]) if name == "momentum" and settings[name] < 1 else 1.0
        near = tuple(best * scale * 10 ** (gap * 2 * (i - NEAR_RATES // 2)) for i in range(NEAR_RATES))
        found.append((tuple((settings | {name: value}).items()), near))
    return found
