"""The race on real tasks: which runs it takes, in which order they depend on each other, and what they gave."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from mlcv_bench.errors import UsageError
from mlcv_bench.names import label_of
from mlcv_bench.random_streams import HELD_OUT
from mlcv_bench.surface_race.tuning import grid
from mlcv_bench.task_race.jobs import Epoch, Job, Run, Setup
from mlcv_bench.task_race.learners import check_step
from mlcv_bench.task_race.optimizers import TaskOptimizer, find_optimizer
from mlcv_bench.task_race.request import TASK_PROTOCOLS, TaskProtocol, TaskRaceRequest, TuneFor
from mlcv_bench.task_race.tuning import Score, Settings, TaskSweep, score, trials_near_best
from mlcv_bench.tasks import catalog
from mlcv_bench.tasks.datasets import load, steps_per_epoch
from mlcv_bench.tasks.models import batchable, build_model, check_last_batch
from mlcv_bench.tasks.published_files import DataWarning
from mlcv_bench.timing.devices import resolve_device
from mlcv_bench.trials import Outcome, Status

LANES = 24
"""Runs that train as one batched model: fixed, so that no result depends on how many workers there are."""
TUNING_SEEDS = 2
NEWTON_WEIGHTS = 1000
"""Newton's method keeps k^2 numbers and takes k^3 operations a step (notes 1.2): beyond this k it is refused."""


@dataclass(frozen=True)
class TaskResult:
    """What one optimizer reached on one task with one seed under one protocol."""

    setup: Setup
    optimizer: str
    protocol: TaskProtocol
    seed: int
    settings: Settings
    lr: float | None
    status: Status
    reason: str = ""
    run: Run | None = None

    @property
    def outcome(self) -> str:
        """How it ended: converged (met the target), diverged, or budget (spent without a hit); empty if it failed."""
        if self.run is None:
            return ""
        if self.run.diverged_at is not None:
            return "diverged"
        return "converged" if self.run.first_hit is not None else "budget"

    @property
    def test_accuracy(self) -> float | None:
        """The test accuracy at the epoch of the lowest validation loss."""
        return self._chosen.test_accuracy if self._chosen else None

    @property
    def class_accuracy(self) -> dict[str, float] | None:
        """The test accuracy on each class at that epoch."""
        return self._chosen.class_accuracy if self._chosen else None

    @property
    def _chosen(self) -> Epoch | None:
        """The epoch of the lowest validation loss: the test part chooses nothing."""
        scored = [e for e in self.run.epochs if e.val_loss is not None] if self.run else []
        if not scored or self.outcome == "diverged":
            return None
        return min(scored, key=lambda epoch: (epoch.val_loss, epoch.step))


@dataclass(frozen=True)
class TaskProblem:
    """One task with one model, and what every optimizer that races on it shares."""

    setup: Setup
    seeds: tuple[int, ...]
    protocols: tuple[TaskProtocol, ...]
    rates: tuple[float, ...]
    tune_for: TuneFor
    weights: int
    """How many the model has."""
    batchable: bool
    steps_per_epoch: int
    images: str
    """What the images are: classes, counts and shares, in a sentence."""
    majority: tuple[str, float]
    """The largest class and its share: guessing it is no achievement."""
    factory: Callable[..., Any] | None = None
    """What builds the model, where Python gave it itself."""

    @property
    def budget(self) -> int:
        """The steps that every run may take."""
        return self.steps_per_epoch * self.setup.epochs

    @property
    def tuning_seeds(self) -> tuple[int, ...]:
        """Seeds of the tuning alone: no run of the race uses them."""
        return tuple(HELD_OUT + seed for seed in range(self.seeds[0], self.seeds[0] + TUNING_SEEDS))


