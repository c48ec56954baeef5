"""`mlcv-bench diff`: two networks side by side, block by block where they align."""

from __future__ import annotations

from typing import Annotated

import typer

from mlcv_bench.cli.options import (
    Batch,
    Format,
    Inputs,
    Output,
    Quiet,
    Settings,
    complete_architecture,
    one_request,
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
    quiet: Quiet = False,
) -> None:
    """Show two networks side by side, block by block, with ratios."""
    from mlcv_bench.report.files import check_outputs

    check_outputs(output or [])
    one, other = (one_request("diff", name, settings, inputs) for name in (first, second))
    from mlcv_bench.counting.diff import diff as compare
    from mlcv_bench.report import emit
    from mlcv_bench.report.diffs import diff_report

    sizes = dict.fromkeys((one.input_text, other.input_text))
    report = diff_report(
        one.label, other.label, compare(one, other, depth=depth, batch=batch), f"{' and '.join(sizes)}, batch {batch}"
    )
    emit(report, form, output or [], quiet=quiet)
