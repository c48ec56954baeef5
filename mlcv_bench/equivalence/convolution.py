"""Subjects `grouped-conv` and `projection`: identities of single convolutions (notes 2.3, 2.3.1)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from mlcv_bench.architectures.layers import ChunkedConv2d
from mlcv_bench.counting.cost import count
from mlcv_bench.equivalence.comparison import as_control, judge_counts
from mlcv_bench.equivalence.evidence import State
from mlcv_bench.equivalence.harness import (
    ControlSite,
    Formulation,
    NegativeControl,
    Reformulation,
    arranged_by,
    check,
    cut_off,
    first_two_swapped,
    first_weight_nudged,
    for_groups,
)
from mlcv_bench.equivalence.randomness import filled
from mlcv_bench.equivalence.request import VerifyRequest
from mlcv_bench.equivalence.subject import Case, Finding

BATCH = 2
SIZE = 7

# Grouped convolutions ----------------------------------------------------------------------------------------------


def to_chunks(weight: Tensor, groups: int) -> tuple[Tensor, ...]:
    """Cut a grouped kernel (C_out, C_in / G, kH, kW), or its bias, into the kernels of the G chunks."""
    return weight.chunk(groups)


def to_block_diagonal(weight: Tensor, groups: int) -> Tensor:
    """Spread a grouped kernel over a dense one: (C_out, C_in / G, kH, kW) -> (C_out, C_in, kH, kW), zeros elsewhere.

    Seen as a matrix of kernels, outputs down and inputs across, the groups' kernels are blocks on the diagonal: an
    output channel of one group does not read the input channels of another.
    """
    outputs, inputs = weight.shape[0] // groups, weight.shape[1]
    dense = weight.new_zeros(weight.shape[0], inputs * groups, *weight.shape[2:])
    for group in range(groups):
        rows = slice(group * outputs, (group + 1) * outputs)
        dense[rows, group * inputs : (group + 1) * inputs] = weight[rows]
    return dense


def from_block_diagonal(dense: Tensor, groups: int) -> Tensor:
    """Gather the diagonal blocks of a dense kernel into a grouped one; the inverse of `to_block_diagonal`.

    Of a dense convolution's gradient this keeps what the grouped one has; the rest is what the grouped cannot learn.
    """
    outputs, inputs = dense.shape[0] // groups, dense.shape[1] // groups
    blocks = [
        dense[group * outputs : (group + 1) * outputs, group * inputs : (group + 1) * inputs] for group in range(groups)
    ]
    return torch.cat(blocks)


@dataclass(frozen=True, slots=True)
class GroupedLayer:
    """One grouped convolution to examine."""

    groups: int
    inputs: int
    outputs: int
    kernel: int
    stride: int
    bias: bool

    @property
    def name(self) -> str:
        """The figures, as the results show them."""
        bias = " bias" if self.bias else ""
        return f"G={self.groups} {self.inputs}->{self.outputs} {self.kernel}x{self.kernel} stride={self.stride}{bias}"

    def convolution(self, groups: int, *, bias: bool) -> nn.Conv2d:
        """Build the convolution with this many groups."""
        return nn.Conv2d(
            *(self.inputs, self.outputs, self.kernel, self.stride, self.kernel // 2), groups=groups, bias=bias
        )


def grouped_cases(request: VerifyRequest) -> Iterator[Case]:
    """Yield, for every G and d, the block's own 3x3, a widening one with stride and bias, and a 1x1."""
    for groups, width in request.branchings():
        total = groups * width
        for layer in (
            GroupedLayer(groups, total, total, 3, 1, bias=False),
            GroupedLayer(groups, total, 2 * total, 3, 2, bias=True),
            GroupedLayer(groups, total, total, 1, 1, bias=False),
        ):
            yield Case(layer.name, partial(examine_layer, layer, request))


