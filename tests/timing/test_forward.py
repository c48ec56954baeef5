from __future__ import annotations

import pytest
import torch
from torch import nn

from mlcv_bench.architectures.inputs import Inputs
from mlcv_bench.timing import forward, reference
from mlcv_bench.timing.contention import Ledger
from mlcv_bench.timing.devices import HeldMemory, peak_memory
from mlcv_bench.timing.forward import prepare
from mlcv_bench.timing.reference import TOLERANCE, WrongResultError, calibrate
from mlcv_bench.timing.request import Cell
from mlcv_bench.trials import NotApplicableError


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1)
        )
        self.head = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(8, 4))

    def forward(self, images):
        return self.head(self.body(images))


def cell(**settings):
    return Cell("small", (3, 8, 8), **({"batch": 2} | settings))


@pytest.mark.parametrize("direction", ["forward", "forward-backward"])
@pytest.mark.parametrize("memory_format", ["contiguous", "channels_last"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "float64"])
def test_every_conversion_is_checked_against_float32_and_timed(dtype, memory_format, direction):
    workload, facts = prepare(cell(dtype=dtype, memory_format=memory_format, direction=direction), Small)
    assert facts.max_rel_error <= facts.tolerance
    if dtype == "float32" and memory_format == "contiguous":
        assert facts.max_abs_error == 0
    if dtype == "bfloat16":
        assert facts.max_abs_error > 0, "a comparison with itself would show nothing"
    assert len(workload.block(0.0).calls_s) == 1
    assert facts.first_call_s > 0
    weights = 8 * 27 + 8 * 4 + 8 * 4 + 4
    assert facts.allocated_bytes > weights * torch.tensor([], dtype=getattr(torch, dtype)).element_size()


def test_a_network_that_computes_something_else_is_not_timed(monkeypatch):
    class Halving(Small):
        def forward(self, images):
            return super().forward(images) * (1 if images.dtype == torch.float32 else 0.5)

    with pytest.raises(WrongResultError, match=r"differs from eager float32 by 5\.0e-01"):
        prepare(cell(dtype="float64"), Halving)


def test_what_one_rounding_does_to_the_reference_is_explained_too(monkeypatch):
    monkeypatch.setitem(TOLERANCE, "bfloat16", 1e-6)
    _, facts = prepare(cell(dtype="bfloat16"), Small)
    assert 1e-6 < facts.max_rel_error <= facts.tolerance < reference.NEVER_EXPLAINED


def test_a_result_as_wrong_as_zeros_is_never_explained(monkeypatch):
    class Silent(Small):
        def forward(self, images):
            return super().forward(images) * (1 if images.dtype == torch.float32 else 0)

    monkeypatch.setattr(reference, "_sensitivity", lambda *_: 100.0)
    with pytest.raises(WrongResultError, match=r"by 1\.0e\+00"):
        prepare(cell(dtype="bfloat16"), Silent)


def test_what_torch_has_not_written_is_skipped():
    class Unwritten(Small):
        def forward(self, images):
            if images.dtype == torch.float16:
                raise NotImplementedError("not implemented for 'Half'")
            return super().forward(images)

    with pytest.raises(NotApplicableError, match="cannot do this in float16 on cpu"):
        prepare(cell(dtype="float16"), Unwritten)


def test_an_overflow_is_not_timed():
    class Large(Small):
        def forward(self, images):
            return super().forward(images) + 60_000 * images.abs().amax(dim=(1, 2, 3), keepdim=True).flatten(1)

    with pytest.raises(WrongResultError, match="not finite; try bfloat16"):
        prepare(cell(dtype="float16"), Large)


def test_a_forward_pass_runs_in_evaluation_and_inference_mode_with_the_cells_threads():
    seen = []

    class Watching(Small):
        def forward(self, images):
            seen.append((self.training, torch.is_inference_mode_enabled(), torch.get_num_threads()))
            return super().forward(images)

    workload, _ = prepare(cell(threads=2), Watching)
    seen.clear()
    torch.set_num_threads(1)
    workload.block(0.0)
    torch.set_num_threads(1)
    assert set(seen) == {(False, True, 2)}


def test_a_network_switched_to_training_is_refused():
    model = Small()
    with pytest.raises(WrongResultError, match="training mode"), forward.block_context(cell(), model)():
        pass


