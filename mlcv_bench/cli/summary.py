"""`mlcv-bench summary`: one architecture as a tree of modules with their costs."""

from __future__ import annotations

from typing import Annotated

import typer

from mlcv_bench.architectures.request import check_weights, resolve
from mlcv_bench.cli.options import Batch, Format, Input, Name, Output, Quiet, Settings, Weights, parse_shape
from mlcv_bench.errors import CheckFailedError, UsageError
from mlcv_bench.names import parse_settings


def summary(
    name: Name,
    *,
    depth: Annotated[int, typer.Option("--depth", min=0, help="How many levels of modules to show.")] = 2,
    settings: Settings = None,
    shape: Input = None,
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
    requests = resolve(
        [name],
        settings=parse_settings(settings or []),
        input=parse_shape(shape) if shape is not None else None,
    )
    if len(requests) > 1:
        members = ", ".join(request.name for request in requests)
        raise UsageError(f"summary shows one network, and {name} is a family; choose one of {members}")
    from mlcv_bench.report import emit
    from mlcv_bench.report.trees import summary_report

    report = summary_report(requests[0], depth, batch, weights)
    emit(report, form, output or [], quiet=quiet)
    if weights is not None and not report.details["weights"].complete:
        raise CheckFailedError(f"the weights do not fit {requests[0].label}: {report.details['weights'].sentence}")
