"""How the figure of a check came to what it is: which one it is, its last commits, and since when it is wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mlcv_bench.comparing.differences import OPERATORS
from mlcv_bench.comparing.judging import names_of
from mlcv_bench.comparing.limits import LIMITS
from mlcv_bench.comparing.saved import RULES, is_measured, row_names, study_of
from mlcv_bench.records import plain_text

if TYPE_CHECKING:
    from mlcv_bench.comparing.differences import RowDifference
    from mlcv_bench.comparing.judging import Check
    from mlcv_bench.history.figures import Value
    from mlcv_bench.history.trends import Trend

COLUMNS = {"max_median_s": "median_s", "max_slowdown": "median_s", "must_verify": "passed"}
"""The figure that a limit without a column of its own is about."""


class CheckTrends:
    """The trends of a suite's entries, by the entries' names."""

    def __init__(self, trends: Mapping[str, Mapping[tuple[str, str], Trend]], documents: Mapping[str, Any]) -> None:
        """Take the trends of each entry's figures, and its document."""
        self._trends, self._documents = trends, documents

    def of_check(self, check: Check) -> tuple[Sequence[Value], str]:
        """Return the last values of the figure that a check is about, and since which commit it breaks its limit."""
        trend = self._trends.get(check.entry, {}).get((self._row(check, check.subject), column_of(check)))
        if trend is None:
            return (), ""
        bad = _beyond(check, trend.values[-1]) if check.verdict == "fail" else None
        return trend.last, trend.first_seen(bad) if bad else ""

    def with_limit(self, check: Check) -> dict[str, Any] | None:
        """Return the last values of the figure that a check is about, with its limit; None where it has none."""
        values, _ = self.of_check(check)
        bound = bound_of(check, values[-1]) if values else None
        if bound is None:
            return None
        title = ", ".join(dict.fromkeys(part for part in (check.entry, check.subject, check.limit) if part))
        return {"title": title, "column": column_of(check), "values": list(values), "bound": bound}

    def of_difference(self, check: Check, one: RowDifference) -> tuple[Sequence[Value], str]:
        """Return the last values of a figure that is not as it should be, and since when.

        That is since when it breaks its limit, or is what it is where it has to be as in the baseline.
        """
        document = self._documents.get(check.entry)
        calls = RULES[study_of(document)].calls if document else ""
        quantity = calls if one.quantity == OPERATORS else one.quantity
        trend = self._trends.get(check.entry, {}).get((one.key or self._row(check, one.row), quantity))
        if trend is None:
            return (), ""
        newest = trend.values[-1]
        limited = check.limit in LIMITS and LIMITS[check.limit].column
        bad = _beyond(check, newest) if limited else lambda value: value == newest
        return trend.last, trend.first_seen(bad) if bad else ""

    def _row(self, check: Check, subject: str) -> str:
        """Return the full name of the row that a check calls `subject`."""
        document = self._documents.get(check.entry)
        if document is None:
            return ""
        runs = document["runs"]
        whole = row_names(study_of(document), runs)
        rows = [(name, row) for name, row in zip(whole, runs, strict=True) if is_measured(row)]
        called = names_of([row for _, row in rows])
        if check.limit == "must_verify":
            # Its subject is one of many rows': the first that decided counts.
            rows = [(name, row) for name, row in rows if row.get("passed") is (check.verdict != "fail")]
            called = [str(row.get("subject", "")) for _, row in rows]
        return next((name for (name, _), one in zip(rows, called, strict=True) if one == subject or len(rows) == 1), "")


def column_of(check: Check) -> str:
    """Return the column that a limit is about; nothing of one that is about none."""
    return (LIMITS[check.limit].column or COLUMNS.get(check.limit, "")) if check.limit in LIMITS else ""


def bound_of(check: Check, newest: Value) -> float | None:
    """Return what a figure may be at most, in its own unit; None where a limit bounds no single value."""
    if check.allowed is None or not check.measured or not isinstance(newest, int | float):
        return None
    # A slow-down is allowed as a ratio: the figure's own bound is as far below it as the ratios say.
    return check.allowed * newest / check.measured if check.limit == "max_slowdown" else check.allowed


def _beyond(check: Check, newest: Value) -> Callable[[Value], bool] | None:
    """Return what tells a value of the figure that breaks the limit, where that can be told of one value."""
    if check.limit == "must_verify":
        return lambda value: value == plain_text(False)  # noqa: FBT003 - the text of a truth
    bound = bound_of(check, newest)
    return None if bound is None else lambda value: isinstance(value, int | float) and value > bound
