"""The race on real tasks: which runs it takes, in which order they depend on each other, and what they gave."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from mlcv_bench.errors import UsageError
from mlcv_bench.random_streams import HELD_OUT
from mlcv_bench.surface_race.tuning import GRID_SIZE
from mlcv_bench.task_race.entrants import FIRST_ORDER, TaskEntrant, find_entrants
from mlcv_bench.task_race.jobs import Job, Purpose, Run, Setup
from mlcv_bench.task_race.request import TASK_PROTOCOLS, TaskProtocol, check_data_of, check_request
from mlcv_bench.task_race.schedules import Schedule
from mlcv_bench.task_race.tuning import Score, Settings, TaskSweep, TuneFor, rates_of, score, trials_beside
from mlcv_bench.tasks import catalog
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
        """The test accuracy at the epoch of the lowest validation loss: the test part chooses nothing."""
        scored = [e for e in self.run.epochs if e.val_loss is not None] if self.run else []
        if not scored or self.outcome == "diverged":
            return None
        return min(scored, key=lambda epoch: (epoch.val_loss, epoch.step)).test_accuracy


@dataclass(frozen=True)
class Plan:
    """What is common to every optimizer of a race on one task with one model."""

    setup: Setup
    seeds: tuple[int, ...]
    protocols: tuple[TaskProtocol, ...]
    rates: tuple[float, ...]
    tune_for: TuneFor
    batchable: bool
    steps_per_epoch: int
    images: str
    """What the images are: classes, counts and shares, in a sentence."""

    @property
    def budget(self) -> int:
        """The steps that every run may take."""
        return self.steps_per_epoch * self.setup.epochs

    @property
    def tuning_seeds(self) -> tuple[int, ...]:
        """Seeds of the tuning alone: no run of the race uses them."""
        return tuple(HELD_OUT + seed for seed in range(self.seeds[0], self.seeds[0] + TUNING_SEEDS))


class Contest:
    """One optimizer on one task with one model: jobs become ready as the results that they need come in."""

    def __init__(self, plan: Plan, entrant: TaskEntrant) -> None:
        """Plan the first jobs; `skipped` says which protocols do not apply, and why."""
        self.plan, self.entrant = plan, entrant
        self.results: list[TaskResult] = []
        self.sweep: TaskSweep | None = None
        self.skipped: dict[TaskProtocol, str] = {}
        self.waiting: list[Job] = []
        self._stage: dict[Job, tuple[str, TaskProtocol]] = {}
        self._open: dict[str, int] = {}
        self._runs: dict[str, list[tuple[Settings, Run]]] = {"grid": [], "beside": []}
        self._failure = ""
        self.settings: Settings = tuple((name, value) for name, value in entrant.settings.items() if name != "lr")
        self.batched = plan.batchable and entrant.rule is not None and entrant.rule.needs == "gradient"
        if "default" in plan.protocols:
            self._race("default", self.settings, entrant.default_rate)
        if "tuned" in plan.protocols:
            if entrant.tunable:
                self._plan("grid", "tuned", [(self.settings, plan.rates)])
            else:
                self.skipped["tuned"] = "its learning rate was given" if entrant.given else "it has no learning rate"

    def take(self, job: Job, outcome: Outcome) -> None:
        """Receive what became of a job; the record of a finished one is a list of runs as plain values."""
        stage, protocol = self._stage[job]
        runs = [Run.from_dict(values) for values in outcome.record] if outcome.status == "done" else []
        self._open[stage] -= 1
        if stage in self._runs:
            self._runs[stage] += [(job.settings, run) for run in runs]
            if outcome.status != "done":
                self._failure = self._failure or f"a tuning run {outcome.status}: {outcome.reason}"
            if self._open[stage] == 0:
                self._after(stage)
            return
        for position, (rate, seed) in enumerate(job.lanes):
            run = runs[position] if runs else None
            self.results.append(
                TaskResult(
                    self.plan.setup, self.entrant.label, protocol, seed, job.settings, rate,
                    outcome.status, outcome.reason, run,
                )
            )  # fmt: skip

    def _after(self, stage: str) -> None:
        """Go on to the next stage of the tuning."""
        if self._failure:
            for seed in self.plan.seeds:
                self.results.append(
                    TaskResult(
                        self.plan.setup, self.entrant.label, "tuned", seed, self.settings, None, "failed", self._failure
                    )
                )
            return
        if stage == "grid":
            first = TaskSweep(tuple(self._scores("grid")), (), self.plan.tune_for, self.plan.budget)
            best = first.grid[first.best_of_grid].rate
            self._plan("beside", "tuned", trials_beside(self.entrant, best, self.plan.rates))
            return
        self.sweep = TaskSweep(
            tuple(self._scores("grid")), tuple(self._scores("beside")), self.plan.tune_for, self.plan.budget
        )
        self._race("tuned", self.sweep.best.settings, self.sweep.best.rate)

    def _scores(self, stage: str) -> Iterator[Score]:
        grouped: dict[tuple[Settings, float], list[Run]] = {}
        for settings, run in self._runs[stage]:
            grouped.setdefault((settings, run.lr or 0.0), []).append(run)
        for (settings, rate), runs in sorted(grouped.items()):
            yield score(rate, settings, sorted(runs, key=lambda run: run.seed), self.plan.budget)

    def _race(self, protocol: TaskProtocol, settings: Settings, rate: float | None) -> None:
        batched = self.batched and rate is not None
        for seeds in chunks(self.plan.seeds, LANES if batched else 1):
            self._add(
                "race", protocol, Job(self.plan.setup, self.entrant.label, settings, (rate,), seeds, "race", batched)
            )

    def _plan(self, stage: str, protocol: TaskProtocol, trials: Sequence[tuple[Settings, tuple[float, ...]]]) -> None:
        seeds = self.plan.tuning_seeds
        purpose: Purpose = "tuning"
        for settings, rates in trials:
            if self.batched:
                for part in chunks(rates, LANES // len(seeds)):
                    self._add(stage, protocol, self._job(settings, part, seeds, purpose))
            else:
                for rate in rates:
                    for seed in seeds:
                        self._add(stage, protocol, self._job(settings, (rate,), (seed,), purpose))

    def _job(self, settings: Settings, rates: tuple[float, ...], seeds: tuple[int, ...], purpose: Purpose) -> Job:
        return Job(self.plan.setup, self.entrant.label, settings, rates, seeds, purpose, self.batched)

    def _add(self, stage: str, protocol: TaskProtocol, job: Job) -> None:
        name = f"{stage} {protocol}" if stage == "race" else stage
        self._stage[job] = (name, protocol)
        self._open[name] = self._open.get(name, 0) + 1
        self.waiting.append(job)

    @property
    def expected(self) -> int:
        """How many runs the whole contest takes, tuning included."""
        seeds = len(self.plan.seeds)
        tuned = "tuned" in self.plan.protocols and self.entrant.tunable
        total = seeds * (("default" in self.plan.protocols) + tuned)
        if tuned:
            beside = sum(len(rates) for _, rates in trials_beside(self.entrant, 1.0, self.plan.rates))
            total += (len(self.plan.rates) + beside) * TUNING_SEEDS
        return total


def chunks(values: Sequence[Any], size: int) -> Iterator[tuple[Any, ...]]:
    """Cut values into tuples of at most `size`."""
    for begin in range(0, len(values), size):
        yield tuple(values[begin : begin + size])


@dataclass
class TaskRace:
    """A race on one or several tasks and models: hands out jobs, takes in what they gave."""

    plans: tuple[Plan, ...]
    contests: tuple[Contest, ...]
    refused: tuple[TaskResult, ...] = ()
    warnings: list[str] = field(default_factory=list)
    interrupted: bool = False
    _owner: dict[str, Contest] = field(default_factory=dict, repr=False)

    def ready(self) -> list[Job]:
        """Return the jobs that can run now and were not handed out yet."""
        found: list[Job] = []
        for contest in self.contests:
            for job in contest.waiting:
                self._owner[job.key] = contest
                found.append(job)
            contest.waiting.clear()
        # Long jobs first, so that no worker is left alone with one at the end.
        return sorted(found, key=lambda job: -len(job.lanes))

    def take(self, job: Job, outcome: Outcome) -> None:
        """Receive what became of a job."""
        self._owner[job.key].take(job, outcome)

    @property
    def expected(self) -> int:
        """How many runs the whole race takes."""
        return sum(contest.expected for contest in self.contests)

    @property
    def results(self) -> list[TaskResult]:
        """Every result so far, in an order that does not depend on which came first."""
        order = {protocol: number for number, protocol in enumerate(TASK_PROTOCOLS)}
        found = [
            result
            for contest in self.contests
            for result in sorted(contest.results, key=lambda result: (order[result.protocol], result.seed))
        ]
        return [*found, *self.refused]


def prepare(  # noqa: PLR0913 - the public function takes what the command takes
    tasks: Sequence[str] = ("digits",),
    optimizers: Sequence[str] = FIRST_ORDER,
    *,
    models: Sequence[str] = ("mlp",),
    data: str | None = None,
    batch_size: int = 32,
    epochs: int | None = None,
    seed: int = 0,
    seeds: int = 3,
    target: float | None = None,
    schedule: Schedule = "constant",
    protocols: Sequence[str] = TASK_PROTOCOLS,
    rates: int = GRID_SIZE,
    tune_for: TuneFor = "steps",
    image_size: int = 32,
) -> TaskRace:
    """Check a whole request and plan its race; nothing is trained yet.

    Args:
        tasks: names of `mlcv-bench list tasks`.
        optimizers: rules with settings, or specifications; a rate set here is kept, and not tuned.
        models: logistic, mlp, cnn, a network of the catalogue for small images, or a specification.
        data: folder (or archive) with the files of the one task that needs any.
        batch_size: the notes' B.
        epochs: for every run; the task's own by default.
        seed: the first of `seeds` consecutive ones.
        seeds: each varies first weights, order of the data and the validation part together.
        target: validation accuracy to be met; the task's own by default.
        schedule: of the learning rate: constant, cosine or step.
        protocols: `default` settings, `tuned` at equal budgets.
        rates: size of the grid of rates, 1e-5 to 1e2.
        tune_for: what tuning minimises: the steps to the target, or the validation loss.
        image_size: height and width that a folder's images are brought to.

    Raises:
        UsageError: something in the request is wrong; the message says what would be right.

    """
    check_request(
        tasks,
        models=models,
        batch_size=batch_size,
        epochs=epochs,
        seeds=seeds,
        target=target,
        schedule=schedule,
        protocols=protocols,
        rates=rates,
        image_size=image_size,
    )
    entrants = find_entrants(optimizers)
    for model in models:
        catalog.check_model(model)
    check_data_of(tasks, data)
    needing = [task for task in tasks if catalog.find(task).needs_data]
    plans: list[Plan] = []
    contests: list[Contest] = []
    refused: list[TaskResult] = []
    for name in tasks:
        for model in models:
            plan, weights = _plan(
                name,
                model,
                Setup(
                    task=name,
                    model=model,
                    batch_size=batch_size,
                    epochs=epochs or catalog.find(name).epochs,
                    target=target or catalog.find(name).target,
                    schedule=schedule,
                    data=data if name in needing else None,
                    image_size=image_size,
                ),
                tuple(range(seed, seed + seeds)),
                tuple(protocol for protocol in TASK_PROTOCOLS if protocol in protocols),
                rates_of(rates),
                tune_for,
                entrants,
            )
            plans.append(plan)
            for entrant in entrants:
                reason = newton_refusal(entrant, model, weights)
                if reason:
                    refused.append(
                        TaskResult(plan.setup, entrant.label, plan.protocols[0], seed, (), None, "skipped", reason)
                    )
                else:
                    contests.append(Contest(plan, entrant))
    return TaskRace(tuple(plans), tuple(contests), tuple(refused))


def newton_refusal(entrant: TaskEntrant, model: str, weights: int) -> str:
    """Return why Newton's method does not race with this model; empty where it does."""
    if entrant.rule is None or entrant.rule.needs != "hessian":
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


