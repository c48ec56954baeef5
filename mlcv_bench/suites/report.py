"""A suite's outcome as people and machines read it: one row a limit, and everything that was measured behind it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mlcv_bench.comparing.differences import OPERATORS
from mlcv_bench.comparing.fingerprints import COMPUTES
from mlcv_bench.comparing.judging import Check, Result
from mlcv_bench.records import Column, Report, Table, plain_text
from mlcv_bench.report.history import sparkline
from mlcv_bench.suites.document import Suite
from mlcv_bench.suites.trends import CheckTrends

COLUMNS = (
    "suite",
    "entry",
    "command",
    "limit",
    "allowed",
    "measured",
    "measured_low",
    "measured_high",
    "unit",
    "subject",
    "verdict",
    "seconds",
    "status",
    "reason",
)
SHOWN = (
    Column("entry", "entry", justify="left"),
    Column("command", "command", justify="left"),
    Column("limit", "limit", justify="left"),
    Column("allowed", "allowed"),
    Column("measured", "measured"),
    Column("trend", "last commits", justify="left"),
    Column("verdict", "verdict", justify="left"),
    Column("because", "because", justify="left"),
)
ONE = {"changes": "change", "checks": "check"}
"""Units that are counted, for a single one."""


DEPARTED = (
    Column("verdict", "verdict", justify="left"),
    Column("network", "network", justify="left"),
    Column("figure", "figure", justify="left"),
    Column("base", "from"),
    Column("new", "to"),
    Column("allowed", "allowed"),
    Column("trend", "last commits", justify="left"),
    Column("first_seen", "first seen at", justify="left"),
    Column("because", "because", justify="left"),
)
FIRST_WORDS = {
    "fail": "fails",
    "refused": "is refused",
    "failed": "could not be measured",
    "no baseline": "has no baseline",
    "inconclusive": "is inconclusive",
    "advisory": "is advisory",
    "not run": "was interrupted",
}
"""How the first line of a report names each verdict that is no pass, the worst first."""


def suite_report(
    suite: Suite, checks: Sequence[Check], results: Sequence[Result], trends: CheckTrends | None = None
) -> Report:
    """Return every check as a run and as a line of a table; the entries' own documents are in the details.

    What did not pass stands before that, a line for each figure, under the sentence that says what happened. With
    `trends`, each figure has its last commits beside it, and what did not pass the commit at which it was first so.
    """
    runs = [{"suite": suite.title, **{name: getattr(check, name) for name in COLUMNS[1:]}} for check in checks]
    # Why something did not pass stands above.
    rows = [shown(check) | ({"because": ""} if check.verdict in FIRST_WORDS else {}) for check in checks]
    if trends is not None:
        for row, run, check in zip(rows, runs, checks, strict=True):
            values, run["first_seen"] = trends.of_check(check)
            row["trend"] = sparkline(values)
    columns = tuple(
        column for column in SHOWN if column.key not in {"trend", "because"} or any(row.get(column.key) for row in rows)
    )
    seconds = sum(result.seconds for result in results)
    table = Table(suite.title, columns, rows, f"{len(results)} of {len(suite.entries)} entries ran in {seconds:.0f} s.")
    tables = [table]
    departed = sorted(
        (check for check in checks if check.verdict in FIRST_WORDS),
        key=lambda check: list(FIRST_WORDS).index(check.verdict),
    )
    if departed:
        lines = [line for check in departed for line in departures(check, trends)]
        shown_columns = [one for one in DEPARTED if one.key in lines[0]]
        first = f"{suite.title} {FIRST_WORDS[departed[0].verdict]}: {first_words(departed)}"
        tables = [Table(first, shown_columns, lines), replace(table, title=f"Every check ({len(checks)})", folded=True)]
    documents = {result.entry.name: result.document for result in results if result.document is not None}
    warnings = [f"{name}: {text}" for name, document in documents.items() for text in document.get("warnings", ())]
    details: dict[str, Any] = {"suite": str(suite.path), "title": suite.title, "entries": documents}
    if trends is not None:
        drawn = map(trends.with_limit, [*departed, *(check for check in checks if check not in departed)])
        details["trends"] = [one for one in drawn if one]
    return Report("suite", COLUMNS, runs, tables, [sentence(checks)], warnings, details)


def departures(check: Check, trends: CheckTrends | None = None) -> list[dict[str, Any]]:
    """Return a line for every figure of a check that did not pass."""
    lines = _departures(check)
    if trends is None:
        return lines
    ways = [trends.of_difference(check, one) for one in check.differences] or [trends.of_check(check)]
    return [
        line | {"trend": sparkline(values), "first_seen": seen}
        for line, (values, seen) in zip(lines, ways, strict=True)
    ]


def _departures(check: Check) -> list[dict[str, Any]]:
    row = shown(check)
    usual = {
        "verdict": check.verdict,
        "network": check.subject or check.entry,
        "figure": check.limit,
        "base": None,
        "new": row["measured"],
        "allowed": row["allowed"],
        "because": check.reason,
    }
    if not check.differences:
        return [usual]
    exactly = {"allowed": "no change"} if check.allowed == 0 else {}
    return [
        usual
        | exactly
        | {
            "network": one.row,
            "figure": one.quantity,
            **dict(zip(("base", "new"), one.texts, strict=True)),
            "because": one.reason or one.direction,
        }
        for one in check.differences
    ]


def first_words(departed: Sequence[Check]) -> str:
    """Say the first of what did not pass, and how much more there is."""
    check = departed[0]
    others = len(departed) - 1
    if check.differences:
        first = check.differences[0]
        ways = dict.fromkeys(one.reason or one.direction for one in check.differences if one.row == first.row)
        base, new = first.texts
        before = f"{base} -> " if first.base is not None else ""
        quantity = "" if first.quantity == OPERATORS else f"{first.quantity} "
        unnamed = first.quantity in {"row", COMPUTES}
        figures = "" if unnamed else f" ({quantity}{before}{new})"
        text = f"{first.row}: {', '.join(ways)}{figures}"
        others += len(check.differences) - 1
    else:
        row = shown(check)
        measured = f", {row['measured']} where {row['allowed']} is allowed" if row["measured"] else ""
        what = check.entry if check.limit == "completes" else f"{check.entry}, {check.limit}"
        text = f"{what}{measured}{row['because'] and ': '}{row['because']}"
    return f"{text}; and {others} more" if others else text


def sentence(checks: Sequence[Check]) -> str:
    """Say in one line how the checks ended."""
    counts = Counter(check.verdict for check in checks)
    bad = [f"{count} {verdict}" for verdict, count in counts.items() if verdict != "pass"]
    passed = f"{counts['pass']} of {len(checks)} checks pass"
    return f"{', '.join([passed, *bad])}."


def shown(check: Check) -> dict[str, Any]:
    """Return a check as people read it: rounded, with units, and why it ended so."""
    unit = {"s": "ms", "times": "x"}.get(check.unit, check.unit)
    scale = 1e3 if check.unit == "s" else 1.0
    measured = figure(check.measured, scale)
    if check.measured_low is not None and check.measured_high is not None:
        measured += f" ({figure(check.measured_low, scale)} .. {figure(check.measured_high, scale)})"
    bound = "all" if check.limit.startswith("must_") and check.unit in {"checks", "runs converged"} else ""
    parts = [check.subject if check.verdict != "pass" and check.subject not in check.reason else "", check.reason]
    return {
        "entry": check.entry,
        "command": check.command.removeprefix("mlcv-bench "),
        "limit": check.limit,
        "allowed": f"{bound} {figure(check.allowed, scale)} {unit}".strip() if check.allowed is not None else None,
        "measured": f"{measured} {unit if check.measured != 1 else ONE.get(unit, unit)}".strip()
        if check.measured is not None
        else None,
        "verdict": check.verdict,
        "because": ": ".join(part for part in parts if part),
    }


def figure(value: float | None, scale: float = 1.0) -> str:
    """Write a number for people: whole ones with commas, others with four figures."""
    if value is None:
        return "-"
    scaled = value * scale
    return f"{scaled:,.0f}" if scale == 1.0 and float(value).is_integer() else f"{scaled:,.4g}"


def plan_report(suite: Suite) -> Report:
    """Return what a suite would run, and which limits it would hold against the results."""
    rows = [
        {
            "suite": suite.title,
            "entry": entry.name,
            "command": entry.command,
            "limits": " ".join(f"{name}={plain_text(value)}" for name, value in entry.limits.items()),
            "timeout_s": entry.timeout_s,
        }
        for entry in suite.entries
    ]
    columns = (*SHOWN[:2], Column("limits", "limits", justify="left"))
    return Report("suite-plan", tuple(rows[0]), rows, [Table(suite.title, columns, rows)])
