"""`mlcv-bench lr-sweep`: how much the learning rate matters to each optimizer."""

from __future__ import annotations

from typing import Annotated

import typer

from mlcv_bench.cli.options import Format, Output, Quiet
from mlcv_bench.cli.racing_options import (
    BatchSize,
    Dimension,
    EngineOption,
    Noise,
    Optimizers,
    Rotate,
    Seed,
    StartPoint,
    Starts,
    Steps,
    SurfaceName,
    Target,
    Threads,
    check_engine,
    listed_numbers,
)
from mlcv_bench.errors import ExitCode

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
    dim: Dimension = None,
    rotate: Rotate = 0.0,
    batch_size: BatchSize = None,
    noise: Noise = 0.0,
    engine: EngineOption = "auto",
    threads: Threads = 1,
    form: Format = "table",
    output: Output = None,
    quiet: Quiet = False,
) -> int:
    """Run every optimizer at 36 learning rates: steps to the target against the rate."""
    from mlcv_bench.optimizers.rule import DEFAULT_OPTIMIZERS
    from mlcv_bench.report import check_outputs, emit
    from mlcv_bench.report.races import sweep_report
    from mlcv_bench.surface_race.race import parse_start
    from mlcv_bench.surface_race.sweep import lr_sweep as sweep
    from mlcv_bench.surfaces import catalog

    check_outputs(output or [], pictures=(".png", ".svg"))
    check_engine(engine)
    conditions = listed_numbers("--condition", condition)
    point = None
    if start is not None:
        first = conditions[0] if conditions else None
        point = parse_start(start, catalog.find(surface, condition=first, dim=dim, batch_size=batch_size).dimension)
    result = sweep(
        surface,
        optimizer or DEFAULT_OPTIMIZERS,
        conditions=conditions,
        steps=steps,
        target=target,
        start=point,
        starts=starts,
        seed=seed,
        engine=engine,  # type: ignore[arg-type] # checked above
        threads=threads,
        dim=dim,
        rotate=rotate,
        batch_size=batch_size,
        noise=noise,
    )

    def draw(_: object, path: object) -> None:
        from mlcv_bench.report.plots.sweeps import draw as paint

        paint(result, path)  # type: ignore[arg-type] # emit gives a Path

    emit(sweep_report(result), form, output or [], draw=draw, quiet=quiet)
    return ExitCode.INTERRUPTED if result.interrupted else ExitCode.DONE
