"""`mlcv-bench report`: saved results, shown again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlcv_bench.cli.options import Asked, Format, Output, Quiet, Sink
from mlcv_bench.errors import UsageError

Files = Annotated[
    list[Path],
    typer.Argument(help="The .json files of one study, saved with -o.", metavar="FILE...", show_default=False),
]


def report(files: Files, *, form: Format = "table", output: Output = None, quiet: Quiet = False) -> Asked:
    """Show saved results again as a table, Markdown or CSV; several files of one study side by side."""
    # A .json would be dated here and now; the ones that were saved are there already.
    sink = Sink.of(form, output, quiet, texts=(".csv", ".md"))

    def run() -> None:
        from mlcv_bench.comparing.saved import load
        from mlcv_bench.report.saved import saved_report

        first, *others = results = [load(path) for path in files]
        for other in others:
            if other.study != first.study:
                held = f"{first.path} holds {first.study} and {other.path} {other.study}"
                raise UsageError(f"{held}; give files of one study")
        sink.emit(saved_report(results))

    return Asked(tuple(files), sink, run)
