"""Basins of attraction: each pixel a start, coloured by the minimum it ends in and by how fast it gets there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mlcv_bench.errors import UsageError
from mlcv_bench.optimizers.rule import Rule
from mlcv_bench.optimizers.schedule import CONSTANT, Schedule
from mlcv_bench.surface_race.endings import joined
from mlcv_bench.surface_race.engines import TorchEngine, runs_at_once
from mlcv_bench.surface_race.lanes import LaneRunner, Population
from mlcv_bench.surface_race.metrics import MISS, pieces

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy.typing as npt

    from mlcv_bench.surface_race.request import BasinsRequest
    from mlcv_bench.surfaces.surface import Box, Point, Surface

NEAR = 0.02
"""A run has ended in a minimum when it stands within this share of the box's diagonal from it."""


@dataclass(frozen=True)
class BasinMap:
    """Where each start of a grid ends.

    Attributes:
        surface: what was run on.
        optimizer: its label.
        settings: all its hyperparameters.
        minima: every known minimum, global ones first.
        index: shape [height, width], rows from the lowest y; which minimum, or -1 for none.
        steps: shape [height, width]; the first step at which that minimum's target held, or -1.
        diverged: shape [height, width]; whether the run diverged.
        budget: how many steps every run took.
        target: relative to each start's own gap to its minimum.
        seed: of noise and data.
        schedule: how the rate moves.
        clip_norm: the norm that gradients are clipped to, or None.

    """

    surface: Surface
    optimizer: str
    settings: Mapping[str, Any]
    minima: tuple[Point, ...]
    index: npt.NDArray[np.int64]
    steps: npt.NDArray[np.int64]
    diverged: npt.NDArray[np.bool_]
    budget: int
    target: float
    seed: int
    schedule: Schedule = CONSTANT
    clip_norm: float | None = None


def grid_of(box: Box, width: int, height: int) -> npt.NDArray[np.float64]:
    """Return the middle of every pixel, row by row from the lowest y, shape [height * width, 2]."""
    (left, right), (bottom, top) = box
    xs = left + (right - left) * (np.arange(width) + 0.5) / width
    ys = bottom + (top - bottom) * (np.arange(height) + 0.5) / height
    grid = np.meshgrid(xs, ys)
    return np.stack([axis.ravel() for axis in grid], axis=1)


def basins(request: BasinsRequest, watch: Callable[[float], None] | None = None) -> BasinMap:
    """Run an optimizer from every pixel of a surface's box.

    Args:
        request: what is mapped.
        watch: told now and then which share of all runs is over.

    Raises:
        UsageError: the surface has not two coordinates, or no known minimum; or there is more than one optimizer.

    """
    request.check()
    (place,) = request.places
    request.check_place(place)
    optimizer, *others = request.read_optimizers()
    if others:
        raise UsageError(f"basins are drawn of one optimizer; name one, such as {optimizer.label}")
    request.check_engines([optimizer], request.places)
    minima = (*place.minima, *place.local_minima)
    width, height = request.size
    settings = optimizer.settings
    problem = request.problem(optimizer, settings, place)
    starts = grid_of(place.box, width, height)
    rule = optimizer.rule
    runner = (
        LaneRunner(rule, place, full=False)
        if isinstance(rule, Rule)
        else TorchEngine(rule, problem, device=request.device_here).runner
    )
    total = len(starts) * (2 if place.local_minima else 1)

    def run(over: int, targets: npt.NDArray[np.float64] | None = None) -> Population:
        """Run every start, some at a time; `over` are the runs before them."""
        parts = []
        for piece in pieces(range(len(starts)), runs_at_once(problem, request.cores)):
            numbers = np.arange(piece.start, piece.stop, dtype=np.uint64)
            goals = None if targets is None else targets[piece]
            parts.append(runner.run(problem, starts[piece], targets=goals, numbers=numbers, threads=request.cores))
            if watch is not None:
                watch((over + piece.stop) / total)
        return joined(parts)

    found = run(0)
    centres = np.array(minima)
    offsets = found.points[None, :, :] - centres[:, None, :]
    distances = np.hypot(offsets[..., 0], offsets[..., 1])
    with np.errstate(invalid="ignore"):
        nearest = np.argmin(np.where(np.isfinite(distances), distances, np.inf), axis=0)
        reach = NEAR * place.box_diagonal
        inside = np.take_along_axis(distances, nearest[None], axis=0)[0] <= reach
    diverged = found.diverged_at >= 0
    index = np.where(inside & ~diverged, nearest, MISS)
    took = found.first_hit
    if place.local_minima:
        # A local minimum is its own target: those who end there are timed against it, in a second run.
        lowest = np.array([place.value(*centre) for centre in minima])
        goal = lowest[np.maximum(index, 0)]
        targets = goal + request.target * np.abs(found.first_value - goal)
        # The global minimum's value bounds nothing here, so the limits stay the surface's own.
        took = run(len(starts), targets).first_hit
    took = np.where(index >= 0, took, MISS)
    shape = (height, width)
    return BasinMap(
        surface=place,
        optimizer=optimizer.label,
        settings=settings,
        minima=minima,
        index=index.reshape(shape),
        steps=took.reshape(shape),
        diverged=diverged.reshape(shape),
        budget=request.steps,
        target=request.target,
        seed=request.seed,
        schedule=request.rate_schedule,
        clip_norm=request.clip_norm,
    )
