"""All figures of a page as one, for a notebook, with plotly's own controls in the place of the page's."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from plotly.subplots import make_subplots

from mlcv_bench.report.page.figures import PageFigure, blank, figures_of, text
from mlcv_bench.report.page.races import BEHAVIOUR, moved

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from mlcv_bench.records import Report

ACROSS = 2
BETWEEN = 110
"""Pixels between two rows: an axis with its words, and the next title."""


def together(report: Report, of: object = None) -> go.Figure | None:
    """Return the figures of a report as subplots of one; None where it has none."""
    figures = [one for one in figures_of(report, of) if isinstance(one, PageFigure)]
    if not figures:
        return None
    columns = min(ACROSS, len(figures))
    rows = math.ceil(len(figures) / columns)
    kinds = [kind_of(one.figure) for one in figures] + [None] * (rows * columns - len(figures))
    rowwise = [slice(row * columns, (row + 1) * columns) for row in range(rows)]
    heights = [max(int(one.figure.layout.height) for one in figures[part]) for part in rowwise]
    total = sum(heights) + BETWEEN * rows
    made = make_subplots(
        rows,
        columns,
        specs=[[None if kind is None else {"type": kind} for kind in kinds[part]] for part in rowwise],
        subplot_titles=[text(one.title) for one in figures],
        row_heights=heights,
        vertical_spacing=BETWEEN / total if rows > 1 else None,
    )
    looks = blank(total).layout
    made.update_layout(
        {name: looks[name] for name in ("height", "font", "hovermode", "hoverlabel")},
        paper_bgcolor="#FFFFFF",
        plot_bgcolor="#FFFFFF",
        showlegend=True,
        legend={"orientation": "h", "y": -0.06, "yanchor": "top"},
    )
    named: set[str] = set()
    for place, one in enumerate(figures):
        add(made, one.figure, divmod(place, columns), named)
    for one in figures:
        if one.behaviour == BEHAVIOUR:
            made.update_layout(updatemenus=[protocols_of(made, one.data)], sliders=list(rates_of(made, one.data)))
            made.update_layout(margin={"t": 110})
    return made


def kind_of(figure: go.Figure) -> str:
    """Return plotly's name of what a figure is drawn in."""
    if figure.layout.scene.to_plotly_json():
        return "scene"
    return "domain" if any(trace.type == "icicle" for trace in figure.data) else "xy"


def add(made: go.Figure, figure: go.Figure, place: tuple[int, int], named: set[str]) -> None:
    """Put a figure at a row and column; a name that stands in the legend already does not come twice."""
    where = {"row": place[0] + 1, "col": place[1] + 1}
    for trace in figure.data:
        made.add_trace(trace, **where)
        if hasattr(trace, "showlegend"):
            group, run = trace.legendgroup or trace.name, trace.meta or {}
            in_legend = "run" in run and not run["head"] if run else trace.showlegend is not False
            made.data[-1].showlegend = in_legend and bool(group) and group not in named
            named |= {group} if in_legend else set()
    if kind_of(figure) == "scene":
        made.update_scenes(figure.layout.scene.to_plotly_json(), **where)
    elif kind_of(figure) == "xy":
        put_axes(made, figure, where)


def put_axes(made: go.Figure, figure: go.Figure, where: Mapping[str, int]) -> None:
    """Give a subplot a figure's axes, and what is drawn in their places."""
    subplot = made.get_subplot(**where)
    across, upwards = (axis.plotly_name.replace("axis", "") for axis in (subplot.xaxis, subplot.yaxis))
    made.update_xaxes(figure.layout.xaxis.to_plotly_json(), **where)
    upright = figure.layout.yaxis.to_plotly_json()
    made.update_yaxes(upright | ({"scaleanchor": across} if "scaleanchor" in upright else {}), **where)
    names = {"x": across, "y": upwards, "x domain": f"{across} domain", "paper": f"{across} domain"}
    for found, put in (("shapes", "add_shape"), ("annotations", "add_annotation"), ("images", "add_layout_image")):
        for one in figure.layout[found]:
            held = one.to_plotly_json()
            references = {"xref": names[held.get("xref", "x")], "yref": names[held.get("yref", "y")]}
            getattr(made, put)(held | references)


def protocols_of(made: go.Figure, data: Mapping[str, Any]) -> dict[str, Any]:
    """Return buttons that show the runs of another protocol."""
    buttons = [
        {"label": words, "method": "restyle", "args": moved(made.data, data, name)}
        for name, words in data["protocols"].items()
    ]
    place = {"x": 0, "y": 1, "xanchor": "left", "yanchor": "bottom", "pad": {"b": 40}}
    shown = list(data["protocols"]).index(data["shown"])
    return {"type": "buttons", "direction": "right", "buttons": buttons, "active": shown, **place}


def rates_of(made: go.Figure, data: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a slider that shows the runs at one rate of the tuning, if there was one."""
    if data["rates"]:
        steps: Sequence[dict[str, Any]] = [
            {"label": f"{rate:.3g}", "method": "restyle", "args": moved(made.data, data, "rates", place)}
            for place, rate in enumerate(data["rates"])
        ]
        place = {"x": 0.45, "len": 0.55, "y": 1, "yanchor": "bottom", "pad": {"b": 30}}
        words = {"prefix": "one rate for all: ", "xanchor": "left"}
        yield {"steps": steps, "active": len(steps) // 2, "currentvalue": words, **place}
