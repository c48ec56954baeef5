"""HTML for a notebook's cell: the tables that people read, notes and warnings."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlcv_bench.records import Column, Report, Table

JUDGED = ("verdict", "verdict_text", "change", "status", "met", "passed")
"""The columns that say how something ended."""
VERDICTS = {
    **dict.fromkeys(("pass", "same", "holds", "holds with a limit", "faster", "better", "true"), "good"),
    **dict.fromkeys(
        ("fail", "different", "does not hold", "slower", "worse", "changed", "failed", "refused", "false"), "bad"
    ),
    **dict.fromkeys(
        ("undecided", "inconclusive", "not decided", "missing", "added", "advisory", "no baseline", "not run"), "open"
    ),
}
"""What the words of such a column mean, for a page's colours and marks."""


def to_html(report: Report) -> str:
    """Write the tables, the notes and the warnings."""
    sentences = [*report.notes, *(f"Warning: {warning}" for warning in report.warnings)]
    return "\n".join([*map(html_table, report.tables), *(f"<p>{escape(sentence)}</p>" for sentence in sentences)])


def html_table(table: Table) -> str:
    """Return one table, its title above and its caption below."""
    header = "".join(f'<th style="text-align:{column.justify}">{escape(column.title)}</th>' for column in table.columns)
    rows = "\n".join(
        "<tr>" + "".join(_cell(column, row.get(column.key)) for column in table.columns) + "</tr>" for row in table.rows
    )
    title = f"<caption><b>{escape(table.title)}</b></caption>" if table.title else ""
    caption = f"\n<p><small>{escape(table.caption)}</small></p>" if table.caption else ""
    return f"<table>{title}<thead><tr>{header}</tr></thead><tbody>\n{rows}\n</tbody></table>{caption}"


def _cell(column: Column, value: Any) -> str:  # noqa: ANN401 - any plain value a record holds
    """Return one cell; a number's own value stands beside its rounded text, for a page to sort by."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    more = f' data-value="{value!r}"' if number else ""
    if column.key in JUDGED and (verdict := verdict_word(value)):
        more += f' data-verdict="{verdict}"'
    return f'<td style="text-align:{column.justify}"{more}>{escape(column.text(value))}</td>'


def verdict_word(value: object) -> str:
    """Return good, bad or open for a word that says how something ended; nothing for another."""
    return VERDICTS.get(str(value).lower(), "")
