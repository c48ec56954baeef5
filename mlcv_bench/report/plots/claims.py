"""One claim as a picture: the scene that makes the remark obvious, the verdict, and every number behind it."""

from __future__ import annotations

import math
import textwrap
from typing import TYPE_CHECKING

from matplotlib.figure import Figure as Canvas

from mlcv_bench.claims.scene import Bars, Cells, Curves, NetworkFigure, Paths
from mlcv_bench.report.claims import VERDICTS, number_row
from mlcv_bench.report.diagrams.networks import draw as draw_network
from mlcv_bench.report.picture import save
from mlcv_bench.report.plots.ground import ground_of, window_of
from mlcv_bench.report.plots.landscape import draw_ground, draw_path, draw_start
from mlcv_bench.report.plots.style import COLOURS, LINES, Style, worded, write_near

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from mlcv_bench.claims.claim import ClaimResult
    from mlcv_bench.claims.scene import Line, Panel
    from mlcv_bench.records import Report

DPI = 130
SCENE_DPI = 80
INK, FAINT = "#1F2328", "#57606A"
MARKERS = "osD^v*"
LETTERS = 15
"""Letters of the text below a picture on an inch."""
MARKED = {True: "\N{CHECK MARK}", False: "\N{BALLOT X}", None: "?"}
FEW = 30
"""So many rows or columns of cells are told apart by lines."""


def draw(result: ClaimResult, place: Path) -> None:
    """Paint a claim that was tested."""
    panels = result.evidence.scene if result.evidence else ()
    if panels and isinstance(panels[0], NetworkFigure):
        draw_network(panels[0].number, place, title=title_of(result), below=words_below(result, 100))
    else:
        save(drawn(result), place, DPI)


def figure(_report: Report, results: Sequence[ClaimResult]) -> Canvas | None:
    """Return the picture of the first claim that has one of its own; a network's is drawn by itself."""
    for result in results:
        panels = result.evidence.scene if result.evidence else ()
        if panels and not isinstance(panels[0], NetworkFigure):
            return drawn(result)
    return None


def title_of(result: ClaimResult) -> str:
    """Return what stands above a claim's picture."""
    return f"{result.id}: {result.remark.rstrip('.')}"


def drawn(result: ClaimResult) -> Canvas:
    """Draw a claim that was tested."""
    panels = result.evidence.scene if result.evidence else ()
    canvas = Canvas(layout="constrained")
    wide = 6.2 * max(1, len(panels)) + (1.5 if len(panels) < 2 else 0)  # noqa: PLR2004 - one panel leaves room for text
    below = words_below(result, int(wide * LETTERS))
    heading = textwrap.fill(title_of(result), int(wide * 9))
    canvas.set_size_inches(wide, (4.2 if panels else 0.3) + 0.17 * len(below) + 0.25 * (1 + heading.count("\n")))
    canvas.suptitle(heading, fontsize=12, weight="bold")
    canvas.supxlabel("\n".join(below), x=0.01, ha="left", fontsize=8, family="DejaVu Sans Mono")
    for number, panel in enumerate(panels, start=1):
        draw_panel(canvas.add_subplot(1, len(panels), number), panel)
    return canvas


def draw_first(results: Sequence[ClaimResult], place: Path) -> None:
    """Paint the first of the claims that were tested."""
    draw(results[0], place)


def draw_scene(result: ClaimResult, place: Path) -> None:
    """Paint a claim's scene alone, for a page that has the words beside it."""
    panels = result.evidence.scene if result.evidence else ()
    if panels and isinstance(panels[0], NetworkFigure):
        draw_network(panels[0].number, place, title=result.id)
        return
    canvas = Canvas(figsize=(6.2 * max(1, len(panels)), 4.2), layout="constrained")
    for number, panel in enumerate(panels, start=1):
        draw_panel(canvas.add_subplot(1, len(panels), number), panel)
    save(canvas, place, SCENE_DPI)


def words_below(result: ClaimResult, width: int) -> list[str]:
    """Say the verdict, the explanation and every number, in lines of so many letters."""
    verdict = VERDICTS[result.verdict].capitalize() + (f": {result.limit}." if result.limit else ".")
    quantities = result.evidence.quantities if result.evidence else ()
    lines = [*textwrap.wrap(verdict, width), *textwrap.wrap(result.explanation or result.reason, width), ""]
    for one in quantities:
        row = number_row(result, one)
        slack = f" \N{PLUS-MINUS SIGN} {row['tolerance']:.2g}" if one.tolerance else ""
        numbers = f"{MARKED[one.met]} {one.measured:>12.6g} {one.relation:>2} {f'{one.predicted:.6g}{slack}':<20} "
        measured = f" [{one.unit}]" * bool(one.unit) + f", interval {row['interval']}" * bool(one.interval)
        first, *rest = textwrap.wrap(row["quantity"] + measured, width - len(numbers))
        lines += [numbers + first, *(" " * len(numbers) + more for more in rest)]
    return lines


