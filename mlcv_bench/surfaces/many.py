"""A surface at many points at once, as arrays: values, slopes, Newton's directions, distances to the nearest minimum.

What `Surface`, `newton` and `minima` do with one point on plain floats, whose race from one start needs no numpy.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from mlcv_bench.functions import TABLE
from mlcv_bench.surfaces.minima import distance_to_minimum

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

    from mlcv_bench.surfaces.surface import Surface

    Array = npt.NDArray[np.float64]

NUMPY = {name: getattr(np, name) for name in TABLE}
"""What the names in generated code mean on arrays."""


def value_of(surface: Surface, points: Array) -> Array:
    """Return the surface's value at every point of shape [points, coordinates]."""
    if surface.expressions is None:
        return np.array([surface.value(*point) for point in points.tolist()])
    with np.errstate(all="ignore"):
        return _filled(surface.value_by(NUMPY)(*points.T), len(points))


def gradient_of(surface: Surface, points: Array) -> Array:
    """Return the gradient at every point, shape [points, coordinates]; what is no number where there is none."""
    with np.errstate(all="ignore"):
        return _stacked(surface.gradient_by(NUMPY)(*points.T), len(points))


def hessian_of(surface: Surface, points: Array) -> Array:
    """Return the Hessian at every point, shape [points, coordinates, coordinates]."""
    with np.errstate(all="ignore"):
        rows = surface.hessian_by(NUMPY)(*points.T)
        return np.stack([_stacked(row, len(points)) for row in rows], axis=1)


def _filled(values: Any, count: int) -> Array:  # noqa: ANN401 - an array, or a number that is the same everywhere
    return np.ascontiguousarray(np.broadcast_to(np.asarray(values, dtype=np.float64), count))


def _stacked(parts: Iterable[Any], count: int) -> Array:
    return np.stack([_filled(part, count) for part in parts], axis=1)


def newton_directions(surface: Surface, points: Array) -> Array:
    """Solve H d = g at every point, by the elimination of `newton.direction`; no finite number where H is singular."""
    rows = np.concatenate([hessian_of(surface, points), gradient_of(surface, points)[:, :, None]], axis=2)
    count, size, _ = rows.shape
    each = np.arange(count)
    with np.errstate(all="ignore"):
        for column in range(size):
            pivot = column + np.argmax(np.abs(rows[:, column:, column]), axis=1)
            above = rows[:, column].copy()
            rows[:, column] = rows[each, pivot]
            rows[each, pivot] = above
            for row in range(column + 1, size):
                rows[:, row] -= (rows[:, row, column] / rows[:, column, column])[:, None] * rows[:, column]
        result = np.zeros((count, size))
        for i in reversed(range(size)):
            rest = np.zeros(count)
            for j in range(i + 1, size):
                rest += rows[:, i, j] * result[:, j]
            result[:, i] = (rows[:, i, size] - rest) / rows[:, i, i]
    return result


def positive_definites(matrices: Array, shifts: Array) -> npt.NDArray[np.bool_]:
    """Tell of every matrix whether with its shift on the diagonal it is positive definite, as `newton` of one."""
    size = matrices.shape[1]
    rows = matrices + shifts[:, None, None] * np.eye(size)
    positive = np.ones(len(rows), dtype=np.bool_)
    with np.errstate(all="ignore"):
        for column in range(size):
            positive &= rows[:, column, column] > 0
            for row in range(column + 1, size):
                factor = rows[:, row, column] / rows[:, column, column]
                rows[:, row, column:] -= factor[:, None] * rows[:, column, column:]
    return positive


def apart(some: Array, others: Array) -> Array:
    """Return the distance between the points of every pair, with the bits of `math.dist`."""
    return np.fromiter(map(math.dist, some.tolist(), others.tolist()), np.float64, len(some))


def distances_to_minimum(surface: Surface, points: Array) -> Array:
    """Return `minima.distance_to_minimum` of every point; NaN where no global minimum is known."""
    if not surface.minima or not len(points):
        return np.full(len(points), np.nan)
    shape = surface.quadratic
    if surface.valley or (shape is not None and len(shape.axes) < surface.dimension):
        return _searched(surface, points)
    centres = np.array(surface.minima)
    nearest = np.zeros(len(points), dtype=np.intp)
    closest = np.full(len(points), np.inf)
    with np.errstate(all="ignore"):
        for number, centre in enumerate(centres):
            square = ((points - centre) ** 2).sum(axis=1)
            nearest[square < closest] = number
            closest = np.fmin(closest, square)
    found = apart(points, centres[nearest])
    if surface.listed:
        return found
    if surface.listed_within:
        low, high = np.array(surface.listed_within).T
        border = np.minimum(points - low, high - points).min(axis=1)
        outside = ~(found <= border)
    else:
        outside = np.ones(len(points), dtype=np.bool_)
    found[outside] = _searched(surface, points[outside])
    return found


def _searched(surface: Surface, points: Array) -> Array:
    found = [distance_to_minimum(surface, tuple(point)) for point in points.tolist()]
    return np.array([math.nan if distance is None else distance for distance in found])
