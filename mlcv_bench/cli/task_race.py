"""`mlcv-bench optim-race --task`: the race on real tasks, on this machine or on a cluster."""

from __future__ import annotations

import contextlib
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from mlcv_bench.environment import usable_cores
from mlcv_bench.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlcv_bench.cli.options import Form
    from mlcv_bench.execution.processes import Workers

Tasks = Annotated[
    list[str] | None,
    typer.Option("--task", help="A real task: digits, mnist, fashion-mnist, cifar10, images. Repeatable."),
]
Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model", help="logistic, mlp (default), cnn, resnet8, resnet20 ..., or a specification. Repeatable."
    ),
]
Data = Annotated[
    Path | None, typer.Option("--data", help="Folder (or archive) with the task's files.", show_default=False)
]
Epochs = Annotated[int | None, typer.Option("--epochs", help="Epochs of every run; by default the task's own.")]
Seeds = Annotated[
    int | None, typer.Option("--seeds", help="Seeds: each varies first weights, order and split together. [default: 3]")
]
ScheduleName = Literal["constant", "cosine", "step"]
ScheduleOption = Annotated[ScheduleName | None, typer.Option("--schedule", help="Of the rate. [default: constant]")]
Rates = Annotated[int | None, typer.Option("--rates", help="Rates of the tuning's grid, 1e-5 to 1e2. [default: 36]")]
TuneFor = Annotated[
    Literal["steps", "loss"] | None,
    typer.Option("--tune-for", help="Tune for steps to the target or validation loss. [default: steps]"),
]
ImageSize = Annotated[int | None, typer.Option("--image-size", help="Side that a folder's images get. [default: 32]")]
WorkersOption = Annotated[
    int | None, typer.Option("--workers", min=1, help="Local processes, one thread each; by default the usable cores.")
]
SchedulerOption = Annotated[
    str | None, typer.Option("--scheduler", help="An existing Dask cluster instead, as tcp://host:8786.")
]
StoreOption = Annotated[Path | None, typer.Option("--store", help="Append every finished run here, as JSON lines.")]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Continue the --store where it was cut off.")]

BATCH_SIZE, SEEDS = 32, 3

ON_TASKS = (
    *("model", "data", "epochs", "seeds", "schedule", "rates", "tune_for", "image_size"),
    *("workers", "scheduler", "store", "resume"),
)
ON_SURFACES = (
    *("surface", "steps", "start", "starts", "condition", "dim", "rotate", "noise"),
    *("engine", "threads", "trajectory"),
)


def was_given(ctx: typer.Context, name: str) -> bool:
    """Tell whether the user typed an option, rather than left it at its default."""
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def refuse_strangers(ctx: typer.Context, *, on_task: bool) -> None:
    """Refuse options of a race on surfaces in a race on tasks, and the other way round.

    Raises:
        UsageError: one of them was typed.

    """
    for name in ON_SURFACES if on_task else ON_TASKS:
        if was_given(ctx, name):
            option = f"--{name.replace('_', '-')}"
            raise UsageError(
                f"{option} belongs to a race on a surface; drop it or drop --task"
                if on_task
                else f"{option} belongs to a race on a task; add --task digits, or drop it"
            )


