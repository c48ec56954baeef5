"""What a worker is handed and what it hands back, plain values, the same on every machine; and how many are done."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from mlcv_bench.names import label_of
from mlcv_bench.optimizers.schedule import Schedule, ScheduleName
from mlcv_bench.task_race.request import TaskProtocol

Purpose = Literal["tuning", "race"]


@dataclass(frozen=True, slots=True)
class Setup:
    """What all optimizers share on one task with one model: the fields decide every result."""

    task: str
    model: str
    batch_size: int
    epochs: int
    target: float
    schedule: ScheduleName = "constant"
    warm_up: int = 0
    clip_norm: float | None = None
    data: str | None = None
    image_size: int = 32
    fingerprint: str = ""
    checks: int = 4
    """How often an epoch is validated: steps to the target are known to U / checks."""
    settings: tuple[tuple[str, str], ...] = ()
    """Texts for the model's builder, as `--set` gives them."""
    drop_last: bool = False
    """Whether an epoch leaves out a last batch that is smaller than the others."""
    device: str | None = None
    """Where it is trained, where that is not the processor: another one gives other roundings."""

    @property
    def rate_schedule(self) -> Schedule:
        """How the rate moves."""
        return Schedule(self.schedule, self.warm_up)

    @property
    def label(self) -> str:
        """The model with its settings."""
        return " ".join((self.model, *(f"{key}={text}" for key, text in self.settings)))


@dataclass(frozen=True, slots=True)
class Job:
    """Runs that one worker trains at once: every rate under every seed, all with the same other settings.

    `seeds` are streams of randomness: those of the tuning are others than those of the race. The protocol, for which a
    job is run, decides nothing of its result.
    """

    setup: Setup
    optimizer: str | Callable[..., Any]
    settings: tuple[tuple[str, Any], ...]
    rates: tuple[float | None, ...]
    seeds: tuple[int, ...]
    purpose: Purpose
    batched: bool
    protocol: TaskProtocol = field(default="default", compare=False)
    model: Callable[..., Any] | None = None
    """What builds the model, where Python gave it itself."""

    @property
    def lanes(self) -> tuple[tuple[float | None, int], ...]:
        """The rate and the seed of each run, in the order of the results."""
        return tuple((rate, seed) for rate in self.rates for seed in self.seeds)

    @property
    def key(self) -> str:
        """What a store knows this job by: the digest of every field that decides its result."""
        deciding = {name: value for name, value in asdict(self).items() if name not in {"protocol", "model"}}
        for later in ("settings", "drop_last", "warm_up", "clip_norm", "device"):
            if not getattr(self.setup, later):
                del deciding["setup"][later]  # as it was before there were any
        return hashlib.sha256(json.dumps(deciding, sort_keys=True, default=label_of).encode()).hexdigest()[:24]


@dataclass(frozen=True, slots=True)
class Epoch:
    """One epoch of one run, measured at its end; the loss and accuracy of training are means over its steps.

    All are None where the run diverged before.
    """

    step: int
    train_loss: float | None = None
    train_accuracy: float | None = None
    val_loss: float | None = None
    val_accuracy: float | None = None
    test_accuracy: float | None = None
    gradient_norm: float | None = None
    update_norm: float | None = None
    class_accuracy: dict[str, float] | None = None
    """The test accuracy on the images of each class alone, by the class's name."""


@dataclass(frozen=True, slots=True)
class Run:
    """What training once gave.

    Attributes:
        lr: the learning rate; None for an optimizer without one.
        seed: the stream of randomness.
        first_hit: the first step at which the validation accuracy met the target.
        held_from: the step from which it met it to the end.
        best_loss: the lowest validation loss; None if there was none.
        loss_area: the mean training loss over all steps; None if the run diverged.
        diverged_at: the step whose loss was NaN or beyond 1e6.
        epochs: one by one; empty for a tuning run.
        losses: of every step, likewise `accuracies`, `gradient_norms`, `update_norms`.
        evaluations: how often loss and gradient were computed; as many as steps, but for optimizers with a closure.

    """

    lr: float | None
    seed: int
    first_hit: int | None
    held_from: int | None
    best_loss: float | None
    loss_area: float | None
    diverged_at: int | None
    epochs: tuple[Epoch, ...] = ()
    losses: tuple[float, ...] = ()
    accuracies: tuple[float, ...] = ()
    gradient_norms: tuple[float, ...] = ()
    update_norms: tuple[float, ...] = ()
    evaluations: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return the run as plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Run:
        """Read what `as_dict` wrote."""
        whole: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
        }
        return cls(**{**whole, "epochs": tuple(Epoch(**epoch) for epoch in values["epochs"])})


class RunCounter:
    """Counts training runs and words the count; a watcher of the driver."""

    def __init__(
        self, expected: int, show: Callable[[str, int], object], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Expect so many runs in all; `show` takes the line and the runs that are finished."""
        self._show, self._clock = show, clock
        self._begin = clock()
        self.expected, self.done, self.failed, self.running, self.remembered = expected, 0, 0, 0, 0

    def began(self, job: Job) -> None:
        """Count a job's runs as running."""
        self.running += len(job.lanes)
        self._show(self.text(), self.done + self.failed)

    def ended(self, job: Job, status: str, *, remembered: bool) -> None:
        """Count a job's runs as done or failed."""
        lanes = len(job.lanes)
        if remembered:
            self.remembered += lanes
        else:
            self.running = max(0, self.running - lanes)
        if status == "done":
            self.done += lanes
        else:
            self.failed += lanes
        self._show(self.text(), self.done + self.failed)

    def text(self) -> str:
        """Return the line."""
        finished = self.done + self.failed
        measured = finished - self.remembered
        left = ""
        if measured > 0:
            seconds = (self._clock() - self._begin) / measured * max(0, self.expected - finished)
            left = f", about {seconds:.0f} s left" if seconds < 120 else f", about {seconds / 60:.0f} min left"  # noqa: PLR2004 - two minutes read better in seconds
        failed = f", {self.failed} failed" if self.failed else ""
        return f"{self.done} of {self.expected} runs done, {self.running} running{failed}{left}"