class Contest:
    """One optimizer on one problem: jobs become ready as the results that they need come in."""

    def __init__(self, problem: TaskProblem, optimizer: TaskOptimizer) -> None:
        """Plan the first jobs; `skipped` says which protocols do not apply, and why."""
        self.problem, self.optimizer = problem, optimizer
        self.results: list[TaskResult] = []
        self.sweep: TaskSweep | None = None
        self.skipped: dict[TaskProtocol, str] = {}
        self.waiting: list[Job] = []
        self.settings = optimizer.settings_without_rate
        self.batched = problem.batchable and optimizer.rule is not None and optimizer.rule.needs == "gradient"
        self._tuning_left = 0
        self._tuning_runs: list[tuple[Settings, Run]] = []
        self._grid: tuple[Score, ...] = ()
        self._failure = ""
        self._job = partial(Job, problem.setup, optimizer.named, model=problem.factory)
        self._result = partial(TaskResult, problem.setup, optimizer.label)
        if "default" in problem.protocols:
            self._race("default", self.settings, optimizer.default_rate)
        if "tuned" in problem.protocols:
            if optimizer.tunable:
                self._tune([(self.settings, problem.rates)])
            else:
                self.skipped["tuned"] = "its learning rate was given" if optimizer.given else "it has no learning rate"

    def take(self, job: Job, outcome: Outcome) -> None:
        """Receive what became of a job; the record of a finished one is a list of runs as plain values."""
        runs = [Run.from_dict(values) for values in outcome.record] if outcome.status == "done" else []
        if job.purpose == "race":
            for position, (rate, seed) in enumerate(job.lanes):
                run = runs[position] if runs else None
                self.results.append(
                    self._result(job.protocol, seed, job.settings, rate, outcome.status, outcome.reason, run)
                )
            return
        self._tuning_left -= 1
        self._tuning_runs += [(job.settings, run) for run in runs]
        if outcome.status != "done":
            self._failure = self._failure or f"a tuning run {outcome.status}: {outcome.reason}"
        if self._tuning_left == 0:
            self._go_on_tuning()

    def _go_on_tuning(self) -> None:
        """Plan what follows a stage of the tuning that is complete: trials near the best rate, then the race."""
        problem = self.problem
        scores, self._tuning_runs = tuple(self._scores()), []
        if self._failure:
            for seed in problem.seeds:
                self.results.append(self._result("tuned", seed, self.settings, None, "failed", self._failure))
        elif not self._grid:
            self._grid = scores
            best = TaskSweep(scores, (), problem.tune_for, problem.budget).best.rate
            self._tune(trials_near_best(self.optimizer, best, problem.rates))
        else:
            self.sweep = TaskSweep(self._grid, scores, problem.tune_for, problem.budget)
            self._race("tuned", self.sweep.best.settings, self.sweep.best.rate)

    def _scores(self) -> Iterator[Score]:
        grouped: dict[tuple[Settings, float], list[Run]] = {}
        for settings, run in self._tuning_runs:
            grouped.setdefault((settings, run.lr or 0.0), []).append(run)
        for (settings, rate), runs in sorted(grouped.items()):
            yield score(rate, settings, sorted(runs, key=lambda run: run.seed), self.problem.budget)

    def _race(self, protocol: TaskProtocol, settings: Settings, rate: float | None) -> None:
        batched = self.batched and rate is not None
        for seeds in chunks(self.problem.seeds, LANES if batched else 1):
            self.waiting.append(self._job(settings, (rate,), seeds, "race", batched, protocol))

    def _tune(self, trials: Sequence[tuple[Settings, tuple[float, ...]]]) -> None:
        seeds = self.problem.tuning_seeds
        rates_at_once, seeds_at_once = (LANES // len(seeds), len(seeds)) if self.batched else (1, 1)
        for settings, rates in trials:
            for part in chunks(rates, rates_at_once):
                for own in chunks(seeds, seeds_at_once):
                    self.waiting.append(self._job(settings, part, own, "tuning", self.batched, "tuned"))
                    self._tuning_left += 1

    @property
    def expected(self) -> int:
        """How many runs the whole contest takes, tuning included."""
        tuned = "tuned" in self.problem.protocols and self.optimizer.tunable
        total = len(self.problem.seeds) * (("default" in self.problem.protocols) + tuned)
        if tuned:
            near_best = sum(len(rates) for _, rates in trials_near_best(self.optimizer, 1.0, self.problem.rates))
            total += (len(self.problem.rates) + near_best) * TUNING_SEEDS
        return total


def chunks(values: Sequence[Any], size: int) -> Iterator[tuple[Any, ...]]:
    """Cut values into tuples of at most `size`."""
    for begin in range(0, len(values), size):
        yield tuple(values[begin : begin + size])


@dataclass
class TaskRace:
    """A race on one or several tasks and models: hands out jobs, takes in what they gave."""

    problems: tuple[TaskProblem, ...]
    contests: tuple[Contest, ...]
    refused: tuple[TaskResult, ...] = ()
    warnings: list[str] = field(default_factory=list)
    interrupted: bool = False
    _contest_of: dict[str, Contest] = field(default_factory=dict, repr=False)

    def ready(self) -> list[Job]:
        """Return the jobs that can run now and were not handed out yet."""
        found: list[Job] = []
        for contest in self.contests:
            self._contest_of |= {job.key: contest for job in contest.waiting}
            found += contest.waiting
            contest.waiting.clear()
        # Long jobs first, so that no worker is left alone with one at the end.
        return sorted(found, key=lambda job: -len(job.lanes))

    def take(self, job: Job, outcome: Outcome) -> None:
        """Receive what became of a job."""
        self._contest_of[job.key].take(job, outcome)

    @property
    def expected(self) -> int:
        """How many runs the whole race takes."""
        return sum(contest.expected for contest in self.contests)

    @property
    def results(self) -> list[TaskResult]:
        """Every result so far, in an order that does not depend on which came first."""
        found: list[TaskResult] = []
        for contest in self.contests:
            found += sorted(contest.results, key=lambda own: (TASK_PROTOCOLS.index(own.protocol), own.seed))
        return [*found, *self.refused]


def prepare(request: TaskRaceRequest) -> TaskRace:
    """Check a request, load its images and models, and plan its race; nothing is trained yet.

    Raises:
        UsageError: something in the request is wrong; the message says what would be right.

    """
    request.check()
    optimizers = [find_optimizer(text) for text in request.optimizers]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DataWarning)
        problems = tuple(_open(request, task, model, optimizers) for task in request.tasks for model in request.models)
    other = [str(warning.message) for warning in caught if issubclass(warning.category, DataWarning)]
    without_rate = [own.label for own in optimizers if own.rule is not None and own.default_rate is None]
    other += request.rate_schedule.remarks(without_rate)
    contests: list[Contest] = []
    refused: list[TaskResult] = []
    for problem in problems:
        for optimizer in optimizers:
            if reason := newton_refusal(optimizer, problem.setup.model, problem.weights):
                protocol = problem.protocols[0]
                refused.append(
                    TaskResult(problem.setup, optimizer.label, protocol, request.seed, (), None, "skipped", reason)
                )
            else:
                contests.append(Contest(problem, optimizer))
    return TaskRace(problems, tuple(contests), tuple(refused), other)


