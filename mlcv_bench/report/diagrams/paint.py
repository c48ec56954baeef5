"""Paints a laid-out diagram with matplotlib: PNG or SVG."""

from __future__ import annotations

import functools
import itertools
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.patches import FancyBboxPatch, PathPatch, Polygon
from matplotlib.path import Path as Curve

from mlcv_bench.report.diagrams.dot import COLOURS
from mlcv_bench.report.diagrams.layout import FRAME, Layout, Size, lay_out
from mlcv_bench.report.look import CURRENT
from mlcv_bench.report.picture import save

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from mlcv_bench.report.diagrams.graph import Box, Diagram
    from mlcv_bench.report.diagrams.layout import Place

LEGEND = {
    "convolution": "convolution",
    "grouped": "grouped convolution",
    "pool": "pooling",
    "linear": "fully connected",
    "join": "sum or concatenation",
    "block": "module, drawn closed",
}
INK, FAINT, FRAME_FILL, FRAME_EDGE = "#1f2328", "#6b7280", "#f8fafc", "#cbd5e1"
ARROW = "#64748b"
TITLE_SIZE, TEXT_SIZE, FRAME_SIZE, HEADING_SIZE = 8.5, 7.0, 7.0, 13.0
LINE = 9.5
PADDING = 7.0
MARGIN = 16.0
HEADING = 28.0
DOTS_PER_INCH = 160
LARGEST = 12000
"""Pixels of a picture's longer side; larger ones are drawn at fewer dots an inch."""


@functools.cache
def text_width(text: str, size: float, *, bold: bool = False) -> float:
    """Return the width of a text in points."""
    font = get_font(findfont(FontProperties(family="DejaVu Sans", weight="bold" if bold else "normal")))
    font.set_size(size, 72)
    font.set_text(text)
    return float(font.get_width_height()[0]) / 64


def size_of(box: Box) -> Size:
    """Return the size that a box's text needs."""
    if box.kind == "dots":
        return Size(text_width(box.title, TITLE_SIZE) + 2 * PADDING, 16.0)
    widest = max(
        text_width(box.title, TITLE_SIZE, bold=True), *(text_width(line, TEXT_SIZE) for line in (*box.lines, " "))
    )
    return Size(max(widest + 2 * PADDING, 58.0), PADDING + 11 + LINE * len(box.lines) + 2)


def paint(
    diagrams: Sequence[Diagram],
    path: Path,
    *,
    title: str = "",
    columns: int | None = None,
    below: Sequence[str] = (),
) -> None:
    """Paint diagrams side by side into one file; its suffix decides the form.

    Args:
        diagrams: one, or several to compare.
        path: where to; .png, .svg or .pdf.
        title: heading of the whole picture, the diagram's own by default.
        columns: how many columns each diagram has; by default as many as give the page its usual shape.
        below: lines of text at the foot of the page, in letters of one width.

    """
    layouts = [
        lay_out(
            {number: size_of(box) for number, box in diagram.boxes.items()},
            diagram.arrows,
            {number: box.groups for number, box in diagram.boxes.items()},
            columns=columns if columns is not None or len(diagrams) == 1 else 1,
        )
        for diagram in diagrams
    ]
    heading = title or diagrams[0].title
    between = 44.0
    subtitles = 20.0 if len(diagrams) > 1 else 0.0
    inner = sum(layout.width for layout in layouts) + between * (len(layouts) - 1)
    kinds = [kind for kind in LEGEND if any(box.kind == kind for d in diagrams for box in d.boxes.values())]
    legend = [(kind, LEGEND[kind], text_width(LEGEND[kind], TEXT_SIZE) + 30) for kind in kinds]
    rows = legend_rows(legend, max(inner, 200.0))
    width = max(inner, text_width(heading, HEADING_SIZE, bold=True), *(sum(e[2] for e in row) for row in rows), 120.0)
    # Letters of one width are 0.602 of their size wide.
    width = max(width, 0.602 * TEXT_SIZE * max(map(len, below), default=0)) + 2 * MARGIN
    # What leads to the next column passes above the boxes, and stays below the heading.
    lead = 12.0 if any(layout.ports for layout in layouts) else 0.0
    foot = LINE * len(below)
    height = max(layout.height for layout in layouts) + subtitles + HEADING + lead
    height += 2 * MARGIN + 15 * len(rows) - 4 + foot
    scale = CURRENT.get().scale
    with mpl.rc_context({"font.family": "DejaVu Sans"}):
        # A unit is a point, or more where the letters are larger than usual.
        figure = Figure(figsize=(scale * width / 72, scale * height / 72), facecolor="white")
        axes = figure.add_axes((0, 0, 1, 1), aspect="equal")
        axes.set_xlim(0, width)
        axes.set_ylim(height, 0)
        axes.axis("off")
        axes.text(
            width / 2, MARGIN + 8, heading, ha="center", va="center", fontsize=HEADING_SIZE, weight="bold", color=INK
        )
        left = (width - inner) / 2
        for diagram, layout in zip(diagrams, layouts, strict=True):
            if subtitles:
                axes.text(
                    left + layout.width / 2, MARGIN + HEADING + 2, diagram.title, ha="center", fontsize=9.5, color=INK
                )
            paint_one(axes, diagram, layout, left, MARGIN + HEADING + subtitles + lead - 12)
            left += layout.width + between
        for i, row in enumerate(rows):
            paint_legend(axes, row, width, height - foot - MARGIN - 15 * (len(rows) - 1 - i))
        for i, line in enumerate(below):
            y = height - foot + LINE * i
            axes.text(MARGIN, y, line, va="center", fontsize=TEXT_SIZE, color=INK, family="DejaVu Sans Mono")
        dots = min(DOTS_PER_INCH, LARGEST / (max(width, height) / 72))
        save(figure, path, dots)


