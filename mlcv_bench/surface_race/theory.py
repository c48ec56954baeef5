"""What theory says of a quadratic: the best settings in closed form, and the step at which the target is met."""

from __future__ import annotations

import cmath
import contextlib
import itertools
import math
from typing import TYPE_CHECKING, Any

from mlcv_bench.surface_race.metrics import MISS
from mlcv_bench.surface_race.program import PLAIN, Start, Starts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy as np
    import numpy.typing as npt

    from mlcv_bench.surface_race.metrics import Numbers
    from mlcv_bench.surface_race.program import Problem
    from mlcv_bench.surfaces.surface import Point, Surface

LINEAR = ("sgd", "momentum", "nesterov", "newton")
"""The rules whose path on a quadratic is a linear recurrence, solved by the roots of its characteristic polynomial."""
BLOCK = 32
"""Steps whose smallest factors are looked at before each of them."""


def best_settings(rule: str, surface: Surface) -> dict[str, float] | None:
    """Return the settings that contract fastest on a quadratic with curvatures from mu to L, or None.

    Gradient descent: lr = 2 / (L + mu). Heavy ball (Polyak 1964): lr = 4 / (sqrt L + sqrt mu)^2, momentum =
    ((sqrt kappa - 1) / (sqrt kappa + 1))^2. Nesterov (Lessard, Recht and Packard 2016): lr = 4 / (3 L + mu),
    momentum = (sqrt(3 kappa + 1) - 2) / (sqrt(3 kappa + 1) + 2). Newton: lr = 1, undamped.
    """
    if surface.quadratic is None or surface.stochastic:
        return None
    mu, L = surface.quadratic.mu, surface.quadratic.L
    root = math.sqrt(L / mu)
    wide = math.sqrt(3 * L / mu + 1)
    table: dict[str, dict[str, float]] = {
        "sgd": {"lr": 2 / (L + mu)},
        "momentum": {"lr": 4 / (math.sqrt(L) + math.sqrt(mu)) ** 2, "momentum": ((root - 1) / (root + 1)) ** 2},
        "nesterov": {"lr": 4 / (3 * L + mu), "momentum": (wide - 2) / (wide + 2)},
        "newton": {"lr": 1.0, "damping": 0.0},
    }
    return table.get(rule)


def recurrence(rule: str, settings: Mapping[str, float], curvature: Any) -> tuple[Any, Any]:  # noqa: ANN401 - as below
    """Return a and b of e_(t+1) = a e_t - b e_(t-1), the error along an axis of this curvature, or arrays of them."""
    lr, momentum = settings["lr"], settings.get("momentum", 0.0)
    match rule:
        case "momentum":
            return 1 + momentum - lr * curvature, momentum
        case "nesterov":
            return (1 + momentum) * (1 - lr * curvature), momentum * (1 - lr * curvature)
        case "newton":
            return 1 - lr * curvature / (curvature + settings.get("damping", 0.0)), 0.0
    return 1 - lr * curvature, 0.0


def first_factor(rule: str, settings: Mapping[str, float], curvature: Any) -> Any:  # noqa: ANN401 - as below
    """Return e_1 / e_0: a run starts from rest, and the gradient alone moves it, as in the rules without momentum."""
    return recurrence("newton" if rule == "newton" else "sgd", settings, curvature)[0]


def contraction(rule: str, settings: Mapping[str, float], surface: Surface) -> float | None:
    """Return the factor by which the error shrinks a step in the long run: the largest root's magnitude."""
    if surface.quadratic is None or rule not in LINEAR:
        return None
    if surface.coordinate_sum is not None:
        import numpy as np  # noqa: PLC0415 - few coordinates need none

        return float(
            np.abs(_roots_of_many(*recurrence(rule, settings, np.asarray(surface.quadratic.curvatures)))).max()
        )
    return max(max(map(abs, roots(*recurrence(rule, settings, h)))) for h in surface.quadratic.curvatures)


def roots(a: float, b: float) -> tuple[complex, complex]:
    """Return the roots of z^2 - a z + b, the smaller from the product so that it keeps its digits."""
    half = cmath.sqrt(a * a / 4 - b)
    larger = a / 2 + half if a >= 0 else a / 2 - half
    return larger, (b / larger if larger else 0j)


def error_at(a: float, b: float, first: float, second: float, t: int) -> float:
    """Return e_t of the recurrence from e_0 and e_1, by its closed form: no step is taken."""
    if t == 0:
        return first
    z, w = roots(a, b)
    if abs(z - w) <= 1e-7 * max(abs(z), 1e-300):
        middle = (z + w) / 2
        return (middle ** (t - 1) * (t * second - (t - 1) * middle * first)).real
    return ((second * (z**t - w**t) - first * (z**t * w - w**t * z)) / (z - w)).real


def gap_factors(problem: Problem) -> Iterator[tuple[float, ...]]:
    """Yield, for every step from 0, what each axis's squared error at the start is multiplied by to give the gap.

    The gap at step t is sum_i factor_i(t) e_i^2 from every start, as the recurrence is linear. Nothing where there is
    no closed form; the steps end where the numbers do.
    """
    rule, shape = problem.rule.name, problem.surface.quadratic
    if shape is None or not _linear(problem):
        return
    axes = [
        (h, *recurrence(rule, problem.settings, h), first_factor(rule, problem.settings, h)) for h in shape.curvatures
    ]
    with contextlib.suppress(OverflowError):
        for t in range(problem.steps + 1):
            yield tuple(0.5 * h * error_at(a, b, 1.0, second, t) ** 2 for h, a, b, second in axes)


