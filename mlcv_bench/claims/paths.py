"""What the experiments on optimizers share: whole paths of a rule on a surface, and when or where something holds."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

from mlcv_bench.optimizers.rule import RULES
from mlcv_bench.surface_race.floats import Runner, Trajectory
from mlcv_bench.surface_race.program import Problem, Start

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mlcv_bench.surfaces.surface import Point, Surface


def path(
    rule: str,
    surface: Surface,
    start: Point | None = None,
    *,
    steps: int = 1000,
    seed: int = 0,
    **settings: Any,  # noqa: ANN401 - numbers; a mapping spread into keywords would clash with `steps`
) -> Trajectory:
    """Run a built-in rule from a start and keep every point; settings that are not given are the defaults."""
    (run,) = paths(rule, surface, [start if start is not None else surface.start], steps=steps, seed=seed, **settings)
    return run


def paths(
    rule: str,
    surface: Surface,
    starts: Sequence[Point],
    *,
    steps: int = 1000,
    seed: int = 0,
    **settings: Any,  # noqa: ANN401 - as above
) -> list[Trajectory]:
    """Do the same from several starts; rule and surface are compiled once, which takes as long as a short run."""
    chosen = RULES[rule]
    problem = Problem(chosen, chosen.settings(settings), surface, steps=steps, seed=seed)
    runner = Runner(chosen, surface)
    return [runner.trace(problem, Start(0, tuple(start))) for start in starts]


def distances(trace: Trajectory, place: Sequence[float] | None = None) -> list[float]:
    """Return the distance of every point of a path from a place, the origin unless given."""
    centre = place if place is not None else [0.0] * len(trace.points)
    return [math.dist(point, centre) for point in zip(*trace.points, strict=True)]


def first(values: Sequence[float], holds: Callable[[float], bool]) -> float:
    """Return the first index whose value passes; infinite where none does."""
    return next((float(i) for i, value in enumerate(values) if holds(value)), math.inf)


def changes(low: float, high: float, holds: Callable[[float], bool]) -> float:
    """Return where a condition that holds at `low` ends, by bisection to nine digits."""
    while high - low > 1e-10 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def share(flags: Sequence[bool]) -> float:
    """Return how many of the flags are true, as a share."""
    return sum(flags) / len(flags)


def flips(values: Sequence[float]) -> float:
    """Return the share of steps at which a coordinate changes its sign."""
    return share([a * b < 0 for a, b in itertools.pairwise(values)])
