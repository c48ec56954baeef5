"""The table of `width`: for each G the root d, what the paper chose, and what the network then costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlcv_bench.counting.cost import count
from mlcv_bench.counting.published import PAPER_WIDTHS, block_macs_per_pixel, matching_width
from mlcv_bench.records import Column, Report, Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlcv_bench.architectures.request import Request

COLUMNS = (
    Column("groups", "G", format="d"),
    Column("root", "root d", format=".4f"),
    Column("width", "rounded d", format="d"),
    Column("paper_width", "paper's d", format="d"),
    Column("block_macs_per_pixel", "block", "MACs/pixel", ",d"),
    Column("architecture", "network", justify="left"),
    Column("params", "parameters", "M", ",.3f", 1e6),
    Column("macs", "MACs", "G", ",.4f", 1e9),
    Column("macs_difference", "diff", "%", "+.2f", 0.01),
)


def width_report(reference: Request, depth: int, groups: Sequence[int]) -> Report:
    """Solve for d at each number of groups, and count the ResNeXt that results against `reference`."""
    base = count(reference)
    rows = []
    for number in groups:
        root = matching_width(number)
        rounded = max(1, round(root))
        cost = count(f"resnext{depth}_{number}x{rounded}d", input=reference.input)
        rows.append(
            {
                "match": base.architecture,
                "groups": number,
                "root": root,
                "width": rounded,
                "paper_width": PAPER_WIDTHS.get(number),
                "block_macs_per_pixel": block_macs_per_pixel(number, rounded),
                "architecture": cost.architecture,
                "params": cost.params,
                "macs": cost.macs,
                "macs_difference": cost.macs / base.macs - 1,
            }
        )
    caption = (
        f"9 G d^2 + 2 C G d = 9 d0^2 + 2 C d0 with C = 256, d0 = 64. Against {base.architecture}: "
        f"{base.params / 1e6:,.3f} M parameters, {base.macs / 1e9:,.4f} G MACs. The equation matches a block without"
        " projection; whole networks differ a little."
    )
    keys = ("match", *(column.key for column in COLUMNS))
    return Report("width", keys, rows, [Table("Equal cost, more groups", COLUMNS, rows, caption)])
