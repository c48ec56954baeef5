"""How often `ab` cries wolf and how often it sees a real slow-down, beside what others would have said of the trials.

In a trial `ab` compares A and B, and then they are timed one after the other, each in a process, which is what the
usual judgements rest on: the median more than 5% higher; Welch's t; Mann-Whitney as asv uses it (two-sided, p < 0.002,
and more than 5%). Every other trial has a neighbour that keeps one core busy.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import math
import random
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from harness import machine, neighbour, record
from scipy import stats

from mlcv_bench.execution.forks import starters
from mlcv_bench.execution.places import HERE
from mlcv_bench.timing.compare import ComparePlan, compare
from mlcv_bench.timing.request import Cell
from mlcv_bench.timing.worker import MODULE, Connect, start_workers

NETWORKS = Path(__file__).parent / "slowed_networks.py"
KINDS = {"A/A": ("none", 60), "+5%": ("slower_5", 40), "+10%": ("slower_10", 40)}
OTHERS_S = 1.0
"""Timed seconds of each side for the judges that look at one after the other."""
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


@contextlib.contextmanager
def started(names: Sequence[str], connects: Sequence[Connect]):
    """Start a worker for each network, all at once, and end them."""
    with contextlib.ExitStack() as stack:
        sides = start_workers([cell(name) for name in names], connects, stack)
        yield tuple(side for side, _ in sides)


def trial(kind: str, seconds: float, seed: int) -> dict:
    """Run one trial and return every judge's word on B."""
    names = ("none", KINDS[kind][0], "none")
    begun = time.perf_counter()
    with starters(MODULE, ["default"] * 3, [HERE] * 3) as workers:
        connects = workers.connects
        found = compare(functools.partial(started, names, connects), ComparePlan(seconds=seconds, seed=seed))
        wall_s = time.perf_counter() - begun
        one_after_other = []
        for name, connect in zip(names[:2], connects, strict=False):
            with started([name], [connect]) as (side,):
                side.warm_up(0.5)
                calls: list[float] = []
                while sum(calls) < OTHERS_S:
                    calls += side.block(0.25).calls_s
                one_after_other.append(calls)
    return {
        "ab": found.verdict,
        "ratio": found.ratio.middle,
        "control": found.control.middle,
        "margin": found.margin,
        "smallest_visible": found.smallest_visible,
        "seconds": wall_s,
        "sessions": found.sessions,
        "log_ratios": [statistics.median(map(math.log, session)) for session in found.ratios],
        "control_log_ratios": [statistics.median(map(math.log, session)) for session in found.control_ratios],
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


def known(path: Path) -> dict[tuple[str, int], dict]:
    """Return the trials that were written down."""
    lines = path.read_text().splitlines() if path.exists() else []
    return {(one["kind"], one["index"]): one for one in map(json.loads, lines)}


def run(path: Path, seconds: float, share: float, order: int, minutes: float) -> list[dict]:
    """Run every trial that `path` does not hold yet, in shuffled order, each written down at once, for so many minutes.

    Two may run side by side, in other orders, and share the work.
    """
    wanted = [(kind, index) for kind, (_, count) in KINDS.items() for index in range(math.ceil(count * share))]
    random.Random(order).shuffle(wanted)  # noqa: S311 - an order
    end = time.monotonic() + 60 * minutes
    for kind, index in wanted:
        if (kind, index) in known(path):
            continue
        if time.monotonic() > end:
            break
        busy = index % 2 == 1
        with neighbour(busy=busy):
            found = {"kind": kind, "index": index, "busy": busy, **trial(kind, seconds, index)}
        with path.open("a") as file:
            file.write(json.dumps(found) + "\n")
        print(found, file=sys.stderr, flush=True)
    return [one for key, one in known(path).items() if key in set(wanted)]


def main() -> None:
    """Run the trials and write down the rates with their exact intervals."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--share", type=float, default=1.0, help="of the trials")
    parser.add_argument("--minutes", type=float, default=math.inf, help="start no trial after so many")
    parser.add_argument("--order", type=int, default=0, help="seed of the order in which trials are run")
    parser.add_argument("--trials", type=Path, default=Path(__file__).parent / "results" / "ab_gate.jsonl")
    parser.add_argument("--note", default="")
    said = parser.parse_args()
    trials = run(said.trials, said.seconds, said.share, said.order, said.minutes)
    lines = [
        "# How often `ab` is wrong, and what it sees",
        "",
        f"Machine: {machine()}. resnet20, batch 1, one thread; every other trial beside a neighbour that keeps a core",
        f"busy; at most {said.seconds:g} s a trial for `ab`, starts of its processes counted, margin 2%; {OTHERS_S:g}",
        "timed seconds for each side of the others.",
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
            low, high = stats.binomtest(slower, len(mine)).proportion_ci(method="exact")
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
