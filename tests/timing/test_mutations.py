"""Faults put into the timing of accelerators: each must be noticed by a test that the fake device drives."""

from __future__ import annotations

import functools
import inspect
import sys
import textwrap

import pytest

from mlcv_bench.timing import devices, forward, reference
from mlcv_bench.timing.blocks import LocalWorkload
from mlcv_bench.timing.clock import AcceleratorClock
from tests.timing import test_accelerator as checks
from tests.timing.fake_cuda import present

DEVICE_TIME = checks.test_device_time_is_the_kernels_and_a_pass_waits_for_all_of_them
FORWARD = functools.partial(DEVICE_TIME, direction="forward")
TRAINING = functools.partial(DEVICE_TIME, direction="forward-backward")
AT_REST = checks.test_a_call_starts_on_a_device_at_rest
BOUND = checks.test_what_bounds_a_pass_is_the_host_where_kernels_are_short
COLD = checks.test_a_cold_cache_is_overwritten_before_every_timed_call_and_in_no_figure
MEMORY = checks.test_memory_is_the_cells_own_and_none_of_it_outlives_it

MUTATIONS = {
    "no wait before a call": (
        LocalWorkload,
        "_calls",
        "synchronise()\n        start =",
        "pass\n        start =",
        AT_REST,
    ),
    "no wait after a call": (
        LocalWorkload,
        "_calls",
        "synchronise()\n        now =",
        "pass\n        now =",
        FORWARD,
    ),
    "events swapped": (LocalWorkload, "_on_device", "between_ns(start, stop)", "between_ns(stop, start)", FORWARD),
    "milliseconds as microseconds": (AcceleratorClock, "between_ns", "1e6", "1e3", FORWARD),
    "device time dropped": (LocalWorkload, "block", "if clock.events else ()", "if not clock.events else ()", BOUND),
    "queue not held": (LocalWorkload, "_on_device", "clock.hold(", "float(", FORWARD),
    "no wait at the end of pipelined calls": (
        LocalWorkload,
        "_pipelined",
        "self.clock.synchronise()",
        "pass",
        checks.test_pipelined_calls_wait_once_for_all_that_they_asked_for,
    ),
    "cache not cleared before a call": (LocalWorkload, "_calls", "clearing += self._cleared()", "pass", COLD),
    "cache not cleared before events": (LocalWorkload, "_on_device", "self._cleared()", "pass", COLD),
    "cache cleared by nothing": (devices, "cache_clearer", "buffer.add_, 1", "buffer.add_, 0", COLD),
    "peak not reset": (devices, "peak_memory", "allocator.reset_peak_memory_stats(device)", "pass", MEMORY),
    "reserved for allocated": (devices, "peak_memory", "max_memory_allocated", "max_memory_reserved", MEMORY),
    "others' memory counted": (devices, "peak_memory", " - others.allocated", "", MEMORY),
    "images left on the processor": (forward, "_converted", "tensor.to(cell.device)", "tensor", FORWARD),
    "cotangent on the processor": (reference, "training_step", ".sum()).backward", ".sum()).cpu().backward", TRAINING),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_fault_in_the_timing_is_noticed(name, monkeypatch):
    owner, attribute, original, wrong, check = MUTATIONS[name]
    function = getattr(owner, attribute)
    source = textwrap.dedent(inspect.getsource(function))
    assert source.count(original) == 1, "the code that this fault changes has changed: put it in again"
    module = sys.modules[function.__module__]
    made = {}
    exec(compile(source.replace(original, wrong), inspect.getfile(function), "exec"), module.__dict__, made)  # noqa: S102 - our own source with one fault
    for place in {owner, *(one for one in (forward, reference) if getattr(one, attribute, None) is function)}:
        monkeypatch.setattr(place, attribute, made[attribute])
    with present(monkeypatch) as device, pytest.raises((AssertionError, RuntimeError)):
        check(device)
