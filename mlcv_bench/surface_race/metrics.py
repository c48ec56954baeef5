"""What a trajectory shows: when it met the target, how it ended, how straight it went."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from mlcv_bench.errors import UsageError
from mlcv_bench.records import columns_of
from mlcv_bench.surfaces.newton import positive_definite
from mlcv_bench.surfaces.surface import kept

if TYPE_CHECKING:
    import numpy.typing as npt

    from mlcv_bench.optimizers.schedule import Schedule
    from mlcv_bench.surface_race.floats import Trajectory
    from mlcv_bench.surface_race.program import Problem, Start
    from mlcv_bench.surfaces.surface import Point, Surface

    Numbers = Sequence[Any] | npt.NDArray[Any]

RunOutcome = Literal["converged", "saddle", "wrong_minimum", "diverged", "floor", "budget"]
OUTCOMES: tuple[RunOutcome, ...] = get_args(RunOutcome)
MISS = -1
"""A step that never came, in columns of many runs; a number that is not there is NaN."""

STALLED = 0.999
"""A run has stopped improving when its last tenth did not bring the lowest gap below this share of what it was."""
AT_REST = 0.01
"""What a run may still gain where it stands at a critical point, as a share of that point's gap to the lowest value."""
NEAR = 0.05
"""Newton's method looks for a critical point no further away than this share of the box's diagonal."""
SINGULAR = 1e-9
"""A curvature below this share of the largest entry of the Hessian has no sign."""


@dataclass(frozen=True)
class RaceResult:
    """One run: the columns of the contract, then what else is known of it.

    A run that was skipped has its names, its status and a reason alone. There is no `start` where it has more than 64
    coordinates; seed and `start_number` decide it.
    """

    surface: str
    optimizer: str
    protocol: str
    lr: float | None
    start: Point | None
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
    schedule: str = "constant"
    warm_up: int = 0
    clip_norm: float | None = None
    evaluations: int | None = None
    status: Literal["done", "skipped"] = "done"
    reason: str | None = None


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


@dataclass(frozen=True, eq=False)
class Endings:
    """What is measured of many runs as columns, one element each: lists from floats, arrays of numpy from populations.

    A step that never came is -1, a number that is not there NaN; `outcome` is a place in `OUTCOMES`.
    """

    steps: Numbers
    first_hit: Numbers
    last_exit: Numbers
    final_loss: Numbers
    points: Numbers
    outcome: Numbers
    diverged_at: Numbers
    path_ratio: Numbers
    sign_flips: Numbers
    evaluations: Numbers

    @classmethod
    def of(cls, endings: Iterable[Ending]) -> Endings:
        """Return the columns of some runs."""
        found = list(endings)
        return cls(
            steps=[one.steps for one in found],
            first_hit=[_step(one.first_hit) for one in found],
            last_exit=[_step(one.last_exit) for one in found],
            final_loss=[_number(one.final_loss) for one in found],
            points=[one.point for one in found],
            outcome=[OUTCOMES.index(one.outcome) for one in found],
            diverged_at=[_step(one.diverged_at) for one in found],
            path_ratio=[_number(one.path_ratio) for one in found],
            sign_flips=[_number(one.sign_flips) for one in found],
            evaluations=[one.steps for one in found],
        )


def _step(step: int | None) -> int:
    return MISS if step is None else step


def _number(value: float | None) -> float:
    return math.nan if value is None else value


