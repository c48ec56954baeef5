"""The study: train with every optimizer, keep the paths, and take the loss on planes through the trained weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from mlcv_bench.errors import UsageError
from mlcv_bench.landscapes.directions import Span, filter_normalised, place_on, principal
from mlcv_bench.landscapes.heights import LossOnImages, Numbers, States
from mlcv_bench.landscapes.request import LandscapeRequest
from mlcv_bench.names import label_of
from mlcv_bench.records import counted
from mlcv_bench.task_race.learners import Learner, state_of
from mlcv_bench.task_race.race import TaskProblem, TaskRace, TaskResult, prepare
from mlcv_bench.task_race.training import run_job
from mlcv_bench.tasks.datasets import generator, load
from mlcv_bench.tasks.models import build_model
from mlcv_bench.trials import Outcome, outcome_after

Show = Callable[[str], object]

SHOWN = 15
"""Stream of a seed that chooses the images whose loss is shown."""
MOST_BYTES = 2 << 30
"""Of the points of all paths together."""
POINTS = 100
"""Points of a path, evenly spaced, that principal directions are found from; Li et al. take one an epoch.

Of a path of a model that is slow to evaluate there are no more.
"""
LEAST = 3
"""Points that span a plane."""
MARGIN = 0.15
"""Share of the paths' reach that a plane along principal directions shows beyond them."""
NARROWEST = 0.5
"""Share of a plane's longer side that the shorter one has at least."""


@dataclass(frozen=True)
class OptimizerPath:
    """Where an optimizer stood at some steps: its states, (n, K + S) as `state_of` has them, and the loss at each.

    A path that diverged ends before that. A loss is NaN where the study was interrupted before it.
    """

    result: TaskResult
    steps: tuple[int, ...]
    states: npt.NDArray[np.float32] = field(repr=False)
    losses: Numbers = field(repr=False)

    @property
    def diverged(self) -> bool:
        """Whether it ended in no place."""
        return self.result.outcome == "diverged"


@dataclass(frozen=True)
class PathOnPlane:
    """A path seen from above: coordinates, (n, 2), and each point's distances from the plane and from the centre."""

    path: OptimizerPath
    places: Numbers
    distances: Numbers
    from_centre: Numbers

    @property
    def kept(self) -> float:
        """The share of the path's squared distances from the centre that lies in the plane."""
        total = float((self.from_centre**2).sum())
        return 1.0 - float((self.distances**2).sum()) / total if total else 1.0


@dataclass(frozen=True)
class Plane:
    """The loss on a plane: at `losses[i, j]` that of centre + a[j] first direction + b[i] second direction.

    `directions` says of which kind they are; `variance` is the share of the paths' variance along each principal one.
    """

    directions: str
    variance: tuple[float, float] | None
    a: Numbers
    b: Numbers
    losses: Numbers
    paths: tuple[PathOnPlane, ...]

    @property
    def names(self) -> tuple[str, str]:
        """What its two directions are called."""
        return f"{self.directions} 1", f"{self.directions} 2"


@dataclass(frozen=True)
class Landscape:
    """What is seen of the loss of one model on one task.

    Attributes:
        request: what was asked.
        problem: the task and the model, and what all optimizers share.
        results: what became of every optimizer, those without a path too.
        paths: of those that trained.
        centre: the optimizer at whose end all planes have their origin: the one of the lowest loss there.
        images: how many training images the mean loss is taken on.
        training: how many there are.
        planes: one for each kind of directions.
        statistics: how many numbers the model keeps beside its weights, as batch norm does.
        together: copies of the model that were evaluated as one.
        warnings: of the race.
        interrupted: whether it was stopped before its end.

    """

    request: LandscapeRequest
    problem: TaskProblem
    results: tuple[TaskResult, ...]
    paths: tuple[OptimizerPath, ...]
    centre: str
    images: int
    training: int
    planes: tuple[Plane, ...]
    statistics: int
    together: int
    warnings: tuple[str, ...] = ()
    interrupted: bool = False


def landscape(request: LandscapeRequest, show: Show = lambda _: None) -> Landscape:
    """Train with every optimizer, and take the loss on planes through the best one's end; `show` is told how far it is.

    Raises:
        UsageError: something in the request is wrong; the message says what would be right.

    """
    race = prepare(request)
    return _Running(request, race, show).found()


