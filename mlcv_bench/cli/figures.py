"""`mlcv-bench figures`: the notes' figures, and the gallery of all of them."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mlcv_bench.cli.options import Format, Output, Quiet
from mlcv_bench.cli.racing_options import RaceSeed
from mlcv_bench.errors import UsageError
from mlcv_bench.streams import writing_result

if TYPE_CHECKING:
    from collections.abc import Sequence

PICTURES = (".png", ".svg")


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
    quiet: Quiet = False,
) -> None:
    """Draw the notes' figures from real runs and built networks.

    One figure of chapter 1 also shows the runs behind it. Several figures, or --all, go to the folder that -o names.
    """
    from mlcv_bench.report import gallery

    if every and numbers:
        raise UsageError("give figures or --all, not both")
    chosen = list(gallery.GALLERY) if every else gallery.find(numbers or [])
    if not chosen:
        with writing_result() as stream:
            stream.writelines(f"{number:8} {title}\n" for number, title in gallery.GALLERY.items())
    elif every or len(chosen) > 1:
        refuse_form(form)
        draw_folder(chosen, output or [], f".{picture}", seed, quiet=quiet)
    else:
        from mlcv_bench.claims.figures import FIGURES
        from mlcv_bench.report.files import check_outputs, save_picture

        if chosen[0] in FIGURES:
            show_runs(chosen[0], seed, form, output, quiet=quiet)
            return
        refuse_form(form)
        check_outputs(output or [], pictures=PICTURES, texts=())
        if not output:
            raise UsageError(f"say where the picture goes, for example -o {gallery.stem_of(chosen[0])}.png")
        for path in output:
            save_picture(path, lambda place: gallery.draw(chosen[0], place, seed))


def refuse_form(form: str) -> None:
    """Refuse another form than the usual one where there are only pictures.

    Raises:
        UsageError: as said.

    """
    if form != "table":
        raise UsageError(f"--format {form} shows the runs behind one figure of chapter 1; here are pictures alone")


def show_runs(number: str, seed: int, form: Format, output: Output, *, quiet: bool) -> None:
    """Run the races of a figure of chapter 1, draw it, and show the runs."""
    from mlcv_bench.claims.figures import run
    from mlcv_bench.report import check_outputs, emit
    from mlcv_bench.report.gallery import figure_report

    check_outputs(output or [], pictures=PICTURES)
    drawn = run(number, seed=seed)

    def paint(_: object, path: Path) -> None:
        from mlcv_bench.report.plots.figures import draw

        draw(drawn, path)

    emit(figure_report(drawn), form, output or [], draw=paint, quiet=quiet)


def draw_folder(chosen: Sequence[str], output: Sequence[Path], suffix: str, seed: int, *, quiet: bool) -> None:
    """Draw figures into a folder, with an index page."""
    if len(output) != 1:
        raise UsageError("several figures go to one folder; name it with -o, for example -o gallery")
    folder = output[0]
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"-o {folder} is a file; several figures need a folder, for example -o gallery")
    if not folder.parent.is_dir():
        raise UsageError(f"-o {folder}: the folder {folder.parent} does not exist; create it or choose another")
    from mlcv_bench.execution.progress import Progress
    from mlcv_bench.report import gallery
    from mlcv_bench.report.files import save_picture, save_text

    folder.mkdir(exist_ok=True)
    with Progress(len(chosen), quiet=quiet) as progress:
        for done, number in enumerate(chosen):
            progress.show(f"figure {number}: {gallery.GALLERY[number]}", done)
            save_picture(folder / f"{gallery.stem_of(number)}{suffix}", partial(gallery.draw, number, seed=seed))
    save_text(folder / "index.html", gallery.index_page(chosen, suffix))
    with writing_result() as stream:
        stream.write(f"{folder / 'index.html'}\n")
