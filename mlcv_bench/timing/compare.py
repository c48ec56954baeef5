"""A against B: paired, interleaved, in fresh processes, with a margin from A against A; it may end inconclusive."""

from __future__ import annotations

import math
import random
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Literal

from mlcv_bench.errors import UsageError
from mlcv_bench.statistics import Interval, student_quantile
from mlcv_bench.timing.blocks import Block, Workload, computes_alone, median_call
from mlcv_bench.timing.clock import ComparedClock

Verdict = Literal["faster", "slower", "same", "inconclusive"]
Sides = tuple[Workload, Workload, Workload]
"""A, B, and A once more."""

LEAST_SESSIONS = 2
"""Fewer sets of processes say nothing of the luck of one; a second one begins while there is time."""
LOOKS = (4, 6, 8, 12, 16, 24, 32, 48, 64)
"""The evidence is looked at after so many sessions, and when the time is over."""
SPENDING_POWER = 3
LONGEST_SESSION_S = 2.0
LEAST_MARGIN = 0.01
# A margin that noise widened further than this may excuse a difference, but proves no sameness.
MOST_WIDENING = 2
# Variances, in those of one process: of B less the mean of A and its twin, and of the twin less A. The two differences
# are uncorrelated, so that their scatters add up to twice the knowledge of one.
RATIO_VARIANCE, CONTROL_VARIANCE = 1.5, 2.0


@dataclass(frozen=True, slots=True)
class ComparePlan:
    """How long to compare, in seconds for everything, starts of processes too, and how much slower is too much.

    Raises:
        UsageError: a margin below 1%, which no run of this length separates from the luck of a process, or no time.

    """

    seconds: float = 30.0
    margin: float = 0.02
    block_s: float = 0.015
    """Short ones: what slows the machine for a tenth of a second then meets all sides alike."""
    warm_up_s: float = 0.1
    """For each side of each session."""
    confidence: float = 0.95
    on_cpu_time: bool = True
    """Whether waiting for a core is left out, where both sides compute in one thread all the time."""
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse a margin that would be widened in silence, and a time that is none."""
        if not 0 < self.seconds < math.inf:
            raise UsageError(f"--seconds takes a finite number above 0, not {self.seconds:g}; for example 30")
        if not LEAST_MARGIN <= self.margin < math.inf:
            raise UsageError(
                f"a margin of {self.margin:.3g} is out of reach: processes differ by about 1%; give 0.01 (1%) or more"
            )

    def spent(self, share: float) -> float:
        """Return how much of its alpha a comparison has spent when this share of its time is over.

        The spending function of Kim and DeMets (1987): early looks need the strongest evidence, and all together keep
        alpha, whenever they are taken, since the time and not what was found decides that.
        """
        return (1 - self.confidence) * min(1.0, share) ** SPENDING_POWER


@dataclass(frozen=True, slots=True)
class Comparison:
    """The verdict on B.

    `ratio` is its time over A's, the mean of A and its twin; `control` that of A's twin over A's; `margin` the allowed
    difference.

    `smallest_visible` is the smallest slow-down, as a share, that this much data could have called slower.
    """

    verdict: Verdict
    ratio: Interval
    control: Interval
    margin: float
    smallest_visible: float
    sessions: int
    looks: int
    confidence: float
    clock: ComparedClock
    base_s: float
    other_s: float
    ratios: tuple[tuple[float, ...], ...] = field(repr=False)
    """B over A, of every palindrome, session by session."""
    control_ratios: tuple[tuple[float, ...], ...] = field(repr=False)
    contended: int
    seconds: float
    wall_ratio: float
    """B's wall time over A's, whichever clock decides: on an accelerator the host's part is in it."""


@dataclass
class Pairs:
    """The blocks gathered so far, of A, B and A's twin: session by session, two of each side a palindrome."""

    sessions: list[list[tuple[list[Block], ...]]] = field(default_factory=list)
    contended: int = 0
    seconds: float = 0.0

    def blocks(self, side: int) -> list[Block]:
        """Return all blocks of one side."""
        return [block for session in self.sessions for palindrome in session for block in palindrome[side]]

    def log_ratios(self, clock: ComparedClock) -> tuple[list[list[float]], list[list[float]]]:
        """Return the logarithms of B's time over A's, and of A's twin over A's, of every palindrome by sessions.

        A's time is the mean of A and its twin for B. Bursts of load lengthen a few calls, so that the median of a
        side's calls moves less than their mean.
        """
        others: list[list[float]] = []
        controls: list[list[float]] = []
        for session in self.sessions:
            logs = [[math.log(median_call(side, clock)) for side in palindrome] for palindrome in session]
            others.append([other - (base + twin) / 2 for base, other, twin in logs])
            controls.append([twin - base for base, _, twin in logs])
        return others, controls


