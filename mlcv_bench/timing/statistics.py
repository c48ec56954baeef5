"""What may be said about a few noisy times: medians, their intervals, percentiles a sample can bound, rates."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# The least n with q**n <= 5%: fewer samples cannot put a 95% upper bound on the percentile.
LEAST_SHARED = 5
LEAST_SAMPLES = {0.90: 29, 0.95: 59, 0.99: 299}


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with the two ends of its confidence interval, in the unit of the values."""

    middle: float
    low: float
    high: float

    @property
    def relative_width(self) -> float:
        """Half the interval's length as a share of the estimate."""
        return (self.high - self.low) / 2 / abs(self.middle) if self.middle else math.inf

    def exponential(self) -> Interval:
        """Return the interval of the ratio whose logarithm this is."""
        return Interval(math.exp(self.middle), math.exp(self.low), math.exp(self.high))


def median(values: Sequence[float]) -> float:
    """Return the median; at least one value."""
    return statistics.median(values)


def binomial_tail(n: int, p: float, least: int) -> float:
    """Return P(X >= least) for X ~ Binomial(n, p)."""
    if least <= 0:
        return 1.0
    return math.fsum(math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(least, n + 1))


def median_interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Return the median with its percentile-bootstrap interval over `values`, computed exactly instead of by drawing.

    A bootstrap resample's low median is at most the k-th smallest of n values with the probability that a
    Binomial(n, k/n) reaches half of n (Maritz & Jarrett 1978), so the bootstrap distribution needs no random numbers.
    For an even n the lower end takes the low median and the upper end the high one. A single value has an interval of
    infinite width: nothing is known about its noise.
    """
    ordered = sorted(values)
    n = len(ordered)
    middle = median(ordered)
    if n == 1:
        return Interval(middle, -math.inf, math.inf)
    tail = (1 - confidence) / 2
    half = (n + 1) // 2
    rank = next(k for k in range(1, n + 1) if binomial_tail(n, k / n, half if n % 2 else n // 2) >= tail)
    return Interval(middle, ordered[rank - 1], ordered[n - rank])


def paired_log_ratios(base: Sequence[float], other: Sequence[float]) -> list[float]:
    """Return log(other / base) pair by pair; all values positive, equally many."""
    return [math.log(y / x) for x, y in zip(base, other, strict=True)]


def ratio_interval(base: Mapping[int, float], other: Mapping[int, float], confidence: float = 0.95) -> Interval | None:
    """Return other/base from the rounds that both have; None where too few are shared for an interval."""
    shared = sorted(base.keys() & other.keys())
    if len(shared) < LEAST_SHARED:
        return None
    ratios = paired_log_ratios([base[key] for key in shared], [other[key] for key in shared])
    return median_interval(ratios, confidence).exponential()


def ratio_of_intervals(base: Interval, other: Interval) -> Interval:
    """Return other/base where nothing is paired: the ends are the worst cases of both intervals."""
    return Interval(other.middle / base.middle, other.low / base.high, other.high / max(base.low, 1e-300))


def percentile(values: Sequence[float], q: float) -> float | None:
    """Return the q-quantile (nearest rank), or None where the sample is too small to bound it at 95% confidence."""
    if len(values) < LEAST_SAMPLES[q]:
        return None
    return sorted(values)[math.ceil(q * len(values)) - 1]


def student_quantile(p: float, freedom: float) -> float:
    """Return the p-quantile of Student's t, with any positive number of degrees of freedom."""
    from scipy.special import stdtrit  # noqa: PLC0415 - a tenth of a second, and few commands get here

    return float(stdtrit(freedom, p))
