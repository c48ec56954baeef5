"""The tree that `summary` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlcv_bench.architectures import weights
from mlcv_bench.counting import isolation
from mlcv_bench.counting.network import Network, observe
from mlcv_bench.counting.tree import tree_of
from mlcv_bench.records import Column, Report, Table, fitted, shape_text

if TYPE_CHECKING:
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
    uncounted = ", ".join(f"{name} ({times}x)" for name, times in sorted(seen.trace.uncounted.items()))
    missing = [f"{request.name}: not counted: {uncounted}; the figures leave these operators out"] if uncounted else []
    return [*missing, *seen.notes]


def fit_of(request: Request, path: Path) -> Fit:
    """Compare a file's names and shapes with the network's, without loading a value."""
    with isolation.left_alone():
        module = Network(request).on_meta()
    return weights.fit(module, weights.read_state(path, device="meta"), path)
