"""`mlcv-bench optim-race`: which optimizer gets there first, on a surface or a real task, under fair protocols."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlcv_bench.cli.options import (
    PICTURES,
    Asked,
    Assets,
    FontSize,
    Format,
    Output,
    PictureSize,
    Quiet,
    Resume,
    Settings,
    Sink,
    StorePath,
    ThemeOption,
    listed,
    look_of,
    optimizers_of,
    settings_of,
)
from mlcv_bench.cli.racing_options import (
    ClipNorm,
    Condition,
    Dimension,
    EngineOption,
    Noise,
    Optimizers,
    RaceBatchSize,
    RaceDevice,
    RaceSeed,
    RaceTarget,
    Rotate,
    ScheduleOption,
    StartPoint,
    Starts,
    Steps,
    SurfaceName,
    Threads,
    WarmUp,
    progress_of_race,
)
from mlcv_bench.cli.task_race import (
    Data,
    DropLast,
    Epochs,
    ImageSize,
    Models,
    Rates,
    SchedulerOption,
    Seeds,
    Tasks,
    TuneFor,
    WorkersOption,
    race_on_tasks,
    refuse_other_race,
    was_given,
)
from mlcv_bench.errors import ExitCode, UsageError
from mlcv_bench.names import spelled
from mlcv_bench.report.formats import ANIMATIONS
from mlcv_bench.report.look import LETTERS

if TYPE_CHECKING:
    from mlcv_bench.surface_race.race import Race, RaceStanding
    from mlcv_bench.surfaces.surface import Surface

Protocols = Annotated[
    list[str] | None,
    typer.Option(
        "--protocol",
        help="default, tuned (best of 36 rates), theory (closed form); a .gif or .mp4 shows all named. Repeatable.",
        show_default=False,
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
    schedule: ScheduleOption = "constant",
    warm_up: WarmUp = 0,
    clip_norm: ClipNorm = None,
    condition: Condition = None,
    dim: Dimension = None,
    rotate: Rotate = 0.0,
    batch_size: RaceBatchSize = None,
    noise: Noise = 0.0,
    engine: EngineOption = "auto",
    threads: Threads = None,
    device: RaceDevice = "cpu",
    trajectory: Trajectory = None,
    task: Tasks = None,
    model: Models = None,
    settings: Settings = None,
    data: Data = None,
    epochs: Epochs = None,
    seeds: Seeds = 3,
    rates: Rates = 36,
    tune_for: TuneFor = "steps",
    image_size: ImageSize = 32,
    drop_last: DropLast = False,
    workers: WorkersOption = None,
    scheduler: SchedulerOption = None,
    store: StorePath = None,
    resume: Resume = False,
    form: Format = "table",
    output: Output = None,
    assets: Assets = None,
    theme: ThemeOption = "light",
    font_size: FontSize = LETTERS,
    picture_size: PictureSize = None,
    quiet: Quiet = False,
) -> Asked:
    """Race optimizers on a surface or on real tasks: default, tuned and theory's settings side by side."""
    refuse_other_race(ctx, on_task=bool(task))
    if task:
        from mlcv_bench.architectures.catalog import ARCHITECTURES
        from mlcv_bench.surface_race.request import PROTOCOLS
        from mlcv_bench.task_race.request import FIRST_ORDER, TASK_PROTOCOLS, TaskRaceRequest
        from mlcv_bench.tasks.catalog import MODELS, TASKS

        request = TaskRaceRequest(
            tasks=tuple(listed("--task", task, known=TASKS)),
            optimizers=optimizers_of(optimizer) or FIRST_ORDER,
            models=tuple(listed("--model", model, "mlp", [*MODELS, *ARCHITECTURES])),
            data=data,
            batch_size=32 if batch_size is None else batch_size,
            epochs=epochs,
            seed=seed,
            seeds=seeds,
            target=target if was_given(ctx, "target") else None,
            schedule=schedule,
            warm_up=warm_up,
            clip_norm=clip_norm,
            protocols=tuple(listed("--protocol", protocol, ",".join(TASK_PROTOCOLS), PROTOCOLS)),
            rates=rates,
            tune_for=tune_for,
            image_size=image_size,
            drop_last=drop_last,
            device=device,
            settings=settings_of(settings),
        )
        sink = Sink.of(form, output, quiet, PICTURES, look=look_of(theme, font_size, picture_size), assets=assets)
        return race_on_tasks(request, workers, scheduler, store, resume, sink)
    from mlcv_bench.optimizers.rule import DEFAULT_OPTIMIZERS
    from mlcv_bench.surface_race.request import ENGINES, PROTOCOLS, RaceRequest

    sink = Sink.of(
        form, output, quiet, (*PICTURES, *ANIMATIONS), look=look_of(theme, font_size, picture_size), assets=assets
    )
    asked = RaceRequest(
        surface,
        optimizers_of(optimizer) or DEFAULT_OPTIMIZERS,
        steps=steps,
        target=target,
        start=start,
        starts=starts,
        seed=seed,
        schedule=schedule,
        warm_up=warm_up,
        clip_norm=clip_norm,
        condition=condition,
        dim=dim,
        rotate=rotate,
        batch_size=batch_size,
        noise=noise,
        engine=spelled(engine, ENGINES),
        threads=threads,
        device=device,
        protocols=tuple(listed("--protocol", protocol, ",".join(PROTOCOLS), PROTOCOLS)),
    )
    if trajectory is not None:
        check_trajectory(trajectory, sink.outputs)
    asked.check()
    if not asked.opens_code:
        check_pictured(sink.outputs, trajectory, *asked.places)

    def run() -> ExitCode:
        from mlcv_bench.report.races import race_report, standings
        from mlcv_bench.surface_race.race import race

        check_pictured(sink.outputs, trajectory, *asked.places)
        with progress_of_race(quiet) as progress:

            def show(standing: RaceStanding) -> None:
                progress.show(lambda: standings(standing))

            result = race(asked, watch=show)
        if trajectory is not None:
            save_paths(result, trajectory)
        sink.emit(race_report(result), "animation:draw_protocols" if protocol else "animation:draw", result)
        return ExitCode.INTERRUPTED if result.interrupted else ExitCode.DONE

    return Asked(asked, sink, run)


