"""What other counters make of each operator: their rules, derived from their sources, applied to our own trace.

Versions read: fvcore 0.1.5.post20221221, torch 2.13 FlopCounterMode, thop 0.1.1.post2209072238, ptflops 0.7.5,
torchinfo 1.8.0. `benchmarks/reconcile.py` holds every rule against the tool itself where it is installed.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from mlcv_bench.counting.tracing import OperatorCall, Trace

Shape = tuple[int, ...]
LRN = "local_response_norm"
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
INSTANCE_NORMS = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
AVERAGE_POOLS = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
MAX_POOLS = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
ADAPTIVE_AVERAGES = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)
ADAPTIVE_MAXIMA = (nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d)
POOLS = (*AVERAGE_POOLS, *MAX_POOLS, *ADAPTIVE_AVERAGES, *ADAPTIVE_MAXIMA)


class Share(NamedTuple):
    """What a tool adds for an operator: `weight` times `elements`, for the reason `term`; a weight may be negative."""

    term: str
    elements: int
    weight: Fraction | int = 1

    @property
    def amount(self) -> Fraction | int:
        """What it adds."""
        return self.weight * self.elements


EXACT = "convolutions, linear layers, matrix products"
NORM = "batch-norm elements"
MISSED = "products the tool does not see"
ONCE = "real products of complex ones, each complex one counted once"
NO_EFFECT = "products without effect on the output"


def torch_counter(call: OperatorCall, module: nn.Module, output: Shape) -> Iterator[Share]:
    """Count as torch's FlopCounterMode: two a MAC, for the operators in its registry."""
    from torch.utils.flop_counter import flop_registry  # noqa: PLC0415 - imports torch._dynamo

    if not call.work.macs:
        return
    known = any(str(packet) == f"aten.{call.operator}" for packet in flop_registry)
    yield Share(EXACT if known else MISSED, call.work.macs, 2 if known else 0)
    if known and call.work.real > 1:
        yield Share(ONCE, call.work.macs - call.work.macs // call.work.real, -2)


FVCORE_PRODUCTS = frozenset(("convolution", "addmm", "bmm", "einsum", "linear", "matmul", "mm"))
"""The products that fvcore has a rule for; it passes over every other operator with a remark in its log."""
FVCORE_EINSUMS = frozenset(("abc,abd->acd", "abc,adc->adb"))
"""The two equations, their letters in order, that fvcore counts itself; for the others it asks numpy."""
FVCORE_NORMS = {"batch_norm": 1, "instance_norm": 1, "layer_norm": 2, "group_norm": 2}
"""Its norms, and the position of the argument that scales."""
FVCORE_RESAMPLING = {"upsample_nearest2d": 1, "upsample_bilinear2d": 4, "grid_sampler": 4}
"""What it resamples, and the weight of an output element."""


def fvcore(call: OperatorCall, module: nn.Module, output: Shape) -> Iterator[Share]:
    """Count as fvcore's flop_count: a rule an operator that torch.jit records, nothing for operators without a rule."""
    name, macs, elements = call.operator, call.work.macs, math.prod(call.input)
    if not call.effective:
        if macs:
            yield Share(NO_EFFECT, macs, 0)
    elif name not in FVCORE_PRODUCTS and macs:
        yield Share(MISSED, macs, 0)
    elif name == "matmul":
        counted = math.prod(call.arguments[0]) * call.arguments[1][-1]
        yield from apart("products of a matrix that meets a whole batch, counted once", macs, counted)
    elif name == "einsum":
        yield from apart("in numpy's estimate of an einsum, of four digits", macs, einsum_estimate(call))
    elif macs:
        yield from apart(ONCE, macs, macs // call.work.real)
    elif name in FVCORE_NORMS:
        place = FVCORE_NORMS[name]
        scaled = len(call.arguments) > place and call.arguments[place] is not None
        own_statistics = name != "batch_norm" or call.arguments[5]
        yield Share(f"{name.replace('_', '-')} elements", elements, (4 if own_statistics else 1) + scaled)
    elif name == "adaptive_avg_pool2d":
        yield Share("average-pool input elements", elements)
    elif name in FVCORE_RESAMPLING:
        yield Share("resampled elements", math.prod(call.output), FVCORE_RESAMPLING[name])


def apart(term: str, macs: int, counted: int) -> Iterator[Share]:
    """Yield the exact count, and what a rule is above or below it."""
    yield Share(EXACT, macs)
    if counted != macs:
        yield Share(term, abs(counted - macs), 1 if counted > macs else -1)


def einsum_estimate(call: OperatorCall) -> int:
    """Return fvcore's figure of an einsum: half the operations of numpy's best path, read from the report it prints."""
    import numpy as np  # noqa: PLC0415 - for einsums alone

    equation = call.arguments[0].replace(" ", "")
    letters = dict.fromkeys(filter(str.isalpha, equation))
    equation = equation.translate({ord(letter): 97 + i for i, letter in enumerate(letters)})
    if equation in FVCORE_EINSUMS:
        return call.work.macs // call.work.real
    operands = [np.broadcast_to(0.0, shape) for shape in call.arguments[1]]  # of any size, without memory
    _, report = np.einsum_path(equation, *operands, optimize="optimal")
    line = next(line for line in report.splitlines() if "optimized flop" in line.lower())
    return int(float(line.split(":")[-1]) / 2)


def thop(call: OperatorCall, module: nn.Module, output: Shape) -> Iterator[Share]:
    """Count as thop: modules of known classes alone; a functional call costs it nothing."""
    if call.work.macs:
        seen = type(module) in (*CONVOLUTIONS, nn.Linear)
        if seen and isinstance(module, CONVOLUTIONS) and module.transposed:
            # Its rule takes the output and all input channels of a group, as for a convolution that is not transposed.
            theirs = math.prod(call.output) * (call.input[1] // module.groups) * math.prod(tuple(module.kernel_size))
            yield Share(EXACT, theirs)
        else:
            yield Share(EXACT if seen else MISSED, call.work.macs, int(seen))
    elif call.work.kind == "norm" and type(module) in (*BATCH_NORMS, *INSTANCE_NORMS, nn.LayerNorm):
        affine = getattr(module, "affine", False) or getattr(module, "elementwise_affine", False)
        yield Share(NORM if type(module) in BATCH_NORMS else "norm elements", math.prod(call.input), 4 if affine else 2)
    elif type(module) in AVERAGE_POOLS and call.work.kind == "pooling":
        yield Share("average-pool outputs", math.prod(call.output))
    elif type(module) in ADAPTIVE_AVERAGES and call.work.kind == "pooling":
        window = Fraction(math.prod(call.input), math.prod(call.output))
        yield Share("average-pool outputs, each its window and a division", math.prod(call.output), window + 1)
    elif type(module) is nn.Softmax and call.operator == "_softmax":
        features = call.input[module.dim if module.dim is not None else -1]
        rows = math.prod(call.input) // features
        yield Share("softmax rows", rows, 3 * features - 1)


def ptflops(call: OperatorCall, module: nn.Module, output: Shape) -> Iterator[Share]:
    """Count as ptflops with its default (PyTorch) backend: modules by hooks, and functions by patches.

    A module that calls a patched function (ReLU, every pool) is counted by both, so twice.
    """
    function = call.function
    if call.work.macs:
        seen = type(module) in (*CONVOLUTIONS, nn.Linear) or function in {"matmul", "mm", "bmm"}
        yield Share(EXACT if seen else MISSED, call.work.macs, int(seen))
        if seen and call.work.bias:
            yield Share("bias elements", call.work.bias)
    elif call.operator in {"add", "mul"} and function in {"torch.add", "torch.mul", LRN}:
        # Local response norm calls its patched square, product and sum.
        yield Share("elements of patched sums and products", math.prod(call.output))
    elif call.work.kind == "norm" and type(module) in (*BATCH_NORMS, *INSTANCE_NORMS, nn.GroupNorm, nn.LayerNorm):
        affine = getattr(module, "affine", False)
        yield Share(NORM if type(module) in BATCH_NORMS else "norm elements", math.prod(call.input), 2 if affine else 1)
    elif function == LRN and call.operator.startswith("avg_pool"):
        yield Share("local-response-norm window elements", math.prod(call.input))
    elif call.work.kind == "activation":
        by_hook = type(module) in {nn.ReLU, nn.PReLU, nn.ELU, nn.LeakyReLU, nn.ReLU6, nn.GELU}
        by_patch = function in {"relu", "prelu", "elu", "relu6", "gelu", "softmax", "silu"}
        if by_hook or by_patch:
            name = type(module).__name__ if by_hook else function
            yield Share(f"{name} elements", math.prod(call.input), by_hook + by_patch)
    elif call.work.kind == "pooling":
        by_hook = type(module) in POOLS
        by_patch = "pool" in function
        if by_hook or by_patch:
            what = "max" if "max" in call.operator else "average"
            yield Share(f"{what}-pool input elements", math.prod(call.input), by_hook + by_patch)


def torchinfo(call: OperatorCall, module: nn.Module, output: Shape) -> Iterator[Share]:
    """Count as torchinfo: the weights and biases of modules without children, times the positions of their output."""
    named = {name: weight.numel() for name, weight in module.named_parameters(recurse=False)}
    if not named or any(module.children()):
        if call.work.macs:
            yield Share(MISSED, call.work.macs, 0)
        return
    spatial = call.output[2:] if "Conv" in type(module).__name__ else ()
    # A linear layer on several axes calls its operator on one: torchinfo knows the layer's own output alone.
    positions = (output or call.output)[0] * math.prod(spatial)
    for name, elements in named.items():
        if name == "weight" and call.work.macs:
            yield Share(EXACT, elements * positions)
        elif name in {"weight", "bias"} and call.work.kind == "norm" and call.work.operations:
            yield Share("parameters of norms", elements * positions)
        elif name == "bias":
            yield Share("bias elements", elements * positions)


RULES: dict[str, Callable[[OperatorCall, nn.Module, Shape], Iterator[Share]]] = {
    "torch FlopCounterMode": torch_counter,
    "fvcore": fvcore,
    "thop": thop,
    "ptflops": ptflops,
    "torchinfo": torchinfo,
}
"""Each tool and its rule: from an operator, its module and the shape of that module's output, where it is known."""


@dataclass(frozen=True)
class Tally:
    """What a tool says of a network, or of a part of it: (term, weight) to elements."""

    shares: Counter[tuple[str, Fraction | int]] = field(default_factory=Counter)

    def add(self, shares: Iterable[Share]) -> None:
        """Add what a rule makes of one operator."""
        for share in shares:
            self.shares[share.term, share.weight] += share.elements

    @property
    def total(self) -> int:
        """The tool's figure; thop truncates a fraction layer by layer, which no known layer has."""
        return int(sum(weight * elements for (_, weight), elements in self.shares.items()))


def shares_of(tool: str, trace: Trace, module: nn.Module) -> Iterator[tuple[OperatorCall, list[Share]]]:
    """Apply one tool's rule to every operator of a trace that has its functions noted, and yield both."""
    modules = dict(module.named_modules(remove_duplicate=False))
    for call in trace.recorded if tool == "fvcore" else trace.calls:
        yield call, list(RULES[tool](call, modules[call.module], trace.outputs.get(call.module, ())))


def tally(tool: str, trace: Trace, module: nn.Module) -> Tally:
    """Add up what one tool's rule makes of a trace."""
    found = Tally()
    for _, shares in shares_of(tool, trace, module):
        found.add(shares)
    return found
