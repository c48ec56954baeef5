"""The table on a terminal: Rich's boxes, cut into stacked parts where the terminal is narrow."""

from __future__ import annotations

import os
import textwrap
from typing import IO, TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlcv_bench.records import Column, Report, Table

UNLIMITED = 10_000
NARROW = 40  # below so many columns even numbers fold
LINE = 110  # a longer line is hard to read
UNKNOWN = 80  # columns of a terminal that does not know its size
LEAST_WORDS = 34  # cells that a column of words keeps when it is folded
PADDING = 3  # cells between two columns


class PipeConsole(Console):
    """A console that leaves a closed pipe to its caller; Rich's own ends the process with 1."""

    def on_broken_pipe(self) -> None:
        """Let the error go on: a reader that has seen enough is not a failure."""
        raise BrokenPipeError


def width_of(stream: IO[str]) -> int:
    """Return the columns to print in: COLUMNS if set, the terminal's, or no limit in a pipe."""
    if os.environ.get("COLUMNS", "").isdigit():
        return max(int(os.environ["COLUMNS"]), 20)
    if not stream.isatty():
        return UNLIMITED
    # A terminal that nobody gave a size (a container's, a recorder's) says 0.
    return max(os.get_terminal_size(stream.fileno()).columns or UNKNOWN, 20)


def print_report(report: Report, stream: IO[str], width: int | None = None) -> None:
    """Print a report's tables and notes.

    Args:
        report: what was found.
        stream: where to; colours only if it is a terminal and NO_COLOR is not set.
        width: columns; by default what the stream has, or no limit when it is not a terminal.

    """
    limit = width if width is not None else width_of(stream)
    console = PipeConsole(file=stream, width=limit, highlight=False, soft_wrap=limit == UNLIMITED)
    for table in report.tables:
        if table.title:
            console.print(Text(table.title, style="bold"))
        for position, part in enumerate(parts(table, limit)):
            if position:
                console.print()
            console.print(rich_table(table, part, narrow=limit < NARROW))
        if table.caption:
            console.print(Text(wrapped(table.caption, limit), style="dim"))
        console.print()
    for note in report.notes:
        console.print(Text(wrapped(note, limit)))


def wrapped(text: str, limit: int) -> str:
    """Break a sentence at the terminal's width, or where a line gets long to read."""
    return "\n".join(textwrap.fill(line, min(limit, LINE)) for line in text.splitlines())


def parts(table: Table, limit: int) -> list[list[Column]]:
    """Cut the columns into groups that fit side by side; each group begins with the first column.

    Where folding the longest column of words makes room for all, nothing is cut.
    """
    widths = {
        column.key: max(
            Text(line).cell_len
            for line in (
                column.header,
                bracketed(column),
                *(column.text(row.get(column.key)) for row in table.rows),
            )
        )
        + PADDING
        for column in table.columns
    }
    if not table.columns:  # an interrupted study may have nothing to show
        return []
    first, *others = table.columns
    words = max((widths[column.key] for column in others if column.justify == "left"), default=0)
    if 0 < sum(widths.values()) - limit <= words - LEAST_WORDS:
        return [list(table.columns)]
    groups: list[list[Column]] = [[first]]
    room = limit - widths[first.key]
    for column in others:
        if widths[column.key] > room and len(groups[-1]) > 1:
            groups.append([first])
            room = limit - widths[first.key]
        groups[-1].append(column)
        room -= widths[column.key]
    return groups


def bracketed(column: Column) -> str:
    """Return the unit as it stands under the header."""
    return f"[{column.unit}]" if column.unit else ""


def rich_table(table: Table, columns: Sequence[Column], *, narrow: bool = False) -> RichTable:
    """Lay out some columns; every cell is a Text, since Rich would read [ms] as markup."""
    out = RichTable(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1))
    units = any(column.unit for column in columns)
    for position, column in enumerate(columns):
        header = Text(column.header, justify=column.justify)
        if units:
            header.append(f"\n{bracketed(column)}")
        style = "cyan" if position == 0 else ""
        # Words fold at spaces; numbers and names stay whole.
        whole = column.justify == "right" and not narrow
        out.add_column(header, justify=column.justify, style=style, overflow="fold", no_wrap=whole)
    for row in table.rows:
        out.add_row(*(Text(column.text(row.get(column.key))) for column in columns))
    return out
