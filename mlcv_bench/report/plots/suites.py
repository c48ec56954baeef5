"""A suite's figures over the last commits, each with its limit as a line."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from mlcv_bench.report.history import MOST_DRAWN
from mlcv_bench.report.plots.panel import Panel, Scaled, Series, unit_of
from mlcv_bench.report.plots.style import COLOURS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlcv_bench.records import Report


def panels(report: Report, _of: object = None) -> list[Panel]:
    """Return a panel for each figure that has a limit, what breaks it first; none without a history."""
    return [panel_of(one) for one in itertools.islice(report.details.get("trends", ()), MOST_DRAWN)]


def panel_of(one: Mapping[str, Any]) -> Panel:
    """Return one figure's way to what it is now, at 0."""
    unit, scale = unit_of(one["column"])
    heights = [None if value is None else scale * value for value in one["values"]]
    places = range(1 - len(heights), 1)
    return Panel(
        one["title"],
        Scaled("commits with results, the present one at 0", whole=True),
        Scaled(unit),
        [Series(places, heights, COLOURS[0], line="-", marker="o", size=4, width=1.2)],
        level=scale * one["bound"],
        level_words="limit",
        legend=False,
    )
