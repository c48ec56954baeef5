"""The picture of costs: multiply-accumulates against parameters, every network named, families in colour."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.path import Path
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from matplotlib.transforms import Bbox

from mlcv_bench.records import Column, fitted
from mlcv_bench.report.look import CURRENT
from mlcv_bench.report.picture import DPI, fit, write
from mlcv_bench.report.plots.timings import MARKERS, SERIES

if TYPE_CHECKING:
    import pathlib

    from matplotlib.axes import Axes
    from matplotlib.backend_bases import RendererBase

    from mlcv_bench.records import Report

Run = Mapping[str, Any]
MACS = "multiply-accumulates of the batch"
MARKER = 6.5
DISTANCES = (4, 10, 18, 28, 40, 54, 70, 90, 115, 145)
"""How far from its point a name may stand, in points; the nearest free place wins."""
ANGLES = (0, 180, 45, 315, 135, 225, 90, 270, 20, 340, 160, 200)
MANY_DECADES = 1e3
LEADER = 16
"""From this distance on a thin line leads from the name to its point."""


def draw_costs(report: Report, path: pathlib.Path) -> None:
    """Paint MACs against parameters of every run; or a figure of one's own against MACs."""
    drawn, dpi = sized(report)
    write(drawn, path, dpi)


def figure(report: Report, _of: object = None) -> Figure:
    """Return the picture of costs."""
    return sized(report)[0]


def sized(report: Report) -> tuple[Figure, float]:
    """Draw every run as a point, in the size of the current look; return the picture and its dots an inch.

    Both axes are logarithmic. Runs of one network (a sweep of inputs or batches) are joined. Names are placed where
    they cover neither each other nor a point; one that has to stand apart is joined to its point by a thin line.
    """
    (x, y), runs, labels = placed(report)
    own = y if y != "macs" else ""
    crowd = math.sqrt(max(len(runs), 6) / 6)
    figure = Figure(figsize=(min(7.2 * crowd**0.55, 14), min(4.8 * crowd**0.65, 11)), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    families = list(dict.fromkeys(run["family"] for run in runs))
    colours = {family: SERIES[position % len(SERIES)] for position, family in enumerate(families)}
    for position, (family, colour) in enumerate(colours.items()):
        members = [run for run in runs if run["family"] == family]
        axes.scatter(
            [run[x] for run in members],
            [run[y] for run in members],
            s=MARKER**2,
            color=colour,
            marker=MARKERS[position % len(MARKERS)],
            edgecolor="white",
            linewidth=0.6,
            label=family,
            zorder=3,
        )
        for _, sweep in itertools.groupby(members, key=lambda run: run["architecture"]):
            points = sorted((run[x], run[y]) for run in sweep)
            axes.plot(*zip(*points, strict=True), color=colour, linewidth=0.8, alpha=0.5, zorder=2)
    decorate(axes, runs, own)
    if own:
        best = sorted((run[x], run[y]) for run in runs if run["pareto_front"])
        axes.plot(*zip(*best, strict=True), color="black", linewidth=1, linestyle="--", zorder=1, label="Pareto front")
    if own or len(families) > 1:
        axes.legend(
            title="family", fontsize=8, title_fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False
        )
    dpi = fit(figure)
    # The layout must stand before the places of names can be measured.
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call] # matplotlib leaves it without types
    renderer = canvas.get_renderer()  # type: ignore[no-untyped-call] # as above
    figure.set_layout_engine("none")
    spots = [(run[x], run[y]) for run in runs]
    place_names(axes, renderer, spots, labels, [colours[run["family"]] for run in runs])
    return figure, dpi


def placed(report: Report) -> tuple[tuple[str, str], list[Run], list[str]]:
    """Return which columns stand across and upwards, the runs that have both, and their names."""
    own = report.details.get("join", {}).get("columns", ("",))[0]
    x, y = ("macs", own) if own else ("params", "macs")
    if all(run.get(y) is None for run in report.runs):
        y = "weight_bytes"  # an input that does not fit leaves the parameters
    paired = zip(report.runs, report.tables[0].rows, strict=True)
    known = [(run, str(row["label"])) for run, row in paired if run.get(x) is not None and run.get(y) is not None]
    return (x, y), [run for run, _ in known], [label for _, label in known]


