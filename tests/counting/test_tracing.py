"""The counter against torch's own shapes and counts, single layers, shared modules, and what it must leave alone."""

from __future__ import annotations

import copy
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from mlcv_bench.counting import isolation, shapes, tracing
from mlcv_bench.counting.tracing import LiveBytes


def traced(module, *shape, dtype=torch.float32):
    return tracing.trace(isolation.meta_copy(module), [torch.empty(shape, dtype=dtype, device="meta")])


def macs(module, *shape):
    return sum(call.work.macs for call in traced(module, *shape).calls)


def of_kind(module, kind, *shape):
    return sum(call.work.operations for call in traced(module, *shape).calls if call.work.kind == kind)


CONVOLUTIONS = {
    (1, False): nn.Conv1d,
    (2, False): nn.Conv2d,
    (3, False): nn.Conv3d,
    (1, True): nn.ConvTranspose1d,
    (2, True): nn.ConvTranspose2d,
    (3, True): nn.ConvTranspose3d,
}


def multiplications(module, image):
    """Count by hand: put ones everywhere and add up every product, padding included."""
    ones = copy.deepcopy(module)
    nn.init.ones_(ones.weight)
    if not isinstance(module, nn.modules.conv._ConvTransposeNd):
        sides = [amount for amount in reversed(module.padding) for _ in range(2)]
        # Padding is a multiplication too, so pad with ones instead of letting the layer pad with zeros.
        image = functional.pad(image, sides, value=1.0)
        ones.padding = (0,) * len(module.padding)
    else:
        # Without cropping the border, every product of an input element with the kernel shows in the output once.
        ones.padding = (0,) * len(module.padding)
        ones.output_padding = (0,) * len(module.padding)
    ones.bias = None
    return int(ones(image).sum().item())


@given(
    dimensions=st.integers(1, 3),
    transposed=st.booleans(),
    groups=st.integers(1, 3),
    into=st.integers(1, 3),
    out=st.integers(1, 3),
    kernel_size=st.integers(1, 3),
    stride=st.integers(1, 2),
    padding=st.integers(0, 1),
    dilation=st.integers(1, 2),
    batch=st.integers(1, 2),
    size=st.integers(5, 7),
)
@settings(max_examples=60, deadline=None)
def test_every_convolution_against_a_direct_count(dimensions, transposed, batch, size, **kernel):
    kind = CONVOLUTIONS[dimensions, transposed]
    groups, into, out = kernel.pop("groups"), kernel.pop("into"), kernel.pop("out")
    layer = kind(groups * into, groups * out, groups=groups, dtype=torch.float64, **kernel)
    shape = (batch, groups * into, *([size] * dimensions))
    trace = traced(layer, *shape, dtype=torch.float64)
    image = torch.ones(shape, dtype=torch.float64)
    assert sum(call.work.macs for call in trace.calls) == multiplications(layer, image)
    assert trace.calls[0].output == tuple(layer(image).shape)
    assert trace.calls[0].work.bias == layer(image).numel()


