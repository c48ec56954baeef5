"""Subject `folding`: batch norm at inference is a scale and a shift, so the convolution before it can do it alone."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from mlcv_bench.equivalence import draws
from mlcv_bench.equivalence.controls import nudge, put_back
from mlcv_bench.equivalence.request import VerifyRequest
from mlcv_bench.equivalence.sides import Fault, Fill, Side, examine
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


@dataclass(frozen=True, slots=True)
class Pair:
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
        """Build both; eps 0 where everything is to stay whole."""
        outputs = 2 * CHANNELS
        convolution = nn.Conv2d(
            *(CHANNELS, outputs, self.kernel, self.stride, self.kernel // 2), groups=self.groups, bias=self.bias
        )
        return nn.Sequential(convolution, nn.BatchNorm2d(outputs, eps=eps))


def cases(request: VerifyRequest) -> Iterator[Case]:
    """Yield the convolutions that residual networks put before a norm, and one with a bias."""
    for pair in (
        Pair(1, 1, 1, bias=False),
        Pair(3, 2, 1, bias=False),
        Pair(3, 1, 8, bias=False),
        Pair(3, 1, 1, bias=True),
    ):
        yield Case(pair.name, partial(examine_pair, pair, request))


def examine_pair(pair: Pair, request: VerifyRequest) -> Iterator[Finding]:
    """Hold the folded convolution against the pair, in evaluation mode."""

    def make(fill: Fill, source: torch.Generator) -> list[Side]:
        eps = 0.0 if fill is fill_whole_pair else 1e-5
        both = draws.materialised(lambda: pair.build(eps), torch.float64)
        fill(both, source)
        both.eval()
        return [
            Side("pair", both),
            Side("folded", fold(_as(nn.Conv2d, both.get_submodule("0")), _as(nn.BatchNorm2d, both.get_submodule("1")))),
        ]

    image = (BATCH, CHANNELS, SIZE, SIZE)
    yield from examine(make, image, request, pair.name, faults=FAULTS, mode="eval", fill_whole=fill_whole_pair)


def _as(kind: type[Any], module: nn.Module) -> Any:  # noqa: ANN401 - narrowed by the type asked for
    assert isinstance(module, kind)  # noqa: S101 - for the type checker
    return module


@torch.no_grad()
def fill_whole_pair(both: nn.Module, source: torch.Generator) -> None:
    """Give whole numbers, and variances 1 and 1/4, whose square roots divide without rounding."""
    draws.fill_whole(both, source)
    for norm in both.modules():
        if isinstance(norm, nn.BatchNorm2d):
            assert norm.running_mean is not None  # noqa: S101 - for the type checker
            assert norm.running_var is not None  # noqa: S101 - as above
            norm.running_mean.copy_(draws.whole(norm.running_mean.shape, draws.INPUT_RANGE, source))
            norm.running_var.copy_(4.0 ** -torch.randint(0, 2, norm.running_var.shape, generator=source))


@contextlib.contextmanager
def _nudged(folded: nn.Conv2d, dtype: str, exact: bool) -> Iterator[None]:
    with put_back(folded.weight) as weight:
        nudge(weight, dtype, exact=exact)
        yield


@contextlib.contextmanager
def _shift_forgotten(folded: nn.Conv2d, dtype: str, exact: bool) -> Iterator[None]:
    del dtype, exact
    bias = folded.bias
    folded.bias = None
    try:
        yield
    finally:
        folded.bias = bias


@contextlib.contextmanager
def _scales_out_of_place(folded: nn.Conv2d, dtype: str, exact: bool) -> Iterator[None]:
    del dtype, exact
    with put_back(folded.weight) as weight, torch.no_grad():
        weight.copy_(weight.roll(1, dims=0))
        yield


FAULTS = (
    Fault("one weight nudged", "output", 1, _nudged),
    Fault("the shift forgotten", "output", 1, _shift_forgotten),
    Fault("every scale on the next channel", "output", 1, _scales_out_of_place),
)
