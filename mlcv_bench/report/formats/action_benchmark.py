"""github-action-benchmark's own JSON: an array of figures, one file for each direction."""

from __future__ import annotations

import json
from collections.abc import Iterable

from mlcv_bench.report.formats.measurements import Direction, Measurement


def to_action_benchmark(found: Iterable[Measurement], better: Direction) -> str:
    """Return the file for `customSmallerIsBetter` or `customBiggerIsBetter`; what failed is left out."""
    rows = []
    for one in found:
        if one.better != better:
            continue
        row = {"name": one.name, "unit": one.unit, "value": one.value}
        if one.low is not None and one.high is not None:
            row["range"] = f"{one.low:.6g} .. {one.high:.6g}"
        rows.append(row | {"extra": one.command})
    return json.dumps(rows, indent=1, allow_nan=False) + "\n"