def _linear(problem: Problem) -> bool:
    """Tell whether the path is a linear recurrence along every axis, about a minimum that is known."""
    surface, rule = problem.surface, problem.rule
    known = surface.quadratic is not None and surface.minimum is not None and not surface.stochastic
    return known and problem.changes == PLAIN and rule.built_in and rule.name in LINEAR


def predicted_hits(problem: Problem, starts: Sequence[Start]) -> Numbers:
    """Return for every start the first step at which the closed form meets the target; -1 for none within the steps."""
    if problem.surface.coordinate_sum is not None and _linear(problem):
        return [_hit_in_many(problem, start) for start in starts]
    factors = gap_factors(problem)
    first = next(factors, None)
    shape = problem.surface.quadratic
    if first is None or shape is None:
        return [MISS] * len(starts)
    centre = problem.surface.minima[0]
    rows = itertools.chain([first], factors)
    if len(starts) == 1:
        squares = _squared_errors(shape.axes, [x - c for x, c in zip(starts[0].point, centre, strict=True)])
        wanted = problem.target * _gap(first, squares)
        return [next((step for step, row in enumerate(rows) if _gap(row, squares) <= wanted), MISS)]
    offsets = [column - c for column, c in zip(Starts.of(starts).points.T, centre, strict=True)]
    squares = _squared_errors(shape.axes, offsets)
    return _first_steps(list(rows), squares, problem.target * _gap(first, squares))


def _squared_errors(axes: Sequence[Point], offsets: Sequence[Any]) -> list[Any]:
    """Return the squared error along every axis: of one start's offsets, or of arrays of many starts'."""
    errors = [sum(a * d for a, d in zip(axis, offsets, strict=True)) for axis in axes]
    return [error * error for error in errors]


def _gap(factors: Sequence[float], squares: Sequence[Any]) -> Any:  # noqa: ANN401 - a number, or an array of many starts'
    return sum(factor * square for factor, square in zip(factors, squares, strict=True))


def _first_steps(
    factors: Sequence[Sequence[float]], squares: Sequence[npt.NDArray[np.float64]], wanted: npt.NDArray[np.float64]
) -> npt.NDArray[np.int32]:
    """Return the first step at which each start's gap is at most what is wanted.

    A gap need not fall from step to step, so every step counts; but those of a block are looked at for the few starts
    alone that the smallest factors of the block, which no gap lies below, would bring there.
    """
    import numpy as np  # noqa: PLC0415 - loaded already, with the arrays

    found = np.full(len(wanted), MISS, np.int32)
    for first in range(0, len(factors), BLOCK):
        block = factors[first : first + BLOCK]
        lowest = np.fmin.reduce(np.array(block), axis=0).tolist()
        waiting = np.flatnonzero((found == MISS) & (_gap(lowest, squares) <= wanted))
        for step, row in enumerate(block, first):
            if not waiting.size:
                break
            met = _gap(row, [square[waiting] for square in squares]) <= wanted[waiting]
            found[waiting[met]] = step
            waiting = waiting[~met]
    return found


SAMPLE = 1000
"""Coordinates of a long vector whose part of the gap is looked at first."""


def _hit_in_many(problem: Problem, start: Start) -> int:
    """Return the first step at which the closed form meets the target in many coordinates, or -1.

    A part of the coordinates has no more than their part of the gap: before it comes down to the target the whole
    cannot, so that only from there on all coordinates are looked at.
    """
    import numpy as np  # noqa: PLC0415 - few coordinates need none

    surface, rule = problem.surface, problem.rule.name
    h = np.asarray(surface.quadratic.curvatures if surface.quadratic is not None else ())
    shares = 0.5 * h * (np.asarray(start.point) - np.asarray(surface.minima[0])) ** 2
    z, w = _roots_of_many(*recurrence(rule, problem.settings, h))
    second = first_factor(rule, problem.settings, h)

    def gaps(part: slice, first: int) -> Iterator[float]:
        """Yield the gap of some coordinates from a step after 0 on, by `error_at` of arrays, powers by products."""
        one, other, next_one, share = z[part], w[part], second[part], shares[part]
        alike = np.abs(one - other) <= 1e-7 * np.maximum(np.abs(one), 1e-300)
        middle, apart = (one + other) / 2, np.where(alike, 1.0, one - other)
        power, other_power, earlier = one**first, other**first, middle ** (first - 1)
        for t in range(first, problem.steps + 1):
            errors = (next_one * (power - other_power) - (power * other - other_power * one)) / apart
            errors[alike] = (earlier * (t * next_one - (t - 1) * middle))[alike]
            yield float(share @ np.square(errors.real))
            power, other_power, earlier = power * one, other_power * other, earlier * middle

    wanted = problem.target * float(shares.sum())
    if wanted == 0:
        return 0  # it starts at the minimum
    with np.errstate(all="ignore"):
        sample = slice(None, None, max(1, len(h) // SAMPLE))
        near = next((step for step, gap in enumerate(gaps(sample, 1), 1) if gap <= wanted), None)
        if near is None:
            return MISS
        return next((step for step, gap in enumerate(gaps(slice(None), near), near) if gap <= wanted), MISS)


def _roots_of_many(a: Any, b: Any) -> npt.NDArray[np.complex128]:  # noqa: ANN401 - arrays, or one number for all
    """Return `roots` of arrays, shape [2, coordinates]."""
    import numpy as np  # noqa: PLC0415 - as above

    half = np.sqrt((a * a / 4 - b).astype(complex))
    larger = np.where(a >= 0, a / 2 + half, a / 2 - half)
    return np.stack([larger, np.where(larger == 0, 0, b / np.where(larger == 0, 1, larger))])
