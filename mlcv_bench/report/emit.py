"""The one way out: print a report on stdout in the asked form, and save it wherever -o says."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from mlcv_bench.records import visible
from mlcv_bench.report.files import replacing, save_picture, save_text
from mlcv_bench.report.formats import PAGE, PRINTED, SAVED, TABULAR, parts_of
from mlcv_bench.report.look import USUAL, Look
from mlcv_bench.streams import writing_result

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from mlcv_bench.records import Report
    from mlcv_bench.report.formats import Form


def emit(
    report: Report,
    form: Form = "table",
    outputs: Sequence[Path] = (),
    *,
    draw: Callable[[Report, Path], None] | None = None,
    of: object = None,
    quiet: bool = False,
    look: Look = USUAL,
    assets: Path | None = None,
) -> None:
    """Save a report to every path, then print it; its warnings go to stderr.

    Args:
        report: what was found.
        form: how stdout shows it; csv and json print the runs, one row each.
        outputs: files to replace, checked by `files.check_outputs` before the measurement.
        draw: paints a picture or an animation, for an output that is no text.
        of: the live record that the report is of, whose figures a page may show.
        quiet: keep warnings off stderr.
        look: of the picture.
        assets: where a page's plotly goes; None keeps it in the page.

    """
    try:
        save(report, outputs, draw=draw, of=of, look=look, assets=assets)
    finally:
        # What was measured is shown also where it cannot be saved.
        if not quiet:
            for warning in report.warnings:
                print(f"warning: {visible(warning)}", file=sys.stderr)  # noqa: T201 - stderr is where warnings go
        with writing_result() as stream:
            if form == "table":
                from mlcv_bench.report.formats.terminal import print_report  # noqa: PLC0415 - this alone needs rich

                print_report(report, stream)
            else:
                stream.writelines(parts_of(report, PRINTED[form]))


def save(
    report: Report,
    outputs: Sequence[Path],
    *,
    draw: Callable[[Report, Path], None] | None = None,
    of: object = None,
    look: Look = USUAL,
    assets: Path | None = None,
) -> None:
    """Write every output file, each replaced whole or not at all."""
    for path in outputs:
        suffix = path.suffix.lower()
        if suffix in SAVED:
            save_text(path, parts_of(report, SAVED[suffix]))
        elif suffix == PAGE:
            from mlcv_bench.report.page.document import beside, page_of  # noqa: PLC0415 - this alone needs plotly

            save_text(path, page_of(report, of, beside(path, assets)))
        elif suffix == TABULAR:
            from mlcv_bench.report.formats.parquet import write_parquet  # noqa: PLC0415 - this alone needs pyarrow

            with replacing(path) as temporary:
                write_parquet(report, temporary)
        elif draw is not None:
            save_picture(path, lambda place: draw(report, place), look)
