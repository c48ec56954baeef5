"""A diagram in Graphviz's language, for those who have `dot`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlcv_bench.report.diagrams.graph import Diagram


COLOURS: dict[str, tuple[str, str]] = {
    "input": ("#ffffff", "#57606a"),
    "convolution": ("#dbeafe", "#2563eb"),
    "grouped": ("#ede9fe", "#7c3aed"),
    "pool": ("#fee2e2", "#dc2626"),
    "linear": ("#dcfce7", "#16a34a"),
    "follower": ("#f3f4f6", "#6b7280"),
    "join": ("#fef3c7", "#d97706"),
    "block": ("#e0f2fe", "#0369a1"),
    "other": ("#f3f4f6", "#6b7280"),
    "dots": ("#ffffff", "#ffffff"),
}
"""Fill and outline of each kind of box."""


def to_dot(diagram: Diagram) -> str:
    """Write the diagram: a node for each box, a cluster for each frame."""
    lines = [
        f"digraph {json.dumps(diagram.title)} {{",
        '  node [shape=box style="rounded,filled" fontname="Helvetica" fontsize=10];',
        '  edge [color="#64748b"];',
    ]
    lines += members(diagram, "", "  ")
    lines += [f"  n{a} -> n{b};" for a, b in diagram.arrows]
    return "\n".join([*lines, "}"]) + "\n"


def members(diagram: Diagram, around: str, indent: str) -> Sequence[str]:
    """Write the boxes and frames that stand directly inside the frame `around`."""
    lines = []
    for number, box in diagram.boxes.items():
        if (box.groups[-1] if box.groups else "") == around:
            fill, edge = COLOURS[box.kind]
            label = json.dumps("\n".join((box.title, *box.lines)), ensure_ascii=False)
            lines.append(f'{indent}n{number} [label={label} fillcolor="{fill}" color="{edge}"];')
    inner = dict.fromkeys(
        path
        for box in diagram.boxes.values()
        for above, path in zip(("", *box.groups), box.groups, strict=False)
        if above == around
    )
    for path in inner:
        label = json.dumps(f"{path}  {diagram.groups[path]}")
        lines.append(f'{indent}subgraph {json.dumps("cluster_" + path)} {{ label={label}; color="#cbd5e1";')
        lines += members(diagram, path, indent + "  ")
        lines.append(indent + "}")
    return lines