class Functional(nn.Module):
    """Calls that other counters miss: functional convolutions, matrix products, attention."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4, 3, 3, 3))

    def forward(self, image):
        x = functional.conv2d(image, self.weight).flatten(2)
        y = x @ x.transpose(1, 2)
        z = torch.einsum("bij,bjk->bik", y, y)
        q = z[:, None]
        return functional.scaled_dot_product_attention(q, q, q)


def test_functional_calls_matrix_products_and_attention():
    trace = traced(Functional(), 2, 3, 10, 10)
    conv = 2 * 8 * 8 * 4 * 27
    product = 2 * 4 * 4 * 64
    einsum = 2 * 4 * 4 * 4
    attention = 2 * 2 * 4 * 4 * 4
    assert sum(call.work.macs for call in trace.calls) == conv + product + einsum + attention
    assert not trace.uncounted


@pytest.mark.parametrize(
    "layer",
    [nn.MultiheadAttention(8, 2, batch_first=True), nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)],
    ids=["attention", "encoder"],
)
def test_attention_layers_agree_with_torch(layer):
    module = layer if isinstance(layer, nn.TransformerEncoderLayer) else SelfAttention(layer)
    with FlopCounterMode(display=False) as counter:
        # In training mode torch takes no fused fast path, which its own counter would not see.
        module.train()(torch.ones(2, 5, 8))
    assert macs(module, 2, 5, 8) * 2 == counter.get_total_flops()


class SelfAttention(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x, x, x)[0]


def test_a_module_used_twice_counts_its_work_twice_and_its_weights_once():
    shared = nn.Linear(4, 4)
    module = nn.Sequential(shared, nn.ReLU(), shared)
    trace = traced(module, 3, 4)
    assert sum(call.work.macs for call in trace.calls) == 2 * 3 * 16
    assert [call.module for call in trace.calls] == ["0", "1", "2"]


def test_a_branch_without_effect_counts_too():
    class Dead(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x):
            self.b(x)
            return self.a(x)

    assert macs(Dead(), 1, 4) == 16 + 8


def test_uncounted_operators_are_listed_by_name():
    class Odd(nn.Module):
        def forward(self, x):
            return torch.linalg.inv(x)

    assert "linalg_inv_ex" in traced(Odd(), 1, 4, 4).uncounted


def test_elementwise_work_has_its_stated_weights():
    image = (1, 4, 8, 8)
    elements = 256
    assert of_kind(nn.BatchNorm2d(4), "norm", *image) == 2 * elements
    assert of_kind(nn.LayerNorm(8), "norm", *image) == 5 * elements
    assert of_kind(nn.GroupNorm(2, 4), "norm", *image) == 5 * elements
    assert of_kind(nn.ReLU(inplace=True), "activation", *image) == elements
    assert of_kind(nn.Softmax(1), "activation", *image) == 5 * elements
    assert of_kind(nn.MaxPool2d(2), "pooling", *image) == elements
    assert of_kind(nn.MaxPool2d(3, 2, 1), "pooling", *image) == 4 * 16 * 9
    assert of_kind(nn.AdaptiveAvgPool2d(1), "pooling", *image) == elements
    assert of_kind(nn.AdaptiveAvgPool2d(3), "pooling", *image) == 4 * (3 + 4 + 3) ** 2


@given(size=st.integers(1, 12), out=st.integers(1, 12))
@settings(max_examples=25, deadline=None)
def test_adaptive_pooling_reads_as_many_elements_as_torch(size, out):
    if out == 1:
        return  # torch turns it into a mean
    image = torch.zeros(1, 1, size, requires_grad=True)
    # The gradient of the sum of max-free averages tells how often each element is read, weighted by 1/window.
    pooled = functional.adaptive_avg_pool1d(image, out)
    reads = 0
    for cell in range(out):
        (gradient,) = torch.autograd.grad(pooled[0, 0, cell], image, retain_graph=True)
        reads += int((gradient != 0).sum())
    assert of_kind(nn.AdaptiveAvgPool1d(out), "pooling", 1, 1, size) == reads


class TestPeakMemory:
    def test_input_and_output_are_alive_together(self):
        # 4 x 4 floats in, as many out.
        assert traced(nn.Sigmoid(), 1, 16).peak_bytes == 2 * 64

    def test_in_place_takes_nothing(self):
        assert traced(nn.ReLU(inplace=True), 1, 16).peak_bytes == 64

    def test_a_chain_frees_what_is_past(self):
        chain = nn.Sequential(*(nn.Sigmoid() for _ in range(5)))
        # The caller holds the input; beside it only two tensors of the chain are ever alive.
        assert traced(chain, 1, 16).peak_bytes == 3 * 64

    def test_a_skip_is_held(self):
        class Skip(nn.Module):
            def forward(self, x):
                y = x.sigmoid()
                z = y.sigmoid()
                return y + z

        assert traced(Skip(), 1, 16).peak_bytes == 4 * 64

    def test_views_share_and_weights_count_nothing(self):
        assert traced(nn.Sequential(nn.Flatten(), nn.Unflatten(1, (4, 4))), 1, 16).peak_bytes == 64
        assert traced(nn.Linear(16, 2), 1, 16).peak_bytes == 64 + 8

    def test_a_freed_storage_is_forgotten(self):
        live = LiveBytes()
        first = torch.empty(4, device="meta")
        live.add(first)
        live.add(first.view(2, 2))
        assert live.alive == 16
        del first
        assert live.alive == 0


def test_nothing_is_left_behind():
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).train()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    generator = torch.random.get_rng_state()
    traced(module, 1, 3, 8, 8)
    assert module.training
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    assert not nn.modules.module._global_forward_hooks
    assert not nn.modules.module._global_forward_pre_hooks
    assert torch.equal(torch.random.get_rng_state(), generator)
    assert torch.empty(0).device.type == "cpu"


def test_receptive_fields_follow_the_formula():
    chain = nn.Sequential(nn.Conv2d(1, 1, 7, 2), nn.MaxPool2d(3, 2), nn.Conv2d(1, 1, 3, dilation=2), nn.Flatten())
    fields = traced(chain, 1, 1, 64, 64).fields
    assert (fields["0"], fields["1"], fields["2"]) == (7, 11, 27)


CALLS = {
    "convolution": lambda x: functional.conv2d(x, x.new_empty(6, 2, 3, 3), stride=2, padding=1, groups=2),
    "convolution dilated": lambda x: functional.conv2d(x, x.new_empty(6, 4, 3, 2), padding=(2, 1), dilation=(2, 3)),
    "transposed": lambda x: functional.conv_transpose2d(x, x.new_empty(4, 3, 3, 3), stride=2, output_padding=1),
    "batch norm": lambda x: functional.batch_norm(x, x.new_empty(4), x.new_empty(4)),
    "layer norm": lambda x: functional.layer_norm(x, x.shape[2:]),
    "group norm": lambda x: functional.group_norm(x, 2),
    "softmax": lambda x: x.softmax(1),
    "cat": lambda x: torch.cat([x, x, x], -2),
    "linear": lambda x: functional.linear(x.flatten(1), x.new_empty(5, x[0].numel()), x.new_empty(5)),
    "matmul": lambda x: x @ x.transpose(-1, -2),
    "mean": lambda x: x.mean((2, 3)),
    "mean kept": lambda x: x.mean((-1, -2), keepdim=True),
    "max pool": lambda x: functional.max_pool2d(x, 3, 2, 1),
    "max pool ceil": lambda x: functional.max_pool2d(x, 3, 2, ceil_mode=True),
    "max pool ceil padded": lambda x: functional.max_pool2d(x, 2, 2, 1, ceil_mode=True),
    "max pool dilated": lambda x: functional.max_pool2d(x, 2, dilation=2),
    "average pool": lambda x: functional.avg_pool2d(x, (2, 3), ceil_mode=True),
    "average pool ceil padded": lambda x: functional.avg_pool2d(x, 3, 3, 1, ceil_mode=True),
    "average pool 3d": lambda x: functional.avg_pool3d(x, (3, 1, 1), stride=1),
    "adaptive": lambda x: functional.adaptive_avg_pool2d(x, (3, 2)),
    "pad": lambda x: functional.pad(x, (1, 2, 0, 3)),
    "broadcast": lambda x: x * x.new_empty(4, 1, 1) + 1.0,
    "power": lambda x: (x**0.75) / x - 2.0,
    "in place": lambda x: x.clone().add_(x).mul_(0.5).relu_(),
    "activations": lambda x: functional.silu(functional.gelu(x.sigmoid().tanh())),
    "local response norm": lambda x: functional.local_response_norm(x, 3),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("size", [(7, 7), (8, 9), (11, 6)], ids=str)
def test_every_shape_rule_against_torch(call, size):
    class Net(nn.Module):
        def forward(self, x):
            return CALLS[call](x)

    expected = CALLS[call](torch.ones(2, 4, *size))
    assert traced(Net(), 2, 4, *size).outputs[""] == tuple(expected.shape)


def test_what_torch_refuses_is_refused():
    for layer, shape in [
        (nn.Conv2d(3, 4, 5), (1, 3, 4, 4)),
        (nn.Conv2d(3, 4, 1), (1, 2, 4, 4)),
        (nn.Linear(3, 4), (1, 5)),
        (nn.MaxPool2d(5), (1, 1, 4, 4)),
        (nn.BatchNorm2d(3), (1, 4, 2, 2)),
    ]:
        with pytest.raises(RuntimeError):
            traced(layer, *shape)


def test_every_rule_names_a_real_operator():
    for name in shapes.SHAPES:
        assert hasattr(torch.ops.aten, name.removeprefix("aten::")), name


def test_a_count_imports_none_of_torchs_slow_kernels():
    code = (
        "import sys\n"
        "from mlcv_bench.counting.cost import count\n"
        "for name in ('alexnet', 'googlenet', 'resnet20'): count(name)\n"
        "print(sorted({'sympy', 'torch._dynamo'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
