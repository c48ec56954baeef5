"""The table on a terminal: Rich's boxes; where the terminal is narrow, tighter, cut into parts, or as records."""

from __future__ import annotations

import itertools
import os
import re
import textwrap
from dataclasses import replace
from typing import IO, TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from mlcv_bench.records import visible

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mlcv_bench.records import Column, Report, Table

UNLIMITED = 10_000
LINE = 110  # a longer line is hard to read
UNKNOWN = 80  # columns of a terminal that does not know its size
LEAST_WORDS = 20  # cells that a column of words keeps when it is folded
LEAST_NAME = 14  # and one of names alone, which are folded after colons and commas
PARTS = re.compile(r"(?<=[:,])(?=[^/\\])")
GAP, TIGHT = 3, 2  # cells between two columns, and where room is scarce


class PipeConsole(Console):
    """A console that leaves a closed pipe to its caller; Rich's own ends the process with 1."""

    def on_broken_pipe(self) -> None:
        """Let the error go on: a reader that has seen enough is not a failure."""
        raise BrokenPipeError


def width_of(stream: IO[str]) -> int:
    """Return the columns to print in: COLUMNS if set, the terminal's, or no limit in a pipe."""
    if re.fullmatch("[0-9]{1,9}", os.environ.get("COLUMNS", "")):
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
            console.print(Text(visible(table.title), style="bold"))
        columns = [replace(column, header=visible(column.header)) for column in table.columns]
        for position, part in enumerate(laid_out(replace(table, columns=columns), limit)):
            if position and isinstance(part, RichTable):
                console.print()
            console.print(part)
        if table.caption:
            console.print(Text(wrapped(table.caption, limit), style="dim"))
        console.print()
    for note in report.notes:
        console.print(Text(wrapped(note, limit)))


def wrapped(text: str, limit: int) -> str:
    """Break a sentence at the terminal's width, or where a line gets long to read, and no name at its hyphens."""
    width = min(limit, LINE)
    return "\n".join(textwrap.fill(line, width, break_on_hyphens=False) for line in visible(text).splitlines())


