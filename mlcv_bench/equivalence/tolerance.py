"""How much two formulations may differ, decided before anything is compared."""

from __future__ import annotations

import math

import torch
from torch import nn

FIXED = {"float64": 1e-12, "float32": 1e-5}
"""Largest difference over largest magnitude; the contract's figures."""
CAP = 0.1
"""No format is allowed more: from 1 on, a network that puts out zeros would pass."""


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
    Mary 2019: errors of random sign grow as a random walk), and both sides have one, which makes sqrt(2 n) u.
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
        msg = f"torch.{dtype} is no type"
        raise TypeError(msg)
    return found
