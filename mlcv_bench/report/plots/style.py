"""What plots share: one colour, line and marker an optimizer, distinct in print and for colour-blind eyes; axes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    import numpy.typing as npt
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito (2008) without their yellow, which paper swallows."""
Which = Literal["major", "both"]
LINES: tuple[Literal["-", "--", ":", "-."], ...] = ("-", "--", ":", "-.")


@dataclass(frozen=True)
class Style:
    """How an optimizer is drawn."""

    colour: str
    line: str
    marker: str

    @property
    def curve(self) -> dict[str, Any]:
        """What makes a line its own."""
        return {"color": self.colour, "linestyle": self.line}

    def head(self, size: float = 8) -> dict[str, Any]:
        """Return what makes a point its own, that marks an end or a best."""
        return {"marker": self.marker, "color": self.colour, "markeredgecolor": "white", "markersize": size}


# Relatives share a hue and differ in line and marker.
TABLE: dict[str, Style] = {
    "sgd": Style("#0072B2", "-", "o"),
    "momentum": Style("#D55E00", "-", "s"),
    "nesterov": Style("#E69F00", "-", "D"),
    "adagrad": Style("#009E73", "-", "^"),
    "rmsprop": Style("#56B4E9", "-", "v"),
    "adam": Style("#CC79A7", "-", "P"),
    "adam_l2": Style("#CC79A7", ":", "p"),
    "adamw": Style("#7B3294", "--", "X"),
    "adamw_torch": Style("#7B3294", ":", "d"),
    "newton": Style("#000000", "-", "*"),
}
OTHERS = ("#666666", "#A6761D", "#1B4F3F", "#8C8C00")
OTHER_MARKERS = "h<>8Hd"
MOST_COLUMNS = 8


def style_of(label: str, labels: Sequence[str]) -> Style:
    """Return the style of `label` in a picture that shows `labels`; other settings of one rule take other lines."""
    name = label.partition(":")[0]
    known = TABLE.get(name)
    if known is None:
        unknown = list(dict.fromkeys(other for other in labels if other.partition(":")[0] not in TABLE))
        # The table's own hues are free where none of its optimizers is shown.
        hues = OTHERS if any(other.partition(":")[0] in TABLE for other in labels) else (*COLOURS, *OTHERS)
        turn, place = divmod(unknown.index(label), len(hues))
        return Style(hues[place], LINES[turn % len(LINES)], OTHER_MARKERS[turn % len(OTHER_MARKERS)])
    position = [other for other in labels if other.partition(":")[0] == name].index(label)
    if position == 0:
        return known
    lines = [line for line in LINES if line != known.line]
    return Style(known.colour, lines[(position - 1) % len(lines)], known.marker)


def legend_columns(figure: Figure, labels: Sequence[str]) -> int:
    """Return how many of these labels stand side by side in a legend as wide as the figure."""
    widest = 0.7 + 0.09 * max(map(len, labels), default=0)
    return max(1, min(len(labels), MOST_COLUMNS, int(figure.get_figwidth() / widest)))


def plain(axes: Axes) -> Axes:
    """Take away the frame's upper and right side."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(visible=True, color="#E3E3E3", linewidth=0.6)
    axes.set_axisbelow(True)
    return axes


def worded(
    axes: Axes, x: str, y: str = "", title: str = "", *, axis: Literal["both", "x"] = "both", which: Which = "both"
) -> None:
    """Label the axes, head the panel, and lay a pale grid below."""
    axes.set(xlabel=x, ylabel=y)
    axes.set_title(title, fontsize=10)
    axes.grid(visible=True, which=which, axis=axis, alpha=0.25)


def readable(axis: Axis) -> None:
    """Let a logarithmic axis read 200 and 500 where less than two decades are shown."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def write_near(
    axes: Axes,
    text: str,
    place: Sequence[float] | npt.NDArray[np.float64],
    offset: tuple[float, float],
    *,
    size: float = 8,
    ha: Literal["left", "right"] = "left",
    **more: Any,  # noqa: ANN401 - what matplotlib takes for a text
) -> None:
    """Write a word so many points off a place."""
    where = {"xytext": offset, "textcoords": "offset points"}
    axes.annotate(text, (place[0], place[1]), **where | more, ha=ha, fontsize=size)


def panels_figure(
    panels: Sequence[Callable[[Axes], None]], size: tuple[float, float], *, more: float = 0.0, empty: str
) -> Figure:
    """Return a picture of panels in two columns, each of a size in inches; `more` is left for a legend below."""
    columns = 2 if len(panels) > 1 else 1
    rows = math.ceil(len(panels) / columns) or 1
    figure = Figure(figsize=(size[0] * columns, size[1] * rows + more), layout="constrained")
    if not panels:
        figure.add_subplot().set_title(empty)
    for place, panel in enumerate(panels, start=1):
        # The last one of an odd number takes the whole row.
        whole = place == len(panels) and len(panels) % columns
        panel(figure.add_subplot(rows, columns, (place, place + 1) if whole else place))
    return figure
