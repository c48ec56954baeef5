"""A lowest value that was claimed and undercut: who found a lower one, and what the surface is known to be then."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

from mlcv_bench.surface_race.floats import Runner, Start
from mlcv_bench.surfaces.minima import refine

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mlcv_bench.surface_race.program import Problem
    from mlcv_bench.surfaces.surface import Point, Surface

MOST_CORRECTIONS = 5
"""A surface that is undercut more often has its lowest point too far away to be looked for by racing."""
MOST_TRACED = 50


class BelowMinimumError(Exception):
    """Runs went below the value that was taken for the lowest, so that no target of this race means anything."""

    def __init__(self, runs: list[tuple[Problem, Start]]) -> None:
        """Keep the runs."""
        super().__init__("a run went below f*")
        self.runs = runs


def refuse_undercut(runs: Iterable[tuple[Problem, Start]]) -> None:
    """Raise BelowMinimumError if any run went below what its surface claims as the lowest value."""
    found = [(problem, start) for problem, start in runs if problem.surface.minimum is not None]
    if found:
        raise BelowMinimumError(found)


def corrected(error: BelowMinimumError, earlier: int) -> tuple[Surface, str]:
    """Return the surface with the minimum that the undercutting runs lead to, or with none, and a sentence about it.

    Args:
        error: the runs; their paths are walked again, to the end.
        earlier: how often this surface was corrected before.

    """
    surface = error.runs[0][0].surface
    free = dataclasses.replace(surface, minimum=None)
    lowest, place, finder, endless = math.inf, surface.start, error.runs[0][0], False
    for problem, start in error.runs[:MOST_TRACED]:
        known = dataclasses.replace(problem, surface=free)
        first = surface.value(*start.point)
        trace = Runner(problem.rule, free).trace(known, start, first)
        value, step = min((value, step) for step, value in enumerate(trace.values) if not math.isnan(value))
        endless = endless or value <= known.limits(first)[1]
        if value < lowest:
            lowest, place, finder = value, trace.point(step), problem
    found = None if endless or earlier >= MOST_CORRECTIONS else refine(free, place)
    rate = f" at rate {finder.settings['lr']:g}" if "lr" in finder.settings else ""
    said = (
        f"{surface.name}: f* was taken to be {surface.minimum:.6g}, but {finder.rule.name}{rate} went down to "
        f"{lowest:.6g} at ({shown(place)}); "
    )
    others = (*surface.minima, *surface.local_minima)
    free = dataclasses.replace(free, minima=(), local_minima=others, quadratic=None, listed_within=None, valley=False)
    if found is None or found[0] > lowest:
        return free, said + "so no lowest point is known, and everything was run again without a target"
    minimum, point = found
    said += f"f* is now {minimum:.6g}, of the minimum at ({shown(point)}), and everything was run again"
    return dataclasses.replace(free, minimum=minimum, minima=(point,), listed_within=()), said


def shown(point: Point) -> str:
    """Return a point as people write it."""
    return " ".join(f"{part:g}" for part in point)
