"""How many runs ended, as arrays: what the engines for populations give back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mlcv_bench.functions import TABLE
from mlcv_bench.surface_race.program import DIVERGED_FACTOR, UNDERCUT

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from mlcv_bench.surface_race.program import Problem
    from mlcv_bench.surfaces.surface import Surface

MISS = -1


@dataclass(frozen=True)
class Population:
    """One element a run; a step that never came is -1, a number that is not there NaN."""

    first_hit: npt.NDArray[np.int64]
    last_exit: npt.NDArray[np.int64]
    diverged_at: npt.NDArray[np.int64]
    undercut: npt.NDArray[np.bool_]
    final_value: npt.NDArray[np.float64]
    points: npt.NDArray[np.float64]
    lowest_before: npt.NDArray[np.float64]
    lowest_after: npt.NDArray[np.float64]
    highest_before: npt.NDArray[np.float64]
    highest_after: npt.NDArray[np.float64]
    path_length: npt.NDArray[np.float64]
    flips: npt.NDArray[np.int64]


GATHERED = (
    *("hit", "missed", "broken", "undercut", "value"),
    *("lowest_before", "lowest", "highest_before", "highest"),
    *("length", "flips"),
)
"""What an engine gathers for each run: the first step the target held at, the last at which it did not, the first at
which it left its bounds, the first below them; the last value; the lowest and the highest value before the last tenth
and in it; the path's length, changes of side. A step that never came is infinite."""


def population(
    gathered: Sequence[npt.NDArray[np.float64]],
    at_start: npt.NDArray[np.bool_],
    steps: int,
    points: npt.NDArray[np.float64],
) -> Population:
    """Return the population of what an engine gathered, in the order of GATHERED."""
    hit, missed, broken, undercut, value, lowest_before, lowest, highest_before, highest, length, flips = gathered
    diverged = np.isfinite(broken)
    first = np.where(at_start, 0.0, np.where(hit < broken, hit, np.inf))
    # A run that never missed holds from its start, if its start holds.
    held = np.where((missed == 0) & at_start, 0.0, missed + 1)
    held = np.where(diverged | (missed >= steps), np.inf, held)
    return Population(
        first_hit=_whole(first),
        last_exit=_whole(held),
        diverged_at=_whole(broken),
        undercut=diverged & (undercut <= broken),
        final_value=np.where(diverged, np.nan, value),
        points=points,
        lowest_before=lowest_before.copy(),
        lowest_after=lowest.copy(),
        highest_before=highest_before.copy(),
        highest_after=highest.copy(),
        path_length=np.where(diverged, np.nan, length),
        flips=flips.astype(np.int64),
    )


def _whole(values: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    return np.where(np.isfinite(values), values, MISS).astype(np.int64)


def value_of(surface: Surface, points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the surface's value at every point of shape [runs, coordinates]."""
    if surface.expressions is None:
        return np.array([surface.value(*point) for point in points.tolist()])
    value = surface.value_by({name: getattr(np, name) for name in TABLE})
    with np.errstate(all="ignore"):
        found = np.asarray(value(*points.T), dtype=np.float64)
    return np.ascontiguousarray(np.broadcast_to(found, len(points)))


def limits(
    problem: Problem, values: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return target and bounds for every run, as `Problem.limits` does for one."""
    minimum = problem.surface.minimum
    if minimum is None:
        reach = DIVERGED_FACTOR * np.maximum(1.0, np.abs(values))
        return np.full_like(values, -np.inf), values - reach, values + reach
    gap = np.abs(values - minimum)
    reach = DIVERGED_FACTOR * np.where(gap == 0, 1.0, gap)
    slack = np.maximum(UNDERCUT * np.maximum(abs(minimum), np.abs(values)), problem.surface.rounding)
    return minimum + problem.target * gap, minimum - slack, minimum + reach