@dataclass(frozen=True, eq=False)
class Runs:
    """All runs of one optimizer under one protocol as columns; `results` makes the objects of some."""

    surface: str
    optimizer: str
    protocol: str
    lr: float | None
    settings: str
    schedule: Schedule
    clip_norm: float | None
    seed: int
    starts: Sequence[Start]
    endings: Endings
    distances: Callable[[slice], Numbers]
    """From some runs' ends to the nearest global minimum, worked out where they are looked at."""
    predicted_hit: Numbers

    def __len__(self) -> int:
        """Return how many runs there are."""
        return len(self.starts)

    def columns(self, part: slice = slice(None)) -> list[list[Any]]:
        """Return the fields of `RaceResult` of some runs, a list of plain values each, None for what is missing."""
        starts, endings = self.starts[part], self.endings
        same: dict[str, Any] = {
            "surface": self.surface,
            "optimizer": self.optimizer,
            "protocol": self.protocol,
            "lr": self.lr,
            "seed": self.seed,
            "settings": self.settings,
            "schedule": self.schedule.name,
            "warm_up": self.schedule.warm_up,
            "clip_norm": self.clip_norm,
            "status": "done",
            "reason": None,
        }
        found: dict[str, list[Any]] = {name: [value] * len(starts) for name, value in same.items()}
        begun = [(kept(start.point), start.number) for start in starts]
        found["start"], found["start_number"] = [point for point, _ in begun], [number for _, number in begun]
        for name in ("steps", "first_hit", "last_exit", "diverged_at", "evaluations"):
            found[name] = steps_or_none(getattr(endings, name)[part])
        for name in ("final_loss", "path_ratio", "sign_flips"):
            found[name] = _numbers_or_none(getattr(endings, name)[part])
        found["distance"] = _numbers_or_none(self.distances(part))
        found["predicted_hit"] = steps_or_none(self.predicted_hit[part])
        found["outcome"] = [OUTCOMES[number] for number in endings.outcome[part]]
        return [found[name] for name in columns_of(RaceResult)]

    def results(self, part: slice = slice(None)) -> Iterator[RaceResult]:
        """Return an object a run, made as it is asked for."""
        for piece in pieces(range(len(self))[part], AT_ONCE):
            yield from itertools.starmap(RaceResult, zip(*self.columns(piece), strict=True))


AT_ONCE = 4096
"""Runs that are turned into plain values at once."""


def pieces(places: range, size: int) -> Iterator[slice]:
    """Cut a range without gaps into slices of so many places at most."""
    for first in range(places.start, places.stop, size):
        yield slice(first, min(first + size, places.stop))


def plain_list(column: Numbers) -> list[Any]:
    """Return a column as a list of Python's own numbers."""
    found: list[Any] = column.tolist() if hasattr(column, "tolist") else list(column)
    return found


def steps_or_none(column: Numbers) -> list[int | None]:
    """Return a column of steps with None for those that never came."""
    return [None if step < 0 else step for step in plain_list(column)]


def _numbers_or_none(column: Numbers) -> list[float | None]:
    return [None if math.isnan(value) else value for value in plain_list(column)]


@dataclass(frozen=True)
class RunSummary:
    """What is gathered of a run, enough to measure and to name its end.

    Attributes:
        steps: how many were taken.
        first: the value at the start.
        lowest_before, highest_before: of the values before the last tenth, the start's among them.
        lowest, highest: of the values in the last tenth.
        final: the last value.
        first_hit: the first step at which the target holds, or None.
        last_exit: the first step from which the target holds to the end, or None.
        diverged_at: the step at which the loss was no number or 1e20 times the first gap, or None.
        point: where it ended.
        length: of its path.
        flips: how many steps change sides of the valley, where the surface is quadratic.

    """

    steps: int
    first: float
    lowest_before: float
    highest_before: float
    lowest: float
    highest: float
    final: float
    first_hit: int | None
    last_exit: int | None
    diverged_at: int | None
    point: Point
    length: float
    flips: int


