"""How far the reported latency of resnet18 moves when nothing changed: ours, torch.utils.benchmark's, timm's protocol.

Each report comes from a process of its own with the same seconds to spend. The three take turns, at one and two
threads, with and without a neighbour that keeps core 0 busy. Theirs are written out here from their documentation:
`Timer.blocked_autorange(min_run_time).median`, and the mean of 40 calls after 10.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager

import torch
from harness import machine, python, record
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
NEIGHBOUR = "import os\nif hasattr(os, 'sched_setaffinity'): os.sched_setaffinity(0, {0})\nwhile True: pass"


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


@contextmanager
def neighbour(*, busy: bool):
    """Keep core 0 busy inside, if asked."""
    process = subprocess.Popen([sys.executable, "-c", NEIGHBOUR]) if busy else None
    try:
        yield
    finally:
        if process is not None:
            process.kill()
            process.wait()


def write(said: argparse.Namespace, found: dict[tuple[int, bool, str], list[float]], flagged: dict) -> None:
    """Write down how far the reports moved so far."""
    lines = [
        "# How far the reported latency moves when nothing changed",
        "",
        f"{said.network}, batch 1, {len(found[1, False, 'ours'])} reports each, {said.seconds:g} s a report, in turn.",
        f"Machine: {machine()}. {said.note}".rstrip(),
        "",
        "| threads | neighbour | protocol | median report [ms] | (max - min) / median | quartiles apart | flagged |",
        "|---:|:---|:---|---:|---:|---:|---:|",
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
            )
            lines.append(
                f"| {threads} | {'yes' if busy else 'no'} | {WORDS[protocol]} | {' | '.join(cells)} | {marks} |"
            )
    lines += ["", "Movement: the median report beside the neighbour over the one without.", ""]
    lines += ["| threads | " + " | ".join(WORDS[protocol] for protocol in PROTOCOLS) + " |", "|---:|---:|---:|---:|"]
    for threads in (1, 2):
        moved = [
            statistics.median(found[threads, True, protocol]) / statistics.median(found[threads, False, protocol])
            for protocol in PROTOCOLS
        ]
        lines.append(f"| {threads} | " + " | ".join(f"{ratio:.2f}" for ratio in moved) + " |")
    record("timing_spread", lines)


def main() -> None:
    """Take all reports in turn and write down how far they move."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--child")
    parser.add_argument("--network", default="resnet18")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--repetitions", type=int, default=20)
    parser.add_argument("--note", default="")
    said = parser.parse_args()
    if said.child:
        child(said.child, said.network, said.threads, said.seconds)
        return
    found: dict[tuple[int, bool, str], list[float]] = {}
    flagged: dict[tuple[int, bool], int] = {}
    for _ in range(said.repetitions):
        for threads, busy in CONDITIONS:
            with neighbour(busy=busy):
                for protocol in PROTOCOLS:
                    latency, flags = report(protocol, said.network, threads, said.seconds)
                    found.setdefault((threads, busy, protocol), []).append(latency)
                    if protocol == "ours":
                        flagged[threads, busy] = flagged.get((threads, busy), 0) + (flags != "none")
                    print(threads, busy, protocol, f"{latency * 1e3:.2f} ms", flags, file=sys.stderr, flush=True)
        if len(found[1, False, "ours"]) > 1:
            write(said, found, flagged)


if __name__ == "__main__":
    main()
