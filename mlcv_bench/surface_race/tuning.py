"""The same tuning budget for every optimizer: one log grid of learning rates, judged by steps to the target."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlcv_bench.surface_race.metrics import Numbers
    from mlcv_bench.surface_race.program import Problem

GRID_LOW, GRID_HIGH, GRID_SIZE = -5.0, 2.0, 36
"""The contract's grid: 36 rates, log-uniform from 1e-5 to 1e2, both ends included."""


def grid(size: int = GRID_SIZE) -> tuple[float, ...]:
    """Return `size` rates, log-uniform over the grid's decades."""
    return tuple(10.0 ** (GRID_LOW + (GRID_HIGH - GRID_LOW) * i / (size - 1)) for i in range(size))


GRID = grid()
FEW = 100
"""So many steps have their median by Python's own arithmetic."""


@dataclass(frozen=True, eq=False)
class Sweep:
    """Steps to the target at every rate of a grid, of every start; -1 for a miss.

    Steps count to the one from which the target holds: the first hit would reward a leap that lands on the minimum by
    luck and leaves it again. Only where the gradient is random, and holding is the luck, first hits count. Where no
    rate gets there, the lowest loss at the end decides.

    Attributes:
        optimizer: whose rates these are.
        rates: the grid, rising.
        first_hits: for each rate, the first step of each start at which the target holds.
        last_exits: for each rate, the first step of each start from which it holds to the end.
        final_values: for each rate, the median value over the starts at the end, infinite where they diverged.
        stochastic: whether the gradient is random.
        problem: what was run, at a rate of its own, so that a run can be walked again for its path.

    """

    optimizer: str
    rates: tuple[float, ...]
    first_hits: Numbers
    last_exits: Numbers
    final_values: tuple[float, ...]
    stochastic: bool = False
    problem: Problem | None = None

    @cached_property
    def medians(self) -> tuple[float, ...]:
        """The median steps to the target at each rate; a miss counts as infinite."""
        return tuple(map(median_or_miss, self.first_hits if self.stochastic else self.last_exits))

    @property
    def best_index(self) -> int:
        """The rate with the fewest median steps, the middle one of equals; where none gets there, the lowest end."""
        medians = self.medians
        fewest = min(medians)
        if math.isinf(fewest):
            values = [value if math.isfinite(value) else math.inf for value in self.final_values]
            return values.index(min(values))
        equal = [i for i, value in enumerate(medians) if value == fewest]
        return equal[(len(equal) - 1) // 2]

    @property
    def best(self) -> float:
        """The best rate of the grid."""
        return self.rates[self.best_index]

    @property
    def hit_any(self) -> bool:
        """Whether at least half the starts meet the target at some rate."""
        return math.isfinite(min(self.medians))

    @property
    def edge_warning(self) -> str | None:
        """A sentence where the best rate is the grid's first or last, so that a better one may lie outside."""
        if not self.hit_any or self.best_index not in (0, len(self.rates) - 1):
            return None
        return f"{self.optimizer}: the best rate {self.best:g} is the edge of the grid; a better one may lie outside"

    @property
    def width(self) -> float | None:
        """Decades of neighbouring rates within twice the best steps; None where no rate meets the target."""
        if not self.hit_any:
            return None
        medians = self.medians
        limit = 2 * max(medians[self.best_index], 1)
        low = high = self.best_index
        while low > 0 and medians[low - 1] <= limit:
            low -= 1
        while high < len(medians) - 1 and medians[high + 1] <= limit:
            high += 1
        spacing = math.log10(self.rates[-1] / self.rates[0]) / (len(self.rates) - 1)
        return (high - low + 1) * spacing


def median_or_miss(steps: Numbers) -> float:
    """Return the median step; a miss, which is -1, counts as infinite."""
    if len(steps) <= FEW:
        return statistics.median([math.inf if step < 0 else step for step in steps])
    import numpy as np  # noqa: PLC0415 - what a race from a few starts needs not

    found = np.asarray(steps)
    middle = float(np.median(np.where(found < 0, np.inf, found)))
    return int(middle) if middle.is_integer() and len(steps) % 2 else middle
