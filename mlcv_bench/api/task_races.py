"""`race_on_tasks`: optimizers on real images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlcv_bench.api.calls import items, public, texts_of
from mlcv_bench.api.results import Reported
from mlcv_bench.architectures.reproducibility import process_kept
from mlcv_bench.execution.processes import check_workers, make_workers
from mlcv_bench.execution.scheduler import run_jobs
from mlcv_bench.optimizers.schedule import ScheduleName
from mlcv_bench.report.task_races import task_report
from mlcv_bench.surface_race.tuning import GRID_SIZE
from mlcv_bench.task_race.jobs import RunCounter
from mlcv_bench.task_race.race import TaskRace, prepare
from mlcv_bench.task_race.request import FIRST_ORDER, TASK_PROTOCOLS, TaskRaceRequest, TuneFor
from mlcv_bench.task_race.training import run_job_plainly

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mlcv_bench.records import Report


class FinishedTaskRace(Reported, TaskRace):
    """A race on tasks: `.results` are its runs, `.contests` have the tunings; a row of `.frame` is an epoch."""

    def report(self) -> Report:
        """Return the race as a report: every epoch, a table a task and protocol, what failed and why."""
        return task_report(self)


@public
def race_on_tasks(  # noqa: PLR0913 - every option of the command, by its name
    tasks: str | Sequence[str] = "digits",
    optimizers: str | Callable[..., Any] | Sequence[str | Callable[..., Any]] = FIRST_ORDER,
    *,
    models: str | Callable[..., Any] | Sequence[str | Callable[..., Any]] = "mlp",
    settings: Mapping[str, Any] | None = None,
    data: str | Path | None = None,
    batch_size: int = 32,
    epochs: int | None = None,
    seed: int = 0,
    seeds: int = 3,
    target: float | None = None,
    schedule: ScheduleName = "constant",
    warm_up: int = 0,
    clip_norm: float | None = None,
    protocols: str | Sequence[str] = TASK_PROTOCOLS,
    rates: int = GRID_SIZE,
    tune_for: TuneFor = "steps",
    image_size: int = 32,
    drop_last: bool = False,
    device: str = "cpu",
    workers: int = 1,
    progress: Callable[[str, int], object] = lambda _line, _finished: None,
) -> FinishedTaskRace:
    """Race optimizers on real images, with the notes' mini-batches: `mlcv-bench optim-race --task` from Python.

    Args:
        tasks: digits, mnist-5k, mnist, fashion-mnist, cifar10 or images.
        optimizers: names with settings, as `adam:beta1=0.95`, specifications, update rules or torch.optim.Optimizer
            classes themselves, with functools.partial for their settings; a rate set here is kept, and not tuned.
        models: logistic, mlp, cnn, a network of the catalogue for small images, a specification, or a function or
            class that builds one, called with `num_classes` where it takes that.
        settings: arguments for the builders of the models; each model has to take them.
        data: folder (or archive) with the files of the one task that needs any.
        batch_size: the notes' B.
        epochs: of every run; by default the task's own.
        seed: the first of `seeds` consecutive ones.
        seeds: how many; each varies first weights, order of the data and the validation part together.
        target: validation accuracy to be met; by default the task's own.
        schedule: how the rate falls over the steps of all epochs: `constant`, `cosine`, `step` or `linear`.
        warm_up: steps in which the rate first rises from 1/N of it.
        clip_norm: the Euclidean norm, over all parameters, that larger gradients are scaled down to.
        protocols: `default` settings; `tuned` at equal budgets.
        rates: size of the grid of rates, 1e-5 to 1e2.
        tune_for: what tuning minimises: the steps to the target, or the validation loss.
        image_size: height and width that a folder's images are brought to.
        drop_last: whether an epoch leaves out a last batch that is smaller than the others.
        device: where models are trained: cpu, cuda, xpu or mps.
        workers: processes, one thread each; 1 trains here. Others import your functions and classes from their
            modules, which a notebook's cell is not.
        progress: is given a line and the number of finished runs whenever that changes.

    Raises:
        UsageError: something in the request is wrong; the message says what would be right.

    """
    check_workers(workers, None)
    request = TaskRaceRequest(
        items(tasks),
        items(optimizers),
        items(models),
        settings=texts_of(settings),
        data=None if data is None else Path(data),
        batch_size=batch_size,
        epochs=epochs,
        seed=seed,
        seeds=seeds,
        target=target,
        schedule=schedule,
        warm_up=warm_up,
        clip_norm=clip_norm,
        protocols=items(protocols),
        rates=rates,
        tune_for=tune_for,
        image_size=image_size,
        drop_last=drop_last,
        device=device,
    )
    with process_kept():
        race = prepare(request)
        run_jobs(race, run_job_plainly, make_workers(workers, None), watcher=RunCounter(race.expected, progress))
    return FinishedTaskRace.of(race)
