"""What a trajectory shows: when it met the target, how it ended, how straight it went."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from mlcv_bench.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlcv_bench.racing.program import Problem
    from mlcv_bench.racing.scalar import Trace
    from mlcv_bench.surfaces.surface import Point, Surface

RunOutcome = Literal["converged", "saddle", "wrong_minimum", "diverged", "floor", "budget"]

STALLED = 0.999
"""A run has stopped improving when its last tenth did not bring the best gap below this share of what it was."""
NEAR = 0.05
"""A critical point is where a run stands if it lies within this share of the box's diagonal."""


@dataclass(frozen=True)
class RaceResult:
    """One run: the columns of the contract, then what else is known of it."""

    surface: str
    optimizer: str
    protocol: str
    lr: float | None
    start: Point
    seed: int
    steps: int
    first_hit: int | None
    last_exit: int | None
    final_loss: float | None
    distance: float | None
    outcome: RunOutcome
    diverged_at: int | None
    predicted_hit: float | None = None
    path_ratio: float | None = None
    sign_flips: float | None = None
    start_number: int = 0
    settings: str = ""


@dataclass(frozen=True)
class Ending:
    """What is measured of one run, from a whole trajectory or gathered by an engine on the way."""

    steps: int
    first_hit: int | None
    last_exit: int | None
    final_loss: float | None
    point: Point
    outcome: RunOutcome
    diverged_at: int | None
    path_ratio: float | None
    sign_flips: float | None


def measure(problem: Problem, trace: Trace) -> Ending:
    """Measure a whole trajectory."""
    target, _, _ = problem.limits(trace.values[0])
    surface = problem.surface
    diverged = trace.diverged_at is not None
    first = next((t for t, value in enumerate(trace.values) if value <= target), None)
    last: int | None = None
    if not diverged:
        last = len(trace.values)
        while last and trace.values[last - 1] <= target:
            last -= 1
        last = last if last < len(trace.values) else None
    point = trace.point(-1)
    early = max(1, (9 * len(trace.values)) // 10)
    before, after = min(trace.values[:early]), min(trace.values[early:], default=math.inf)
    still = stalled(surface, trace.values[0], before, after)
    return Ending(
        steps=trace.steps,
        first_hit=first,
        last_exit=last,
        final_loss=None if diverged else trace.values[-1],
        point=point,
        outcome=outcome(problem, point, target, diverged=diverged, converged=last is not None, stopped=still),
        diverged_at=trace.diverged_at,
        path_ratio=None if diverged else path_ratio(trace),
        sign_flips=None if diverged else sign_flips(surface, trace),
    )


def stalled(surface: Surface, first: float, before: float, after: float) -> bool:
    """Tell whether the best value of the last tenth improved on the best before it."""
    if surface.minimum is None:
        return before - min(before, after) <= (1 - STALLED) * (first - before)
    return after - surface.minimum >= STALLED * (before - surface.minimum)


def outcome(
    problem: Problem, point: Point, target: float, *, diverged: bool, converged: bool, stopped: bool
) -> RunOutcome:
    """Name the end of a run."""
    if diverged:
        return "diverged"
    if converged:
        return "converged"
    if not stopped:
        return "budget"
    found = critical_point(problem.surface, point)
    if found is None:
        return "floor"
    place, definite = found
    if not definite:
        return "saddle"
    return "wrong_minimum" if problem.surface.value(*place) > target else "floor"


def critical_point(surface: Surface, point: Point) -> tuple[Point, bool] | None:
    """Return the critical point that a run stands at, and whether it is a minimum; None where there is none near."""
    reach = NEAR * math.hypot(*(high - low for low, high in surface.box))
    place = point
    try:
        for _ in range(30):
            step = surface.newton_direction(place)
            place = tuple(part - move for part, move in zip(place, step, strict=True))
            if not math.dist(place, point) <= reach:
                return None
            if max(map(abs, step)) <= 1e-12 * max(1.0, *map(abs, place)):
                return place, positive_definite(surface.hessian(*place))
    except (UsageError, OverflowError, ValueError, ZeroDivisionError):
        return None
    return None


def positive_definite(matrix: Sequence[Sequence[float]]) -> bool:
    """Tell whether a symmetric matrix is positive definite: every pivot of its elimination is positive."""
    rows = [list(row) for row in matrix]
    for column in range(len(rows)):
        if not rows[column][column] > 0:
            return False
        for row in range(column + 1, len(rows)):
            factor = rows[row][column] / rows[column][column]
            rows[row] = [a - factor * b for a, b in zip(rows[row], rows[column], strict=True)]
    return True


def path_ratio(trace: Trace) -> float | None:
    """Return the length of the path over the straight distance between its ends; None where it went nowhere."""
    length = 0.0
    pairs = [itertools.pairwise(axis) for axis in trace.points]
    for moves in zip(*pairs, strict=True):
        # Summed as the other engines sum it, step after step, so that the same run has the same bytes.
        square = 0.0
        for a, b in moves:
            square += (b - a) * (b - a)
        length += math.sqrt(square)
    straight = math.dist(trace.point(0), trace.point(-1))
    return length / straight if straight > 0 else None


def sign_flips(surface: Surface, trace: Trace) -> float | None:
    """Return the share of steps that change sides of the valley: the sign along the steepest axis flips."""
    if surface.quadratic is None or not surface.minima or len(trace.values) < 2:  # noqa: PLR2004 - a step has two ends
        return None
    axis, centre = surface.quadratic.steep_axis, surface.minima[0]
    middle = math.fsum(a * c for a, c in zip(axis, centre, strict=True))
    heights = [
        math.fsum(a * x for a, x in zip(axis, place, strict=True)) - middle for place in zip(*trace.points, strict=True)
    ]
    return sum(a * b < 0 for a, b in itertools.pairwise(heights)) / (len(heights) - 1)
