from __future__ import annotations

import json
import os
import types
from dataclasses import replace

import pytest

from mlcv_bench.timing.contention import Contention, Counters, Ledger, judge
from mlcv_bench.timing.gpu import Gpu, GpuCounters

CORES = os.cpu_count()
IDLE = Counters(
    steal_s=0.0,
    busy_s=0.0,
    throttled_s=0.0,
    pressure_s=0.0,
    cpu_energy_j=100.0,
    gpu=GpuCounters(mhz=1980.0, slowed_s={"power": 0.0, "thermal": 0.0}, energy_j=500.0),
)


def gpu(**readings):
    return replace(IDLE, gpu=GpuCounters(**readings))


def flags(after, **options):
    settings = {"window_s": 1.0, "utilisation": 1.0, "threads": 1, "on_cpu": True} | options
    return judge(IDLE, after, **settings).flags


@pytest.mark.parametrize(
    ("after", "options", "expected"),
    [
        (IDLE, {}, ()),
        (IDLE, {"utilisation": 0.9}, ("preempted",)),
        (IDLE, {"utilisation": 0.45, "threads": 2}, ()),
        (IDLE, {"utilisation": 0.1, "on_cpu": False}, ()),
        (Counters(steal_s=0.01), {}, ()),
        (Counters(steal_s=0.1 * CORES), {}, ("steal",)),
        (Counters(throttled_s=0.02), {}, ("throttled",)),
        (Counters(pressure_s=0.05), {}, ()),
        (Counters(pressure_s=0.3), {}, ("pressure",)),
        (Counters(busy_s=1.0 + CORES - 1, own_s=1.0), {}, ()),
        (Counters(busy_s=1.5 + CORES - 1, own_s=1.0), {}, ("crowded",)),
        (Counters(switches=50), {}, ()),
        (Counters(switches=500), {}, ("switched",)),
        (gpu(mhz=1980.0), {}, ()),
        (gpu(mhz=1845.0), {}, ("gpu_clock",)),
        (gpu(slowed_s={"power": 0.9, "thermal": 0.0}), {}, ()),
        (gpu(slowed_s={"power": 0.0, "thermal": 0.2}), {}, ("gpu_thermal",)),
        (gpu(others_busy=0.02), {}, ()),
        (gpu(others_busy=0.4), {}, ("gpu_shared",)),
    ],
)
def test_each_kind_of_trouble_is_flagged(after, options, expected):
    assert flags(after, **options) == expected


def test_what_a_system_does_not_tell_is_unknown_and_no_reproach():
    found = judge(Counters(), Counters(), window_s=1, utilisation=1.0, threads=1, on_cpu=True)
    assert found == Contention(utilisation=1.0, switches_per_s=0.0)


def test_contention_survives_json():
    found = judge(IDLE, Counters(pressure_s=0.3, busy_s=2.0), window_s=1, utilisation=1, threads=1, on_cpu=True)
    assert Contention.from_dict(json.loads(json.dumps(found.as_dict()))) == found


def test_the_systems_counters_only_grow():
    ledger = Ledger()
    before, after = ledger.open(), ledger.close()
    assert after.own_s >= before.own_s
    assert (after.busy_s or 0) >= (before.busy_s or 0)
    assert before.gpu is None


@pytest.mark.parametrize(
    ("after", "on_cpu", "expected"),
    [
        (replace(IDLE, cpu_energy_j=130.0), True, 15.0),
        (gpu(energy_j=700.0), False, 100.0),
        (gpu(energy_j=3.0), False, None),
        (gpu(), False, None),
        (replace(IDLE, cpu_energy_j=None), True, None),
    ],
)
def test_the_power_is_that_of_what_computes(after, on_cpu, expected):
    found = judge(IDLE, after, window_s=2.0, utilisation=1.0, threads=1, on_cpu=on_cpu)
    assert found.power_w == expected


class Nvml:
    """As much of NVML as is asked, for a GPU whose driver does not tell everything."""

    NVML_CLOCK_SM, NVML_ERROR_NOT_SUPPORTED, NVML_ERROR_NOT_FOUND = 1, 3, 6

    class NVMLError(Exception):
        def __init__(self, value=3):
            self.value = value

    def __init__(self, *, pids=(), samples=(), error=None):
        self.pids, self.samples, self.error, self.asked_from = pids, samples, error, []

    def __getattr__(self, name):
        def refuse(*arguments):
            raise self.NVMLError

        return refuse

    def nvmlDeviceGetClockInfo(self, handle, which):  # noqa: N802 - its name in NVML
        return 1980

    def nvmlDeviceGetViolationStatus(self, handle, policy):  # noqa: N802 - its name in NVML
        if policy != 1:
            raise self.NVMLError
        return types.SimpleNamespace(violationTime=2_500_000_000)

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):  # noqa: N802 - its name in NVML
        return 12_500

    def nvmlDeviceGetComputeRunningProcesses(self, handle):  # noqa: N802 - its name in NVML
        return [types.SimpleNamespace(pid=pid) for pid in self.pids]

    def nvmlDeviceGetProcessUtilization(self, handle, since):  # noqa: N802 - its name in NVML
        self.asked_from.append(since)
        if self.error is not None:
            raise self.NVMLError(self.error)
        return [types.SimpleNamespace(pid=pid, smUtil=util, timeStamp=at) for pid, util, at in self.samples]


def test_a_gpu_is_read_in_seconds_joules_and_megahertz():
    own = os.getpid()
    nvml = Nvml(pids=(own, 7), samples=((own, 90, 11), (7, 30, 12)))
    gpu = Gpu(nvml, "handle")
    assert gpu.read() == GpuCounters(1980.0, {"thermal": 2.5}, 12.5, 0.3)
    gpu.read()
    assert nvml.asked_from == [0, 12], "each reading asks for what came since the one before"


@pytest.mark.parametrize(
    ("error", "busy"), [(Nvml.NVML_ERROR_NOT_FOUND, 0.0), (Nvml.NVML_ERROR_NOT_SUPPORTED, None), (999, None)]
)
def test_what_the_driver_does_not_tell_of_others_is_unknown_and_not_none(error, busy):
    """As under MIG, where the query is not supported; "not found" means that nobody used the GPU."""
    gpu = Gpu(Nvml(pids=(os.getpid(),), error=error), "handle")
    assert gpu.read().others_busy == busy
    after = replace(IDLE, gpu=gpu.read())
    found = judge(IDLE, after, window_s=1.0, utilisation=1.0, threads=1, on_cpu=False)
    assert (found.gpu_others, "gpu_shared" in found.flags) == (busy, False)
    assert gpu.facts() == dict.fromkeys(gpu.facts()) | {"tells_other_processes": busy is not None}


def test_a_process_that_the_driver_knows_by_another_number_accuses_nobody():
    assert Gpu(Nvml(pids=(7,), samples=((7, 99, 1),)), "handle").read().others_busy is None
