from __future__ import annotations

import json
import os

import pytest

from mlcv_bench import environment
from mlcv_bench.timing import contention
from mlcv_bench.timing.contention import Contention, Counters, Ledger, judge

CORES = os.cpu_count()
IDLE = Counters(steal_s=0.0, busy_s=0.0, throttled_s=0.0, pressure_s=0.0)


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
        (Counters(gpu=(1400.0, 0x20 | 0x4)), {"on_cpu": False}, ("gpu_power_cap", "gpu_thermal")),
        (Counters(gpu=(1400.0, 0x1)), {"on_cpu": False}, ()),
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
    before, after = ledger.read(), ledger.read()
    assert after.own_s >= before.own_s
    assert (after.busy_s or 0) >= (before.busy_s or 0)
    assert before.gpu is None


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("cpu.stat", "usage_usec 5\nnr_throttled 2\nthrottled_usec 1500000\n", ("throttled_usec", 1e-6, 1.5)),
        ("cpu.stat", "nr_periods 0\nthrottled_time 2500000000\n", ("throttled_time", 1e-9, 2.5)),
        ("cpu.stat", "something else\n", ("throttled_usec", 1e-6, None)),
    ],
)
def test_throttling_is_read_from_both_versions_of_cgroups(tmp_path, monkeypatch, name, text, expected):
    path = tmp_path / name
    path.write_text(text)
    key, unit, seconds = expected
    monkeypatch.setattr(contention, "_throttle_file", lambda: (path, key, unit))
    assert contention._throttled_seconds() == (pytest.approx(seconds) if seconds else None)


def test_a_gpu_is_asked_through_nvidia_smi(monkeypatch):
    class Answer:
        stdout = "1410, 0x0000000000000020\n"

    seen = []
    monkeypatch.setattr(environment.subprocess, "run", lambda command, **_: seen.append(command) or Answer())
    assert contention._gpu_state_by_tool(3) == (1410.0, 0x20)
    assert "--id=3" in seen[0]


def test_visible_devices_are_translated(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert contention._physical_index(1) == 5
