"""What theory says of a quadratic: the best settings in closed form, and the step at which the target is met."""

from __future__ import annotations

import cmath
import math
from typing import TYPE_CHECKING

from mlcv_bench.surface_race.program import PLAIN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlcv_bench.surface_race.program import Problem
    from mlcv_bench.surfaces.surface import Point, Surface

LINEAR = ("sgd", "momentum", "nesterov", "newton")
"""The rules whose path on a quadratic is a linear recurrence, solved by the roots of its characteristic polynomial."""


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


def recurrence(rule: str, settings: Mapping[str, float], curvature: float) -> tuple[float, float]:
    """Return a and b of e_(t+1) = a e_t - b e_(t-1), the error along an axis of this curvature."""
    lr, momentum = settings["lr"], settings.get("momentum", 0.0)
    match rule:
        case "momentum":
            return 1 + momentum - lr * curvature, momentum
        case "nesterov":
            return (1 + momentum) * (1 - lr * curvature), momentum * (1 - lr * curvature)
        case "newton":
            return 1 - lr * curvature / (curvature + settings.get("damping", 0.0)), 0.0
    return 1 - lr * curvature, 0.0


def contraction(rule: str, settings: Mapping[str, float], surface: Surface) -> float | None:
    """Return the factor by which the error shrinks a step in the long run: the largest root's magnitude."""
    if surface.quadratic is None or rule not in LINEAR:
        return None
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


def predicted_hit(problem: Problem, start: Point) -> int | None:
    """Return the first step at which the closed form meets the target; None where there is none within the steps."""
    surface, rule = problem.surface, problem.rule.name
    shape = surface.quadratic
    if problem.changes != PLAIN or shape is None or rule not in LINEAR or surface.stochastic or surface.minimum is None:
        return None
    offsets = [x - c for x, c in zip(start, surface.minima[0], strict=True)]
    errors = [math.fsum(a * d for a, d in zip(axis, offsets, strict=True)) for axis in shape.axes]
    axes = [
        (h, error, *recurrence(rule, problem.settings, h)) for h, error in zip(shape.curvatures, errors, strict=True)
    ]
    wanted = problem.target * math.fsum(0.5 * h * e * e for h, e, _, _ in axes)
    # The first step starts from rest: only the gradient moves it, as in the rules without momentum.
    at_rest = "newton" if rule == "newton" else "sgd"
    firsts = [e * recurrence(at_rest, problem.settings, h)[0] for h, e, _, _ in axes]
    for t in range(problem.steps + 1):
        try:
            gap = sum(0.5 * h * error_at(a, b, e, e1, t) ** 2 for (h, e, a, b), e1 in zip(axes, firsts, strict=True))
        except OverflowError:
            return None
        if gap <= wanted:
            return t
    return None
