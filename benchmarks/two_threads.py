"""resnet18 on two threads: `time` beside torch.utils.benchmark, in turn, quiet and beside a neighbour on one core.

Every report comes from a process of its own with the same seconds to spend. Reports are kept and continued.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

from harness import machine, neighbour, python, record
from timing_spread import WORDS, report

NETWORK, THREADS, SECONDS = "resnet18", 2, 3.0
PROTOCOLS = ("ours", "torch")


def row(protocol: str) -> dict:
    """Return the row that a process of this protocol reports."""
    if protocol == "torch":
        return {"median_s": report(protocol, NETWORK, THREADS, SECONDS)[0]}
    options = ["--threads", str(THREADS), "--seconds", str(SECONDS), "--precision", "0.01%", "--quiet"]
    command = python("-m", "mlcv_bench", "time", NETWORK, *options, "--format", "json")
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)[0]


def main() -> None:
    """Take all reports in turn and write down how they agree, and how far the neighbour moves them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=20)
    parser.add_argument("--reports", type=Path, default=Path("runs/two_threads.jsonl"), help="kept and continued")
    parser.add_argument("--note", default="")
    said = parser.parse_args()
    said.reports.parent.mkdir(exist_ok=True)
    reports = [json.loads(line) for line in said.reports.read_text().splitlines()] if said.reports.exists() else []
    turns = [(busy, protocol) for busy in (False, True) for protocol in PROTOCOLS]
    for busy, protocol in (turns * said.repetitions)[len(reports) :]:
        with neighbour(busy=busy, pinned=True):
            reports.append((busy, protocol, row(protocol)))
        with said.reports.open("a") as file:
            file.write(json.dumps(reports[-1]) + "\n")
        print(busy, protocol, reports[-1][2]["median_s"], file=sys.stderr, flush=True)
    rows = {turn: [one for *key, one in reports if tuple(key) == turn] for turn in turns}
    seconds = {turn: [one["median_s"] for one in found] for turn, found in rows.items()}
    quiet, beside = rows[False, "ours"], rows[True, "ours"]
    pairs = [a / b for a, b in zip(seconds[False, "ours"], seconds[False, "torch"], strict=True)]
    alone = statistics.median(seconds[False, "ours"])
    estimates = [one["unloaded_s"] / alone for one in beside if one.get("unloaded_s")]
    lines = [
        "# Two threads, torch's own wait policy, beside torch.utils.benchmark",
        "",
        f"{NETWORK}, batch 1, {len(quiet)} reports each, {SECONDS:g} s a report, in turn. Machine: {machine()}.",
        said.note,
        "",
        "| neighbour | protocol | median [ms] | smallest | largest | flagged |",
        "|:---|:---|---:|---:|---:|---:|",
    ]
    for (busy, protocol), found in seconds.items():
        marks = sum(one["contention"] != "none" for one in rows[busy, protocol]) if protocol == "ours" else ""
        figures = " | ".join(f"{value * 1e3:.1f}" for value in (statistics.median(found), min(found), max(found)))
        lines.append(f"| {'yes' if busy else 'no'} | {WORDS[protocol]} | {figures} | {marks} |")
    moved = [statistics.median(seconds[True, one]) / statistics.median(seconds[False, one]) - 1 for one in PROTOCOLS]
    lines += [
        "",
        f"Quiet, ours over torch's, report by report: median {statistics.median(pairs):.3f}.",
        f"The neighbour moves our median report by {moved[0]:+.0%}, torch's by {moved[1]:+.0%}.",
    ]
    if estimates:
        spread = f"{min(estimates):.2f} .. {max(estimates):.2f}"
        lines.append(
            f"The estimate of what it takes alone (`unloaded_s`, {len(estimates)} reports beside the neighbour), over "
            f"our quiet median: median {statistics.median(estimates):.2f} ({spread})."
        )
    record("two_threads", lines)


if __name__ == "__main__":
    main()
