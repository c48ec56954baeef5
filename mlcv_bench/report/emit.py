"""The one way out: print a report on stdout in the asked form, and save it wherever -o says."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Literal

from mlcv_bench import environment
from mlcv_bench.errors import UsageError
from mlcv_bench.report import files, forms

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from mlcv_bench.records import Report

Form = Literal["table", "markdown", "csv", "json"]


def emit(
    report: Report,
    form: Form = "table",
    outputs: Sequence[Path] = (),
    *,
    draw: Callable[[Report, Path], None] | None = None,
    quiet: bool = False,
) -> None:
    """Save a report to every path, then print it; its warnings go to stderr.

    Args:
        report: what was found.
        form: how stdout shows it; csv and json print the runs, one row each.
        outputs: files to replace, checked by `files.check_outputs` before the measurement.
        draw: paints the picture for a .png, .svg or .gif output.
        quiet: keep warnings off stderr.

    """
    try:
        save(report, outputs, draw=draw)
    finally:
        # What was measured is shown also where it cannot be saved.
        if not quiet:
            for warning in report.warnings:
                print(f"warning: {warning}", file=sys.stderr)  # noqa: T201 - stderr is where warnings go
        write_stdout(report, form)


def save(report: Report, outputs: Sequence[Path], *, draw: Callable[[Report, Path], None] | None = None) -> None:
    """Write every output file, each replaced whole or not at all."""
    for path in outputs:
        match path.suffix.lower():
            case ".csv":
                files.save_text(path, forms.to_csv(report))
            case ".json":
                files.save_text(path, forms.to_json_document(report, environment.capture(device=report.device)))
            case ".md":
                files.save_text(path, forms.to_markdown(report))
            case _ if draw is not None:
                files.save_picture(path, lambda place: draw(report, place))


def write_stdout(report: Report, form: Form) -> None:
    """Print the report; a reader that closes the pipe early ends the printing, not the command.

    Raises:
        UsageError: stdout takes no more for another reason, such as a full disk.

    """
    try:
        match form:
            case "table":
                from mlcv_bench.report.terminal import print_report  # noqa: PLC0415 - the table sink alone needs rich

                print_report(report, sys.stdout)
            case "markdown":
                sys.stdout.write(forms.to_markdown(report))
            case "csv":
                sys.stdout.write(forms.to_csv(report))
            case "json":
                sys.stdout.write(forms.to_json_rows(report))
        sys.stdout.flush()
    except OSError as error:
        # Whatever Python still flushes at its end goes nowhere, instead of raising once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            msg = f"stdout cannot be written: {error.strerror or error}; choose another place, or save with -o"
            raise UsageError(msg) from error
