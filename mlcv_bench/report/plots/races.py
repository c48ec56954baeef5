"""Pictures of races, drawn by matplotlib: paths seen from above, loss and distance, sensitivity to the rate."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mlcv_bench.report.plots.ground import ground_of, height_of, titled, window_of
from mlcv_bench.report.plots.landscape import draw_ground, draw_path, draw_start
from mlcv_bench.report.plots.race_data import (
    PROTOCOL_TITLES,
    curve_panels,
    labels_of,
    protocols_of,
    shown_of,
    traces_of,
)
from mlcv_bench.report.plots.style import legend_columns, style_of
from mlcv_bench.report.plots.tasks import figure as figure_of_tasks
from mlcv_bench.surface_race.race import Race

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from mlcv_bench.records import Report
    from mlcv_bench.report.plots.ground import Ground
    from mlcv_bench.task_race.race import TaskRace

MOST_TOGETHER = 20
"""Optimizers whose paths are told apart in one panel; more have a panel each."""
PANELS_ACROSS = 6


def figure(report: Report, race: Race | TaskRace) -> Figure:
    """Return the picture of a race, on a surface or on tasks."""
    return drawn(race) if isinstance(race, Race) else figure_of_tasks(report)


def drawn(race: Race) -> Figure:
    """Draw a race on a surface."""
    figure = Figure(layout="constrained")
    paint(race, figure)
    return figure


def paint(race: Race, figure: Figure) -> None:
    """Lay out the panels: one landscape a protocol above, the curves below."""
    labels, protocols = labels_of(race), protocols_of(race)
    flat = race.surface.dimension == 2  # noqa: PLR2004 - only a plane is seen from above
    if flat and len(labels) > MOST_TOGETHER:
        one_by_one(race, figure, shown_of(protocols))
        return
    curves = curve_panels(race, shown_of(protocols))
    columns = max(len(protocols) if flat else 0, len(curves))
    rows = 2 if flat and protocols else 1
    ground = ground_of(race.surface, window_of(race.surface, list(race.traces.values()))) if rows > 1 else None
    wide = min(4.9 * columns / max(len(protocols), 1), 7.2) - 0.6
    above = [0.9 + wide * height_of(ground.window)] if ground is not None else []
    below = 4.3
    figure.set_size_inches(4.9 * columns, sum(above) + below + 0.9)
    # Each row is laid out by itself: two panels above three share no columns.
    bands = figure.subfigures(rows, 1, squeeze=False, height_ratios=[*above, below])[:, 0]
    if ground is not None:
        for axes, protocol in zip(bands[0].subplots(1, len(protocols), squeeze=False)[0], protocols, strict=True):
            landscape(axes, race, protocol, labels, ground)
    for axes, panel in zip(bands[-1].subplots(1, len(curves)), curves, strict=True):
        panel(axes)
    figure.suptitle(titled(race.surface), fontsize=12)
    handles = [handle_of(label, labels) for label in labels]
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=legend_columns(figure, labels), frameon=False)


def one_by_one(race: Race, figure: Figure, protocol: str) -> None:
    """Draw the path of each of many optimizers in a panel of its own, the best first."""
    firsts = [next(runs.results(slice(1))) for runs in race.runs if runs.protocol == protocol]
    missed = math.inf
    order = {
        one.optimizer: tuple(missed if value is None else value for value in (one.last_exit, one.final_loss))
        for one in firsts
    }
    traces = traces_of(race, protocol)
    ground = ground_of(race.surface, window_of(race.surface, list(traces.values())))
    rows = -(-len(traces) // PANELS_ACROSS)
    figure.set_size_inches(2.1 * PANELS_ACROSS, (0.35 + 1.9 * height_of(ground.window)) * rows + 0.6)
    panels = list(figure.subplots(rows, PANELS_ACROSS, squeeze=False).flat)
    for axes, label in zip(panels, sorted(traces, key=order.__getitem__), strict=False):
        draw_ground(axes, ground, ("", ""))
        draw_path(axes, traces[label], style_of(label, [label]))
        draw_start(axes, race.starts[0].point)
        axes.set_title(label, fontsize=6)
        axes.set(xticks=[], yticks=[])
    for axes in panels[len(traces) :]:
        axes.set_visible(False)
    figure.suptitle(f"{titled(race.surface)}, {PROTOCOL_TITLES[protocol]}", fontsize=12)


def handle_of(label: str, labels: Sequence[str]) -> Line2D:
    """Return an optimizer's entry in a legend."""
    style = style_of(label, labels)
    return Line2D([], [], **style.curve | style.head(), label=label)


def landscape(axes: Axes, race: Race, protocol: str, labels: list[str], ground: Ground) -> None:
    """Draw the surface from above with every optimizer's path under one protocol."""
    draw_ground(axes, ground)
    for label, trace in traces_of(race, protocol).items():
        draw_path(axes, trace, style_of(label, labels))
    draw_start(axes, race.starts[0].point)
    axes.set_title(PROTOCOL_TITLES[protocol], fontsize=11)
