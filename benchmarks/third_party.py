"""Whole lists of optimizers on rosenbrock and rastrigin, one command each: which run, and how long it takes.

pytorch_optimizer races where PYTHONPATH finds it: `pip install --no-deps --target FOLDER pytorch_optimizer==4.1.0`.
"""

from __future__ import annotations

import csv
import importlib.util
import sys
import tempfile
from pathlib import Path

from harness import machine, python, record, wall_seconds

MODULES = ("torch.optim", "pytorch_optimizer")
SURFACES = ("rosenbrock", "rastrigin")


def raced(module: str, surface: str, *options: str) -> tuple[float, list[dict[str, str]]]:
    """Race a module's list; return the seconds of the whole command, and its rows."""
    with tempfile.TemporaryDirectory() as folder:
        saved = Path(folder) / "race.csv"
        command = ("-m", "mlcv_bench", "optim-race", "--surface", surface, "--optimizer", f"{module}:all")
        seconds = wall_seconds(python(*command, "-o", str(saved), *options))
        return seconds, list(csv.DictReader(saved.open()))


def main() -> None:
    """Race every list that is installed, print and record."""
    options = sys.argv[1:] or ["--protocol", "default"]
    lines = [
        "# Whole lists of optimizers, one command each",
        "",
        f"{machine()}. `optim-race --surface S --optimizer MODULE:all {' '.join(options)}`, whole command.",
        "",
        "| list | surface | run | cannot run | arrive | seconds |",
        "|---|---|---:|---:|---:|---:|",
    ]
    reasons: dict[str, str] = {}
    for module in MODULES:
        if importlib.util.find_spec(module) is None:
            lines.append(f"| {module} | not installed | | | | |")
            continue
        for surface in SURFACES:
            seconds, rows = raced(module, surface, *options)
            unable = {row["optimizer"]: row["reason"] for row in rows if row["status"] == "skipped"}
            reasons |= unable
            run = {row["optimizer"] for row in rows if row["status"] == "done"}
            arrive = {row["optimizer"] for row in rows if row["last_exit"]}
            lines.append(f"| {module} | {surface} | {len(run)} | {len(unable)} | {len(arrive)} | {seconds:.0f} |")
            print(lines[-1], flush=True)
    lines += ["", "Cannot run:", "", *(f"- {reason}" for reason in reasons.values())]
    record("third_party", lines)


if __name__ == "__main__":
    main()