def compare(
    open_sides: Callable[[], AbstractContextManager[Sides]],
    plan: ComparePlan,
    *,
    on_look: Callable[[Comparison], object] = lambda _comparison: None,
    now: Callable[[], float] = time.perf_counter,
) -> Comparison:
    """Compare B with A, and with A's twin, a second instance of A, as the control.

    Where a process happens to have its code and its memory moves its time by about one percent for as long as it lives:
    no number of calls in it shows that. So the sides are started anew for every session, and the interval is over
    sessions. In each, palindromes run the three sides in a random order and back, so that steady drift cancels, for as
    long as starting and warming up took. It ends with a verdict, or where the next session would go beyond the plan's
    time. Where that ends the first one, nothing is known of the luck of processes, and the intervals are unbounded.

    Args:
        open_sides: starts A, B and A's twin afresh, and ends them.
        plan: how long, and what counts as a difference.
        on_look: called with what every look found.
        now: the clock of the plan, in seconds.

    """
    chance = random.Random(plan.seed)  # noqa: S311 - shuffles an order
    pairs = Pairs()
    begun = now()
    looks, spent = 0, 0.0
    while True:
        opened = now()
        with open_sides() as sides:
            _session(sides, plan, chance, pairs, now, opened, begun + plan.seconds)
        pairs.seconds = now() - begun
        count = len(pairs.sessions)
        # The first session has the starts of the processes that fork in it, so it says little of the next one.
        next_s = now() - opened if count >= LEAST_SESSIONS else 0.0
        over = pairs.seconds + next_s > plan.seconds or count == LOOKS[-1]
        if not (over or count in LOOKS):
            continue
        looks, before, spent = looks + 1, spent, plan.spent(1.0 if over else pairs.seconds / plan.seconds)
        comparison = judge_pairs(pairs, plan, looks, 1 - (spent - before))
        on_look(comparison)
        if over or comparison.verdict != "inconclusive":
            return comparison


def _session(
    sides: Sides,
    plan: ComparePlan,
    chance: random.Random,
    pairs: Pairs,
    now: Callable[[], float],
    opened: float,
    deadline: float,
) -> None:
    for side in sides:
        side.warm_up(plan.warm_up_s)
    pairs.sessions.append([])
    ready = now()
    end = min(ready + min(ready - opened, LONGEST_SESSION_S), deadline)
    while not pairs.sessions[-1] or now() < end:
        _palindrome(sides, plan, chance, pairs)


def _palindrome(sides: Sides, plan: ComparePlan, chance: random.Random, pairs: Pairs) -> None:
    order = list(range(len(sides)))
    chance.shuffle(order)
    palindrome: tuple[list[Block], ...] = tuple([] for _ in sides)
    for place in [*order, *reversed(order)]:
        block = sides[place].block(plan.block_s)
        palindrome[place].append(block)
        pairs.contended += not block.clean
    pairs.sessions[-1].append(palindrome)


def judge_pairs(pairs: Pairs, plan: ComparePlan, look: int, confidence: float) -> Comparison:
    """Return the verdict that the pairs support at the `look`-th look, by intervals of this confidence.

    A session counts as one value, the median of its log-ratios, and the interval is Student's. Luck of processes is the
    same for A's twin as for B, so the scatter of both stands behind either.
    """
    # Both sides by one clock: several threads spin and wake each other, and what sleeps uses no processor.
    alone = plan.on_cpu_time and all(computes_alone(pairs.blocks(side)) for side in range(3))
    on_device = all(block.device_s for side in range(3) for block in pairs.blocks(side))
    clock: ComparedClock = "device" if on_device else "cpu" if alone else "wall"
    ratios, control_ratios = pairs.log_ratios(clock)
    others, controls = ([statistics.median(session) for session in side] for side in (ratios, control_ratios))
    count = len(others)
    reach = math.inf
    if count >= LEAST_SESSIONS:
        variance = (statistics.variance(others) / RATIO_VARIANCE + statistics.variance(controls) / CONTROL_VARIANCE) / 2
        reach = student_quantile((1 + confidence) / 2, 2 * (count - 1)) * math.sqrt(variance / count)
    half, half_of_control = reach * math.sqrt(RATIO_VARIANCE), reach * math.sqrt(CONTROL_VARIANCE)
    ratio, control = (
        Interval(mean, mean - width, mean + width)
        for mean, width in ((statistics.fmean(others), half), (statistics.fmean(controls), half_of_control))
    )
    # What A's twin shows: its offset, and half of what is uncertain about it.
    shown = math.hypot(control.middle, half_of_control / 2)
    margin = max(plan.margin, math.expm1(shown)) if count >= LEAST_SESSIONS else plan.margin
    edge = math.log1p(margin)
    verdict: Verdict = "inconclusive"
    if ratio.low > edge:
        verdict = "slower"
    elif ratio.high < -edge:
        verdict = "faster"
    elif -edge <= ratio.low and ratio.high <= edge and margin <= MOST_WIDENING * plan.margin:
        verdict = "same"
    return Comparison(
        verdict=verdict,
        ratio=ratio.exponential(),
        control=control.exponential(),
        margin=margin,
        smallest_visible=math.exp(edge + half) - 1,
        sessions=count,
        looks=look,
        confidence=confidence,
        clock=clock,
        base_s=median_call(pairs.blocks(0), clock),
        other_s=median_call(pairs.blocks(1), clock),
        ratios=tuple(tuple(map(math.exp, session)) for session in ratios),
        control_ratios=tuple(tuple(map(math.exp, session)) for session in control_ratios),
        contended=pairs.contended,
        seconds=pairs.seconds,
        wall_ratio=math.exp(statistics.fmean(map(statistics.median, pairs.log_ratios("wall")[0]))),
    )
