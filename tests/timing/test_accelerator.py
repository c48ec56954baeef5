"""The path for accelerators, on a CUDA device made of processor memory, whose kernels take known times."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from mlcv_bench.api.verification import verify
from mlcv_bench.architectures.build import build
from mlcv_bench.architectures.reproducibility import deterministic
from mlcv_bench.equivalence.exact import plain_arithmetic
from mlcv_bench.equivalence.forms import form_costs
from mlcv_bench.equivalence.request import VerifyRequest
from mlcv_bench.report.timings import timing_report
from mlcv_bench.timing import devices
from mlcv_bench.timing.clock import AcceleratorClock
from mlcv_bench.timing.devices import accelerators, cache_clearer, resolve_device
from mlcv_bench.timing.forward import prepare
from mlcv_bench.timing.machine import Peaks
from mlcv_bench.timing.request import Cell, CellCost
from mlcv_bench.timing.sampling import Plan
from mlcv_bench.timing.study import Timing, time_cells
from tests.timing.fake_cuda import CONTEXT, present

KERNEL_S = 2e-3


@pytest.fixture
def device(monkeypatch):
    with present(monkeypatch) as found:
        yield found


class Small(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.Flatten())
        self.head = nn.Linear(width * 256, 4)

    def forward(self, images):
        return self.head(self.body(images))


def cell(**settings):
    return Cell("small", (3, 16, 16), device="cuda:0", **{"batch": 2, **settings})


def timings(*cells, seconds=0.3):
    plan = Plan(seconds=seconds)
    return [Timing(one, CellCost(), plan) for one in cells], plan


def test_the_device_is_found_by_every_name(device):
    assert accelerators() == ["cuda:0"]
    assert [resolve_device(name) for name in ("auto", "cuda", "cuda:0", "cpu")] == ["cuda:0", "cuda:0", "cuda:0", "cpu"]


@pytest.mark.parametrize("direction", ["forward", "forward-backward"])
def test_device_time_is_the_kernels_and_a_pass_waits_for_all_of_them(device, direction):
    workload, _ = prepare(cell(direction=direction), Small)
    device.kernel_ns = KERNEL_S * 1e9
    workload.warm_up(0.01)
    before = device.kernels
    with workload.context():
        workload.call()
    kernels = device.kernels - before
    block = workload.block(0.1)
    # The queue was held: between the events lies what the kernels take, and no waiting for the host, unless that was
    # kept from its core for longer than the queue was held.
    assert min(block.device_s) == pytest.approx(kernels * KERNEL_S, rel=1e-6)
    assert min(block.calls_s) >= kernels * KERNEL_S
    assert all(dispatch <= whole for dispatch, whole in zip(block.dispatch_s, block.calls_s, strict=True))
    # A call that brought anything back to the host would wait for it.
    assert min(block.dispatch_s) < kernels * KERNEL_S


def test_a_call_starts_on_a_device_at_rest(device):
    workload, _ = prepare(cell(), Small)
    workload.call_s = 1.0
    device.hold(2 * 0.5e9)
    block = workload.block(0.01)
    assert block.calls_s[0] < 0.4, "what was asked before is no part of it"


def test_what_bounds_a_pass_is_the_host_where_kernels_are_short(device):
    for kernel_ns, bound in ((1.0, "launch"), (5e6, "device")):
        found, plan = timings(cell())
        device.kernel_ns = kernel_ns
        time_cells(found, plan, open_cell=lambda one: prepare(one, Small))
        row = found[0].row()
        assert (row["status"], row["bound"]) == ("done", bound)
        assert row["median_s"] >= row["device_s"] > 0
        assert row["dispatch_s"] > 0


def test_a_pass_is_bound_by_memory_where_its_least_traffic_takes_most_of_what_memory_can_move(device):
    plan = Plan(seconds=0.3)
    timing = Timing(cell(), CellCost(params=10, macs=3_000, moved_bytes=4_000), plan)
    device.kernel_ns = 5e6
    time_cells([timing], plan, open_cell=lambda one: prepare(one, Small))
    moved_per_s, compute = 4_000 / timing.row()["device_s"], 2 * 3_000 / 4_000
    for peak_bytes_per_s, ridge, bound in (
        (moved_per_s / 0.61, 1.1 * compute, "memory"),
        (moved_per_s / 0.59, 1.1 * compute, "device"),
        (moved_per_s / 0.61, 0.9 * compute, "device"),
    ):
        peaks = [Peaks(timing.cell.device, "float32", timing.cell.threads, ridge * peak_bytes_per_s, peak_bytes_per_s)]
        (row,) = timing_report([timing], plan, peaks=peaks).runs
        assert row["bound"] == bound


def test_the_table_shows_what_the_device_and_the_host_take(device):
    found, plan = timings(cell())
    device.kernel_ns = 5e6
    time_cells(found, plan, open_cell=lambda one: prepare(one, Small))
    (table,) = timing_report(found, plan).tables
    assert {"device_s", "dispatch_s", "bound"} < {column.key for column in table.columns}
    assert "bound: launch where that takes longer than the kernels" in table.caption
    on_processor, plan = timings(Cell("small", (3, 16, 16)), seconds=0.1)
    time_cells(on_processor, plan, open_cell=lambda one: prepare(one, Small))
    (table,) = timing_report(on_processor, plan).tables
    assert not {"device_s", "dispatch_s", "bound", "compile_s"} & {column.key for column in table.columns}
    assert "launch" not in table.caption


def test_pipelined_calls_wait_once_for_all_that_they_asked_for(device):
    """The host asks for the next call while the kernels of the one before still run."""
    workload, _ = prepare(cell(throughput=True), Small)
    device.kernel_ns = KERNEL_S * 1e9
    before = device.kernels
    with workload.context():
        workload.call()
        workload.clock.synchronise()
    kernels = device.kernels - before
    workload.call_s = kernels * KERNEL_S
    block = workload.block(0.25)
    assert kernels * KERNEL_S <= block.pipelined_s <= min(block.calls_s)
    assert block.spent_s >= sum(block.calls_s) + 2 * block.pipelined_s
    plain, _ = prepare(cell(), Small)
    assert plain.block(0.01).pipelined_s is None


def test_throughput_is_a_column_beside_the_latency(device):
    found, plan = timings(cell(throughput=True), seconds=0.3)
    device.kernel_ns = 1e6
    time_cells(found, plan, open_cell=lambda one: prepare(one, Small))
    row = found[0].row()
    pipelined = sorted(block.pipelined_s for block in found[0].sampling.used(plan))
    assert min(pipelined) <= 2 / row["throughput_images_per_s"] <= max(pipelined)
    assert row["throughput"]
    (table,) = timing_report(found, plan).tables
    assert "throughput_images_per_s" in {column.key for column in table.columns}
    assert "throughput: images a second of calls that are asked for" in table.caption


def test_a_cold_cache_is_overwritten_before_every_timed_call_and_in_no_figure(device):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(devices, "LEAST_CLEARED", 2**20)
        device.cache_bytes = 2**20
        workload, facts = prepare(cell(cold_cache=True), Small)
    plain, warm = prepare(cell(), Small)
    held = device.allocated
    assert workload.clear_cache.func.__self__.nbytes == 2 * device.cache_bytes
    assert facts.allocated_bytes == warm.allocated_bytes, "the buffer is no part of what the network needs"
    assert plain.clear_cache is None
    call, overwritten = workload.call, []

    def watched():
        overwritten.append(int(workload.clear_cache.func.__self__._inner[0]))
        return call()

    workload.call = watched
    block = workload.block(0.05)
    calls = len(block.calls_s) + len(block.device_s)
    assert overwritten == list(range(1, 1 + calls)), "once before every call, by the wall clock and by events"
    workload.close()
    assert held - device.allocated >= 2 * device.cache_bytes, (
        "the buffer lies on the device, and goes with the workload"
    )


def test_the_buffer_that_clears_a_cache_is_larger_than_any(device):
    assert cache_clearer("cuda:0").func.__self__.nbytes == 256 * 2**20, "as triton's do_bench has it"


def test_a_held_queue_starts_nothing_before_its_time(device):
    clock = AcceleratorClock("cuda:0")
    start = clock.wall_ns()
    clock.hold(0.02)
    clock.synchronise()
    assert clock.wall_ns() - start >= 0.02e9


def test_memory_is_the_cells_own_and_none_of_it_outlives_it(device):
    first, wide = prepare(cell(batch=8), lambda: Small(256))
    second, beside = prepare(cell(), Small)
    second.close()
    first.close()
    assert device.allocated == 0, "a closed workload holds nothing, whoever refers to it"
    third, alone = prepare(cell(), Small)
    third.close()
    assert beside.allocated_bytes == alone.allocated_bytes < wide.allocated_bytes
    assert beside.reserved_bytes <= wide.reserved_bytes
    # 2 x 8 x 16 x 16 numbers of the widest map and the head's 8,192 weights, at the least.
    assert alone.allocated_bytes >= 4 * (2 * 8 * 256 + 8 * 256 * 4)
    assert alone.allocated_bytes < 2**20 < 2**21 <= alone.reserved_bytes, "the allocator takes 2 MiB at a time"


def test_the_memory_of_a_folded_network_is_without_what_it_was_folded_from(device):
    plain, whole = prepare(cell(), lambda: Small(256))
    plain.close()
    workload, folded = prepare(cell(fold_batch_norm=True), lambda: Small(256))
    workload.close()
    assert folded.allocated_bytes <= whole.allocated_bytes
    assert device.allocated == 0


def test_a_half_precision_batch_needs_no_memory_for_its_float32_check(device):
    shape, batch = (3, 16, 16), 512
    workload, facts = prepare(cell(batch=batch, dtype="bfloat16"), Small)
    workload.close()
    whole, _ = prepare(cell(batch=batch), Small)
    whole_peak = device.peak_allocated
    whole.close()
    device.total = CONTEXT + (facts.allocated_bytes + whole_peak) // 2 + 2**21
    again, checked = prepare(cell(batch=batch, dtype="bfloat16"), Small)
    again.close()
    assert checked.max_rel_error == facts.max_rel_error
    assert facts.allocated_bytes >= 2 * batch * math.prod(shape)


@pytest.mark.parametrize("direction", ["forward", "forward-backward"])
def test_a_check_in_parts_is_the_check_of_the_whole_batch(device, direction, monkeypatch):
    workload, whole = prepare(cell(batch=20, direction=direction), Small)
    workload.close()
    real, seen = nn.Conv2d.forward, []

    def short_of_memory(self, images):
        seen.append(len(images))
        if len(seen) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return real(self, images)

    monkeypatch.setattr(nn.Conv2d, "forward", short_of_memory)
    workload, parts = prepare(cell(batch=20, direction=direction), Small)
    workload.close()
    assert seen[:5] == [20, 8, 8, 4, 20]
    assert parts.max_rel_error == pytest.approx(whole.max_rel_error, abs=1e-6)


@pytest.mark.parametrize("direction", ["forward", "forward-backward"])
def test_tf32_is_torchs_default_and_no_wrong_result(device, direction):
    device.tf32 = True
    shape = (3, 32, 32)
    cells = [
        Cell("resnet8", shape, device="cuda:0", batch=2, direction=direction, tf32=tf32) for tf32 in ("default", "off")
    ]
    (rounded, with_tf32), (other, without) = [prepare(one, lambda: build("resnet8")) for one in cells]
    rounded.close()
    other.close()
    assert with_tf32.max_rel_error > without.max_rel_error
    assert with_tf32.tolerance > without.tolerance
    assert torch.backends.cudnn.conv.fp32_precision == "tf32", "the switches are the program's again"


def test_out_of_memory_is_a_row_that_names_the_batch_to_try(device):
    device.total = CONTEXT + 2**22
    found, plan = timings(cell(batch=256))
    time_cells(found, plan, open_cell=lambda one: prepare(one, lambda: Small(64)))
    assert found[0].status == "failed"
    assert "try --batch 128" in found[0].reason


def test_a_cell_that_finds_no_memory_beside_others_gets_it_alone(device):
    found, plan = timings(cell(batch=64), cell(batch=65), seconds=0.1)
    one, _ = prepare(cell(batch=65), lambda: Small(64))
    needed = device.peak_reserved
    one.close()
    device.total = CONTEXT + needed + 2**21
    time_cells(found, plan, open_cell=lambda one: prepare(one, lambda: Small(64)))
    assert [one.status for one in found] == ["done", "done"]


def test_a_lost_device_fails_its_rows_and_names_the_way_out(device):
    found, plan = timings(cell(), cell(batch=3), cell(batch=4))
    opened = []

    def open_cell(one):
        workload = prepare(one, Small)
        opened.append(one.batch)
        if len(opened) == 2:
            device.fault_after = device.kernels + 200
        return workload

    time_cells(found, plan, open_cell=open_cell, fits=lambda: len(opened) < 2)
    assert "failed" in {one.status for one in found}
    for one in found:
        assert one.status == "done" or ("illegal memory access" in one.reason and "--isolate" in one.reason)


def test_random_numbers_of_a_network_on_the_device_are_the_same_twice(device):
    workload, facts = prepare(cell(), lambda: nn.Sequential(Small(), nn.Dropout(0.5)))
    assert facts.max_abs_error == 0.0
    workload.close()


def test_a_network_with_adaptive_pooling_can_be_verified(device):
    """Its gradient has no deterministic algorithm on CUDA."""
    where = torch.device("cuda:0")
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(3)).to(where)
    image = torch.ones(1, 3, 12, 12, device=where)
    with plain_arithmetic(where):
        network(image).sum().backward()
    with deterministic(), pytest.raises(RuntimeError, match="deterministic"):
        network(image).sum().backward()
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_verification_computes_on_the_device(device):
    found = verify("folding", device="cuda:0", dtypes=("float32",), costs=False)
    assert not found.failures, found.failures[0].reason
    assert device.kernels > 100


def test_the_three_forms_wait_for_the_device(device):
    device.kernel_ns = KERNEL_S * 1e9
    request = VerifyRequest(("resnext",), device="cuda:0", groups=(2,), widths=(4,), channels=(16,))
    for cost in form_costs(request, rounds=2):
        assert cost.median_s >= 3 * KERNEL_S, "three layers and more"
