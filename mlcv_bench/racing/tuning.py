"""The same tuning budget for every optimizer: one log grid of learning rates, judged by steps to the target."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

GRID_LOW, GRID_HIGH, GRID_SIZE = -5.0, 2.0, 36
"""The contract's grid: 36 rates, log-uniform from 1e-5 to 1e2, both ends included."""


def grid(low: float = GRID_LOW, high: float = GRID_HIGH, size: int = GRID_SIZE) -> tuple[float, ...]:
    """Return `size` rates, log-uniform from 10^low to 10^high."""
    return tuple(10.0 ** (low + (high - low) * i / (size - 1)) for i in range(size))


GRID = grid()


@dataclass(frozen=True)
class Sweep:
    """Steps to the target at every rate of a grid, of every start; None for a miss.

    Steps count to the one from which the target holds: the first hit would reward a leap that lands on the minimum by
    luck and leaves it again. Only where the gradient is random, and holding is the luck, first hits count. Where no
    rate gets there, the lowest loss at the end decides.

    Attributes:
        optimizer: whose rates these are.
        rates: the grid, rising.
        hits: for each rate, the first hit of each start.
        holds: for each rate, the last exit of each start.
        final_values: for each rate, the median value over the starts at the end, infinite where they diverged.
        stochastic: whether the gradient is random.

    """

    optimizer: str
    rates: tuple[float, ...]
    hits: tuple[tuple[int | None, ...], ...]
    holds: tuple[tuple[int | None, ...], ...]
    final_values: tuple[float, ...]
    stochastic: bool = False

    @property
    def medians(self) -> tuple[float, ...]:
        """The median steps to the target at each rate; a miss counts as infinite."""
        return tuple(map(_median_or_miss, self.hits if self.stochastic else self.holds))

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
    def on_edge(self) -> bool:
        """Whether the best rate is the grid's first or last, so that a better one may lie outside."""
        return self.best_index in (0, len(self.rates) - 1)

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


def _median_or_miss(steps: Sequence[int | None]) -> float:
    return median([math.inf if step is None else step for step in steps])


def median(values: Sequence[float]) -> float:
    """Return the median; of an even number, the mean of the middle two, infinite if either is."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    if len(ordered) % 2:
        return ordered[middle]
    return (ordered[middle - 1] + ordered[middle]) / 2


def median_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float] | None:
    """Return the bootstrap interval of the median, exact: the limit of infinitely many resamples (Efron 1979).

    A resample's median exceeds the k-th smallest value when more than half its draws do, so the percentiles follow from
    binomial sums; no random number is needed, and an infinite value (a miss) is an order like any other.
    """
    size = len(values)
    if size < 3:  # noqa: PLR2004 - two values have no interval
        return None
    ordered = sorted(values)
    half = (size + 1) // 2
    tail = (1 - confidence) / 2

    def at(level: float) -> float:
        for k in range(1, size + 1):
            if _binomial_at_least(size, k / size, half) >= level:
                return ordered[k - 1]
        return ordered[-1]

    if size > LARGEST_EXACT:
        # The binomial is normal here: the interval's ends are ranks n/2 +- z sqrt(n)/2.
        spread = 1.959964 * math.sqrt(size) / 2
        low = max(0, math.floor(size / 2 - spread))
        return ordered[low], ordered[min(size - 1, math.ceil(size / 2 + spread))]
    return at(tail), at(1 - tail)


LARGEST_EXACT = 300


def _binomial_at_least(n: int, p: float, k: int) -> float:
    """Return the probability of at least k successes in n draws of probability p."""
    if p >= 1:
        return 1.0
    logs = (
        math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1) + i * math.log(p) + (n - i) * math.log1p(-p)
        for i in range(k, n + 1)
    )
    return math.fsum(map(math.exp, logs))
