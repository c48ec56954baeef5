"""Bencher's metric format: the one among them that carries intervals."""

from __future__ import annotations

import json
from collections.abc import Iterable

from mlcv_bench.report.formats.measurements import Measurement

NANO = 1e9
LONGEST_NAME = 1024


def to_bencher(found: Iterable[Measurement]) -> str:
    """Return `{benchmark: {measure: {value, lower_value, upper_value}}}`; latency in nanoseconds, as Bencher's."""
    benchmarks: dict[str, dict[str, dict[str, float]]] = {}
    for one in found:
        scale = NANO if one.unit == "s" else 1.0
        metric = {"value": one.value * scale}
        if one.low is not None and one.high is not None:
            metric |= {"lower_value": one.low * scale, "upper_value": one.high * scale}
        name = f"{one.entry}: {one.row}"[:LONGEST_NAME]
        benchmarks.setdefault(name, {})[one.quantity.replace("_", "-")] = metric
    return json.dumps(benchmarks, indent=1, allow_nan=False) + "\n"
