"""JSON: the runs alone, or everything that a command found and what reproduces it."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import TYPE_CHECKING, Any

from mlcv_bench.environment import capture
from mlcv_bench.records import SCHEMA_VERSION

if TYPE_CHECKING:
    from mlcv_bench.environment import Environment
    from mlcv_bench.records import Report


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


def to_json_rows(report: Report) -> str:
    """Write the runs alone, as a JSON array of objects, one a line."""
    rows = [json.dumps({column: plain(run.get(column)) for column in report.all_columns}) for run in report.runs]
    return "[\n" + ",\n".join(f"  {row}" for row in rows) + "\n]\n" if rows else "[]\n"


def to_json_document(report: Report, environment: Environment | None = None) -> str:
    """Write everything: schema, environment, the command that reproduces it, runs, raw samples."""
    environment = environment or capture(device=report.device)
    document = {
        "schema": f"mlcv-bench/{report.study}",
        "version": SCHEMA_VERSION,
        "command": environment.command,
        "environment": environment.as_dict(),
        "columns": report.all_columns,
        "runs": [plain(dict(run)) for run in report.runs],
        "notes": list(report.notes),
        "warnings": list(report.warnings),
        "details": plain(dict(report.details)),
    }
    return json.dumps(document, indent=1, allow_nan=False) + "\n"
