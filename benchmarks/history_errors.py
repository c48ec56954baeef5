"""How often `history check` names a jump that is none, and how often and how near it finds a real one.

Histories of 50 commits are drawn with noise of several shapes and a standard deviation of 5%; half of a second set gets
10% slower at one commit. One series a history, so that it has the whole error rate; ten share it in the last table.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
from collections.abc import Callable, Sequence

from harness import machine, record
from scipy import stats

from mlcv_bench.history.levels import LevelChange, level_changes

COMMITS = 50
NOISE = 0.05
JUMP = 1.1
NEAR = 3
MARGIN = 15
"""Commits before and after a jump that counts in the main table."""
AFTER = (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25)
TARGET_FALSE, TARGET_FOUND = 0.01, 0.95


def student(chance: random.Random, freedom: float = 3.0) -> float:
    """Draw Student's t of three degrees of freedom, scaled to a standard deviation of one."""
    return chance.gauss(0, 1) / math.sqrt(chance.gammavariate(freedom / 2, 2)) * math.sqrt(freedom - 2)


SHAPES: dict[str, Callable[[random.Random], float]] = {
    "normal": lambda chance: chance.gauss(0, 1),
    "heavy tails (Student, 3 degrees)": student,
    "skewed (exponential)": lambda chance: chance.expovariate(1) - 1,
    "normal, 1 commit of 20 slower by 30%": lambda chance: chance.gauss(0, 1) + 6 * (chance.random() < 0.05),
}


def drawn(chance: random.Random, shape: str, at: int | None = None, commits: int = COMMITS) -> list[float]:
    """Return the medians of a history that gets slower at commit `at`."""
    levels = [JUMP if at is not None and place >= at else 1.0 for place in range(commits)]
    return [0.01 * level * math.exp(NOISE * SHAPES[shape](chance)) for level in levels]


def found_near(changes: Sequence[LevelChange], at: int) -> LevelChange | None:
    """Return the change for the slower that is named within three commits of the real one."""
    return next((one for one in changes if one.ratio.middle > 1 and abs(one.place - at) <= NEAR), None)


def share(count: int, trials: int) -> str:
    """Write a rate with its exact interval."""
    low, high = stats.binomtest(count, trials).proportion_ci(method="exact")
    return f"{count / trials:.2%} ({low:.2%} .. {high:.2%})"


def false_alarms(trials: int, commits: int, series: int, shape: str) -> int:
    """Return in how many histories without a change a jump is named in any of the series."""
    chance = random.Random(f"{shape} {commits} {series}")  # noqa: S311 - noise
    return sum(
        any(level_changes(drawn(chance, shape, None, commits), shared_by=series) for _ in range(series))
        for _ in range(trials)
    )


def seen(trials: int, shape: str, after: int | None) -> dict[str, int]:
    """Count the histories with a jump by what was said of it; `after` commits follow it, None for anywhere."""
    chance = random.Random(f"{shape} {after} jump")  # noqa: S311 - noise
    counts = dict.fromkeys(("near", "range", "ratio", "more"), 0)
    for _ in range(trials):
        at = COMMITS - after if after else chance.randint(MARGIN, COMMITS - MARGIN)
        changes = level_changes(drawn(chance, shape, at))
        one = found_near(changes, at)
        counts["near"] += one is not None
        counts["more"] += len(changes) > 1
        if one is not None:
            counts["range"] += one.first <= at <= one.last
            counts["ratio"] += one.ratio.low <= JUMP <= one.ratio.high
    return counts


def main() -> None:
    """Draw, count and record; end with 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=4000)
    trials = parser.parse_args().trials
    lines = [
        "# How often `history check` is wrong about times, and what it sees",
        "",
        f"Drawn histories, {trials:,} a row; medians of one commit each with noise of {NOISE:.0%}; 95% intervals exact",
        "(Clopper-Pearson). Beside the shapes no assumption is made: the test ranks the medians.",
        "",
        "| noise | commits | series | histories without a change in which a jump was named |",
        "|:---|---:|---:|---:|",
    ]
    worst = 0.0
    for shape in SHAPES:
        for commits, series in ((COMMITS, 1), (COMMITS, 10), (20, 1), (200, 1)):
            if shape != "normal" and (commits, series) != (COMMITS, 1):
                continue
            count = trials // series
            alarms = false_alarms(count, commits, series, shape)
            worst = max(worst, alarms / count) if (commits, series) == (COMMITS, 1) else worst
            lines.append(f"| {shape} | {commits} | {series} | {share(alarms, count)} |")
            print(lines[-1], file=sys.stderr, flush=True)
    lines += [
        "",
        f"A jump of {JUMP - 1:.0%}, with at least {MARGIN} commits before and after it:",
        "",
        f"| noise | named within {NEAR} commits | of these: in the range | in the ratio's interval | two jumps named |",
        "|:---|---:|---:|---:|---:|",
    ]
    normal = 0.0
    for shape in SHAPES:
        counts = seen(trials, shape, None)
        normal = counts["near"] / trials if shape == "normal" else normal
        near = max(counts["near"], 1)
        shares = [share(counts["near"], trials), *(f"{counts[key] / near:.1%}" for key in ("range", "ratio"))]
        lines.append(f"| {shape} | {' | '.join(shares)} | {counts['more'] / trials:.1%} |")
        print(lines[-1], file=sys.stderr, flush=True)
    lines += [
        "",
        "Normal noise, by the number of commits since the jump. The last column is what the best possible test names",
        "that knows the noise, the place and the levels, at the same 1 false alarm in 100 histories (Neyman and",
        "Pearson): two standard deviations of one commit cannot be told from chance by the first three commits.",
        "",
        "| commits since the jump | named within 3 commits | best possible |",
        "|---:|---:|---:|",
    ]
    for after in AFTER:
        counts = seen(trials // 4, "normal", after)
        gap = math.log(JUMP) / NOISE / math.sqrt(1 / after + 1 / (COMMITS - after))
        best = stats.norm.cdf(gap - stats.norm.ppf(1 - TARGET_FALSE))
        lines.append(f"| {after} | {counts['near'] / (trials // 4):.1%} | {best:.1%} |")
        print(lines[-1], file=sys.stderr, flush=True)
    met = worst <= TARGET_FALSE and normal >= TARGET_FOUND
    lines += ["", f"Targets (1% false at most, {TARGET_FOUND:.0%} found): {'met' if met else 'missed'}. {machine()}."]
    record("history_errors", lines)
    sys.exit(not met)


if __name__ == "__main__":
    main()
