"""What every benchmark script shares: commands timed in turn, ratios pair by pair, the machine's description."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlcv_bench import environment

RESULTS = Path(__file__).parent / "results"
NEIGHBOUR = "parent = os.getppid()\nwhile os.getppid() == parent: pass"
PINNED = "import os\nif hasattr(os, 'sched_setaffinity'): os.sched_setaffinity(0, {0})\n"


def machine() -> str:
    """Describe the machine in one line."""
    found = environment.capture()
    versions = ", ".join(f"{name} {found.versions[name]}" for name in ("torch", "numpy") if name in found.versions)
    return f"{found.cpu}, {found.usable_cores} usable cores, Python {found.python}, {versions}"


def wall_seconds(command: list[str]) -> float:
    """Run a command once and return its wall time; its output is thrown away."""
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ)
    return time.perf_counter() - start


def paired(one: list[str], other: list[str], runs: int = 15) -> tuple[float, float, float, float, float]:
    """Run two commands in turn; return both medians, the median ratio one / other, and its quartiles."""
    for command in (one, other):
        wall_seconds(command)
    pairs = [(wall_seconds(one), wall_seconds(other)) for _ in range(runs)]
    ratios = sorted(a / b for a, b in pairs)
    low, middle, high = statistics.quantiles(ratios, n=4)
    return statistics.median(a for a, _ in pairs), statistics.median(b for _, b in pairs), middle, low, high


@contextmanager
def neighbour(*, busy: bool, pinned: bool = False) -> Iterator[None]:
    """Keep a core busy inside, if asked; core 0 where it is `pinned`. It ends with whoever started it."""
    code = (PINNED if pinned else "import os\n") + NEIGHBOUR
    process = subprocess.Popen([sys.executable, "-c", code]) if busy else None
    try:
        yield
    finally:
        if process is not None:
            process.kill()
            process.wait()


def python(*arguments: str) -> list[str]:
    """Return a command for this interpreter."""
    return [sys.executable, *arguments]


def record(name: str, lines: list[str]) -> None:
    """Print the lines and write them to results/NAME.md."""
    text = "\n".join([*lines, ""])
    print(text)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.md").write_text(text, encoding="utf-8")
