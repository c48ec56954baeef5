"""What a saved document measured, as single figures under names that stay the same for ever.

Three formats keep their history: github-action-benchmark's, a file for each direction, Bencher's, with intervals, and
OpenMetrics, which GitLab and Prometheus read.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mlcv_bench.comparing.differences import load_met
from mlcv_bench.comparing.saved import measured_rows, row_name, study_of
from mlcv_bench.records import interval_text, plain_text

Direction = Literal["smaller", "bigger"]
NANO = 1e9
LONGEST_NAME = 1024
"""Of a benchmark at Bencher."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """One figure of one row: its name, its unit, its 95% interval where there is one, which direction is better."""

    entry: str
    row: str
    quantity: str
    unit: str
    better: Direction
    value: float
    low: float | None = None
    high: float | None = None
    command: str = ""
    load: str = ""
    """What else the machine did, where the figure is a time that met it."""

    @property
    def name(self) -> str:
        """The name under which a history is kept: every setting is in it, so it depends on no other row."""
        return f"{self.entry}: {self.row} {self.quantity}"


def measurements(documents: Mapping[str, Mapping[str, Any]]) -> Iterator[Measurement]:
    """Yield every figure of the entries' documents; rows that failed or were skipped have none.

    Args:
        documents: what `-o X.json` saved, by the names of the entries.

    """
    for entry, document in documents.items():
        study = study_of(document)
        figures = FIGURES.get(study)
        if figures is None:
            continue
        rows = measured_rows(document)
        for row in last_epochs(rows) if rows and "epoch" in rows[0] else rows:
            name = row_name(study, row)
            for quantity, unit, better, value, low, high in figures(row):
                if value is not None:
                    load = load_met(row) if quantity in TIMED else ""
                    yield Measurement(entry, name, quantity, unit, better, value, low, high, document["command"], load)


def last_epochs(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the last row of every run on a task; the epochs before it are its history, not its result."""
    keys = ("task", "model", "optimizer", "protocol", "batch_size", "seed")
    return list({tuple(plain_text(row.get(key)) for key in keys): row for row in rows}.values())


Figure = tuple[str, str, Direction, Any, Any, Any]


def _cost(row: Mapping[str, Any]) -> Iterator[Figure]:
    yield "params", "parameters", "smaller", row.get("params"), None, None
    yield "macs", "MACs", "smaller", row.get("macs"), None, None
    yield "peak_activation_bytes", "bytes", "smaller", row.get("peak_activation_bytes"), None, None


def _time(row: Mapping[str, Any]) -> Iterator[Figure]:
    low, high, rate = row.get("ci_low_s"), row.get("ci_high_s"), row.get("images_per_s")
    yield "latency", "s", "smaller", row.get("median_s"), low, high
    bounds = (row["batch"] / high, row["batch"] / low) if low and high else (None, None)
    yield "throughput", "images/s", "bigger", rate, *bounds
    yield "peak_bytes", "bytes", "smaller", row.get("peak_bytes"), None, None


def _ab(row: Mapping[str, Any]) -> Iterator[Figure]:
    yield "ratio", "times", "smaller", row.get("ratio"), row.get("ci_low"), row.get("ci_high")


def _race(row: Mapping[str, Any]) -> Iterator[Figure]:
    if "surface" in row:
        yield "first_hit", "steps", "smaller", row.get("first_hit"), None, None
    else:
        yield "val_accuracy", "share", "bigger", row.get("val_accuracy"), None, None


TIMED = ("latency", "throughput")
FIGURES = {"cost": _cost, "time": _time, "ab": _ab, "optim-race": _race}
"""Which figures a study's rows hold; the studies that only say yes or no hold none."""


def to_action_benchmark(found: Iterable[Measurement], better: Direction) -> str:
    """Return the file for `customSmallerIsBetter` or `customBiggerIsBetter`; what failed is left out."""
    rows = []
    for one in found:
        if one.better != better:
            continue
        row = {"name": one.name, "unit": one.unit, "value": one.value}
        if one.low is not None and one.high is not None:
            row["range"] = interval_text(one.low, one.high, ".6g")
        rows.append(row | {"extra": one.command + (f"; met other load ({one.load})" if one.load else "")})
    return json.dumps(rows, indent=1, allow_nan=False) + "\n"


def to_bencher(found: Iterable[Measurement]) -> str:
    """Return `{benchmark: {measure: {value, lower_value, upper_value}}}`; latency in nanoseconds, as Bencher's.

    A time that met other load has a measure `contended` of 1 beside it, any other time 0, as there is no other place.
    """
    benchmarks: dict[str, dict[str, dict[str, float]]] = {}
    for one in found:
        scale = NANO if one.unit == "s" else 1.0
        metric = {"value": one.value * scale}
        if one.low is not None and one.high is not None:
            metric |= {"lower_value": one.low * scale, "upper_value": one.high * scale}
        name = f"{one.entry}: {one.row}"[:LONGEST_NAME]
        measures = benchmarks.setdefault(name, {})
        measures[one.quantity.replace("_", "-")] = metric
        if one.quantity in TIMED:
            measures["contended"] = {"value": float(bool(one.load))}
    return json.dumps(benchmarks, indent=1, allow_nan=False) + "\n"


def to_openmetrics(found: Iterable[Measurement]) -> str:
    """Return every figure as a gauge of the OpenMetrics text format 1.0, with its entry and row as labels."""
    families: dict[str, list[str]] = {}
    for one in found:
        name = f"mlcv_bench_{one.quantity}{'_seconds' if one.unit == 's' else ''}"
        labels = f'entry="{_label(one.entry)}",row="{_label(one.row)}"'
        families.setdefault(name, []).append(f"{name}{{{labels}}} {float(one.value)!r}")
    lines = [line for name, samples in families.items() for line in (f"# TYPE {name} gauge", *samples)]
    return "\n".join([*lines, "# EOF", ""])


def _label(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
