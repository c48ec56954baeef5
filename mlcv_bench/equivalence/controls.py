"""Negative controls: something is made wrong on purpose, and a check that does not notice proves nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mlcv_bench.equivalence.request import MODES

NUDGES = {"float64": 1e-6, "float32": 1e-1, "bfloat16": 1e3, "float16": 1e2}
"""By how much of its tensor's largest magnitude one weight is moved, for each type; 1 in the exact checks."""


@dataclass(frozen=True, slots=True)
class ControlSite:
    """Where something is made wrong: the formulation's module, how to run it as the check does, in which type."""

    module: Any
    run: Callable[[], object]
    dtype: str
    exact: bool = False

    @contextlib.contextmanager
    def nudged(self, weight: Tensor, position: Sequence[int] | None = None) -> Iterator[None]:
        """Move one value of a weight for a while."""
        with put_back(weight):
            nudge(weight, self.dtype, exact=self.exact, position=position)
            yield


@dataclass(frozen=True, slots=True)
class NegativeControl:
    """Something made wrong in formulation number `formulation`, inside `with control.make(site)`.

    It must show in one quantity. It is made in its modes, in exact checks where it is `exact`, and with one group
    unless it needs `several`.
    """

    name: str
    formulation: int
    quantity: str
    make: Callable[[ControlSite], AbstractContextManager[None]]
    modes: tuple[str, ...] = MODES
    exact: bool = True
    several: bool = False


def for_groups(controls: Sequence[NegativeControl], groups: int) -> list[NegativeControl]:
    """Leave out what needs several groups where there is one."""
    return [control for control in controls if groups > 1 or not control.several]


def nudge(weight: Tensor, dtype: str, *, exact: bool = False, position: Sequence[int] | None = None) -> None:
    """Move one value of a weight, in place: by 1 in an exact check, else by `NUDGES` of the largest magnitude.

    Args:
        weight: the tensor to change.
        dtype: the type that is checked.
        exact: whether the check is exact.
        position: which value; by default the one in the middle of every axis.

    """
    index = tuple(position) if position is not None else tuple(size // 2 for size in weight.shape)
    with torch.no_grad():
        step = 1.0 if exact else NUDGES[dtype] * float(weight.abs().max())
        weight[index] += step


@contextlib.contextmanager
def put_back(weight: Tensor) -> Iterator[Tensor]:
    """Lend a weight to be changed, and put its values back afterwards."""
    kept = weight.detach().clone()
    try:
        yield weight
    finally:
        with torch.no_grad():
            weight.copy_(kept)


def first_weight_nudged(site: ControlSite) -> AbstractContextManager[None]:
    """Move the middle value of the module's first weight."""
    return site.nudged(next(site.module.parameters()))


@contextlib.contextmanager
def cut_off(place: str, site: ControlSite) -> Iterator[None]:
    """Cut the part at `place` off the backward pass; outputs stay the same."""
    handle = site.module.get_submodule(place).register_forward_hook(lambda _module, _inputs, output: output.detach())
    try:
        yield
    finally:
        handle.remove()


@contextlib.contextmanager
def first_two_swapped(parts: str, site: ControlSite) -> Iterator[None]:
    """Exchange the first two modules of a list."""
    modules: nn.ModuleList = getattr(site.module, parts)
    first, second = modules[0], modules[1]
    modules[0], modules[1] = second, first
    try:
        yield
    finally:
        modules[0], modules[1] = first, second
