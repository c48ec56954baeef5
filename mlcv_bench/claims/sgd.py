"""Section 1.1: stochastic gradient descent with mini-batches, spheres, canyons, critical points."""

from __future__ import annotations

import itertools
import math

from mlcv_bench.claims.claim import Finding, Quantity
from mlcv_bench.claims.paths import distances, first, flips, path, share
from mlcv_bench.optimizers.rule import RULES
from mlcv_bench.racing.program import Problem
from mlcv_bench.racing.race import random_start
from mlcv_bench.racing.scalar import Runner, Start
from mlcv_bench.surfaces import builtin, finite_sum

ROUNDING = 1e-12
"""Some hundred steps of a few operations each, in float64: 1e3 x 2.2e-16, with room."""


def epoch() -> Finding:
    """Draw an epoch for several N and B: U = ceil(N / B) batches, the last may be short, every sample once."""
    counts, short, seen = [], [], []
    for samples, size in ((96, 20), (97, 32), (50, 50), (10, 3), (7, 16)):
        surface = finite_sum.regression(samples=samples, batch=min(size, samples))
        batch = min(size, samples)
        steps = math.ceil(samples / batch)
        drawn = finite_sum.batches(surface, 0, 0, steps)
        counts.append(next(u for u in itertools.count(1) if sum(map(len, drawn[:u])) == samples) - steps)
        short.append(len(drawn[-1]) - (samples - (steps - 1) * batch))
        seen.append(sorted(itertools.chain(*drawn)) == list(range(samples)))
    return Finding(
        (
            Quantity("batches an epoch, less ceil(N/B), worst of 5 cases", max(counts, key=abs), 0, unit="steps"),
            Quantity("size of the last batch, less N - (U-1) B, worst", max(short, key=abs), 0, unit="samples"),
            Quantity("cases in which every sample is seen once", share(seen), 1),
            Quantity(
                "steps of the notes' loop u = 0..U, less batches there are",
                len(range(math.ceil(96 / 20) + 1)) - math.ceil(96 / 20),
                1,
                role="limit",
                unit="steps",
            ),
        ),
        "An epoch is U = ceil(N/B) batches that see every sample once; the notes let u run from 0 to U, one "
        "step too many.",
    )


def noise() -> Finding:
    """Take one SGD step many times and compare the spread of the mini-batch gradient with sampling theory."""
    quantities = []
    draws = 3000
    for size in (4, 16, 48):
        surface = finite_sum.regression(batch=size)
        assert surface.finite_sum is not None  # noqa: S101 - for the type checker
        rows, (w0, w1) = surface.finite_sum.samples, surface.start
        own = [(a * (a * w0 + b * w1 - c), b * (a * w0 + b * w1 - c)) for a, b, c in rows]
        centre = surface.gradient(*surface.start)
        population = sum(math.dist(g, centre) ** 2 for g in own) / len(own)
        count = len(rows)
        theory = population * (count - size) / (size * (count - 1))
        problem = Problem(RULES["sgd"], {"lr": 1.0}, surface, steps=1)
        runner, value = Runner(RULES["sgd"], surface), surface.value(*surface.start)
        squares = []
        for number in range(draws):
            after = runner.trace(problem, Start(number, surface.start), value).point(1)
            gradient = [x - y for x, y in zip(surface.start, after, strict=True)]
            squares.append(math.dist(gradient, centre) ** 2)
        ratio = sum(squares) / draws / theory
        spread = math.sqrt(sum((s / theory - ratio) ** 2 for s in squares) / (draws - 1) / draws)
        # 99.7% for each of three sizes, so that all three hold at 99%.
        quantities.append(
            Quantity(
                f"variance of the gradient at B = {size}, over sigma^2 (N-B)/(B(N-1))",
                ratio,
                1.0,
                # A quarter: the factor (N-B)/(N-1) of drawing without replacement is 0.5 at B = 48.
                0.25,
                interval=(ratio - 3 * spread, ratio + 3 * spread),
            )
        )
    return Finding(
        tuple(quantities),
        "The mini-batch gradient scatters round the full one as sampling without replacement says: less with larger B.",
    )


def sphere() -> Finding:
    """Take one step on a sphere at several learning rates: |x1| / |x0| = |1 - eta L|."""
    surface = builtin.sphere()
    after = {}
    for rate in (0.5, 0.75, 1.0, 1.5, 2.0):
        far = distances(path("sgd", surface, (3.0, 4.0), steps=1, lr=rate))
        after[rate] = far[1] / far[0]
    return Finding(
        (
            Quantity("|x1|/|x0| at eta = 1/L", after[1.0], 0.0, ROUNDING),
            Quantity("|x1|/|x0| at eta = 0.5/L", after[0.5], 0.5, ROUNDING),
            Quantity("|x1|/|x0| at eta = 0.75/L", after[0.75], 0.25, ROUNDING),
            Quantity("|x1|/|x0| at eta = 1.5/L", after[1.5], 0.5, ROUNDING, role="limit"),
            Quantity("|x1|/|x0| at eta = 2/L", after[2.0], 1.0, ROUNDING, role="limit"),
        ),
        "A larger learning rate is faster up to 1/L, where one step arrives; past it is slower, and at 2/L it circles.",
    )


