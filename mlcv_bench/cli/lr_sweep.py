"""`mlcv-bench lr-sweep`: how much the learning rate matters to each optimizer."""

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
    Sink,
    ThemeOption,
    look_of,
    optimizers_of,
)
from mlcv_bench.cli.racing_options import (
    BatchSize,
    ClipNorm,
    Dimension,
    EngineOption,
    Noise,
    Optimizers,
    RaceDevice,
    Rotate,
    ScheduleOption,
    Seed,
    StartPoint,
    Starts,
    Steps,
    SurfaceName,
    Target,
    Threads,
    WarmUp,
    progress_of_race,
)
from mlcv_bench.errors import ExitCode, UsageError
from mlcv_bench.names import spelled
from mlcv_bench.report.look import LETTERS

Conditions = Annotated[
    str | None,
    typer.Option("--condition", help="Condition numbers with commas, as 1,10,100,1000.", show_default=False),
]


def lr_sweep(
    *,
    surface: SurfaceName = "canyon",
    optimizer: Optimizers = None,
    condition: Conditions = None,
    steps: Steps = 1000,
    target: Target = 1e-6,
    start: StartPoint = None,
    starts: Starts = None,
    seed: Seed = 0,
    schedule: ScheduleOption = "constant",
    warm_up: WarmUp = 0,
    clip_norm: ClipNorm = None,
    dim: Dimension = None,
    rotate: Rotate = 0.0,
    batch_size: BatchSize = None,
    noise: Noise = 0.0,
    engine: EngineOption = "auto",
    threads: Threads = None,
    device: RaceDevice = "cpu",
    form: Format = "table",
    output: Output = None,
    assets: Assets = None,
    theme: ThemeOption = "light",
    font_size: FontSize = LETTERS,
    picture_size: PictureSize = None,
    quiet: Quiet = False,
) -> Asked:
    """Run every optimizer at 36 learning rates: steps to the target against the rate."""
    from mlcv_bench.optimizers.rule import DEFAULT_OPTIMIZERS
    from mlcv_bench.surface_race.request import ENGINES, SweepRequest

    sink = Sink.of(form, output, quiet, PICTURES, look=look_of(theme, font_size, picture_size), assets=assets)
    request = SweepRequest(
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
        dim=dim,
        rotate=rotate,
        batch_size=batch_size,
        noise=noise,
        engine=spelled(engine, ENGINES),
        threads=threads,
        device=device,
        conditions=parse_conditions(condition) if condition is not None else (),
    )
    request.check()

    def run() -> ExitCode:
        from mlcv_bench.report.races import sweep_report, sweep_standings
        from mlcv_bench.surface_race.race import SweepStanding
        from mlcv_bench.surface_race.race import lr_sweep as sweep

        with progress_of_race(quiet) as progress:

            def show(standing: SweepStanding) -> None:
                progress.show(lambda: sweep_standings(standing))

            result = sweep(request, show)
        sink.emit(sweep_report(result), "sweeps:draw", result)
        return ExitCode.INTERRUPTED if result.interrupted else ExitCode.DONE

    return Asked(request, sink, run)


def parse_conditions(text: str) -> tuple[float, ...]:
    """Read `1,10,100`.

    Raises:
        UsageError: a part is no number.

    """
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(
            f"--condition takes numbers with commas between, such as --condition 1,10,100, not '{text}'"
        ) from None
