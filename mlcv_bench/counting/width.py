"""The notes' second-order equation (section 2.3.1): how wide groups make a ResNeXt cost as much as a bottleneck."""

from __future__ import annotations

import math

PAPER_WIDTHS = {1: 64, 2: 40, 4: 24, 8: 14, 32: 4}
"""Xie et al. 2017, table 2: d for each G at C = 256, d0 = 64."""


def matching_width(groups: int, channels: int = 256, bottleneck: int = 64) -> float:
    """Solve 9 G d^2 + 2 C G d = 9 d0^2 + 2 C d0 for its positive root d.

    Left: weights (and MACs a pixel) of a block of G branches 1x1 to d, 3x3 from d to d, 1x1 back to C; right: those of
    the bottleneck with d0 channels.

    Args:
        groups: the number of branches G, at least 1.
        channels: the block's input and output channels C.
        bottleneck: the bottleneck's inner channels d0.

    """
    a, b = 9 * groups, 2 * channels * groups
    c = -(9 * bottleneck**2 + 2 * channels * bottleneck)
    return (-b + math.sqrt(b * b - 4 * a * c)) / (2 * a)


def block_macs_per_pixel(groups: int, width: int, channels: int = 256) -> int:
    """Return the MACs per pixel of a ResNeXt block without projection: 1x1, grouped 3x3, 1x1."""
    return 2 * channels * groups * width + 9 * groups * width**2


def paper_width(groups: int) -> int:
    """Return the d of the paper for G groups, or the equation's root rounded where the paper has none."""
    return PAPER_WIDTHS.get(groups) or max(1, round(matching_width(groups)))
