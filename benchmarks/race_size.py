"""How large a race may be: the whole command against its kernels alone, its memory, a million starts, equal bytes."""

from __future__ import annotations

import hashlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from harness import machine, python, record

from mlcv_bench.environment import usable_cores

STARTS = 100_000
TIMED = """
import sys, time
from mlcv_bench.cli.app import run
from mlcv_bench.surface_race import lanes

launch, seconds = lanes.launch, []

def timed(*arguments):
    begun = time.perf_counter()
    launch(*arguments)
    seconds.append(time.perf_counter() - begun)

lanes.launch = timed
code = run(sys.argv[1:])
print(sum(seconds), file=sys.stderr)
sys.exit(code)
"""
"""The command in a process that also says how long its kernels ran, on all threads; nothing else runs meanwhile."""


@dataclass
class Measured:
    """One command: wall seconds, seconds of its kernels alone, the most memory that it held."""

    whole: float
    kernels: float
    gib: float


def race(*arguments: str) -> Measured:
    """Run a race and measure it."""
    command = python("-c", TIMED, "optim-race", "--surface", "canyon", "--quiet", *arguments)
    begun = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        said = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - begun
    if process.returncode:
        raise SystemExit(said)
    return Measured(seconds, float(said.splitlines()[-1]), usage.ru_maxrss / 2**20)


def digest(threads: int, folder: str) -> str:
    """Return the hash of a race's CSV, run on so many threads."""
    path = Path(folder) / "race.csv"
    race("--starts", "5000", "--threads", str(threads), "-o", str(path))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main() -> None:
    """Measure, print and record."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    cores = usable_cores()
    race("--starts", "5000", "--steps", "20", "--engine", "lanes")  # compiles every kernel
    with tempfile.TemporaryDirectory() as folder:
        whole = [race("--starts", str(STARTS)) for _ in range(rounds)]
        saved = race("--starts", str(STARTS), "-o", str(Path(folder) / "race.csv"))
        million = [race("--starts", "1000000", "--optimizer", "adam", "--protocol", "default") for _ in range(rounds)]
        equal = len({digest(threads, folder) for threads in (1, cores, 3)}) == 1
    middle = sorted(whole, key=lambda one: one.whole / one.kernels)[rounds // 2]
    ratio = middle.whole / middle.kernels
    seconds = statistics.median(one.whole for one in million)
    kernels = statistics.median(one.kernels for one in million)
    most, most_million = (max(one.gib for one in runs) for runs in (whole, million))
    rows = [
        (
            f"{STARTS:,} starts, 8 optimizers, 3 protocols: whole command / its kernels alone",
            f"{middle.whole:.1f} s / {middle.kernels:.1f} s = {ratio:.2f}",
            "at most 1.3",
        ),
        ("its most memory", f"{most:.2f} GiB", "under 1 GiB"),
        (f"with every run saved as CSV, in {saved.whole:.1f} s", f"{saved.gib:.2f} GiB", "under 1 GiB"),
        (
            "1,000,000 starts of Adam, default settings",
            f"{seconds:.1f} s, of which kernels {kernels:.1f} s; {most_million:.2f} GiB",
            "under 10 s on two cores",
        ),
        (f"CSV of 5,000 starts on 1, {cores} and 3 threads", "equal" if equal else "DIFFERENT", "the same bytes"),
    ]
    lines = [
        f"Machine: {machine()}; load {os.getloadavg()[0]:.1f}.",
        f"Whole processes, kernels compiled before, {cores} threads, medians of {rounds} runs; canyon, 1000 steps.",
        "",
        "| what | measured | target |",
        "| --- | --- | --- |",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]
    record("race_size", lines)


if __name__ == "__main__":
    main()
