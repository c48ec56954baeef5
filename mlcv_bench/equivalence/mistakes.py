"""The negative controls of a ResNeXt block: each spoils one thing, and says in which quantity it must show."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from mlcv_bench.architectures.resnext import Form, ResNeXtBlock
from mlcv_bench.equivalence.controls import nudge, swap_groups


@dataclass(frozen=True, slots=True)
class Mistake:
    """One deliberate mistake.

    `spoil(block, groups, dtype, exact)` makes it in place on a copy of the block in `form`.
    """

    name: str
    form: Form
    quantity: str
    spoil: Callable[[Any, int, str, bool], None]
    modes: tuple[str, ...] = ("train", "eval")
    exact: bool = True
    least_groups: int = 1


def nudged_weight(block: ResNeXtBlock, groups: int, dtype: str, exact: bool) -> None:
    """Move one weight of the grouped convolution."""
    del groups
    nudge(block.conv2.weight, dtype, exact=exact)


def swapped_groups(block: ResNeXtBlock, groups: int, dtype: str, exact: bool) -> None:
    """Let the first two groups convolve each other's channels."""
    del dtype, exact
    swap_groups(block.conv2.weight, groups)


class SumOfNorms(nn.Module):
    """A convolution followed by the norm that should come after the sum."""

    def __init__(self, convolution: nn.Module, norm: nn.Module) -> None:
        """Keep both."""
        super().__init__()
        self.convolution = convolution
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        """Normalise too early."""
        y: Tensor = self.norm(self.convolution(x))
        return y


def norm_before_the_sum(block: ResNeXtBlock, groups: int, dtype: str, exact: bool) -> None:
    """Normalise every branch, then sum: the notes' order is sum, norm, shortcut."""
    del groups, dtype, exact
    for branch in block.branches:
        branch.conv3 = SumOfNorms(branch.conv3, block.bn3)
    block.bn3 = nn.Identity()


def branch_without_gradient(block: ResNeXtBlock, groups: int, dtype: str, exact: bool) -> None:
    """Cut the first branch off the backward pass; outputs stay the same."""
    del groups, dtype, exact
    first = block.branches[0]
    first.register_forward_hook(lambda _module, _inputs, output: output.detach())


def hasty_statistics(block: ResNeXtBlock, groups: int, dtype: str, exact: bool) -> None:
    """Let one branch's batch norm forget its past; outputs and gradients in training stay the same."""
    del groups, dtype, exact
    block.branches[0].bn1.momentum = 1.0


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
