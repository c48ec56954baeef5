"""CSV: one row a run, a snake_case header, full precision, true/false, nothing where a value is missing."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

from mlcv_bench.records import plain_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mlcv_bench.records import Report
    from mlcv_bench.surface_race.race import Race


def to_csv(report: Report) -> str:
    """Write the runs of a report."""
    columns = report.all_columns
    return csv_text(columns, ([run.get(column) for column in columns] for run in report.runs))


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Write rows of plain values under a header."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([plain_text(value) for value in row] for row in rows)
    return text.getvalue()


def paths_csv(race: Race) -> str:
    """Write the points of the first start of every optimizer and protocol, step by step."""
    rows = [
        (optimizer, protocol, step, trace.point(step), value)
        for (optimizer, protocol), trace in race.traces.items()
        for step, value in enumerate(trace.values)
    ]
    return csv_text(("optimizer", "protocol", "step", "point", "loss"), rows)
