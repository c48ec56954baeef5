"""`mlcv-bench figures`: the notes' figures, and the gallery of all of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mlcv_bench.cli.options import (
    PICTURES,
    Asked,
    Assets,
    FontSize,
    Format,
    Output,
    PictureSize,
    Quiet,
    Sink,
    ThemeOption,
    look_of,
)
from mlcv_bench.cli.racing_options import RaceSeed
from mlcv_bench.errors import UsageError
from mlcv_bench.extras import require
from mlcv_bench.report.look import LETTERS
from mlcv_bench.streams import writing_result

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlcv_bench.report.look import Look


def figures(
    numbers: Annotated[
        list[str] | None,
        typer.Argument(help="Figures of the notes, such as 1.1 or 2.3; none lists them.", show_default=False),
    ] = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="Draw all of them into a folder, with an index page.")] = False,
    picture: Annotated[
        Literal["png", "svg"], typer.Option("--picture", help="Form of the pictures in a folder.")
    ] = "png",
    seed: RaceSeed = 0,
    form: Format = "table",
    output: Output = None,
    assets: Assets = None,
    theme: ThemeOption = "light",
    font_size: FontSize = LETTERS,
    picture_size: PictureSize = None,
    quiet: Quiet = False,
) -> Asked:
    """Draw the notes' figures from real runs and built networks.

    One figure of chapter 1 also shows the runs behind it. Several figures, or --all, go to the folder that -o names.
    """
    from mlcv_bench.claims.figures import FIGURES
    from mlcv_bench.report import gallery

    if every and numbers:
        raise UsageError("give figures or --all, not both")
    chosen = list(gallery.GALLERY) if every else gallery.find(numbers or [])
    look = look_of(theme, font_size, picture_size)
    if len(chosen) == 1 and chosen[0] in FIGURES:
        sink = Sink.of(form, output, quiet, PICTURES, look=look, assets=assets)
        return Asked(chosen, sink, lambda: show_runs(chosen[0], seed, sink))
    if chosen and form != "table":
        raise UsageError(f"--format {form} shows the runs behind one figure of chapter 1; here are pictures alone")
    if every or len(chosen) > 1:
        folder = checked_folder(output or [])
        return Asked(chosen, None, lambda: draw_folder(chosen, folder, f".{picture}", seed, look, quiet=quiet))
    if not chosen:
        return Asked(chosen, None, list_figures)
    pictures = Sink.of(form, output, quiet, PICTURES, texts=(), look=look).outputs
    if not pictures:
        raise UsageError(f"say where the picture goes, for example -o {gallery.stem_of(chosen[0])}.png")
    return Asked(chosen, None, lambda: draw_pictures(chosen[0], pictures, seed, look))


def list_figures() -> None:
    """List the figures."""
    from mlcv_bench.report.gallery import GALLERY

    with writing_result() as stream:
        stream.writelines(f"{number:18} {title}\n" for number, title in GALLERY.items())


def show_runs(number: str, seed: int, sink: Sink) -> None:
    """Run the races of a figure of chapter 1, draw it, and show the runs."""
    from mlcv_bench.claims.figures import run
    from mlcv_bench.report.gallery import figure_report

    drawn = run(number, seed=seed)
    sink.emit(figure_report(drawn), "figures:draw", drawn)


def draw_pictures(number: str, pictures: Sequence[Path], seed: int, look: Look) -> None:
    """Draw one figure into every file."""
    from mlcv_bench.report import gallery
    from mlcv_bench.report.files import save_picture

    draw = gallery.painter(number, seed)
    for path in pictures:
        save_picture(path, draw, look)


def checked_folder(output: Sequence[Path]) -> Path:
    """Return the folder that several figures go to.

    Raises:
        UsageError: none is named, or it can be none.
        MissingExtraError: there is nothing to draw with.

    """
    from mlcv_bench.report.files import TEXT_SUFFIXES

    if len(output) != 1:
        raise UsageError("several pictures go to one folder; name it with -o, for example -o gallery")
    folder = output[0]
    if not folder.is_dir() and folder.suffix.lower() in (*PICTURES, *TEXT_SUFFIXES):
        raise UsageError(f"-o {folder} names one file; several figures go to a folder, for example -o gallery")
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"-o {folder} is a file; several pictures need a folder, for example -o gallery")
    if not folder.parent.is_dir():
        raise UsageError(f"-o {folder}: the folder {folder.parent} does not exist; create it or choose another")
    require("plots", f"-o {folder}")
    return folder


def draw_folder(chosen: Sequence[str], folder: Path, suffix: str, seed: int, look: Look, *, quiet: bool) -> None:
    """Draw figures into a folder, with an index page."""
    from mlcv_bench.execution.progress import Progress
    from mlcv_bench.report import gallery
    from mlcv_bench.report.files import save_picture, save_text

    folder.mkdir(exist_ok=True)
    with Progress(len(chosen), quiet=quiet) as progress:
        for done, number in enumerate(chosen):
            progress.show(f"figure {number}: {gallery.GALLERY[number]}", done)
            path = folder / f"{gallery.stem_of(number)}{suffix}"
            save_picture(path, gallery.painter(number, seed), look)
    save_text(folder / "index.html", gallery.index_page(chosen, suffix))
    with writing_result() as stream:
        stream.write(f"{folder / 'index.html'}\n")
