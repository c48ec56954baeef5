"""The machine's peaks, by the clocks that rows rest on."""

from __future__ import annotations

import itertools

import pytest

from mlcv_bench.timing import roofline
from tests.timing.fakes import FakeClock, call_of


@pytest.mark.parametrize(("device", "threads", "bases"), [("cpu", 1, ["wall", "cpu"]), ("cpu", 2, ["wall"])])
def test_one_thread_has_its_peaks_by_both_clocks(monkeypatch, device, threads, bases):
    monkeypatch.setattr(roofline, "_best_seconds", lambda *_: {"wall": 0.4, "cpu": 0.1})
    found = roofline.measure_peaks(device, "float32", threads)
    assert [peaks.basis for peaks in found] == bases
    assert found[0].flops_per_s == pytest.approx(2 * 1024**3 / 0.4)
    assert found[-1].flops_per_s == pytest.approx(2 * 1024**3 / (0.1 if len(bases) > 1 else 0.4))


def test_the_best_call_is_found_by_each_clock_apart(monkeypatch):
    clock = FakeClock()
    longer, shorter = call_of(clock, [0.3], cpu=0.5), call_of(clock, [0.2], cpu=1.0)
    turns = itertools.cycle([longer, shorter])

    def call():
        return next(turns)()

    monkeypatch.setattr(roofline, "clock_for", lambda _device: clock)
    monkeypatch.setattr(roofline.time, "perf_counter", lambda: clock.now * 1e-9)
    assert roofline._best_seconds(call, "cpu", 1.0) == pytest.approx({"wall": 0.2, "cpu": 0.15})
