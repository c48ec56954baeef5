"""Parquet: the runs as a table with a type for each column, as pandas and DuckDB read it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyarrow import parquet

from mlcv_bench.records import plain_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from mlcv_bench.records import Report


def write_parquet(report: Report, path: Path) -> None:
    """Write the runs of a report.

    A column that holds numbers and words becomes two: its numbers under its own name, its words under `NAME_text`.
    """
    names = report.all_columns
    columns: Sequence[Sequence[Any]] = list(zip(*report.run_values(), strict=True)) or [()] * len(names)
    arrays = {name: array for key, values in zip(names, columns, strict=True) for name, array in _arrays(key, values)}
    parquet.write_table(pa.table(arrays), path)


def _arrays(name: str, values: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    kinds = {type(value) for value in values if value is not None}
    if kinds == {bool}:
        yield name, pa.array(values, pa.bool_())
    elif kinds == {int}:
        yield name, pa.array(values, pa.int64())
    elif kinds and kinds <= {int, float}:
        yield name, pa.array(values, pa.float64())
    elif kinds & {int, float}:
        numbers = [isinstance(value, int | float) and not isinstance(value, bool) for value in values]
        pairs = list(zip(values, numbers, strict=True))
        yield name, pa.array([float(value) if number else None for value, number in pairs], pa.float64())
        yield f"{name}_text", pa.array([_text(None if number else value) for value, number in pairs], pa.string())
    else:
        yield name, pa.array(list(map(_text, values)), pa.string())


def _text(value: Any) -> str | None:  # noqa: ANN401 - any plain value
    return None if value is None else plain_text(value)