def decorate(axes: Axes, runs: Sequence[Any], own: str = "") -> None:
    """Label the axes in units that their figures fill, and leave room for names; `own` is named upwards."""
    params, macs = fitted([Column("params", "parameters", "M", "", 1e6), Column("macs", MACS, "G", "", 1e9)], runs)
    across, upwards = (macs, None) if own else (params, macs)
    if own:
        axes.set_ylabel(own)
    for scale, axis, column in ((axes.set_xscale, axes.xaxis, across), (axes.set_yscale, axes.yaxis, upwards)):
        if column is None:
            continue
        values = [run[column.key] for run in runs]
        # A network without parameters has no place on a logarithmic axis.
        if min(values) > 0:
            scale("log")
            axis.set_major_locator(LogLocator(subs=(1, 2, 5) if max(values) / min(values) < MANY_DECADES else (1,)))
            axis.set_minor_formatter(NullFormatter())
        axis.set_major_formatter(FuncFormatter(lambda value, _, unit=column.scale: f"{value / unit:g}"))
        axis.set_label_text(column.title)
    axes.margins(x=0.12, y=0.1)
    inputs = dict.fromkeys(run["input"] for run in runs)
    title = f"{own} against cost" if own else "What networks cost"
    axes.set_title(f"{title} at {next(iter(inputs))}" if len(inputs) == 1 else title, loc="left")
    axes.grid(visible=True, which="major", linewidth=0.4, alpha=0.5)
    axes.spines[["top", "right"]].set_visible(False)


def place_names(
    axes: Axes,
    renderer: RendererBase,
    points: Sequence[tuple[float, float]],
    labels: Sequence[str],
    colours: Sequence[str],
) -> list[Bbox]:
    """Write every name at the nearest place that covers no other name and no point; returns the places in pixels.

    The most crowded points choose first.
    """
    pixel = axes.get_figure(root=True).dpi / 72  # type: ignore[union-attr] # axes stand in a figure
    spots = [tuple(axes.transData.transform(point)) for point in points]
    radius = MARKER * pixel * 0.6
    taken = [Bbox.from_extents(x - radius, y - radius, x + radius, y + radius) for x, y in spots]
    frame = axes.get_window_extent(renderer)

    def crowd(index: int) -> float:
        x, y = spots[index]
        return -sum(1 / (1 + math.hypot(x - a, y - b)) for a, b in spots)

    placed: list[Bbox] = []
    leaders: list[Path] = []
    for index in sorted(range(len(labels)), key=crowd):
        x, y = spots[index]
        text = axes.annotate(
            labels[index],
            points[index],
            (0, 0),
            textcoords="offset points",
            fontsize=7.5 * CURRENT.get().scale,
            color=colours[index],
            parse_math=False,
            zorder=4,
        )
        size = text.get_window_extent(renderer)
        best: tuple[float, float, Bbox] | None = None
        for distance, angle in itertools.product(DISTANCES, ANGLES):
            box = box_near(x, y, size.width, size.height, radius + distance * pixel * 0.7, angle)
            cost = outside(box, frame)
            cost += sum(overlap(box, other) for other in (*taken, *placed))
            cost += size.height * sum(line.intersects_bbox(box) for line in leaders)
            if distance >= LEADER:
                line = leader(x, y, box)
                cost += size.height * sum(line.intersects_bbox(other) for other in placed)
            if best is None or cost < best[0]:
                best = (cost, distance, box)
            if cost == 0:
                break
        if best is None:
            continue
        _, reach, box = best
        # In points off its point a name keeps its place at any number of dots an inch.
        text.set_position(((box.x0 - size.x0) / pixel, (box.y0 - size.y0) / pixel))
        placed.append(box)
        if reach >= LEADER:
            leaders.append(leader(x, y, box))
            end = ((place - spot) / pixel for place, spot in zip(ends(x, y, box)[1], (x, y), strict=True))
            look: dict[str, Any] = {
                "arrowstyle": "-",
                "color": colours[index],
                "linewidth": 0.5,
                "shrinkA": 0,
                "shrinkB": 0,
            }
            axes.annotate("", points[index], tuple(end), textcoords="offset points", arrowprops=look, zorder=2)
    return placed


def ends(x: float, y: float, box: Bbox) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return a point and the nearest place of a name's box."""
    return (x, y), (min(max(x, box.x0), box.x1), min(max(y, box.y0), box.y1))


def leader(x: float, y: float, box: Bbox) -> Path:
    """Return the line from a point to a name."""
    return Path(ends(x, y, box))


def box_near(x: float, y: float, width: float, height: float, distance: float, angle: float) -> Bbox:
    """Return the box of a name whose nearest edge or corner is so far from a point, in this direction (degrees)."""
    across, up = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    middle_x = x + across * (distance + width / 2)
    middle_y = y + up * (distance + height / 2)
    return Bbox.from_bounds(middle_x - width / 2, middle_y - height / 2, width, height)


def overlap(one: Bbox, other: Bbox) -> float:
    """Return the area that two boxes share."""
    shared = Bbox.intersection(one, other)
    return float(shared.width * shared.height) if shared else 0.0


def outside(box: Bbox, frame: Bbox) -> float:
    """Return the area of a box beyond the axes."""
    return box.width * box.height - overlap(box, frame)
