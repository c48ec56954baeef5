"""pyperf's JSON, so that `pyperf compare_to`, `stats` and `hist` read our timings."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from typing import Any

from mlcv_bench.comparing.differences import load_met
from mlcv_bench.comparing.saved import row_name
from mlcv_bench.timing.blocks import Block

FEWEST_CLEAN = 3


def to_pyperf(documents: Mapping[str, Mapping[str, Any]]) -> str:
    """Return all timings of the documents as one pyperf suite.

    Each block becomes a run, each call a value, or the whole block where the figure is by the processor's clock; only
    the blocks that our own estimate rests on go in. pyperf compares means, we medians of blocks, so its ratio may
    differ a little from ours.
    """
    benchmarks = [
        _benchmark(f"{entry}: {row_name('time', row)}", row, document)
        for entry, document in documents.items()
        if document["schema"] == "mlcv-bench/time"
        for row in document["runs"]
        if row.get("status") == "done"
    ]
    return json.dumps({"version": "1.0", "metadata": {"unit": "second"}, "benchmarks": benchmarks}) + "\n"


def used_blocks(blocks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the blocks that the estimate rests on: the clean ones, or all while fewer than three are clean."""
    clean = [block for block in blocks if not block["contention"]["flags"]]
    return clean if len(clean) >= FEWEST_CLEAN else blocks


def values_of(block: dict[str, Any], row: Mapping[str, Any]) -> list[float]:
    """Return what a block's calls took by the clock of the row's figure: of the processor's, one value a block."""
    if row.get("basis") == "cpu":
        return [Block.from_dict(block).seconds_by("cpu")]
    calls: list[float] = block["calls_s"]
    return calls


def _benchmark(name: str, row: Mapping[str, Any], document: Mapping[str, Any]) -> dict[str, Any]:
    environment = document["environment"]
    when = dt.datetime.fromisoformat(environment["time"]).replace(tzinfo=None)
    metadata = {
        "name": name,
        "loops": 1,
        "date": when.isoformat(sep=" ", timespec="microseconds"),
        "hostname": environment["host"],
        "platform": environment["system"],
        "cpu_model_name": environment["cpu"],
        "cpu_count": environment["logical_cores"],
        "python_version": environment["python"],
        "mlcv_bench_command": document["command"],
        "mlcv_bench_clock": row.get("basis"),
        "mlcv_bench_contention": load_met(row),
        **{f"{package}_version": version for package, version in environment["versions"].items()},
    }
    blocks = used_blocks(document["details"]["cells"][row["key"]]["blocks"])
    runs: list[dict[str, Any]] = [
        {"metadata": {"duration": sum(block["calls_s"])}, "values": values_of(block, row)} for block in blocks
    ]
    if row.get("first_call_s"):
        runs[0]["warmups"] = [[1, row["first_call_s"]]]
    return {"metadata": {key: value for key, value in metadata.items() if value}, "runs": runs}
