"""Change points of a noisy series: where it went from one level to another, how surely, and by how much.

Segments come from ruptures (Truong, Oudre and Vayatis 2020): PELT with a squared cost on the normal scores of the
ranks, which no outlier can stretch. A change between two neighbouring segments stands where the Mann-Whitney test,
which holds for noise of any shape, tells them apart; the least sure ones are taken away, one after the other.
`benchmarks/history_errors.py` measures how often that is wrong and what it sees.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlcv_bench.extras import require
from mlcv_bench.statistics import Interval, mean_difference

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

SHORTEST = 3
"""Values of a level: one or two that stand out are outliers until a third one agrees."""
FEWEST = 13
"""Fewer values cannot reach the significance that is asked, however far apart two levels are."""
PENALTY = 2.0
"""Of a change, in units of log(n) times the variance of normal scores."""
SIGNIFICANCE = 0.02
"""Shared by all places at which a series can change: with it, 1 of 100 series without a change shows one, or fewer."""
CLIPPED = 2.0
"""Standard deviations beyond both levels at which a value counts no further in placing a change."""
NEAR = 3
"""A place is the middle of the most probable stretch of so many values to either side."""
SURE = 0.95
"""Probability that the range of a change holds its place."""


@dataclass(frozen=True, slots=True)
class LevelChange:
    """A change of a series: `place` is the first value of the new level, most probably; `first` and `last` bound it."""

    place: int
    first: int
    last: int
    ratio: Interval
    """Of the levels, new over old."""
    base: float
    new: float
    p_value: float


def level_changes(values: Sequence[float], *, shared_by: int = 1) -> list[LevelChange]:
    """Return the changes of positive values in their order.

    Args:
        values: such as the medians of one cell, commit by commit.
        shared_by: the number of series that share the error rate.

    Raises:
        MissingExtraError: the extra `history` is not installed.

    """
    n = len(values)
    if n < FEWEST:
        return []
    require("history", "finding jumps of times")
    import numpy as np  # noqa: PLC0415 - reports of suites import this module, and a dry run loads nothing heavy
    import ruptures  # noqa: PLC0415 - a second, and exact figures never get here

    logs = np.log(np.asarray(values, dtype=np.float64))
    search = ruptures.KernelCPD(kernel="linear", min_size=SHORTEST).fit(normal_scores(logs))
    cuts: list[int] = [int(cut) for cut in search.predict(pen=PENALTY * math.log(n))[:-1]]
    chances: list[float] = []
    while cuts:
        chances = [_chance(logs[a:b], logs[b:c]) for a, b, c in _neighbours(cuts, n)]
        worst = max(range(len(cuts)), key=chances.__getitem__)
        if chances[worst] <= SIGNIFICANCE / n / shared_by:
            break
        del cuts[worst]
    return [_placed(logs, *around, chance) for around, chance in zip(_neighbours(cuts, n), chances, strict=False)]


def normal_scores(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return van der Waerden's scores: each value's rank as a quantile of the normal distribution."""
    import numpy as np  # noqa: PLC0415 - as above
    from scipy.special import ndtri  # noqa: PLC0415 - as above
    from scipy.stats import rankdata  # noqa: PLC0415 - as above

    return np.asarray(ndtri(rankdata(values) / (len(values) + 1)), dtype=np.float64)


def _neighbours(cuts: Sequence[int], n: int) -> list[tuple[int, int, int]]:
    ends = [0, *cuts, n]
    return list(zip(ends, ends[1:], ends[2:], strict=False))


def _chance(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> float:
    from scipy.stats import mannwhitneyu  # noqa: PLC0415 - as above

    return float(mannwhitneyu(one, other).pvalue)


def _placed(logs: npt.NDArray[np.float64], start: int, cut: int, end: int, chance: float) -> LevelChange:
    """Place a change between two segments by its likelihood, and bound it."""
    import numpy as np  # noqa: PLC0415 - as above

    one, other = logs[start:cut], logs[cut:end]
    levels = sorted((float(np.median(one)), float(np.median(other))))
    rest = np.abs(np.concatenate([one - np.median(one), other - np.median(other)]))
    count = end - start
    # 1.4826 times the median deviation is the standard deviation of normal noise; two medians were taken from it.
    noise = 1.4826 * float(np.median(rest)) * math.sqrt(count / (count - 2)) or 1e-12
    within = np.clip(logs[start:end], levels[0] - CLIPPED * noise, levels[1] + CLIPPED * noise)
    sizes = np.arange(1, count)
    sums, total = np.cumsum(within)[:-1], float(np.sum(within))
    gaps = sums / sizes - (total - sums) / (count - sizes)
    gains = sizes * (count - sizes) / count * gaps**2 / (2 * noise**2)
    chances = np.exp(gains - gains.max())
    chances /= chances.sum()
    near = np.convolve(chances, np.ones(2 * NEAR + 1), "full")[NEAR:-NEAR]
    # Among equals the likeliest, and none that leaves a level of one value, which has no interval.
    places = range(1, count - 2)
    best = max(places, key=lambda at: (round(float(near[at]), 6), float(chances[at])))
    below = np.cumsum(chances)
    first, last = (int(np.searchsorted(below, share)) for share in ((1 - SURE) / 2, (1 + SURE) / 2))
    before, after = logs[start : start + 1 + best], logs[start + 1 + best : end]
    ratio = mean_difference(before.tolist(), after.tolist()).exponential()
    base, new = (math.exp(float(np.mean(part))) for part in (before, after))
    place, first, last = (start + 1 + at for at in (best, min(first, best), max(last, best)))
    return LevelChange(place, first, last, ratio, base, new, chance)
