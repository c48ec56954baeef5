"""A repository of 40 commits, made here: one network gets bigger, one 8% slower, one numerically wrong.

Each commit is checked out in turn and its suite run with `--history`; then `history check` has to name the three
commits, in its table, on its page and by its exit code, and nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from harness import machine, python, record

COMMITS = 40
BIGGER, WRONG, SLOWER = 0.25, 0.425, 0.6
"""At which share of the commits each goes bad."""
MODEL = '''"""Three small networks of a made-up project."""

import torch
from torch import nn


def big():
    """A network that grows at one commit."""
    return nn.Sequential(nn.Conv2d(3, {width}, 3), nn.ReLU(), nn.Flatten(), nn.Linear({width} * 14 * 14, 10))


def exact():
    """A network whose activation is another at one commit."""
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.{activation}(), nn.Flatten(), nn.Linear(8 * 14 * 14, 10))


class Slow(nn.Module):
    """A network that works {rounds} rounds, in which no MAC is."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, padding=1)

    def forward(self, images):
        found = self.first(images)
        for _ in range({rounds}):
            found = torch.tanh(found)
        return found


def slow():
    """A network that is 8% slower from one commit on."""
    return Slow()
'''
ROUNDS = (100, 108)
"""Before and after: 8% more, which only a clock can see."""
NEAR = 3
"""Commits by which the place of a slow-down may be missed."""
SUITE = """
title = "made"
[entries.big]
command = "flops model.py:big --input 3x16x16"
[entries.exact]
command = "verify model.py:exact --fingerprint --input 3x16x16"
[entries.slow]
command = "time model.py:slow --input 3x48x48 --threads 1 --seconds {seconds}"
"""


def git(folder: Path, *words: str) -> str:
    """Run git in a folder."""
    names = ("-c", "user.name=A", "-c", "user.email=a@b.c")
    command = ["git", "-C", str(folder), *names, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def model(number: int, bad: Sequence[int]) -> str:
    """Return the source of the networks at a commit; `bad` says when each goes bad."""
    bigger, wrong, slower = bad
    return MODEL.format(
        width=8 if number < bigger else 9,
        activation="ReLU" if number < wrong else "LeakyReLU",
        rounds=ROUNDS[number >= slower],
    )


def made(folder: Path, seconds: float, commits: int, bad: Sequence[int]) -> list[str]:
    """Make the repository and return its commits."""
    git(folder, "init", "-q", "-b", "main")
    (folder / ".gitignore").write_text("bench.sqlite\n*.json\n*.html\n")
    (folder / "suite.toml").write_text(SUITE.format(seconds=seconds))
    found = []
    for number in range(commits):
        (folder / "model.py").write_text(model(number, bad))
        (folder / "notes.txt").write_text(f"commit {number}\n")
        git(folder, "add", "-A")
        git(folder, "commit", "-q", "-m", f"Change {number}")
        found.append(git(folder, "rev-parse", "HEAD"))
    return found


def bench(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command of mlcv-bench in a folder."""
    here = str(Path(__file__).resolve().parents[1])
    environment = os.environ | {"PYTHONPATH": here}
    command = python("-m", "mlcv_bench", *words)
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=environment)


def main() -> None:
    """Make the repository, run it through, check it, and record; end with 1 where something is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="of timing at every commit")
    parser.add_argument("--commits", type=int, default=COMMITS)
    said = parser.parse_args()
    bad = [round(share * said.commits) for share in (BIGGER, WRONG, SLOWER)]
    bigger, wrong, slower = bad
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        commits = made(folder, said.seconds, said.commits, bad)
        codes = []
        for commit in commits:
            git(folder, "checkout", "-q", commit)
            # Detached, as a CI system checks out; the branch is given as it gives it.
            os.environ["GITHUB_REF_NAME"] = "main"
            ran = bench(folder, "run", "suite.toml", "--history", "bench.sqlite", "-q")
            codes.append(ran.returncode)
            print(commit[:10], ran.returncode, ran.stderr.strip(), file=sys.stderr, flush=True)
        check = ("history", "check", "--history", "bench.sqlite", "-o", "jumps.json", "-o", "jumps.html")
        found = bench(folder, *check)
        rows = json.loads((folder / "jumps.json").read_text())["runs"]
        page = (folder / "jumps.html").read_text()
        repaired = bench(folder, *check[:4], "--since", commits[slower + NEAR])
    named = {(row["row"].split()[0].split(":")[-1], commits.index(row["commit"])) for row in rows}
    wanted = {("big", bigger), ("exact", wrong), ("slow", slower)}
    near = {(who, slower if who == "slow" and abs(at - slower) <= NEAR else at) for who, at in named}
    tests = {
        "every suite ran": not any(codes),
        "the slow one is named by its time": {row["column"] for row in rows if ":slow" in row["row"]} == {"median_s"},
        "the three commits are named, and nothing else": near == wanted and len(named) == len(wanted),
        "the table names them": all(row["commit"][:10] in found.stdout for row in rows),
        "the page names them": all(row["commit"][:10] in page for row in rows),
        "exit code 1": found.returncode == 1,
        "exit code 0 once they are accepted": repaired.returncode == 0,
    }
    lines = [
        "# A repository made by a script, three of its commits bad",
        "",
        f"One network gets bigger at commit {bigger}, one computes otherwise from {wrong} on, one is 8% slower from",
        f"{slower} on ({ROUNDS[1]} rounds for {ROUNDS[0]}); {said.seconds:g} s of timing a commit. `history check`:",
        "",
        "```text",
        found.stdout.strip(),
        "```",
        "",
        *(f"- {test}: {'yes' if good else 'NO'}" for test, good in tests.items()),
        "",
        f"Commits {bigger}, {wrong}, {slower} of {said.commits}: {', '.join(commits[at][:10] for at in bad)}.",
        f"{machine()}.",
    ]
    record("history_repository", lines)
    sys.exit(not all(tests.values()))


if __name__ == "__main__":
    main()
