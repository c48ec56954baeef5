"""`mlcv-bench width`: the notes' second-order equation for d, and what its ResNeXts cost."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from mlcv_bench.architectures.request import resolve
from mlcv_bench.cli.options import Asked, Format, Output, Quiet, Sink
from mlcv_bench.errors import UsageError

DEPTHS = {"resnet50": 50, "resnet50_v1_5": 50, "resnet101_v1_5": 101, "resnet101": 101, "resnet152": 152}
DEPTHS |= {"resnet152_v1_5": 152}


def width(
    *,
    match: Annotated[
        str, typer.Option("--match", help=f"The bottleneck network to cost as much as: {', '.join(DEPTHS)}.")
    ] = "resnet50_v1_5",
    groups: Annotated[str, typer.Option("--groups", help="Numbers of branches G, separated by commas.")] = "1,2,4,8,32",
    form: Format = "table",
    output: Output = None,
    quiet: Quiet = False,
) -> Asked:
    """Solve the notes' equation for d: ResNeXts as costly as a ResNet."""
    sink = Sink.of(form, output, quiet)
    if match not in DEPTHS:
        raise UsageError(f"--match {match} is no bottleneck ResNet; use one of {', '.join(DEPTHS)}")
    numbers = parse_groups(groups)
    (reference,) = resolve([match])

    def run() -> None:
        from mlcv_bench.report.widths import width_report

        sink.emit(width_report(reference, DEPTHS[match], numbers))

    return Asked(reference, sink, run)


def parse_groups(text: str) -> list[int]:
    """Read numbers of branches separated by commas; each at least 1, and few enough for d to be at least 1.

    Raises:
        UsageError: something is no such number.

    """
    most = 269  # past it the root falls under 1/2 and rounds to zero: 9 G d^2 + 512 G d = 69,632
    numbers = []
    for part in text.split(","):
        if not re.fullmatch(r"\s*\d{1,9}\s*", part, re.ASCII) or not 1 <= int(part) <= most:
            raise UsageError(f"--groups {text}: '{part}' is no number of branches; write 1 to {most}, as 1,2,4,8,32")
        numbers.append(int(part))
    return numbers
