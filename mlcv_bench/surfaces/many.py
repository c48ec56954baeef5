"""A surface at many points at once, as arrays: values, slopes, Newton's directions, distances to the nearest minimum.

What `Surface`, `newton` and `minima` do with one point on plain floats, whose race from one start needs no numpy.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from mlcv_bench.functions import TABLE
from mlcv_bench.surfaces.minima import FLAT, LONGEST_STEP, SAME_VALUE, STIFFEST

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy.typing as npt

    from mlcv_bench.surfaces.surface import Surface

    Array = npt.NDArray[np.float64]

NUMPY = {name: getattr(np, name) for name in TABLE}
"""What the names in generated code mean on arrays."""


def value_of(surface: Surface, points: Array) -> Array:
    """Return the surface's value at every point of shape [points, coordinates]."""
    if surface.finite_sum is not None and surface.expressions is None:
        return np.array([surface.value(*point) for point in points.tolist()])
    with np.errstate(all="ignore"):
        if surface.coordinate_sum is not None:
            term, columns = surface.value_by(NUMPY), columns_of(surface)
            return np.array([term(point, *columns).sum() for point in points])
        return _filled(surface.value_by(NUMPY)(*points.T), len(points))


def columns_of(surface: Surface) -> list[Array]:
    """Return what the terms of a sum over coordinates read besides their coordinate."""
    return [np.asarray(column) for column in surface.coordinate_sum.columns.values()] if surface.coordinate_sum else []


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
    return np.array(np.broadcast_to(np.asarray(values, dtype=np.float64), count))


def _stacked(parts: Iterable[Any], count: int) -> Array:
    return np.stack([_filled(part, count) for part in parts], axis=1)


def newton_directions(surface: Surface, points: Array) -> Array:
    """Solve H d = g at every point; no finite number where H is singular."""
    return directions(hessian_of(surface, points), gradient_of(surface, points), np.zeros(len(points)))


def directions(hessians: Array, gradients: Array, dampings: Array) -> Array:
    """Solve (H + damping I) d = g of every point, by the elimination of `newton.direction`."""
    count, size = gradients.shape
    damped = hessians + dampings[:, None, None] * np.eye(size)
    rows = np.concatenate([damped, gradients[:, :, None]], axis=2)
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
    return np.fromiter(map(math.dist, _one_by_one(some), _one_by_one(others)), np.float64, len(some))


def _one_by_one(points: Array) -> Iterable[Sequence[float]]:
    """Return the points as Python's floats, by way of as few lists as their shape allows."""
    count, size = points.shape
    return points.tolist() if count < size else zip(*points.T.tolist(), strict=True)


def length_of(vectors: Array) -> Array:
    """Return the length of every vector."""
    with np.errstate(all="ignore"):
        return np.asarray(np.sqrt((vectors * vectors).sum(axis=1)))


def distances_to_minimum(surface: Surface, points: Array) -> Array:
    """Return `minima.distance_to_minimum` of every point; NaN where no global minimum is known."""
    if not surface.minima or not len(points):
        return np.full(len(points), np.nan)
    shape = surface.quadratic
    if shape is not None and len(shape.curvatures) < surface.dimension:
        return length_of((points - np.array(surface.minima[0])) @ np.array(shape.axes).T)
    centres = np.array(surface.minima)
    nearest = np.zeros(len(points), dtype=np.intp)
    closest = np.full(len(points), np.inf)
    for number, centre in enumerate(centres):
        away = length_of(points - centre)
        nearest[away < closest] = number
        closest = np.fmin(closest, away)
    places = centres[nearest]
    found = apart(points, places)
    if surface.listed:
        return found
    open_ = np.arange(len(points))
    if surface.listed_within and not surface.valley:
        low, high = np.array(surface.listed_within).T
        open_ = np.flatnonzero(~(found <= np.minimum(points - low, high - points).min(axis=1)))
    below, lowest = lowest_below(surface, points[open_])
    nearer = lowest & (apart(points[open_], below) < found[open_])
    places[open_[nearer]] = below[nearer]
    if surface.valley:
        along_valley(surface, points, places)
    found[open_] = apart(points[open_], places[open_])
    return found


