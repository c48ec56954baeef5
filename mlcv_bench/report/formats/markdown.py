"""GitHub's Markdown: the tables that people read, and the notes."""

from __future__ import annotations

import html
import re
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlcv_bench.records import Report, Table


MARKS = re.compile(r"\\(?=[!-/:-@\[-`{-~])|<(?=[A-Za-z/!?])|\*(?=\S)|(?<=\])\(|(?<![^\W_])_(?=\S)|~(?=~)")
"""What begins an escape, a tag, emphasis, the address of a link, or a strike."""


def to_markdown(report: Report) -> str:
    """Write the tables and the notes."""
    parts = [*(markdown_table(table) for table in report.tables), *([escape(note)] for note in report.notes)]
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def markdown_table(table: Table) -> list[str]:
    """Return the lines of one table, a heading above and the caption below."""
    header = [column.title for column in table.columns]
    rule = ["---:" if column.justify == "right" else ":---" for column in table.columns]
    rows = [[column.text(row.get(column.key)) for column in table.columns] for row in table.rows]
    if table.folded:
        whole = markdown_table(replace(table, title="", folded=False))
        return [
            "<details>",
            f"<summary>{html.escape(table.title, quote=False)}</summary>",
            "",
            *whole,
            "",
            "</details>",
        ]
    lines = [f"### {escape(table.title)}", ""] if table.title else []
    lines += [f"| {' | '.join(cells)} |" for cells in (map(cell, header), rule, *(map(cell, row) for row in rows))]
    return [*lines, "", escape(table.caption)] if table.caption else lines


def escape(text: str) -> str:
    """Keep a text's own characters from being read as marks: `<lambda>` would vanish, `x**2` be bold."""
    return MARKS.sub(lambda found: f"\\{found[0]}", text)


def cell(text: str) -> str:
    """Keep a text from ending its cell or its line."""
    return escape(text).replace("|", "\\|").replace("\n", " ")
