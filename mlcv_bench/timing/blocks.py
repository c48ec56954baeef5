"""One block: some calls timed one after the other, with the ledger read before and after."""

from __future__ import annotations

import contextlib
import gc
import statistics
from dataclasses import KW_ONLY, asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from mlcv_bench.statistics import median_if_known
from mlcv_bench.timing.clock import idle_ns, read
from mlcv_bench.timing.contention import Contention, Ledger, judge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from mlcv_bench.timing.clock import Clock, ComparedClock

# Calls longer than this refill the caches themselves and average over where their data lies.
REFILL_BELOW_S = 0.1
MOST_CALLS = 1000
LEAST_PIPELINED = 2
AGREEMENT = 0.05
MOST_IDLE = 0.05
# A device's queue is held for so many times the longest dispatch: two events and a slower call must fit in.
MARGIN_OF_HOLDING = 1.5
# A thread that ended in a block took its waiting for a core with it: at most so many times what it computed.
MOST_TASKS_A_CORE = 32


@dataclass(frozen=True, slots=True)
class Block:
    """The calls of one block, in seconds each; `cpu_s` is the process's processor time in the whole block.

    `cpu_calls_s` is its processor time in each call, on the processor alone.
    `idle_s` is the time in which it neither computed nor waited for a core (see `clock.idle_ns`); None is unknown.
    On an accelerator `dispatch_s` is when each call returned, its work asked for and not yet done, and `device_s` what
    further calls took on the device alone, by its own events, all their work in its queue before the first started.
    `pipelined_s` is what one of many calls took that were asked for without a wait between, with one at the end; None
    where that was not asked. `spent_s` is what all of this took, with what lies between the calls; 0 in older files.
    """

    round: int
    calls_s: tuple[float, ...]
    cpu_s: float
    contention: Contention
    device_s: tuple[float, ...] = ()
    idle_s: float | None = None
    dispatch_s: tuple[float, ...] = ()
    pipelined_s: float | None = None
    spent_s: float = 0.0
    cpu_calls_s: tuple[float, ...] = ()

    @property
    def median_s(self) -> float:
        """The block's median wall time of a call."""
        return statistics.median(self.calls_s)

    @property
    def cpu_per_call_s(self) -> float:
        """The block's mean processor time of a call."""
        return self.cpu_s / len(self.calls_s)

    @property
    def idle_share(self) -> float | None:
        """What share of its time the block neither computed nor waited for a core."""
        return None if self.idle_s is None else self.idle_s / sum(self.calls_s)

    @property
    def idle_per_call_s(self) -> float | None:
        """What a call was idle for that no load explains, not even threads that waited for a core and ended."""
        if self.idle_s is None:
            return None
        return max(0.0, self.idle_s - MOST_TASKS_A_CORE * self.cpu_s) / len(self.calls_s)

    def seconds_by(self, basis: ComparedClock) -> float:
        """Return what a call took by one of the clocks.

        By the wall clock and the device's it is the median; by the processor's the mean of everything but waiting for a
        core.
        """
        if basis != "cpu":
            return median_call([self], basis)
        return (self.cpu_s + max(0.0, self.idle_s or 0.0)) / len(self.calls_s)

    @property
    def clean(self) -> bool:
        """Whether the ledger found nothing to object to."""
        return not self.contention.flags

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Block:
        """Read back what `as_dict` wrote."""
        lists = ("calls_s", "device_s", "dispatch_s", "cpu_calls_s")
        found: dict[str, Any] = {name: tuple(values.get(name, ())) for name in lists}
        contention = Contention.from_dict(values["contention"])
        found |= {name: values[name] for name in ("idle_s", "pipelined_s", "spent_s") if name in values}
        return cls(values["round"], cpu_s=values["cpu_s"], contention=contention, **found)

    def of_round(self, number: int) -> Block:
        """Return this block as part of round `number`."""
        return replace(self, round=number)


def computes_alone(blocks: Sequence[Block]) -> bool:
    """Tell whether, in the median block, one thread computed or waited for a core all the time.

    Then the processor's clock says what a pass takes where nothing else runs. Where the process slept, read or waited
    for others, where several threads computed at once, or where the kernel reports no delays, only the wall clock can.
    """
    share = median_if_known(block.idle_share for block in blocks)
    return share is not None and abs(share) <= MOST_IDLE


