"""`mlcv-bench summary`: one architecture as a tree of modules with their costs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlcv_bench.architectures.request import check_weights
from mlcv_bench.cli.options import Asked, Assets, Batch, Format, Inputs, Name, Output, Quiet, Settings, Sink, networks
from mlcv_bench.errors import CheckFailedError


def summary(
    name: Name,
    *,
    depth: Annotated[int, typer.Option("--depth", min=0, help="How many levels of modules to show.")] = 2,
    settings: Settings = None,
    inputs: Inputs = None,
    batch: Batch = 1,
    weights: Annotated[
        Path | None,
        typer.Option("--weights", help="Check these weights against the network: .safetensors, .pth, .pt."),
    ] = None,
    form: Format = "table",
    output: Output = None,
    assets: Assets = None,
    quiet: Quiet = False,
) -> Asked:
    """Show one architecture as a tree of modules with their costs."""
    sink = Sink.of(form, output, quiet, assets=assets)
    if weights is not None:
        check_weights(weights)
    asked = networks([name], settings, inputs)
    asked.check_one("summary")

    def run() -> None:
        (request,) = asked.requests()
        from mlcv_bench.report.trees import summary_report

        report = summary_report(request, depth, batch, weights)
        sink.emit(report)
        if weights is not None and not report.details["weights"].complete:
            raise CheckFailedError(f"the weights do not fit {request.label}: {report.details['weights'].sentence}")

    return Asked(asked, sink, run)
