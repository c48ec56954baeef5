"""What `verify --fingerprint` shows: what each network computes, and what differs from an earlier file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlcv_bench.equivalence.fingerprints import FingerprintRow
from mlcv_bench.records import Column, Report, Table, columns_of, counted, row_of, shape_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlcv_bench.comparing.differences import RowDifference

SHOWN = (
    Column("network", "network", justify="left"),
    Column("weights", "weights", justify="left"),
    Column("mode", "mode", justify="left"),
    Column("scale", "input", "scale", "g", missing=""),
    Column("quantity", "quantity", justify="left"),
    Column("shape", "shape"),
    Column("norm", "norm", format=".12g"),
    Column("tolerance", "tolerance", format=".0e"),
    Column("reason", "remark", justify="left"),
)
CAPTION = (
    "Own: as the network's seed initialises its weights; drawn: by each parameter's name and shape alone. "
    "Batch of two, float64; files also keep 16 projections of each quantity, and tolerance is the share of the norm "
    "that two may differ by."
)


def fingerprint_report(rows: Sequence[FingerprintRow], told: Sequence[RowDifference] | None = None) -> Report:
    """Return every fingerprint as a run; `told` is what differs from an earlier file."""
    shown = [row_of(row) | {"shape": shape_text(row.shape) if row.shape is not None else None} for row in rows]
    notes = [f"{one.row} {one.reason or one.change}." for one in told or ()]
    done = sum(row.status == "done" for row in rows)
    if told is not None and not told:
        notes = [f"Every network computes the same: {counted(done, 'fingerprint')}."]
    columns = columns_of(FingerprintRow)
    return Report(
        "fingerprint", columns, [row_of(row) for row in rows], [Table("Fingerprints", SHOWN, shown, CAPTION)], notes
    )
