"""How far the reported latency of resnet18 moves when nothing changed: ours, torch.utils.benchmark's, timm's protocol.

Each report comes from a process of its own with the same seconds to spend. The three take turns, at one and two
threads, with and without a neighbour that keeps core 0 busy. Theirs are written out here from their documentation:
`Timer.blocked_autorange(min_run_time).median`, and the mean of 40 calls after 10.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from harness import machine, neighbour, python, record
from torch.utils.benchmark import Timer

from mlcv_bench import build
from mlcv_bench.architectures.request import Request

PROTOCOLS = ("ours", "torch", "timm")
WORDS = {
    "ours": "`mlcv-bench time`",
    "torch": "torch.utils.benchmark, median",
    "timm": "timm's protocol, mean of 40 after 10",
}
CONDITIONS = [(threads, busy) for threads in (1, 2) for busy in (False, True)]


def child(protocol: str, network: str, threads: int, seconds: float) -> None:
    """Measure once by their protocol and print the seconds they would report."""
    torch.manual_seed(0)
    model, images = build(network).eval(), torch.randn(1, *Request.of(network).input)
    with torch.inference_mode():
        if protocol == "torch":
            timer = Timer("model(images)", globals={"model": model, "images": images}, num_threads=threads)
            print(timer.blocked_autorange(min_run_time=seconds).median)
            return
        torch.set_num_threads(threads)
        for _ in range(10):
            model(images)
        start = time.perf_counter()
        for _ in range(40):
            model(images)
        print((time.perf_counter() - start) / 40)


def report(protocol: str, network: str, threads: int, seconds: float) -> tuple[float, str]:
    """Return the latency one process reports, and its flags."""
    if protocol == "ours":
        options = ["--threads", str(threads), "--seconds", str(seconds), "--precision", "0.01%", "--quiet"]
        done = subprocess.run(
            python("-m", "mlcv_bench", "time", network, *options, "--format", "json"),
            check=True,
            capture_output=True,
            text=True,
        )
        row = json.loads(done.stdout)[0]
        return row["median_s"], row["contention"]
    # They take the environment as it is: whatever the user has not set is the runtime's default.
    environment = {key: value for key, value in os.environ.items() if "OMP" not in key}
    command = python(__file__, "--child", protocol, "--network", network, "--threads", str(threads))
    done = subprocess.run(
        [*command, "--seconds", str(seconds)], check=True, capture_output=True, text=True, env=environment
    )
    return float(done.stdout), ""


def wider(ours: list[float], theirs: list[float]) -> str:
    """Return how much wider their reports scatter than ours, with its interval: turns are drawn together."""
    chance = random.Random(0)  # noqa: S311 - a bootstrap

    def ratio(turns: list[int]) -> float:
        return scatter([theirs[turn] for turn in turns]) / max(scatter([ours[turn] for turn in turns]), 1e-9)

    count = len(ours)
    drawn = sorted(ratio(chance.choices(range(count), k=count)) for _ in range(2000))
    return f"{ratio(list(range(count))):.2f} ({drawn[50]:.2f} .. {drawn[-51]:.2f})"


def scatter(values: list[float]) -> float:
    """Return the mean distance from the median, as a share of it."""
    middle = statistics.median(values)
    return statistics.fmean(abs(value - middle) for value in values) / middle


def write(said: argparse.Namespace, reports: list[dict]) -> None:
    """Write down how far the reports moved so far."""
    found: dict[tuple[int, bool, str], list[float]] = {}
    flagged = dict.fromkeys(CONDITIONS, 0)
    for one in reports:
        found.setdefault((one["threads"], one["busy"], one["protocol"]), []).append(one["seconds"])
        flagged[one["threads"], one["busy"]] += one["flags"] not in {"", "none"}
    lines = [
        "# How far the reported latency moves when nothing changed",
        "",
        f"{said.network}, batch 1, {len(found[1, False, 'ours'])} reports each, {said.seconds:g} s a report, in turn.",
        f"Machine: {machine()}. {said.note}".rstrip(),
        "",
        "| threads | neighbour | protocol | median [ms] | max - min | quartiles apart | over ours | loaded |",
        "|---:|:---|:---|---:|---:|---:|---:|---:|",
    ]
    for threads, busy in CONDITIONS:
        for protocol in PROTOCOLS:
            values = found[threads, busy, protocol]
            middle = statistics.median(values)
            low, _, high = statistics.quantiles(values, n=4)
            marks = f"{flagged[threads, busy]} of {len(values)}" if protocol == "ours" else ""
            cells = (
                f"{middle * 1e3:.2f}",
                f"{(max(values) - min(values)) / middle:.1%}",
                f"{(high - low) / middle:.1%}",
                "" if protocol == "ours" else wider(found[threads, busy, "ours"], values),
            )
            lines.append(
                f"| {threads} | {'yes' if busy else 'no'} | {WORDS[protocol]} | {' | '.join(cells)} | {marks} |"
            )
    lines += [
        "",
        "Over ours: the mean distance of their reports from their median over that of ours, each as a share of the",
        "median, with the 95% interval of a bootstrap over turns. Where it holds 1, nobody can tell whose is wider.",
    ]
    lines += ["", "Movement: by how much the neighbour moves the median report.", ""]
    lines += ["| threads | " + " | ".join(WORDS[protocol] for protocol in PROTOCOLS) + " |", "|---:|---:|---:|---:|"]
    for threads in (1, 2):
        moved = [
            statistics.median(found[threads, True, protocol]) / statistics.median(found[threads, False, protocol]) - 1
            for protocol in PROTOCOLS
        ]
        lines.append(f"| {threads} | " + " | ".join(f"{share:+.0%}" for share in moved) + " |")
    record("timing_spread", lines)


def main() -> None:
    """Take all reports in turn and write down how far they move."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--child")
    parser.add_argument("--network", default="resnet18")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--repetitions", type=int, default=20)
    parser.add_argument("--reports", type=Path, default=Path("runs/timing_spread.jsonl"), help="kept and continued")
    parser.add_argument("--note", default="")
    said = parser.parse_args()
    if said.child:
        child(said.child, said.network, said.threads, said.seconds)
        return
    said.reports.parent.mkdir(exist_ok=True)
    reports = [json.loads(line) for line in said.reports.read_text().splitlines()] if said.reports.exists() else []
    turns = [(threads, busy, protocol) for threads, busy in CONDITIONS for protocol in PROTOCOLS]
    for threads, busy, protocol in (turns * said.repetitions)[len(reports) :]:
        with neighbour(busy=busy, pinned=True):
            latency, flags = report(protocol, said.network, threads, said.seconds)
        reports.append({"threads": threads, "busy": busy, "protocol": protocol, "seconds": latency, "flags": flags})
        with said.reports.open("a") as file:
            file.write(json.dumps(reports[-1]) + "\n")
        print(reports[-1], file=sys.stderr, flush=True)
    write(said, reports)


if __name__ == "__main__":
    main()
