"""`mlcv-bench summary`: one architecture as a tree of modules with their costs."""

from __future__ import annotations

from typing import Annotated

import typer

from mlcv_bench.architectures.request import check_weights
from mlcv_bench.cli.options import Batch, Format, Inputs, Name, Output, Quiet, Settings, Weights, one_request
from mlcv_bench.errors import CheckFailedError


def summary(
    name: Name,
    *,
    depth: Annotated[int, typer.Option("--depth", min=0, help="How many levels of modules to show.")] = 2,
    settings: Settings = None,
    inputs: Inputs = None,
    batch: Batch = 1,
    weights: Weights = None,
    form: Format = "table",
    output: Output = None,
    quiet: Quiet = False,
) -> None:
    """Show one architecture as a tree of modules with their costs."""
    from mlcv_bench.report.files import check_outputs

    check_outputs(output or [])
    if weights is not None:
        check_weights(weights)
    request = one_request("summary", name, settings, inputs)
    from mlcv_bench.report import emit
    from mlcv_bench.report.trees import summary_report

    report = summary_report(request, depth, batch, weights)
    emit(report, form, output or [], quiet=quiet)
    if weights is not None and not report.details["weights"].complete:
        raise CheckFailedError(f"the weights do not fit {request.label}: {report.details['weights'].sentence}")
