"""Pictures of loss landscapes: each plane from above with the paths on it, and how far off it they run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from mlcv_bench.report.picture import save
from mlcv_bench.report.plots.landscape import GROUND, HALO, draw_path, draw_start
from mlcv_bench.report.plots.panel import Panel, Scaled, Series
from mlcv_bench.report.plots.style import legend_columns, style_of, worded, write_near
from mlcv_bench.surface_race.floats import Trajectory

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt
    from matplotlib.axes import Axes

    from mlcv_bench.records import Report

    Numbers = npt.NDArray[np.float64]

SHADES = 30
DECADES = 6
"""Below the highest loss: what is lower is no further apart for a reader, and zero has no logarithm."""
WIDE = 6.5
"""Inches that a plane is wide."""
LOWEST = 3.0
"""Inches that a panel is high at least."""
LINE = "#6B7783"
"""The colour of lines of equal loss and of their figures."""


@dataclass(frozen=True)
class SeenPath:
    """A path as a picture shows it: its steps, coordinates and losses, and its distances from the plane."""

    steps: Sequence[int]
    a: Sequence[float]
    b: Sequence[float]
    losses: Sequence[float | None]
    distances: Sequence[float]
    diverged: bool


@dataclass(frozen=True)
class SeenPlane:
    """A plane as a picture shows it: `losses[i, j]` at a[j], b[i]; NaN where none is known."""

    directions: str
    title: str
    labels: tuple[str, str]
    a: Numbers
    b: Numbers
    losses: Numbers
    paths: Mapping[str, SeenPath]

    @property
    def height(self) -> float:
        """The height of the plane as a share of its width."""
        return float((self.b[-1] - self.b[0]) / (self.a[-1] - self.a[0]))

    @cached_property
    def ends(self) -> tuple[float, float] | None:
        """The lowest and the highest loss that are told apart; None where none is known."""
        seen = self.losses[np.isfinite(self.losses) & (self.losses > 0)]
        if not seen.size:
            return None
        high = float(seen.max())
        return max(float(seen.min()), high * 10.0**-DECADES), high

    @property
    def logarithms(self) -> Numbers:
        """The logarithm of every loss, to base 10."""
        found: Numbers = np.log10(self.losses.clip(self.ends[0] if self.ends else 0.0))
        return found

    @property
    def levels(self) -> list[float]:
        """Losses that read well, 1, 2 and 5 of each decade, between the lowest and the highest."""
        if self.ends is None:
            return []
        low, high = self.ends
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        return [level for decade in decades for one in (1, 2, 5) if low < (level := one * 10.0**decade) < high]


def planes_of(report: Report) -> list[SeenPlane]:
    """Return the planes of a report, from its rows."""
    return [plane_of(report, details) for details in report.details["planes"]]


def plane_of(report: Report, details: Mapping[str, Any]) -> SeenPlane:
    """Return one plane of a report."""
    size, names = details["resolution"], tuple(details["directions"])
    a, b = (np.linspace(low, high, size) for low, high in (details["a"], details["b"]))
    rows = [row for row in report.runs if (row["direction_a"], row["direction_b"]) == names]
    losses = np.full((size, size), np.nan)
    for place, row in enumerate(row for row in rows if row["optimizer"] is None):
        if row["loss"] is not None:
            losses[divmod(place, size)] = row["loss"]
    paths: dict[str, SeenPath] = {}
    for name in dict.fromkeys(row["optimizer"] for row in rows if row["optimizer"] is not None):
        own = [row for row in rows if row["optimizer"] == name]
        steps, a_path, b_path, along, distances = (
            [row[key] for row in own] for key in ("step", "a", "b", "loss", "distance")
        )
        paths[name] = SeenPath(steps, a_path, b_path, along, distances, diverged=bool(own[0]["reason"]))
    setup = report.details["setup"]
    title = f"{setup['task']}, {setup['model']}: loss round the end of {report.details['centre']}"
    return SeenPlane(details["directions"][0].partition(" ")[0], title, labels_of(details), a, b, losses, paths)


def labels_of(details: Mapping[str, Any]) -> tuple[str, str]:
    """Return what stands at the axes: the directions, and the share of the paths' variance along principal ones."""
    one, other = details["directions"]
    if details["variance"] is None:
        return f"{one}, filter-normalised", f"{other}, filter-normalised"
    first, second = details["variance"]
    return f"{one}: {first:.1%} of the paths' variance", f"{other}: {second:.1%}"


def draw(report: Report, path: Path) -> None:
    """Paint the planes of a report, one a row."""
    save(figure(report), path)


def figure(report: Report, _of: object = None) -> Figure:
    """Return the picture: left each plane from above, right how far off it the paths run."""
    planes = planes_of(report)
    heights = [max(LOWEST, WIDE * plane.height) + 0.8 for plane in planes] or [4.0]
    drawn = Figure(figsize=(1.85 * WIDE, sum(heights) + 0.4), layout="constrained")
    if not planes:
        drawn.add_subplot().set_title("no path came to an end")
        return drawn
    labels = list(dict.fromkeys(name for plane in planes for name in plane.paths))
    rows = drawn.subplots(len(planes), 2, squeeze=False, width_ratios=(1.35, 1), height_ratios=heights)
    for plane, (above, beside) in zip(planes, rows, strict=True):
        draw_plane(above, plane, labels)
        distances_panel(plane, labels)(beside)
    handles, names = rows[0][1].get_legend_handles_labels()
    drawn.legend(handles, names, loc="outside lower center", ncols=legend_columns(drawn, names), fontsize=9)
    return drawn


def draw_plane(axes: Axes, plane: SeenPlane, labels: Sequence[str]) -> None:
    """Draw the loss from above, in shades of its logarithm and with lines of equal loss, and the paths."""
    if plane.ends is not None:
        axes.contourf(plane.a, plane.b, plane.logarithms, SHADES, cmap=GROUND)
        if plane.levels:
            lines = axes.contour(plane.a, plane.b, plane.losses, plane.levels, colors=LINE, linewidths=0.6)
            axes.clabel(lines, fmt="%g", fontsize=7, colors=LINE)
    axes.set(xlim=(plane.a[0], plane.a[-1]), ylim=(plane.b[0], plane.b[-1]), aspect="equal")
    for name, seen in plane.paths.items():
        values = [math.nan if loss is None else loss for loss in seen.losses]
        trace = Trajectory((list(seen.a), list(seen.b)), values, None, len(values))
        draw_path(axes, trace, style_of(name, labels))
    first = next(iter(plane.paths.values()), None)
    if first is not None and first.steps[0] == 0:
        draw_start(axes, (first.a[0], first.b[0]))
    axes.plot(0, 0, marker="+", color="black", markersize=11, markeredgewidth=1.6, zorder=8)
    write_near(axes, "centre", (0.0, 0.0), (7, -12), size=9, zorder=9, path_effects=HALO)
    worded(axes, *plane.labels, plane.title)
    axes.grid(visible=False)


def distances_panel(plane: SeenPlane, labels: Sequence[str]) -> Panel:
    """Return how far from the plane the paths run at each step; one that diverges leaves the panel."""
    series = []
    for name, seen in plane.paths.items():
        style = style_of(name, labels)
        series.append(Series(seen.steps, seen.distances, style.colour, name, name, style.line))
    ends = [distance for seen in plane.paths.values() if not seen.diverged for distance in seen.distances]
    high = 1.05 * max(ends, default=1.0) or 1.0
    return Panel(
        "What the plane does not show of the paths",
        Scaled("step"),
        Scaled("distance from the plane", low=0.0, high=high),
        series,
        legend=False,
    )
