from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from torch import nn

import mlcv_bench
from mlcv_bench import time_forward
from mlcv_bench.errors import UsageError
from mlcv_bench.timing import single
from mlcv_bench.timing.request import Facts
from mlcv_bench.timing.single import assert_not_slower
from tests.timing.fakes import FakeWorkload


@pytest.fixture
def fake(monkeypatch):
    """Prepare fake workloads instead of networks: the n-th takes the n-th time."""
    seen = []

    def use(*seconds):
        source = itertools.cycle(seconds)

        def prepare(cell, build, *, comparing=False):
            seen.append((cell, build()))
            return FakeWorkload(next(source)), Facts(0.0, 0.0, 0.1)

        monkeypatch.setattr(single, "prepare", prepare)
        return seen

    return use


def test_a_name_is_timed_and_credited_with_its_work(fake):
    seen = fake(0.1)
    timing = time_forward("resnet20", batch=2, device="cpu", threads=1)
    row = timing.row()
    assert (row["status"], row["median_s"], row["batch"], row["input"]) == ("done", 0.1, 2, "3x32x32")
    assert row["gflops_per_s"] == pytest.approx(2 * row["macs"] / 0.1 / 1e9)
    assert isinstance(seen[0][1], nn.Module)


def test_a_module_is_copied_and_left_as_it_is(fake):
    model = nn.Conv2d(3, 4, 3)
    seen = fake(0.1)
    row = time_forward(model, input=(3, 8, 8), device="cpu").row()
    assert seen[0][1] is not model
    assert torch.equal(seen[0][1].weight, model.weight)
    assert row["architecture"] == "Conv2d"
    assert row["gflops_per_s"] is None


def test_an_unknown_device_is_said():
    with pytest.raises(UsageError, match="this machine has"):
        time_forward("resnet20", device="cuda:63")


@pytest.mark.parametrize(
    "settings",
    [{"runtime": "inductor"}, {"dtype": "half"}, {"memory_format": "nhwc"}, {"batch": 0}, {"threads": 0}],
)
def test_what_cannot_be_timed_so_is_refused(settings):
    with pytest.raises(UsageError):
        time_forward(nn.Conv2d(3, 4, 3), input=(3, 8, 8), **settings)


def test_slower_fails_and_equal_passes(fake):
    model = nn.Conv2d(3, 4, 3)
    fake(0.04, 0.05, 0.04)
    with pytest.raises(AssertionError, match=r"slower: 1\.250"):
        assert_not_slower(model, model, (3, 8, 8))
    fake(0.04, 0.04, 0.04)
    assert assert_not_slower(model, model, (3, 8, 8)).verdict == "same"


def test_twice_the_work_in_a_thread_of_its_own_is_slower(monkeypatch):
    """Beside load, where that thread's waiting for a core ends with it: by the wall clock of both."""
    turns = itertools.cycle([(0.04, 0.02, 0.0), (0.08, 0.04, 0.03), (0.04, 0.02, 0.0)])

    def prepare(_cell, _build, *, comparing=False):
        wall, cpu, idle = next(turns)
        workload = FakeWorkload(wall)
        block = workload.block
        workload.block = lambda seconds: replace(block(seconds), cpu_s=cpu, idle_s=idle)
        return workload, Facts(0.0, 0.0, 0.1)

    monkeypatch.setattr(single, "prepare", prepare)
    with pytest.raises(AssertionError, match=r"slower: 2\.000 .* times the base's wall time"):
        assert_not_slower(nn.Flatten(), nn.Flatten(), (3, 8, 8))


def test_what_cannot_be_decided_fails_only_when_strict(fake):
    model = nn.Conv2d(3, 4, 3)
    fake(0.04, 0.042, 0.044)
    assert assert_not_slower(model, model, (3, 8, 8), margin=0.01, seconds=3).verdict == "inconclusive"
    fake(0.04, 0.042, 0.044)
    with pytest.raises(AssertionError, match="inconclusive"):
        assert_not_slower(model, model, (3, 8, 8), margin=0.01, seconds=3, strict=True)


def test_a_margin_below_what_processes_differ_by_is_refused():
    model = nn.Conv2d(3, 4, 3)
    with pytest.raises(UsageError, match=r"give 0\.01"):
        assert_not_slower(model, model, (3, 8, 8), margin=0.005)


def test_the_callers_threads_stay_as_they_were(fake):
    model = nn.Conv2d(3, 4, 3)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        mlcv_bench.time_forward(model, input=(3, 8, 8), device="cpu", seconds=0.1, threads=1)
        assert torch.get_num_threads() == 2
        fake(0.04)
        assert_not_slower(model, model, (3, 8, 8))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_it_really_runs():
    timing = mlcv_bench.time_forward(nn.Conv2d(3, 4, 3), input=(3, 8, 8), device="cpu", seconds=0.1)
    assert timing.status == "done"
