"""What a race on tasks is asked: everything that can be known to be wrong is refused before torch is loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from mlcv_bench.errors import UsageError
from mlcv_bench.names import check_choices, check_device, label_of, names_code, split_settings
from mlcv_bench.optimizers import rule
from mlcv_bench.optimizers.schedule import Schedule, ScheduleName, check_clip_norm
from mlcv_bench.surface_race.tuning import GRID_SIZE
from mlcv_bench.tasks import catalog

TaskProtocol = Literal["default", "tuned"]
TASK_PROTOCOLS: tuple[TaskProtocol, ...] = get_args(TaskProtocol)
TuneFor = Literal["steps", "loss"]

FIRST_ORDER = tuple(name for name in rule.DEFAULT_OPTIMIZERS if rule.RULES[name].needs == "gradient")
"""The optimizers of a race on a task, unless others are named."""


@dataclass(frozen=True)
class TaskRaceRequest:
    """A race of optimizers on real tasks; the defaults are the command's.

    Attributes:
        tasks: names of `mlcv-bench list tasks`.
        optimizers: rules with settings, specifications, or rules and classes themselves; a rate set here is kept, and
            not tuned.
        models: logistic, mlp, cnn, a network of the catalogue for small images, a specification, or a function or
            class itself that builds one.
        data: folder (or archive) with the files of the one task that needs any.
        batch_size: the notes' B.
        epochs: of every run; None for the task's own.
        seed: the first of `seeds` consecutive ones.
        seeds: how many; each varies first weights, order of the data and the validation part together.
        target: validation accuracy to be met; None for the task's own.
        schedule, warm_up: how the rate moves over the steps of all epochs, as `optimizers.schedule.Schedule` has it.
        clip_norm: the largest norm that a gradient over all parameters is not scaled down to.
        protocols: `default` settings, `tuned` at equal budgets.
        rates: size of the grid of rates, 1e-5 to 1e2.
        tune_for: what tuning minimises: the steps to the target, or the validation loss.
        image_size: height and width that a folder's images are brought to.
        settings: texts for the builders of the models, as sorted pairs; each model has to take them.
        drop_last: whether an epoch leaves out a last batch that is smaller than the others.
        device: where models are trained.

    """

    tasks: tuple[str, ...] = ("digits",)
    optimizers: tuple[str | Callable[..., Any], ...] = FIRST_ORDER
    models: tuple[str | Callable[..., Any], ...] = ("mlp",)
    data: Path | None = None
    batch_size: int = 32
    epochs: int | None = None
    seed: int = 0
    seeds: int = 3
    target: float | None = None
    schedule: ScheduleName = "constant"
    warm_up: int = 0
    clip_norm: float | None = None
    protocols: tuple[str, ...] = TASK_PROTOCOLS
    rates: int = GRID_SIZE
    tune_for: TuneFor = "steps"
    image_size: int = 32
    settings: tuple[tuple[str, str], ...] = ()
    drop_last: bool = False
    device: str = "cpu"

    def check(self) -> None:
        """Refuse what cannot be; what a specification names is opened when the race is prepared.

        Raises:
            UsageError: one sentence on the first thing that is wrong.

        """
        self._check_numbers()
        check_device(self.device)
        self.rate_schedule.check()
        check_clip_norm(self.clip_norm)
        check_choices("--tune-for", [self.tune_for], get_args(TuneFor))
        if not self.protocols:
            raise UsageError(f"name a protocol: {', '.join(TASK_PROTOCOLS)}")
        for protocol in self.protocols:
            if protocol not in TASK_PROTOCOLS:
                known = ", ".join(TASK_PROTOCOLS)
                why = "; no closed form gives a network's best rate" if protocol == "theory" else ""
                raise UsageError(f"on a task the protocol is one of {known}, not '{protocol}'{why}")
        self._check_names()
        self._check_data()

    @property
    def rate_schedule(self) -> Schedule:
        """How the rate moves."""
        return Schedule(self.schedule, self.warm_up)

    def _check_numbers(self) -> None:
        for option, value, least in (
            ("--batch-size", self.batch_size, 1),
            ("--epochs", self.epochs, 1),
            ("--seed", self.seed, 0),
            ("--seeds", self.seeds, 1),
            ("--image-size", self.image_size, 4),  # two poolings halve it twice
        ):
            if value is not None and value < least:
                raise UsageError(f"{option} is at least {least}, not {value}")
        if self.target is not None and not 0 < self.target <= 1:
            raise UsageError(f"on a task --target is a validation accuracy above 0 and up to 1, not {self.target:g}")
        if self.rates < 3:  # noqa: PLR2004 - an inner rate and two edges
            raise UsageError(f"the grid has at least 3 rates, not {self.rates}")

    def _check_names(self) -> None:
        for kind, given in (("--task", self.tasks), ("--model", self.models)):
            names = [label_of(one) for one in given]
            for name in names:
                if names.count(name) > 1:
                    raise UsageError(f"{kind} gives {name} twice; keep one")
        for name in self.tasks:
            catalog.find(name)
        for model in self.models:
            if isinstance(model, str):
                catalog.check_model(model, dict(self.settings))
        labels = [rule.proper(one) for one in self.optimizers]
        for one, label in zip(self.optimizers, labels, strict=True):
            if labels.count(label) > 1:
                name, _ = split_settings(label, str)
                raise UsageError(f"{label} races twice; give one of them other settings, as in {name}:lr=0.1")
            if isinstance(one, str) and not names_code(one, rule.RULES):
                rule.find(label)

    def _check_data(self) -> None:
        needing = [name for name in self.tasks if catalog.find(name).needs_data]
        if len(needing) > 1:
            raise UsageError(f"--data belongs to one task, and {' and '.join(needing)} both need it; race them apart")
        for name in self.tasks:
            catalog.check_data(catalog.find(name), None if needing and name not in needing else self.data)
