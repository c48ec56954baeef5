"""Pictures of loss landscapes: each plane from above with the paths on it, and how far off it they run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from mlcv_bench.report.picture import save
from mlcv_bench.report.plots.landscape import GROUND, HALO, LEVELS, draw_path, draw_start, raised_heights
from mlcv_bench.report.plots.style import legend_columns, plain, style_of, worded, write_near
from mlcv_bench.surface_race.floats import Trajectory

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt
    from matplotlib.axes import Axes

    from mlcv_bench.records import Report

    Numbers = npt.NDArray[np.float64]

WIDE = 6.5
"""Inches that a plane is wide."""
LOWEST = 3.0
"""Inches that a panel is high at least."""
LINE = "#6B7783"
"""The colour of contour lines and of their figures."""


@dataclass(frozen=True)
class Seen:
    """A path as a picture shows it: its steps, coordinates, losses, and distances from the plane."""

    steps: Sequence[int]
    a: Sequence[float]
    b: Sequence[float]
    losses: Sequence[float]
    distances: Sequence[float]


@dataclass(frozen=True)
class Ground:
    """A plane as a picture shows it: `losses[i, j]` at a[j], b[i]; NaN where none is known."""

    title: str
    labels: tuple[str, str]
    a: Numbers
    b: Numbers
    losses: Numbers
    paths: Mapping[str, Seen]

    @property
    def height(self) -> float:
        """The height of the plane as a share of its width."""
        return float((self.b[-1] - self.b[0]) / (self.a[-1] - self.a[0]))


def grounds_of(report: Report) -> list[Ground]:
    """Return the planes of a report, from its rows."""
    found = []
    for plane in report.details["planes"]:
        names = tuple(plane["directions"])
        rows = [row for row in report.runs if (row["direction_a"], row["direction_b"]) == names]
        size = plane["resolution"]
        a, b = (np.linspace(low, high, size) for low, high in (plane["a"], plane["b"]))
        losses = np.full((size, size), np.nan)
        points = [row for row in rows if row["optimizer"] is None]
        for place, row in enumerate(points):
            if row["loss"] is not None:
                losses[divmod(place, size)] = row["loss"]
        paths: dict[str, Seen] = {}
        for name in dict.fromkeys(row["optimizer"] for row in rows if row["optimizer"] is not None):
            own = [row for row in rows if row["optimizer"] == name]
            columns = ([row[key] for row in own] for key in ("step", "a", "b", "loss", "distance"))
            paths[name] = Seen(*columns)
        found.append(Ground(title_of(report), labels_of(plane), a, b, losses, paths))
    return found


def title_of(report: Report) -> str:
    """Say whose loss is shown."""
    setup = report.details["setup"]
    return f"{setup['task']}, {setup['model']}: loss round the end of {report.details['centre']}"


def labels_of(plane: Mapping[str, Any]) -> tuple[str, str]:
    """Return what stands at the axes: the directions, and the share of the paths' variance along principal ones."""
    one, other = plane["directions"]
    if plane["variance"] is None:
        return f"{one}, filter-normalised", f"{other}, filter-normalised"
    first, second = plane["variance"]
    return f"{one}: {first:.1%} of the paths' variance", f"{other}: {second:.1%}"


def draw(report: Report, path: Path) -> None:
    """Paint the planes of a report, one a row."""
    save(figure(report), path)


def figure(report: Report) -> Figure:
    """Return the picture: left each plane from above, right how far off it the paths run."""
    grounds = grounds_of(report)
    heights = [max(LOWEST, WIDE * ground.height) + 0.8 for ground in grounds] or [4.0]
    drawn = Figure(figsize=(1.85 * WIDE, sum(heights) + 0.4), layout="constrained")
    if not grounds:
        drawn.add_subplot().set_title("no path came to an end")
        return drawn
    labels = list(dict.fromkeys(name for ground in grounds for name in ground.paths))
    rows = drawn.subplots(len(grounds), 2, squeeze=False, width_ratios=(1.35, 1), height_ratios=heights)
    for ground, (above, beside) in zip(grounds, rows, strict=True):
        draw_plane(above, ground, labels)
        draw_distances(beside, ground, labels)
    handles, names = rows[0][1].get_legend_handles_labels()
    drawn.legend(handles, names, loc="outside lower center", ncols=legend_columns(drawn, names), fontsize=9)
    return drawn


def draw_plane(axes: Axes, ground: Ground, labels: Sequence[str]) -> None:
    """Draw the loss from above, with lines of equal loss, and the paths."""
    if np.isfinite(ground.losses).any():
        axes.contourf(
            ground.a, ground.b, raised_heights(ground.losses), levels=np.linspace(0.0, 1.0, LEVELS), cmap=GROUND
        )
        lines = axes.contour(ground.a, ground.b, ground.losses, levels(ground.losses), colors=LINE, linewidths=0.6)
        axes.clabel(lines, fmt="%g", fontsize=7, colors=LINE)
    axes.set(xlim=(ground.a[0], ground.a[-1]), ylim=(ground.b[0], ground.b[-1]), aspect="equal")
    for name, seen in ground.paths.items():
        values = [math.nan if loss is None else loss for loss in seen.losses]
        trace = Trajectory((list(seen.a), list(seen.b)), values, None, len(values))
        draw_path(axes, trace, style_of(name, labels))
    first = next(iter(ground.paths.values()), None)
    if first is not None and first.steps[0] == 0:
        draw_start(axes, (first.a[0], first.b[0]))
    axes.plot(0, 0, marker="+", color="black", markersize=11, markeredgewidth=1.6, zorder=8)
    write_near(axes, "centre", (0.0, 0.0), (7, -12), size=9, zorder=9, path_effects=HALO)
    worded(axes, *ground.labels, ground.title)


def levels(losses: Numbers) -> list[float]:
    """Return losses that read well, 1, 2 and 5 of each decade, between the lowest and the highest."""
    seen = losses[np.isfinite(losses) & (losses > 0)]
    if not seen.size:
        return []
    low, high = float(seen.min()), float(seen.max())
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [level for decade in decades for one in (1, 2, 5) if low < (level := one * 10.0**decade) < high]


def draw_distances(axes: Axes, ground: Ground, labels: Sequence[str]) -> None:
    """Draw how far from the plane the paths run at each step."""
    plain(axes)
    for name, seen in ground.paths.items():
        axes.plot(seen.steps, seen.distances, linewidth=1.6, label=name, **style_of(name, labels).curve)
    axes.set_ylim(bottom=0)
    worded(axes, "step", "distance from the plane", "what the plane does not show of the paths")
