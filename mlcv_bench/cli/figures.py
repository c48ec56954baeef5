"""`mlcv-bench figures`: the notes' figures, and the gallery of all of them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from mlcv_bench.cli.options import Quiet
from mlcv_bench.errors import UsageError
from mlcv_bench.report.figures import FIGURES, find, index_page


def figures(
    numbers: Annotated[
        list[str] | None,
        typer.Argument(help="Figures of the notes, as 2.1; without any, what there is.", show_default=False),
    ] = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="Draw all of them, with an index page.")] = False,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="A folder; for one figure also a file (.png, .svg).", show_default=False),
    ] = None,
    suffix: Annotated[
        Literal["png", "svg"], typer.Option("--picture", help="Form of the pictures in a folder.")
    ] = "png",
    quiet: Quiet = False,
) -> None:
    """Draw the notes' figures from real runs and built networks."""
    if every and numbers:
        raise UsageError("give figures or --all, not both")
    chosen = list(FIGURES.values()) if every else find(numbers or [])
    if not chosen:
        for figure in FIGURES.values():
            typer.echo(f"{figure.number:8} {figure.title}")
        return
    if output is None:
        raise UsageError("say where the pictures go, for example -o gallery or -o figure.png")
    from mlcv_bench.report.files import check_outputs, save_picture, save_text

    if len(chosen) == 1 and output.suffix:
        check_outputs([output], pictures=(".png", ".svg"), texts=())
        save_picture(output, chosen[0].draw)
        return
    if output.exists() and not output.is_dir():
        raise UsageError(f"-o {output} is a file; several figures need a folder, for example -o gallery")
    if not output.parent.is_dir():
        raise UsageError(f"-o {output}: the folder {output.parent} does not exist; create it or choose another")
    output.mkdir(exist_ok=True)
    for figure in chosen:
        if not quiet and sys.stderr.isatty():
            typer.echo(f"figure {figure.number}: {figure.title}", err=True)
        save_picture(output / f"{figure.stem}.{suffix}", figure.draw)
    save_text(output / "index.html", index_page(chosen, f".{suffix}"))
    typer.echo(str(output / "index.html"))
