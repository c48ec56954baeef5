"""Bytes alive at once, counted without memory, against the same pass on the CPU, whose kernels lay tensors out."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - as everybody writes it
from torch import nn

from mlcv_bench.counting import isolation, tracing
from mlcv_bench.counting.cost import count

sys.path.insert(0, str(Path(__file__).parents[1] / "cases"))
networks = importlib.import_module("networks")
sys.path.pop(0)


class Call(nn.Module):
    """A network of one function."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class Self(nn.Module):
    """A layer that gets one input in several places."""

    def __init__(self, layer, times):
        super().__init__()
        self.layer, self.times = layer, times

    def forward(self, x):
        return self.layer(*[x] * self.times)


def last(layer):
    """Return a layer whose weights and input have channels last."""
    return nn.Sequential(Call(lambda x: x.to(memory_format=torch.channels_last)), layer).to(
        memory_format=torch.channels_last
    )


def then_flat(*layers):
    """Return layers, then a reshape that copies where the layout asks for it."""
    return nn.Sequential(*layers, Call(lambda x: x.flatten(2).transpose(1, 2).reshape(x.shape[0], -1).sigmoid()))


def flattened(x):
    return x.transpose(1, 2).reshape(2, -1) + 1


def attended(x, heads=2, kept=None, **more):
    """Return the attention of a sequence to itself, or to the first `kept` of its features."""
    split = [part.view(2, 12, -1, 16 // heads).transpose(1, 2) for part in (x, x[..., :kept], x[..., :kept])]
    return F.scaled_dot_product_attention(*split, **more)


def half(x):
    return x[:, : x.shape[1] // 2]


IMAGE, SEQUENCE = (2, 8, 10, 6), (2, 12, 16)
BLOCKS = {
    **{
        f"convolution {name}": (lambda layer=layer: then_flat(layer), IMAGE)
        for name, layer in {
            "plain": nn.Conv2d(8, 6, 3),
            "strided": nn.Conv2d(8, 6, 3, 2, 1),
            "dilated": nn.Conv2d(8, 6, 3, dilation=2),
            "grouped": nn.Conv2d(8, 4, 3, groups=4),
            "depthwise": nn.Conv2d(8, 8, 3, groups=8),
            "pointwise": nn.Conv2d(8, 6, 1),
            "transposed": nn.ConvTranspose2d(8, 6, 3, 2, output_padding=1),
            "channels last": last(nn.Conv2d(8, 6, 3)),
            "grouped, channels last": last(nn.Conv2d(8, 8, 3, groups=4)),
            "transposed, channels last": last(nn.ConvTranspose2d(8, 6, 3)),
            "of a slice": nn.Sequential(Call(half), nn.Conv2d(4, 6, 3)),
            "of a permuted image": nn.Sequential(Call(lambda x: x.permute(0, 2, 3, 1)), nn.Conv2d(10, 6, 1)),
        }.items()
    },
    "convolution 1d": (
        lambda: nn.Sequential(nn.Conv1d(12, 8, 3), Call(lambda x: x.transpose(1, 2).reshape(2, -1) + 1)),
        SEQUENCE,
    ),
    "convolution 1d of a transposed sequence": (
        lambda: nn.Sequential(Call(lambda x: x.transpose(1, 2)), nn.Conv1d(16, 8, 3), Call(flattened)),
        SEQUENCE,
    ),
    "convolution 3d": (
        lambda: nn.Sequential(nn.Conv3d(4, 6, 3, padding=1), nn.ReLU(), nn.MaxPool3d(2)),
        (1, 4, 6, 6, 6),
    ),
    **{
        f"{name}{where}": (lambda layer=layer, wrap=wrap: then_flat(wrap(layer)), IMAGE)
        for where, wrap in {
            "": lambda layer: layer,
            ", channels last": last,
            " of a slice": lambda layer: nn.Sequential(Call(lambda x: torch.cat([x, x], 1)), Call(half), layer),
            " of an expanded image": lambda layer: nn.Sequential(Call(lambda x: x[:, :, :, :1].expand_as(x)), layer),
        }.items()
        for name, layer in {
            "max pool": nn.MaxPool2d(3, 2, 1),
            "average pool": nn.AvgPool2d(2, ceil_mode=True),
            "adaptive average pool": nn.AdaptiveAvgPool2d((3, 2)),
            "adaptive max pool": nn.AdaptiveMaxPool2d((3, 2)),
            "batch norm": nn.BatchNorm2d(8),
            "instance norm": nn.InstanceNorm2d(8, affine=True),
            "group norm": nn.GroupNorm(2, 8),
            "local response norm": nn.LocalResponseNorm(3),
            "layer norm": nn.LayerNorm(6),
            "softmax": nn.Softmax(1),
            "nearest": nn.Upsample(scale_factor=2),
            "bilinear": nn.Upsample(scale_factor=2, mode="bilinear"),
            "bicubic": nn.Upsample(scale_factor=2, mode="bicubic"),
            "pad": nn.ZeroPad2d((1, 2, 0, 1)),
            "reflection pad": nn.ReflectionPad2d(1),
            "pixel shuffle": nn.PixelShuffle(2),
            "pixel unshuffle": nn.PixelUnshuffle(2),
            **{
                kind.__name__: kind()
                for kind in (nn.ReLU, nn.ReLU6, nn.GELU, nn.SiLU, nn.Hardswish, nn.Hardsigmoid, nn.Sigmoid, nn.Tanh)
            },
            **{kind.__name__: kind() for kind in (nn.LeakyReLU, nn.ELU, nn.Mish, nn.Softplus, nn.PReLU, nn.GLU)},
            "in place": nn.Sequential(nn.Sigmoid(), nn.Hardswish(inplace=True), nn.ReLU6(inplace=True)),
            "squeeze and excite": nn.Sequential(
                Call(lambda x: x * x.mean((2, 3), keepdim=True).sigmoid()), Call(lambda x: x + x)
            ),
            "sum": Call(lambda x: x.sum(1, keepdim=True) + x),
            "roll": Call(lambda x: x.roll((1, 2), (2, 3))),
            "power and quotient": Call(lambda x: (x**0.75) / (x.abs() + 1.0)),
            "gather": Call(lambda x: x[:, torch.arange(3)]),
            "stack": Call(lambda x: torch.stack([x, x], 2).flatten(1, 2)),
            "chunks": Call(lambda x: torch.cat([part.sigmoid() for part in x.chunk(2, 1)], 1)),
            "maximum": Call(lambda x: torch.maximum(x, x.mean(1, keepdim=True))),
            "masked": Call(lambda x: torch.where(x > 0, x, x.tanh()).masked_fill(x < 0, 0.5)),
            "clamp": Call(lambda x: x.clamp(0, 1)),
            "normalize": Call(lambda x: F.normalize(x, dim=1)),
            "shuffle": nn.ChannelShuffle(2),
            "permuted sum": Call(lambda x: x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2) + x),
        }.items()
    },
    "batch norm of a sequence": (lambda: nn.BatchNorm1d(12), SEQUENCE),
    "linear": (lambda: nn.Linear(16, 8), SEQUENCE),
    "linear of a transposed sequence": (
        lambda: nn.Sequential(Call(lambda x: x.transpose(1, 2)), nn.Linear(12, 8)),
        SEQUENCE,
    ),
    "linear of channels last": (networks.ChannelsLastLinear, IMAGE),
    "gated": (networks.Gated, (4, 3, 16, 16)),
    "vit": (networks.Vit, (1, 3, 64, 64)),
    "upsample": (networks.upsample, (2, 3, 8, 8)),
    "recurrent": (lambda: nn.LSTM(16, 5, 2, batch_first=True), SEQUENCE),
    "recurrent both ways": (lambda: nn.LSTM(16, 5, 2, bidirectional=True, bias=False), SEQUENCE),
    "projected recurrent": (lambda: nn.LSTM(16, 5, proj_size=3), SEQUENCE),
    "gated recurrent": (lambda: nn.GRU(16, 5, batch_first=True), SEQUENCE),
    "plain recurrent": (lambda: nn.RNN(16, 5), SEQUENCE),
    "attention layer": (lambda: Self(nn.MultiheadAttention(16, 4, batch_first=True), 3), SEQUENCE),
    "encoder": (lambda: nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), SEQUENCE),
    "decoder": (lambda: Self(nn.TransformerDecoderLayer(16, 4, 32, batch_first=True), 2), SEQUENCE),
    "embedding": (
        lambda: nn.Sequential(
            Call(lambda x: (x[..., 0] > 0).long()), nn.Embedding(9, 4), Call(lambda x: x + x.cumsum(1))
        ),
        SEQUENCE,
    ),
    "einsum": (lambda: Call(lambda x: torch.einsum("bld,bmd->blm", x, x).softmax(-1) @ x), SEQUENCE),
    "masked attention": (lambda: Call(lambda x: attended(x, attn_mask=torch.ones(12, 12) > 0)), SEQUENCE),
    "added mask": (lambda: Call(lambda x: attended(x, attn_mask=torch.ones(12, 12))), SEQUENCE),
    "attention of groups": (lambda: Call(lambda x: attended(x, 4, 8, enable_gqa=True)), SEQUENCE),
    "causal attention": (lambda: Call(lambda x: attended(x, is_causal=True)), SEQUENCE),
    "attention with gaps": (
        lambda: Call(lambda x: F.scaled_dot_product_attention(*[x.view(2, 12, 4, 4)[..., ::2].transpose(1, 2)] * 3)),
        SEQUENCE,
    ),
    "attention, taken apart": (
        lambda: Call(lambda x: F.scaled_dot_product_attention(x[:, None], x[:, None], x[:, None, :, :5].contiguous())),
        SEQUENCE,
    ),
}


def on_cpu(module, shape):
    """Return the peak of the same pass on the CPU."""
    with isolation.left_alone():
        return tracing.trace(module, [torch.randn(shape)], device="cpu", fields=False).peak_bytes


@pytest.mark.filterwarnings("ignore:LSTM with projections")  # torch's own warning, on the CPU alone
@pytest.mark.parametrize("block", BLOCKS)
def test_peak_against_the_cpu(block):
    build, shape = BLOCKS[block]
    module = build()
    assert count(module, input=shape[1:], batch=shape[0]).peak_activation_bytes == on_cpu(module, shape)