class _Recorder:
    """Keeps the states that a learner has as it trains."""

    def __init__(self, every: int, last: int, words: str, show: Show) -> None:
        """Keep every so many steps and the last one; `words` say where the number of a step stands."""
        self._every, self._last, self._words, self._show = every, last, words, show
        self.steps: list[int] = []
        self.states: list[npt.NDArray[np.float32]] = []

    def __call__(self, step: int, learner: Learner) -> None:
        """Take a look after a step."""
        self._show(self._words.format(step))
        if step % self._every == 0 or step == self._last:
            self.steps.append(step)
            self.states.append(learner.states()[0].float().cpu().numpy().copy())

    def path(self, result: TaskResult) -> tuple[tuple[int, ...], npt.NDArray[np.float32]]:
        """Return the steps and states up to where it diverged."""
        states = np.stack(self.states)
        end = result.run.diverged_at if result.run is not None else None
        kept = [
            place
            for place, step in enumerate(self.steps)
            if (end is None or step < end) and bool(np.isfinite(states[place]).all())
        ]
        return tuple(self.steps[place] for place in kept), states[kept]


class _Running:
    """A landscape while it is made: what is finished stays when it is stopped."""

    def __init__(self, request: LandscapeRequest, race: TaskRace, show: Show) -> None:
        self.request, self.race, self.show = request, race, show
        (self.problem,) = race.problems
        setup = self.problem.setup
        data = load(setup.task, setup.data, setup.image_size).on(setup.device or "cpu")
        images, _ = data.split(request.seed)
        self.training = len(images)
        order = torch.randperm(self.training, generator=generator(request.seed, SHOWN))
        self.chosen = images[order[: request.images].sort().values]
        named = self.problem.factory or setup.model
        model = build_model(named, data.input, data.classes, request.seed, setup.settings).to(setup.device or "cpu")
        self.shapes = [parameter.shape for parameter in model.parameters()]
        self.loss = LossOnImages(
            model, data.images[self.chosen], data.labels[self.chosen], batched=self.problem.batchable
        )
        self.size = len(state_of(model))
        self.interrupted = False
        self.warnings = list(race.warnings)
        self.every = request.every or (1 if self.problem.batchable else math.ceil(self.problem.budget / POINTS))
        points = self.problem.budget // self.every + 2
        needed = 4 * self.size * points * len(race.contests)
        if needed > MOST_BYTES:
            raise UsageError(
                f"{points} points of {self.size} numbers on each of {counted(len(race.contests), 'path')} take "
                f"{needed / 2**30:.1f} GiB; add --every {self.every * (1 + needed // MOST_BYTES)}"
            )

    def found(self) -> Landscape:
        """Do everything, or as much as there is time for."""
        recorders = self._train()
        paths: list[OptimizerPath] = []
        for result in self.race.results:
            if result.run is not None:
                steps, states = recorders[result.optimizer].path(result)
                paths.append(OptimizerPath(result, steps, states, np.full(len(steps), np.nan)))
        arrived = [path for path in paths if path.steps and not path.diverged]
        for path in arrived:
            path.losses[-1:] = self._losses(path.states[-1:].__getitem__, 1)
        planes: list[Plane] = []
        best = min(arrived, key=lambda path: path.losses[-1], default=None)
        if best is not None:
            for directions in dict.fromkeys(self.request.directions):
                span = self._span(directions, best, arrived)
                if span is not None:
                    planes.append(self._plane(directions, span, best, paths))
        for path in paths:
            rest = len(path.steps) - (path in arrived)
            words = f"loss along the path of {path.result.optimizer}"
            path.losses[:rest] = self._losses(path.states.__getitem__, rest, words)
        return Landscape(
            request=self.request,
            problem=self.problem,
            results=tuple(self.race.results),
            paths=tuple(paths),
            centre="" if best is None else best.result.optimizer,
            images=len(self.chosen),
            training=self.training,
            planes=tuple(planes),
            statistics=self.size - self.problem.weights,
            together=self.loss.together,
            warnings=tuple(self.warnings),
            interrupted=self.interrupted,
        )

    def _train(self) -> dict[str, _Recorder]:
        """Train with one optimizer after the other; return what was kept of those that came to their end."""
        jobs, budget = self.race.ready(), self.problem.budget
        recorders: dict[str, _Recorder] = {}
        for number, job in enumerate(jobs, start=1):
            label = label_of(job.optimizer)
            words = f"training, optimizer {number} of {len(jobs)}: {label}, step {{}} of {budget}"
            recorder = _Recorder(self.every, budget, words, self.show)
            try:
                outcome = Outcome("done", [run.as_dict() for run in run_job(job, recorder)])
            except KeyboardInterrupt:
                self.interrupted = True
                break
            except Exception as error:  # noqa: BLE001 - one failing optimizer must not cost the others
                outcome = outcome_after(error)
            self.race.take(job, outcome)
            recorders[label] = recorder
        return recorders

    def _span(self, directions: str, best: OptimizerPath, arrived: Sequence[OptimizerPath]) -> Span | None:
        """Return what spans a plane; None, with a warning, where the paths have no two directions."""
        weights = self.problem.weights
        if directions == "random":
            parts = torch.split(
                torch.from_numpy(best.states[-1, :weights]), [math.prod(shape) for shape in self.shapes]
            )
            return filter_normalised(
                [part.view(shape) for part, shape in zip(parts, self.shapes, strict=True)], self.request.seed
            )
        points = np.concatenate([thinned(path.states[:, :weights]) for path in arrived])
        if len(np.unique(points, axis=0)) < LEAST:
            self.warnings.append(f"there is no plane of principal directions: the paths have fewer than {LEAST} points")
            return None
        return principal(points)

    def _plane(self, directions: str, span: Span, best: OptimizerPath, paths: Sequence[OptimizerPath]) -> Plane:
        """Return the loss on a plane through the end of the best path, and all paths seen from above."""
        weights = self.problem.weights
        centre = best.states[-1]
        seen = []
        for path in paths:
            places, apart, away = place_on(span, centre[:weights].astype(np.float64), path.states[:, :weights])
            seen.append(PathOnPlane(path, places, apart, away))
        sides = self._sides(directions, [own.places for own in seen if not own.path.diverged])
        a, b = (np.linspace(low, high, self.request.resolution) for low, high in sides)
        grid = np.stack([axis.ravel() for axis in np.meshgrid(a, b)], axis=1)

        def states(part: slice) -> npt.NDArray[np.float32]:
            found = np.repeat(centre[None], len(grid[part]), axis=0)
            found[:, :weights] += (grid[part] @ span.vectors).astype(np.float32)  # statistics stay the centre's
            return found

        losses = self._losses(states, len(grid), f"loss on the plane of {directions} directions")
        return Plane(directions, span.variance, a, b, losses.reshape(b.size, a.size), tuple(seen))

    def _sides(self, directions: str, places: Sequence[Numbers]) -> list[tuple[float, float]]:
        """Return the interval of each coordinate that is shown."""
        extent = self.request.extent
        if extent is None and directions == "random":
            extent = 1.0
        if extent is not None:
            return [(-extent, extent)] * 2
        points = np.concatenate([*places, np.zeros((1, 2))])
        low, high = points.min(axis=0), points.max(axis=0)
        reach = float((high - low).max()) or 1.0
        half = np.maximum((high - low) * (1 + 2 * MARGIN), NARROWEST * (1 + 2 * MARGIN) * reach) / 2
        middle = (low + high) / 2
        return [(float(m - h), float(m + h)) for m, h in zip(middle, half, strict=True)]

    def _losses(self, states: States, count: int, words: str = "loss at the end") -> Numbers:
        """Return the losses of so many states, NaN from where the study was interrupted."""
        losses = np.full(count, np.nan)
        if self.interrupted and count > 1:
            return losses
        try:
            for part, found in self.loss.parts(states, count):
                losses[part] = found
                self.show(f"{words}: {part.stop} of {counted(count, 'point')}")
        except KeyboardInterrupt:
            self.interrupted = True
        return losses


def thinned(states: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return at most `POINTS` of a path's points, evenly spaced, the first and the last among them."""
    places = np.linspace(0, len(states) - 1, min(len(states), POINTS)).round().astype(np.int64)
    return states[places]
