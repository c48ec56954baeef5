"""`mlcv-bench figures`: the notes' figures of chapter 1, drawn from real runs."""

from __future__ import annotations

from typing import Annotated

import typer

from mlcv_bench.cli.options import Format, Output, Quiet
from mlcv_bench.cli.racing_options import Seed

Number = Annotated[str, typer.Argument(help="A figure of the notes: 1.1 to 1.7.", show_default=False)]


def figures(
    number: Number,
    *,
    seed: Seed = 0,
    form: Format = "table",
    output: Output = None,
    quiet: Quiet = False,
) -> None:
    """Draw a figure of the notes from real runs, and show the runs behind it."""
    from mlcv_bench.report import check_outputs, emit
    from mlcv_bench.report.figures import find, run

    check_outputs(output or [], pictures=(".png", ".svg"))
    find(number)
    drawn = run(number, seed=seed)

    def draw(_: object, path: object) -> None:
        from mlcv_bench.report.plots.figures import draw as paint

        paint(drawn, path)  # type: ignore[arg-type] # emit gives a Path

    emit(drawn.report(), form, output or [], draw=draw, quiet=quiet)
