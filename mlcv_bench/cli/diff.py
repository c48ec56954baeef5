"""`mlcv-bench diff`: two networks side by side, block by block where they align."""

from __future__ import annotations

from typing import Annotated

import typer

from mlcv_bench.cli.options import (
    Asked,
    Assets,
    Batch,
    Format,
    Inputs,
    Output,
    Quiet,
    Settings,
    Sink,
    complete_architecture,
    networks,
)

One = Annotated[str, typer.Argument(help="An architecture or a specification.", autocompletion=complete_architecture)]


def diff(
    first: One,
    second: One,
    *,
    depth: Annotated[int, typer.Option("--depth", min=1, help="How many levels of modules down the blocks are.")] = 2,
    settings: Settings = None,
    inputs: Inputs = None,
    batch: Batch = 1,
    form: Format = "table",
    output: Output = None,
    assets: Assets = None,
    quiet: Quiet = False,
) -> Asked:
    """Show two networks side by side, block by block, with ratios."""
    sink = Sink.of(form, output, quiet, assets=assets)
    sides = [networks([name], settings, inputs) for name in (first, second)]
    for side in sides:
        side.check_one("diff")

    def run() -> None:
        one, other = (request for side in sides for request in side.requests())
        from mlcv_bench.counting.diff import diff as compare
        from mlcv_bench.report.trees import diff_report

        sizes = dict.fromkeys((one.input_text, other.input_text))
        under = f"{' and '.join(sizes)}, batch {batch}"
        sink.emit(diff_report(one.label, other.label, compare(one, other, depth=depth, batch=batch), under))

    return Asked(sides, sink, run)
