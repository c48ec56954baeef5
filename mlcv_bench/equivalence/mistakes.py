"""The negative controls of a ResNeXt block: each spoils one thing for a while, and says where it must show."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from mlcv_bench.architectures.resnext import Form
from mlcv_bench.equivalence.controls import nudge, put_back, swap_groups
from mlcv_bench.trials import NotApplicableError


@dataclass(frozen=True, slots=True)
class Spoilt:
    """What a mistake needs to know: the block and how to look at it, the notes' G, the type, whether it is exact."""

    block: Any
    look: Callable[[], object]
    groups: int
    dtype: str
    exact: bool


@dataclass(frozen=True, slots=True)
class Mistake:
    """One deliberate mistake, made inside `with mistake.make(...)` on the block in `form`, and undone after it."""

    name: str
    form: Form
    quantity: str
    make: Callable[[Spoilt], AbstractContextManager[None]]
    modes: tuple[str, ...] = ("train", "eval")
    exact: bool = True
    least_groups: int = 1


@contextlib.contextmanager
def nudged_weight(spoilt: Spoilt) -> Iterator[None]:
    """Move one weight of the grouped convolution, where a ReLU lets it show."""
    position = loudest_weight(spoilt.block, spoilt.look)
    with put_back(spoilt.block.conv2.weight) as weight:
        nudge(weight, spoilt.dtype, exact=spoilt.exact, position=position)
        yield


def loudest_weight(block: Any, look: Callable[[], object]) -> tuple[int, ...]:  # noqa: ANN401 - a grouped block
    """Return the middle tap between the grouped convolution's loudest output channel and its group's loudest input.

    A weight whose output the ReLU cuts off everywhere, or whose input is zero everywhere, changes nothing when moved.
    `look` runs the network that the block stands in.

    Raises:
        NotApplicableError: no weight shows at all.

    """
    heard: dict[str, Tensor] = {}

    def listen(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        return lambda _module, inputs: heard.update({name: inputs[0].detach().double().sum(dim=(0, 2, 3))})

    with contextlib.ExitStack() as stack:
        for name in ("conv2", "conv3"):
            stack.callback(getattr(block, name).register_forward_pre_hook(listen(name)).remove)
        look()
    output = int(heard["conv3"].argmax())
    _, per_group, *kernel = block.conv2.weight.shape
    group = output // (block.conv2.out_channels // block.conv2.groups)
    inputs = heard["conv2"][group * per_group : (group + 1) * per_group]
    if not (heard["conv3"][output] > 0 and inputs.max() > 0):
        msg = "every channel of the grouped convolution is cut off by a ReLU, so no weight of it shows"
        raise NotApplicableError(msg)
    return output, int(inputs.argmax()), *(size // 2 for size in kernel)


@contextlib.contextmanager
def swapped_groups(spoilt: Spoilt) -> Iterator[None]:
    """Let the first two groups convolve each other's channels."""
    with put_back(spoilt.block.conv2.weight) as weight:
        swap_groups(weight, spoilt.groups)
        yield


@contextlib.contextmanager
def norm_before_the_sum(spoilt: Spoilt) -> Iterator[None]:
    """Normalise every branch, then sum: the right order is sum, norm, shortcut."""
    block = spoilt.block
    norm = block.bn3
    handles = [branch.register_forward_hook(lambda _m, _i, output: norm(output)) for branch in block.branches]
    block.bn3 = nn.Identity()
    try:
        # The norm stands outside the block for now, so whoever restores the block's statistics misses it.
        with contextlib.ExitStack() as stack:
            for buffer in norm.buffers():
                stack.enter_context(put_back(buffer))
            yield
    finally:
        block.bn3 = norm
        for handle in handles:
            handle.remove()


@contextlib.contextmanager
def branch_without_gradient(spoilt: Spoilt) -> Iterator[None]:
    """Cut the first branch off the backward pass; outputs stay the same."""
    handle = spoilt.block.branches[0].register_forward_hook(lambda _m, _i, output: output.detach())
    try:
        yield
    finally:
        handle.remove()


@contextlib.contextmanager
def hasty_statistics(spoilt: Spoilt) -> Iterator[None]:
    """Let one branch's batch norm forget its past; outputs and gradients in training stay the same."""
    norm = spoilt.block.branches[0].bn1
    momentum = norm.momentum
    norm.momentum = 1.0
    try:
        yield
    finally:
        norm.momentum = momentum


MISTAKES = (
    Mistake("one weight nudged", "grouped", "output", nudged_weight),
    Mistake("two groups swapped", "grouped", "output", swapped_groups, least_groups=2),
    Mistake("batch norm before the sum", "branches", "output", norm_before_the_sum, exact=False, least_groups=2),
    Mistake("a branch cut off the backward pass", "branches", "weight gradients", branch_without_gradient),
    Mistake(
        "one branch with another momentum",
        "branches",
        "batch-norm statistics",
        hasty_statistics,
        modes=("train",),
        exact=False,
    ),
)
