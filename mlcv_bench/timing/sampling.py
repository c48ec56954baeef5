"""The schedule: which cell is timed next, for how long, and when enough is known about it."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from mlcv_bench.statistics import Interval, median_interval, ratio_interval, ratio_of_intervals
from mlcv_bench.timing.blocks import Block, WarmUp, Workload, computes_alone
from mlcv_bench.timing.clock import Basis
from mlcv_bench.timing.request import WARM_UP_SHARE


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to measure. `seconds` is each cell's share of the whole time, its warm-up included."""

    seconds: float = 10.0
    precision: float = 0.02
    wanted_blocks: int = 8
    minimum_blocks: int = 3
    minimum_calls: int = 0
    """How many calls a cell's percentiles want, time allowing."""
    seed: int = 0

    @property
    def block_s(self) -> float:
        """The length of a block: a fortieth of the budget, between 20 ms and half a second."""
        return min(0.5, max(0.02, self.seconds / 40))

    @property
    def minimum_passes(self) -> int:
        """How many passes are timed however long they take: one to warm up, and one a block."""
        return 1 + self.minimum_blocks

    @property
    def warm_up_s(self) -> float:
        """The cap on the warm-up."""
        return WARM_UP_SHARE * self.seconds


@dataclass
class Sampling:
    """What is known about one cell so far. No block is ever thrown away; contended ones are set apart."""

    blocks: list[Block] = field(default_factory=list)
    warm_up: WarmUp | None = None
    failure: Exception | None = None
    one_thread: bool = False
    """Whether one thread of the processor is asked to do the work."""

    def used(self, plan: Plan) -> list[Block]:
        """Return the blocks that the estimate rests on: the clean ones, or all while too few are clean."""
        return self.blocks if self.loaded(plan) else [block for block in self.blocks if block.clean]

    def loaded(self, plan: Plan) -> bool:
        """Tell whether too few blocks are clean, so that the contended ones must count."""
        return sum(block.clean for block in self.blocks) < plan.minimum_blocks

    @property
    def has_processor_clock(self) -> bool:
        """Whether leaving out the waiting for a core leaves what the wall clock shows when nothing else runs."""
        return self.one_thread and computes_alone(self.blocks)

    def basis(self, plan: Plan) -> Basis:
        """Return which clock the estimate rests on: the processor's where one thread never has a core to itself.

        Wall time says there how busy the others are.
        """
        return "cpu" if self.has_processor_clock and self.loaded(plan) else "wall"

    def times(self, plan: Plan, basis: Basis | None = None) -> list[float]:
        """Return the seconds a call took, one figure a used block, by the clock of the `basis`."""
        by = basis or self.basis(plan)
        return [block.seconds_by(by) for block in self.used(plan)]

    def estimate(self, plan: Plan) -> Interval | None:
        """Return the median of block medians with its interval, in seconds a call; None before the first block."""
        times = self.times(plan)
        return median_interval(times) if times else None

    @property
    def contended(self) -> int:
        """How many blocks the ledger objected to."""
        return sum(not block.clean for block in self.blocks)

    def flags(self, plan: Plan) -> tuple[str, ...]:
        """Return what troubled the blocks that are used, the most frequent first."""
        seen = [flag for block in self.used(plan) for flag in block.contention.flags]
        return tuple(sorted(set(seen), key=lambda flag: (-seen.count(flag), flag)))

    def width(self, plan: Plan) -> float:
        """Return the interval's relative half-width; infinite before there is one."""
        estimate = self.estimate(plan)
        return estimate.relative_width if estimate else float("inf")

    def settled(self, plan: Plan) -> bool:
        """Tell whether more blocks would not be asked for, time aside.

        Contended blocks are repeated, within limits: after twice the wanted number they count as they are.
        """
        clean = sum(block.clean for block in self.blocks)
        enough = clean >= plan.wanted_blocks or len(self.blocks) >= 2 * plan.wanted_blocks
        calls = sum(len(block.calls_s) for block in self.used(plan))
        return enough and calls >= plan.minimum_calls and self.width(plan) <= plan.precision

    def spent(self) -> float:
        """Return the seconds that warm-up and blocks took."""
        blocks = sum(block.spent_s or sum(block.calls_s) for block in self.blocks)
        return (self.warm_up.seconds if self.warm_up else 0.0) + blocks


