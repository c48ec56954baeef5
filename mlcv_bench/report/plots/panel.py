"""A panel as data: curves, points and bands on two axes, made once and drawn by matplotlib (`paint`) or by plotly.

A plot's module makes panels from a report; its picture paints them side by side (`style.panels_figure`), and the page
and notebooks draw the same ones by `report.page.figures.figure_of`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from matplotlib.ticker import MaxNLocator

from mlcv_bench.report.plots.style import readable, style_of, worded, write_near

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

    Places = Sequence[Any] | npt.NDArray[Any]

Scale = Literal["linear", "log", "log2"]


@dataclass(frozen=True)
class Scaled:
    """An axis: its words, its scale, the least and largest value shown, and places with words of their own.

    `low` or `high` is None where the data decide; `rounded` writes 200 and 500 on a logarithmic axis, and
    `whole` no parts of what is counted.
    """

    words: str = ""
    scale: Scale = "linear"
    low: float | None = None
    high: float | None = None
    ticks: Sequence[float] = ()
    tick_words: Sequence[str] = ()
    rounded: bool = False
    whole: bool = False


@dataclass(frozen=True)
class Series:
    """Points that belong together, in one colour: joined by a line, marked, or both.

    Args:
        x: places across; None or NaN breaks a line.
        y: places upwards.
        colour: as #RRGGBB.
        name: in the legend; nothing keeps the series out of it. Series of one `group` are one entry, and are hidden
            together everywhere on a page.
        line: matplotlib's word for the line, nothing for none.
        marker: matplotlib's letter, nothing for none.
        band: least and largest value at each place, a shade around the line.
        errors: least and largest value at each place, as bars.
        texts: what a page says of each point, a line for every one; what a point is, beside its figures.
        steps: a staircase that changes at the points.

    """

    x: Places
    y: Places
    colour: str
    name: str = ""
    group: str = ""
    line: str = "-"
    marker: str = ""
    size: float = 5
    width: float = 1.6
    alpha: float = 1.0
    hollow: bool = False
    band: tuple[Sequence[float], Sequence[float]] | None = None
    errors: tuple[Sequence[float], Sequence[float]] | None = None
    texts: Sequence[str] = ()
    steps: bool = False


def unit_of(column: str) -> tuple[str, float]:
    """Return what an axis says of a column, and what its values are drawn by: seconds as milliseconds."""
    return (f"{column.removesuffix('_s')} [ms]", 1e3) if column.endswith("_s") else (column, 1.0)


def series_of(label: str, labels: Sequence[str], x: Places, y: Places, **look: Any) -> Series:  # noqa: ANN401 - its fields
    """Return a curve in the style of its optimizer, one of the `labels` of a picture; `look` has what else it is."""
    style = style_of(label, labels)
    return Series(x, y, style.colour, **{"name": label, "group": label, "line": style.line} | look)


@dataclass(frozen=True)
class Panel:
    """What one panel shows: its title, its axes, its series, and lines right across at some height or place."""

    title: str
    x: Scaled
    y: Scaled
    series: Sequence[Series]
    level: float | None = None
    """The height of a dashed line across, such as a target."""
    level_words: str = ""
    """What that height is, written at the line's right end."""
    upright: float | None = None
    """The place of a line upwards, such as zero."""
    legend: bool = True
    grid: Literal["both", "x"] = "both"
    letters: float = 7
    """Points of the letters of the legend in a picture."""
    tall: float = 1.0
    """Height on a page, as a multiple of the usual one."""

    def __call__(self, axes: Axes) -> None:
        """Paint the panel with matplotlib."""
        # What is drawn finds limits on the axes' own scales, and none where they are given.
        for which, axis in (("x", self.x), ("y", self.y)):
            if axis.scale != "linear":
                getattr(axes, f"set_{which}scale")("log", **({"base": 2} if axis.scale == "log2" else {}))
            if axis.low is not None and axis.high is not None:
                getattr(axes, f"set_{which}lim")(axis.low, axis.high)
        for one in self.series:
            paint(axes, one)
        for which, axis in (("x", self.x), ("y", self.y)):
            frame(axes, which, axis)
        dashes: dict[str, Any] = {"color": "black", "linewidth": 0.8}
        if self.level is not None:
            axes.axhline(self.level, linestyle=(0, (6, 3)), **dashes)
            write_near(axes, self.level_words, (axes.get_xlim()[1], self.level), (-4, 3), ha="right")
        if self.upright is not None:
            axes.axvline(self.upright, **dashes)
        worded(axes, self.x.words, self.y.words, self.title, axis=self.grid, which="major")
        if self.legend and any(one.name for one in self.series):
            axes.legend(fontsize=self.letters, loc="best")


def paint(axes: Axes, one: Series) -> None:
    """Draw one series with matplotlib."""
    look: dict[str, Any] = {"color": one.colour, "alpha": one.alpha, "linewidth": one.width, "markersize": one.size}
    look |= {"linestyle": one.line or "none", "marker": one.marker or "none", "label": one.name or None}
    if one.hollow:
        look["markerfacecolor"] = "none"
    if one.steps:
        look["drawstyle"] = "steps-post"
    if one.errors is None:
        axes.plot(one.x, one.y, **look)
    else:
        low, high = one.errors
        below = [value - least for value, least in zip(one.y, low, strict=True)]
        above = [most - value for value, most in zip(one.y, high, strict=True)]
        axes.errorbar(one.x, one.y, yerr=[below, above], capsize=3, elinewidth=1, **look)
    if one.band is not None:
        axes.fill_between(one.x, *one.band, color=one.colour, alpha=0.15, linewidth=0)


def frame(axes: Axes, which: str, wanted: Scaled) -> None:
    """Give an axis of matplotlib's its limits and ticks."""
    axis: Axis = getattr(axes, f"{which}axis")
    if wanted.rounded:
        readable(axis)
    if wanted.whole:
        axis.set_major_locator(MaxNLocator(integer=True))
    if wanted.ticks:
        words = wanted.tick_words or [f"{tick:g}" for tick in wanted.ticks]
        axis.set_ticks(list(wanted.ticks), list(words))
        axes.minorticks_off()
    if wanted.low is not None or wanted.high is not None:
        getattr(axes, f"set_{which}lim")(wanted.low, wanted.high)
