"""`mlcv-bench list`: what exists, from the same tables that the commands read."""

from __future__ import annotations

from typing import Annotated

import typer

from mlcv_bench.cli.options import Asked, Assets, Format, Output, Quiet, Sink
from mlcv_bench.names import spelled, unknown

KINDS = ("architectures", "families", "claims", "optimizers", "surfaces", "subjects", "tasks")
"""What can be listed: each is a function of `report.listings`."""


def complete_kind(incomplete: str) -> list[str]:
    """Return the kinds of things that begin so, for the shell."""
    return [kind for kind in KINDS if kind.startswith(incomplete)]


def list_(
    kind: Annotated[
        str, typer.Argument(help=f"One of: {', '.join(KINDS)}.", autocompletion=complete_kind)
    ] = "architectures",
    *,
    form: Format = "table",
    output: Output = None,
    assets: Assets = None,
    quiet: Quiet = False,
) -> Asked:
    """List what exists: architectures, families, optimizers, surfaces, tasks, claims, subjects of `verify`."""
    kind = spelled(kind, KINDS)
    if kind not in KINDS:
        raise unknown("kind of thing", kind, KINDS, listing=" | ".join(KINDS))
    sink = Sink.of(form, output, quiet, assets=assets)

    def run() -> None:
        from mlcv_bench.report import listings

        sink.emit(getattr(listings, kind)())

    return Asked(kind, sink, run)