def lowest_below(surface: Surface, points: Array) -> tuple[Array, npt.NDArray[np.bool_]]:
    """Return what lies below every point, and whether it is a global minimum, as `minima.refine` and `is_lowest`."""
    points, value = points.copy(), value_of(surface, points)
    damping, arrived = np.full(len(points), 1e-3), np.zeros(len(points), dtype=np.bool_)
    longest = LONGEST_STEP * surface.box_diagonal
    going = np.flatnonzero(np.isfinite(value))
    with np.errstate(all="ignore"):
        for _ in range(200):
            if not going.size:
                break
            here, stiff = points[going], damping[going]
            hessian = hessian_of(surface, here)
            weak = np.arange(len(going))
            while (weak := weak[~positive_definites(hessian[weak], stiff[weak]) & (stiff[weak] < STIFFEST)]).size:
                stiff[weak] = np.maximum(10 * stiff[weak], 1e-9)
            step = directions(hessian, gradient_of(surface, here), stiff)
            length = length_of(step)
            ahead = here - np.minimum(1.0, longest / np.where(length == 0, 1.0, length))[:, None] * step
            lower = value_of(surface, ahead)
            falls = np.isfinite(lower) & (lower <= value[going])
            still = np.abs(step).max(axis=1) <= 1e-12 * np.maximum(1.0, np.abs(here).max(axis=1))
            stiffer = np.maximum(10 * stiff, 1e-9)
            # No step of any length goes down, or there is no step.
            stuck, nowhere = ~falls & (stiffer > STIFFEST), ~np.isfinite(length)
            points[going[falls]], value[going[falls]] = ahead[falls], lower[falls]
            damping[going] = np.where(falls, stiff / 10, stiffer)
            arrived[going] = (falls & still) | (stuck & ~nowhere)
            value[going[nowhere]] = np.nan
            going = going[~((falls & still) | stuck | nowhere)]
        slope = np.abs(gradient_of(surface, points)).max(axis=1)
        low, high = np.array(surface.box).T
        inside = ((low <= points) & (points <= high)).all(axis=1)
        found = (arrived | inside) & (slope <= 1e-5 * np.maximum(1.0, np.abs(value)))
        lowest = -np.inf if surface.minimum is None else surface.minimum
        return points, found & (value - lowest <= SAME_VALUE * max(1.0, abs(lowest)))


def along_valley(surface: Surface, points: Array, places: Array) -> None:
    """Move each place along a valley of minima to the one nearest to its point, as `minima.along_valley`."""
    share = np.ones(len(points))
    going = np.arange(len(points))
    for _ in range(100):
        away = apart(points[going], places[going])
        move = tangents(surface, places[going], points[going])
        moves = share[going] * length_of(move) > 1e-9 * away
        going, away, move = going[moves], away[moves], move[moves]
        if not going.size:
            break
        ahead, lowest = lowest_below(surface, places[going] + share[going, None] * move)
        nearer = lowest & (apart(points[going], ahead) < away)
        places[going[nearer]] = ahead[nearer]
        share[going] = np.where(nearer, 2 * share[going], share[going] / 4)


def tangents(surface: Surface, places: Array, points: Array) -> Array:
    """Return `minima.tangent` at every place towards its point; NaN where there is no valley."""
    hessian, way = hessian_of(surface, places), points - places
    largest = np.abs(hessian).max(axis=(1, 2))
    small = 0.1 * FLAT * largest
    with np.errstate(all="ignore"):
        move = small[:, None] * directions(hessian, way, small)
        bent = np.abs(np.einsum("ni,nij,nj->n", move, hessian, move))
        along = (largest > 0) & way.any(axis=1) & (bent <= FLAT * largest * (move * move).sum(axis=1))
    return np.where(along[:, None], move, np.nan)
