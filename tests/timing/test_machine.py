"""The wait policy, and the machine's peaks by the clocks that rows rest on."""

from __future__ import annotations

import itertools
import subprocess
import sys

import pytest

from mlcv_bench.timing import machine
from tests.timing.fakes import FakeClock, call_of


def test_waiting_threads_are_told_to_sleep():
    environment = {"PATH": "/bin"}
    assert machine.settle(environment)
    assert environment["OMP_WAIT_POLICY"] == "passive"
    assert environment["GOMP_SPINCOUNT"] == "0"


def test_a_user_who_decided_is_left_alone():
    environment = {"OMP_WAIT_POLICY": "active"}
    machine.settle(environment)
    assert environment["OMP_WAIT_POLICY"] == "active"
    assert "GOMP_SPINCOUNT" not in environment


def test_it_loads_no_torch_and_says_when_it_comes_too_late(monkeypatch):
    code = (
        "import sys; from mlcv_bench.timing import machine; assert machine.settle(); assert 'torch' not in sys.modules;"
        "sys.modules['torch'] = None; assert not machine.settle()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_policy_in_force_is_named(monkeypatch):
    for name in machine.PASSIVE:
        monkeypatch.delenv(name, raising=False)
    assert "default" in machine.wait_policy()
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    assert machine.wait_policy() == "OMP_WAIT_POLICY=passive"


@pytest.mark.parametrize(("device", "threads", "bases"), [("cpu", 1, ["wall", "cpu"]), ("cpu", 2, ["wall"])])
def test_one_thread_has_its_peaks_by_both_clocks(monkeypatch, device, threads, bases):
    monkeypatch.setattr(machine, "_best_seconds", lambda *_: {"wall": 0.4, "cpu": 0.1})
    found = machine.measure_peaks(device, "float32", threads)
    assert [peaks.basis for peaks in found] == bases
    assert found[0].flops_per_s == pytest.approx(2 * 1024**3 / 0.4)
    assert found[-1].flops_per_s == pytest.approx(2 * 1024**3 / (0.1 if len(bases) > 1 else 0.4))


def test_the_best_call_is_found_by_each_clock_apart(monkeypatch):
    clock = FakeClock()
    longer, shorter = call_of(clock, [0.3], cpu=0.5), call_of(clock, [0.2], cpu=1.0)
    turns = itertools.cycle([longer, shorter])

    def call():
        return next(turns)()

    monkeypatch.setattr(machine, "clock_for", lambda _device: clock)
    monkeypatch.setattr(machine.time, "perf_counter", lambda: clock.now * 1e-9)
    assert machine._best_seconds(call, "cpu", 1.0) == pytest.approx({"wall": 0.2, "cpu": 0.15})
