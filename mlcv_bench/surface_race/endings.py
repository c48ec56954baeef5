"""The ends of many runs side by side: what `metrics` measures and names of one run, by arithmetic on arrays."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from mlcv_bench.surface_race.lanes import limits
from mlcv_bench.surface_race.metrics import AT_REST, NEAR, OUTCOMES, SINGULAR, STALLED, Endings, pieces
from mlcv_bench.surfaces.many import (
    apart,
    gradient_of,
    hessian_of,
    length_of,
    newton_directions,
    positive_definites,
    value_of,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from mlcv_bench.surface_race.lanes import Population
    from mlcv_bench.surface_race.program import Problem
    from mlcv_bench.surfaces.surface import Surface

Columns = TypeVar("Columns", Endings, "Population")
ENTRIES = 1 << 20
"""Of Hessians that are held at once."""


def endings(problem: Problem, starts: npt.NDArray[np.float64], runs: Population) -> Endings:
    """Return what is measured of runs from these points, shape [runs, coordinates], as `metrics.ending` of one."""
    surface = problem.surface
    diverged = runs.diverged_at >= 0
    steps = np.where(diverged, runs.diverged_at, problem.steps)
    with np.errstate(all="ignore"):
        straight = apart(starts, runs.points)
        path_ratio = np.where((straight > 0) & ~diverged, runs.path_length / straight, np.nan)
        has_sides = surface.quadratic is not None and bool(surface.minima)
        sign_flips = np.where(has_sides & (steps > 0) & ~diverged, runs.flips / steps, np.nan)
    return Endings(
        steps=_short(steps),
        first_hit=_short(runs.first_hit),
        last_exit=_short(runs.last_exit),
        final_loss=np.where(diverged, np.nan, runs.final_value),
        points=np.ascontiguousarray(runs.points),
        outcome=outcomes(problem, runs),
        diverged_at=_short(runs.diverged_at),
        path_ratio=path_ratio,
        sign_flips=sign_flips,
        evaluations=steps if runs.evaluations is None else runs.evaluations,
    )


def _short(steps: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
    return steps.astype(np.int32)


def joined(parts: Sequence[Columns]) -> Columns:
    """Return the runs of all parts as one; what is not known of them stays so."""
    columns: dict[str, Any] = {}
    for field in dataclasses.fields(parts[0]):
        each = [getattr(part, field.name) for part in parts]
        columns[field.name] = None if each[0] is None else np.concatenate(each)
    return dataclasses.replace(parts[0], **columns)


def outcomes(problem: Problem, runs: Population) -> npt.NDArray[np.int8]:
    """Name the end of every run by the rules of `metrics.outcome`, as places in `OUTCOMES`."""
    found = np.full(len(runs.first_hit), OUTCOMES.index("floor"), np.int8)
    diverged = runs.diverged_at >= 0
    with np.errstate(all="ignore"):
        ended = diverged | (runs.lowest_after > runs.highest_before)
        steps = np.where(diverged, runs.diverged_at, problem.steps)
        held = ~ended & (runs.last_exit >= 0) & (10 * runs.last_exit <= 9 * steps)
        going = ~ended & ~held & _improves(problem.surface, runs)
    found[ended] = OUTCOMES.index("diverged")
    found[held] = OUTCOMES.index("converged")
    found[going] = OUTCOMES.index("budget")
    # A quadratic's critical points are its minima.
    standing = np.flatnonzero(~(ended | held | going) & (problem.surface.quadratic is None))
    for piece in pieces(range(len(standing)), max(1, ENTRIES // problem.surface.dimension**2)):
        found[standing[piece]] = critical_points(problem, runs, standing[piece])
    return found


def _improves(surface: Surface, runs: Population) -> npt.NDArray[np.bool_]:
    before, after = runs.lowest_before, runs.lowest_after
    if surface.minimum is None:
        improved: npt.NDArray[np.bool_] = before - np.minimum(before, after) > (1 - STALLED) * (
            runs.first_value - before
        )
    else:
        improved = after - surface.minimum < STALLED * (before - surface.minimum)
    return improved


def critical_points(problem: Problem, runs: Population, chosen: npt.NDArray[np.intp]) -> npt.NDArray[np.int8]:
    """Name the critical points that some runs stand at, as `metrics.critical_point` does; `floor` where there is none.

    Newton's method goes on from where it has neither come to an end nor left the run's surroundings.
    """
    surface = problem.surface
    found = np.full(len(chosen), OUTCOMES.index("floor"), np.int8)
    ends = runs.points[chosen]
    places = ends.copy()
    moves = newton_directions(surface, places)
    with np.errstate(all="ignore"):
        decrement = 0.5 * np.abs((gradient_of(surface, places) * moves).sum(axis=1))
        going, arrived = np.arange(len(chosen)), np.zeros(len(chosen), dtype=np.bool_)
        for _ in range(30):
            places[going] -= moves
            near = length_of(places[going] - ends[going]) <= NEAR * surface.box_diagonal
            largest = np.maximum(1.0, np.abs(places[going]).max(axis=1))
            still = np.abs(moves).max(axis=1) <= 1e-12 * largest
            arrived[going[near & still]] = True
            going = going[near & ~still]
            if not going.size:
                break
            moves = newton_directions(surface, places[going])
        at = np.flatnonzero(arrived)
        if not at.size:
            return found
        value, hessian = value_of(surface, places[at]), hessian_of(surface, places[at])
        run = chosen[at]
        first = runs.first_value[run]
        gap = value - surface.minimum if surface.minimum is not None else np.abs(first - value)
        highest, lowest = np.abs(runs.highest_after[run] - value), np.abs(runs.lowest_after[run] - value)
        resting = np.maximum(np.maximum(decrement[at], highest), lowest) <= AT_REST * gap
        sign = SINGULAR * np.abs(hessian).max(axis=(1, 2))
        saddle = resting & ~positive_definites(hessian, sign)
        lower = np.full(len(at), bool(surface.local_minima))
        if surface.minimum is not None:
            lower = value > limits(problem, first)[0]
        lower &= resting & ~saddle & positive_definites(hessian, -sign)
    found[at[saddle]] = OUTCOMES.index("saddle")
    found[at[lower]] = OUTCOMES.index("wrong_minimum")
    return found
