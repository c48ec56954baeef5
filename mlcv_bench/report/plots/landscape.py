"""A surface seen from above: contours, minima, and the paths of optimizers over it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import matplotlib.patheffects as effects
import numpy as np
from matplotlib.colors import LinearSegmentedColormap

from mlcv_bench.report.plots.style import write_near
from mlcv_bench.surfaces.many import value_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from mlcv_bench.report.plots.style import Style
    from mlcv_bench.surface_race.floats import Trajectory
    from mlcv_bench.surfaces.surface import Surface

LEVELS = 18
RESOLUTION = 240
UNLIKE = 8.0  # times as far as the other: a coordinate that gets a scale of its own
NARROWEST = 0.75  # share of a window's longer side that the shorter one has at least
STEEP = 0.7  # share of the steep axis that makes a coordinate the one across
WILD = 60.0  # a path this many times the window's diagonal is drawn faintly: it hides what lies below
GROUND = LinearSegmentedColormap.from_list("ground", ["#FFFFFF", "#DDE3E9", "#B9C3CE"])
"""Low is light, so that the paths, which end low, stand out."""
HALO = [effects.withStroke(linewidth=2.6, foreground="white", alpha=0.85)]

Window = tuple[tuple[float, float], tuple[float, float]]


def titled(surface: Surface) -> str:
    """Return the title of a surface's picture: its name and formula, or the formula that is its name."""
    return surface.name if surface.name == surface.formula else f"{surface.name}:  {surface.formula}"


def window_of(surface: Surface, traces: Sequence[Trajectory]) -> Window:
    """Return the part of the plane to show: every start and minimum, and the paths as far as they stay near."""
    points = [surface.start, *surface.minima, *(trace.point(0) for trace in traces)]
    sides = []
    for i in (0, 1):
        low, high = surface.box[i]
        near = [point[i] for point in points if low - (high - low) <= point[i] <= high + (high - low)]
        for trace in traces:
            values = np.asarray(trace.points[i])
            if np.abs(values - (low + high) / 2).max() < high - low:
                near += [float(values.min()), float(values.max())]
            else:
                # Where the path mostly is, as far as the box goes: one wild leap must not shrink everything else.
                near += np.quantile(values.clip(low, high), (0.02, 0.98)).tolist()
        if surface.quadratic is not None and surface.minima and abs(surface.quadratic.steep_axis[i]) > STEEP:
            # Across a valley, paths swing to the other side as far as they began.
            near += [2 * surface.minima[0][i] - trace.point(0)[i] for trace in traces]
        reach = (max(near) - min(near)) or 1.0
        sides.append((min(near) - 0.12 * reach, max(near) + 0.12 * reach))
    if not alike(sides):
        return sides[0], sides[1]
    # At equal scales a canyon is drawn wider than high, but no panel becomes a strip.
    least = NARROWEST * max(high - low for low, high in sides)
    x, y = (widened(low, high, least) for low, high in sides)
    return x, y


def alike(window: Sequence[tuple[float, float]]) -> bool:
    """Tell whether two coordinates are so alike in reach that they can have one scale."""
    one, other = (high - low for low, high in window)
    return max(one, other) < UNLIKE * min(one, other)


def height_of(window: Window) -> float:
    """Return the height of a window's picture as a share of its width."""
    (left, right), (bottom, top) = window
    return (top - bottom) / (right - left) if alike(window) else NARROWEST


def widened(low: float, high: float, least: float) -> tuple[float, float]:
    """Return an interval about the same middle that is at least so wide."""
    more = max(least - (high - low), 0.0) / 2
    return low - more, high + more


def draw_ground(axes: Axes, surface: Surface, window: Window, names: tuple[str, str] = ("x", "y")) -> None:
    """Draw contours, equally spaced in a power of the height so that valley floors show, and the minima."""
    x, y = np.meshgrid(*(np.linspace(low, high, RESOLUTION) for low, high in window))
    values = value_of(surface, np.stack([x.ravel(), y.ravel()], axis=1)).reshape(x.shape)
    finite = values[np.isfinite(values)]
    lowest = min(float(finite.min()), surface.minimum if surface.minimum is not None else np.inf)
    span = float(finite.max()) - lowest or 1.0
    raised = ((values - lowest) / span).clip(0.0, 1.0) ** 0.35
    levels = np.linspace(0.0, 1.0, LEVELS)
    axes.contourf(x, y, raised, levels=levels, cmap=GROUND)
    axes.contour(x, y, raised, levels=levels, colors="#8A95A1", linewidths=0.4)
    for minimum in surface.minima:
        axes.plot(*minimum[:2], marker="+", color="black", markersize=11, markeredgewidth=1.6, zorder=6)
    for minimum in surface.local_minima:
        axes.plot(*minimum[:2], marker="x", color="#555555", markersize=7, markeredgewidth=1.4, zorder=6)
    axes.set(xlim=window[0], ylim=window[1], xlabel=names[0], ylabel=names[1])
    if alike(window):
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
