"""`mlcv-bench flops` and `mlcv-bench params`: the cost of any architecture, counted without allocating it."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mlcv_bench.architectures.request import resolve
from mlcv_bench.cli.options import Batch, Format, Input, Names, Output, Quiet, Settings, parse_shape
from mlcv_bench.names import parse_settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mlcv_bench.cli.options import Form
    from mlcv_bench.counting.cost import Cost
    from mlcv_bench.records import Report

SortKey = Literal[
    "params", "macs", "activations", "weight_bytes", "peak_activation_bytes", "buffers", "operators", "architecture"
]
Sort = Annotated[SortKey | None, typer.Option("--sort", help="Largest first by this column; names go by alphabet.")]
Top = Annotated[int | None, typer.Option("--top", min=1, help="Show only the first so many rows.")]


def flops(
    names: Names,
    *,
    settings: Settings = None,
    shape: Input = None,
    batch: Batch = 1,
    sort: Sort = None,
    top: Top = None,
    form: Format = "table",
    output: Output = None,
    quiet: Quiet = False,
) -> None:
    """Count MACs, FLOPs, activations and memory of architectures."""
    from mlcv_bench.report.files import check_outputs

    check_outputs(output or [])
    costs, labels = counted(names, settings, shape, batch, sort, top)
    show("cost_report", costs, labels, form, output, quiet=quiet)


def params(
    names: Names,
    *,
    settings: Settings = None,
    shape: Input = None,
    batch: Batch = 1,
    sort: Sort = None,
    top: Top = None,
    form: Format = "table",
    output: Output = None,
    quiet: Quiet = False,
) -> None:
    """Count parameters, buffers and their bytes of architectures."""
    from mlcv_bench.report.files import check_outputs

    check_outputs(output or [])
    costs, labels = counted(names, settings, shape, batch, sort, top)
    show("parameter_report", costs, labels, form, output, quiet=quiet)


def counted(
    names: list[str],
    settings: list[str] | None,
    shape: str | None,
    batch: int,
    sort: SortKey | None,
    top: int | None,
) -> tuple[list[Cost], list[str]]:
    """Check the request, then count every name; returns the costs and their labels, sorted and cut."""
    requests = resolve(
        names,
        settings=parse_settings(settings or []),
        input=parse_shape(shape) if shape is not None else None,
    )
    # Importing torch and building networks make no garbage worth collecting; looking for it costs a tenth of the time.
    gc.disable()
    from mlcv_bench.counting.cost import count

    pairs = [(count(request, batch=batch), request.label) for request in requests]
    gc.enable()
    if sort == "architecture":
        pairs.sort(key=lambda pair: pair[0].architecture)
    elif sort is not None:
        pairs.sort(key=lambda pair: getattr(pair[0], sort), reverse=True)
    pairs = pairs[:top]
    return [cost for cost, _ in pairs], [label for _, label in pairs]


def show(
    view: Literal["cost_report", "parameter_report"],
    costs: list[Cost],
    labels: list[str],
    form: Form,
    output: list[Path] | None,
    *,
    quiet: bool,
) -> None:
    """Print and save the costs through one of the reports."""
    from mlcv_bench.report import costs as reports
    from mlcv_bench.report import emit

    build_report: Callable[[list[Cost], list[str]], Report] = getattr(reports, view)
    emit(build_report(costs, labels), form, output or [], quiet=quiet)
