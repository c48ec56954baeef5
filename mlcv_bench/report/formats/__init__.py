"""Formats, a file each: a function from a report, or from a suite's outcome, to text, whole or in parts; a row here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Literal

from mlcv_bench.records import visible

if TYPE_CHECKING:
    from mlcv_bench.records import Report

Form = Literal["table", "markdown", "csv", "json"]
"""How stdout shows a report."""
SAVED: Mapping[str, str] = {
    ".csv": "delimited.csv_parts",
    ".json": "json_text.document_parts",
    ".md": "markdown.to_markdown",
    ".tex": "latex.to_latex",
}
"""What -o saves a report as, by the suffix: file and function."""
PAGE = ".html"
"""What -o saves as a page to explore in a browser, which `report.page` writes with plotly (the extra `page`)."""
TABULAR = ".parquet"
"""What -o saves as a typed table, where a command does, with pyarrow (the extra `history`)."""
PICTURES = (".png", ".svg", ".pdf")
"""What -o draws, where a command draws, by the suffix."""
ANIMATIONS = (".gif", ".mp4")
"""What -o runs, where a command shows a race, by the suffix."""
PRINTED: Mapping[str, str] = {
    "csv": "delimited.csv_parts",
    "json": "json_text.row_parts",
    "markdown": "markdown.to_markdown",
}
"""What --format writes to stdout; its `table` is the terminal's."""
NOTEBOOK = "html.to_html"
"""What a notebook shows of a report."""


def parts_of(report: Report, function: str) -> Iterator[str]:
    """Return the report as the text that one of the functions above makes of it, part by part where it is long."""
    module, _, name = function.partition(".")
    write: Callable[[Report], str | Iterable[str]] = getattr(import_module(f"{__name__}.{module}"), name)
    found = write(report)
    yield from map(visible, [found] if isinstance(found, str) else found)


def written(report: Report, function: str) -> str:
    """Return the report as the whole text that one of the functions above makes of it."""
    return "".join(parts_of(report, function))
