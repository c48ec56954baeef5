"""`mlcv-bench diff`: two networks side by side, block by block where they align."""

from __future__ import annotations

from typing import Annotated

import typer

from mlcv_bench.architectures.request import resolve
from mlcv_bench.cli.options import (
    Batch,
    Format,
    Input,
    Output,
    Quiet,
    Settings,
    complete_architecture,
    parse_shape,
)
from mlcv_bench.errors import UsageError
from mlcv_bench.names import parse_settings

One = Annotated[str, typer.Argument(help="An architecture or a specification.", autocompletion=complete_architecture)]


def diff(
    first: One,
    second: One,
    *,
    depth: Annotated[int, typer.Option("--depth", min=1, help="How many levels of modules down the blocks are.")] = 2,
    settings: Settings = None,
    shape: Input = None,
    batch: Batch = 1,
    form: Format = "table",
    output: Output = None,
    quiet: Quiet = False,
) -> None:
    """Show two networks side by side, block by block, with ratios."""
    from mlcv_bench.report.files import check_outputs

    check_outputs(output or [])
    size = parse_shape(shape) if shape is not None else None
    pair = []
    for name in (first, second):
        requests = resolve([name], settings=parse_settings(settings or []), input=size)
        if len(requests) > 1:
            members = ", ".join(request.name for request in requests)
            raise UsageError(f"diff compares two networks, and {name} is a family; choose one of {members}")
        pair += requests
    from mlcv_bench.counting.diff import diff as compare
    from mlcv_bench.report import emit
    from mlcv_bench.report.diffs import diff_report

    one, other = pair
    inputs = dict.fromkeys((one.input_text, other.input_text))
    report = diff_report(
        one.label, other.label, compare(one, other, depth=depth, batch=batch), f"{' and '.join(inputs)}, batch {batch}"
    )
    emit(report, form, output or [], quiet=quiet)
