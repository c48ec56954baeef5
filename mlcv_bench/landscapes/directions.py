"""The two directions that span a plane through trained weights, and where points lie beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from mlcv_bench.tasks.datasets import generator

if TYPE_CHECKING:
    import numpy.typing as npt

    Numbers = npt.NDArray[np.float64]

DIRECTION = 14
"""Stream of a seed from which random directions are drawn."""
AT_ONCE = 64
"""Points whose differences from the centre are held at once in double precision."""


@dataclass(frozen=True)
class Span:
    """Two directions, (2, K), and the share of the paths' variance along each; None of random ones."""

    vectors: Numbers
    variance: tuple[float, float] | None = None


def filter_normalised(weights: Sequence[Tensor], seed: int) -> Span:
    """Return two random directions, each of whose filters is as long as the filter of the weights (Li et al. 2018).

    A filter is what one output channel or unit is computed with: a slice along the first axis of a parameter. As in
    the authors' code with `biasbn`, parameters of one axis (biases, scales and shifts of norms) are not moved.

    Args:
        weights: the model's parameters, in order.
        seed: decides the directions.

    """
    vectors = []
    for number in (0, 1):
        source = generator(seed, DIRECTION, number)
        parts = []
        for weight in weights:
            drawn = torch.randn(weight.shape, generator=source, dtype=torch.float64)
            if weight.ndim > 1:
                lengths = [own.detach().double().cpu().flatten(1).norm(dim=1) for own in (weight, drawn)]
                drawn.flatten(1).mul_((lengths[0] / lengths[1])[:, None])
            else:
                drawn.zero_()
            parts.append(drawn.reshape(-1))
        vectors.append(torch.cat(parts).numpy())
    return Span(np.stack(vectors))


def principal(points: npt.NDArray[np.float32]) -> Span:
    """Return the first two principal directions of points, (n, K), n >= 3, as unit vectors.

    Each points to the side on which the first point lies, where the paths begin.
    """
    from sklearn.decomposition import PCA  # noqa: PLC0415 - random directions need none

    found = PCA(2, svd_solver="arpack", random_state=0).fit(points)
    vectors = np.asarray(found.components_, np.float64)
    vectors[vectors @ (points[0] - found.mean_) < 0] *= -1
    one, other = map(float, found.explained_variance_ratio_)
    return Span(vectors, (one, other))


def place_on(span: Span, centre: Numbers, points: npt.NDArray[np.float32]) -> tuple[Numbers, Numbers, Numbers]:
    """Return where points, (n, K), lie on a plane, (n, 2), by least squares.

    And, (n,) each, how far they are from the plane, and how far from the centre.
    """
    solve = np.linalg.pinv(span.vectors.T)
    places, apart, away = [], [], []
    for part in np.array_split(points, len(points) // AT_ONCE + 1):
        offsets = part - centre
        own = offsets @ solve.T
        places.append(own)
        apart.append(np.linalg.norm(offsets - own @ span.vectors, axis=1))
        away.append(np.linalg.norm(offsets, axis=1))
    return np.concatenate(places), np.concatenate(apart), np.concatenate(away)
