"""The page of a map of basins: the picture's own pixels, each of which tells its start, its minimum and its steps."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go
from PIL import Image

from mlcv_bench.records import counted
from mlcv_bench.report.page.figures import NOT_RUN_AGAIN, Markup, PageFigure, absent, blank, text
from mlcv_bench.report.plots.basins import pixels, place_words, shares, title_of
from mlcv_bench.surface_race.basins import BasinMap, grid_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlcv_bench.records import Report

TOLD = (160, 120)
"""So many starts across and upwards tell what they are; the others of a large map lie between them."""
HEIGHT = 620


def figures(_report: Report, found: object) -> Iterator[PageFigure | Markup]:
    """Yield the map; a saved one that was not run again has only the shares of its basins."""
    if not isinstance(found, BasinMap):
        yield absent("Map", f"The file holds no map, {NOT_RUN_AGAIN}")
        return
    rows, columns = (-(-size // most) for size, most in zip(found.index.shape, reversed(TOLD), strict=True))
    every = "" if (rows, columns) == (1, 1) else f" One start in {rows * columns} tells what it is."
    caption = f"Light: fast, dark: slow. Every pixel is a start.{every}"
    yield PageFigure(title_of(found), drawn(found, rows, columns), caption)


def drawn(found: BasinMap, rows: int, columns: int) -> go.Figure:
    """Draw the map; one start in so many rows and columns tells what it is."""
    figure = blank(HEIGHT)
    height, width = found.index.shape
    (left, right), (bottom, top) = found.surface.box
    starts = grid_of(found.surface.box, width, height).reshape(height, width, 2)
    told = np.s_[rows // 2 :: rows, columns // 2 :: columns]
    figure.add_trace(
        go.Heatmap(
            x=starts[0, told[1], 0].astype(np.float32),
            y=starts[told[0], 0, 1].astype(np.float32),
            z=found.index[told].astype(np.int8),
            text=words_of(found)[told].tolist(),
            hovertemplate="start (%{x:.4g}, %{y:.4g})<br>%{text}<extra></extra>",
            colorscale=[(0, "rgba(0,0,0,0)"), (1, "rgba(0,0,0,0)")],
            showscale=False,
        )
    )
    for hue, words, share in shares(found):
        # Not as #RRGGBB, which a dark page changes: the picture beside stays as it is.
        fill = f"rgb({','.join(str(int(hue[place : place + 2], 16)) for place in (1, 3, 5))})"
        figure.add_trace(
            go.Scatter(
                x=[None],
                y=[None],
                mode="markers",
                marker={"symbol": "square", "size": 13, "color": fill, "line": {"width": 1, "color": "#777777"}},
                name=text(f"{words}  {share:.1%}"),
            )
        )
    figure.add_trace(
        go.Scatter(
            x=[minimum[0] for minimum in found.minima],
            y=[minimum[1] for minimum in found.minima],
            mode="markers",
            marker={"size": 10, "color": "#FFFFFF", "line": {"width": 1.5, "color": "#222222"}},
            showlegend=False,
            hovertemplate="minimum (%{x:.4g}, %{y:.4g})<extra></extra>",
        )
    )
    whole = {"x": left, "y": top, "sizex": right - left, "sizey": top - bottom, "sizing": "stretch"}
    figure.add_layout_image(source=picture_of(found), xref="x", yref="y", layer="below", **whole)
    figure.update_layout(
        legend={"itemclick": False, "itemdoubleclick": False},
        xaxis={"range": (left, right), "title": {"text": "x"}, "showgrid": False, "constrain": "domain"},
        yaxis={"range": (bottom, top), "title": {"text": "y"}, "showgrid": False},
    )
    return figure


def words_of(found: BasinMap) -> np.ndarray[tuple[int, ...], np.dtype[np.object_]]:
    """Return what every start tells, shape [height, width]: where it ends, and after how many steps."""
    places = [
        *(place_words(found, number) for number in range(len(found.minima))),
        f"no minimum in {found.budget} steps",
    ]
    words = np.array(places, dtype=object)[found.index]  # -1 is the last one
    words = np.where(found.diverged, "diverges", words)
    steps = np.array([counted(step, "step") for step in range(found.budget + 1)], dtype=object)[
        np.maximum(found.steps, 0)
    ]
    return np.where(found.steps >= 0, words + ", " + steps, words)


def picture_of(found: BasinMap) -> str:
    """Return the picture's pixels as the address of a PNG."""
    rows = (pixels(found)[::-1] * 255).round().astype(np.uint8)
    held = io.BytesIO()
    Image.fromarray(rows).save(held, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(held.getvalue()).decode()