def legend_rows(entries: Sequence[tuple[str, str, float]], limit: float) -> list[list[tuple[str, str, float]]]:
    """Break the legend into rows that fit."""
    rows: list[list[tuple[str, str, float]]] = [[]]
    for entry in entries:
        if rows[-1] and sum(e[2] for e in rows[-1]) + entry[2] > limit:
            rows.append([])
        rows[-1].append(entry)
    return rows


def paint_legend(axes: Axes, row: Sequence[tuple[str, str, float]], width: float, y: float) -> None:
    """Paint one row of the legend, centred."""
    x = (width - sum(entry[2] for entry in row)) / 2
    for kind, text, size in row:
        fill, edge = COLOURS[kind]
        rounded(axes, (x, y - 4), Size(12, 8), 2, fc=fill, ec=edge, lw=0.9)
        axes.text(x + 17, y, text, va="center", fontsize=TEXT_SIZE, color=FAINT)
        x += size


def paint_one(axes: Axes, diagram: Diagram, layout: Layout, left: float, top: float) -> None:
    """Paint one diagram with its corner at (left, top)."""
    sizes = {number: size_of(box) for number, box in diagram.boxes.items()}
    moved = replace(
        layout,
        centres={number: (x + left, y + top) for number, (x, y) in layout.centres.items()},
        routes={pair: [(x + left, y + top) for x, y in points] for pair, points in layout.routes.items()},
        ports={column: (x + left, y + top) for column, (x, y) in layout.ports.items()},
        edges=tuple((low + left, high + left) for low, high in layout.edges),
    )
    paint_frames(axes, diagram, moved, sizes)
    crossing: defaultdict[int, list[int]] = defaultdict(list)
    for a, b in diagram.arrows:
        if moved.column_of[a] != moved.column_of[b]:
            crossing[a].append(b)
            port = moved.ports[moved.column_of[b]]
            paint_curve(axes, [port, *moved.routes.get((a, b), []), head_of(moved, sizes, b)])
            continue
        ax, ay = moved.centres[a]
        points = [(ax, ay + sizes[a].height / 2), *moved.routes.get((a, b), []), head_of(moved, sizes, b)]
        paint_curve(axes, points, dotted="dots" in {diagram.boxes[a].kind, diagram.boxes[b].kind})
    for a, users in crossing.items():
        paint_column_change(axes, diagram, moved, sizes, a, moved.column_of[users[0]])
    for number, box in diagram.boxes.items():
        paint_box(axes, box, moved.centres[number], sizes[number])


def paint_frames(axes: Axes, diagram: Diagram, layout: Layout, sizes: dict[int, Size]) -> None:
    """Paint the frames round the boxes of one module, the outer ones first."""
    for path, (x, y), size in frames_of(diagram, layout, sizes):
        rounded(axes, (x, y), size, 5, fc=FRAME_FILL, ec=FRAME_EDGE, lw=0.8, zorder=0.5 + 0.01 * path.count("."))
        axes.text(
            x + 5,
            y + 8,
            f"{path}  {diagram.groups[path]}",
            fontsize=FRAME_SIZE,
            color=FAINT,
            zorder=1.7,
            bbox={"fc": FRAME_FILL, "ec": "none", "pad": 0.8},
        )


def frames_of(diagram: Diagram, layout: Layout, sizes: dict[int, Size]) -> Iterator[tuple[str, Place, Size]]:
    """Yield path, corner and size of the frame round the boxes of every module, the outer ones first."""
    members: defaultdict[str, list[int]] = defaultdict(list)
    for number, box in diagram.boxes.items():
        for path in box.groups:
            members[path].append(number)
    inside = {path: max(map(len, (diagram.boxes[n].groups for n in found))) for path, found in members.items()}
    for path in sorted(members, key=lambda path: path.count(".")):
        found = members[path]
        level = max(inside[path] - min(diagram.boxes[n].groups.index(path) for n in found) - 1, 0)
        pad = FRAME - 2 + level * (FRAME - 2)
        lanes = [
            point
            for (a, b), points in layout.routes.items()
            if (a in found and b in found) or (b in found and diagram.boxes[b].kind == "join")
            for point in points
        ]
        tops = [layout.centres[n][1] - sizes[n].height / 2 for n in found]
        xs = [layout.centres[n][0] - sizes[n].width / 2 for n in found] + [x for x, _ in lanes]
        right = [layout.centres[n][0] + sizes[n].width / 2 for n in found] + [x for x, _ in lanes]
        bottoms = [layout.centres[n][1] + sizes[n].height / 2 for n in found]
        x, y = min(xs) - pad, min(tops) - pad - 11
        yield path, (x, y), Size(max(right) + pad - x, max(bottoms) + pad - y)


