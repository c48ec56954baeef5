"""A network on its page: the stages of its drawing one below the other, each an SVG of its own that a click folds."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlcv_bench.records import Column, Report, Table, fitted, shape_text
from mlcv_bench.report.diagrams import layout as laying
from mlcv_bench.report.diagrams.dot import COLOURS
from mlcv_bench.report.diagrams.layout import FRAME, Layout, Place, Size
from mlcv_bench.report.diagrams.paint import (
    FAINT,
    FRAME_SIZE,
    INK,
    LINE,
    PADDING,
    TEXT_SIZE,
    TITLE_SIZE,
    bends,
    frames_of,
    head_of,
    size_of,
)
from mlcv_bench.report.page.figures import Markup, absent, shown

if TYPE_CHECKING:
    from mlcv_bench.report.diagrams.graph import Box, Diagram

Costs = Mapping[str, tuple[str, int, int]]
"""Class, own parameters and own MACs of every module by its path."""
ZOOM = 1.5
"""Pixels of a point of the drawing."""
MARGIN = 6.0
MOST_BOXES = 400
"""Boxes that a page draws where no depth is given, since its stages fold."""
MOST_OPEN = 60
"""Of a drawing with more boxes the stages are folded at first."""
COLUMNS = (
    Column("module", "module", justify="left"),
    Column("kind", "what", justify="left"),
    Column("output", "output"),
    Column("params", "parameters", "", ",d"),
    Column("macs", "MACs", "M", ",.2f", 1e6),
    Column("times", "times", "", "d"),
)


@dataclass(frozen=True)
class DrawnNetwork:
    """A network's diagram with what its modules cost, for one image."""

    diagram: Diagram
    costs: Costs

    def below(self, path: str) -> tuple[int, int]:
        """Return parameters and MACs of a module and all below it."""
        found = [own for name, own in self.costs.items() if name == path or name.startswith(f"{path}.") or not path]
        return sum(params for _, params, _ in found), sum(macs for *_, macs in found)

    def of(self, box: Box) -> tuple[int, int]:
        """Return parameters and MACs of the module that a box stands for, of one where it stands for several."""
        return self.below(box.name.partition(" to ")[0]) if box.name else (0, 0)


def report_of(drawn: DrawnNetwork) -> Report:
    """Return the boxes of a drawing as rows."""
    runs: list[dict[str, Any]] = []
    for box in drawn.diagram.boxes.values():
        params, macs = drawn.of(box)
        what = " + ".join((box.title, *box.then))
        output = shape_text(box.shape)
        row = {"module": box.name, "kind": what, "output": output, "params": params, "macs": macs, "times": box.times}
        runs.append(row)
    params, macs = drawn.below("")
    caption = f"{params:,} parameters and {macs:,} MACs in all, for one image; of several equal modules, those of one."
    keys = tuple(column.key for column in COLUMNS)
    return Report("draw", keys, runs, [Table(drawn.diagram.title, fitted(COLUMNS, runs), runs, caption)])


def figures(_report: Report, of: object = None) -> Iterator[Markup]:
    """Yield the drawing; a saved result, whose rows are its boxes alone, has none."""
    if isinstance(of, DrawnNetwork):
        yield Markup(of.diagram.title, network_of(of))
    else:
        yield absent("Drawing", "The file holds the boxes alone. The command above draws the network.")


def network_of(drawn: DrawnNetwork) -> str:
    """Write the drawing's stages one below the other, with the buttons that page.js listens to."""
    buttons = "".join(
        f'<button type="button" data-action="{action}">{words}</button> '
        for action, words in (
            ("in", "+"),
            ("out", "\N{MINUS SIGN}"),
            ("fit", "Fit"),
            ("fold", "Fold all"),
            ("unfold", "Unfold all"),
        )
    )
    parts = "\n".join(stages_of(drawn))
    return (
        f'<div class="network"><p class="controls">{buttons}</p><output aria-live="polite">A click folds a stage; drag '
        f'to move, Ctrl and the wheel to zoom.</output><div class="view" tabindex="0"><div class="canvas">{parts}'
        "</div></div></div>"
    )


