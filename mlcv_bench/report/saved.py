"""Saved results shown again, from the rows that their JSON holds."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mlcv_bench.comparing.saved import FIGURE, RULES
from mlcv_bench.records import Column, Report, Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlcv_bench.comparing.saved import SavedResult


def saved_report(results: Sequence[SavedResult]) -> Report:
    """Return the rows of saved results of one study; those of several files are told apart by a first column `file`.

    The table has the columns that identify a row or decide a comparison, the notes where and when each file was made.
    Of a study that nothing compares, whose rows may be thousands, the tables are those that the files hold.
    """
    study = results[0].study
    several = len(results) > 1
    rows = [{**({"file": result.path} if several else {}), **row} for result in results for row in result.runs]
    columns = tuple(dict.fromkeys(key for row in rows for key in row))
    rule = RULES.get(study)
    wanted = ("file", *rule.keys, *rule.exact, *(FIGURE if rule.timed else ()), *rule.outcomes) if rule else columns
    shown = [_column(key, rows) for key in wanted if any(row.get(key) not in (None, "") for row in rows)]
    notes = [
        f"{result.path}: {result.environment.get('time', 'unknown time')}, {result.environment.get('cpu', 'unknown')}."
        for result in results
    ]
    tables = [Table(f"Saved results of {study}", shown, rows)]
    if rule is None:
        held = [(result.path, table) for result in results for table in tables_in(result.document.get("tables"))]
        tables = [replace(table, title=f"{path}: {table.title}") for path, table in held] or tables
    return Report(study, columns, rows, tables, notes)


def report_of(result: SavedResult) -> Report:
    """Return the report that a file was saved of: its tables as they were, or its rows where it holds none."""
    held = result.document
    tables = tables_in(held.get("tables")) or saved_report([result]).tables
    notes, warnings = ([str(text) for text in held.get(key) or () if text] for key in ("notes", "warnings"))
    columns = [str(name) for name in held.get("columns") or ()]
    return Report(result.study, columns, result.runs, tables, notes, warnings, held.get("details") or {})


def tables_in(held: Any) -> list[Table]:  # noqa: ANN401 - any JSON value
    """Read the tables of a saved file; none where it holds none, or such as nobody could show."""
    try:
        tables = [
            Table(
                str(one["title"]), columns, [dict(zip(keys, row, strict=True)) for row in one["rows"]], one["caption"]
            )
            for one in held or ()
            if (columns := [Column(**column) for column in one["columns"]])
            for keys in [[column.key for column in columns]]
        ]
        for table in tables:
            for row in table.rows:
                for column in table.columns:
                    column.text(row[column.key])
    except (TypeError, ValueError, KeyError, AttributeError):
        return []
    return tables


def _column(key: str, rows: Sequence[dict[str, Any]]) -> Column:
    values = [row[key] for row in rows if row.get(key) is not None]
    if all(isinstance(value, int) and not isinstance(value, bool) for value in values):
        return Column(key, key, format=",d")
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return Column(key, key, format=".4g")
    return Column(key, key, justify="left")
