"""What a claim's picture shows beside its numbers: a few panels, made of the measurements that decide the verdict.

A claim gives the numbers; how they are drawn is the report's matter.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlcv_bench.claims.quantity import Quantity
    from mlcv_bench.surface_race.floats import Trajectory
    from mlcv_bench.surfaces.surface import Surface


@dataclass(frozen=True)
class Line:
    """One series of a panel of curves.

    Attributes:
        name: what the legend says.
        y: its values.
        x: where they are; steps 0, 1, ... unless given.
        look: a curve, dots where few places were measured, or a dashed line for what theory predicts.
        intervals: low and high of every value, where they are estimates.

    """

    name: str
    y: Sequence[float]
    x: Sequence[float] | None = None
    look: Literal["curve", "dots", "theory"] = "curve"
    intervals: Sequence[tuple[float, float]] | None = None


def level(name: str, y: float, x: tuple[float, float]) -> Line:
    """Return theory's line at one height."""
    return Line(name, (y, y), x, "theory")


@dataclass(frozen=True)
class Curves:
    """Series over one axis; `marks` are places on it, by their names, and `log` names the logarithmic axes."""

    x: str
    y: str
    lines: Sequence[Line]
    log: Literal["", "x", "y", "xy"] = ""
    marks: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Paths:
    """Paths over a surface's contours, by their names."""

    surface: Surface
    runs: Mapping[str, Trajectory]


@dataclass(frozen=True)
class Bars:
    """Measured numbers side by side, by short names; theory's stands as a line across each, unless it is no number."""

    unit: str
    bars: Mapping[str, Quantity]
    log: bool = False


@dataclass(frozen=True)
class Cells:
    """A table of numbers as shades, rows from above; rows and columns may have names."""

    x: str
    y: str
    rows: Sequence[Sequence[float]]
    title: str = ""
    row_names: Sequence[str] = ()
    column_names: Sequence[str] = ()


@dataclass(frozen=True)
class NetworkFigure:
    """A figure of the notes' second chapter, by its number; it stands alone."""

    number: str


Panel = Curves | Paths | Bars | Cells | NetworkFigure
