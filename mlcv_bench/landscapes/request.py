"""What a landscape is asked: everything that can be known to be wrong is refused before torch is loaded."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from mlcv_bench.errors import UsageError
from mlcv_bench.names import check_choices, label_of
from mlcv_bench.task_race.request import TaskRaceRequest

Directions = Literal["principal", "random"]
DIRECTIONS: tuple[Directions, ...] = get_args(Directions)
MOST_ACROSS = 1001
"""Points along a side of the plane: a million losses."""


@dataclass(frozen=True)
class LandscapeRequest(TaskRaceRequest):
    """The loss of one model on planes through its trained weights; every optimizer trains it once, at its default rate.

    Attributes:
        directions: what spans a plane: the first two principal directions of the optimizers' paths, or two
            filter-normalised random ones (Li et al. 2018).
        resolution: points along each side of a plane.
        extent: half the side of a plane round the trained weights, in lengths of its directions; None for 1 along
            random directions, and for what holds all paths along principal ones.
        images: training images whose mean loss is shown; of fewer, all.
        every: steps from one point of a path to the next; None for 1, or of a model with convolutions, whose losses
            take long, as many as leave a path 100 points.

    """

    seeds: int = 1
    protocols: tuple[str, ...] = ("default",)
    directions: tuple[str, ...] = ("principal",)
    resolution: int = 51
    extent: float | None = None
    images: int = 1000
    every: int | None = None

    def check(self) -> None:
        """Refuse what cannot be.

        Raises:
            UsageError: one sentence on the first thing that is wrong.

        """
        for option, names in (("--task", self.tasks), ("--model", self.models)):
            if len(names) != 1:
                given = ", ".join(map(label_of, names)) or "none"
                raise UsageError(f"a landscape is of one task and one model; {option} gives {given}")
        if not self.optimizers:
            raise UsageError("name an optimizer, whose path leads to the trained weights, as --optimizer sgd")
        if not self.directions:
            raise UsageError(f"--directions takes {' or '.join(DIRECTIONS)}, or both")
        check_choices("--directions", self.directions, DIRECTIONS)
        for option, value in (("--images", self.images), ("--every", self.every)):
            if value is not None and value < 1:
                raise UsageError(f"{option} is at least 1, not {value}")
        if not 3 <= self.resolution <= MOST_ACROSS:  # noqa: PLR2004 - a middle and two sides
            raise UsageError(f"--resolution takes 3 to {MOST_ACROSS} points along a side, not {self.resolution}")
        if self.extent is not None and not 0 < self.extent < math.inf:
            raise UsageError(f"--extent is a length above 0, not {self.extent:g}")
        super().check()