def canyon_oscillation() -> Finding:
    """Count how often the steep coordinate changes sign, below and above eta = 1/L."""
    surface = builtin.canyon()
    fast = path("sgd", surface, (5.0, 1.0), steps=50, lr=1.9 / 100)
    slow = path("sgd", surface, (5.0, 1.0), steps=50, lr=0.9 / 100)
    return Finding(
        (
            Quantity("share of steps that flip the steep axis at eta = 1.9/L", flips(fast.points[1]), 1.0),
            Quantity(
                "share of steps that flip the steep axis at eta = 0.9/L", flips(slow.points[1]), 0.0, role="limit"
            ),
        ),
        "Gradient descent crosses the canyon at every step if eta > 1/L and never below: it oscillates from there on.",
    )


def canyon_loss_hides() -> Finding:
    """Watch the loss of the oscillating run: it falls at every step."""
    run = path("sgd", builtin.canyon(), (5.0, 1.0), steps=50, lr=1.9 / 100)
    falls = share([after < before for before, after in itertools.pairwise(run.values)])
    return Finding(
        (
            Quantity("share of steps at which the loss falls, at eta = 1.9/L", falls, 1.0),
            Quantity("share of steps that flip the steep axis, same run", flips(run.points[1]), 1.0),
        ),
        "The path crosses the canyon at every step while the loss falls at every step: the loss alone does "
        "not show it.",
    )


def canyon_lr() -> Finding:
    """Measure the contraction at the best learning rate of a canyon and of a sphere."""
    kappa = 100.0
    far = distances(path("sgd", builtin.canyon(), (5.0, 1.0), steps=200, lr=2 / (kappa + 1)))
    round_ = distances(path("sgd", builtin.sphere(), (5.0, 1.0), steps=1, lr=1.0))
    wild = path("sgd", builtin.canyon(), (5.0, 1.0), steps=50, lr=1.0)
    return Finding(
        (
            Quantity("contraction a step at eta = 2/(L+mu), kappa = 100", far[200] / far[199], 99 / 101, 1e-9),
            Quantity("contraction a step on the sphere at its best eta", round_[1] / round_[0], 0.0, ROUNDING),
            Quantity(
                "steps to divergence in the canyon at the sphere's best eta",
                wild.diverged_at or math.inf,
                50,
                relation="<",
            ),
        ),
        "The canyon's best rate is 2/(L+mu), fifty times below the sphere's, and still needs 50 times 1/e a step.",
    )


def critical_points() -> Finding:
    """Start on a saddle's ridge, beside it, and in a small basin."""
    surface = builtin.saddle()
    ridge = distances(path("sgd", surface, (1.0, 0.0), lr=0.1))
    leaving = first(path("sgd", surface, (1.0, 1e-6), lr=0.1).points[1], lambda y: abs(y) >= 0.1)  # noqa: PLR2004 - remarks
    predicted = math.ceil(math.log(0.1 / 1e-6) / math.log(1.1))
    dented = builtin.local_minima()
    trapped = distances(path("sgd", dented, (2.6, 1.6), lr=0.01, steps=2000), dented.local_minima[0])
    starts = [random_start(surface, 0, number).point for number in range(100)]
    ends = [distances(path("sgd", surface, start, lr=0.1, steps=400))[-1] for start in starts]
    return Finding(
        (
            Quantity("distance from the saddle after 1000 steps from its ridge", ridge[-1], 0.0, ROUNDING),
            Quantity("distance from the small basin's minimum, started inside it", trapped[-1], 0.0, 1e-6),
            Quantity(
                "steps to |y| >= 0.1 from y0 = 1e-6 at eta = 0.1, ln(0.1/y0)/ln(1+eta)",
                leaving,
                predicted,
                # 1 + eta is the growth at the saddle itself; the cubic term slows it by under a step.
                tolerance=1,
                role="limit",
                unit="steps",
            ),
            Quantity(
                "share of 100 random starts that end within 0.1 of the saddle",
                share([end < 0.1 for end in ends]),  # noqa: PLR2004 - a tenth of the way to a minimum
                0.0,
                role="limit",
            ),
        ),
        "Descent stays on a saddle's ridge and in a small basin, but leaves a strict saddle from any point "
        "beside the ridge.",
    )
