"""kill -9 of the main process at random moments, then --resume, until the race is complete.

Run `python benchmarks/task_kill_resume.py [rounds]`. Each round compares the CSV with that of an undisturbed run, byte
by byte, and looks in the store for a run that was trained twice.
"""

from __future__ import annotations

import collections
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness import machine, python, record

RACE = [
    *("-m", "mlcv_bench", "optim-race", "--task", "digits", "--optimizer", "sgd", "--optimizer", "nesterov"),
    *("--optimizer", "adam", "--epochs", "3", "--rates", "12", "--seeds", "2", "--format", "csv", "--quiet"),
]
SLOWEST = 400


def run(store: Path, *, resume: bool, kill_after: float | None) -> tuple[int, bytes]:
    """Run the race, killed after so many seconds; return its exit code and its CSV."""
    command = python(*RACE, "--store", str(store), *(["--resume"] if resume else []))
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        out, _ = process.communicate(timeout=kill_after or SLOWEST)
    except subprocess.TimeoutExpired:
        os.kill(process.pid, signal.SIGKILL)
        out, _ = process.communicate()
    return process.returncode, out


def orphans() -> int:
    """Return how many worker processes of dead races still live."""
    found = 0
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                text = (entry / "cmdline").read_bytes()
                parent = (entry / "stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[1]
            except OSError:
                continue
            found += b"multiprocessing.spawn" in text and parent == "1"
    return found


def main(rounds: int) -> None:
    """Kill and resume some races, and record what was lost: nothing, if all is well."""
    chance = random.Random(8)  # noqa: S311 - moments to kill at
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        start = time.perf_counter()
        code, expected = run(folder / "whole.jsonl", resume=False, kill_after=None)
        whole = time.perf_counter() - start
        if code:
            raise SystemExit(f"the undisturbed race ended with {code}")
        kills, repeated, different, left = 0, 0, 0, 0
        for number in range(rounds):
            store = folder / f"{number}.jsonl"
            code, out = -9, b""
            while code == -signal.SIGKILL:
                # The first second is imports; a kill there would only repeat them.
                resume = store.exists()
                code, out = run(store, resume=resume, kill_after=chance.uniform(1.0, 0.8 * whole))
                kills += code == -signal.SIGKILL
            time.sleep(1.0)
            left = max(left, orphans())
            keys = [line["key"] for line in map(json.loads, store.read_text().splitlines()) if line["kind"] == "job"]
            repeated += sum(count - 1 for count in collections.Counter(keys).values())
            different += out != expected or code != 0
            print(f"round {number}: {kills} kills so far, {len(keys)} jobs stored, exit code {code}", flush=True)
    lines = [
        "# kill -9 of the main process, then --resume",
        "",
        f"{machine()}, two workers. An undisturbed race takes {whole:.1f} s.",
        "",
        (
            f"{rounds} races, {kills} kills at random moments: {different} CSV files differ from the undisturbed "
            f"race's, {repeated} jobs stored twice, {left} worker processes left behind."
        ),
    ]
    record("task_kill_resume", lines)
    if different or repeated or left:
        raise SystemExit(1)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
