"""What a few noisy numbers show: medians, means and ratios with their intervals, percentiles, ranks."""

from __future__ import annotations

import functools
import itertools
import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, SupportsFloat

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

CONFIDENCE = 0.95
FEWEST_FOR_MEDIAN = 6
"""Five values hold the median between their ends with 93.75%: the first number that can promise 95% is six."""


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with the two ends of its confidence interval, in the unit of the values."""

    middle: float
    low: float
    high: float

    @property
    def bounded(self) -> bool:
        """Whether anything is known about the noise: a few values have the interval from minus to plus infinity."""
        return self.low > -math.inf

    @property
    def relative_width(self) -> float:
        """Half the interval's length as a share of the estimate."""
        return (self.high - self.low) / 2 / abs(self.middle) if self.middle else math.inf

    def inverse(self) -> Interval:
        """Return the interval of 1 over this positive value."""
        ends = (1 / self.high, 1 / self.low) if self.bounded else (-math.inf, math.inf)
        return Interval(1 / self.middle, *ends)

    def exponential(self) -> Interval:
        """Return the interval of the ratio whose logarithm this is."""
        return Interval(math.exp(self.middle), math.exp(self.low), math.exp(self.high))


def median_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """Return the median with its interval between two order statistics, mirrored where the sample is.

    The number of values below the true median is Binomial(n, 1/2) whatever the distribution, so the k-th smallest and
    the k-th largest hold it between them with a known probability, at least `confidence` (Conover 1999, section 3.2).
    An infinite value, a miss, is an order like any other. Where no two values reach the confidence (fewer than six at
    95%), the interval is unbounded.
    """
    return median_interval_of_ordered(sorted(values), confidence)


class Ordered(Protocol):
    """Numbers in ascending order: a list, or an array of numpy's."""

    def __len__(self) -> int:
        """Return how many there are."""

    def __getitem__(self, place: int, /) -> SupportsFloat:
        """Return one of them."""