class Sampler:
    """Times several cells in rounds, each in a shuffled order, so that a slow minute hits all of them alike."""

    def __init__(
        self,
        cells: Mapping[str, Workload],
        plan: Plan,
        *,
        known: Mapping[str, Sampling] | None = None,
        first_round: int = 0,
        on_warm_up: Callable[[str, WarmUp], object] = lambda _key, _warm_up: None,
        on_block: Callable[[str, Block], object] = lambda _key, _block: None,
        on_end: Callable[[str], object] = lambda _key: None,
    ) -> None:
        """Prepare to time `cells`; `known` holds blocks of an earlier, interrupted run.

        Rounds are counted from `first_round`, so that blocks of other groups or runs never pass for the same round's.
        `on_end` is called once a cell, as soon as no further block of it will be timed.
        """
        self.samplings: dict[str, Sampling] = {key: (known or {}).get(key) or Sampling() for key in cells}
        self._cells = dict(cells)
        self._plan = plan
        self._random = random.Random(plan.seed)  # noqa: S311 - shuffles an order
        self._on_warm_up = on_warm_up
        self._on_block = on_block
        self._on_end = on_end
        self._ended: set[str] = set()
        seen = (block.round for one in self.samplings.values() for block in one.blocks)
        self._round = max(first_round, 1 + max(seen, default=-1))

    def run(self) -> dict[str, Sampling]:
        """Warm every cell up, take the wanted rounds, then further ones where the interval is widest.

        A cell that fails keeps its blocks and costs no other. Ends when every cell is settled or the time of all
        cells together is spent; each gets its minimum of blocks even then.
        """
        for key in self._shuffled([key for key, one in self.samplings.items() if not one.settled(self._plan)]):
            self._warm(key)
        while turn := self._next_round():
            for key in turn:
                self._time(key)
            self._round += 1
        for key in self._cells:
            self._end(key)
        return self.samplings

    def _shuffled(self, keys: list[str]) -> list[str]:
        order = list(keys)
        self._random.shuffle(order)
        return order

    def _warm(self, key: str) -> None:
        try:
            warm_up = self._cells[key].warm_up(self._plan.warm_up_s)
        except Exception as error:  # noqa: BLE001 - one failing cell must not cost the others
            self._fail(key, error)
            return
        self.samplings[key].warm_up = warm_up
        self._on_warm_up(key, warm_up)

    def _time(self, key: str) -> None:
        try:
            block = self._cells[key].block(self._plan.block_s).of_round(self._round)
        except Exception as error:  # noqa: BLE001 - one failing cell must not cost the others
            self._fail(key, error)
            return
        self.samplings[key].blocks.append(block)
        self._on_block(key, block)
        if self.samplings[key].settled(self._plan):
            self._end(key)

    def _fail(self, key: str, error: Exception) -> None:
        self.samplings[key].failure = error
        self._end(key)

    def _end(self, key: str) -> None:
        if key not in self._ended:
            self._ended.add(key)
            self._on_end(key)

    def _next_round(self) -> list[str]:
        plan, alive = self._plan, [key for key, one in self.samplings.items() if not one.failure]
        short = [key for key in alive if len(self.samplings[key].blocks) < plan.minimum_blocks]
        left = plan.seconds * len(self.samplings) - sum(one.spent() for one in self.samplings.values())
        if short or left <= 0:
            # Every cell alive takes part in the first rounds, so that ratios have shared rounds.
            return self._shuffled(short)
        open_cells = [key for key in alive if not self.samplings[key].settled(plan)]
        fresh = [key for key in open_cells if len(self.samplings[key].blocks) < plan.wanted_blocks]
        if fresh:
            return self._shuffled([key for key in fresh if self._expected(key) <= left])
        open_cells.sort(key=lambda key: -self.samplings[key].width(plan))
        # The wider half goes on: the widest alone would sit in its own slow minute.
        widest = open_cells[: max(1, (len(open_cells) + 1) // 2)]
        return self._shuffled([key for key in widest if self._expected(key) <= left])

    def _expected(self, key: str) -> float:
        return max(statistics.median([block.median_s for block in self.samplings[key].blocks]), self._plan.block_s) / 2


def relative(base: Sampling, other: Sampling, plan: Plan) -> Interval | None:
    """Return the time of `other` over that of `base`, from shared rounds, or from both intervals if those are few.

    Both are read from one clock. Where they rest on different ones, it is the processor's if both have that, and the
    wall clock if not; then every block counts, since other load met both in the same rounds.
    """
    basis, blocks = base.basis(plan), (base.used(plan), other.used(plan))
    if other.basis(plan) != basis:
        basis = "cpu" if base.has_processor_clock and other.has_processor_clock else "wall"
        blocks = base.blocks, other.blocks
    one, two = ({block.round: block.seconds_by(basis) for block in side} for side in blocks)
    if not one or not two:
        return None
    paired = ratio_interval(one, two)
    return paired or ratio_of_intervals(*(median_interval(list(side.values())) for side in (one, two)))
