"""What `verify` costs: wall and processor seconds of the command, fresh processes in turn."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import time

from harness import machine, record

COMMANDS = {"verify resnext": ["resnext"], "verify all": ["all"]}
RUNS = 3


def once(arguments: list[str]) -> tuple[float, float]:
    """Run the command once; return its wall seconds and its user processor seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "mlcv_bench", "verify", *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before


def main() -> dict[str, list[tuple[float, float]]]:
    """Measure every command `RUNS` times in turn and record the medians."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in COMMANDS}
    for _ in range(RUNS):
        for name, arguments in COMMANDS.items():
            found[name].append(once(arguments))
    lines = [
        "# The time of `verify`",
        "",
        f"{machine()}.",
        f"Load average {os.getloadavg()[0]:.1f} at the end. {RUNS} fresh processes each, in turn; one thread each.",
        "",
        "| command | wall, median [s] | wall, least [s] | user processor time, median [s] | least [s] |",
        "| :--- | ---: | ---: | ---: | ---: |",
    ]
    for name, runs in found.items():
        wall, user = ([run[place] for run in runs] for place in (0, 1))
        lines.append(
            f"| `{name}` | {statistics.median(wall):.1f} | {min(wall):.1f} "
            f"| {statistics.median(user):.1f} | {min(user):.1f} |"
        )
    record("verification", lines)
    return found


if __name__ == "__main__":
    main()
