"""Pictures of rate sweeps: curves of steps against the rate, or a heat map over condition numbers."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from mlcv_bench.report.picture import save
from mlcv_bench.report.plots.ground import titled
from mlcv_bench.report.plots.race_data import rate_panel, steps_at_rates
from mlcv_bench.report.plots.style import style_of

if TYPE_CHECKING:
    from pathlib import Path

    from mlcv_bench.records import Report
    from mlcv_bench.surface_race.race import LrSweep

COLUMNS = 4
MISSING = "#B0B0B0"


def draw(found: LrSweep, path: Path) -> None:
    """Paint a sweep: curves for one surface, a heat map an optimizer for several condition numbers."""
    save(drawn(found), path)


def figure(_report: Report, found: LrSweep) -> Figure:
    """Return the picture of a sweep."""
    return drawn(found)


def drawn(found: LrSweep) -> Figure:
    """Draw a sweep."""
    figure = Figure(layout="constrained")
    if not any(place.sweeps for place in found.swept):
        figure.add_subplot().set_title("no sweep was finished")
    elif len(found.swept) > 1:
        heat_maps(found, figure)
    else:
        curves(found, figure)
    return figure


def curves(found: LrSweep, figure: Figure) -> None:
    """Draw the median steps to the target against the rate, the best rate marked."""
    figure.set_size_inches(8.2, 5.2)
    axes = figure.add_subplot()
    place = found.swept[0]
    panel = rate_panel(place.sweeps, [sweep.optimizer for sweep in place.sweeps], found.steps)
    replace(panel, title=titled(place.surface))(axes)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)


def heat_maps(found: LrSweep, figure: Figure) -> None:
    """Draw one map an optimizer: condition number against rate, the colour the steps, misses grey."""
    labels = [sweep.optimizer for sweep in found.swept[0].sweeps]
    columns = min(COLUMNS, len(labels))
    rows = math.ceil(len(labels) / columns)
    figure.set_size_inches(3.5 * columns + 1.0, 2.5 * rows + 0.8)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    rates = found.swept[0].sweeps[0].rates
    ratio = math.sqrt(rates[1] / rates[0])
    edges = [rates[0] / ratio, *(rate * ratio for rate in rates)]
    conditions = [f"{place.condition:g}" for place in found.swept]
    image = None
    for position, (label, axes) in enumerate(zip(labels, grid.flat, strict=False)):
        sweeps = [place.sweeps[position] for place in found.swept if position < len(place.sweeps)]
        table = np.array([steps_at_rates(sweep) for sweep in sweeps])
        axes.set_facecolor(MISSING)
        image = axes.pcolormesh(
            edges,
            np.arange(len(table) + 1) - 0.5,
            np.maximum(table, 1.0),
            norm=LogNorm(1, found.steps),
            cmap="viridis_r",
        )
        for row, sweep in enumerate(sweeps):
            if sweep.hit_any:
                axes.plot(sweep.best, row, marker="o", color="white", markeredgecolor="black", markersize=5)
        axes.set_xscale("log")
        axes.set_yticks(range(len(conditions)), conditions)
        axes.set_title(label, fontsize=11, color=style_of(label, labels).colour)
        if position % columns == 0:
            axes.set_ylabel("condition")
        if position + columns >= len(labels):
            axes.set_xlabel("learning rate")
            axes.tick_params(labelbottom=True)
    for axes in grid.flat[len(labels) :]:
        axes.set_visible(False)
    if image is not None:
        figure.colorbar(image, ax=grid, label=f"steps to {found.target:g} of the first gap (grey: never)", shrink=0.9)
