"""A suite's outcome as people and machines read it: one row a limit, and everything that was measured behind it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from mlcv_bench.comparing.judging import Check, Result
from mlcv_bench.records import Column, Report, Table, plain_text
from mlcv_bench.suites.document import Suite

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
    Column("verdict", "verdict", justify="left"),
)
BECAUSE = Column("because", "because", justify="left")


def suite_report(suite: Suite, checks: Sequence[Check], results: Sequence[Result]) -> Report:
    """Return every check as a run and as a line of one table; the entries' own documents are in the details."""
    runs = [{"suite": suite.title, **{name: getattr(check, name) for name in COLUMNS[1:]}} for check in checks]
    rows = [shown(check) for check in checks]
    columns = (*SHOWN, BECAUSE) if any(row["because"] for row in rows) else SHOWN
    seconds = sum(result.seconds for result in results)
    table = Table(suite.title, columns, rows, f"{len(results)} of {len(suite.entries)} entries ran in {seconds:.0f} s.")
    documents = {result.entry.name: result.document for result in results if result.document is not None}
    warnings = [f"{name}: {text}" for name, document in documents.items() for text in document.get("warnings", ())]
    details = {"suite": str(suite.path), "entries": documents}
    return Report("suite", COLUMNS, runs, [table], [sentence(checks)], warnings, details)


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
        "measured": f"{measured} {unit}".strip() if check.measured is not None else None,
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
