"""Finite sums: surfaces that are a mean over samples, where mini-batches make real noise (notes 1.1)."""

from __future__ import annotations

import dataclasses
import math

from mlcv_bench.errors import UsageError
from mlcv_bench.random_streams import gaussian_pair, key, shuffled, uniform
from mlcv_bench.surfaces.minima import polish
from mlcv_bench.surfaces.surface import Expressions, FiniteSum, Point, Quadratic, Surface, built_in

SAMPLES = 96
SCALE = 5.0
"""How much larger the second feature is than the first, so that its weight is the steep one."""


def _sizes(samples: float, batch: float) -> tuple[int, int]:
    if not (float(samples).is_integer() and samples >= 3):  # noqa: PLR2004 - two weights need three samples
        msg = f"samples must be a whole number of at least 3, not {samples:g}"
        raise UsageError(msg)
    if not (float(batch).is_integer() and 0 <= batch <= samples):
        msg = f"the batch size must be a whole number from 1 to {samples:g}, not {batch:g}"
        raise UsageError(msg)
    return int(samples), int(batch) or int(samples)


@built_in
def regression(samples: float = SAMPLES, batch: float = 0, noise: float = 0.5) -> Surface:
    """Least squares in two weights, on features of scales 1 and 5: the mean of 1/2 (a w0 + b w1 - c)^2."""
    count, size = _sizes(samples, batch)
    stream = key(20240926, 1)
    rows = []
    for i in range(count):
        a, b = gaussian_pair(stream, 2 * i)
        error, _ = gaussian_pair(stream, 2 * i + 1)
        b *= SCALE
        rows.append((a, b, 2.0 * a - 0.5 * b + noise * error))
    haa, hab, hbb = (_mean(rows, i, j) for i, j in ((0, 0), (0, 1), (1, 1)))
    hac, hbc, hcc = _mean(rows, 0, 2), _mean(rows, 1, 2), _mean(rows, 2, 2)
    determinant = haa * hbb - hab * hab
    best = ((hbb * hac - hab * hbc) / determinant, (haa * hbc - hab * hac) / determinant)
    lowest = 0.5 * (hcc - hac * best[0] - hbc * best[1])
    residual = "(a * w0 + b * w1 - c)"
    return Surface(
        name="regression",
        formula=f"mean over {count} samples of 0.5*(a w0 + b w1 - c)^2, b of scale {SCALE:g}",
        expressions=Expressions(
            ("w0", "w1"),
            "0.5 * (haa * (w0 - m0)**2 + 2 * hab * (w0 - m0) * (w1 - m1) + hbb * (w1 - m1)**2) + lowest",
            ("haa * (w0 - m0) + hab * (w1 - m1)", "hab * (w0 - m0) + hbb * (w1 - m1)"),
            (("haa", "hab"), ("hab", "hbb")),
        ),
        parameters={"haa": haa, "hab": hab, "hbb": hbb, "m0": best[0], "m1": best[1], "lowest": lowest},
        start=(-2.0, 0.5),
        box=((-3.0, 7.0), (-2.0, 1.0)),
        minima=(best,),
        minimum=lowest,
        quadratic=eigen(haa, hab, hbb),
        finite_sum=FiniteSum(
            Expressions(
                ("w0", "w1"),
                f"0.5 * {residual}**2",
                (f"a * {residual}", f"b * {residual}"),
                (("a * a", "a * b"), ("a * b", "b * b")),
            ),
            ("a", "b", "c"),
            tuple(rows),
            size,
        ),
    )


@built_in
def logistic(samples: float = SAMPLES, batch: float = 0) -> Surface:
    """Logistic regression in two weights, on features of scales 1 and 5: the mean cross-entropy."""
    count, size = _sizes(samples, batch)
    stream = key(20240926, 2)
    rows = []
    for i in range(count):
        a, b = gaussian_pair(stream, 2 * i)
        b *= SCALE
        likely = 1.0 / (1.0 + math.exp(-(1.5 * a - 0.3 * b)))
        rows.append((a, b, 1.0 if uniform(stream, 4 * i + 2) < likely else -1.0))
    # log(1 + exp(-z)) without overflow: max(-z, 0) + log(1 + exp(-|z|)), where max(-z, 0) = (|z| - z) / 2.
    z = "(c * (a * w0 + b * w1))"
    wrong = f"(0.5 - 0.5 * tanh(0.5 * {z}))"
    spread = f"{wrong} * (1 - {wrong})"
    surface = Surface(
        name="logistic",
        formula=f"mean over {count} samples of log(1 + exp(-c (a w0 + b w1))), b of scale {SCALE:g}",
        expressions=None,
        start=(-3.0, 1.0),
        box=((-4.0, 6.0), (-2.0, 2.0)),
        finite_sum=FiniteSum(
            Expressions(
                ("w0", "w1"),
                f"0.5 * (abs({z}) - {z}) + log(1 + exp(-abs({z})))",
                (f"-a * c * {wrong}", f"-b * c * {wrong}"),
                ((f"a * a * {spread}", f"a * b * {spread}"), (f"a * b * {spread}", f"b * b * {spread}")),
            ),
            ("a", "b", "c"),
            tuple(rows),
            size,
        ),
    )
    best = polish(surface, (1.0, -0.2))
    return dataclasses.replace(surface, minima=(best,), minimum=surface.value(*best))


def batches(surface: Surface, seed: int, start: int, steps: int) -> list[tuple[int, ...]]:
    """Return the samples of every step: epochs of U = ceil(N / B) batches of a fresh order, the last maybe short.

    The notes let u run from 0 to U, one step too many; here it runs to U - 1.
    """
    total = surface.finite_sum
    if total is None:
        return []
    count, size = len(total.samples), total.batch_size
    found: list[tuple[int, ...]] = []
    epoch = 0
    while len(found) < steps:
        order = shuffled(key(seed, start, epoch, 7), count)
        found += [tuple(order[first : first + size]) for first in range(0, count, size)]
        epoch += 1
    return found[:steps]


def eigen(a: float, b: float, d: float) -> Quadratic:
    """Return curvatures and axes of the symmetric matrix ((a, b), (b, d))."""
    if b == 0:
        return Quadratic((a, d), ((1.0, 0.0), (0.0, 1.0)))
    angle = 0.5 * math.atan2(2 * b, a - d)
    cosine, sine = math.cos(angle), math.sin(angle)
    larger = a * cosine * cosine + 2 * b * cosine * sine + d * sine * sine
    smaller = (a * d - b * b) / larger
    axes: tuple[Point, ...] = ((-sine, cosine), (cosine, sine))
    return Quadratic((smaller, larger), axes)


def _mean(rows: list[tuple[float, float, float]], i: int, j: int) -> float:
    return math.fsum(row[i] * row[j] for row in rows) / len(rows)
