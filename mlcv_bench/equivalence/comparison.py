"""How far two results are apart, how far rounding may take them, and the verdict."""

from __future__ import annotations

import cmath
import math
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from mlcv_bench.equivalence.subject import Finding, Proof

Result = Tensor | Mapping[str, Any] | float
"""What is compared: a tensor, tensors and whatever else a network returns by name, or a number."""

FIXED = {"float64": 1e-12, "float32": 1e-5}
"""Largest difference over largest magnitude; the contract's figures."""
CAP = 0.1
"""No format is allowed more: from 1 on, a network that returns zeros would pass."""
SMALL = 0.01
"""A tensor far smaller than its companions is measured against this share of the largest of them: gradients that
theory says are zero (a bias before batch norm) consist of rounding alone."""


@dataclass(frozen=True, slots=True)
class Difference:
    """How far a result is from its reference; infinite where the two cannot be compared at all."""

    absolute: float
    relative: float
    equal: bool
    reason: str = ""


SAME = Difference(0.0, 0.0, equal=True)


def difference(reference: Result, other: Result) -> Difference:
    """Return the largest absolute difference and its ratio to the largest magnitude of the reference.

    Of parts by name it is the worst one's; both need the same names, shapes and finite values, and what is neither
    tensor nor number must be equal. Complex numbers differ by the magnitude of their difference. Numbers that
    are no tensors are Python's, which always rounds: they are equal up to 1e-12.
    """
    if not isinstance(reference, Mapping) and not isinstance(other, Mapping):
        return _of_one(reference, other, 0.0)
    left, right = (result if isinstance(result, Mapping) else {"": result} for result in (reference, other))
    return _of_many(left, right)


def largest(tensor: Tensor) -> float:
    """Return the largest magnitude in a tensor; a mask has none of its own: 1 if anything in it is true, else 0."""
    if tensor.dtype == torch.bool:
        return float(tensor.any())
    return float(tensor.detach().abs().max()) if tensor.numel() else 0.0


def _numbers(part: Any) -> Tensor | None:  # noqa: ANN401 - whatever a network returns
    """Return a tensor or a number as a tensor; None for anything else."""
    if isinstance(part, Tensor):
        return part.detach()
    if isinstance(part, complex):
        return torch.tensor(part, dtype=torch.complex128)
    try:
        return torch.tensor(part, dtype=torch.float64) if isinstance(part, int | float) else None
    except OverflowError:  # a whole number beyond every float
        return None


def largest_in(result: Result) -> float:
    """Return the largest magnitude among the real and complex numbers of a result; masks and counts have none."""
    parts = result.values() if isinstance(result, Mapping) else [result]
    tensors = [tensor for tensor in map(_numbers, parts) if tensor is not None and continuous(tensor)]
    return max(map(largest, tensors), default=0.0)


def continuous(tensor: Tensor) -> bool:
    """Tell whether a tensor holds real or complex numbers."""
    return tensor.is_floating_point() or tensor.is_complex()


def _unlike(reason: str) -> Difference:
    return Difference(math.inf, math.inf, equal=False, reason=reason)


def _of_many(reference: Mapping[str, Any], other: Mapping[str, Any]) -> Difference:
    if set(reference) != set(other):
        return _unlike(f"only one side has {min(set(reference) ^ set(other))}")
    floor = SMALL * largest_in(reference)
    worst = SAME
    for name, part in reference.items():
        found = _of_one(part, other[name], floor)
        if not found.equal and not found.relative < worst.relative:
            worst = replace(found, reason=f"{name}: {found.reason}" if found.reason else worst.reason)
    return worst


def _of_one(reference: Any, other: Any, floor: float) -> Difference:  # noqa: ANN401 - parts of what networks return
    left, right = _numbers(reference), _numbers(other)
    if left is None or right is None:
        if left is None and right is None and bool(reference == other):
            return SAME
        return _unlike(f"{reprlib.repr(reference)} against {reprlib.repr(other)}")
    if left.shape != right.shape:
        return _unlike(f"shapes differ: {tuple(left.shape)} against {tuple(right.shape)}")
    magnitude = max(largest(left), floor if continuous(left) else 0.0)
    exact = torch.complex128 if left.is_complex() or right.is_complex() else torch.float64
    equal = torch.equal(left, right.to(left.device))
    left, right = left.to(exact), right.to(left.device, exact)
    if not bool(torch.isfinite(left).all() and torch.isfinite(right).all()):
        return _unlike("not all values are finite")
    rounded = FIXED["float64"]
    if equal or (isinstance(reference, float | complex) and cmath.isclose(reference, complex(right), rel_tol=rounded)):
        return SAME
    absolute = float((left - right).abs().max())
    return Difference(absolute, absolute / magnitude if magnitude > 0 else math.inf, equal=False)


