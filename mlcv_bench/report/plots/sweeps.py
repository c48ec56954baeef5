"""Pictures of rate sweeps: curves of steps against the rate, or a heat map over condition numbers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from mlcv_bench.report.picture import save
from mlcv_bench.report.plots.landscape import titled
from mlcv_bench.report.plots.races import draw_sweep, frame_sweeps
from mlcv_bench.report.plots.style import plain, style_of

if TYPE_CHECKING:
    from pathlib import Path

    from mlcv_bench.surface_race.race import LrSweep

COLUMNS = 4
MISSING = "#B0B0B0"


def draw(found: LrSweep, path: Path) -> None:
    """Paint a sweep: curves for one surface, a heat map an optimizer for several condition numbers."""
    figure = Figure(layout="constrained")
    if not any(place.sweeps for place in found.swept):
        figure.add_subplot().set_title("no sweep was finished")
    elif len(found.swept) > 1:
        heat_maps(found, figure)
    else:
        curves(found, figure)
    save(figure, path)


def curves(found: LrSweep, figure: Figure) -> None:
    """Draw the median steps to the target against the rate, the best rate marked."""
    figure.set_size_inches(8.2, 5.2)
    axes = plain(figure.add_subplot())
    place = found.swept[0]
    labels = [sweep.optimizer for sweep in place.sweeps]
    for sweep in place.sweeps:
        style = style_of(sweep.optimizer, labels)
        draw_sweep(axes, sweep, style, width=1.6, dot=5, head=10)
        name = sweep.optimizer if sweep.hit_any else f"{sweep.optimizer} (never)"
        axes.plot([], [], **style.curve, marker=style.marker, label=name)
    frame_sweeps(axes, place.sweeps[0], found.steps)
    axes.set_ylim(0.8, 1.4 * found.steps)
    axes.set_ylabel(f"steps to {found.target:g} of the first gap")
    axes.set_title(titled(place.surface), fontsize=11)
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
        table = np.array([[value if math.isfinite(value) else math.nan for value in sweep.medians] for sweep in sweeps])
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
