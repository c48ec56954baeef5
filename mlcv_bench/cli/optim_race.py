"""`mlcv-bench optim-race`: which optimizer gets there first, on a surface or a real task, under fair protocols."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlcv_bench.cli.options import Format, Output, Quiet
from mlcv_bench.cli.racing_options import (
    Dimension,
    EngineOption,
    Noise,
    Optimizers,
    RaceBatchSize,
    RaceSeed,
    RaceTarget,
    Rotate,
    StartPoint,
    Starts,
    Steps,
    SurfaceName,
    Threads,
    check_engine,
)
from mlcv_bench.cli.task_race import (
    Data,
    Epochs,
    ImageSize,
    Models,
    Rates,
    ResumeOption,
    ScheduleOption,
    SchedulerOption,
    Seeds,
    StoreOption,
    Tasks,
    TuneFor,
    WorkersOption,
    race_on_tasks,
    refuse_other_race,
    was_given,
)
from mlcv_bench.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from mlcv_bench.surface_race.race import Race

PATIENCE_S = 0.5
"""A race that is over sooner shows no progress."""
Condition = Annotated[
    float | None,
    typer.Option("--condition", help="Largest over smallest curvature, of canyon and quadratic.", show_default=False),
]
Protocols = Annotated[
    list[str] | None,
    typer.Option(
        "--protocol", help="default, tuned (best of 36 rates), theory (closed form). Repeatable.", show_default=False
    ),
]
Trajectory = Annotated[
    Path | None, typer.Option("--trajectory", help="Also save every point of every path, as CSV.", show_default=False)
]


def optim_race(
    ctx: typer.Context,
    *,
    surface: SurfaceName = "canyon",
    optimizer: Optimizers = None,
    protocol: Protocols = None,
    steps: Steps = 1000,
    target: RaceTarget = 1e-6,
    start: StartPoint = None,
    starts: Starts = None,
    seed: RaceSeed = 0,
    condition: Condition = None,
    dim: Dimension = None,
    rotate: Rotate = 0.0,
    batch_size: RaceBatchSize = None,
    noise: Noise = 0.0,
    engine: EngineOption = "auto",
    threads: Threads = 1,
    trajectory: Trajectory = None,
    task: Tasks = None,
    model: Models = None,
    data: Data = None,
    epochs: Epochs = None,
    seeds: Seeds = 3,
    schedule: ScheduleOption = "constant",
    rates: Rates = 36,
    tune_for: TuneFor = "steps",
    image_size: ImageSize = 32,
    workers: WorkersOption = None,
    scheduler: SchedulerOption = None,
    store: StoreOption = None,
    resume: ResumeOption = False,
    form: Format = "table",
    output: Output = None,
    quiet: Quiet = False,
) -> int:
    """Race optimizers on a surface or on real tasks: default, tuned and theory's settings side by side."""
    refuse_other_race(ctx, on_task=bool(task))
    if task:
        from mlcv_bench.task_race.request import FIRST_ORDER, TASK_PROTOCOLS, TaskRaceRequest

        request = TaskRaceRequest(
            tasks=tuple(task),
            optimizers=tuple(optimizer or FIRST_ORDER),
            models=tuple(model or ("mlp",)),
            data=data,
            batch_size=32 if batch_size is None else batch_size,
            epochs=epochs,
            seed=seed,
            seeds=seeds,
            target=target if was_given(ctx, "target") else None,
            schedule=schedule,
            protocols=tuple(protocol or TASK_PROTOCOLS),
            rates=rates,
            tune_for=tune_for,
            image_size=image_size,
        )
        return race_on_tasks(
            request,
            workers=workers,
            scheduler=scheduler,
            store=store,
            resume=resume,
            form=form,
            outputs=output or [],
            quiet=quiet,
        )
    from mlcv_bench.optimizers.rule import DEFAULT_OPTIMIZERS
    from mlcv_bench.report import check_outputs, emit
    from mlcv_bench.report.files import PICTURE_SUFFIXES, resolved
    from mlcv_bench.report.races import race_report
    from mlcv_bench.surface_race.race import PROTOCOLS, parse_start, race
    from mlcv_bench.surfaces import catalog

    check_outputs(output or [], pictures=PICTURE_SUFFIXES)
    check_engine(engine)
    if trajectory is not None:
        if trajectory.suffix.lower() != ".csv":
            msg = f"--trajectory {trajectory}: paths are saved as .csv"
            raise UsageError(msg)
        check_outputs([trajectory])
        if resolved(trajectory) in {resolved(path) for path in output or []}:
            msg = f"--trajectory {trajectory} is the file of -o too; give one of them another name"
            raise UsageError(msg)
    place = catalog.find(surface, condition=condition, dim=dim, batch_size=batch_size, rotate=rotate, noise=noise)
    for path in output or []:
        if path.suffix.lower() == ".gif" and place.dimension != 2:  # noqa: PLR2004 - only a plane is seen from above
            msg = f"-o {path}: a .gif shows two coordinates, {place.name} has {place.dimension}; save a .png or .svg"
            raise UsageError(msg)
    from mlcv_bench.execution.progress import Progress
    from mlcv_bench.report.live import Standings

    standings = Standings()
    with Progress(quiet=quiet, patience_s=PATIENCE_S) as progress:
        result = race(
            place,
            optimizer or DEFAULT_OPTIMIZERS,
            steps=steps,
            target=target,
            start=parse_start(start, place.dimension) if start is not None else None,
            starts=starts,
            seed=seed,
            protocols=tuple(protocol) if protocol else PROTOCOLS,  # type: ignore[arg-type] # race checks the names
            engine=engine,  # type: ignore[arg-type] # checked above
            threads=threads,
            progress=lambda results: progress.show(standings.after(results)),
        )
    if trajectory is not None:
        save_paths(result, trajectory)
    emit(race_report(result), form, output or [], draw=lambda _, path: paint(result, path), quiet=quiet)
    return ExitCode.INTERRUPTED if result.interrupted else ExitCode.DONE


def paint(result: Race, path: Path) -> None:
    """Draw a race; matplotlib is imported for this alone."""
    from mlcv_bench.report.plots.races import draw

    draw(result, path)


def save_paths(result: Race, path: Path) -> None:
    """Save every point of every path from the first start, one row a step."""
    from mlcv_bench.report.files import save_text
    from mlcv_bench.report.paths import paths_csv

    save_text(path, paths_csv(result))
