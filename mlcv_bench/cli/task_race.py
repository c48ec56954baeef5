"""`mlcv-bench optim-race --task`: the race on real tasks, on this machine or on a cluster."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mlcv_bench.cli.options import Asked, Sink
from mlcv_bench.errors import ExitCode, UsageError
from mlcv_bench.execution.store import check_store
from mlcv_bench.interruption import postponed

if TYPE_CHECKING:
    from mlcv_bench.task_race.request import TaskRaceRequest

Tasks = Annotated[
    list[str] | None,
    typer.Option("--task", help="A real task: digits, mnist-5k, mnist, fashion-mnist, cifar10, images. Repeatable."),
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
Seeds = Annotated[int, typer.Option("--seeds", help="Seeds: each varies first weights, order and split together.")]
Rates = Annotated[int, typer.Option("--rates", help="Rates of the tuning's grid, 1e-5 to 1e2.")]
TuneFor = Annotated[
    Literal["steps", "loss"],
    typer.Option("--tune-for", help="Tune for steps to the target or validation loss."),
]
ImageSize = Annotated[int, typer.Option("--image-size", help="Side that a folder's images get.")]
DropLast = Annotated[
    bool, typer.Option("--drop-last", help="Leave out an epoch's last batch where it is smaller than the others.")
]
WorkersOption = Annotated[
    int | None, typer.Option("--workers", min=1, help="Local processes, one thread each; by default the usable cores.")
]
SchedulerOption = Annotated[
    str | None, typer.Option("--scheduler", help="An existing Dask cluster instead, as tcp://host:8786.")
]

ON_TASKS = (
    *("model", "settings", "data", "epochs", "seeds", "rates", "tune_for", "image_size", "drop_last"),
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


def refuse_other_race(ctx: typer.Context, *, on_task: bool) -> None:
    """Refuse options of a race on surfaces in a race on tasks, and the other way round.

    Raises:
        UsageError: one of them was typed.

    """
    for name in ON_SURFACES if on_task else ON_TASKS:
        if was_given(ctx, name):
            option = "--set" if name == "settings" else f"--{name.replace('_', '-')}"
            raise UsageError(
                f"{option} belongs to a race on a surface; drop it or drop --task"
                if on_task
                else f"{option} belongs to a race on a task; add --task digits, or drop it"
            )


def race_on_tasks(
    request: TaskRaceRequest,
    workers: int | None,
    scheduler: str | None,
    store: Path | None,
    resume: bool,
    sink: Sink,
) -> Asked:
    """Check a race on tasks, and where it runs and is kept."""
    from mlcv_bench.execution.processes import check_workers, make_workers

    check_store(store, sink.outputs, resume=resume)
    check_workers(workers, scheduler)
    request.check()

    def run() -> ExitCode:
        import torch

        from mlcv_bench.execution.progress import Progress
        from mlcv_bench.execution.scheduler import run_jobs
        from mlcv_bench.execution.store import Store
        from mlcv_bench.report.task_races import task_report
        from mlcv_bench.task_race.jobs import RunCounter
        from mlcv_bench.task_race.race import prepare
        from mlcv_bench.task_race.training import run_job_plainly

        # Every run has one thread: two threads would give other sums, hence other bytes.
        torch.set_num_threads(1)
        race = prepare(request)
        with contextlib.ExitStack() as stack:
            opened = stack.enter_context(Store(store, "optim-race --task", resume=resume)) if store else None
            progress = stack.enter_context(Progress(race.expected, quiet=sink.quiet))
            counter = RunCounter(race.expected, progress.show)
            # Processes would take turns on one device.
            processes = 1 if workers is None and request.device != "cpu" else workers
            run_jobs(race, run_job_plainly, make_workers(processes, scheduler), store=opened, watcher=counter)
        with postponed():
            sink.emit(task_report(race), "tasks:draw")
        if race.interrupted:
            return ExitCode.INTERRUPTED
        return ExitCode.TRIALS_FAILED if any(one.status == "failed" for one in race.results) else ExitCode.DONE

    return Asked(request, sink, run)