def stages_of(drawn: DrawnNetwork) -> Iterator[str]:
    """Yield every stage: the boxes of one module of the network's first level, or of neighbours that cannot be cut."""
    diagram = drawn.diagram
    sizes = {number: size_of(box) for number, box in diagram.boxes.items()}
    groups = {number: box.groups for number, box in diagram.boxes.items()}
    rank = laying.ranks_of(list(sizes), diagram.arrows)
    frames = laying.frames_of(rank, groups)
    cuts = laying.possible_cuts(rank, diagram.arrows, frames)
    spans = spans_of(diagram, rank, cuts)
    heights = laying.rank_heights(rank, sizes, frames)
    placed = laying.placed(sizes, diagram.arrows, groups, rank, heights, spans)
    for column in range(len(spans)):
        inside = [number for number, its in placed.column_of.items() if its == column]
        names = list(dict.fromkeys(stage for number in inside if (stage := stage_of(diagram.boxes[number]))))
        picture = svg_of(drawn, placed, sizes, column, inside, last=column == len(spans) - 1)
        if not names or len(inside) == 1:
            yield f'<div class="stage plain">{picture}</div>'
            continue
        params, macs = (sum(found) for found in zip(*map(drawn.below, names), strict=True))
        shape = shape_text(diagram.boxes[inside[-1]].shape).replace("x", "\N{MULTIPLICATION SIGN}")
        cost = f"{params:,} parameters, {macs / 1e6:,.1f} M MACs, {shape}"
        folded, opened = (" folded", "false") if len(diagram.boxes) > MOST_OPEN else ("", "true")
        yield (
            f'<div class="stage{folded}"><button type="button" aria-expanded="{opened}">{shown(", ".join(names))}'
            f"<small>{shown(cost)}</small></button>{picture}</div>"
        )


def stage_of(box: Box) -> str:
    """Return the module of the network's first level that a box stands in; nothing outside of one."""
    return (box.groups[0] if box.groups else box.name).partition(" to ")[0].partition(".")[0]


def spans_of(diagram: Diagram, rank: Mapping[int, int], cuts: set[int]) -> list[tuple[int, int]]:
    """Cut the ranks wherever one stage ends, and one value alone goes on to the next."""
    stages: dict[int, set[str]] = {}
    for number, box in diagram.boxes.items():
        stages.setdefault(rank[number], set()).add(stage_of(box))
    last = max(stages) + 1
    starts = [0, *(level for level in sorted(cuts) if level and not stages[level - 1] & stages[level]), last]
    return list(itertools.pairwise(starts))


def svg_of(
    drawn: DrawnNetwork, placed: Layout, sizes: dict[int, Size], column: int, inside: Sequence[int], *, last: bool
) -> str:
    """Write one stage; the value comes in above its middle and leaves below it, unless the stage is the `last`."""
    diagram = drawn.diagram
    here = set(inside)
    arrows = list(arrows_in(diagram, placed, sizes, column, here))
    feet = {number: placed.centres[number][1] + sizes[number].height / 2 for number in inside}
    out = next((a for a, b in diagram.arrows if a in here and b not in here), None)
    middle = placed.ports[column][0] if column else placed.centres[inside[0] if out is None else out][0]
    foot = max(feet.values()) + (4 if last else FRAME + 14)
    through = [(placed.centres[out][0], feet[out]) if out is not None else (middle, 0.0), (middle, foot)]
    own = {number: diagram.boxes[number] for number in inside}
    paths = {path for box in own.values() for path in box.groups}
    part = type(diagram)(diagram.title, own, diagram.arrows, {path: diagram.groups[path] for path in paths})
    frames = list(frames_of(part, placed, sizes))
    reach = [placed.centres[number][0] + side * sizes[number].width / 2 for number in inside for side in (-1, 1)]
    reach += [x for _, (left, _), size in frames for x in (left, left + size.width)]
    reach += [x for points in (*arrows, through) for x, _ in points]
    half = max(abs(x - middle) for x in reach) + MARGIN
    top = min([0.0, *(y for _, (_, y), _ in frames)])
    width, height = 2 * half, foot - top
    drawing = [
        *(frame_part(path, diagram.groups[path], corner, size) for path, corner, size in frames),
        *map(arrow_part, arrows),
        *([] if last else [curve_part(through)]),
        *(box_part(drawn, box, placed.centres[number], sizes[number]) for number, box in own.items()),
    ]
    return (
        f'<svg viewBox="{middle - half:.1f} {top:.1f} {width:.1f} {height:.1f}" width="{width * ZOOM:.0f}" '
        f'height="{height * ZOOM:.0f}" role="group">{"".join(drawing)}</svg>'
    )