def examine_layer(layer: GroupedLayer, request: VerifyRequest) -> Iterator[Finding]:
    """Compare the three formulations of one layer, and the counts of parameters and MACs."""
    yield from check(
        Reformulation(
            layer.name,
            (BATCH, layer.inputs, SIZE, SIZE),
            exact=grouped_formulations(layer, request, exact=True),
            drawn=grouped_formulations(layer, request, exact=False),
            controls=for_groups(GROUPED_CONTROLS, layer.groups),
        ),
        request,
    )
    yield from examine_counts(layer)


def grouped_formulations(layer: GroupedLayer, request: VerifyRequest, *, exact: bool) -> list[Formulation]:
    """Build the grouped convolution, its chunks, and the dense one with a block-diagonal kernel."""
    groups = layer.groups
    grouped = filled(lambda: layer.convolution(groups, bias=layer.bias), request.seed, layer.name, exact=exact)
    state = grouped.state_dict()
    chunked = ChunkedConv2d(
        layer.inputs,
        layer.outputs,
        layer.kernel,
        stride=layer.stride,
        padding=layer.kernel // 2,
        groups=groups,
        bias=layer.bias,
    ).to(torch.float64)
    parts = {key: to_chunks(tensor, groups) for key, tensor in state.items()}
    chunked.load_state_dict({f"chunks.{i}.{key}": chunks[i] for key, chunks in parts.items() for i in range(groups)})
    dense = layer.convolution(1, bias=layer.bias).to(torch.float64)
    dense.load_state_dict(state | {"weight": to_block_diagonal(state["weight"], groups)})
    return [
        Formulation("grouped", grouped),
        Formulation("chunks", chunked, arranged_by(partial(_join_chunks, groups))),
        Formulation("block-diagonal", dense, arranged_by(partial(_leave_zeros_out, groups))),
    ]


def _join_chunks(groups: int, state: State) -> State:
    names = dict.fromkeys(key.rpartition(".")[2] for key in state)
    return {name: torch.cat([state[f"chunks.{index}.{name}"] for index in range(groups)]) for name in names}


def _leave_zeros_out(groups: int, state: State) -> State:
    return {key: from_block_diagonal(value, groups) if key == "weight" else value for key, value in state.items()}


def examine_counts(layer: GroupedLayer) -> Iterator[Finding]:
    """Count both without bias: the dense convolution has exactly G times the parameters and the MACs."""
    shape = (layer.inputs, SIZE, SIZE)
    grouped = count(layer.convolution(layer.groups, bias=False), input=shape)
    dense = count(layer.convolution(1, bias=False), input=shape)
    yield judge_counts("dense = G x grouped", "parameters", dense.params, layer.groups * grouped.params)
    yield judge_counts("dense = G x grouped", "MACs", dense.macs, layer.groups * grouped.macs)
    biased = count(layer.convolution(layer.groups, bias=True), input=shape)
    yield as_control(
        judge_counts("a bias counted among the weights", "parameters", dense.params, layer.groups * biased.params)
    )
    closer = count(layer.convolution(layer.groups, bias=False), input=(layer.inputs, SIZE + 2, SIZE + 2))
    yield as_control(judge_counts("a map two pixels larger", "MACs", dense.macs, layer.groups * closer.macs))


