"""The figures of a page: which study has which, and how a panel that matplotlib paints is drawn by plotly."""

from __future__ import annotations

import html
import importlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import plotly.graph_objects as go

from mlcv_bench.records import visible
from mlcv_bench.report.formats.json_text import plain
from mlcv_bench.report.plots.panel import Panel, Scaled, Series
from mlcv_bench.report.plots.style import COLOURS, style_of

if TYPE_CHECKING:
    from mlcv_bench.records import Report

FIGURES: Mapping[str, str] = {
    "ab": "plots.comparisons:pairs",
    "basins": "page.basins:figures",
    "claims": "page.claims:figures",
    "compare": "plots.comparisons:ratios",
    "cost": "page.costs:figures",
    "draw": "page.network:figures",
    "landscape": "page.landscapes:figures",
    "lr-sweep": "page.sweeps:figures",
    "optim-race": "page.races:figures",
    "suite": "plots.suites:panels",
    "summary": "page.costs:summary",
    "time": "plots.timings:page_panels",
    "verify": "plots.equivalences:panels",
    "history": "plots.history:panels",
    "history-check": "plots.history:panels",
}
"""Study to MODULE:FUNCTION in `report`, called with the report and the live record."""
FROM_ABOVE = [(0, "rgba(120,135,150,0)"), (1, "rgba(120,135,150,0.45)")]
"""Of a surface from above: low is the page itself, light or dark, so that the paths, which end low, stand out."""
SOLID = [(0, "#E4E8EC"), (1, "#8A97A5")]
"""Of a surface in three dimensions, where colours cannot be clear."""
INK = "#1b1f24"
"""The letters' colour on a light page, as page.css has it."""
NOT_RUN_AGAIN = (
    "and its command was not run again here: that takes long, or runs code that the file names, or gives other rows "
    "than were saved. With -o NAME.html the command draws a page of its own."
)
"""The end of the sentence on what a saved race, or map of basins, does not hold."""
MOST_TICKS = 8
"""On an axis that counts."""
HEIGHT = 440
"""Pixels of a figure's usual height."""
TALL = 560
"""Pixels of a view of a surface."""
SIDE = {"showspikes": False, "backgroundcolor": "rgba(0,0,0,0)", "showbackground": False}
"""An axis of a view in three dimensions, without a wall behind it."""
DASHES = {"-": "solid", "--": "dash", ":": "dot", "-.": "dashdot"}
SYMBOLS = {
    "o": "circle",
    "s": "square",
    "D": "diamond",
    "d": "diamond-tall",
    "^": "triangle-up",
    "v": "triangle-down",
    "<": "triangle-left",
    ">": "triangle-right",
    "P": "cross",
    "X": "x",
    "x": "x-thin-open",
    "*": "star",
    "p": "pentagon",
    "h": "hexagon",
    "H": "hexagon2",
    "8": "octagon",
    ".": "circle",
}
"""Plotly's name of each of matplotlib's markers."""


@dataclass(frozen=True)
class PageFigure:
    """A figure with its heading and a sentence below; a `whole` one takes the page's width.

    `behaviour` is the one of the page's scripts that works on it, with its data.
    """

    title: str
    figure: go.Figure
    caption: str = ""
    behaviour: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)
    whole: bool = False


@dataclass(frozen=True)
class Markup:
    """A part of a page that is no plot, with its heading; whoever writes the `html` has escaped what users named."""

    title: str
    html: str


def absent(title: str, words: str) -> Markup:
    """Say in a figure's place why it is not there."""
    return Markup(title, f'<p class="note">{shown(words)}</p>')


def figures_of(report: Report, of: object = None) -> Iterator[PageFigure | Markup]:
    """Yield the figures of a report; `of` is the live record that the study yielded, where there is one."""
    place = FIGURES.get(report.study)
    if place is None:
        return
    module, _, function = place.partition(":")
    make = getattr(importlib.import_module(f"mlcv_bench.report.{module}"), function)
    found: Iterable[Panel | PageFigure | Markup] = make(replace(report, details=plain(dict(report.details))), of)
    for one in found:
        yield PageFigure(one.title, figure_of(one)) if isinstance(one, Panel) else one


def shown(value: object) -> str:
    """Return a text as the page shows it: never markup, and no character that hides another."""
    return html.escape(visible(str(value)))


def text(words: object) -> str:
    """Return a user's words as plotly shows them unchanged: it reads its texts as markup, between dollars as TeX."""
    return html.escape(visible(str(words)), quote=False).replace("$", "&#36;")


def figure_of(panel: Panel) -> go.Figure:
    """Draw a panel with plotly."""
    figure = blank(round(HEIGHT * panel.tall))
    seen: set[str] = set()
    for one in panel.series:
        for trace in traces_of(one, first=(one.group or one.name) not in seen):
            figure.add_trace(trace)
        seen.add(one.group or one.name)
    figure.update_layout(
        showlegend=panel.legend and any(one.name for one in panel.series),
        xaxis=axis_of(panel.x),
        yaxis=axis_of(panel.y),
    )
    if panel.x.whole:
        places = [place for one in panel.series for place in one.x]
        figure.update_xaxes(dtick=max(1, round((max(places, default=0) - min(places, default=0)) / MOST_TICKS)))
    if panel.level is not None:
        figure.add_hline(panel.level, line={"color": "#000000", "width": 1, "dash": "dash"})
    if panel.level is not None and panel.level_words:
        height = math.log10(panel.level) if panel.y.scale != "linear" else panel.level
        figure.add_annotation(
            text=text(panel.level_words),
            showarrow=False,
            x=1,
            xref="paper",
            xanchor="right",
            y=height,
            yanchor="bottom",
        )
    if panel.upright is not None:
        figure.add_vline(panel.upright, line={"color": "#000000", "width": 1})
    return figure


