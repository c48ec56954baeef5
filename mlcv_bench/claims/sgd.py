"""Section 1.1: stochastic gradient descent with mini-batches, spheres, canyons, critical points."""

from __future__ import annotations

import itertools
import math
import statistics
from typing import TYPE_CHECKING

from mlcv_bench.claims.claim import ExperimentResult, claim
from mlcv_bench.claims.paths import distances, first, flips, path, paths, share
from mlcv_bench.claims.quantity import Quantity
from mlcv_bench.claims.scene import Cells, Curves, Line, Paths
from mlcv_bench.optimizers.rule import RULES
from mlcv_bench.statistics import mean_interval
from mlcv_bench.surface_race.floats import Runner
from mlcv_bench.surface_race.program import DIVERGED_FACTOR, Problem, Start
from mlcv_bench.surface_race.request import random_start
from mlcv_bench.surfaces import builtin, finite_sum

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlcv_bench.surface_race.floats import Trajectory
    from mlcv_bench.surfaces.surface import Surface

ROUNDING = 1e-12
"""Some hundred steps of a few operations each, in float64: 1e3 x 2.2e-16, with room."""


@claim(
    "holds_with_limit",
    "An epoch shuffles, then takes U = ceil(N/B) steps.",
    limit="U batches are u = 0 .. U-1; the notes let u run to U",
)
def epoch() -> ExperimentResult:
    """Draw epochs for several N and B: their batches, their order, and the steps that descent makes of them."""
    epochs = 100
    wrong_sizes, seen, own_place, same_place, left, gaps = 0, [], [], [], 0, [0.0]
    for samples, size in ((96, 20), (97, 32), (50, 50), (10, 3), (7, 3)):
        surface = finite_sum.regression(samples=samples, batch=size)
        U = -(-samples // size)
        # The notes' X^(u) holds the samples Bu .. B(u+1) - 1 of the shuffled data, as far as there are any.
        wanted = [len(range(samples)[size * u : size * (u + 1)]) for u in range(U)]
        drawn = finite_sum.batches(surface, 0, 0, epochs * U)
        orders = []
        for first_step in range(0, len(drawn), U):
            batches = drawn[first_step : first_step + U]
            order = list(itertools.chain(*batches))
            wrong_sizes += [len(batch) for batch in batches] != wanted
            seen.append(sorted(order) == list(range(samples)))
            own_place.append(agreements(order, range(samples)))
            left = max(left, samples - len(set(order)))
            orders.append(order)
        same_place += list(itertools.starmap(agreements, itertools.pairwise(orders)))
        gaps.append(off_the_mean(surface, drawn[: 2 * U]))
    return ExperimentResult(
        (
            Quantity("epochs whose batches are not of the sizes of U = ceil(N/B) slices, of 500", wrong_sizes, 0),
            Quantity("share of epochs in which every sample is seen once", share(seen), 1),
            # A random order keeps one sample in its place on average, with variance 1, whatever N: half a sample apart
            # from the order of the data (N) and from a turn of it (0).
            by_chance("samples that the shuffle leaves in their place", own_place),
            by_chance("samples that keep their place from one epoch to the next", same_place),
            Quantity(
                "a step, less -eta times its batch's mean gradient, worst of two epochs, over the largest step",
                max(gaps),
                0.0,
                ROUNDING,
            ),
            Quantity("samples that U batches leave for the notes' step u = U", left, 0, role="limit", unit="samples"),
        ),
        "An epoch shuffles anew and is U = ceil(N/B) batches that see every sample once; the notes let u run from 0 to "
        "U, and that last step finds no sample left.",
        scene=(slots(7, 3, 3),),
    )


def slots(samples: int, size: int, epochs: int) -> Cells:
    """Show which samples every step of some epochs takes, the notes' step u = U with them."""
    U = -(-samples // size)
    drawn = finite_sum.batches(finite_sum.regression(samples=samples, batch=size), 0, 0, epochs * U)
    steps = [(e, u, drawn[e * U + u] if u < U else ()) for e in range(epochs) for u in range(U + 1)]
    return Cells(
        "sample",
        "step",
        [[float(i in batch) for i in range(samples)] for _, _, batch in steps],
        f"which samples a step takes, N = {samples}, B = {size}: u = U finds none left",
        row_names=[f"epoch {e}, u = {u}" + (" = U" if u == U else "") for e, u, _ in steps],
        column_names=[str(i) for i in range(samples)],
    )


def agreements(order: Sequence[int], other: Sequence[int]) -> int:
    """Return how many samples stand at the same place in two orders."""
    return sum(a == b for a, b in zip(order, other, strict=False))


def by_chance(name: str, counts: Sequence[int]) -> Quantity:
    """Hold a mean count against 1, what two random orders have in common, within half a sample."""
    mean = mean_interval(counts, confidence=0.997)
    return Quantity.estimated(name, mean, 1.0, 0.5, unit="samples")


def off_the_mean(surface: Surface, drawn: Sequence[Sequence[int]]) -> float:
    """Run descent over these batches; returns its worst miss of -eta mean gradient, over the largest step."""
    assert surface.finite_sum is not None  # noqa: S101 - for the type checker
    rate, rows = 0.01, surface.finite_sum.samples
    run = path("sgd", surface, steps=len(drawn), lr=rate)
    misses, moves = [], []
    for t, batch in enumerate(drawn):
        before, after = run.point(t), run.point(t + 1)
        gradients = [residual_gradient(rows[i], before) for i in batch] or [(0.0, 0.0)]
        mean = [math.fsum(parts) / len(gradients) for parts in zip(*gradients, strict=True)]
        move = [y - x for x, y in zip(before, after, strict=True)]
        misses.append(math.dist(move, [-rate * g for g in mean]))
        moves.append(math.hypot(*move))
    return max(misses) / max(moves)


def residual_gradient(row: Sequence[float], weights: Sequence[float]) -> tuple[float, float]:
    """Return the gradient of 1/2 (a w0 + b w1 - c)^2 in the weights, for one sample (a, b, c)."""
    a, b, c = row
    residual = a * weights[0] + b * weights[1] - c
    return a * residual, b * residual


@claim("holds", "A mini-batch gradient is a noisy approximation of the full one.")
def noise() -> ExperimentResult:
    """Take one SGD step many times and compare the spread of the mini-batch gradient with sampling theory."""
    quantities, found = [], []
    draws = 1500
    for size in (4, 16, 48):
        surface = finite_sum.regression(batch=size)
        assert surface.finite_sum is not None  # noqa: S101 - for the type checker
        own = [residual_gradient(row, surface.start) for row in surface.finite_sum.samples]
        centre = [statistics.fmean(parts) for parts in zip(*own, strict=True)]
        population = sum(math.dist(g, centre) ** 2 for g in own) / len(own)
        count = len(own)
        theory = population * (count - size) / (size * (count - 1))
        problem = Problem(RULES["sgd"], {"lr": 1.0}, surface, steps=1)
        runner = Runner(RULES["sgd"], surface)
        squares = []
        for number in range(draws):
            after = runner.trace(problem, Start(number, surface.start)).point(1)
            gradient = [x - y for x, y in zip(surface.start, after, strict=True)]
            squares.append(math.dist(gradient, centre) ** 2)
        # 99.7% for each of three sizes, so that all three hold at 99%.
        ratio = mean_interval([square / theory for square in squares], confidence=0.997)
        found.append((size, theory, ratio))
        quantities.append(
            Quantity.estimated(
                f"variance of the gradient at B = {size}, over sigma^2 (N-B)/(B(N-1))",
                ratio,
                1.0,
                # A quarter: the factor (N-B)/(N-1) of drawing without replacement is 0.5 at B = 48.
                0.25,
            )
        )
    return ExperimentResult(
        tuple(quantities),
        "The mini-batch gradient scatters round the full one as sampling without replacement says: less with larger B.",
        scene=(
            Curves(
                "batch size B",
                "variance of the mini-batch gradient",
                (
                    Line(
                        "measured, 99.7% intervals",
                        [theory * ratio.middle for _, theory, ratio in found],
                        [size for size, _, _ in found],
                        "dots",
                        [(theory * ratio.low, theory * ratio.high) for _, theory, ratio in found],
                    ),
                    Line(
                        "sigma^2 (N-B)/(B(N-1))",
                        [population * (count - B) / (B * (count - 1)) for B in range(2, count)],
                        range(2, count),
                        "theory",
                    ),
                ),
                log="xy",
            ),
        ),
    )


@claim("holds_with_limit", "On a sphere a larger learning rate is faster.", limit="up to eta = 1/L")
def sphere() -> ExperimentResult:
    """Take one step on a sphere at several learning rates: |x1| / |x0| = |1 - eta L|."""
    surface = builtin.sphere()
    after = {}
    for rate in (0.5, 0.75, 1.0, 1.5, 2.0):
        far = distances(path("sgd", surface, (3.0, 4.0), steps=1, lr=rate))
        after[rate] = far[1] / far[0]
    return ExperimentResult(
        (
            Quantity("|x1|/|x0| at eta = 1/L", after[1.0], 0.0, ROUNDING),
            Quantity("|x1|/|x0| at eta = 0.5/L", after[0.5], 0.5, ROUNDING),
            Quantity("|x1|/|x0| at eta = 0.75/L", after[0.75], 0.25, ROUNDING),
            Quantity("|x1|/|x0| at eta = 1.5/L", after[1.5], 0.5, ROUNDING, role="limit"),
            Quantity("|x1|/|x0| at eta = 2/L", after[2.0], 1.0, ROUNDING, role="limit"),
        ),
        "A larger learning rate is faster up to 1/L, where one step arrives; past it is slower, and at 2/L it circles.",
        scene=(
            Curves(
                "learning rate, in units of 1/L",
                "|x1| / |x0|",
                (
                    Line("one step, measured", list(after.values()), list(after), "dots"),
                    Line("|1 - eta L|", (1.0, 0.0, 1.2), (0.0, 1.0, 2.2), "theory"),
                ),
                marks={"fastest": 1.0, "circles": 2.0},
            ),
        ),
    )


@claim(
    "holds_with_limit",
    "Descent works better where no direction is preferred, as on a sphere.",
    limit="not on every convex function, as a canyon is one",
)
def no_direction() -> ExperimentResult:
    """Take a step from starts all round a minimum, on a sphere and on a canyon, and measure how well it is aimed."""
    kappa = 100.0
    # On the canyon (sqrt kappa, 1) is the direction in which the gradient is worst aimed (Kantorovich 1948).
    angles = [2 * math.pi * (i + 0.5) / 16 for i in range(16)] + [math.atan2(1.0, math.sqrt(kappa))]
    starts = [(math.cos(angle), math.sin(angle)) for angle in angles]
    aims = {
        name: [aim(run) for run in paths("sgd", surface, starts, steps=1, lr=0.001)]
        for name, surface in (("sphere", builtin.sphere()), ("canyon", builtin.canyon(kappa)))
    }
    runs = paths("sgd", builtin.sphere(), starts, steps=50, lr=0.1)
    left = [far[-1] / far[0] for far in map(distances, runs)]
    return ExperimentResult(
        (
            Quantity(
                "sphere: cosine of a step and the way to the minimum, least of 17 starts",
                min(aims["sphere"]),
                1.0,
                ROUNDING,
            ),
            Quantity(
                "sphere: share of the distance left after 50 steps, over (1 - eta)^50, largest of 17",
                max(left) / 0.9**50,
                1.0,
                ROUNDING,
            ),
            Quantity("the same, smallest of 17", min(left) / 0.9**50, 1.0, ROUNDING),
            Quantity(
                "canyon, which is convex too: the least cosine, 2 sqrt kappa/(1 + kappa)",
                min(aims["canyon"]),
                2 * math.sqrt(kappa) / (1 + kappa),
                1e-9,
                role="limit",
            ),
        ),
        "On a sphere every step points at the minimum, from wherever it starts; that a function is convex is not "
        "enough, since in a canyon a step may point 79 degrees away.",
        scene=(
            Curves(
                "where the start lies, degrees from the flat axis",
                "cosine of the first step and the way to the minimum",
                [
                    Line(f"{name}, measured", values, [math.degrees(angle) for angle in angles], "dots")
                    for name, values in aims.items()
                ]
                + [
                    Line(
                        "canyon, from its gradient",
                        [kantorovich(kappa, math.radians(degrees)) for degrees in range(361)],
                        range(361),
                        "theory",
                    )
                ],
            ),
        ),
    )


def kantorovich(kappa: float, angle: float) -> float:
    """Return the cosine of the gradient (cos a, kappa sin a) and the place (cos a, sin a)."""
    c, s = math.cos(angle), math.sin(angle)
    return (c * c + kappa * s * s) / math.hypot(c, kappa * s)


def aim(run: Trajectory) -> float:
    """Return the cosine between a path's first step and the way to the origin."""
    before, after = run.point(0), run.point(1)
    move = [y - x for x, y in zip(before, after, strict=True)]
    return -sum(m * x for m, x in zip(move, before, strict=True)) / (math.hypot(*move) * math.hypot(*before))


@claim("holds_with_limit", "Gradient descent oscillates in a canyon.", limit="from eta = 1/L on")
def canyon_oscillation() -> ExperimentResult:
    """Count how often the steep coordinate changes sign, below and above eta = 1/L."""
    surface = builtin.canyon()
    fast = path("sgd", surface, (5.0, 1.0), steps=50, lr=1.9 / 100)
    slow = path("sgd", surface, (5.0, 1.0), steps=50, lr=0.9 / 100)
    return ExperimentResult(
        (
            Quantity("share of steps that flip the steep axis at eta = 1.9/L", flips(fast.points[1]), 1.0),
            Quantity(
                "share of steps that flip the steep axis at eta = 0.9/L", flips(slow.points[1]), 0.0, role="limit"
            ),
        ),
        "Gradient descent crosses the canyon at every step if eta > 1/L and never below: it oscillates from there on.",
        scene=(Paths(surface, {"eta = 1.9/L": fast, "eta = 0.9/L": slow}),),
    )


@claim("holds", "The loss alone falls and does not show the oscillation.")
def canyon_loss_hides() -> ExperimentResult:
    """Watch the loss of the oscillating run: it falls at every step."""
    run = path("sgd", builtin.canyon(), (5.0, 1.0), steps=50, lr=1.9 / 100)
    falls = share([after < before for before, after in itertools.pairwise(run.values)])
    return ExperimentResult(
        (
            Quantity("share of steps at which the loss falls, at eta = 1.9/L", falls, 1.0),
            Quantity("share of steps that flip the steep axis, same run", flips(run.points[1]), 1.0),
        ),
        "The path crosses the canyon at every step while the loss falls at every step: the loss alone does "
        "not show it.",
        scene=(
            Curves("step", "loss", (Line("eta = 1.9/L", run.values),), log="y"),
            Curves("step", "steep coordinate y", (Line("the same run", run.points[1]),)),
        ),
    )


@claim("holds", "A canyon needs a smaller learning rate, and is slower.")
def canyon_lr() -> ExperimentResult:
    """Measure the contraction at the best learning rate of a canyon and of a sphere, and take the sphere's there."""
    kappa = 100.0
    far = distances(path("sgd", builtin.canyon(), (5.0, 1.0), steps=200, lr=2 / (kappa + 1)))
    round_ = distances(path("sgd", builtin.sphere(), (5.0, 1.0), steps=1, lr=1.0))
    wild = path("sgd", builtin.canyon(), (5.0, 1.0), steps=50, lr=1.0)
    # At eta = 1 the flat axis arrives and the steep one grows: the loss is 50 y^2, and y grows by |1 - L| a step.
    growth = kappa - 1
    gone = math.ceil(math.log(DIVERGED_FACTOR * 62.5 / 50) / (2 * math.log(growth)))
    return ExperimentResult(
        (
            Quantity("contraction a step at eta = 2/(L+mu), kappa = 100", far[200] / far[199], 99 / 101, 1e-9),
            Quantity("contraction a step on the sphere at its best eta", round_[1] / round_[0], 0.0, ROUNDING),
            Quantity(
                "growth of the canyon's steep coordinate a step at the sphere's best eta, |1 - L|",
                abs(wild.points[1][1] / wild.points[1][0]),
                growth,
                ROUNDING,
                relative=True,
            ),
            Quantity(
                "steps there until the loss is 1e20 times the start's",
                wild.diverged_at or math.inf,
                gone,
                unit="steps",
            ),
        ),
        "The canyon's best rate 2/(L+mu) is fifty times below the sphere's, and leaves 98% of the distance a step "
        "where the sphere arrives in one; at the sphere's rate the canyon's steep coordinate grows 99 times a step.",
        scene=(
            Curves(
                "step",
                "distance to the minimum",
                (
                    Line("canyon at its best rate, 2/(L+mu)", far),
                    Line("sphere at its best rate, 1/L: there in one step", round_),
                    Line("canyon at the sphere's rate", distances(wild)[:6]),
                ),
                log="y",
            ),
        ),
    )


@claim(
    "holds_with_limit", "Descent may end in a saddle or a local minimum.", limit="a strict saddle from its ridge alone"
)
def critical_points() -> ExperimentResult:
    """Start on a saddle's ridge, next to it, and in a small basin."""
    surface = builtin.saddle()
    on_ridge, beside = (path("sgd", surface, (1.0, y), lr=0.1) for y in (0.0, 1e-6))
    ridge = distances(on_ridge)
    leaving = first(beside.points[1], lambda y: abs(y) >= 0.1)  # noqa: PLR2004 - remarks
    predicted = math.ceil(math.log(0.1 / 1e-6) / math.log(1.1))
    dented = builtin.local_minima()
    inside = path("sgd", dented, (2.6, 1.6), lr=0.01, steps=2000)
    trapped = distances(inside, dented.local_minima[0])
    starts = [random_start(surface, 0, number).point for number in range(100)]
    ends = [distances(run)[-1] for run in paths("sgd", surface, starts, lr=0.1, steps=400)]
    return ExperimentResult(
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
        scene=(
            Paths(surface, {"from (1, 0.000001), beside the ridge": beside, "from (1, 0), on it": on_ridge}),
            Paths(dented, {"from inside the small basin": inside}),
        ),
    )