def test_a_backward_pass_trains():
    seen = []

    class Watching(Small):
        def forward(self, images):
            seen.append((self.training, torch.is_grad_enabled()))
            return super().forward(images)

    workload, _ = prepare(cell(direction="forward-backward"), Watching)
    seen.clear()
    workload.block(0.0)
    assert set(seen) == {(True, True)}


def test_folding_takes_the_batch_norm_away_and_agrees():
    workload, facts = prepare(cell(fold_batch_norm=True), Small)
    assert 0 < facts.max_rel_error < 1e-5
    assert len(workload.block(0.0).calls_s) == 1
    folded = forward.fold_batch_norm(Small().eval())
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())


@pytest.mark.parametrize(
    ("settings", "build", "reason"),
    [
        ({"fold_batch_norm": True}, lambda: nn.Sequential(nn.Conv2d(3, 4, 3)), "no batch norm"),
        ({"runtime": "onnx", "direction": "forward-backward"}, Small, "no backward pass"),
        ({"runtime": "onnx", "dtype": "bfloat16"}, Small, "no bfloat16"),
        ({"runtime": "onnx", "memory_format": "channels_last"}, Small, "memory format"),
        ({"fold_batch_norm": True, "direction": "forward-backward"}, Small, "inference only"),
    ],
)
def test_what_makes_no_sense_is_skipped_with_a_reason(settings, build, reason):
    with pytest.raises(NotApplicableError, match=reason):
        prepare(cell(**settings), build)


def test_calibration_keeps_untrained_batch_norms_in_range():
    model = nn.Sequential(*(layer for _ in range(6) for layer in (nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3))))
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, std=20.0)
    model.eval()
    images = torch.randn(4, 3, 16, 16)
    with torch.inference_mode():
        before = model(images).abs().max()
        calibrate(model, Inputs([images], {}))
        after = model(images).abs().max()
    assert before > 65_504
    assert after < 100
    assert not any(module.training for module in model)
    assert all(module.momentum == 0.1 for module in model if isinstance(module, nn.BatchNorm2d))


@pytest.mark.parametrize("settings", [{}, {"memory_format": "channels_last", "dtype": "bfloat16"}])
def test_a_network_that_is_moved_in_memory_computes_the_same(settings):
    wanted = cell(**settings)
    model = Small().eval()
    model, inputs = forward._converted(wanted, model, reference.inputs_of(wanted, model, 2))
    with torch.inference_mode():
        expected = inputs.into(model)
        renewed = forward._elsewhere(wanted, model, inputs)
        calls = [renewed(), renewed()]
        assert all(torch.equal(call(), expected) for call in calls)
    copies = [call.func for call in calls]
    places = {next(copy.parameters()).data_ptr() for copy in (model, *copies)}
    assert len(places) == 3
    strides = [next(copy.parameters()).stride() for copy in (model, *copies)]
    assert len(set(strides)) == 1, "the memory format stays"


@pytest.mark.parametrize(
    ("channels", "settings", "comparing", "moved"),
    [
        (8, {}, False, True),
        (8, {"runtime": "onnx"}, False, False),
        (8, {"runtime": "onnx"}, True, False),
        (2048, {}, False, False),
        (2048, {}, True, True),
    ],
)
def test_only_networks_of_few_pages_are_moved_unless_processes_are_compared(channels, settings, comparing, moved):
    assert forward._is_moved(cell(**settings), nn.Linear(channels, 1024), comparing=comparing) == moved


def test_the_peak_may_be_left_unmeasured():
    assert prepare(cell(), Small, comparing=True)[1].allocated_bytes is None


def test_the_same_seed_gives_the_same_images():
    one, again, other = (reference.inputs_of(cell(seed=seed), nn.Identity(), 2).positional[0] for seed in (3, 3, 4))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_outputs_of_any_shape_are_compared():
    tensor = torch.ones(1)
    assert list(reference.tensors_of({"a": tensor, "b": (tensor, [tensor, None, 0.5, "cat"])})) == [
        "output['a']",
        "output['b'][0]",
        "output['b'][1][0]",
    ]


def test_the_peak_counts_what_is_alive_at_once():
    weights = torch.ones(1000)
    memory = peak_memory("cpu", lambda: (weights * 2).sum() + (weights + 1).sum(), [weights, weights], HeldMemory())
    # The second temporary is allocated after the first is gone; scalars add some bytes.
    assert 8000 <= memory.allocated < 9000
    assert memory.reserved is None


