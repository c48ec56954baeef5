"""`mlcv-bench width`: the notes' second-order equation for d, and what its ResNeXts cost."""

from __future__ import annotations

from typing import Annotated

import typer

from mlcv_bench.architectures.request import Networks
from mlcv_bench.cli.options import Asked, Assets, Format, Output, Quiet, Sink, numbers
from mlcv_bench.errors import UsageError
from mlcv_bench.names import spelled

DEPTHS = {"resnet50": 50, "resnet50_v1_5": 50, "resnet101_v1_5": 101, "resnet101": 101, "resnet152": 152}
DEPTHS |= {"resnet152_v1_5": 152}
MOST_GROUPS = 269
"""Past it the root falls under 1/2 and d rounds to zero: 9 G d^2 + 512 G d = 69,632."""


def width(
    *,
    match: Annotated[
        str, typer.Option("--match", help=f"The bottleneck network to cost as much as: {', '.join(DEPTHS)}.")
    ] = "resnet50_v1_5",
    groups: Annotated[str, typer.Option("--groups", help="Numbers of branches G, separated by commas.")] = "1,2,4,8,32",
    form: Format = "table",
    output: Output = None,
    assets: Assets = None,
    quiet: Quiet = False,
) -> Asked:
    """Solve the notes' equation for d: ResNeXts as costly as a ResNet."""
    sink = Sink.of(form, output, quiet, assets=assets)
    match = spelled(match, DEPTHS)
    if match not in DEPTHS:
        raise UsageError(f"--match {match} is no bottleneck ResNet; use one of {', '.join(DEPTHS)}")
    chosen = numbers("--groups", [groups])
    if max(chosen) > MOST_GROUPS:
        raise UsageError(
            f"--groups {groups}: {max(chosen)} leaves no width; write numbers of branches up to {MOST_GROUPS}"
        )
    (reference,) = Networks((match,)).requests()

    def run() -> None:
        from mlcv_bench.report.costs import width_report

        sink.emit(width_report(reference, DEPTHS[match], chosen))

    return Asked(reference, sink, run)