def another_channel_read(site: ControlSite) -> contextlib.AbstractContextManager[None]:
    """Let the first output channel of the dense convolution read the last input channel."""
    weight = site.module.weight
    return site.nudged(weight, (0, weight.shape[1] - 1, *(size // 2 for size in weight.shape[2:])))


GROUPED_CONTROLS = (
    NegativeControl("one weight nudged", 0, "output", first_weight_nudged),
    NegativeControl("two chunks swapped", 1, "output", partial(first_two_swapped, "chunks"), several=True),
    NegativeControl("one group reads another's channel", 2, "output", another_channel_read, several=True),
    NegativeControl(
        "a chunk cut off the backward pass", 1, "weight gradients", partial(cut_off, "chunks.0"), several=True
    ),
)

# Projections -------------------------------------------------------------------------------------------------------


class Projections(nn.Module):
    """G branches of one 1x1 convolution each."""

    def __init__(self, groups: int, inputs: int, outputs: int) -> None:
        """Build one 1x1 convolution a branch."""
        super().__init__()
        self.branches = nn.ModuleList(nn.Conv2d(inputs, outputs, 1, bias=False) for _ in range(groups))


class SummedProjections(Projections):
    """The notes' second 1x1: every branch projects its own channels, and the results are summed.

    (N, G d, H, W) -> (N, C, H, W).
    """

    def forward(self, x: Tensor) -> Tensor:
        """Project each branch's channels and add up."""
        parts = x.chunk(len(self.branches), dim=1)
        total: Tensor = self.branches[0](parts[0])
        for branch, part in zip(self.branches[1:], parts[1:], strict=True):
            total = total + branch(part)
        return total


class ParallelProjections(Projections):
    """The notes' first 1x1: all branches read the same input. (N, C, H, W) -> G tensors of (N, d, H, W)."""

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


def projection_cases(request: VerifyRequest) -> Iterator[Case]:
    """Yield both identities of 1x1 convolutions behind the block's reformulation for every G, d and C."""
    for channels in request.channels:
        for groups, width in request.branchings():
            for title, inputs, build in (
                ("sum", groups * width, sum_formulations),
                ("split", channels, split_formulations),
            ):
                name = f"{title} G={groups} d={width} C={channels}"
                formulations = partial(build, name, groups, width, channels, request)
                yield Case(name, partial(examine_projection, name, inputs, groups, formulations, request))


def examine_projection(
    name: str, inputs: int, groups: int, formulations: Callable[..., list[Formulation]], request: VerifyRequest
) -> Iterator[Finding]:
    """Compare one 1x1 convolution with G."""
    yield from check(
        Reformulation(
            name,
            (BATCH, inputs, SIZE, SIZE),
            exact=formulations(exact=True),
            drawn=formulations(exact=False),
            controls=for_groups(PROJECTION_CONTROLS, groups),
        ),
        request,
    )


def sum_formulations(
    name: str, groups: int, width: int, channels: int, request: VerifyRequest, *, exact: bool
) -> list[Formulation]:
    """Build the sum of G 1x1 convolutions, and one over the concatenation."""
    summed = filled(lambda: SummedProjections(groups, width, channels), request.seed, name, exact=exact)
    one = nn.Conv2d(groups * width, channels, 1, bias=False).to(torch.float64)
    one.load_state_dict({"weight": stacked_inputs(list(summed.state_dict().values()))})
    return [
        Formulation("sum of G", summed),
        Formulation("one over the concatenation", one, arranged_by(partial(_by_branch, groups, 1))),
    ]


def split_formulations(
    name: str, groups: int, width: int, channels: int, request: VerifyRequest, *, exact: bool
) -> list[Formulation]:
    """Build G 1x1 convolutions of one input, and one with G times the outputs, split."""
    parallel = filled(lambda: ParallelProjections(groups, channels, width), request.seed, name, exact=exact)
    one = SplitProjection(groups, width, channels).to(torch.float64)
    one.load_state_dict({"convolution.weight": stacked_outputs(list(parallel.state_dict().values()))})
    return [
        Formulation("G of one input", parallel),
        Formulation("one, split", one, arranged_by(partial(_by_branch, groups, 0))),
    ]


def _by_branch(groups: int, axis: int, state: State) -> State:
    parts = [part for weight in state.values() for part in weight.chunk(groups, dim=axis)]
    return {f"branches.{index}.weight": part for index, part in enumerate(parts)}


PROJECTION_CONTROLS = (
    NegativeControl("two branches swapped", 0, "output", partial(first_two_swapped, "branches"), several=True),
    NegativeControl("one weight nudged", 1, "output", first_weight_nudged),
    NegativeControl("a branch cut off the backward pass", 0, "weight gradients", partial(cut_off, "branches.0")),
)
