"""The picture of `verify`: what the three forms of a ResNeXt block cost as the number of branches G grows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mlcv_bench.report.formats.json_text import plain
from mlcv_bench.report.picture import save
from mlcv_bench.report.plots.panel import Panel, Scaled, Series
from mlcv_bench.report.plots.style import COLOURS, Style, panels_figure

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.figure import Figure

    from mlcv_bench.records import Report

FormCost = Mapping[str, Any]
"""A `FormCost` as the saved JSON has it."""

LOOK = {
    "branches": Style(COLOURS[1], "-", "o"),
    "concat": Style(COLOURS[0], "--", "s"),
    "grouped": Style(COLOURS[2], ":", "^"),
}
NAMES = {"branches": "G branches, summed", "concat": "early concatenation", "grouped": "grouped convolution"}
MEGA, MEBI, MILLI = 1e6, 2.0**20, 1e-3


def draw(report: Report, path: Path) -> None:
    """Paint MACs, operators, bytes and time of the three forms against G."""
    drawn = figure(report)
    if drawn is not None:
        save(drawn, path)


def figure(report: Report, _of: object = None) -> Figure | None:
    """Return the picture of the three forms; None where they were not measured."""
    forms = plain(report.details.get("forms") or [])
    if not forms:
        return None
    drawn = panels_figure(panels(report), (5.5, 3.5), empty="no form was measured")
    channels = sorted({cost["channels"] for cost in forms})
    drawn.suptitle(
        "One ResNeXt block in three forms: the same function and the same MACs, at three prices\n"
        f"C = {', '.join(map(str, channels))}, one 56x56 image, float32, one thread",
        fontsize=12,
    )
    return drawn


def panels(report: Report, _of: object = None) -> list[Panel]:
    """Return the three prices of the three forms: MACs, operators, bytes and time against G."""
    forms = plain(report.details.get("forms") or [])
    if not forms:
        return []
    return [
        _panel(forms, "macs", MEGA, "multiply-accumulates [M]", "equal: the three lines are one"),
        _panel(forms, "operators", 1, "operators called", "growing with G, but for the grouped form"),
        _panel(forms, "activation_bytes", MEBI, "activations [MiB]", "each branch writes all C channels"),
        _panel(forms, "median_s", MILLI, "forward pass [ms]", "median, minimum to maximum as bars"),
    ]


def _panel(forms: Sequence[FormCost], key: str, scale: float, words: str, title: str) -> Panel:
    drawn = []
    for number, (width, channels) in enumerate(_series(forms)):
        for form, look in LOOK.items():
            costs = sorted(
                (
                    cost
                    for cost in forms
                    if cost["form"] == form and width in {None, cost["width"]} and cost["channels"] == channels
                ),
                key=lambda cost: cost["groups"],
            )
            values = [cost[key] / scale for cost in costs]
            spread = ([cost["min_s"] / scale for cost in costs], [max(cost["samples_s"]) / scale for cost in costs])
            drawn.append(
                Series(
                    [cost["groups"] for cost in costs],
                    values,
                    look.colour,
                    name="" if number else NAMES[form],
                    group=NAMES[form],
                    line=look.line,
                    marker=look.marker,
                    size=7,
                    width=2,
                    errors=spread if key == "median_s" else None,
                    texts=[
                        f"{NAMES[form]}\nG = {cost['groups']}, d = {cost['width']}: {value:,.4g}"
                        for cost, value in zip(costs, values, strict=True)
                    ],
                )
            )
    top = 1.12 * max(max(cost["samples_s"]) if key == "median_s" else cost[key] for cost in forms) / scale
    one_width = len({cost["width"] for cost in forms}) == 1
    across = "branches G" if one_width else "branches G (d chosen so that MACs stay about equal)"
    everywhere = sorted({cost["groups"] for cost in forms})
    return Panel(
        title,
        Scaled(across, "log2", ticks=everywhere),
        Scaled(words, low=0, high=top),
        drawn,
        legend=key == "macs",
        letters=9,
    )


def _series(forms: Sequence[FormCost]) -> list[tuple[int | None, int]]:
    """Return the lines to draw: one for each d if each G has every d, one for all if each G has its own."""
    widths = {cost["width"] for cost in forms}
    channels = sorted({cost["channels"] for cost in forms})
    groups = {cost["groups"] for cost in forms}
    crossed = len({(cost["groups"], cost["width"]) for cost in forms}) == len(groups) * len(widths)
    return [(width, number) for number in channels for width in (sorted(widths) if crossed else [None])]
