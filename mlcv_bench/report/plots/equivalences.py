"""The picture of `verify`: what the three forms of a ResNeXt block cost as the number of branches G grows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from mlcv_bench.report.picture import save
from mlcv_bench.report.plots.style import COLOURS, Style

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from mlcv_bench.equivalence.forms import FormCost
    from mlcv_bench.records import Report

LOOK = {
    "branches": Style(COLOURS[1], "-", "o"),
    "concat": Style(COLOURS[0], "--", "s"),
    "grouped": Style(COLOURS[2], ":", "^"),
}
NAMES = {"branches": "G branches, summed", "concat": "early concatenation", "grouped": "grouped convolution"}
MEGA, MEBI, MILLI = 1e6, 2.0**20, 1e-3


def draw(report: Report, path: Path) -> None:
    """Paint MACs, operators, bytes and time of the three forms against G."""
    forms: Sequence[FormCost] = report.details["forms"]
    figure = Figure(figsize=(11.0, 7.6), layout="constrained")
    panels = figure.subplots(2, 2)
    _panel(panels[0][0], forms, "macs", MEGA, "multiply-accumulates [M]", "equal: the three lines are one")
    _panel(panels[0][1], forms, "operators", 1, "operators called", "growing with G, but for the grouped form")
    _panel(panels[1][0], forms, "activation_bytes", MEBI, "activations [MiB]", "each branch writes all C channels")
    _panel(panels[1][1], forms, "median_s", MILLI, "forward pass [ms]", "median, minimum to maximum as bars")
    panels[0][0].legend(loc="lower left", frameon=False)
    channels = sorted({cost.channels for cost in forms})
    figure.suptitle(
        "One ResNeXt block in three forms: the same function and the same MACs, at three prices\n"
        f"C = {', '.join(map(str, channels))}, one 56x56 image, float32, one thread",
        fontsize=12,
    )
    save(figure, path)


def _panel(axes: Axes, forms: Sequence[FormCost], key: str, scale: float, words: str, title: str) -> None:
    thick: dict[str, Any] = {"markersize": 7, "linewidth": 2}
    for number, (width, channels) in enumerate(_series(forms)):
        for form, look in LOOK.items():
            costs = sorted(
                (
                    cost
                    for cost in forms
                    if cost.form == form and (width is None or cost.width == width) and cost.channels == channels
                ),
                key=lambda cost: cost.groups,
            )
            groups = [cost.groups for cost in costs]
            values = [getattr(cost, key) / scale for cost in costs]
            axes.plot(groups, values, label=None if number else NAMES[form], marker=look.marker, **look.curve, **thick)
            if key == "median_s":
                low = [value - cost.min_s / scale for cost, value in zip(costs, values, strict=True)]
                high = [max(cost.samples_s) / scale - value for cost, value in zip(costs, values, strict=True)]
                axes.errorbar(groups, values, [low, high], fmt="none", ecolor=look.colour, capsize=3, linewidth=1)
    everywhere = sorted({cost.groups for cost in forms})
    axes.set_xscale("log", base=2)
    axes.set_xticks(everywhere)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _place: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_ylim(
        bottom=0,
        top=1.12 * max(max(cost.samples_s) if key == "median_s" else getattr(cost, key) for cost in forms) / scale,
    )
    one_width = len({cost.width for cost in forms}) == 1
    axes.set_xlabel("branches G" if one_width else "branches G (d chosen so that MACs stay about equal)")
    axes.set_ylabel(words)
    axes.set_title(title, fontsize=10, color="#444444")
    axes.grid(visible=True, color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def _series(forms: Sequence[FormCost]) -> list[tuple[int | None, int]]:
    """Return the lines to draw: one for each d if each G has every d, one for all if each G has its own."""
    widths = {cost.width for cost in forms}
    channels = sorted({cost.channels for cost in forms})
    groups = {cost.groups for cost in forms}
    crossed = len({(cost.groups, cost.width) for cost in forms}) == len(groups) * len(widths)
    return [(width, number) for number in channels for width in (sorted(widths) if crossed else [None])]
