"""Subject `grouped-conv`: a grouped convolution is G convolutions on chunks, and a dense one with zeros (notes 2.3)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from mlcv_bench.architectures.layers import ChunkedConv2d
from mlcv_bench.counting.cost import count
from mlcv_bench.counting.published import paper_width
from mlcv_bench.equivalence import draws
from mlcv_bench.equivalence.comparison import judge_counts
from mlcv_bench.equivalence.controls import control_counts, nudge, put_back
from mlcv_bench.equivalence.request import VerifyRequest
from mlcv_bench.equivalence.sides import Fault, Fill, Side, examine
from mlcv_bench.equivalence.subject import Case, Finding

BATCH = 2
SIZE = 7


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
class Grouped:
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

    def convolution(self, groups: int, *, bias: bool | None = None) -> nn.Conv2d:
        """Build the convolution with this many groups."""
        has_bias = self.bias if bias is None else bias
        return nn.Conv2d(
            *(self.inputs, self.outputs, self.kernel, self.stride, self.kernel // 2), groups=groups, bias=has_bias
        )


def cases(request: VerifyRequest) -> Iterator[Case]:
    """Yield, for every G and d, the block's own 3x3, a widening one with stride and bias, and a 1x1."""
    for groups in request.groups:
        for width in request.widths or (paper_width(groups),):
            total = groups * width
            for layer in (
                Grouped(groups, total, total, 3, 1, bias=False),
                Grouped(groups, total, 2 * total, 3, 2, bias=True),
                Grouped(groups, total, total, 1, 1, bias=False),
            ):
                yield Case(layer.name, partial(examine_layer, layer, request))


def sides_of(layer: Grouped, fill: Fill, source: torch.Generator) -> list[Side]:
    """Build the grouped convolution, its chunks, and the dense one with a block-diagonal kernel."""
    grouped = draws.materialised(lambda: layer.convolution(layer.groups), torch.float64)
    fill(grouped, source)
    chunked = ChunkedConv2d(
        layer.inputs,
        layer.outputs,
        layer.kernel,
        stride=layer.stride,
        padding=layer.kernel // 2,
        groups=layer.groups,
        bias=layer.bias,
    ).to(torch.float64)
    dense = layer.convolution(1).to(torch.float64)
    state = grouped.state_dict()
    chunked.load_state_dict(
        {
            f"chunks.{index}.{key}": part
            for key, tensor in state.items()
            for index, part in enumerate(to_chunks(tensor, layer.groups))
        }
    )
    dense.load_state_dict(state | {"weight": to_block_diagonal(state["weight"], layer.groups)})
    return [
        Side("grouped", grouped),
        Side("chunks", chunked, partial(_chunks_to_grouped, groups=layer.groups)),
        Side("block-diagonal", dense, partial(_dense_to_grouped, groups=layer.groups)),
    ]


def _chunks_to_grouped(state: Mapping[str, Tensor], groups: int) -> dict[str, Tensor]:
    names = dict.fromkeys(key.rpartition(".")[2] for key in state)
    return {name: torch.cat([state[f"chunks.{index}.{name}"] for index in range(groups)]) for name in names}


def _dense_to_grouped(state: Mapping[str, Tensor], groups: int) -> dict[str, Tensor]:
    return {**state, "weight": from_block_diagonal(state["weight"], groups)}


def examine_layer(layer: Grouped, request: VerifyRequest) -> Iterator[Finding]:
    """Compare the three formulations of one layer, and the counts of parameters and MACs."""
    image = (BATCH, layer.inputs, SIZE, SIZE)
    yield from examine(
        partial(sides_of, layer), image, request, layer.name, faults=FAULTS if layer.groups > 1 else FAULTS[:1]
    )
    yield from examine_counts(layer)


def examine_counts(layer: Grouped) -> Iterator[Finding]:
    """Count both without bias: the dense convolution has exactly G times the parameters and the MACs."""
    shape = (layer.inputs, SIZE, SIZE)
    grouped = count(layer.convolution(layer.groups, bias=False), input=shape)
    dense = count(layer.convolution(1, bias=False), input=shape)
    yield judge_counts("dense = G x grouped", "parameters", dense.params, layer.groups * grouped.params)
    yield judge_counts("dense = G x grouped", "MACs", dense.macs, layer.groups * grouped.macs)
    biased = count(layer.convolution(layer.groups, bias=True), input=shape)
    yield control_counts("a bias counted among the weights", "parameters", dense.params, layer.groups * biased.params)
    closer = count(layer.convolution(layer.groups, bias=False), input=(layer.inputs, SIZE + 2, SIZE + 2))
    yield control_counts("a map two pixels larger", "MACs", dense.macs, layer.groups * closer.macs)


@contextlib.contextmanager
def _nudged(module: nn.Conv2d, dtype: str, exact: bool) -> Iterator[None]:
    with put_back(module.weight) as weight:
        nudge(weight, dtype, exact=exact)
        yield


@contextlib.contextmanager
def _swapped(module: ChunkedConv2d, dtype: str, exact: bool) -> Iterator[None]:
    del dtype, exact
    first, second = module.chunks[0], module.chunks[1]
    module.chunks[0], module.chunks[1] = second, first
    try:
        yield
    finally:
        module.chunks[0], module.chunks[1] = first, second


@contextlib.contextmanager
def _leak(module: nn.Conv2d, dtype: str, exact: bool) -> Iterator[None]:
    with put_back(module.weight) as weight:
        middle = [size // 2 for size in weight.shape[2:]]
        nudge(weight, dtype, exact=exact, position=(0, weight.shape[1] - 1, *middle))
        yield


@contextlib.contextmanager
def _cut_off(module: ChunkedConv2d, dtype: str, exact: bool) -> Iterator[None]:
    del dtype, exact
    handle = module.chunks[0].register_forward_hook(lambda _module, _inputs, output: output.detach())
    try:
        yield
    finally:
        handle.remove()


FAULTS = (
    Fault("one weight nudged", "output", 0, _nudged),
    Fault("two chunks swapped", "output", 1, _swapped),
    Fault("one group reads another's channel", "output", 2, _leak),
    Fault("a chunk cut off the backward pass", "weight gradients", 1, _cut_off),
)
