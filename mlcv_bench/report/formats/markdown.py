"""GitHub's Markdown: the tables that people read, and the notes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlcv_bench.records import Report, Table


def to_markdown(report: Report) -> str:
    """Write the tables and the notes."""
    parts = [*(markdown_table(table) for table in report.tables), *([note] for note in report.notes)]
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def markdown_table(table: Table) -> list[str]:
    """Return the lines of one table, a heading above and the caption below."""
    header = [column.title for column in table.columns]
    rule = ["---:" if column.justify == "right" else ":---" for column in table.columns]
    rows = [[column.text(row.get(column.key)) for column in table.columns] for row in table.rows]
    lines = [f"### {table.title}", ""] if table.title else []
    lines += [f"| {' | '.join(map(escape, cells))} |" for cells in (header, rule, *rows)]
    return [*lines, "", table.caption] if table.caption else lines


def escape(text: str) -> str:
    """Keep a cell's text from ending its cell or its line."""
    return text.replace("|", "\\|").replace("\n", " ")
