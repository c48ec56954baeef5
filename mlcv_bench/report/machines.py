"""The table of `env`: one line a fact about this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlcv_bench.records import Column, Report, Table

if TYPE_CHECKING:
    from collections.abc import Mapping

COLUMNS = (Column("name", "what", justify="left"), Column("value", "here", justify="left", missing="unknown"))


def machine_report(machine: Mapping[str, Any]) -> Report:
    """Flatten a machine's description into rows of a name and a value."""
    rows = list(_flat("", machine))
    return Report(
        "env", ("name", "value"), rows, [Table("What decides a figure here", COLUMNS, rows)], details=dict(machine)
    )


def _flat(prefix: str, values: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for name, value in values.items():
        if isinstance(value, dict):
            rows += _flat(f"{prefix}{name}.", value)
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for index, item in enumerate(value):
                rows += _flat(f"{prefix}{name}.{index}.", item)
        else:
            text = (" ".join(map(str, value)) or "none") if isinstance(value, list) else value
            rows.append({"name": f"{prefix}{name}", "value": text if text is None else str(text)})
    return rows