def test_compiled_cells_tell_their_graph_breaks(monkeypatch):
    class Breaking(Small):
        def forward(self, images):
            torch._dynamo.graph_break()
            return super().forward(images)

    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda model, dynamic, mode: real(model, dynamic=dynamic, backend="eager"))
    workload, facts = prepare(cell(runtime="compile"), Breaking)
    assert facts.graph_breaks == 1
    assert facts.compile_s == facts.first_call_s
    assert prepare(cell(runtime="compile", seed=1), Small)[1].graph_breaks == 0
    assert len(workload.block(0.0).calls_s) == 1
    assert torch._dynamo.config.recompile_limit >= 1024


@pytest.mark.slow
def test_onnxruntime_writes_where_it_wrote_before_and_is_checked_there(monkeypatch):
    """Its input and output are bound once: no call copies anything."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    built = Small()
    workload, facts = prepare(cell(runtime="onnx"), lambda: built)
    (first,), (second,) = workload.call(), workload.call()
    assert first.data_ptr() == second.data_ptr()
    with torch.inference_mode():
        first.zero_()
        workload.call()
    assert float(second.abs().max()) > 0
    assert facts.max_rel_error <= facts.tolerance
    real = forward._bound_call

    def elsewhere(session, device, tensors, outputs):
        call = real(session, device, tensors, outputs)
        return lambda: call() and [torch.zeros_like(output) for output in outputs]

    monkeypatch.setattr(forward, "_bound_call", elsewhere)
    with pytest.raises(WrongResultError):
        prepare(cell(runtime="onnx"), Small)


def test_onnxruntime_agrees_with_eager():
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    workload, facts = prepare(cell(runtime="onnx"), Small)
    assert facts.max_rel_error < 1e-5
    assert facts.allocated_bytes is None, "its memory is not torch's"
    assert len(workload.block(0.0).calls_s) == 1


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("direction", ["forward", "forward-backward"])
def test_a_gpu_is_timed_by_events_and_wall(dtype, direction):
    workload, facts = prepare(cell(device="cuda:0", dtype=dtype, direction=direction), Small)
    workload.warm_up(0.5)
    block = workload.block(0.05)
    assert 0 < min(block.device_s) <= min(block.calls_s)
    assert all(0 < dispatch <= wall for dispatch, wall in zip(block.dispatch_s, block.calls_s, strict=True))
    assert facts.reserved_bytes >= facts.allocated_bytes > 0
    assert facts.max_rel_error <= facts.tolerance
    workload.close()


@pytest.mark.gpu
def test_a_gpu_without_memory_says_so():
    with pytest.raises(torch.OutOfMemoryError):
        prepare(Cell("small", (3, 512, 512), device="cuda:0", batch=64), lambda: nn.Conv2d(3, 16_384, 1))


@pytest.mark.gpu
def test_a_gpu_has_a_clock_and_energy_that_are_read():
    pytest.importorskip("pynvml")
    before = Ledger("cuda:0").open().gpu
    after = Ledger("cuda:0").close().gpu
    assert before.mhz > 0
    assert after.energy_j >= before.energy_j > 0


class Deep(nn.Module):
    """Layers enough that what rounding moves across 0 decides the first one's gradient."""

    def __init__(self, layers=36, width=8):
        super().__init__()
        parts = [nn.Conv2d(3, width, 3, padding=1)]
        for _ in range(layers):
            parts += [nn.BatchNorm2d(width), nn.ReLU(inplace=True), nn.Conv2d(width, width, 3, padding=1)]
        self.body = nn.Sequential(*parts)

    def forward(self, images):
        return self.body(images).mean((2, 3))


class Underflowing(Deep):
    """A backward pass that float16 loses."""

    class Lost(torch.autograd.Function):
        @staticmethod
        def forward(_context, images):
            return images.clone()

        @staticmethod
        def backward(_context, gradient):
            return gradient * (gradient.dtype == torch.float32)

    def forward(self, images):
        return self.body[1:](self.Lost.apply(self.body[0](images))).mean((2, 3))


def test_a_half_precision_gradient_is_held_against_float32s_at_its_own_activations(monkeypatch):
    training = cell(dtype="float16", direction="forward-backward", batch=4)
    _, facts = prepare(training, Deep)
    assert facts.max_rel_error < 0.05
    assert "at float16's own activations alone" in facts.remark
    with pytest.raises(WrongResultError, match="that rounding to float16 explains"):
        prepare(training, Underflowing)
    monkeypatch.setattr(reference.EagerReference, "_gradients_at_its_activations", lambda self: self.expected)
    with pytest.raises(WrongResultError):
        prepare(training, Deep)
