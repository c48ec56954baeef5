"""Subject `folding`: batch norm at inference is a scale and a shift, so the convolution before it can do it alone."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from mlcv_bench.equivalence.harness import (
    ControlSite,
    Formulation,
    NegativeControl,
    Reformulation,
    check,
    first_weight_nudged,
    outputs_alone,
    put_back,
)
from mlcv_bench.equivalence.randomness import INPUT_RANGE, filled, generator, whole
from mlcv_bench.equivalence.request import VerifyRequest
from mlcv_bench.equivalence.subject import Case, Finding

BATCH = 2
SIZE = 9
CHANNELS = 48


def fold(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    """Return one convolution that computes norm(convolution(x)) at inference; neither argument is changed.

    norm(y) = gamma (y - mean) / sqrt(var + eps) + beta, channel by channel, so with s = gamma / sqrt(var + eps) the
    kernel of each output channel is multiplied by its s, and the bias becomes (bias - mean) s + beta.

    Raises:
        ValueError: the norm keeps no statistics, or has another number of channels.

    """
    if norm.running_mean is None or norm.running_var is None:
        msg = "a batch norm without running statistics depends on the batch and cannot be folded"
        raise ValueError(msg)
    if norm.num_features != convolution.out_channels:
        msg = f"a norm of {norm.num_features} channels does not follow a convolution of {convolution.out_channels}"
        raise ValueError(msg)
    with torch.no_grad():
        scale = (norm.running_var + norm.eps).rsqrt()
        if norm.weight is not None:
            scale = scale * norm.weight
        bias = -norm.running_mean if convolution.bias is None else convolution.bias - norm.running_mean
        bias = bias * scale
        if norm.bias is not None:
            bias = bias + norm.bias
        folded = copy.deepcopy(convolution)
        folded.weight.copy_(convolution.weight * scale.view(-1, 1, 1, 1))
        folded.bias = nn.Parameter(bias)
    return folded


# A power of two, so that it adds up without rounding; torch 2.11 takes no epsilon of 0.
EXACT_EPS = 2.0**-3


@dataclass(frozen=True, slots=True)
class NormedLayer:
    """One convolution with the batch norm after it."""

    kernel: int
    stride: int
    groups: int
    bias: bool

    @property
    def name(self) -> str:
        """The figures, as the results show them."""
        bias = " bias" if self.bias else ""
        return f"{self.kernel}x{self.kernel} stride={self.stride} groups={self.groups}{bias}"

    def build(self, eps: float) -> nn.Sequential:
        """Build both layers, the norm with this epsilon."""
        outputs = 2 * CHANNELS
        convolution = nn.Conv2d(
            *(CHANNELS, outputs, self.kernel, self.stride, self.kernel // 2), groups=self.groups, bias=self.bias
        )
        return nn.Sequential(convolution, nn.BatchNorm2d(outputs, eps=eps))


def cases(request: VerifyRequest) -> Iterator[Case]:
    """Yield the convolutions that residual networks have before a norm, and one with a bias."""
    for layer in (
        NormedLayer(1, 1, 1, bias=False),
        NormedLayer(3, 2, 1, bias=False),
        NormedLayer(3, 1, 8, bias=False),
        NormedLayer(3, 1, 1, bias=True),
    ):
        yield Case(layer.name, partial(examine_folding, layer, request))


def examine_folding(layer: NormedLayer, request: VerifyRequest) -> Iterator[Finding]:
    """Compare the folded convolution with the two layers, in evaluation mode."""
    yield from check(
        Reformulation(
            layer.name,
            (BATCH, CHANNELS, SIZE, SIZE),
            exact=formulations(layer, request, exact=True),
            drawn=formulations(layer, request, exact=False),
            controls=CONTROLS,
            modes=("eval",),
            exact_mode="eval",
        ),
        request,
    )


def formulations(layer: NormedLayer, request: VerifyRequest, *, exact: bool) -> list[Formulation]:
    """Build the two layers, and one folded of them."""
    both = filled(lambda: layer.build(EXACT_EPS if exact else 1e-5), request.seed, layer.name, exact=exact)
    convolution, norm = both.children()
    assert isinstance(convolution, nn.Conv2d)  # noqa: S101 - for the type checker
    assert isinstance(norm, nn.BatchNorm2d)  # noqa: S101 - as above
    if exact:
        fill_whole_statistics(norm, generator(request.seed, layer.name, "whole statistics"))
    both.eval()
    return [Formulation("pair", both, outputs_alone), Formulation("folded", fold(convolution, norm), outputs_alone)]


@torch.no_grad()
def fill_whole_statistics(norm: nn.BatchNorm2d, source: torch.Generator) -> None:
    """Give whole means, and variances that are 1 and 1/4 with epsilon, whose square roots divide without rounding."""
    mean, variance = norm.get_buffer("running_mean"), norm.get_buffer("running_var")
    mean.copy_(whole(mean.shape, INPUT_RANGE, source))
    variance.copy_(4.0 ** -torch.randint(0, 2, variance.shape, generator=source) - norm.eps)


@contextlib.contextmanager
def shift_left_out(site: ControlSite) -> Iterator[None]:
    """Fold without the bias."""
    folded = site.module
    bias = folded.bias
    folded.bias = None
    try:
        yield
    finally:
        folded.bias = bias


@contextlib.contextmanager
def scales_out_of_place(site: ControlSite) -> Iterator[None]:
    """Give every channel its neighbour's kernel."""
    with put_back(site.module.weight) as weight, torch.no_grad():
        weight.copy_(weight.roll(1, dims=0))
        yield


CONTROLS = (
    NegativeControl("one weight nudged", 1, "output", first_weight_nudged),
    NegativeControl("the shift forgotten", 1, "output", shift_left_out),
    NegativeControl("every scale on the next channel", 1, "output", scales_out_of_place),
)