def _plan(
    name: str,
    model: str,
    setup: Setup,
    seeds: tuple[int, ...],
    protocols: tuple[TaskProtocol, ...],
    rates: tuple[float, ...],
    tune_for: TuneFor,
    entrants: Sequence[TaskEntrant],
) -> tuple[Plan, int]:
    """Load the images, see that model and optimizers train on them; returns the count of weights too.

    Raises:
        UsageError: there are fewer images than a batch has, the model does not take the last batch of an epoch, or an
            optimizer of a third party cannot take a step.

    """
    import dataclasses  # noqa: PLC0415 - used here alone

    from mlcv_bench.task_race.separate import check_step  # noqa: PLC0415 - imports torch
    from mlcv_bench.tasks.batches import steps_per_epoch  # noqa: PLC0415 - imports torch
    from mlcv_bench.tasks.datasets import load  # noqa: PLC0415 - imports torch
    from mlcv_bench.tasks.models import batchable, build_model, check_last_batch  # noqa: PLC0415 - imports torch

    images = load(name, setup.data, setup.image_size)
    network = build_model(model, images.input, images.classes, seeds[0])
    if setup.batch_size > images.training:
        raise UsageError(
            f"--batch-size {setup.batch_size} is more than the {images.training} training images of {name}"
        )
    last = images.training % setup.batch_size or setup.batch_size
    check_last_batch(network, model, images.images[:last])
    for entrant in entrants:
        if entrant.rule is None:
            fresh = build_model(model, images.input, images.classes, seeds[0])
            check_step(entrant, fresh, images.images[:last], images.labels[:last])
    plan = Plan(
        dataclasses.replace(setup, fingerprint=images.fingerprint),
        seeds,
        protocols,
        rates,
        tune_for,
        batchable(network),
        steps_per_epoch(images.training, setup.batch_size),
        images.summary,
    )
    return plan, sum(parameter.numel() for parameter in network.parameters())
