"""What `history show` and `history check` take on 100,000 figures, and that it depends on what is shown alone."""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from harness import machine, python, record, wall_seconds

from mlcv_bench.history.commits import Commit, date_of
from mlcv_bench.history.database import History, NewResult

CELLS = 25
"""Timed networks a commit, each with two figures more: 100 figures."""
FIGURES = 100_000
LIMIT_S = 2.0
HEAVY = ("torch", "pandas", "matplotlib", "ruptures")


def document(commit: int) -> dict:
    """Return a saved timing of one commit."""
    rows = [
        {"architecture": f"net{cell}", "input": "3x32x32", "batch": 1, "threads": 1, "status": "done", "basis": "cpu"}
        | {"median_s": 0.01 * (1 + ((7 * commit + cell) % 11) / 200), "params": 1000 + cell, "macs": 5000}
        for cell in range(CELLS)
    ]
    environment = {"cpu": "A processor", "versions": {"torch": "2"}, "time": str(commit)}
    return {"schema": "mlcv-bench/time", "version": 1, "command": "mlcv-bench time", "environment": environment} | {
        "columns": list(rows[0]),
        "runs": rows,
    }


def commit(number: int) -> Commit:
    """Return a made-up commit."""
    return Commit(f"{number:040x}", (f"{number - 1:040x}",), date_of(number), date_of(number), "main")


def filled(path: Path, commits: int) -> Path:
    """Write a history of so many commits."""
    with History(path, create=True) as history:
        history.add([NewResult(commit(at), dirty=False, document=document(at)) for at in range(commits)])
    return path


def loaded(command: list[str]) -> str:
    """Return which heavy modules a command loads."""
    words = command[command.index("mlcv_bench") + 1 :]
    code = (
        f"import sys; from mlcv_bench.cli.app import run; run({words!r});"
        f"print(*[name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stderr.strip() or "none of them"


def main() -> None:
    """Fill, time and record; end with 1 where a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7)
    runs = parser.parse_args().runs
    lines = [
        "# A history of 100,000 figures",
        "",
        f"{CELLS} timed networks with four figures each at every commit; wall time of the whole command, median and",
        f"extremes of {runs}; the limit is {LIMIT_S:g} s.",
        "",
        "| command | figures stored | time [s] | least .. most | loads of torch, pandas, matplotlib, ruptures |",
        "|:---|---:|---:|---:|:---|",
    ]
    met = True
    with tempfile.TemporaryDirectory() as folder:
        for commits in (FIGURES // 10 // (4 * CELLS), FIGURES // (4 * CELLS)):
            path = filled(Path(folder) / f"{commits}.sqlite", commits)
            for words in ("show", "check", "check --last 1000"):
                command = python("-m", "mlcv_bench", "history", *words.split(), "--history", str(path))
                subprocess.run(command, check=False, capture_output=True)
                times = sorted(wall_seconds(command) for _ in range(runs))
                middle = statistics.median(times)
                met &= middle < LIMIT_S or "1000" in words
                spread = f"{times[0]:.2f} .. {times[-1]:.2f}"
                lines.append(
                    f"| `history {words}` | {4 * CELLS * commits:,} | {middle:.2f} | {spread} | {loaded(command)} |"
                )
    lines += ["", f"{'Met' if met else 'Missed'}. {machine()}."]
    record("history_size", lines)
    sys.exit(not met)


if __name__ == "__main__":
    main()
