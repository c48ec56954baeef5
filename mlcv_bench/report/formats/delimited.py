"""CSV: one row a run, a snake_case header, full precision, true/false, nothing where a value is missing."""

from __future__ import annotations

import csv
import io
import itertools
from typing import TYPE_CHECKING, Any

from mlcv_bench.records import plain_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from mlcv_bench.records import Report
    from mlcv_bench.surface_race.race import Race


ROWS_AT_ONCE = 4096


def to_csv(report: Report) -> str:
    """Write the runs of a report."""
    return "".join(csv_parts(report))


def csv_parts(report: Report) -> Iterator[str]:
    """Write the runs of a report, some thousand rows a part."""
    return parts_of_csv(report.all_columns, report.run_values())


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Write rows of plain values under a header."""
    return "".join(parts_of_csv(columns, rows))


def parts_of_csv(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Iterator[str]:
    """Write rows of plain values under a header, some thousand rows a part."""
    waiting = itertools.chain([columns], rows)
    while some := list(itertools.islice(waiting, ROWS_AT_ONCE)):
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([plain_text(value) for value in row] for row in some)
        yield text.getvalue()


def paths_csv(race: Race) -> str:
    """Write the points of the first start of every optimizer and protocol, step by step."""
    rows = [
        (optimizer, protocol, step, trace.point(step), value)
        for (optimizer, protocol), trace in race.traces.items()
        for step, value in enumerate(trace.values)
    ]
    return csv_text(("optimizer", "protocol", "step", "point", "loss"), rows)
