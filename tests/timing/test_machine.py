"""The wait policy, and the machine's peaks by the clocks that rows rest on."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys

import pytest

from mlcv_bench import environment
from mlcv_bench.errors import UsageError
from mlcv_bench.report.timings import peak_warnings
from mlcv_bench.timing import devices, machine
from tests.timing.fakes import LOUD, FakeClock, call_of


@pytest.fixture(autouse=True)
def _variables_kept(monkeypatch):
    """Restore what a test sets: monkeypatch restores what it deleted or set itself."""
    for name in machine.WAIT_POLICIES["passive"]:
        monkeypatch.setenv(name, "of the user")


@pytest.mark.parametrize("policy", machine.WAIT_POLICIES)
def test_a_policy_holds_whatever_the_users_environment_says(policy):
    machine.set_wait_policy(policy)
    found = {name: os.environ[name] for name in machine.WAIT_POLICIES["passive"] if name in os.environ}
    assert found == machine.WAIT_POLICIES[policy]
    assert machine.wait_policy() == policy


def test_it_loads_no_torch_and_says_when_it_comes_too_late():
    code = (
        "import sys; from mlcv_bench.timing.machine import set_wait_policy as set\n"
        "assert set('passive'); assert 'torch' not in sys.modules\n"
        "sys.modules['torch'] = None; assert not set('passive')"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(("name", "value"), [("OMP_WAIT_POLICY", "PASSIVE"), ("GOMP_SPINCOUNT", "0")])
def test_the_policy_in_force_is_named(monkeypatch, name, value):
    machine.set_wait_policy()
    monkeypatch.setenv(name, value)
    assert machine.wait_policy() == "passive"


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


def test_peaks_that_find_no_memory_are_refused_before_anything_is_measured(monkeypatch):
    monkeypatch.setattr(devices, "free_bytes", lambda _device: 2**28)
    monkeypatch.setattr(machine, "_best_seconds", pytest.fail)
    with pytest.raises(UsageError, match=r"--roofline needs 0.5 GiB on cpu to measure its peaks, and 0.2 are free"):
        machine.measure_peaks("cpu", "float32", 1)


def test_peaks_measured_beside_load_say_so(monkeypatch):
    monkeypatch.setattr(machine, "_best_seconds", lambda *_: {"wall": 0.4, "cpu": 0.1})
    monkeypatch.setattr(machine, "judge", lambda *_, **__: LOUD)
    found = machine.measure_peaks("cpu", "float32", 2)
    assert [peaks.contention for peaks in found] == [("preempted",)]
    (said,) = peak_warnings(found)
    assert "peaks of cpu, float32 were measured beside other load (preempted) and may be too low" in said


def test_an_accelerator_is_its_name_its_driver_and_its_switches():
    gpus = [{"name": "NVIDIA H200"}]
    settings = {"cudnn.conv.fp32_precision": "tf32", "cuda.matmul.fp32_precision": "none", "mkldnn": True}
    described = {"gpus": gpus, "driver": "570.1", "torch_settings": settings}
    assert machine.accelerators_in({"cuda:0", "cpu"}, described) == "NVIDIA H200, driver 570.1, TF32 in cudnn.conv"
    settings["cudnn.conv.fp32_precision"] = "ieee"
    assert machine.accelerators_in({"cuda:0"}, described) == "NVIDIA H200, driver 570.1, TF32 in nothing"
    assert machine.accelerators_in({"cpu"}, described) is None


@pytest.mark.parametrize(
    ("caches", "held"),
    [
        ({0: {3: ("32M", "0-1")}, 1: {3: ("32M", "0-1")}}, 32 * 2**20),
        ({0: {2: ("512K", "0"), 3: ("32768K", "0")}, 1: {2: ("512K", "1"), 3: ("32768K", "1")}}, 64 * 2**20),
        ({0: {1: ("48K", "0"), 2: ("2048K", "0")}}, 2 * 2**20),
        ({}, None),
    ],
)
def test_the_last_level_caches_of_the_cores_usable_are_added_up(caches, held, tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "CPUS", tmp_path)
    monkeypatch.setattr(environment, "allowed_cores", lambda: {0, 1})
    for core, levels in caches.items():
        for level, (size, shared) in levels.items():
            index = tmp_path / f"cpu{core}" / "cache" / f"index{level}"
            index.mkdir(parents=True)
            for name, text in (("level", level), ("size", size), ("shared_cpu_list", shared)):
                (index / name).write_text(f"{text}\n")
    assert environment.cache_bytes() == held