def check_pictured(outputs: tuple[Path, ...], trajectory: Path | None, place: Surface) -> None:
    """Refuse an animation, which shows a plane from above, of another surface; and a film where nothing makes it.

    Nor are paths saved whose points are too long.
    """
    from mlcv_bench.surfaces.surface import LARGEST_DIMENSION, kept

    if trajectory is not None and kept(place.start) is None:
        raise UsageError(
            f"--trajectory saves points of up to {LARGEST_DIMENSION} coordinates, and {place.name} has "
            f"{place.dimension}; -o race.png shows the loss and the distance at every step"
        )
    for path in outputs:
        suffix = path.suffix.lower()
        if suffix in ANIMATIONS and place.dimension != 2:  # noqa: PLR2004 - a plane
            raise UsageError(
                f"-o {path}: a {suffix} shows two coordinates, {place.name} has {place.dimension}; save a .png or .svg"
            )
        if suffix == ".mp4" and shutil.which("ffmpeg") is None:
            raise UsageError(f"-o {path} is made by ffmpeg, which is not on the PATH; install it, or save a .gif")


def check_trajectory(path: Path, outputs: tuple[Path, ...]) -> None:
    """Refuse a file that paths cannot be saved to.

    Raises:
        UsageError: another suffix, no place to write to, or a file that the result goes to.

    """
    from mlcv_bench.report.files import check_outputs, resolved

    if path.suffix.lower() != ".csv":
        raise UsageError(f"--trajectory {path}: paths are saved as .csv")
    check_outputs([path])
    if resolved(path) in {resolved(output) for output in outputs}:
        raise UsageError(f"--trajectory {path} is the file of -o too; give one of them another name")


def save_paths(result: Race, path: Path) -> None:
    """Save every point of every path from the first start, one row a step."""
    from mlcv_bench.report.files import save_text
    from mlcv_bench.report.formats.delimited import paths_csv

    save_text(path, paths_csv(result))
