"""The written forms of a report: CSV, JSON and Markdown. Pure functions from a report to text."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import TYPE_CHECKING, Any

from mlcv_bench.records import SCHEMA_VERSION, plain_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlcv_bench.environment import Environment
    from mlcv_bench.records import Report, Table


def all_columns(report: Report) -> list[str]:
    """Return the contract's columns in order, then those that only some rows have."""
    columns = dict.fromkeys(report.columns)
    for run in report.runs:
        columns.update(dict.fromkeys(run))
    return list(columns)


def to_csv(report: Report) -> str:
    """Write one row a run: snake_case header, full precision, true/false, nothing where a value is missing."""
    import pandas as pd  # noqa: PLC0415 - the CSV sink alone pays for pandas

    columns = all_columns(report)
    cells = [[plain_text(run.get(column)) for column in columns] for run in report.runs]
    return pd.DataFrame(cells, columns=columns, dtype=object).to_csv(index=False, lineterminator="\n")


def plain(value: Any) -> Any:  # noqa: ANN401 - any value a record holds
    """Return `value` as JSON can hold it: no NaN, no infinity, no tuple, no dataclass."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain(dataclasses.asdict(value))
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list | set | frozenset):
        return [plain(item) for item in value]
    if value is None or isinstance(value, str | int):
        return value
    return str(value)


def to_json_rows(report: Report) -> str:
    """Write the runs alone, as a JSON array of objects, one a line."""
    columns = all_columns(report)
    rows = [json.dumps({column: plain(run.get(column)) for column in columns}) for run in report.runs]
    return "[\n" + ",\n".join(f"  {row}" for row in rows) + "\n]\n" if rows else "[]\n"


def to_json_document(report: Report, environment: Environment) -> str:
    """Write everything: schema, environment, the command that reproduces it, runs, raw samples."""
    document = {
        "schema": f"mlcv-bench/{report.study}",
        "version": SCHEMA_VERSION,
        "command": environment.command,
        "environment": environment.as_dict(),
        "columns": all_columns(report),
        "runs": [plain(dict(run)) for run in report.runs],
        "notes": list(report.notes),
        "warnings": list(report.warnings),
        "details": plain(dict(report.details)),
    }
    return json.dumps(document, indent=1, allow_nan=False) + "\n"


def markdown_table(table: Table) -> list[str]:
    """Return one table as GitHub's Markdown, a heading above and the caption below."""
    header = [escape(column.title) for column in table.columns]
    rule = ["---:" if column.justify == "right" else ":---" for column in table.columns]
    rows: Sequence[Sequence[str]] = [
        [escape(column.text(row.get(column.key))) for column in table.columns] for row in table.rows
    ]
    lines = [f"### {table.title}", ""] if table.title else []
    lines += [f"| {' | '.join(cells)} |" for cells in (header, rule, *rows)]
    if table.caption:
        lines += ["", table.caption]
    return lines


def escape(text: str) -> str:
    """Keep a cell's text from ending its cell or its line."""
    return text.replace("|", "\\|").replace("\n", " ")


def to_markdown(report: Report) -> str:
    """Write the tables that people read, and the notes, as Markdown."""
    parts = [*(markdown_table(table) for table in report.tables), *([note] for note in report.notes)]
    return "\n\n".join("\n".join(part) for part in parts) + "\n"
