"""The page of a sweep of rates, of its rows: curves for one surface, a heat map an optimizer for several conditions."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go

from mlcv_bench.report.page.figures import PageFigure, blank
from mlcv_bench.report.plots.race_data import rate_panel, steps_at_rates
from mlcv_bench.report.plots.sweeps import MISSING
from mlcv_bench.surface_race.tuning import Sweep

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mlcv_bench.records import Report
    from mlcv_bench.report.plots.panel import Panel

HEIGHT = 340


def figures(report: Report, _found: object) -> Iterator[PageFigure | Panel]:
    """Yield one panel of curves, or a map an optimizer: condition against rate, the colour the steps."""
    rows = [row for row in report.runs if row["status"] == "done"]
    found: dict[str, dict[float | None, Sweep]] = {}
    for (label, condition), same in groupby(rows, key=lambda row: (row["optimizer"], row["condition"])):
        found.setdefault(label, {})[condition] = sweep_of(
            label, list(same), stochastic=bool(report.details.get("stochastic"))
        )
    budget, labels = report.details["steps"], list(found)
    if not found:
        return
    if all(len(own) == 1 for own in found.values()):
        sweeps = [sweep for own in found.values() for sweep in own.values()]
        yield replace(rate_panel(sweeps, labels, budget), legend=True, tall=1.2)
        return
    caption = f"Steps to {report.details['target']:g} of the first gap; grey: never; a ring: the best rate."
    for label, own in found.items():
        yield PageFigure(label, heat_map(own, budget), caption if label == labels[0] else "")


def sweep_of(label: str, rows: Sequence[Mapping[str, float | None]], *, stochastic: bool) -> Sweep:
    """Return a sweep from its rows, whose steps are medians."""
    hits, exits = ([[-1 if row[key] is None else row[key]] for row in rows] for key in ("first_hit", "last_exit"))
    finals = [math.inf if row["final_loss"] is None else row["final_loss"] for row in rows]
    return Sweep(label, tuple(row["lr"] or 0.0 for row in rows), hits, exits, tuple(finals), stochastic)


def heat_map(sweeps: Mapping[float | None, Sweep], budget: int) -> go.Figure:
    """Draw an optimizer's steps at every condition number and rate."""
    figure = blank(HEIGHT)
    conditions = [f"{condition:g}" for condition in sweeps]
    (rates,) = {sweep.rates for sweep in sweeps.values()}
    table = np.array([steps_at_rates(sweep) for sweep in sweeps.values()])
    ticks = list(range(math.ceil(math.log10(budget)) + 1))
    figure.add_trace(
        go.Heatmap(
            x=np.log10(rates),
            y=conditions,
            z=np.log10(np.maximum(table, 1.0)),
            zmin=0,
            zmax=math.log10(budget),
            colorscale="Viridis_r",
            colorbar={"tickvals": ticks, "ticktext": [f"{10**tick:g}" for tick in ticks], "thickness": 12},
            text=[
                [
                    f"rate {rate:.3g}<br>{f'{steps:g} steps' if math.isfinite(steps) else 'never'}"
                    for rate, steps in zip(rates, row, strict=True)
                ]
                for row in table
            ],
            hovertemplate="condition %{y}<br>%{text}<extra></extra>",
            hoverongaps=True,
        )
    )
    best = [
        (math.log10(sweep.best), name) for name, sweep in zip(conditions, sweeps.values(), strict=True) if sweep.hit_any
    ]
    figure.add_trace(
        go.Scatter(
            x=[rate for rate, _ in best],
            y=[name for _, name in best],
            mode="markers",
            marker={"size": 8, "color": "#FFFFFF", "line": {"width": 1.5, "color": "#222222"}},
            hoverinfo="skip",
            showlegend=False,
        )
    )
    powers = range(round(math.log10(rates[0])), round(math.log10(rates[-1])) + 1)
    figure.update_layout(
        plot_bgcolor=MISSING,
        xaxis={
            "showgrid": False,
            "title": {"text": "learning rate"},
            "tickvals": list(powers),
            "ticktext": [f"{10.0**power:g}" for power in powers],
        },
        yaxis={"title": {"text": "condition"}, "type": "category", "showgrid": False},
    )
    return figure
