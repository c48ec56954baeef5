"""Training steps: gradients against direct counts, saved bytes and peaks against the CPU, the largest batch."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mlcv_bench.architectures.catalog import ARCHITECTURES
from mlcv_bench.architectures.request import Request
from mlcv_bench.counting.network import Network
from mlcv_bench.counting.request import parse_memory, slots_of
from mlcv_bench.counting.training import largest, step_of, training_cost
from mlcv_bench.errors import UsageError

LAYERS = {
    (1, False): nn.Conv1d,
    (2, False): nn.Conv2d,
    (3, False): nn.Conv3d,
    (1, True): nn.ConvTranspose1d,
    (2, True): nn.ConvTranspose2d,
    (3, True): nn.ConvTranspose3d,
}


class After(nn.Module):
    """A layer behind a learned scale, so that the gradient of the layer's input is wanted too."""

    def __init__(self, layer, dtype=torch.float32):
        super().__init__()
        self.scale = nn.Parameter(torch.ones((), dtype=dtype))
        self.layer = layer

    def forward(self, x):
        return self.layer(x * self.scale).sum()


@given(
    dimensions=st.integers(1, 3),
    transposed=st.booleans(),
    groups=st.integers(1, 3),
    into=st.integers(1, 3),
    out=st.integers(1, 3),
    kernel_size=st.integers(1, 3),
    stride=st.integers(1, 2),
    dilation=st.integers(1, 2),
    batch=st.integers(1, 2),
)
@settings(max_examples=40, deadline=None)
def test_both_gradients_of_every_convolution_against_a_direct_count(
    dimensions, transposed, groups, into, out, batch, **kernel
):
    layer = LAYERS[dimensions, transposed](groups * into, groups * out, groups=groups, bias=False, **kernel)
    layer = layer.double()
    size = (groups * into, *([6] * dimensions))
    network = Network.of(After(layer, torch.float64), input=size)
    step = step_of(network, network.on_meta(), batch)

    # With ones everywhere every product is one, so that sums count products.
    image = torch.ones(batch, *size, dtype=torch.float64, requires_grad=True)
    nn.init.ones_(layer.weight)
    result = layer(image)
    products = int(result.sum())
    gradient_of_input, gradient_of_weight = torch.autograd.grad(result.sum(), (image, layer.weight))
    assert step.forward_macs == products
    assert step.backward_macs == int(gradient_of_input.sum() + gradient_of_weight.sum())


@given(rows=st.integers(1, 4), into=st.integers(1, 5), out=st.integers(1, 5))
@settings(max_examples=15, deadline=None)
def test_linear_layers_cost_twice_as_much_backwards(rows, into, out):
    network = Network.of(After(nn.Linear(into, out)), input=(into,))
    step = step_of(network, network.on_meta(), rows)
    assert (step.forward_macs, step.backward_macs) == (rows * into * out, 2 * rows * into * out)


def test_the_gradient_of_the_image_is_left_out():
    network = Network.of(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3)), input=(3, 8, 8))
    step = step_of(network, network.on_meta(), 1)
    first, second = 36 * 4 * 27, 16 * 5 * 36
    assert (step.forward_macs, step.backward_macs) == (first + second, first + 2 * second)


def test_frozen_weights_have_no_gradient():
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3))
    module[0].requires_grad_(requires_grad=False)
    cost = training_cost(Network.of(module, input=(3, 8, 8)), optimizer="adam")
    assert cost.backward_macs == 16 * 5 * 36
    assert cost.gradient_bytes == 4 * (5 * 36 + 5)
    assert cost.optimizer_bytes == 2 * cost.gradient_bytes
    assert not module[0].weight.requires_grad


@pytest.mark.parametrize(("name", "size"), [("resnext26_32x4d", (3, 64, 64)), ("resnext29_8x64d", (3, 32, 32))])
def test_the_three_forms_of_a_resnext_cost_the_same(name, size):
    steps = set()
    for form in ("grouped", "concat", "branches"):
        network = Network.of(name, input=size, options={"form": form})
        step = step_of(network, network.on_meta(), 1)
        steps.add((step.forward_macs, step.backward_macs))
    assert len(steps) == 1


def test_grouped_gradients_are_right_where_torch_is_wrong():
    cost = training_cost(Network.of("resnext101_32x8d"))
    # All but the first layer have two gradients, and the first layer, seeing the image, has one.
    first = 112 * 112 * 64 * 147
    assert cost.training_macs == 3 * cost.forward_macs - first == 49_124_032_512


@pytest.mark.parametrize(
    ("name", "saved"), [("resnet50_v1_5", 86_125_996), ("resnet18", 22_222_252), ("resnext101_32x8d", 247_488_940)]
)
def test_saved_bytes_of_the_anchors(name, saved):
    assert training_cost(Network.of(name)).saved_bytes == saved


