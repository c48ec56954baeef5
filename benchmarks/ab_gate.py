"""How often `ab` cries wolf and how often it sees a real slow-down, beside what others would have said of the trials.

A trial starts three workers. First A and B are timed one after the other for as long as each gets within `ab`, which
is what the usual judgements rest on: the median more than 5% higher; Welch's t; Mann-Whitney as asv uses it (two-sided,
p < 0.002, and more than 5%). Then `ab`'s own comparison runs in the same workers. Every other trial has a neighbour
that keeps one core busy.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import subprocess
import sys
from pathlib import Path

from harness import machine, record
from scipy import stats

from mlcv_bench.timing.cells import Cell
from mlcv_bench.timing.compare import ComparePlan, compare
from mlcv_bench.timing.isolation import PipeChannel, WorkerWorkload
from mlcv_bench.timing.statistics import clopper_pearson

NETWORKS = Path(__file__).parent / "slowed_networks.py"
KINDS = {"A/A": ("none", 60), "+5%": ("slower_5", 40), "+10%": ("slower_10", 40)}
JUDGES = ("ab", "median", "welch", "mann-whitney")
WORDS = {
    "ab": "`mlcv-bench ab`",
    "median": "median more than 5% higher, one after the other",
    "welch": "Welch's t, p < 0.05, one after the other",
    "mann-whitney": "Mann-Whitney as asv, p < 0.002 and more than 5%, one after the other",
}


def cell(name: str) -> Cell:
    """Return one network of `slowed_networks.py`, one thread."""
    return Cell(f"{NETWORKS}:{name}", (3, 32, 32))


def trial(kind: str, seconds: float, seed: int) -> dict:
    """Run one trial and return every judge's word on B."""
    names = ("none", KINDS[kind][0], "none")
    sides = [WorkerWorkload(PipeChannel()) for _ in names]
    try:
        for side, name in zip(sides, names, strict=True):
            side.prepare(cell(name), comparing=True)
        one_after_other = []
        for side in sides[:2]:
            side.warm_up(1.0)
            calls: list[float] = []
            while sum(calls) < seconds / 6:
                calls += side.block(0.25).calls_s
            one_after_other.append(calls)
        found = compare(*sides, ComparePlan(seconds=seconds, seed=seed))
    finally:
        for side in sides:
            side.close()
    return {
        "ab": found.verdict,
        "ratio": found.ratio.middle,
        "control": found.control.middle,
        "margin": found.margin,
        "smallest_visible": found.smallest_visible,
        "seconds": found.seconds,
        **others(*one_after_other),
    }


def others(base: list[float], new: list[float]) -> dict[str, str]:
    """Judge the calls of A and then of B as others do."""
    ratio = statistics.median(new) / statistics.median(base)
    apart = "slower" if ratio > 1.05 else "faster" if ratio < 1 / 1.05 else "same"
    welch = stats.ttest_ind(new, base, equal_var=False)
    moved = "slower" if welch.statistic > 0 else "faster"
    return {
        "median": apart,
        "welch": moved if welch.pvalue < 0.05 else "same",
        "mann-whitney": apart if stats.mannwhitneyu(new, base).pvalue < 0.002 else "same",
    }


def run(path: Path, seconds: float, share: float) -> list[dict]:
    """Run every trial that `path` does not hold yet, in shuffled order, each written down at once."""
    known = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    wanted = [(kind, index) for kind, (_, count) in KINDS.items() for index in range(math.ceil(count * share))]
    random.Random(0).shuffle(wanted)  # noqa: S311 - an order
    done = {(one["kind"], one["index"]) for one in known}
    for kind, index in wanted:
        if (kind, index) in done:
            continue
        busy = index % 2 == 1
        neighbour = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if busy else None
        try:
            found = {"kind": kind, "index": index, "busy": busy, **trial(kind, seconds, index)}
        finally:
            if neighbour is not None:
                neighbour.kill()
                neighbour.wait()
        known.append(found)
        with path.open("a") as file:
            file.write(json.dumps(found) + "\n")
        print(found, file=sys.stderr, flush=True)
    return [one for one in known if (one["kind"], one["index"]) in set(wanted)]


def main() -> None:
    """Run the trials and write down the rates with their exact intervals."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--share", type=float, default=1.0, help="of the trials")
    parser.add_argument("--trials", type=Path, default=Path("runs/ab_gate.jsonl"))
    parser.add_argument("--note", default="")
    said = parser.parse_args()
    said.trials.parent.mkdir(exist_ok=True)
    trials = run(said.trials, said.seconds, said.share)
    lines = [
        "# How often `ab` is wrong, and what it sees",
        "",
        f"Machine: {machine()}. resnet20, batch 1, one thread; every other trial beside a neighbour that keeps a core",
        f"busy; at most {said.seconds:g} s a trial for all sides of `ab`, a sixth of it for each side of the others.",
        "The slow-down is real work added (`benchmarks/slowed_networks.py`): what it really costs is the median ratio.",
        said.note,
        "",
    ]
    for kind in KINDS:
        mine = [one for one in trials if one["kind"] == kind]
        if not mine:
            continue
        ratio = statistics.median(one["ratio"] for one in mine)
        lines += [
            f"## {kind}: {len(mine)} trials, median ratio {ratio:.3f}",
            "",
            "| judge | slower | 95% interval (Clopper-Pearson) | faster | same | inconclusive |",
            "|:---|---:|---:|---:|---:|---:|",
        ]
        for judge in JUDGES:
            said_of = [one[judge] for one in mine]
            slower = said_of.count("slower")
            low, high = clopper_pearson(slower, len(mine))
            rest = " | ".join(str(said_of.count(word)) for word in ("faster", "same", "inconclusive"))
            lines.append(f"| {WORDS[judge]} | {slower} | {low:.1%} .. {high:.1%} | {rest} |")
        margins = sorted(one["margin"] for one in mine)
        lines += [
            "",
            f"Margins: median {statistics.median(margins):.1%}, largest {margins[-1]:.1%}.",
            f"Seconds used: median {statistics.median(one['seconds'] for one in mine):.1f}.",
            "",
        ]
    record("ab_gate", lines)


if __name__ == "__main__":
    main()
