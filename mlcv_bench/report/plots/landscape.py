"""A surface seen from above, drawn by matplotlib: contours, minima, and the paths of optimizers over it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import matplotlib.patheffects as effects
import numpy as np
from matplotlib.colors import LinearSegmentedColormap

from mlcv_bench.report.plots.ground import LEVELS, alike
from mlcv_bench.report.plots.style import write_near

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from mlcv_bench.report.plots.ground import Ground
    from mlcv_bench.report.plots.style import Style
    from mlcv_bench.surface_race.floats import Trajectory

WILD = 60.0  # a path this many times the window's diagonal is drawn faintly: it hides what lies below
# Low ground is light, so that the paths, which end low, stand out.
GROUND = LinearSegmentedColormap.from_list("ground", ["#FFFFFF", "#DDE3E9", "#B9C3CE"])
HALO = [effects.withStroke(linewidth=2.6, foreground="white", alpha=0.85)]


def draw_ground(axes: Axes, ground: Ground, names: tuple[str, str] = ("x", "y")) -> None:
    """Draw lines of equal height, and the minima."""
    raised, levels = ground.heights(ground.values), np.linspace(0.0, 1.0, LEVELS)
    axes.contourf(ground.x, ground.y, raised, levels=levels, cmap=GROUND)
    axes.contour(ground.x, ground.y, raised, levels=levels, colors="#8A95A1", linewidths=0.4)
    for minimum in ground.surface.minima:
        axes.plot(*minimum[:2], marker="+", color="black", markersize=11, markeredgewidth=1.6, zorder=6)
    for minimum in ground.surface.local_minima:
        axes.plot(*minimum[:2], marker="x", color="#555555", markersize=7, markeredgewidth=1.4, zorder=6)
    axes.set(xlim=ground.window[0], ylim=ground.window[1], xlabel=names[0], ylabel=names[1])
    if alike(ground.window):
        axes.set_aspect("equal")


def draw_path(axes: Axes, trace: Trajectory, style: Style, *, label: str | None = None) -> None:
    """Draw a path from its start to its end."""
    x, y = (np.asarray(axis[: len(trace.values)]) for axis in trace.points[:2])
    left, right = axes.get_xlim()
    bottom, top = axes.get_ylim()
    moves = np.hypot(np.diff(x) / (right - left), np.diff(y) / (top - bottom))
    wild = bool(np.nansum(moves) > WILD)
    dense = len(x) > 60  # noqa: PLR2004 - points that would run into one another
    if style.line == "-" and not wild:
        # A white line below sets paths apart; below dashes it would hide the path they share.
        axes.plot(x, y, color="white", linewidth=2.8, alpha=0.7, zorder=3)
    axes.plot(
        x,
        y,
        **style.curve,
        linewidth=0.7 if wild else 1.4,
        alpha=0.35 if wild else 1.0,
        marker=None if dense else ".",
        markersize=3.5,
        zorder=4 if style.line == "-" else 5,
        label=label,
    )
    axes.plot(x[-1:], y[-1:], **style.head(), zorder=7)


def draw_start(axes: Axes, point: Sequence[float]) -> None:
    """Mark where all begin."""
    axes.plot(*point[:2], marker="o", color="white", markeredgecolor="black", markersize=8, zorder=8)
    left, right = axes.get_xlim()
    outer = point[0] > (left + right) / 2
    offset = (-8 if outer else 8, 7)
    ha: Literal["left", "right"] = "right" if outer else "left"
    write_near(axes, "start", point, offset, size=9, ha=ha, zorder=9, path_effects=HALO)
