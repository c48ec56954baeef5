"""What runs on several seeds say together: paired differences, ranks that intervals separate, performance profiles."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

import numpy as np

CONFIDENCE = 0.95
BOOTSTRAP_FROM = 10
"""With fewer pairs the percentile bootstrap is too narrow (three pairs cover 75%, not 95%): Student's t is used."""
RESAMPLES = 4000
STUDENT = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306}
"""The 97.5% point of Student's t by the number of pairs (n - 1 degrees of freedom)."""


@dataclass(frozen=True)
class Difference:
    """A mean of paired differences with its 95% interval; `method` says how the interval was found."""

    mean: float
    low: float
    high: float
    pairs: int
    method: str

    @property
    def separates(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.low > 0 or self.high < 0


def paired_difference(one: Sequence[float], other: Sequence[float]) -> Difference:
    """Return the mean of one - other over pairs that share a seed, with an interval.

    One pair has no interval: it reaches from minus to plus infinity.
    """
    gaps = [a - b for a, b in zip(one, other, strict=True)]
    mean, pairs = fmean(gaps), len(gaps)
    if pairs == 1:
        return Difference(mean, -math.inf, math.inf, 1, "one pair")
    if pairs < BOOTSTRAP_FROM:
        reach = STUDENT[pairs] * stdev(gaps) / math.sqrt(pairs)
        return Difference(mean, mean - reach, mean + reach, pairs, "Student's t")
    draws = np.random.default_rng(0).integers(pairs, size=(RESAMPLES, pairs))
    means = np.asarray(gaps)[draws].mean(axis=1)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Difference(mean, float(low), float(high), pairs, "bootstrap")


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


def profile(steps: Mapping[str, Sequence[float]]) -> dict[str, list[tuple[float, float]]]:
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