def rounded(axes: Axes, corner: Place, size: Size, radius: float, **look: Any) -> None:  # noqa: ANN401 - a patch's own
    """Paint a box with round corners."""
    style = f"round,pad=0,rounding_size={radius}"
    axes.add_patch(FancyBboxPatch(corner, size.width, size.height, boxstyle=style, **look))


def paint_curve(axes: Axes, points: Sequence[Place], *, dotted: bool = False) -> None:
    """Paint a curve through points that lie below one another, straight where it can be, with a head at its end."""
    vertices: list[Place] = [points[0]]
    codes: list[Any] = [Curve.MOVETO]
    for part in bends(points):
        vertices += part
        codes += [Curve.LINETO] if len(part) == 1 else [Curve.CURVE4] * 3
    axes.add_patch(
        PathPatch(Curve(vertices, codes), fc="none", lw=1.0, ls=":" if dotted else "-", ec=ARROW, zorder=1.5)
    )
    x, y = points[-1]
    axes.add_patch(Polygon([(x, y), (x - 2.4, y - 5), (x + 2.4, y - 5)], fc=ARROW, lw=0, zorder=1.6))


def bends(points: Sequence[Place]) -> Iterator[list[Place]]:
    """Yield the parts of a curve: a point to go straight to, or two controls and the end of a cubic one."""
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        half = (y0 + y1) / 2
        straight = abs(x0 - x1) < 0.5  # noqa: PLR2004 - half a point is not a bend
        yield [(x1, y1)] if straight else [(x0, half), (x1, half), (x1, y1)]


def head_of(layout: Layout, sizes: dict[int, Size], number: int) -> Place:
    """Return the middle of a box's upper edge, where arrows end."""
    x, y = layout.centres[number]
    return (x, y - sizes[number].height / 2)


def paint_column_change(
    axes: Axes, diagram: Diagram, layout: Layout, sizes: dict[int, Size], a: int, following: int
) -> None:
    """Lead one value below its column, up the gutter, and to the port above the next column."""
    x0, y0 = layout.centres[a]
    foot = y0 + sizes[a].height / 2
    gutter = (layout.edges[following - 1][1] + layout.edges[following][0]) / 2
    entry = layout.ports[following]
    low, high = foot + 12 + FRAME * len(diagram.boxes[a].groups), entry[1] - 10
    radius = 6.0
    corners = [(x0, foot), (x0, low), (gutter, low), (gutter, high), (entry[0], high), entry]
    vertices: list[Place] = [corners[0]]
    codes: list[Any] = [Curve.MOVETO]
    for (ax, ay), (bx, by), (cx, cy) in zip(corners, corners[1:], corners[2:], strict=False):
        vertices += [
            (bx - radius * sign(bx - ax), by - radius * sign(by - ay)),
            (bx, by),
            (bx + radius * sign(cx - bx), by + radius * sign(cy - by)),
        ]
        codes += [Curve.LINETO, Curve.CURVE3, Curve.CURVE3]
    vertices.append(entry)
    codes.append(Curve.LINETO)
    axes.add_patch(PathPatch(Curve(vertices, codes), fc="none", lw=1.0, color=ARROW, zorder=1.5))


def sign(value: float) -> float:
    """Return -1, 0 or 1."""
    return float(value > 0) - float(value < 0)


def paint_box(axes: Axes, box: Box, centre: Place, size: Size) -> None:
    """Paint one box and its text."""
    x, y = centre
    if box.kind == "dots":
        axes.text(x, y, box.title, ha="center", va="center", fontsize=TITLE_SIZE, color=FAINT)
        return
    fill, edge = COLOURS[box.kind]
    corner = (x - size.width / 2, y - size.height / 2)
    if box.times > 1:
        for shift in (5.0, 2.5):
            shifted = (corner[0] + shift, corner[1] + shift)
            rounded(axes, shifted, size, 4, fc=fill, ec=edge, lw=0.7, zorder=1.9)
    rounding = size.height / 2 if box.kind in {"input", "join"} and len(box.lines) < 2 else 4  # noqa: PLR2004 - a pill
    rounded(axes, corner, size, min(rounding, 12), fc=fill, ec=edge, lw=1.0, zorder=2)
    top = corner[1] + PADDING + 4.5
    axes.text(x, top, box.title, ha="center", va="center", fontsize=TITLE_SIZE, weight="bold", color=INK, zorder=3)
    for i, line in enumerate(box.lines):
        axes.text(
            x, top + 11 + LINE * i - 0.5, line, ha="center", va="center", fontsize=TEXT_SIZE, color=FAINT, zorder=3
        )
