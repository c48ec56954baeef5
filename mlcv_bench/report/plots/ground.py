"""A surface seen from above, as plain numbers: the part of the plane that is shown, its heights, its minima."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from mlcv_bench.surfaces.many import value_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from mlcv_bench.surface_race.floats import Trajectory
    from mlcv_bench.surfaces.surface import Surface

LEVELS = 18
"""Lines of equal height, the lowest and the highest among them."""
RESOLUTION = 240
UNLIKE = 8.0  # times as far as the other: a coordinate that gets a scale of its own
NARROWEST = 0.75  # share of a window's longer side that the shorter one has at least
STEEP = 0.7  # share of the steep axis that makes a coordinate the one across
VALLEYS = 0.35
"""The power of the height at which lines are equally far apart, so that valley floors show."""

Window = tuple[tuple[float, float], tuple[float, float]]


@dataclass(frozen=True)
class Ground:
    """A surface over a window.

    Attributes:
        surface: whose heights these are.
        window: the ends of both axes.
        x, y: shape [columns], [rows].
        values: shape [rows, columns]; not finite where the surface is not.

    """

    surface: Surface
    window: Window
    x: npt.NDArray[np.float64]
    y: npt.NDArray[np.float64]
    values: npt.NDArray[np.float64]

    @cached_property
    def lowest(self) -> float:
        """The lowest value that is known or seen."""
        least = float(self.values[np.isfinite(self.values)].min())
        return least if self.surface.minimum is None else min(least, self.surface.minimum)

    @cached_property
    def span(self) -> float:
        """How much higher the highest value is that is seen."""
        return float(self.values[np.isfinite(self.values)].max()) - self.lowest or 1.0

    def heights(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return how high values are drawn, from 0 to 1: a power of their share, so that valley floors show."""
        return np.asarray(((values - self.lowest) / self.span).clip(0.0, 1.0) ** VALLEYS)


def ground_of(surface: Surface, window: Window) -> Ground:
    """Return a surface's values over a window."""
    x, y = (np.linspace(low, high, RESOLUTION) for low, high in window)
    columns, rows = np.meshgrid(x, y)
    values = value_of(surface, np.stack([columns.ravel(), rows.ravel()], axis=1)).reshape(columns.shape)
    return Ground(surface, window, x, y, values)


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
