"""What runs on several seeds say together: ranks that intervals separate, performance profiles."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from mlcv_bench.statistics import paired_difference


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
