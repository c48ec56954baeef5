"""`mlcv-bench landscape`: what of the loss of a real network can be seen, and the optimizers' paths on it."""

from __future__ import annotations

from typing import Annotated

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
    Settings,
    Sink,
    ThemeOption,
    listed,
    look_of,
    optimizers_of,
    settings_of,
)
from mlcv_bench.cli.racing_options import (
    ClipNorm,
    Optimizers,
    RaceDevice,
    RaceSeed,
    ScheduleOption,
    WarmUp,
    progress_of_race,
)
from mlcv_bench.cli.task_race import Data, DropLast, Epochs, ImageSize, Models, Tasks
from mlcv_bench.errors import ExitCode
from mlcv_bench.report.look import LETTERS

Batches = Annotated[int, typer.Option("--batch-size", help="Images in a mini-batch.")]
DirectionsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--directions",
        help="What spans the plane: principal (of the paths; default), random (filter-normalised), or both.",
        show_default=False,
    ),
]
Resolution = Annotated[int, typer.Option("--resolution", help="Points along each side of a plane.")]
Extent = Annotated[
    float | None,
    typer.Option(
        "--extent",
        help="Half a plane's side; by default 1 along random directions; along principal ones, what holds all paths.",
        show_default=False,
    ),
]
Images = Annotated[int, typer.Option("--images", help="Training images whose mean loss is shown.")]
Every = Annotated[
    int | None,
    typer.Option(
        "--every",
        help="Steps from one point of a path to the next; by default 1, with convolutions what leaves 100 points.",
        show_default=False,
    ),
]


def landscape(
    *,
    task: Tasks = None,
    model: Models = None,
    optimizer: Optimizers = None,
    directions: DirectionsOption = None,
    resolution: Resolution = 51,
    extent: Extent = None,
    images: Images = 1000,
    every: Every = None,
    epochs: Epochs = None,
    batch_size: Batches = 32,
    seed: RaceSeed = 0,
    schedule: ScheduleOption = "constant",
    warm_up: WarmUp = 0,
    clip_norm: ClipNorm = None,
    drop_last: DropLast = False,
    settings: Settings = None,
    data: Data = None,
    image_size: ImageSize = 32,
    device: RaceDevice = "cpu",
    form: Format = "table",
    output: Output = None,
    assets: Assets = None,
    theme: ThemeOption = "light",
    font_size: FontSize = LETTERS,
    picture_size: PictureSize = None,
    quiet: Quiet = False,
) -> Asked:
    """Show a real network's loss on a plane of its weights, and every optimizer's path on it."""
    from mlcv_bench.architectures.catalog import ARCHITECTURES
    from mlcv_bench.landscapes.request import DIRECTIONS, LandscapeRequest
    from mlcv_bench.task_race.request import FIRST_ORDER
    from mlcv_bench.tasks.catalog import MODELS, TASKS

    sink = Sink.of(form, output, quiet, PICTURES, look=look_of(theme, font_size, picture_size), assets=assets)
    request = LandscapeRequest(
        tasks=tuple(listed("--task", task, "digits", TASKS)),
        optimizers=optimizers_of(optimizer) or FIRST_ORDER,
        models=tuple(listed("--model", model, "mlp", [*MODELS, *ARCHITECTURES])),
        directions=tuple(listed("--directions", directions, "principal", DIRECTIONS)),
        resolution=resolution,
        extent=extent,
        images=images,
        every=every,
        epochs=epochs,
        batch_size=batch_size,
        seed=seed,
        schedule=schedule,
        warm_up=warm_up,
        clip_norm=clip_norm,
        drop_last=drop_last,
        settings=settings_of(settings),
        data=data,
        image_size=image_size,
        device=device,
    )
    request.check()

    def run() -> ExitCode:
        import torch

        from mlcv_bench.landscapes.landscape import landscape as study
        from mlcv_bench.report.landscapes import landscape_report

        torch.set_num_threads(1)  # as in a race on tasks: two threads would give other sums
        with progress_of_race(quiet) as progress:
            found = study(request, progress.show)
        sink.emit(landscape_report(found), "loss_landscapes:draw")
        if found.interrupted:
            return ExitCode.INTERRUPTED
        return ExitCode.TRIALS_FAILED if any(one.status == "failed" for one in found.results) else ExitCode.DONE

    return Asked(request, sink, run)