def race_on_tasks(
    tasks: Sequence[str],
    *,
    optimizers: Sequence[str] | None = None,
    models: Sequence[str] | None = None,
    data: Path | None = None,
    batch_size: int | None = None,
    epochs: int | None = None,
    seed: int = 0,
    seeds: int | None = None,
    target: float | None = None,
    schedule: ScheduleName | None = None,
    protocols: Sequence[str] | None = None,
    rates: int | None = None,
    tune_for: Literal["steps", "loss"] | None = None,
    image_size: int | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    store: Path | None = None,
    resume: bool = False,
    form: Form = "table",
    outputs: Sequence[Path] = (),
    quiet: bool = False,
) -> int:
    """Run a race on tasks and report it; what is None takes its default. Returns the exit code."""
    from mlcv_bench.report.files import PICTURE_SUFFIXES, check_outputs
    from mlcv_bench.task_race.entrants import FIRST_ORDER, find_entrants
    from mlcv_bench.task_race.request import TASK_PROTOCOLS, check_data_of, check_request
    from mlcv_bench.tasks.catalog import check_model

    check_outputs(outputs, pictures=[suffix for suffix in PICTURE_SUFFIXES if suffix != ".gif"])
    check_store(store, resume=resume)
    check_workers(workers, scheduler)
    request: dict[str, Any] = {
        "models": tuple(models or ("mlp",)),
        "batch_size": BATCH_SIZE if batch_size is None else batch_size,
        "epochs": epochs,
        "seeds": SEEDS if seeds is None else seeds,
        "target": target,
        "schedule": schedule or "constant",
        "protocols": tuple(protocols or TASK_PROTOCOLS),
        "rates": 36 if rates is None else rates,
        "image_size": 32 if image_size is None else image_size,
    }
    entries = tuple(optimizers or FIRST_ORDER)
    check_request(tasks, **request)
    for model in request["models"]:
        check_model(model)
    check_data_of(tasks, str(data) if data is not None else None)
    find_entrants(entries)
    return _run(
        {
            "tasks": tasks,
            "optimizers": entries,
            "data": str(data.resolve()) if data is not None else None,
            "seed": seed,
            "tune_for": tune_for or "steps",
            **request,
        },
        workers=workers,
        scheduler=scheduler,
        store=store,
        resume=resume,
        show={"form": form, "outputs": outputs, "quiet": quiet},
    )


def _run(
    request: dict[str, Any],
    *,
    workers: int | None,
    scheduler: str | None,
    store: Path | None,
    resume: bool,
    show: dict[str, Any],
) -> int:
    import torch

    from mlcv_bench.execution.progress import Progress
    from mlcv_bench.execution.scheduler import run_jobs
    from mlcv_bench.execution.store import Store
    from mlcv_bench.report import emit
    from mlcv_bench.report.plots.tasks import draw
    from mlcv_bench.task_race.progress import RunCounter
    from mlcv_bench.task_race.race import prepare
    from mlcv_bench.task_race.summary import task_report
    from mlcv_bench.task_race.training import run_job_plainly
    from mlcv_bench.tasks.idx import DataWarning

    # Every run has one thread: two threads would give other sums, hence other bytes.
    torch.set_num_threads(1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DataWarning)
        race = prepare(**request)
    race.warnings += [str(warning.message) for warning in caught if issubclass(warning.category, DataWarning)]
    with contextlib.ExitStack() as stack:
        opened = stack.enter_context(Store(store, "optim-race --task", resume=resume)) if store is not None else None
        progress = stack.enter_context(Progress(race.expected, quiet=show["quiet"]))
        counter = RunCounter(race.expected, progress.show)
        run_jobs(race, run_job_plainly, make_workers(workers, scheduler), store=opened, watcher=counter)
    report = task_report(race)
    emit(report, show["form"], show["outputs"], draw=draw, quiet=show["quiet"])
    if race.interrupted:
        return ExitCode.INTERRUPTED
    return ExitCode.TRIALS_FAILED if any(result.status == "failed" for result in race.results) else ExitCode.DONE


def make_workers(workers: int | None, scheduler: str | None) -> Workers:
    """Return where jobs run: a cluster if one is named, else local processes, else this process alone."""
    if scheduler is not None:
        from mlcv_bench.execution.dask import DaskCluster

        return DaskCluster(scheduler)
    from mlcv_bench.execution.processes import Inline, LocalPool

    count = usable_cores() if workers is None else workers
    return Inline() if count == 1 else LocalPool(count)


def check_workers(workers: int | None, scheduler: str | None) -> None:
    """Refuse two places at once, and an address that is none.

    Raises:
        UsageError: both are given, or the address is malformed.

    """
    if scheduler is None:
        return
    if workers is not None:
        raise UsageError("give --workers for this machine or --scheduler for a cluster, not both")
    from mlcv_bench.execution.dask import check_address

    check_address(scheduler)


def check_store(store: Path | None, *, resume: bool) -> None:
    """Refuse a store that cannot be, before anything is trained.

    Raises:
        UsageError: --resume without a store, no such folder, or a store that exists without --resume.

    """
    if resume and store is None:
        raise UsageError("--resume continues a store; add --store PATH")
    if store is not None and not store.parent.is_dir():
        raise UsageError(f"--store {store}: the folder {store.parent} does not exist; create it or choose another")
    if store is not None and not resume and store.is_file() and store.stat().st_size:
        raise UsageError(f"--store {store} exists already; add --resume to continue it, or choose another")