def judge(
    comparison: str,
    quantity: str,
    reference: Result,
    other: Result,
    *,
    tolerance: float,
    dtype: str,
    mode: str | None = None,
    largest_sum: float | None = None,
) -> Finding:
    """Compare two results: a tolerance of 0 asks for the same bits (`torch.equal`).

    Args:
        comparison: what is compared with what, `branches = grouped`.
        quantity: output, input gradient, weight gradients, batch-norm statistics.
        reference: the result whose magnitude measures the difference.
        other: the other result, in the reference's layout.
        tolerance: the largest relative difference that passes.
        dtype: the type that both were computed in.
        mode: train or eval, where it matters.
        largest_sum: what bounds the partial sums of an exact check.

    """
    found = difference(reference, other)
    proof: Proof = "rounding" if tolerance > 0 else "exact"
    passed = found.relative <= tolerance if tolerance > 0 else found.equal
    return Finding(
        comparison,
        quantity,
        proof,
        dtype=dtype,
        mode=mode,
        max_abs_error=found.absolute,
        max_rel_error=found.relative,
        tolerance=tolerance,
        passed=passed,
        reason=found.reason,
        largest_sum=largest_sum,
    )


def judge_counts(comparison: str, quantity: str, reference: int, other: int) -> Finding:
    """Compare two whole numbers that must be equal, such as parameters or MACs."""
    gap = abs(reference - other)
    relative = gap / abs(reference) if reference else (0.0 if gap == 0 else math.inf)
    reason = "" if gap == 0 else f"{reference:,} against {other:,}"
    return Finding(
        comparison,
        quantity,
        "count",
        max_abs_error=float(gap),
        max_rel_error=relative,
        tolerance=0.0,
        passed=gap == 0,
        reason=reason,
    )


def as_control(found: Finding) -> Finding:
    """Turn the verdict on a deliberately wrong result round: a negative control passes where the comparison fails."""
    detected = not found.passed
    return replace(
        found,
        proof="control",
        control_detected=detected,
        passed=detected,
        reason="" if detected else "a negative control was not detected",
        largest_sum=None,
    )


def longest_reduction(module: nn.Module) -> int:
    """Return how many products one output element of a network comes from if its layers follow each other.

    Each convolution contributes the weights of one of its kernels, each linear layer the weights of one row.
    """
    # By their sizes: to ask a layer with spectral norm for its weight changes the norm's state.
    products = 0
    for layer in module.modules():
        if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d):
            products += layer.in_channels // layer.groups * math.prod(layer.kernel_size)
        elif isinstance(layer, nn.Linear):
            products += layer.in_features
    return products


def tolerance_of(dtype: str, reduction: int) -> float:
    """Return the relative difference that rounding alone may cause.

    float64 and float32 have fixed tolerances. In the 16-bit formats a sum of n products whose every partial sum is
    rounded to the format has an error of about u sqrt(n) of its magnitude (u = eps / 2 the unit roundoff; Higham and
    Mary 2019: errors of random sign grow as a random walk), and both results have one, which makes sqrt(2 n) u.
    That grows with the depth, and real networks stay far below it; more than `CAP` is never allowed.

    Args:
        dtype: name of the floating-point type.
        reduction: n, the products that one output element comes from (`longest_reduction`).

    """
    if dtype in FIXED:
        return FIXED[dtype]
    unit_roundoff = float(torch.finfo(type_of(dtype)).eps) / 2
    return min(unit_roundoff * math.sqrt(2 * max(reduction, 1)), CAP)


def type_of(dtype: str) -> torch.dtype:
    """Return torch's type of this name."""
    found = getattr(torch, dtype)
    if not isinstance(found, torch.dtype):
        msg = f"torch.{dtype} is not a type"
        raise TypeError(msg)
    return found