def measure(problem: Problem, trace: Trajectory) -> Ending:
    """Return everything that is measured of a trajectory."""
    target, _, _ = problem.limits(trace.values[0])
    values = trace.values
    last: int | None = None
    if trace.diverged_at is None:
        last = len(values)
        while last and values[last - 1] <= target:
            last -= 1
        last = last if last < len(values) else None
    late = max(1, (9 * len(values)) // 10)
    before, after = values[:late], values[late:] or values[-1:]
    summary = RunSummary(
        steps=trace.steps,
        first=values[0],
        lowest_before=min(before),
        highest_before=max(before),
        lowest=min(after),
        highest=max(after),
        final=values[-1],
        first_hit=next((step for step, value in enumerate(values) if value <= target), None),
        last_exit=last,
        diverged_at=trace.diverged_at,
        point=trace.point(-1),
        length=0.0 if trace.diverged_at else path_length(trace),
        flips=0 if trace.diverged_at else flips(problem.surface, trace),
    )
    return ending(problem, trace.point(0), summary)


def ending(problem: Problem, start: Point, run: RunSummary) -> Ending:
    """Return what is measured of a run from a start; a run that diverged has no final loss and no shape."""
    surface = problem.surface
    diverged = run.diverged_at is not None
    straight = math.dist(start, run.point)
    has_sides = surface.quadratic is not None and bool(surface.minima)
    return Ending(
        steps=run.steps,
        first_hit=run.first_hit,
        last_exit=run.last_exit,
        final_loss=None if diverged else run.final,
        point=run.point,
        outcome=outcome(problem, run),
        diverged_at=run.diverged_at,
        path_ratio=run.length / straight if straight > 0 and not diverged else None,
        sign_flips=run.flips / run.steps if has_sides and run.steps and not diverged else None,
    )


def outcome(problem: Problem, run: RunSummary) -> RunOutcome:
    """Name the end of a run. The first of these that is true names it.

    - diverged: the loss was no number or 1e20 times the first gap; or it grows, so that every value of the last tenth
      of the steps lies above every value before.
    - converged: the target holds over the last tenth of the steps at least, which are always two values: an orbit that
      jumps over the minimum has the same name whichever step is its last.
    - budget: it still improves, the last tenth brought the lowest gap below 0.999 of what it was.
    - saddle, wrong_minimum: it stopped at a critical point. The values of the last tenth, and Newton's decrement (what
      one step of Newton's method would change; Boyd and Vandenberghe 2004, 9.5), lie within 1% of the point's gap to
      f*, so that its gradient is small; Newton's method finds the point; its Hessian has a negative eigenvalue, or all
      are positive and a lower point is known.
    - floor: it stopped improving above the target elsewhere.
    """
    if run.diverged_at is not None or run.lowest > run.highest_before:
        return "diverged"
    if run.last_exit is not None and 10 * run.last_exit <= 9 * run.steps:
        return "converged"
    if improves(problem.surface, run):
        return "budget"
    # A quadratic's critical points are its minima.
    return (critical_point(problem, run) if problem.surface.quadratic is None else None) or "floor"


def improves(surface: Surface, run: RunSummary) -> bool:
    """Tell whether the lowest value of the last tenth improved on the lowest before it."""
    if surface.minimum is None:
        gained = run.lowest_before - min(run.lowest_before, run.lowest)
        return gained > (1 - STALLED) * (run.first - run.lowest_before)
    return run.lowest - surface.minimum < STALLED * (run.lowest_before - surface.minimum)


def critical_point(problem: Problem, run: RunSummary) -> Literal["saddle", "wrong_minimum"] | None:
    """Name the critical point that a run stands at, by the rules of `outcome`; None where there is none."""
    surface = problem.surface
    reach = NEAR * surface.box_diagonal
    place = run.point
    try:
        slope, step = surface.gradient(*place), surface.newton_direction(place)
        decrement = 0.5 * abs(math.fsum(a * b for a, b in zip(slope, step, strict=True)))
        for _ in range(30):
            place = tuple(part - move for part, move in zip(place, step, strict=True))
            if not math.dist(place, run.point) <= reach:
                return None
            if max(map(abs, step)) <= 1e-12 * max(1.0, *map(abs, place)):
                break
            step = surface.newton_direction(place)
        else:
            return None
        value, hessian = surface.value(*place), surface.hessian(*place)
    except (UsageError, OverflowError, ValueError, ZeroDivisionError):
        return None
    gap = value - surface.minimum if surface.minimum is not None else abs(run.first - value)
    if max(decrement, abs(run.highest - value), abs(run.lowest - value)) > AT_REST * gap:
        return None
    sign = SINGULAR * max(abs(entry) for row in hessian for entry in row)
    if not positive_definite(hessian, sign):
        return "saddle"
    lower = bool(surface.local_minima) if surface.minimum is None else value > problem.limits(run.first)[0]
    return "wrong_minimum" if lower and positive_definite(hessian, -sign) else None


def path_length(trace: Trajectory) -> float:
    """Return the length of a path."""
    length = 0.0
    pairs = [itertools.pairwise(axis) for axis in trace.points]
    for moves in zip(*pairs, strict=True):
        # Summed as the lanes sum it, step after step, so that the same run has the same bytes.
        square = 0.0
        for a, b in moves:
            square += (b - a) * (b - a)
        length += math.sqrt(square)
    return length


def flips(surface: Surface, trace: Trajectory) -> int:
    """Return how many steps change sides of the valley: the sign along the steepest axis flips."""
    if surface.quadratic is None or not surface.minima:
        return 0
    axis, centre = surface.quadratic.steep_axis, surface.minima[0]
    middle = math.fsum(a * c for a, c in zip(axis, centre, strict=True))
    heights = [
        math.fsum(a * x for a, x in zip(axis, place, strict=True)) - middle for place in zip(*trace.points, strict=True)
    ]
    return sum(a * b < 0 for a, b in itertools.pairwise(heights))