def median_interval_of_ordered(ordered: Ordered, confidence: float = CONFIDENCE) -> Interval:
    """Return the same of values that are in order already."""
    n = len(ordered)
    rank = binomial_rank(n, 0.5, (1 - confidence) / 2)
    ends = (float(ordered[rank - 1]), float(ordered[n - rank])) if rank else (-math.inf, math.inf)
    middle = float(ordered[n // 2]) if n % 2 else (float(ordered[n // 2 - 1]) + float(ordered[n // 2])) / 2
    return Interval(middle, *ends)


@functools.cache
def binomial_rank(n: int, q: float, tail: float) -> int:
    """Return how many k have a probability of at most `tail` that Binomial(n, q) is at most k.

    What is left out of the sum, more than 12 sqrt(n q) below the mean, is below exp(-72) by Chernoff's bound. It is
    scipy.special.bdtr's, but nothing else of what times a network needs scipy.
    """
    first = max(0, int(n * q - 12 * math.sqrt(n * q)))
    whole, yes, no = math.lgamma(n + 1), math.log(q), math.log1p(-q)
    logs = (whole - math.lgamma(k + 1) - math.lgamma(n - k + 1) + k * yes + (n - k) * no for k in range(first, n + 1))
    sums = itertools.accumulate(map(math.exp, logs))
    return first + sum(1 for _ in itertools.takewhile(lambda chance: chance <= tail, sums))


def median_if_known(values: Iterable[float | None]) -> float | None:
    """Return the median; None where there are no values, or one of them is unknown."""
    found = list(values)
    known = [value for value in found if value is not None]
    return statistics.median(known) if known and len(known) == len(found) else None


def mean_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """Return the mean with Student's interval; of one value it is unbounded.

    The percentile bootstrap is no better for few values: three cover 75% and ten 90% where 95% is asked.
    """
    mean, n = statistics.fmean(values), len(values)
    if n == 1:
        return Interval(mean, -math.inf, math.inf)
    reach = student_quantile((1 + confidence) / 2, n - 1) * statistics.stdev(values) / math.sqrt(n)
    return Interval(mean, mean - reach, mean + reach)


def paired_difference(one: Sequence[float], other: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """Return the mean of one - other over pairs, such as those that share a seed, with Student's interval."""
    return mean_interval([a - b for a, b in zip(one, other, strict=True)], confidence)


def mean_difference(one: Sequence[float], other: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """Return mean(other) - mean(one) of independent values, with Welch's interval (1947); each needs two values."""
    shares = [statistics.variance(values) / len(values) for values in (one, other)]
    middle, variance = statistics.fmean(other) - statistics.fmean(one), sum(shares)
    if not variance:
        return Interval(middle, middle, middle)
    parts = zip(shares, (one, other), strict=True)
    freedom = variance**2 / sum(share**2 / (len(values) - 1) for share, values in parts)
    reach = student_quantile((1 + confidence) / 2, freedom) * math.sqrt(variance)
    return Interval(middle, middle - reach, middle + reach)


def student_quantile(p: float, freedom: float) -> float:
    """Return the p-quantile of Student's t, with any positive number of degrees of freedom."""
    from scipy.special import stdtrit  # noqa: PLC0415 - of the extras whose studies take means

    return float(stdtrit(freedom, p))


def percentile_interval(values: Sequence[float], q: float, confidence: float = CONFIDENCE) -> Interval | None:
    """Return the q-quantile (nearest rank) between two order statistics, whatever the distribution.

    The number of values below the true quantile is Binomial(n, q). Each end may miss it with half of what the
    `confidence` leaves; where even the largest value lies below it more often than that, the lower end gets the rest
    (Conover 1999, section 3.2). None where the sample is too small for either end: see `fewest_for_percentile`.
    """
    ordered, n, miss = sorted(values), len(values), 1 - confidence
    if n < fewest_for_percentile(q, confidence):
        return None
    above = max(miss / 2, q**n)
    low = binomial_rank(n, q, miss - above)
    # As many lie above the quantile as Binomial(n, 1 - q) says; q**n itself may be rounded above its first sum.
    high = n + 1 - max(1, binomial_rank(n, 1 - q, above))
    return Interval(ordered[math.ceil(q * n) - 1], ordered[low - 1], ordered[high - 1]) if low else None


def fewest_for_percentile(q: float, confidence: float = CONFIDENCE) -> int:
    """Return the first n with q**n at most what the `confidence` leaves: fewer values put no bound above the quantile.

    At 95% it is 29 for p90, 59 for p95 and 299 for p99.
    """
    return math.ceil(math.log(1 - confidence) / math.log(q))


def ratio_interval(base: Mapping[int, float], other: Mapping[int, float]) -> Interval | None:
    """Return other/base from the rounds that both have; None where too few are shared for an interval."""
    shared = sorted(base.keys() & other.keys())
    if len(shared) < FEWEST_FOR_MEDIAN:
        return None
    return median_interval([math.log(other[key] / base[key]) for key in shared]).exponential()


def ratio_of_intervals(base: Interval, other: Interval) -> Interval:
    """Return other/base of positive values where nothing is paired: the ends are the worst cases of both intervals."""
    bounded = base.bounded and other.bounded
    ends = (other.low / base.high, other.high / base.low) if bounded else (-math.inf, math.inf)
    return Interval(other.middle / base.middle, *ends)


def ranks(values: Mapping[str, Sequence[float]]) -> dict[str, tuple[int, int]]:
    """Return the places that each name may hold, least first: only what an interval separates counts.

    The first is 1 + how many are surely better, the second the number of names less how many are surely worse. The
    intervals are pairwise, not widened for their number.
    """
    found: dict[str, tuple[int, int]] = {}
    for name, own in values.items():
        gaps = [paired_difference(own, other) for key, other in values.items() if key != name]
        found[name] = (1 + sum(gap.low > 0 for gap in gaps), len(values) - sum(gap.high < 0 for gap in gaps))
    return found


def performance_profile(steps: Mapping[str, Sequence[float]]) -> dict[str, list[tuple[float, float]]]:
    """Return each name's performance profile (Dolan and More 2002): points (tau, share of problems within tau).

    Args:
        steps: for each name, the steps that it took on every problem, in one order; infinite for a miss.

    Problems that nobody solved count for nobody.

    """
    names = list(steps)
    problems = list(zip(*(steps[name] for name in names), strict=True))
    ratios: dict[str, list[float]] = {name: [] for name in names}
    for row in problems:
        best = min(row)
        for name, value in zip(names, row, strict=True):
            ratios[name].append(value / best if math.isfinite(value) else math.inf)
    taus = sorted({ratio for found in ratios.values() for ratio in found if math.isfinite(ratio)} | {1.0})
    return {
        name: [(tau, sum(ratio <= tau for ratio in found) / len(found)) for tau in taus]
        for name, found in ratios.items()
    }
