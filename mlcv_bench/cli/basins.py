"""`mlcv-bench basins`: each pixel a start, which minimum it ends in, and how fast."""

from __future__ import annotations

from typing import Annotated

import typer

from mlcv_bench.cli.options import PICTURES, Asked, Assets, FontSize, Format, Output, Quiet, Sink, ThemeOption, look_of
from mlcv_bench.cli.racing_options import (
    OPTIMIZER_HELP,
    BatchSize,
    ClipNorm,
    Condition,
    Noise,
    RaceDevice,
    Rotate,
    ScheduleOption,
    Seed,
    SurfaceName,
    Target,
    Threads,
    WarmUp,
    complete_optimizer,
    progress_of_race,
)
from mlcv_bench.report.look import LETTERS, parse_size

OneOptimizer = Annotated[
    str,
    typer.Option("--optimizer", help=OPTIMIZER_HELP.removesuffix(" Repeatable."), autocompletion=complete_optimizer),
]
Size = Annotated[str, typer.Option("--size", help="Pixels, as 800x600.")]
Steps = Annotated[int, typer.Option("--steps", min=1, help="Steps that every run takes.")]


def basins(
    *,
    surface: SurfaceName = "himmelblau",
    optimizer: OneOptimizer = "momentum",
    size: Size = "800x600",
    steps: Steps = 500,
    target: Target = 1e-6,
    seed: Seed = 0,
    schedule: ScheduleOption = "constant",
    warm_up: WarmUp = 0,
    clip_norm: ClipNorm = None,
    condition: Condition = None,
    rotate: Rotate = 0.0,
    batch_size: BatchSize = None,
    noise: Noise = 0.0,
    threads: Threads = None,
    device: RaceDevice = "cpu",
    form: Format = "table",
    output: Output = None,
    assets: Assets = None,
    theme: ThemeOption = "light",
    font_size: FontSize = LETTERS,
    quiet: Quiet = False,
) -> Asked:
    """Map the basins of attraction: each pixel a start, which minimum, how fast."""
    from mlcv_bench.surface_race.request import BasinsRequest

    sink = Sink.of(form, output, quiet, PICTURES, look=look_of(theme, font_size), assets=assets)
    request = BasinsRequest(
        surface,
        (optimizer,),
        steps=steps,
        target=target,
        seed=seed,
        schedule=schedule,
        warm_up=warm_up,
        clip_norm=clip_norm,
        condition=condition,
        rotate=rotate,
        batch_size=batch_size,
        noise=noise,
        threads=threads,
        device=device,
        size=parse_size(size),
    )
    request.check()

    def run() -> None:
        from mlcv_bench.report.races import basins_report
        from mlcv_bench.surface_race.basins import basins as run_basins

        with progress_of_race(quiet) as progress:
            result = run_basins(request, lambda share: progress.show(f"{share:.0%} of all runs are over"))
        sink.emit(basins_report(result), "basins:draw", result)

    return Asked(request, sink, run)