def path_traces(
    label: str, labels: Sequence[str], line: Mapping[str, Any], head: Mapping[str, Any], hover: str
) -> tuple[go.Scatter, go.Scatter]:
    """Return a path seen from above, and its head, in the looks that the label has among all labels."""
    style = style_of(label, labels)
    shared: dict[str, Any] = {"name": text(label), "legendgroup": text(label), "hovertemplate": hover}
    stroke = {"color": style.colour, "dash": DASHES[style.line], "width": 2}
    marker = {"color": style.colour, "symbol": SYMBOLS[style.marker], "size": 10}
    return (
        go.Scatter(**line, mode="lines", line=stroke, **shared),
        go.Scatter(**head, mode="markers", marker=marker, showlegend=False, **shared),
    )


def mark(name: str, points: Sequence[Sequence[float]], symbol: str, hover: str) -> go.Scatter:
    """Return places in a plane that are no path's, such as a minimum."""
    return go.Scatter(
        x=[point[0] for point in points],
        y=[point[1] for point in points],
        mode="markers",
        marker={"symbol": symbol, "size": 11, "color": "#000000", "line": {"width": 2, "color": "#000000"}},
        name=name,
        showlegend=False,
        hovertemplate=f"{hover}<extra></extra>",
    )


def blank(height: int = HEIGHT) -> go.Figure:
    """Return a figure without anything in it, in the page's looks: no background, quiet lines, a legend below."""
    grid = {"gridcolor": "#E3E3E3", "zeroline": False, "automargin": True, "linecolor": "#777777", "ticks": "outside"}
    return go.Figure(
        layout={
            "template": None,
            "height": height,
            "colorway": list(COLOURS),
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "font": {"family": "system-ui, sans-serif", "size": 13, "color": INK},
            "margin": {"l": 60, "r": 20, "t": 20, "b": 50},
            "legend": {"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom", "x": 0},
            "hovermode": "closest",
            "hoverlabel": {"align": "left", "namelength": -1},
            "xaxis": grid,
            "yaxis": grid,
        }
    )


def axis_of(axis: Scaled) -> dict[str, Any]:
    """Return an axis as plotly takes it."""
    made: dict[str, Any] = {"title": {"text": text(axis.words)}}
    logarithmic = axis.scale != "linear"
    if logarithmic:
        made |= {"type": "log", "exponentformat": "power"}
        if axis.rounded:
            made |= {"dtick": "D2", "tickformat": ",~g"}
    if axis.ticks:
        words = axis.tick_words or [f"{tick:g}" for tick in axis.ticks]
        made |= {"tickmode": "array", "tickvals": list(axis.ticks), "ticktext": [text(word) for word in words]}
    ends = [axis.low, axis.high]
    if ends != [None, None]:
        made |= {"range": [math.log10(end) if end is not None and logarithmic else end for end in ends]}
    return made


def traces_of(one: Series, *, first: bool) -> Iterator[go.Scatter]:
    """Yield a series as plotly's traces, its band before it; only the `first` of a group is in the legend."""
    group = text(one.group or one.name)
    shared = {"legendgroup": group or None, "name": text(one.name or one.group)}
    shape = "hv" if one.steps else "linear"
    if one.band is not None:
        low, high = one.band
        yield go.Scatter(
            x=[*one.x, *reversed(one.x)],
            y=[*high, *reversed(low)],
            fill="toself",
            fillcolor=one.colour,
            opacity=0.15,
            line={"width": 0, "shape": shape},
            hoverinfo="skip",
            showlegend=False,
            **shared,
        )
    mode = "+".join(word for word, there in (("lines", one.line), ("markers", one.marker)) if there)
    yield go.Scatter(
        x=[*one.x] if isinstance(one.x, range) else one.x,
        y=one.y,
        mode=mode or "markers",
        line={"color": one.colour, "width": one.width, "dash": DASHES.get(one.line, "solid"), "shape": shape},
        marker={
            "color": one.colour,
            "size": max(5, one.size * 1.3),
            "symbol": SYMBOLS.get(one.marker, "circle") + ("-open" if one.hollow else ""),
            "line": {"color": one.colour, "width": 1 if one.hollow or one.marker == "x" else 0},
        },
        opacity=one.alpha,
        error_y=_errors(one),
        showlegend=first and bool(one.name),
        **_hover(one.texts),
        **shared,
    )


def _errors(one: Series) -> dict[str, Any] | None:
    if one.errors is None:
        return None
    low, high = one.errors
    return {
        "type": "data",
        "symmetric": False,
        "array": [most - value for value, most in zip(one.y, high, strict=True)],
        "arrayminus": [value - least for value, least in zip(one.y, low, strict=True)],
        "color": one.colour,
        "thickness": 1,
        "width": 4,
    }


def _hover(texts: Sequence[str]) -> dict[str, Any]:
    if not texts:
        return {}
    lines = ["<br>".join(text(line) for line in words.split("\n")) for words in texts]
    return {"text": lines, "hovertemplate": "%{text}<extra></extra>"}
