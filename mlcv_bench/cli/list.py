"""`mlcv-bench list`: what exists, from the same tables that the commands read."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Annotated

import typer

from mlcv_bench.cli.options import Asked, Format, Output, Quiet, Sink
from mlcv_bench.names import unknown

if TYPE_CHECKING:
    from mlcv_bench.records import Report

LISTINGS: dict[str, str] = {
    "architectures": "mlcv_bench.cli.listings:architectures",
    "families": "mlcv_bench.cli.listings:families",
    "claims": "mlcv_bench.cli.listings:claims",
    "optimizers": "mlcv_bench.cli.listings:optimizers",
    "surfaces": "mlcv_bench.cli.listings:surfaces",
    "subjects": "mlcv_bench.cli.listings:subjects",
    "tasks": "mlcv_bench.cli.listings:tasks",
}
"""What can be listed: a function without arguments that returns a Report."""


def complete_kind(incomplete: str) -> list[str]:
    """Return the kinds of things that begin so, for the shell."""
    return [kind for kind in LISTINGS if kind.startswith(incomplete)]


def list_(
    kind: Annotated[
        str, typer.Argument(help=f"One of: {', '.join(LISTINGS)}.", autocompletion=complete_kind)
    ] = "architectures",
    *,
    form: Format = "table",
    output: Output = None,
    quiet: Quiet = False,
) -> Asked:
    """List what exists: architectures, families, optimizers, surfaces, tasks, claims, subjects of `verify`."""
    if kind not in LISTINGS:
        raise unknown("kind of thing", kind, LISTINGS, listing=" | ".join(LISTINGS))
    sink = Sink.of(form, output, quiet)

    def run() -> None:
        module, _, attribute = LISTINGS[kind].partition(":")
        report: Report = getattr(importlib.import_module(module), attribute)()
        sink.emit(report)

    return Asked(kind, sink, run)
