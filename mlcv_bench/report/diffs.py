"""Two networks side by side, as people read them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from mlcv_bench.counting.diff import DiffRow
from mlcv_bench.records import Column, Report, Table, columns_of, fitted

if TYPE_CHECKING:
    from collections.abc import Sequence


def diff_report(first: str, second: str, rows: Sequence[DiffRow], circumstances: str) -> Report:
    """Return the blocks of two networks beside each other; where names agree, one column of names does."""
    *blocks, total = rows
    shown = [row.row() for row in blocks]
    shown.append(total.row() | {"first": "total", "second": "total"})
    same = all(row["first"] is None or row["second"] is None or row["first"] == row["second"] for row in shown)
    for row in shown:
        row["block"] = row["first"] or row["second"]
    names = (
        (Column("block", "block", justify="left"),)
        if same
        else (Column("first", f"{first}", justify="left"), Column("second", f"{second}", justify="left"))
    )
    sizes = [{"macs": row[key]} for row in shown for key in ("first_macs", "second_macs")]
    (macs,) = fitted([Column("macs", "MACs", "M", ",.2f", 1e6)], sizes)
    columns = (
        *names,
        Column("first_output", "output"),
        Column("second_output", "output"),
        Column("first_params", "parameters", "", ",d"),
        Column("second_params", "parameters", "", ",d"),
        Column("params_ratio", "ratio", "", ".3f"),
        replace(macs, key="first_macs"),
        replace(macs, key="second_macs"),
        Column("macs_ratio", "ratio", "", ".3f"),
    )
    caption = f"Left {first}, right {second}, {circumstances}; ratio: right / left; - where a side has no such block. "
    caption += "Modules without weights and MACs are left out."
    runs = [row.row() for row in rows]
    return Report("diff", columns_of(DiffRow), runs, [Table(f"{first} and {second}", columns, shown, caption)])
