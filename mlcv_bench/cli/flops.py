"""`mlcv-bench flops` and `mlcv-bench params`: the cost of any architecture, counted without allocating it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import typer

from mlcv_bench.cli.options import (
    PICTURES,
    Asked,
    Assets,
    FontSize,
    Format,
    Inputs,
    Names,
    Output,
    PictureSize,
    Quiet,
    Settings,
    Sink,
    ThemeOption,
    listed,
    look_of,
    networks,
    numbers,
    optimizers_of,
)
from mlcv_bench.counting.own_figures import Better
from mlcv_bench.counting.request import CostRequest
from mlcv_bench.errors import CheckFailedError
from mlcv_bench.report.look import LETTERS

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
Batches = Annotated[
    list[str] | None,
    typer.Option("--batch", help="Images in a batch; 1 if not given. Repeatable, or with commas.", show_default=False),
]
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
Optimizers = Annotated[
    list[str] | None,
    typer.Option(
        "--optimizer",
        help="With --training: the rule whose state takes memory; sgd by default. Repeatable, or with commas.",
        show_default=False,
    ),
]
Memory = Annotated[
    str | None, typer.Option("--memory", help="With --training: 16GB or 16GiB; finds the largest batch that fits.")
]


Join = Annotated[
    Path | None,
    typer.Option(
        "--join", help="A CSV of your own: its figures beside the cost, by its column name.", show_default=False
    ),
]
JoinColumns = Annotated[
    list[str] | None,
    typer.Option(
        "--join-column",
        help="What to take from it: accuracy,latency; the first is the picture's. By default its first numbers.",
        show_default=False,
    ),
]
BetterOption = Annotated[
    Better | None,
    typer.Option("--better", help="Which way that figure is better; by default its name decides.", show_default=False),
]
MatchMacs = Annotated[
    str | None,
    typer.Option("--match-macs", help="Find, by --set-range, the networks that cost as much.", show_default=False),
]
SetRange = Annotated[
    str | None,
    typer.Option("--set-range", help="The setting to find: width=16..128, or width=16..128:8.", show_default=False),
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
    optimizers: Optimizers = None,
    memory: Memory = None,
    join: Join = None,
    join_columns: JoinColumns = None,
    better: BetterOption = None,
    match_macs: MatchMacs = None,
    set_range: SetRange = None,
    sort: Sort = None,
    top: Top = None,
    form: Format = "table",
    output: Output = None,
    assets: Assets = None,
    theme: ThemeOption = "light",
    font_size: FontSize = LETTERS,
    picture_size: PictureSize = None,
    quiet: Quiet = False,
) -> Asked:
    """Count MACs, FLOPs, activations and memory of architectures."""
    ways = tuple(way for way, wanted in (("audit", audit), ("reconcile", reconcile), ("training", training)) if wanted)
    sink = Sink.of(
        form, output, quiet, () if ways else PICTURES, look=look_of(theme, font_size, picture_size), assets=assets
    )
    rules = optimizers_of(optimizers)
    request = CostRequest(
        networks(names, settings, inputs),
        tuple(numbers("--batch", batches, 1)),
        ways,
        rules,
        memory,
        sort,
        top,
        join,
        tuple(listed("--join-column", join_columns)),
        better,
        match_macs,
        set_range,
    )
    request.check()
    return Asked(request, sink, lambda: WAYS[ways[0]](request, sink) if ways else count(request, sink))


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
    assets: Assets = None,
    theme: ThemeOption = "light",
    font_size: FontSize = LETTERS,
    picture_size: PictureSize = None,
    quiet: Quiet = False,
) -> Asked:
    """Count parameters, buffers and their bytes of architectures."""
    sink = Sink.of(form, output, quiet, PICTURES, look=look_of(theme, font_size, picture_size), assets=assets)
    request = CostRequest(networks(names, settings, inputs), tuple(numbers("--batch", batches, 1)), sort=sort, top=top)
    request.check()
    return Asked(request, sink, lambda: count(request, sink, parameters=True))


def count(request: CostRequest, sink: Sink, *, parameters: bool = False) -> None:
    """Count every network and batch, sort and cut; with `parameters`, an input that does not fit leaves those."""
    figures = request.own_figures
    networks = request.networks.requests() if request.match is None else []
    from mlcv_bench.counting.cost import count, count_parameters
    from mlcv_bench.counting.equal_cost import Counted, matched
    from mlcv_bench.report.beside import equal_cost, joined
    from mlcv_bench.report.costs import cost_report, parameter_report

    counting = count_parameters if parameters else count
    found = [Counted(one.label, counting(one, batch=batch)) for one in networks for batch in request.batches]
    found += matched(request)
    if request.sort is not None:
        column = request.sort
        found.sort(key=lambda one: getattr(one.cost, column), reverse=column != "architecture")
    found = found[: request.top]
    costs, labels = [one.cost for one in found], [one.label for one in found]
    if parameters:
        report = parameter_report(costs, labels)
    else:
        beside = [*([joined(found, figures)] if figures else []), *([equal_cost(found)] if request.match else [])]
        report = cost_report(costs, labels, beside)
    sink.emit(report, "costs:draw_costs")


def audit(request: CostRequest, sink: Sink) -> None:
    """Audit every network; whatever no rule explains fails the check after everything is shown.

    Raises:
        CheckFailedError: something is left unexplained.

    """
    networks = request.networks.requests()
    from mlcv_bench.counting.audit import audit
    from mlcv_bench.counting.network import Network
    from mlcv_bench.report.audits import audit_report

    audits = [audit(Network.of(one), batch) for one in networks for batch in request.batches]
    sink.emit(audit_report(audits))
    if apart := [found for found in audits if found.leftover]:
        names = ", ".join(f"{found.architecture} ({found.leftover:,})" for found in apart)
        raise CheckFailedError(f"the audit leaves something unexplained for {names}")


def reconcile(request: CostRequest, sink: Sink) -> None:
    """Show the figures of other tools, tables and papers for every network."""
    networks = request.networks.requests()
    from mlcv_bench.counting.network import Network
    from mlcv_bench.counting.reconcile import reconcile
    from mlcv_bench.report.audits import reconcile_report

    sink.emit(reconcile_report([reconcile(Network.of(one)) for one in networks]))


def train(request: CostRequest, sink: Sink) -> None:
    """Count a training step of every network."""
    networks = request.networks.requests()
    from mlcv_bench.counting.network import Network
    from mlcv_bench.counting.request import parse_memory
    from mlcv_bench.counting.training import training_cost
    from mlcv_bench.optimizers.rule import proper
    from mlcv_bench.report.costs import training_report

    limit = parse_memory(request.memory) if request.memory is not None else None
    costs = [
        training_cost(Network.of(one), batch, optimizer=proper(optimizer), memory=limit)
        for one in networks
        for batch in request.batches
        for optimizer in request.optimizers or ("sgd",)
    ]
    sink.emit(training_report(costs))


WAYS: dict[str, Callable[[CostRequest, Sink], None]] = {"audit": audit, "reconcile": reconcile, "training": train}
