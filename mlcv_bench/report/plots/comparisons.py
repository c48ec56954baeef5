"""What `ab` and `compare` found, as panels of a page: every pair's ratio, and every ratio with its interval."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mlcv_bench.records import interval_text
from mlcv_bench.report.plots.panel import Panel, Scaled, Series
from mlcv_bench.report.plots.style import COLOURS

if TYPE_CHECKING:
    from mlcv_bench.records import Report

HUES = {"worse": COLOURS[1], "changed": COLOURS[1], "better": COLOURS[2], "undecided": COLOURS[4]}
SAME = COLOURS[0]
MOST = 60
"""Ratios that are shown, those farthest from 1 first."""


def pairs(report: Report, _of: object = None) -> list[Panel]:
    """Return the ratio of every palindrome of `ab`: B to A, and A again to A, between the limits of its verdict.

    Of several comparisons each has a panel.
    """
    details = report.details.get("pairs") or [report.details] * len(report.runs)
    return [panel for run, found in zip(report.runs, details, strict=True) for panel in _palindromes(run, found)]


def _palindromes(run: Mapping[str, Any], details: Mapping[str, Any]) -> list[Panel]:
    series = []
    for key, name, colour, marker in (
        ("control_ratios", "A again : A (control)", COLOURS[4], "s"),
        ("ratios", "B : A", COLOURS[0], "o"),
    ):
        found = [(ratio, session + 1) for session, ratios in enumerate(details.get(key, ())) for ratio in ratios]
        said = [f"{name}\npair {place + 1}, set {session}: {ratio:.4f}" for place, (ratio, session) in enumerate(found)]
        across, up = range(1, len(found) + 1), [ratio for ratio, _ in found]
        series.append(Series(across, up, colour, name=name, line="", marker=marker, texts=said))
    if not any(one.y for one in series):
        return []
    last = max(len(one.x) for one in series)
    lines = [(1 + run["margin"], "margin"), (1 - run["margin"], ""), (run["ratio"], "ratio")]
    series += [
        Series([1, last], [height] * 2, "#000000", name=name, group=name or "margin", line=line, width=1)
        for (height, name), line in zip(lines, (":", ":", "-"), strict=True)
    ]
    title = f"Every pair: {run['verdict']}, {run['ratio']:.4f} times A's time"
    return [Panel(title, Scaled("pair", whole=True), Scaled("ratio of times"), series, level=1.0)]


def ratios(report: Report, _of: object = None) -> list[Panel]:
    """Return what `compare` found of every time, and of what changed: new to base, with its interval."""
    shown = (run for run in report.runs if run["ratio"] and (run["ratio_low"] or run["change"] != "same"))
    rows = sorted(shown, key=lambda run: abs(run["ratio"] - 1))[-MOST:]
    if not rows:
        return []
    series = [one for height, row in enumerate(rows) for one in _interval(height, row)]
    return [
        Panel(
            "New over base, with its interval where one is known",
            Scaled("ratio"),
            Scaled(ticks=range(len(rows)), tick_words=[f"{row['row']}: {row['quantity']}" for row in rows]),
            series,
            upright=1.0,
            legend=False,
            grid="x",
            tall=max(0.5, (len(rows) + 3) / 14),
        )
    ]


def _interval(height: int, row: Mapping[str, Any]) -> list[Series]:
    low, high = row["ratio_low"] or row["ratio"], row["ratio_high"] or row["ratio"]
    interval = f" ({interval_text(low, high, '.4f')})" if row["ratio_low"] else ""
    said = f"{row['row']}\n{row['quantity']}: {row['ratio']:.4f}{interval}, {row['change']}"
    colour = HUES.get(row["change"], SAME)
    return [
        Series([low, high], [height] * 2, colour, width=2, texts=[said] * 2),
        Series([row["ratio"]], [height], colour, line="", marker="o", size=6, texts=[said]),
    ]
