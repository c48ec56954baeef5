"""The picture of basins: a hue for each minimum, light where it is reached fast and dark where slowly."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from mlcv_bench.records import counted
from mlcv_bench.report.look import CURRENT
from mlcv_bench.report.picture import save
from mlcv_bench.report.plots.style import COLOURS

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from mlcv_bench.records import Report
    from mlcv_bench.surface_race.basins import BasinMap

HUES = (*COLOURS, "#7B3294", "#8C8C00")
NOWHERE = "#9A9A9A"
DIVERGED = "#1A1A1A"
DPI = 100
LEGEND_INCHES = 2.3
LINE_INCHES = 0.2
TITLE_LETTERS = 11
"""Letters of the title on an inch."""


def draw(found: BasinMap, path: Path) -> None:
    """Paint a map: one pixel of the image is one start, margins and legend come on top."""
    save(drawn(found), path, DPI)


def figure(_report: Report, found: BasinMap) -> Figure:
    """Return the picture of a map."""
    return drawn(found)


def drawn(found: BasinMap) -> Figure:
    """Draw a map."""
    height, width = found.index.shape
    wide, high = width / DPI, height / DPI
    scale = CURRENT.get().scale
    left, bottom, right = 0.65 * scale, 0.55 * scale, LEGEND_INCHES * scale
    total_wide = left + wide + right
    title = textwrap.wrap(title_of(found), int(TITLE_LETTERS * total_wide / scale))
    top = (0.2 + 0.2 * len(title)) * scale
    # An edge sets what diverged apart from a dark page.
    handles = [Patch(fc=hue, ec=NOWHERE, lw=0.5, label=f"{words}  {share:.1%}") for hue, words, share in shares(found)]
    # The legend may be taller than a small map and its axis.
    total_high = top + max(bottom + high, LINE_INCHES * scale * (len(handles) + 1.5))
    figure = Figure(figsize=(total_wide, total_high), dpi=DPI)
    axes = figure.add_axes((left / total_wide, 1 - (top + high) / total_high, wide / total_wide, high / total_high))
    (x_low, x_high), (y_low, y_high) = found.surface.box
    axes.imshow(
        pixels(found), origin="lower", extent=(x_low, x_high, y_low, y_high), aspect="auto", interpolation="nearest"
    )
    for minimum in found.minima:
        axes.plot(*minimum, marker="o", color="white", markeredgecolor="black", markersize=7)
    axes.set(xlim=(x_low, x_high), ylim=(y_low, y_high), xlabel="x", ylabel="y")
    figure.suptitle("\n".join(title), fontsize=11, y=1 - 0.1 * scale / total_high, va="top")
    legend = figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=((left + wide + 0.1) / total_wide, 1 - top / total_high),
        frameon=False,
        fontsize=9,
        title="light: fast, dark: slow",
    )
    legend.get_title().set_fontsize(9)
    return figure


def place_words(found: BasinMap, number: int) -> str:
    """Return where a minimum lies, and whether it is a local one."""
    x, y = found.minima[number]
    return f"({x:.3g}, {y:.3g})" + ("" if number < len(found.surface.minima) else " (local)")


def shares(found: BasinMap) -> list[tuple[str, str, float]]:
    """Return a colour, words and a share of the starts of each of the minima, then of what ends in none."""
    entries = [
        (HUES[number % len(HUES)], place_words(found, number), float((found.index == number).mean()))
        for number in range(len(found.minima))
    ]
    nowhere = float(((found.index < 0) & ~found.diverged).mean())
    if nowhere:
        entries.append((NOWHERE, "no minimum", nowhere))
    if found.diverged.any():
        entries.append((DIVERGED, "diverged", float(found.diverged.mean())))
    return entries


def title_of(found: BasinMap) -> str:
    """Say what the map shows."""
    rate = found.settings.get("lr")
    at = f" at rate {rate:g}" if rate is not None else ""
    where = f"{found.surface.name}: where {found.optimizer.partition(':')[0]}{at}"
    return f"{where} ends in {counted(found.budget, 'step')}"


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