# Small enough to run on the CPU in a moment: every family at a small input.
ON_CPU = {
    **{name: None for name, entry in ARCHITECTURES.items() if max(entry.input) <= 32 and "110" not in name},
    **dict.fromkeys(("alexnet", "vgg11", "vgg11_bn", "resnet18", "resnet50", "resnet50_v1_5"), (3, 64, 64)),
    **dict.fromkeys(("googlenet", "googlenet_torchvision", "resnext50_32x4d", "wide_resnet50_2"), (3, 64, 64)),
    **dict.fromkeys(("inception_v4", "inception_resnet_v1", "inception_resnet_v2_paper"), (3, 96, 96)),
}


@pytest.mark.parametrize("name", ON_CPU)
def test_meta_steps_equal_the_cpus(name):
    network = Network.of(name, input=ON_CPU[name])
    assert step_of(network, network.on_meta(), 2) == step_of(network, network.on_cpu(), 2, "cpu")


def test_auxiliary_heads_take_part():
    plain = training_cost(Network.of("googlenet", input=(3, 224, 224)))
    both = training_cost(Network(Request.of("googlenet", options={"auxiliary": True})))
    assert both.training_macs > plain.training_macs
    assert both.params == 13_378_280


def test_the_largest_batch_fits_and_the_next_does_not():
    network = Network.of("resnet20")
    cost = training_cost(network, optimizer="adam", memory=parse_memory("1GB"))
    assert cost.largest_batch_bytes <= 10**9
    assert training_cost(network, cost.largest_batch, optimizer="adam").peak_bytes == cost.largest_batch_bytes
    assert training_cost(network, cost.largest_batch + 1, optimizer="adam").peak_bytes > 10**9


@given(
    fixed=st.integers(0, 500),
    slope=st.integers(1, 60),
    memory=st.integers(0, 5000),
    bump=st.integers(0, 25),
)
@settings(max_examples=80, deadline=None)
def test_largest_batch_on_lines_that_are_not_quite(fixed, slope, memory, bump):
    calls = []

    def peak(batch):
        calls.append(batch)
        return fixed + slope * batch + bump * (batch > 3)

    expected = 0
    while peak(expected + 1) <= memory:
        expected += 1
    calls.clear()
    assert largest(peak, memory) == expected
    assert len(calls) < 60


def test_no_batch_fits():
    assert training_cost(Network.of("resnet20"), memory=1000).largest_batch == 0


def test_optimizers_keep_what_their_rules_say():
    assert [slots_of(name) for name in ("sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "adamw")] == [
        *(0, 1, 1, 1, 1, 2, 2)
    ]
    with pytest.raises(UsageError, match="Hessian"):
        slots_of("newton")
    with pytest.raises(UsageError, match="adam"):
        slots_of("adma")


def test_memory_reads_as_written():
    assert parse_memory("16GB") == 16 * 10**9
    assert parse_memory("16 GiB") == 16 * 2**30
    for text in ("", "GB", "0GB", "-1GB", "16XB", "nan"):
        with pytest.raises(UsageError, match="16GB"):
            parse_memory(text)


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        return x @ weight

    @staticmethod
    def backward(ctx, gradient):
        x, weight = ctx.saved_tensors
        return gradient @ weight.t(), x.t() @ gradient


def test_a_custom_function_is_counted_both_ways():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale, self.weight = nn.Parameter(torch.ones(4)), nn.Parameter(torch.ones(4, 3))

        def forward(self, x):
            return Square.apply(x * self.scale, self.weight)

    network = Network.of(Net(), input=(4,))
    step = step_of(network, network.on_meta(), 2)
    assert (step.forward_macs, step.backward_macs) == (24, 48)


def test_attention_gradients():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(8))

        def forward(self, x):
            q = x * self.scale
            return nn.functional.scaled_dot_product_attention(q, q, q)

    network = Network.of(Net(), input=(2, 5, 8))
    step = step_of(network, network.on_meta(), 1)
    product = 2 * 5 * 5 * 8
    assert step.forward_macs == 2 * product
    # Two gradients a product; a fused kernel computes the scores once more.
    assert step.backward_macs in {4 * product, 5 * product}


def test_what_cannot_be_trained_says_why():
    class NoWeights(nn.Module):
        def forward(self, x):
            return x * 2

    with pytest.raises(UsageError, match="nothing to train"):
        training_cost(Network.of(NoWeights(), input=(4,)))
    with pytest.raises(UsageError, match="TorchScript"):
        training_cost(Network.of(torch.jit.script(nn.Linear(4, 4)), input=(4,)))


def test_nothing_is_left_behind():
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    generator = torch.random.get_rng_state()
    training_cost(Network.of(module, input=(3, 8, 8)), 2)
    assert not module.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    assert all(weight.grad is None for weight in module.parameters())
    assert torch.equal(torch.random.get_rng_state(), generator)