def newton_refusal(optimizer: TaskOptimizer, model: str, weights: int) -> str:
    """Return why Newton's method does not race with a model of so many weights; empty where it does."""
    if optimizer.rule is None or optimizer.rule.needs != "hessian":
        return ""
    if weights > NEWTON_WEIGHTS:
        size = 4 * weights**2
        return (
            f"Newton's method needs the {weights} x {weights} Hessian ({size / 1e6:,.0f} MB) and its solution in "
            f"O(k^3) at every step; race it with --model logistic on a small task"
        )
    if model != "logistic":
        return "Newton's method needs a convex loss, else it is drawn to saddles; race it with --model logistic"
    return ""


def _open(
    request: TaskRaceRequest, name: str, named: str | Callable[..., Any], optimizers: Sequence[TaskOptimizer]
) -> TaskProblem:
    """Load the images of one task, and see that the model and the optimizers train on them.

    Raises:
        UsageError: there are fewer images than a batch has, the model does not take the last batch of an epoch, or an
            optimizer of a third party cannot take a step; or there is no such device.

    """
    task, size, model = catalog.find(name), request.batch_size, label_of(named)
    data = str(request.data.resolve()) if request.data is not None and task.needs_data else None
    images = load(name, data, request.image_size)
    network = build_model(named, images.input, images.classes, request.seed, request.settings)
    if size > images.training:
        raise UsageError(f"--batch-size {size} is more than the {images.training} training images of {name}")
    last = size if request.drop_last else images.training % size or size
    device = resolve_device(request.device)
    images, network = images.on(device), network.to(device)
    check_last_batch(network, model, images.images[:last], size)
    weights = sum(parameter.numel() for parameter in network.parameters())
    for optimizer in optimizers:
        own = optimizer.rule is not None and optimizer.rule.built_in
        if not own and not newton_refusal(optimizer, model, weights):
            fresh = build_model(named, images.input, images.classes, request.seed, request.settings)
            check_step(optimizer, fresh.to(device), images.images[:last], images.labels[:last])
    setup = Setup(
        task=name,
        model=model,
        batch_size=size,
        epochs=request.epochs or task.epochs,
        target=request.target or task.target,
        schedule=request.schedule,
        warm_up=request.warm_up,
        clip_norm=request.clip_norm,
        data=data,
        image_size=request.image_size,
        fingerprint=images.fingerprint,
        settings=request.settings,
        drop_last=request.drop_last,
        device=None if device == "cpu" else device,
    )
    per_epoch = steps_per_epoch(images.training, size, drop_last=request.drop_last)
    setup.rate_schedule.check(setup.epochs * per_epoch)
    return TaskProblem(
        setup,
        seeds=tuple(range(request.seed, request.seed + request.seeds)),
        protocols=tuple(protocol for protocol in TASK_PROTOCOLS if protocol in request.protocols),
        rates=grid(request.rates),
        tune_for=request.tune_for,
        weights=weights,
        batchable=batchable(network),
        steps_per_epoch=per_epoch,
        images=images.summary,
        majority=images.majority,
        factory=None if isinstance(named, str) else named,
    )
