"""`mlcv-bench report`: saved results, shown again, or put on one page."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlcv_bench.cli.options import Asked, Assets, Format, Output, Quiet, Sink
from mlcv_bench.errors import BenchError, UsageError
from mlcv_bench.report.formats import PAGE
from mlcv_bench.streams import writing_result

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlcv_bench.comparing.saved import SavedResult
    from mlcv_bench.surface_race.basins import BasinMap
    from mlcv_bench.surface_race.race import Race

MOST_UPDATES = 300_000_000
"""Steps of all runs together that a page takes again: some seconds."""
Files = Annotated[
    list[Path],
    typer.Argument(help="The .json files, saved with -o; of one study, but for a page.", metavar="FILE..."),
]


def report(
    files: Files, *, form: Format = "table", output: Output = None, assets: Assets = None, quiet: Quiet = False
) -> Asked:
    """Show saved results again; several files of one study side by side, of any on one page (-o report.html)."""
    # A .json would be dated here and now; the ones that were saved are there already.
    sink = Sink.of(form, output, quiet, texts=(".csv", ".md", PAGE), assets=assets)

    def run() -> None:
        from mlcv_bench.comparing.saved import load
        from mlcv_bench.report.saved import saved_report

        results = [load(path) for path in files]
        pages = [path for path in sink.outputs if path.suffix.lower() == PAGE]
        mixed = several_studies(results)
        if mixed and (not pages or len(pages) < len(sink.outputs) or form != "table"):
            raise UsageError(f"{mixed}; give files of one study, or -o report{PAGE} alone for all on one page")
        for path in pages:
            save_page(results, path, assets)
        if mixed:
            with writing_result() as stream:
                stream.writelines(f"{path}\n" for path in pages)
        else:
            replace(sink, outputs=tuple(path for path in sink.outputs if path not in pages)).emit(saved_report(results))

    return Asked(tuple(files), sink, run)


def several_studies(results: Sequence[SavedResult]) -> str:
    """Say which two files are of different studies; nothing where all are of one."""
    first, *others = results
    for other in others:
        if other.study != first.study:
            return f"{first.path} holds {first.study} and {other.path} {other.study}"
    return ""


def save_page(results: Sequence[SavedResult], path: Path, assets: Path | None) -> None:
    """Put saved results on one page."""
    from mlcv_bench.report.files import save_text
    from mlcv_bench.report.page.document import Content, beside, page
    from mlcv_bench.report.saved import report_of

    contents = [Content.saved(Path(one.path).name, report_of(one), one.document, run_again(one)) for one in results]
    save_text(path, page(contents, beside(path, assets)))


def run_again(result: SavedResult) -> Race | BasinMap | None:
    """Run a saved race or map of basins again, whose file holds neither paths nor a map: its command decides all.

    None where that would run code that the file names, or take long, or where other rows come out than were saved.
    """
    from mlcv_bench.cli.app import parse
    from mlcv_bench.history.bisecting import without_outputs
    from mlcv_bench.names import names_code
    from mlcv_bench.optimizers.rule import RULES
    from mlcv_bench.report.formats.json_text import plain
    from mlcv_bench.report.races import basins_report, race_report
    from mlcv_bench.surface_race.basins import basins
    from mlcv_bench.surface_race.race import race
    from mlcv_bench.surface_race.request import BasinsRequest, RaceRequest

    if result.study not in {"optim-race", "basins"}:
        return None
    try:
        request = parse(without_outputs(shlex.split(str(result.document.get("command"))))).request
    except (BenchError, ValueError):  # of Python, say, whose arguments are no command's
        return None
    if not isinstance(request, RaceRequest | BasinsRequest) or request.opens_code:
        return None
    if any(names_code(str(one), RULES) for one in request.optimizers) or request.updates > MOST_UPDATES:
        return None
    found: Race | BasinMap
    if isinstance(request, RaceRequest):
        found = race(request)
        report = race_report(found)
    else:
        found = basins(request)
        report = basins_report(found)
    return found if [plain(dict(row)) for row in report.runs] == list(result.runs) else None
