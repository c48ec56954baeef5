"""`mlcv-bench flops` and `mlcv-bench params`: the cost of any architecture, counted without allocating it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mlcv_bench.architectures.request import Request, parse_inputs, resolve
from mlcv_bench.cli.options import Batches, Format, Inputs, Names, Output, Quiet, Settings
from mlcv_bench.errors import UsageError
from mlcv_bench.names import parse_settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mlcv_bench.cli.options import Form
    from mlcv_bench.counting.cost import Cost
    from mlcv_bench.records import Report

SortKey = Literal[
    "params",
    "macs",
    "flops",
    "activations",
    "weight_bytes",
    "peak_activation_bytes",
    "buffers",
    "operators",
    "norm_ops",
    "bias_ops",
    "activation_ops",
    "pooling_ops",
    "addition_ops",
    "architecture",
]
PICTURES = (".png", ".svg")
Sort = Annotated[SortKey | None, typer.Option("--sort", help="Largest first by this column; names go by alphabet.")]
Top = Annotated[int | None, typer.Option("--top", min=1, help="Show only the first so many rows.")]
Audit = Annotated[
    bool, typer.Option("--audit", help="Count with fvcore and torch too, and explain every difference; else exit 1.")
]
Reconcile = Annotated[
    bool, typer.Option("--reconcile", help="Show what other tools, tables and papers say, with the arithmetic.")
]
Training = Annotated[
    bool, typer.Option("--training", help="Count a training step: forward and backward MACs, and its memory.")
]
Optimizer = Annotated[
    str | None, typer.Option("--optimizer", help="With --training: the rule whose state takes memory; sgd by default.")
]
Memory = Annotated[
    str | None, typer.Option("--memory", help="With --training: 16GB or 16GiB; finds the largest batch that fits.")
]


def flops(
    names: Names,
    *,
    settings: Settings = None,
    inputs: Inputs = None,
    batches: Batches = None,
    audit: Audit = False,
    reconcile: Reconcile = False,
    training: Training = False,
    optimizer: Optimizer = None,
    memory: Memory = None,
    sort: Sort = None,
    top: Top = None,
    form: Format = "table",
    output: Output = None,
    quiet: Quiet = False,
) -> None:
    """Count MACs, FLOPs, activations and memory of architectures."""
    from mlcv_bench.report.files import check_outputs

    asked = [flag for flag, wanted in (("audit", audit), ("reconcile", reconcile), ("training", training)) if wanted]
    check_combination(asked, optimizer, memory, batches, sort, top)
    check_outputs(output or [], pictures=() if asked else PICTURES)
    if asked:
        from mlcv_bench.cli import depth

        requests = requested(names, settings, inputs)
        depth.run(asked[0], requests, batches or [1], optimizer or "sgd", memory, form, output or [], quiet=quiet)
        return
    costs, labels = counted(names, settings, inputs, batches, sort, top)
    show("cost_report", costs, labels, form, output, quiet=quiet)


def params(
    names: Names,
    *,
    settings: Settings = None,
    inputs: Inputs = None,
    batches: Batches = None,
    sort: Sort = None,
    top: Top = None,
    form: Format = "table",
    output: Output = None,
    quiet: Quiet = False,
) -> None:
    """Count parameters, buffers and their bytes of architectures."""
    from mlcv_bench.report.files import check_outputs

    check_outputs(output or [], pictures=PICTURES)
    costs, labels = counted(names, settings, inputs, batches, sort, top, parameters=True)
    show("parameter_report", costs, labels, form, output, quiet=quiet)


def check_combination(
    asked: list[str],
    optimizer: str | None,
    memory: str | None,
    batches: list[int] | None,
    sort: str | None,
    top: int | None,
) -> None:
    """Refuse options that say nothing together.

    Raises:
        UsageError: two of --audit, --reconcile, --training, or an option that belongs to none of those given.

    """
    if len(asked) > 1:
        raise UsageError(f"--{asked[0]} and --{asked[1]} are different tables; ask for one at a time")
    if "training" not in asked and (optimizer or memory):
        raise UsageError(f"{'--optimizer' if optimizer else '--memory'} belongs to --training; add --training")
    if asked == ["reconcile"] and batches and batches != [1]:
        raise UsageError("--reconcile speaks of one image; leave --batch out")
    if asked and (sort or top):
        raise UsageError(f"--{'sort' if sort else 'top'} orders the plain count; leave it out with --{asked[0]}")


def requested(names: list[str], settings: list[str] | None, inputs: list[str] | None) -> list[Request]:
    """Check everything that was asked; one request a name and input, names outermost."""
    shapes, tensors = parse_inputs(inputs or [])
    given = parse_settings(settings or [])
    sizes: list[tuple[int, ...] | None] = [*shapes] or [None]
    sweeps = [resolve(names, settings=given, input=shape, tensors=tensors) for shape in sizes]
    return [request for requests in zip(*sweeps, strict=True) for request in requests]


def counted(
    names: list[str],
    settings: list[str] | None,
    inputs: list[str] | None,
    batches: list[int] | None,
    sort: SortKey | None,
    top: int | None,
    *,
    parameters: bool = False,
) -> tuple[list[Cost], list[str]]:
    """Check the request, then count every name, input and batch; returns the costs and labels, sorted and cut.

    With `parameters`, an input that does not fit leaves the parameters.
    """
    requests = requested(names, settings, inputs)
    from mlcv_bench.counting.cost import count, count_parameters

    counting = count_parameters if parameters else count
    pairs = [(counting(request, batch=batch), request.label) for request in requests for batch in batches or [1]]
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

    def draw(report: Report, path: Path) -> None:
        from mlcv_bench.report.plots.costs import draw_costs

        draw_costs(report, path)

    build_report: Callable[[list[Cost], list[str]], Report] = getattr(reports, view)
    emit(build_report(costs, labels), form, output or [], draw=draw, quiet=quiet)