def laid_out(table: Table, limit: int) -> Iterator[RichTable | Text]:
    """Lay a table out in `limit` columns: whole; tight, words folded; without its spare columns; in parts; as records.

    Each part begins with the columns that tell the rows apart, where they leave it half of the width.
    """
    columns = list(table.columns)
    spare = [column for column in columns if column.spare]
    if not columns:  # an interrupted study may have nothing to show
        return
    if fits(widths := [needed(column, table.rows) for column in columns], GAP, limit):
        yield rich_table(table, columns, widths, GAP)
        return
    keys = keys_of(table)
    least = [needed(column, table.rows, tight=True) for column in columns]
    if spare and not fits(least, TIGHT, limit):
        yield from laid_out(replace(table, columns=[column for column in columns if not column.spare]), limit)
        yield Text(
            wrapped(f"Left out, as too wide: {', '.join(one.header for one in spare)}; -o FILE.csv has them.", limit),
            "dim",
        )
        return
    room = limit - max(least[keys:], default=0) - TIGHT
    if not fits(least, TIGHT, limit) and not fits(least[:keys], TIGHT, min(room, limit // 2)):
        yield from records(table, keys, limit)
        return
    groups = [list(range(keys))]
    for place in range(keys, len(columns)):
        if not fits([least[other] for other in (*groups[-1], place)], TIGHT, limit):
            groups.append(list(range(keys)))
        groups[-1].append(place)
    for group in groups:
        most = [min(widths[place], limit) for place in group]
        shrunk = shrink(most, [least[place] for place in group], limit - TIGHT * (len(group) - 1))
        yield rich_table(table, [columns[place] for place in group], shrunk, TIGHT)


def fits(widths: Sequence[int], gap: int, limit: int) -> bool:
    """Tell whether columns of these widths stand side by side."""
    return sum(widths) + gap * (len(widths) - 1) <= limit


def keys_of(table: Table) -> int:
    """Return how many leading columns of words tell the rows apart; the first alone where they do not."""
    names = list(itertools.takewhile(lambda column: column.justify == "left", table.columns))
    for count in range(1, len(names) + 1):
        found = {tuple(column.text(row.get(column.key)) for column in names[:count]) for row in table.rows}
        if len(found) == len(table.rows):
            return count
    return 1


def needed(column: Column, rows: Sequence[Mapping[str, Any]], *, tight: bool = False) -> int:
    """Return the cells that a column takes; when tight, its header is broken at spaces and its words are folded."""
    cells = [column.text(row.get(column.key)) for row in rows]
    texts = [column.header, bracketed(column), *cells]
    whole = max(1, *(Text(text).cell_len for text in texts))
    if not tight:
        return whole
    number = column.justify == "right"
    words = column.header.split() if number else [word for text in texts for word in words_of(text)]
    longest = max(1, *(Text(text).cell_len for text in (*words, bracketed(column), *(cells if number else ()))))
    if number:
        return longest
    return max(longest, min(whole, LEAST_WORDS if any(" " in cell for cell in cells) else LEAST_NAME))


def words_of(text: str) -> list[str]:
    """Return what a text is folded between: a sentence's words, a name's parts with colons and commas."""
    return text.split() if " " in text else PARTS.split(text)


def folded(text: str, width: int) -> str:
    """Break a name that is too long after its colons and commas; a sentence is folded at its spaces by Rich."""
    if " " in text or Text(text).cell_len <= width:
        return text
    lines = [""]
    for part in words_of(text):
        if Text(lines[-1] + part).cell_len > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(line for line in lines if line)


def shrink(widths: Sequence[int], least: Sequence[int], room: int) -> list[int]:
    """Take from the widest column that can give, cell by cell, until all fit."""
    shrunk = list(widths)
    while sum(shrunk) > room:
        giving = [place for place in range(len(shrunk)) if shrunk[place] > least[place]]
        if not giving:
            break
        shrunk[max(giving, key=shrunk.__getitem__)] -= 1
    return shrunk


def bracketed(column: Column) -> str:
    """Return the unit as it stands under the header."""
    return f"[{column.unit}]" if column.unit else ""


def rich_table(table: Table, columns: Sequence[Column], widths: Sequence[int], gap: int) -> RichTable:
    """Lay out some columns; every cell is a Text, since Rich would read [ms] as markup."""
    # Rich puts one cell between two columns itself.
    out = RichTable(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, gap - 2))
    units = any(column.unit for column in columns)
    headers = [textwrap.wrap(column.header, width) for column, width in zip(columns, widths, strict=True)]
    height = max(map(len, headers))
    for position, (column, lines, width) in enumerate(zip(columns, headers, widths, strict=True)):
        if units:
            lines.append(bracketed(column))
        header = Text("\n".join([""] * (height + units - len(lines)) + lines), justify=column.justify)
        # Words fold at spaces; numbers and names stay whole.
        style = "cyan" if position == 0 else ""
        out.add_column(header, justify=column.justify, style=style, overflow="fold", width=width)
    for row in table.rows:
        cells = [column.text(row.get(column.key)) for column in columns]
        out.add_row(*(Text(folded(cell, width)) for cell, width in zip(cells, widths, strict=True)))
    return out


def records(table: Table, keys: int, limit: int) -> Iterator[Text]:
    """Write every row as a paragraph: what names it, then a line for each column that has something to say."""
    for row in table.rows:
        texts = [(column.title, column.text(row.get(column.key))) for column in table.columns]
        yield Text(textwrap.fill(", ".join(text for _, text in texts[:keys]), limit), style="cyan")
        for title, text in texts[keys:]:
            line = f"{title}: {text}" if title else text
            if text:
                yield Text(textwrap.fill(line, limit, initial_indent="  ", subsequent_indent="    "))
        yield Text()
