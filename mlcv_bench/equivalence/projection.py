"""Subject `projection`: the two identities of 1x1 convolutions behind the block's reformulation (notes 2.3.1)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from mlcv_bench.counting.published import paper_width
from mlcv_bench.equivalence import draws
from mlcv_bench.equivalence.controls import nudge, put_back
from mlcv_bench.equivalence.request import VerifyRequest
from mlcv_bench.equivalence.sides import Fault, Fill, Side, examine
from mlcv_bench.equivalence.subject import Case, Finding

BATCH = 2
SIZE = 7


class SummedProjections(nn.Module):
    """The notes' second 1x1: branch b projects its own d channels, and the results are summed.

    (N, G d, H, W) -> (N, C, H, W).
    """

    def __init__(self, groups: int, width: int, channels: int) -> None:
        """Build one 1x1 convolution a branch."""
        super().__init__()
        self.branches = nn.ModuleList(nn.Conv2d(width, channels, 1, bias=False) for _ in range(groups))

    def forward(self, x: Tensor) -> Tensor:
        """Project each branch's channels and add up."""
        parts = x.chunk(len(self.branches), dim=1)
        total: Tensor = self.branches[0](parts[0])
        for branch, part in zip(self.branches[1:], parts[1:], strict=True):
            total = total + branch(part)
        return total


class ParallelProjections(nn.Module):
    """The notes' first 1x1: all branches read the same input. (N, C, H, W) -> G tensors of (N, d, H, W)."""

    def __init__(self, groups: int, width: int, channels: int) -> None:
        """Build one 1x1 convolution a branch."""
        super().__init__()
        self.branches = nn.ModuleList(nn.Conv2d(channels, width, 1, bias=False) for _ in range(groups))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Apply every branch to the same input."""
        return tuple(branch(x) for branch in self.branches)


class SplitProjection(nn.Module):
    """One 1x1 convolution with G times the outputs, split afterwards. (N, C, H, W) -> G tensors of (N, d, H, W)."""

    def __init__(self, groups: int, width: int, channels: int) -> None:
        """Build the one convolution."""
        super().__init__()
        self.groups = groups
        self.convolution = nn.Conv2d(channels, groups * width, 1, bias=False)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Convolve once and split."""
        return tuple(self.convolution(x).chunk(self.groups, dim=1))


def stacked_inputs(kernels: list[Tensor]) -> Tensor:
    """Return the kernel whose output is the sum: [w(1) w(2) ...], stacked along the input channels."""
    return torch.cat(kernels, dim=1)


def stacked_outputs(kernels: list[Tensor]) -> Tensor:
    """Return the kernel whose output, split, is each branch's: stacked along the output channels."""
    return torch.cat(kernels, dim=0)


def cases(request: VerifyRequest) -> Iterator[Case]:
    """Yield both identities for every G, d and C."""
    for channels in request.channels:
        for groups in request.groups:
            for width in request.widths or (paper_width(groups),):
                figures = f"G={groups} d={width} C={channels}"
                for title, function in (("sum", examine_sum), ("split", examine_split)):
                    name = f"{title} {figures}"
                    yield Case(name, partial(function, name, groups, width, channels, request))


def examine_sum(name: str, groups: int, width: int, channels: int, request: VerifyRequest) -> Iterator[Finding]:
    """Hold one 1x1 over the concatenation against the sum of G."""

    def make(fill: Fill, source: torch.Generator) -> list[Side]:
        summed = draws.materialised(lambda: SummedProjections(groups, width, channels), torch.float64)
        fill(summed, source)
        one = nn.Conv2d(groups * width, channels, 1, bias=False).to(torch.float64)
        one.load_state_dict({"weight": stacked_inputs(list(summed.state_dict().values()))})
        return [
            Side("sum of G", summed, dict),
            Side("one over the concatenation", one, partial(_per_branch, groups, 1)),
        ]

    faults = FAULTS if groups > 1 else FAULTS[1:]
    yield from examine(make, (BATCH, groups * width, SIZE, SIZE), request, name, faults=faults)


def examine_split(name: str, groups: int, width: int, channels: int, request: VerifyRequest) -> Iterator[Finding]:
    """Hold one 1x1 with G times the outputs, split, against G of the same input."""

    def make(fill: Fill, source: torch.Generator) -> list[Side]:
        parallel = draws.materialised(lambda: ParallelProjections(groups, width, channels), torch.float64)
        fill(parallel, source)
        one = SplitProjection(groups, width, channels).to(torch.float64)
        one.load_state_dict({"convolution.weight": stacked_outputs(list(parallel.state_dict().values()))})
        return [Side("G of one input", parallel, dict), Side("one, split", one, partial(_per_branch, groups, 0))]

    faults = FAULTS if groups > 1 else FAULTS[1:]
    yield from examine(make, (BATCH, channels, SIZE, SIZE), request, name, faults=faults)


def _per_branch(groups: int, axis: int, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    (weight,) = state.values()
    return {f"branches.{index}.weight": part for index, part in enumerate(weight.chunk(groups, dim=axis))}


@contextlib.contextmanager
def _swapped(module: nn.Module, dtype: str, exact: bool) -> Iterator[None]:
    del dtype, exact
    branches = module.get_submodule("branches")
    assert isinstance(branches, nn.ModuleList)  # noqa: S101 - for the type checker
    first, second = branches[0], branches[1]
    branches[0], branches[1] = second, first
    try:
        yield
    finally:
        branches[0], branches[1] = first, second


@contextlib.contextmanager
def _nudged(module: nn.Module, dtype: str, exact: bool) -> Iterator[None]:
    with put_back(next(module.parameters())) as weight:
        nudge(weight, dtype, exact=exact)
        yield


@contextlib.contextmanager
def _cut_off(module: nn.Module, dtype: str, exact: bool) -> Iterator[None]:
    del dtype, exact
    handle = module.get_submodule("branches.0").register_forward_hook(lambda _m, _i, output: output.detach())
    try:
        yield
    finally:
        handle.remove()


FAULTS = (
    Fault("two branches swapped", "output", 0, _swapped),
    Fault("one weight nudged", "output", 1, _nudged),
    Fault("a branch cut off the backward pass", "weight gradients", 0, _cut_off),
)
