"""The picture of basins: a hue for each minimum, light where it is reached fast and dark where slowly."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from mlcv_bench.records import counted
from mlcv_bench.report.plots.style import COLOURS

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from mlcv_bench.surface_race.basins import BasinMap

HUES = (*COLOURS, "#7B3294", "#8C8C00")
NOWHERE = "#9A9A9A"
DIVERGED = "#1A1A1A"
DPI = 100
LEGEND_INCHES = 2.3


def draw(found: BasinMap, path: Path) -> None:
    """Paint a map: one pixel of the image is one start, margins and legend come on top."""
    height, width = found.index.shape
    wide, high = width / DPI, height / DPI
    left, bottom, top = 0.65, 0.55, 0.45
    figure = Figure(figsize=(left + wide + LEGEND_INCHES, bottom + high + top), dpi=DPI)
    total_wide, total_high = figure.get_size_inches()
    axes = figure.add_axes((left / total_wide, bottom / total_high, wide / total_wide, high / total_high))
    (x_low, x_high), (y_low, y_high) = found.surface.box
    axes.imshow(
        pixels(found), origin="lower", extent=(x_low, x_high, y_low, y_high), aspect="auto", interpolation="nearest"
    )
    handles = []
    for number, minimum in enumerate(found.minima):
        share = float((found.index == number).mean())
        kind = "" if number < len(found.surface.minima) else " (local)"
        handles.append(
            Patch(color=HUES[number % len(HUES)], label=f"({minimum[0]:.3g}, {minimum[1]:.3g}){kind}  {share:.1%}")
        )
        axes.plot(*minimum, marker="o", color="white", markeredgecolor="black", markersize=7)
    nowhere = float(((found.index < 0) & ~found.diverged).mean())
    if nowhere:
        handles.append(Patch(color=NOWHERE, label=f"no minimum  {nowhere:.1%}"))
    if found.diverged.any():
        handles.append(Patch(color=DIVERGED, label=f"diverged  {float(found.diverged.mean()):.1%}"))
    axes.set(xlim=(x_low, x_high), ylim=(y_low, y_high), xlabel="x", ylabel="y")
    rate = found.settings.get("lr")
    axes.set_title(
        f"{found.surface.name}: where {found.optimizer.partition(':')[0]}"
        + (f" at rate {rate:g}" if rate is not None else "")
        + f" ends in {counted(found.budget, 'step')}",
        fontsize=11,
    )
    legend = figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=((left + wide + 0.1) / total_wide, (bottom + high) / total_high),
        frameon=False,
        fontsize=9,
        title="light: fast, dark: slow",
    )
    legend.get_title().set_fontsize(9)
    figure.savefig(path, dpi=DPI)


def pixels(found: BasinMap) -> npt.NDArray[np.float64]:
    """Return the colours, shape [height, width, 3]."""
    image = np.empty((*found.index.shape, 3))
    image[:] = to_rgb(NOWHERE)
    image[found.diverged] = to_rgb(DIVERGED)
    arrived = found.steps >= 0
    if arrived.any():
        # Light is the fastest twentieth, dark the slowest; between them the logarithm of the steps.
        slow = np.log1p(np.maximum(found.steps, 0))
        fast_end, slow_end = np.quantile(slow[arrived], (0.05, 0.97))
        share = np.clip((slow - fast_end) / max(slow_end - fast_end, 1e-9), 0.0, 1.0)
    else:
        share = np.zeros(found.index.shape)
    share = np.where(arrived, share, 1.0)
    for number in range(len(found.minima)):
        inside = found.index == number
        hue = np.array(to_rgb(HUES[number % len(HUES)]))
        light, dark = 0.35 * hue + 0.65, 0.55 * hue
        mixed = share[inside][:, None]
        image[inside] = np.where(
            mixed < 0.5,  # noqa: PLR2004 - the pure hue stands in the middle
            light + (hue - light) * 2 * mixed,
            hue + (dark - hue) * (2 * mixed - 1),
        )
    return image
