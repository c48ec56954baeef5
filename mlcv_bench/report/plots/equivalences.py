"""The picture of `verify`: what the three forms of a ResNeXt block cost as the number of branches G grows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from mlcv_bench.equivalence.forms import FormCost
    from mlcv_bench.records import Report

# Okabe and Ito's colours, which remain distinct for colour-blind eyes.
LOOK: dict[str, dict[str, Any]] = {
    "branches": {"color": "#D55E00", "marker": "o", "linestyle": "-"},
    "concat": {"color": "#0072B2", "marker": "s", "linestyle": "--"},
    "grouped": {"color": "#009E73", "marker": "^", "linestyle": ":"},
}
NAMES = {"branches": "G branches, summed", "concat": "early concatenation", "grouped": "grouped convolution"}
MEGA, MEBI, MILLI = 1e6, 2.0**20, 1e-3


def draw(report: Report, path: Path) -> None:
    """Paint MACs, operators, bytes and time of the three forms against G."""
    forms: Sequence[FormCost] = report.details["forms"]
    figure = Figure(figsize=(11.0, 7.6), layout="constrained")
    panels = figure.subplots(2, 2)
    widest = sorted({(cost.width, cost.channels) for cost in forms})
    _panel(panels[0][0], forms, "macs", MEGA, "multiply-accumulates [M]", "equal: the three lines are one")
    _panel(panels[0][1], forms, "operators", 1, "operators called", "growing with G, but for the grouped form")
    _panel(
        panels[1][0], forms, "activation_bytes", MEBI, "activations put out [MiB]", "each branch writes all C channels"
    )
    _panel(panels[1][1], forms, "median_s", MILLI, "forward pass [ms]", "median, least to most as bars")
    panels[0][0].legend(loc="lower left", frameon=False)
    channels = sorted({channels for _, channels in widest})
    figure.suptitle(
        "One ResNeXt block in three forms: the same function and the same MACs, at three prices\n"
        f"C = {', '.join(map(str, channels))}, one 56x56 image, float32, one thread",
        fontsize=12,
    )
    figure.savefig(path, dpi=140)


def _panel(axes: Axes, forms: Sequence[FormCost], key: str, scale: float, words: str, title: str) -> None:
    first = True
    for width, channels in _series(forms):
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
            axes.plot(groups, values, label=NAMES[form] if first else None, markersize=7, linewidth=2, **look)
            if key == "median_s":
                low = [value - cost.min_s / scale for cost, value in zip(costs, values, strict=True)]
                high = [max(cost.samples_s) / scale - value for cost, value in zip(costs, values, strict=True)]
                axes.errorbar(groups, values, [low, high], fmt="none", ecolor=look["color"], capsize=3, linewidth=1)
        first = False
    everywhere = sorted({cost.groups for cost in forms})
    axes.set_xscale("log", base=2)
    axes.set_xticks(everywhere)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _place: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_ylim(
        bottom=0,
        top=1.12 * max(max(cost.samples_s) if key == "median_s" else getattr(cost, key) for cost in forms) / scale,
    )
    axes.set_xlabel("branches G" if _one_width(forms) else "branches G (d chosen so that MACs stay about equal)")
    axes.set_ylabel(words)
    axes.set_title(title, fontsize=10, color="#444444")
    axes.grid(visible=True, color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def _one_width(forms: Sequence[FormCost]) -> bool:
    return len({cost.width for cost in forms}) == 1


def _series(forms: Sequence[FormCost]) -> list[tuple[int | None, int]]:
    """Return the lines to draw: one for each d if each G has every d, one for all if each G has its own."""
    widths = {cost.width for cost in forms}
    channels = sorted({cost.channels for cost in forms})
    groups = {cost.groups for cost in forms}
    crossed = len({(cost.groups, cost.width) for cost in forms}) == len(groups) * len(widths)
    return [(width, number) for number in channels for width in (sorted(widths) if crossed else [None])]
