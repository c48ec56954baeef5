"""Receptive fields against what actually reaches an output: the input pixels with a gradient."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from mlcv_bench.counting import tracing
from mlcv_bench.counting.tree import tree_of


class Parallel(nn.Module):
    """The sum of two branches."""

    def __init__(self, one, other):
        super().__init__()
        self.one, self.other = one, other

    def forward(self, x):
        return self.one(x) + self.other(x)


NETWORKS = {
    "one axis each": lambda: nn.Sequential(
        nn.Conv2d(1, 1, (1, 7), padding=(0, 3)), nn.Conv2d(1, 1, (7, 1), padding=(3, 0))
    ),
    "strides differ": lambda: nn.Sequential(nn.Conv2d(1, 1, 3, (2, 1)), nn.Conv2d(1, 1, (3, 5)), nn.Conv2d(1, 1, 3)),
    "dilations differ": lambda: nn.Sequential(nn.Conv2d(1, 1, 3, dilation=(1, 4)), nn.Conv2d(1, 1, (9, 1))),
    "branches": lambda: Parallel(
        nn.Conv2d(1, 1, (1, 9), padding=(0, 4)),
        nn.Sequential(nn.Conv2d(1, 1, (5, 1), padding=(2, 0)), nn.Conv2d(1, 1, 3, padding=1)),
    ),
    "average pool": lambda: nn.Sequential(nn.AvgPool2d((3, 2), 2), nn.Conv2d(1, 1, (1, 5)), nn.AvgPool2d(2)),
    "one dimension": lambda: nn.Sequential(nn.Conv1d(1, 1, 5, 2), nn.Conv1d(1, 1, 3)),
    "three dimensions": lambda: nn.Sequential(
        nn.Conv3d(1, 1, (1, 3, 3)), nn.AvgPool3d((5, 1, 1), 1), nn.Conv3d(1, 1, 3)
    ),
}


def reached(module, shape):
    """Return the longest side, over outputs around the middle, of the input pixels with a gradient."""
    module = copy.deepcopy(module).double().eval()
    for weight in module.parameters():
        nn.init.uniform_(weight, 0.5, 1.0)
    image = (
        1 + torch.rand(1, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    ).requires_grad_()
    out = module(image)[0]
    found = 0
    middle = [size // 2 for size in out.shape[1:]]
    for axis, centre in enumerate(middle):
        for at in range(max(centre - 6, 0), min(centre + 7, out.shape[1 + axis])):
            place = [*middle[:axis], at, *middle[axis + 1 :]]
            (gradient,) = torch.autograd.grad(out[:, *place].sum(), image, retain_graph=True)
            seen = gradient[0].abs().sum(0).nonzero()
            if len(seen):
                found = max(found, int((seen.max(0).values - seen.min(0).values + 1).max()))
    return found


def sees(module, shape):
    """Return what is followed through the operators of the module."""
    image = torch.empty(1, *shape, device="meta", dtype=tracing.floating_type(module))
    return tracing.trace(copy.deepcopy(module).to("meta"), [image]).fields[""]


@pytest.mark.parametrize("name", NETWORKS)
def test_as_many_pixels_as_have_a_gradient(name):
    axes = 1 if "one dim" in name else 3 if "three" in name else 2
    shape = (1, *(15 if axes == 3 else 45,) * axes)
    assert sees(NETWORKS[name](), shape) == reached(NETWORKS[name](), shape)


class Applied(nn.Module):
    """A function between two convolutions of one pixel, or of three where asked."""

    def __init__(self, function, before=1, after=3, channels=4, out=4):
        super().__init__()
        self.function = function
        self.before, self.after = nn.Conv2d(channels, channels, before), nn.Conv2d(out, 1, after)

    def forward(self, x):
        return self.after(self.function(self.before(x)))


def patches(x):
    n, c, h, w = x.shape
    return x.reshape(n, c, h // 4, 4, w // 4, 4).permute(0, 2, 4, 3, 5, 1).reshape(-1, 16, c)


def windows_and_back(x):
    n, c, h, w = x.shape
    tokens = patches(x)
    tokens = functional.scaled_dot_product_attention(tokens, tokens, tokens)
    return tokens.view(n, h // 4, w // 4, 4, 4, c).permute(0, 5, 1, 3, 2, 4).reshape(n, c, h, w)


def shuffle_by_views(x):
    n, c, h, w = x.shape
    return x.view(n, c // 4, 2, 2, h, w).permute(0, 1, 4, 2, 5, 3).reshape(n, c // 4, 2 * h, 2 * w)


def focus(x):
    return torch.cat([x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2]], 1)


MATRIX = torch.ones(4, 4, dtype=torch.float64)


def on_channels_last(x):
    weight = MATRIX.to(x.device, x.dtype) if x.device.type != "meta" else torch.ones(4, 4, device="meta", dtype=x.dtype)
    return functional.linear(functional.layer_norm(x.permute(0, 2, 3, 1), (4,)), weight).permute(0, 3, 1, 2)


UPSAMPLED = nn.Sequential(
    nn.Conv2d(1, 1, 3, padding=1), nn.MaxPool2d(2), nn.Upsample(scale_factor=2), nn.Conv2d(1, 1, 3, padding=1)
)
FAR = {
    "nearest upsampling": (UPSAMPLED, (1, 48, 48), 6),
    "transposed": (
        nn.Sequential(nn.Conv2d(4, 4, 3), nn.ConvTranspose2d(4, 4, 4, 2, 1), nn.Conv2d(4, 1, 3)),
        (4, 24, 24),
        5,
    ),
    "transposed with holes": (nn.Sequential(nn.ConvTranspose2d(4, 1, 1, 3), nn.AvgPool2d(5, 1)), (4, 16, 16), 2),
    "channel means": (Applied(lambda x: x * x.mean(1, keepdim=True), 3), (4, 24, 24), 5),
    "pixel shuffle": (Applied(lambda x: functional.pixel_shuffle(x, 2), 3, 3, 4, 1), (4, 24, 24), 4),
    "pixel shuffle by views": (Applied(shuffle_by_views, 3, 3, 4, 1), (4, 24, 24), 4),
    "pixel unshuffle": (
        nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(16, 4, 3), nn.Conv2d(4, 1, 3)),
        (4, 32, 32),
        10,
    ),
    "strided slices": (Applied(lambda x: x[:, :, ::2, ::2]), (4, 24, 24), 5),
    "focus": (Applied(focus, 1, 3, 4, 16), (4, 24, 24), 6),
    "negative slices": (Applied(lambda x: x[:, :, -20:, 3:-1:3]), (4, 24, 24), 7),
    "bilinear upsampling": (
        Applied(lambda x: functional.interpolate(x, scale_factor=2, mode="bilinear")),
        (4, 24, 24),
        3,
    ),
    "bilinear from corner to corner": (
        Applied(lambda x: functional.interpolate(x, (47, 47), mode="bilinear", align_corners=True)),
        (4, 24, 24),
        3,
    ),
    "bicubic": (Applied(lambda x: functional.interpolate(x, scale_factor=3, mode="bicubic"), 1, 1), (4, 20, 20), 4),
    "to any size": (Applied(lambda x: functional.interpolate(x, (30, 30))), (4, 20, 20), 3),
    "adaptive pool": (Applied(lambda x: functional.adaptive_avg_pool2d(x, 8), 1, 1), (4, 20, 20), 3),
    "channels last": (Applied(on_channels_last, 3), (4, 24, 24), 5),
    "squeezed width": (Applied(lambda x: x.mean(3, keepdim=True).expand_as(x)), (4, 20, 20), None),
    "squeeze and excitation": (Applied(lambda x: x * functional.adaptive_avg_pool2d(x, 1)), (4, 20, 20), None),
    "window attention": (Applied(windows_and_back), (4, 24, 24), 8),
    "attention of all": (
        Applied(lambda x: functional.scaled_dot_product_attention(*(x.flatten(2).transpose(1, 2),) * 3).mT.view_as(x)),
        (4, 12, 12),
        None,
    ),
    "parts": (Applied(lambda x: torch.cat(x.split(2, 1)[::-1], 1), 3), (4, 24, 24), 5),
    "halves of the image": (Applied(lambda x: sum(x.chunk(2, 2))), (4, 24, 24), 15),
    "reflection": (Applied(lambda x: functional.pad(x, (2, 2, 2, 2), mode="reflect"), 3), (4, 24, 24), 5),
    "zero padding of one side": (
        Applied(lambda x: functional.pad(x, (3, 0)) + functional.pad(x, (0, 3))),
        (4, 24, 24),
        6,
    ),
    "padded and cut again": (Applied(lambda x: x + functional.pad(x, (3, 0, 2, 0))[:, :, 2:, 3:]), (4, 24, 24), 3),
    "channel shuffle": (
        Applied(lambda x: x.view(len(x), 2, 2, *x.shape[2:]).transpose(1, 2).reshape(x.shape), 3),
        (4, 24, 24),
        5,
    ),
    "tokens of patches": (
        nn.Sequential(
            nn.Conv2d(3, 8, 4, 4), nn.Flatten(2), nn.Conv1d(8, 8, 1), nn.Unflatten(2, (6, 6)), nn.Conv2d(8, 1, 2)
        ),
        (3, 24, 24),
        8,
    ),
}
"""Networks, inputs, and the pixels that are seen: by hand; None is everything."""


@pytest.mark.parametrize("name", FAR)
def test_what_is_seen_has_a_gradient(name):
    module, shape, right = FAR[name]
    found = reached(module, shape)
    assert sees(module, shape) == right
    assert found == (max(shape[1:]) if right is None else right)


LAYERS = st.one_of(
    st.builds(
        lambda k, s, d: nn.Conv1d(1, 1, k, s, padding=k * d // 2, dilation=d), *map(st.integers, (1,) * 3, (4, 3, 2))
    ),
    st.builds(lambda k, s: nn.AvgPool1d(k, s, padding=k // 2), st.integers(1, 4), st.integers(1, 3)),
    st.builds(
        lambda k, s: nn.ConvTranspose1d(1, 1, max(k, s), s, padding=k // 2), st.integers(1, 5), st.integers(1, 3)
    ),
    st.builds(lambda s: nn.Upsample(scale_factor=s), st.integers(2, 3)),
    st.builds(lambda s: nn.Upsample(scale_factor=s, mode="linear"), st.integers(2, 3)),
)


@settings(deadline=None, max_examples=30)
@given(st.lists(LAYERS, min_size=1, max_size=3))
def test_any_chain_sees_what_has_a_gradient(layers):
    module, length = nn.Sequential(*layers).double(), 160
    for weight in module.parameters():
        nn.init.ones_(weight)
    with torch.no_grad():
        bias = module(torch.zeros(1, 1, length, dtype=torch.float64))
        # A chain of linear layers is a matrix; all weights are positive, so what is seen is what is not 0.
        matrix = (module(torch.eye(length, dtype=torch.float64)[:, None]) - bias)[:, 0].abs() > 1e-6
    sizes = []
    for column in matrix.T:
        seen = column.nonzero()[:, 0]
        if len(seen) and seen.min() > 0 and seen.max() < length - 1:
            sizes.append(int(seen.max() - seen.min() + 1))
    assume(len(sizes) > 20)
    assert sees(module, (1, length)) == max(sizes)


def test_a_dilated_max_pool_sees_further():
    chain = nn.Sequential(nn.Conv2d(1, 1, 3), nn.MaxPool2d(3, 1, dilation=2), nn.MaxPool2d((1, 3), (1, 2)))
    fields = tracing.trace(chain.to("meta"), [torch.empty(1, 1, 32, 32, device="meta")]).fields
    assert (fields["0"], fields["1"], fields["2"]) == (3, 7, 9)


def test_inception_v4_by_hand():
    """The 1x7 and the 7x1 of a block widen one axis each: 192 pixels a block of twelve at 16 pixels a step, not 384."""
    by_name = {node.name: node.receptive_field for _, node in tree_of("inception_v4").walk(1)}
    assert by_name["stem"] == 11 + 4 + 32 + 8
    assert by_name["inception_a"] == 55 + 4 * 4 * 8
    assert by_name["reduction_a"] == 183 + (2 + 2) * 8
    assert by_name["inception_b"] == 215 + 7 * 12 * 16
    assert by_name["reduction_b"] == 1559 + (6 + 2) * 16
    assert by_name["inception_c"] == 1687 + 3 * 4 * 32
