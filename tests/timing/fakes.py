"""A clock, a ledger and workloads that need no time."""

from __future__ import annotations

import itertools

from mlcv_bench.timing.blocks import Block, WarmUp
from mlcv_bench.timing.contention import Contention, Counters

QUIET = Contention(utilisation=1.0, switches_per_s=0.0)
LOUD = Contention(utilisation=0.5, switches_per_s=900.0, flags=("preempted",))


class FakeClock:
    """A clock that only a call moves."""

    def __init__(self, *, events=False):
        self.now, self.cpu, self.waited, self.events = 0, 0, {"1": 0}, events
        self.synchronised = 0

    def wall_ns(self):
        return self.now

    def cpu_ns(self):
        return self.cpu

    def waited_ns(self):
        return None if self.waited is None else dict(self.waited)

    def synchronise(self):
        self.synchronised += 1

    def mark(self):
        return self.now

    def between_ns(self, start, end):
        return end - start

    def hold(self, seconds):
        pass

    def advance(self, seconds, cpu=1.0, idle=0.0):
        """Compute, sleep, and wait for a core in what is left, all as shares of `seconds`."""
        self.now += round(seconds * 1e9)
        self.cpu += round(seconds * cpu * 1e9)
        if self.waited is not None:
            self.waited["1"] += round(seconds * (1 - cpu - idle) * 1e9)


class FakeLedger:
    """A ledger that returns what a test gives it, and zeros afterwards."""

    def __init__(self, *readings):
        self.readings = list(readings)
        self.reads = 0

    def close(self):
        self.reads += 1
        return self.readings.pop(0) if self.readings else Counters()

    open = close


def call_of(clock, durations, cpu=1.0, idle=0.0):
    """Return a call that takes the durations in turn, the last one for ever."""
    *first, last = durations
    source = itertools.chain(first, itertools.repeat(last))

    def call():
        call.times += 1
        clock.advance(next(source), cpu, idle)
        return call.times

    call.times = 0
    return call


class FakeWorkload:
    """A workload whose blocks are written down in advance: wall seconds a call, clean unless it says otherwise."""

    def __init__(self, seconds, *, calls=1, log=None, name="", contention=QUIET, fail_at=None):
        self.seconds = itertools.cycle(seconds) if isinstance(seconds, list) else itertools.repeat(seconds)
        self.contention = itertools.cycle(contention) if isinstance(contention, list) else itertools.repeat(contention)
        self.calls, self.log, self.name, self.fail_at = calls, log if log is not None else [], name, fail_at
        self.blocks, self.closed, self.warmed = 0, False, 0

    def warm_up(self, seconds):
        self.warmed += 1
        return WarmUp(2, 0.0, 0.01, agreed=True)

    def block(self, seconds):
        if self.fail_at is not None and self.blocks >= self.fail_at:
            message = "boom"
            raise RuntimeError(message)
        self.blocks += 1
        self.log.append(self.name)
        value = next(self.seconds)
        return Block(0, (value,) * self.calls, value * self.calls, next(self.contention), idle_s=0.0)

    def close(self):
        self.closed = True