def median_call(blocks: Sequence[Block], clock: ComparedClock) -> float:
    """Return the median seconds of all calls of some blocks by one of the clocks; by the processor's, idle time counts.

    A kernel that tells no call's processor time, as in files of earlier versions, has the mean of each block for it.
    """
    if clock == "wall":
        return statistics.median(call for block in blocks for call in block.calls_s)
    if clock == "device":
        return statistics.median(call for block in blocks for call in block.device_s)
    idle = sum(max(0.0, block.idle_s or 0.0) for block in blocks) / sum(len(block.calls_s) for block in blocks)
    return idle + statistics.median(
        call for block in blocks for call in (block.cpu_calls_s or [block.cpu_per_call_s] * len(block.calls_s))
    )


@dataclass(frozen=True, slots=True)
class WarmUp:
    """How the warm-up went: its calls and seconds, what a call took at its end, and whether two windows agreed."""

    calls: int
    seconds: float
    call_s: float
    agreed: bool

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return asdict(self)


class Workload(Protocol):
    """Something that can be timed, here or in another process."""

    def warm_up(self, seconds: float) -> WarmUp:
        """Call until two windows agree, for at most `seconds` (but at least once)."""
        ...

    def block(self, seconds: float) -> Block:
        """Time calls for about `seconds`, at least one."""
        ...

    def close(self) -> None:
        """Give back memory and processes."""
        ...


