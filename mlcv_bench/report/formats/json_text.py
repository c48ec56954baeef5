"""JSON: the runs alone, or everything that a command found and what reproduces it."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import TYPE_CHECKING, Any

from mlcv_bench.environment import capture
from mlcv_bench.records import SCHEMA_VERSION

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mlcv_bench.environment import Environment
    from mlcv_bench.records import Report, Table


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
    return value if value is None or isinstance(value, str | int) else str(value)


def row_parts(report: Report) -> Iterator[str]:
    """Write the runs alone, as a JSON array of objects, one a line."""
    columns = report.all_columns
    rows = (json.dumps(plain(dict(zip(columns, values, strict=True)))) for values in report.run_values())
    yield from listed(rows, "  ")
    yield "\n"


def to_json_rows(report: Report) -> str:
    """Write the runs alone as one text."""
    return "".join(row_parts(report))


def document_parts(report: Report, environment: Environment | None = None) -> Iterator[str]:
    """Write everything: schema, environment, the command that reproduces it, runs, raw samples."""
    environment = environment or capture(device=report.device)
    before = {
        "schema": f"mlcv-bench/{report.study}",
        "version": SCHEMA_VERSION,
        "command": environment.command,
        "environment": environment.as_dict(),
        "columns": report.all_columns,
    }
    after = {
        "tables": [table_of(table) for table in report.tables],
        "notes": list(report.notes),
        "warnings": list(report.warnings),
        "details": plain(dict(report.details)),
    }
    yield json.dumps(before, indent=1, allow_nan=False).removesuffix("\n}") + ',\n "runs": '
    runs = (json.dumps(plain(dict(run)), indent=1, allow_nan=False).replace("\n", "\n  ") for run in report.runs)
    yield from listed(runs, "  ", end=" ")
    yield "," + json.dumps(after, indent=1, allow_nan=False).removeprefix("{") + "\n"


def table_of(table: Table) -> dict[str, Any]:
    """Return a table that people read: its columns, and of every row what they show."""
    return {
        "title": table.title,
        "caption": table.caption,
        "columns": [dataclasses.asdict(column) for column in table.columns],
        "rows": [[plain(row.get(column.key)) for column in table.columns] for row in table.rows],
    }


def to_json_document(report: Report, environment: Environment | None = None) -> str:
    """Write everything as one text."""
    return "".join(document_parts(report, environment))


def listed(texts: Iterable[str], indent: str, end: str = "") -> Iterator[str]:
    """Write texts as a JSON array, one below the other."""
    before = "["
    for text in texts:
        yield f"{before}\n{indent}{text}"
        before = ","
    yield "[]" if before == "[" else f"\n{end}]"
