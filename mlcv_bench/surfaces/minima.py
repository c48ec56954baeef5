"""Where the minima of a surface are: searched by Newton's method, and along valleys to the nearest of their points."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

from mlcv_bench.surfaces.newton import direction, positive_definite

if TYPE_CHECKING:
    from mlcv_bench.surfaces.surface import Point, Surface

SAME_VALUE = 1e-9
"""Two values are the same when they differ by less than this share of the larger of their size and 1."""
FLAT = 1e-6
"""Along a valley the curvature is below this share of the Hessian's largest entry."""
LONGEST_STEP = 0.05
"""No step towards a minimum is longer than this share of the box's diagonal: a longer one leaps over hills."""
STIFFEST = 1e12
"""More damping than this leaves no step."""


def polish(surface: Surface, point: Point, steps: int = 50) -> Point:
    """Return the critical point that Newton's method reaches, until rounding keeps it from coming nearer."""
    before = math.inf
    for _ in range(steps):
        step = surface.newton_direction(point)
        longest = max(map(abs, step))
        if longest >= before and longest <= 1e-12 * max(1.0, *map(abs, point)):
            break
        point = tuple(part - move for part, move in zip(point, step, strict=True))
        before = longest
    return point


def refine(surface: Surface, point: Point) -> tuple[float, Point] | None:
    """Return the minimum below a point by short damped Newton steps that never climb, or None where there is none.

    Outside the surface's box it counts only where the steps come to an end: what falls forever has a small slope too.
    """
    damping = 1e-3
    arrived = False
    longest = LONGEST_STEP * surface.box_diagonal
    try:
        value = surface.value(*point)
        for _ in range(200):
            hessian = surface.hessian(*point)
            while not positive_definite(hessian, damping) and damping < STIFFEST:
                damping = max(10 * damping, 1e-9)
            step = direction(hessian, surface.gradient(*point), damping)
            shorter = min(1.0, longest / (math.hypot(*step) or 1.0))
            ahead = tuple(part - shorter * move for part, move in zip(point, step, strict=True))
            lower = surface.safe_value(ahead)
            if lower is not None and lower <= value:
                arrived = max(map(abs, step)) <= 1e-12 * max(1.0, *map(abs, point))
                point, value, damping = ahead, lower, damping / 10
                if arrived:
                    break
            else:
                damping = max(10 * damping, 1e-9)
                if damping > STIFFEST:
                    arrived = True  # no step of any length goes down
                    break
        slope = surface.gradient(*point)
    except (OverflowError, ValueError, ZeroDivisionError):
        return None
    limit = 1e-5 * max(1.0, abs(value))
    inside = all(low <= part <= high for (low, high), part in zip(surface.box, point, strict=True))
    return (value, point) if (arrived or inside) and max(map(abs, slope)) <= limit else None


def distance_to_minimum(surface: Surface, point: Point) -> float | None:
    """Return the distance to the nearest global minimum: of those listed, or the one below the point; None without one.

    The second is looked for unless a listed one is nearer than the border within which all are listed. In a valley
    the nearer of both is followed to the place nearest to the point.
    """
    if not surface.minima:
        return None
    shape = surface.quadratic
    if shape is not None and len(shape.curvatures) < surface.dimension:
        away = [x - c for x, c in zip(point, surface.minima[0], strict=True)]
        return math.hypot(*(math.fsum(a * b for a, b in zip(axis, away, strict=True)) for axis in shape.axes))
    place = min(surface.minima, key=lambda minimum: math.dist(point, minimum))
    apart = math.dist(point, place)
    if surface.listed:
        return apart
    if surface.listed_within and not surface.valley:
        border = min(
            min(part - low, high - part) for part, (low, high) in zip(point, surface.listed_within, strict=True)
        )
        if apart <= border:
            return apart
    below = refine(surface, point)
    if below is not None and is_lowest(surface, below[0]) and math.dist(point, below[1]) < apart:
        place = below[1]
    return math.dist(point, along_valley(surface, point, place) if surface.valley else place)


def is_lowest(surface: Surface, value: float) -> bool:
    """Tell whether a value is that of the global minima."""
    lowest = surface.minimum
    return lowest is not None and value - lowest <= SAME_VALUE * max(1.0, abs(lowest))


def with_minima(surface: Surface, found: list[tuple[float, Point]], lowest: float | None = None) -> Surface:
    """Return the surface with these minima, sorted into global and local; `lowest` is given where it is known."""
    surface = dataclasses.replace(surface, minimum=min(value for value, _ in found) if lowest is None else lowest)
    return dataclasses.replace(
        surface,
        minima=tuple(point for value, point in found if is_lowest(surface, value)),
        local_minima=tuple(point for value, point in found if not is_lowest(surface, value)),
    )


def with_minima_near(surface: Surface, points: list[Point], lowest: float | None = None) -> Surface:
    """Return the surface with the minima that Newton's method finds near some points."""
    found = [polish(surface, point) for point in points]
    return with_minima(surface, [(surface.value(*point), point) for point in found], lowest)


def along_valley(surface: Surface, point: Point, place: Point) -> Point:
    """Return the place nearest to `point` that is reached from a minimum `place` along a valley of minima.

    Each step goes by the valley's tangent towards the point and by `refine` back to the valley; steps grow while they
    come nearer, as near a centre of curvature the tangent is short. A minimum that stands alone has no tangent.
    """
    share = 1.0
    for _ in range(100):
        apart = math.dist(point, place)
        move = tangent(surface, place, point)
        if move is None or share * math.hypot(*move) <= 1e-9 * apart:
            break
        ahead = refine(surface, tuple(part + share * along for part, along in zip(place, move, strict=True)))
        if ahead is not None and is_lowest(surface, ahead[0]) and math.dist(point, ahead[1]) < apart:
            place, share = ahead[1], 2 * share
        else:
            share /= 4
    return place


def tangent(surface: Surface, place: Point, point: Point) -> Point | None:
    """Return the part of the way from `place` to `point` that runs along a valley, or None where there is no valley.

    For small d, d (H + d I)^-1 leaves what has no curvature and takes away all else.
    """
    hessian = surface.hessian(*place)
    largest = max(abs(entry) for row in hessian for entry in row)
    way = [a - b for a, b in zip(point, place, strict=True)]
    if not largest > 0 or not any(way):
        return None
    small = 0.1 * FLAT * largest
    try:
        move = tuple(small * part for part in direction(hessian, way, small))
    except ZeroDivisionError:
        return None
    square = math.fsum(part * part for part in move)
    bent = math.fsum(a * b * h for a, row in zip(move, hessian, strict=True) for b, h in zip(move, row, strict=True))
    return move if abs(bent) <= FLAT * largest * square else None


def has_valley(surface: Surface, place: Point) -> bool:
    """Tell whether other global minima lie next to this one, so that they are a valley."""
    reach = 1e-3 * max(high - low for low, high in surface.box)
    for axis in range(surface.dimension):
        moved = tuple(part + reach * (i == axis) for i, part in enumerate(place))
        move = tangent(surface, place, moved)
        below = refine(surface, moved) if move is not None else None
        if below and is_lowest(surface, below[0]) and math.dist(below[1], place) > reach / 10:
            return True
    return False
