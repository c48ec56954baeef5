"""The modules of a network as `summary` prints them, and of two side by side as `diff` does."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from mlcv_bench.architectures import weights
from mlcv_bench.counting import isolation
from mlcv_bench.counting.diff import DiffRow
from mlcv_bench.counting.network import Network, observe
from mlcv_bench.counting.tracing import listed
from mlcv_bench.counting.tree import tree_of
from mlcv_bench.records import Column, Report, Table, columns_of, fitted, shape_text
from mlcv_bench.report.costs import not_counted

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mlcv_bench.architectures.request import Request
    from mlcv_bench.architectures.weights import Fit
    from mlcv_bench.counting.network import Observation

COLUMNS = (
    Column("tree", "module", justify="left"),
    Column("kind", "kind", justify="left"),
    Column("output", "output"),
    Column("sees", "sees", "px", ",d", missing="all"),
    Column("params", "parameters", "", ",d"),
    Column("macs", "MACs", "M", ",.2f", 1e6),
    Column("share", "share", "%", ".1f", 0.01),
)


def summary_report(request: Request, depth: int, batch: int, checkpoint: Path | None = None) -> Report:
    """Trace a network and return its tree down to `depth`, repeated blocks folded into one line.

    With `checkpoint`, the names and shapes in that file are compared with the network's.
    """
    fit = fit_of(request, checkpoint) if checkpoint is not None else None
    seen = observe(Network.of(request), batch, fields=True)
    root = tree_of(request, batch, seen=seen)
    rows = []
    for level, node in root.walk(depth):
        times = f" ({node.times}x)" if node.times > 1 else ""
        rows.append(
            {
                "level": level,
                "module": node.name,
                "tree": "  " * level + node.name + times,
                "kind": node.kind,
                "times": node.times,
                "output": shape_text(node.output),
                "receptive_field": node.receptive_field,
                "sees": node.receptive_field if node.ran else "-",
                "params": node.params,
                "macs": node.macs,
                "share": node.macs / root.macs if root.macs else None,
            }
        )
    keys = ("level", "module", "kind", "times", "output", "receptive_field", "params", "macs", "share")
    runs = [{key: row[key] for key in keys} for row in rows]
    caption = (
        f"{root.params:,} parameters, {root.macs:,} MACs at {request.input_text}, batch {batch}. "
        "Figures are those of one module; (3x) marks equal neighbours folded into the last. "
        "sees: receptive field, a side in input pixels."
    )
    if any(row["sees"] == "-" for row in rows):
        caption += " -: that module's own forward was not called."
    tables = [Table(request.label, fitted(COLUMNS, rows), rows, caption)]
    notes = [fit.sentence + "."] if fit is not None else []
    details = {"weights": fit} if fit is not None else {}
    return Report("summary", keys, runs, tables, notes, warnings_of(seen, request), details)


def warnings_of(seen: Observation, request: Request) -> list[str]:
    """Say which operators no rule counts, and that a network had to run with values, if so."""
    uncounted = listed(seen.trace.uncounted)
    return [*([not_counted(request.name, uncounted)] if uncounted else []), *seen.notes]


def fit_of(request: Request, path: Path) -> Fit:
    """Compare a file's names and shapes with the network's, without loading a value."""
    with isolation.left_alone():
        module = Network(request).on_meta()
    return weights.fit(module, weights.read_state(path, device="meta"), path)


def diff_report(first: str, second: str, rows: Sequence[DiffRow], circumstances: str) -> Report:
    """Return the blocks of two networks side by side; where names agree, one column of names does."""
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
