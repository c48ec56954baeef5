"""The processor's clock is the process's, and what is left out is waiting for a core alone."""

from __future__ import annotations

import json
import threading
import time

import pytest

from mlcv_bench.timing import clock as module
from mlcv_bench.timing.blocks import Block, LocalWorkload, computes_alone
from mlcv_bench.timing.clock import Clock, Reading, idle_ns, read
from tests.timing.fakes import QUIET, FakeClock, FakeLedger, call_of


def test_the_processor_time_of_every_thread_counts():
    """Until another thread has computed for 20 ms, whatever the wall clock says, this clock has to move as much."""

    def compute():
        end = time.thread_time() + 0.02
        while time.thread_time() < end:
            pass

    before = Clock.cpu_ns()
    thread = threading.Thread(target=compute)
    thread.start()
    thread.join()
    assert Clock.cpu_ns() - before >= 20_000_000


@pytest.fixture
def tasks(tmp_path, monkeypatch):
    """Pretend to be a kernel: give each task the text of its schedstat; None for a task without one."""
    monkeypatch.setattr(module, "TASKS", tmp_path / "task")

    def tell(**texts):
        for name, text in texts.items():
            (tmp_path / "task" / name).mkdir(parents=True, exist_ok=True)
            if text is not None:
                (tmp_path / "task" / name / "schedstat").write_text(text)

    return tell


@pytest.mark.parametrize(
    ("texts", "waited"),
    [
        ({"one": "949160 139672 2\n", "two": "5 7 1\n"}, {"one": 139672, "two": 7}),
        ({"one": "949160 139672 2\n", "ended": None}, {"one": 139672}),
        ({"one": "0 0 0\n"}, None),
        ({"one": None}, None),
        ({"one": "not these\n"}, None),
        ({}, None),
    ],
)
def test_the_run_delay_is_read_where_the_kernel_tells_it(tasks, texts, waited):
    tasks(**texts)
    assert Clock.waited_ns() == waited


@pytest.mark.parametrize(
    ("before", "after", "idle"),
    [
        (Reading(0, 0, {"1": 5}), Reading(100, 100, {"1": 5}), 0),
        (Reading(0, 0, {"1": 5}), Reading(100, 20, {"1": 85}), 0),
        (Reading(0, 0, {"1": 5}), Reading(100, 20, {"1": 5}), 80),
        # A thread that began since has waited all it ever did; one that ended took its delay with it.
        (Reading(0, 0, {"1": 5}), Reading(100, 60, {"1": 5, "2": 30}), 10),
        (Reading(0, 0, {"1": 5, "2": 9}), Reading(100, 60, {"1": 5}), 40),
        (Reading(0, 0, {"1": 5}), Reading(100, 180, {"1": 5}), -80),
        (Reading(0, 0, None), Reading(100, 20, {"1": 5}), None),
        (Reading(0, 0, {"1": 5}), Reading(100, 20, None), None),
    ],
)
def test_what_is_neither_computing_nor_waiting_for_a_core_is_idle(before, after, idle):
    assert idle_ns(before, after) == idle


def test_a_reading_during_which_the_process_waited_is_taken_again():
    class Waits(FakeClock):
        times = 2

        def wall_ns(self):
            if self.times:
                self.times -= 1
                self.advance(0.001, cpu=0)
            return super().wall_ns()

    clock = Waits()
    assert read(clock) == Reading(2_000_000, 0, {"1": 2_000_000})
    endless = Waits()
    endless.times = 99
    assert read(endless).wall == 1_000_000 * module.MOST_READINGS


@pytest.mark.parametrize(
    ("cpu", "idle", "told", "expected_idle", "flags", "alone"),
    [
        (1.0, 0.0, True, 0.0, (), True),
        (0.3, 0.0, True, 0.0, ("preempted",), True),
        (0.3, 0.7, True, 0.7, (), False),
        (0.3, 0.5, True, 0.5, ("preempted",), False),
        (1.9, 0.0, True, 0.0, (), True),
        (1.9, -0.9, True, -0.9, (), False),
        (0.3, 0.7, False, None, ("preempted",), False),
        (1.0, 0.0, False, None, (), False),
    ],
)
def test_a_block_tells_sleeping_from_waiting_for_a_core(cpu, idle, told, expected_idle, flags, alone):
    clock = FakeClock()
    if not told:
        clock.waited = None
    call = call_of(clock, [0.01], cpu, idle)
    block = LocalWorkload(call, clock=clock, ledger=FakeLedger()).block(0.1)
    assert block.idle_share == (None if expected_idle is None else pytest.approx(expected_idle))
    assert block.contention.flags == flags
    assert computes_alone([block]) == alone
    assert block.seconds_by("wall") == pytest.approx(0.01)
    assert block.seconds_by("cpu") == pytest.approx(0.01 * (cpu + max(0, expected_idle or 0)))


def test_what_is_slept_for_a_little_is_no_way_to_be_faster():
    """Below the share from which the wall clock decides, idling is part of the figure all the same."""
    clock = FakeClock()
    block = LocalWorkload(call_of(clock, [0.01], 0.5, 0.04), clock=clock, ledger=FakeLedger()).block(0.1)
    assert computes_alone([block])
    assert block.seconds_by("cpu") == pytest.approx(0.0054)


@pytest.mark.parametrize(
    ("cpu", "idle", "expected"),
    [(0.0003, 1.9997, 1.9901), (0.02, 0.03, 0.0), (0.02, -0.01, 0.0), (0.02, None, None)],
)
def test_what_ended_threads_may_have_waited_is_no_sleep(cpu, idle, expected):
    found = Block(0, (2.0,), cpu, QUIET, idle_s=idle).idle_per_call_s
    assert found == (None if expected is None else pytest.approx(expected))


def test_a_block_of_an_older_version_has_no_processor_clock():
    values = Block(0, (0.1,), 0.02, QUIET).as_dict()
    del values["idle_s"]
    block = Block.from_dict(json.loads(json.dumps(values)))
    assert block.idle_s is None
    assert not computes_alone([block])
    assert not computes_alone([])
