"""Deliberate mistakes: a check that does not notice them proves nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from mlcv_bench.equivalence.comparison import Showing, judge
from mlcv_bench.equivalence.subject import Finding

NUDGES = {"float64": 1e-6, "float32": 1e-1, "bfloat16": 1e3, "float16": 1e2}
"""By how much of its tensor's largest magnitude one weight is moved, for each type; 1 in the exact checks."""


def control(
    mistake: str,
    quantity: str,
    reference: Showing,
    mistaken: Showing,
    *,
    tolerance: float,
    dtype: str,
    mode: str | None = None,
) -> Finding:
    """Judge a mistaken side exactly as `judge` would: the control passes where the comparison fails.

    Args:
        mistake: what was done wrong, in words.
        quantity: where it must show.
        reference: the right side.
        mistaken: the wrong one, in the reference's layout.
        tolerance: the very tolerance of the check that is controlled.
        dtype: the type of both.
        mode: train or eval, where it matters.

    """
    found = judge(mistake, quantity, reference, mistaken, tolerance=tolerance, dtype=dtype, mode=mode)
    return Finding(
        mistake,
        quantity,
        "control",
        dtype=dtype,
        mode=mode,
        max_abs_error=found.max_abs_error,
        max_rel_error=found.max_rel_error,
        tolerance=tolerance,
        control_detected=not found.passed,
        passed=not found.passed,
        reason="" if not found.passed else "a deliberate mistake went unnoticed",
    )


def control_counts(mistake: str, quantity: str, reference: int, mistaken: int) -> Finding:
    """Judge a mistaken count: the control passes where the numbers differ."""
    gap = abs(reference - mistaken)
    return Finding(
        mistake,
        quantity,
        "control",
        max_abs_error=float(gap),
        max_rel_error=gap / abs(reference) if reference else None,
        tolerance=0.0,
        control_detected=gap > 0,
        passed=gap > 0,
        reason="" if gap > 0 else "a deliberate mistake went unnoticed",
    )


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


def swap_groups(weight: Tensor, groups: int) -> None:
    """Exchange the kernels of the first two groups of a stacked weight, in place."""
    with torch.no_grad():
        first, second = weight.chunk(groups)[:2]
        kept = first.clone()
        first.copy_(second)
        second.copy_(kept)


@contextlib.contextmanager
def put_back(weight: Tensor) -> Iterator[Tensor]:
    """Give a weight to spoil, and put its values back afterwards."""
    kept = weight.detach().clone()
    try:
        yield weight
    finally:
        with torch.no_grad():
            weight.copy_(kept)