def arrows_in(
    diagram: Diagram, placed: Layout, sizes: dict[int, Size], column: int, here: set[int]
) -> Iterator[list[Place]]:
    """Yield the points of every arrow that ends in a stage; one from above begins at the stage's upper edge."""
    for a, b in diagram.arrows:
        if b not in here:
            continue
        lanes = placed.routes.get((a, b), [])
        if a in here:
            x, y = placed.centres[a]
            yield [(x, y + sizes[a].height / 2), *lanes, head_of(placed, sizes, b)]
        else:
            port = placed.ports[column]
            yield [(port[0], 0.0), port, *lanes, head_of(placed, sizes, b)]


def frame_part(path: str, kind: str, corner: Place, size: Size) -> str:
    """Write the frame of a module."""
    x, y = corner
    return (
        f'<rect class="frame" x="{x:.1f}" y="{y:.1f}" width="{size.width:.1f}" height="{size.height:.1f}" rx="5"/>'
        f'<text class="frame-name" x="{x + 5:.1f}" y="{y + 10:.1f}" font-size="{FRAME_SIZE}">{shown(path)} '
        f"{shown(kind)}</text>"
    )


def arrow_part(points: Sequence[Place]) -> str:
    """Write an arrow with its head."""
    x, y = points[-1]
    head = f"{x:.1f},{y:.1f} {x - 2.4:.1f},{y - 5:.1f} {x + 2.4:.1f},{y - 5:.1f}"
    return f'{curve_part(points)}<polygon class="head" points="{head}"/>'


def curve_part(points: Sequence[Place]) -> str:
    """Write a curve."""
    (x, y), *_ = points
    steps = [f"M{x:.1f} {y:.1f}"]
    steps += [
        ("L" if len(part) == 1 else "C") + " ".join(f"{across:.1f} {down:.1f}" for across, down in part)
        for part in bends(points)
    ]
    return f'<path class="arrow" d="{" ".join(steps)}"/>'


def box_part(drawn: DrawnNetwork, box: Box, centre: Place, size: Size) -> str:
    """Write a box; its label says shape, parameters and MACs."""
    x, y = centre
    top = y - size.height / 2
    if box.kind == "dots":
        return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="middle" font-size="{TITLE_SIZE}">{shown(box.title)}</text>'
    fill, edge = COLOURS[box.kind]
    params, macs = drawn.of(box)
    what = " + ".join((box.title, *box.then))
    shape = shape_text(box.shape).replace("x", "\N{MULTIPLICATION SIGN}")
    facts = [f"{box.name}: {what}" if box.name else what, f"output {shape}" if shape else ""]
    if params or macs:
        facts += [f"{params:,} parameters", f"{macs:,} MACs" + (", each" if box.times > 1 else "")]
    label = shown(", ".join(fact for fact in facts if fact))
    base = top + PADDING + 7.5
    lines = "".join(
        f'<text x="{x:.1f}" y="{base + 10.5 + LINE * place:.1f}" font-size="{TEXT_SIZE}" fill="{FAINT}">'
        f"{shown(line)}</text>"
        for place, line in enumerate(box.lines)
    )
    return (
        f'<g class="box" tabindex="0" role="img" aria-label="{label}" text-anchor="middle"><title>{label}</title>'
        f'<rect x="{x - size.width / 2:.1f}" y="{top:.1f}" width="{size.width:.1f}" height="{size.height:.1f}" rx="4" '
        f'fill="{fill}" stroke="{edge}"/><text x="{x:.1f}" y="{base:.1f}" font-size="{TITLE_SIZE}" font-weight="bold" '
        f'fill="{INK}">{shown(box.title)}</text>{lines}</g>'
    )