@contextlib.contextmanager
def frozen_garbage() -> Iterator[None]:
    """Keep the garbage collector from running inside, as timeit does; as it was before afterwards."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@dataclass(eq=False)
class LocalWorkload:
    """A call timed in this process, each block inside a fresh `context()`, which sets threads and gradient mode.

    `renew` returns the same call with its data elsewhere in memory. Which physical pages a small network's weights
    happen to lie on moved its time by 10% for as long as its process lived, so every block draws them anew.
    `clear_cache` is called before every timed call, outside of what is timed; `throughput` adds pipelined calls.
    """

    call: Callable[[], object]
    _: KW_ONLY
    clock: Clock
    ledger: Ledger
    threads: int = 1
    on_cpu: bool = True
    context: Callable[[], contextlib.AbstractContextManager[object]] = contextlib.nullcontext
    renew: Callable[[], Callable[[], object]] | None = None
    clear_cache: Callable[[], object] | None = None
    throughput: bool = False
    on_close: Callable[[], object] = lambda: None
    call_s: float = field(default=0.0, init=False)
    """What a call took last, in seconds."""

    def close(self) -> None:
        """Let go of the call and of all that holds what it needs, whoever still refers to this."""
        self.call, self.renew, self.clear_cache, self.context = _closed, None, None, contextlib.nullcontext
        self.on_close()

    def warm_up(self, seconds: float) -> WarmUp:
        """Call until the medians of the last two windows agree within 5%, for at most `seconds` or 1000 calls.

        A window lasts about 20 ms and has 2 to 100 calls, 5 where the time allows.
        """
        times: list[float] = []
        agreed = False
        with self.context(), frozen_garbage():
            begun = self.clock.wall_ns()
            while True:
                times += self._calls(1, 0.0)[0]
                spent = (self.clock.wall_ns() - begun) * 1e-9
                window = _window(times[-1], seconds)
                if len(times) >= 2 * window:
                    last, before = statistics.median(times[-window:]), statistics.median(times[-2 * window : -window])
                    agreed = abs(last - before) <= AGREEMENT * before
                if agreed or spent + times[-1] > seconds or len(times) >= MOST_CALLS:
                    break
        self.call_s = statistics.median(times[-_window(times[-1], seconds) :])
        return WarmUp(len(times), spent, self.call_s, agreed)

    def block(self, seconds: float) -> Block:
        """Time calls for about `seconds`: at least one, at most 1000."""
        clock = self.clock
        with self.context(), frozen_garbage():
            short = 0 < self.call_s < REFILL_BELOW_S
            if short and self.renew is not None:
                self.call = self.renew()
            before, opened = self.ledger.open(), clock.wall_ns()
            if short:
                # After the ledger, whose reading empties some caches too.
                self.call()
                clock.synchronise()
            begun = read(clock)
            cpu, start = clock.cpu_ns(), clock.wall_ns()
            # Two parts of the time for calls one by one, two for pipelined ones, one for what the device takes alone,
            # which is seen after the ledger's window.
            part = seconds / (2 + 2 * self.throughput + clock.events)
            calls, apart, clearing = self._calls(MOST_CALLS, 2 * part)
            wall, cpu = clock.wall_ns() - start, clock.cpu_ns() - cpu
            idle = idle_ns(begun, read(clock))
            pipelined_s = self._pipelined(statistics.median(calls), 2 * part) if self.throughput else None
            closed = clock.wall_ns()
            after = self.ledger.close()
            device = self._on_device(max(apart), part) if clock.events else ()
            spent = clock.wall_ns() - start
        self.call_s = statistics.median(calls)
        contention = judge(
            before,
            after,
            window_s=(closed - opened) * 1e-9,
            utilisation=cpu / max(wall, 1) / self.threads,
            idle=max(0, idle or 0) / max(wall, 1),
            threads=self.threads,
            on_cpu=self.on_cpu,
        )
        idle_s = None if idle is None else idle * 1e-9
        dispatch, cpu_calls = (apart, []) if clock.events else ([], apart)
        return Block(
            0,
            tuple(calls),
            (cpu - clearing) * 1e-9,
            contention,
            device,
            idle_s,
            tuple(dispatch),
            pipelined_s,
            spent * 1e-9,
            tuple(cpu_calls),
        )

    def _calls(self, most: int, seconds: float) -> tuple[list[float], list[float], int]:
        """Return the seconds of calls one after the other, and of each its processor time.

        On an accelerator instead of that the seconds until it returned. The third is the processor time, in
        nanoseconds, that went into clearing the cache between them.
        """
        clock, call = self.clock, self.call
        wall_ns, cpu_ns, synchronise, events = clock.wall_ns, clock.cpu_ns, clock.synchronise, clock.events
        calls: list[float] = []
        apart: list[float] = []
        clearing = 0
        # Stopping half a call early keeps the mean length of a block at what was asked.
        end = wall_ns() + round(seconds * 1e9) - round(self.call_s * 5e8)
        while True:
            clearing += self._cleared()
            cpu = cpu_ns()
            synchronise()
            start = wall_ns()
            call()
            if events:
                apart.append((wall_ns() - start) * 1e-9)
            synchronise()
            now = wall_ns()
            calls.append((now - start) * 1e-9)
            if not events:
                apart.append((cpu_ns() - cpu) * 1e-9)
            if now >= end or len(calls) >= most:
                return calls, apart, clearing

    def _cleared(self) -> int:
        """Overwrite the cache where that is asked, and return the processor's nanoseconds that it took."""
        if self.clear_cache is None:
            return 0
        before = self.clock.cpu_ns()
        self.clear_cache()
        return self.clock.cpu_ns() - before

    def _pipelined(self, call_s: float, seconds: float) -> float:
        """Return what one of many calls takes that are asked for without a wait between, of about `seconds` together.

        `call_s` is what one takes that is waited for.
        """
        number = max(LEAST_PIPELINED, min(MOST_CALLS, round(seconds / max(call_s, 1e-9))))
        start = self.clock.wall_ns()
        for _ in range(number):
            self.call()
        self.clock.synchronise()
        return (self.clock.wall_ns() - start) * 1e-9 / number

    def _on_device(self, dispatch_s: float, seconds: float) -> tuple[float, ...]:
        """Return what calls take between two events, in a queue that is held until all their work stands in it."""
        clock = self.clock
        found: list[float] = []
        end = clock.wall_ns() + round(seconds * 1e9)
        while not found or (clock.wall_ns() < end and len(found) < MOST_CALLS):
            self._cleared()
            clock.hold(MARGIN_OF_HOLDING * dispatch_s)
            start = clock.mark()
            self.call()
            stop = clock.mark()
            clock.synchronise()
            found.append(clock.between_ns(start, stop) * 1e-9)
        return tuple(found)


def _closed() -> object:
    raise RuntimeError("this workload is closed")


def _window(call_s: float, seconds: float) -> int:
    return max(5 if 20 * call_s < seconds else 2, min(100, round(0.02 / max(call_s, 1e-9))))