def draw_panel(axes: Axes, panel: Panel) -> None:
    """Draw one panel of a scene."""
    match panel:
        case Curves():
            draw_curves(axes, panel)
        case Paths():
            draw_paths(axes, panel)
        case Bars():
            draw_bars(axes, panel)
        case Cells():
            draw_cells(axes, panel)
        case NetworkFigure():
            raise ValueError("a network's figure stands alone")


def draw_curves(axes: Axes, panel: Curves) -> None:
    """Draw series over one axis."""
    measured = [line for line in panel.lines if line.look != "theory"]
    for number, line in enumerate(measured):
        draw_line(axes, line, COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)])
    for number, line in enumerate(line for line in panel.lines if line.look == "theory"):
        style = ("--", ":", "-.")[number % 3]
        axes.plot(x_of(line), line.y, color=INK, lw=1.1, ls=style, label=line.name, zorder=1.8)
    for name, x in panel.marks.items():
        axes.axvline(x, color=FAINT, lw=0.9, ls=":")
        axes.annotate(
            name,
            (x, 0.99),
            (3, 0),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            rotation=90,
            va="top",
            fontsize=7.5,
            color=FAINT,
        )
    worded(axes, panel.x, panel.y)
    if "x" in panel.log:
        axes.set_xscale("log")
    if "y" in panel.log:
        axes.set_yscale("log")
    axes.legend(fontsize=8, framealpha=0.85)


def x_of(line: Line) -> Sequence[float]:
    """Return where the values of a line are."""
    return line.x if line.x is not None else range(len(line.y))


def draw_line(axes: Axes, line: Line, colour: str, marker: str) -> None:
    """Draw a measured series, with its intervals."""
    x = list(x_of(line))
    if line.look == "dots":
        axes.plot(x, line.y, marker, color=colour, ms=5.5, label=line.name, zorder=3)
        for at, (low, high) in zip(x, line.intervals or (), strict=False):
            axes.plot([at, at], [low, high], color=colour, lw=2, zorder=2.5)
        return
    axes.plot(x, line.y, color=colour, lw=1.7, label=line.name)
    if line.intervals:
        lows, highs = ([interval[end] for interval in line.intervals] for end in (0, 1))
        axes.fill_between(x, lows, highs, color=colour, alpha=0.2, lw=0)


def draw_paths(axes: Axes, panel: Paths) -> None:
    """Draw paths over a surface; later ones are dashed, so that one below shows where two agree."""
    traces = list(panel.runs.values())
    draw_ground(axes, ground_of(panel.surface, window_of(panel.surface, traces)))
    for number, (name, trace) in enumerate(panel.runs.items()):
        style = Style(COLOURS[number % len(COLOURS)], LINES[number % len(LINES)], MARKERS[number % len(MARKERS)])
        draw_path(axes, trace, style, label=name)
    for place in dict.fromkeys(trace.point(0) for trace in traces):
        draw_start(axes, place)
    axes.set_title(panel.surface.formula, fontsize=9.5)
    axes.legend(fontsize=8, framealpha=0.9)


def draw_bars(axes: Axes, panel: Bars) -> None:
    """Draw numbers side by side, from above, each with theory's and its interval."""
    for row, one in enumerate(panel.bars.values()):
        drawn = [x for x in (one.measured, *(one.interval or ())) if math.isfinite(x)]
        axes.barh(row, max(drawn[:1], default=0.0), height=0.62, color=COLOURS[5], zorder=2)
        if one.interval and len(drawn) > 1:
            axes.plot(drawn[-2:], (row, row), color=COLOURS[0], lw=2.5, zorder=3)
        if not math.isnan(one.predicted):
            axes.plot([one.predicted] * 2, (row - 0.38, row + 0.38), color=INK, ls="--", lw=1.3, zorder=4)
            drawn.append(one.predicted)
        words = f"{one.measured:.4g}" if math.isfinite(one.measured) else "infinite: never there"
        write_near(axes, words, (max(drawn, default=0.0), row), (5, 0), va="center")
    axes.set_yticks(range(len(panel.bars)), list(panel.bars), fontsize=8)
    axes.invert_yaxis()
    axes.plot([], [], color=INK, ls="--", lw=1.3, label="predicted, or the bound it is held against")
    worded(axes, panel.unit, axis="x")
    if panel.log:
        axes.set_xscale("log")
    axes.margins(x=0.16)
    axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, 1.1), frameon=False)


def draw_cells(axes: Axes, panel: Cells) -> None:
    """Draw a table of numbers as shades."""
    height, width = len(panel.rows), len(panel.rows[0])
    axes.pcolormesh(
        panel.rows,
        cmap="Blues",
        vmin=0,
        edgecolors="#D0D7DE" if max(height, width) <= FEW else "none",
        linewidth=0.5,
    )
    axes.invert_yaxis()
    axes.set(xlabel=panel.x, ylabel=panel.y)
    axes.set_title(panel.title, fontsize=9.5)
    for axis, names, count in ((axes.xaxis, panel.column_names, width), (axes.yaxis, panel.row_names, height)):
        if names:
            axis.set_ticks([i + 0.5 for i in range(count)], list(names), fontsize=8)
