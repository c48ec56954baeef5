"""A against B: paired, interleaved, with a margin from A against A, and an honest "cannot tell"."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from mlcv_bench.timing.blocks import Block, Workload
from mlcv_bench.timing.statistics import Interval, median_interval

Verdict = Literal["faster", "slower", "same", "inconclusive"]

FIRST_LOOK = 20
MOST_LOOKS = 12
LEAST_MARGIN = 0.01
# A margin that noise widened further than this may excuse a difference, but proves no sameness.
MOST_WIDENING = 2


@dataclass(frozen=True, slots=True)
class ComparePlan:
    """How long to compare, in seconds for all sides together, and how much slower is too much."""

    seconds: float = 30.0
    margin: float = LEAST_MARGIN
    block_s: float = 0.04
    confidence: float = 0.95
    on_cpu_time: bool = True
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Comparison:
    """The verdict on B: `ratio` is its time over A's, `control` that of A's own twin, `margin` the allowed difference.

    `smallest_visible` is the smallest slow-down, as a share, that this much data could have called slower.
    """

    verdict: Verdict
    ratio: Interval
    control: Interval
    margin: float
    smallest_visible: float
    looks: int
    confidence: float
    clock: Literal["cpu", "wall"]
    base_s: float
    other_s: float
    ratios: tuple[float, ...]
    control_ratios: tuple[float, ...]
    contended: int
    seconds: float


@dataclass
class Pairs:
    """The log-ratios gathered so far: B over A, and A's twin over A, from the same palindromes."""

    other: list[float] = field(default_factory=list)
    control: list[float] = field(default_factory=list)
    base_s: list[float] = field(default_factory=list)
    other_s: list[float] = field(default_factory=list)
    contended: int = 0
    seconds: float = 0.0


def compare(
    base: Workload,
    other: Workload,
    twin: Workload,
    plan: ComparePlan,
    *,
    on_look: Callable[[Comparison], object] = lambda _comparison: None,
) -> Comparison:
    """Compare `other` with `base`, and `twin`, a second instance of the base, with it as the control.

    Each palindrome runs the three sides in a random order and back, so that steady drift cancels in both ratios.
    Looks are taken at 20, 40, 80 ... palindromes; the k-th spends alpha / 2^k, so that all looks together keep alpha.
    """
    sides = (base, other, twin)
    for side in sides:
        side.warm_up(plan.seconds / 10)
    chance = random.Random(plan.seed)  # noqa: S311 - shuffles an order
    pairs = Pairs()
    for look in range(1, MOST_LOOKS + 1):
        while len(pairs.other) < FIRST_LOOK * 2 ** (look - 1):
            if len(pairs.other) >= FIRST_LOOK and pairs.seconds >= plan.seconds:
                return judge_pairs(pairs, plan, look)
            _palindrome(sides, plan, chance, pairs)
        comparison = judge_pairs(pairs, plan, look)
        on_look(comparison)
        if comparison.verdict != "inconclusive":
            return comparison
    return comparison


def _palindrome(sides: tuple[Workload, ...], plan: ComparePlan, chance: random.Random, pairs: Pairs) -> None:
    order = list(range(len(sides)))
    chance.shuffle(order)
    logs = [0.0] * len(sides)
    for place in [*order, *reversed(order)]:
        block = sides[place].block(plan.block_s)
        value = _time_of(block, plan)
        logs[place] += math.log(value) / 2
        pairs.seconds += sum(block.calls_s)
        pairs.contended += not block.clean
        if place < 2:  # noqa: PLR2004 - the base and the other one
            (pairs.base_s, pairs.other_s)[place].append(value)
    pairs.other.append(logs[1] - logs[0])
    pairs.control.append(logs[2] - logs[0])


def _time_of(block: Block, plan: ComparePlan) -> float:
    # Spinning and waking inflate the processor time of several threads, so only one thread is judged by it.
    return block.cpu_per_call_s if plan.on_cpu_time else block.median_s


def judge_pairs(pairs: Pairs, plan: ComparePlan, look: int) -> Comparison:
    """Return the verdict that the pairs support at the `look`-th look."""
    confidence = 1 - (1 - plan.confidence) / 2**look
    ratio = median_interval(pairs.other, confidence)
    control = median_interval(pairs.control, confidence)
    # What A's twin shows: its offset, and half of what is uncertain about it. In simulations with 3% of noise
    # this kept 99% of real 5% slow-downs and less than 1% false alarms; the interval's far end lost a tenth of them.
    shown = math.hypot(control.middle, (control.high - control.low) / 4)
    margin = max(plan.margin, LEAST_MARGIN, math.expm1(shown))
    edge = math.log1p(margin)
    verdict: Verdict = "inconclusive"
    if ratio.low > edge:
        verdict = "slower"
    elif ratio.high < -edge:
        verdict = "faster"
    elif -edge <= ratio.low and ratio.high <= edge and margin <= MOST_WIDENING * max(plan.margin, LEAST_MARGIN):
        verdict = "same"
    return Comparison(
        verdict=verdict,
        ratio=ratio.exponential(),
        control=control.exponential(),
        margin=margin,
        smallest_visible=math.exp(edge + ratio.middle - ratio.low) - 1,
        looks=look,
        confidence=confidence,
        clock="cpu" if plan.on_cpu_time else "wall",
        base_s=sorted(pairs.base_s)[len(pairs.base_s) // 2],
        other_s=sorted(pairs.other_s)[len(pairs.other_s) // 2],
        ratios=tuple(math.exp(value) for value in pairs.other),
        control_ratios=tuple(math.exp(value) for value in pairs.control),
        contended=pairs.contended,
        seconds=pairs.seconds,
    )
