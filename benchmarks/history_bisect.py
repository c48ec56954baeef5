"""`git bisect run mlcv-bench history bisect` on a real repository of twelve commits, of which one is slower.

The suite runs at the first and the last commit only, several times each; git finds the slow one between them.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from harness import machine, record
from history_repository import bench, git

from mlcv_bench.history.database import History

COMMITS, SLOWER = 12, 7
MODEL = '''"""A network that works {rounds} rounds; commit {number}."""

from torch import nn


class Net(nn.Module):
    """Convolutions, round after round."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, images):
        for _ in range({rounds}):
            images = self.layer(images).tanh()
        return images
'''
SUITE = """
[entries.cost]
command = "flops model.py:Net --input 3x64x64"
[entries.speed]
command = "time model.py:Net --input 3x64x64 --threads 1 --seconds 3"
"""
PARTS = {"macs": "cost", "median_s": "speed"}


def main() -> None:
    """Make the repository, measure its ends, bisect, and record; end with 1 where git names another commit."""
    lines = ["# `git bisect run` on twelve commits", ""]
    good = True
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        git(folder, "init", "-q", "-b", "main")
        (folder / ".gitignore").write_text("bench.sqlite\n__pycache__\n")
        (folder / "suite.toml").write_text(SUITE)
        commits = []
        for number in range(COMMITS):
            rounds = 20 if number < SLOWER else 26
            (folder / "model.py").write_text(MODEL.format(rounds=rounds, number=number))
            git(folder, "add", "-A")
            git(folder, "commit", "-q", "-m", f"Change {number}")
            commits.append(git(folder, "rev-parse", "HEAD"))
        for at in (0, COMMITS - 1):
            git(folder, "checkout", "-q", commits[at])
            os.environ["GITHUB_REF_NAME"] = "main"
            ran = bench(folder, "run", "suite.toml", "--history", "bench.sqlite", "-q")
            print(ran.stdout, ran.stderr, file=sys.stderr)
        for column, entry in PARTS.items():
            with History(folder / "bench.sqlite") as history:
                row = next(one.row for one in history.every_figure() if (one.entry, one.column) == (entry, column))
            printed = bench(folder, "history", "bisect", "--row", row, "--column", column, "--bad-above", "5%")
            print(printed.stdout, printed.stderr, file=sys.stderr)
            if printed.returncode:
                good = False
                lines += [f"## By `{column}`, entry `{entry}`", "", f"NOT TRIED: {printed.stderr.strip()}", ""]
                continue
            start, step, reset = printed.stdout.splitlines()
            git(folder, *shlex.split(start)[1:])
            # What is typed as mlcv-bench is this checkout's.
            words = shlex.split(step)[1:]
            command = [*words[:2], sys.executable, "-m", "mlcv_bench", *words[3:]]
            here = str(Path(__file__).resolve().parents[1])
            done = subprocess.run(
                ["git", "-C", str(folder), *command],  # noqa: S607 - found on the PATH
                capture_output=True,
                text=True,
                check=False,
                env=os.environ | {"PYTHONPATH": here},
            )
            git(folder, *shlex.split(reset)[1:])
            named = next((line.split()[0] for line in done.stdout.splitlines() if "first bad commit" in line), "none")
            right = named == commits[SLOWER]
            good &= right
            steps = [line for line in done.stderr.splitlines() if line.startswith(("good:", "bad:", "skip:"))]
            told = f"git names commit {commits.index(named) if right else named}, the slower one is {SLOWER}"
            lines += [
                f"## By `{column}`, entry `{entry}`",
                "",
                "```text",
                printed.stdout.strip(),
                "```",
                "",
                f"{len(steps)} steps ({', '.join(one.partition(':')[0] for one in steps)}); {told}.",
                "",
            ]
    record("history_bisect", [*lines, f"{machine()}."])
    sys.exit(not good)


if __name__ == "__main__":
    main()
