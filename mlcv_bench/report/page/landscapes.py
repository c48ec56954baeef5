"""The page of a loss landscape: every plane from above and in three dimensions, with the paths; and what it hides."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from mlcv_bench.report.page.figures import (
    FROM_ABOVE,
    SIDE,
    SOLID,
    TALL,
    PageFigure,
    blank,
    figure_of,
    mark,
    path_traces,
    text,
)
from mlcv_bench.report.plots.loss_landscapes import SeenPath, SeenPlane, distances_panel, planes_of
from mlcv_bench.report.plots.style import style_of

if TYPE_CHECKING:
    from mlcv_bench.records import Report


def figures(report: Report, _of: object = None) -> Iterator[PageFigure]:
    """Yield three figures a plane."""
    for plane in planes_of(report):
        labels = list(plane.paths)
        words = f"plane of {plane.directions} directions"
        yield PageFigure(
            f"The {words} from above", from_above(plane, labels), f"{plane.title}; lines of equal loss on the plane."
        )
        yield PageFigure(
            f"The {words} in three dimensions",
            in_three_dimensions(plane, labels),
            "A path is drawn at its own loss: where it leaves the surface, it runs beside the plane.",
        )
        hidden = replace(distances_panel(plane, labels), legend=True)
        yield PageFigure(f"What the {words} does not show of the paths", figure_of(hidden), whole=True)


def from_above(plane: SeenPlane, labels: Sequence[str]) -> go.Figure:
    """Draw the logarithm of the loss from above, and on it every path with its end."""
    figure = blank(TALL)
    words = [[f"loss {loss:.4g}" for loss in row] for row in plane.losses]
    if plane.ends is not None:
        figure.add_contour(
            x=plane.a,
            y=plane.b,
            z=plane.logarithms.astype(np.float32),
            colorscale=FROM_ABOVE,
            contours={"coloring": "heatmap"},
            ncontours=20,
            line={"color": "#8A95A1", "width": 0.5},
            text=words,
            hovertemplate="(%{x:.3g}, %{y:.3g})<br>%{text}<extra></extra>",
            colorbar={"title": {"text": "loss"}, "thickness": 12, "outlinewidth": 0, **ticks_of(plane)},
        )
    for name, seen in plane.paths.items():
        line, end = points(seen, slice(None)), points(seen, slice(-1, None))
        figure.add_traces(path_traces(name, labels, line, end, hover(name)))
    figure.add_trace(mark("centre", [(0.0, 0.0)], "cross-thin-open", "centre"))
    one, other = plane.labels
    across = {"range": [plane.a[0], plane.a[-1]], "title": {"text": one}, "constrain": "domain", "showgrid": False}
    upwards = {"range": [plane.b[0], plane.b[-1]], "title": {"text": other}, "constrain": "domain", "showgrid": False}
    return figure.update_layout(xaxis=across, yaxis={**upwards, "scaleanchor": "x"})


def in_three_dimensions(plane: SeenPlane, labels: Sequence[str]) -> go.Figure:
    """Draw the logarithm of the loss as a height, and every path at its own loss."""
    figure = blank(TALL)
    heights = plane.logarithms
    if plane.ends is not None:
        figure.add_surface(
            x=plane.a,
            y=plane.b,
            z=heights.astype(np.float32),
            colorscale=SOLID,
            opacity=0.9,
            text=[[f"loss {loss:.4g}" for loss in row] for row in plane.losses],
            hovertemplate="(%{x:.3g}, %{y:.3g})<br>%{text}<extra></extra>",
            showscale=False,
        )
    for name, seen in plane.paths.items():
        if not seen.diverged:
            style = style_of(name, labels)
            shown = points(seen, slice(None))
            figure.add_scatter3d(
                **shown,
                z=[math.log10(loss) if loss else None for loss in seen.losses],
                mode="lines",
                line={"color": style.colour, "width": 5},
                name=text(name),
                hovertemplate=hover(name),
            )
    one, other = plane.labels
    return figure.update_layout(
        margin={"l": 0, "r": 0, "t": 0, "b": 0},
        scene={
            "xaxis": {"title": {"text": one}, **SIDE},
            "yaxis": {"title": {"text": other}, **SIDE},
            "zaxis": {"title": {"text": "loss"}, **ticks_of(plane), **SIDE},
            "aspectmode": "manual",
            "aspectratio": {"x": 1.2, "y": 1.2 * min(1.0, max(0.5, plane.height)), "z": 0.7},
            "camera": {"eye": {"x": 1.1, "y": -1.5, "z": 1.1}},
        },
    )


def ticks_of(plane: SeenPlane) -> dict[str, Any]:
    """Return the ticks of a logarithm of the loss: whole decades, or where there are none two, 1, 2 and 5 of each."""
    decades = [level for level in plane.levels if f"{level:e}"[0] == "1"]
    levels = decades if len(decades) > 1 else plane.levels
    return {"tickvals": [math.log10(level) for level in levels], "ticktext": [f"{level:g}" for level in levels]}


def points(seen: SeenPath, part: slice) -> dict[str, Any]:
    """Return some of a path's points, with what a reader who points at one is told."""
    told = zip(seen.steps[part], seen.losses[part], seen.distances[part], strict=True)
    words = [f"step {step}<br>loss {written(loss)}<br>{distance:.3g} off the plane" for step, loss, distance in told]
    return {"x": list(seen.a[part]), "y": list(seen.b[part]), "text": words}


def written(loss: float | None) -> str:
    """Write a loss, which may not be known."""
    return "unknown" if loss is None else f"{loss:.4g}"


def hover(name: str) -> str:
    """Return what a point of a path says of itself."""
    return f"{text(name)}<br>%{{text}}<br>at (%{{x:.3g}}, %{{y:.3g}})<extra></extra>"
