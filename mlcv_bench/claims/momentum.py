"""Section 1.3: momentum and Nesterov momentum."""

from __future__ import annotations

import itertools
import math
import operator
from typing import TYPE_CHECKING, Any

from mlcv_bench.claims.claim import ExperimentResult, claim
from mlcv_bench.claims.paths import changes, distances, first, path
from mlcv_bench.claims.quantity import Quantity
from mlcv_bench.claims.scene import Bars, Curves, Line, level
from mlcv_bench.optimizers.rule import RULES
from mlcv_bench.statistics import Interval, mean_interval, ratio_of_intervals
from mlcv_bench.surface_race.theory import best_settings
from mlcv_bench.surfaces import builtin

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mlcv_bench.surfaces.surface import Point, Surface

TARGET = 1e-6
CHAINS = 20_000
MU = 0.9
"""The usual momentum coefficient."""


def approach(rule: str, surface: Surface, steps: int, **settings: Any) -> list[float]:  # noqa: ANN401 - as in `path`
    """Return the distance to the minimum of every step from (1, 1)."""
    return distances(path(rule, surface, (1.0, 1.0), steps=steps, **settings))


def steps_to_target(rule: str, surface: Surface, steps: int, **settings: Any) -> float:  # noqa: ANN401 - as in `path`
    """Return the first step at which the distance is a millionth of the start's."""
    return arrival(approach(rule, surface, steps, **settings))


def arrival(far: Sequence[float]) -> float:
    """Return the first step at which a distance is a millionth of the start's."""
    return first(far, lambda d: d <= TARGET * far[0])


def predicted_steps(*axes: tuple[float, float]) -> float:
    """Return the same from e_t = (1 + c t) r^t, an error at a double root, for the (r, c) of both axes."""
    return next(
        float(t)
        for t in itertools.count()
        if math.hypot(*((1 + c * t) * r**t for r, c in axes)) <= TARGET * math.sqrt(len(axes))
    )


def race_steps(rule: str, surface: Surface, **settings: Any) -> float:  # noqa: ANN401 - as in `path`
    """Return the first step at the target of the races: a millionth of the start's loss, which is 0 at best here."""
    losses = path(rule, surface, steps=1000, **settings).values
    return first(losses, lambda loss: loss <= TARGET * losses[0])


def heavy_ball_hit(rate: float, *axes: tuple[float, float]) -> float:
    """Return the same for heavy ball at MU from the closed form, for the (curvature, start) of every axis."""

    def loss(t: int) -> float:
        return sum(h * (x * heavy_ball_error(rate * h, t)) ** 2 / 2 for h, x in axes)

    return next(float(t) for t in itertools.count() if loss(t) <= TARGET * loss(0))


def heavy_ball_error(rate: float, t: int) -> float:
    """Return e_t of e_(t+1) = (1 + MU - rate) e_t - MU e_(t-1), e_0 = 1 and e_1 = 1 - rate, by its complex roots."""
    half = (1 + MU - rate) / 2
    z = complex(half, math.sqrt(MU - half * half))
    # Of e_t = Re(w z^t) with Re w = 1, e_1 gives the imaginary part of w.
    w = complex(1.0, (half - (1 - rate)) / z.imag)
    return (w * z**t).real


def tuned(rule: str, kappa: float) -> dict[str, Any]:
    """Return the settings that the races take for theory's best on a canyon."""
    found = best_settings(rule, builtin.canyon(kappa))
    assert found is not None  # noqa: S101 - a canyon is quadratic
    return dict(found)


def double_root_rate(values: list[float], early: int, late: int) -> float:
    """Return the contraction of a path that goes like t r^t, from two of its points."""
    return math.exp((math.log(abs(values[late]) / late) - math.log(abs(values[early]) / early)) / (late - early))


def bowl(rule: str, rate: float, steps: int = 200) -> list[float]:
    """Return a path on x^2/2 from 1, so that the rate is eta L; MU is the momentum of a rule that has one."""
    settings: dict[str, Any] = {"lr": rate} | ({"momentum": MU} if "momentum" in RULES[rule].defaults else {})
    return path(rule, builtin.sphere(dim=1), (1.0,), steps=steps, **settings).points[0]


def ball_rate(values: list[float], a: float, b: float, t: int) -> float:
    """Return the contraction of an oscillating path of e_(t+1) = a e_t - b e_(t-1).

    Its e_t^2 - a e_t e_(t-1) + b e_(t-1)^2 shrinks by b a step, without oscillating.
    """

    def q(at: int) -> float:
        return values[at] ** 2 - a * values[at] * values[at - 1] + b * values[at - 1] ** 2

    return math.exp(math.log(q(t) / q(t // 2)) / (2 * (t - t // 2)))


def heavy_ball_rate(rate: float) -> float:
    """Return heavy ball's contraction on x^2/2 at MU, where it oscillates."""
    return ball_rate(bowl("momentum", rate), 1 + MU - rate, MU, 100)


def steady_rate(rule: str, rate: float, steps: int = 200) -> float:
    """Return a rule's contraction on x^2/2, where its larger root is real and soon alone."""
    values = bowl(rule, rate, steps)
    return abs(values[-1] / values[-2])


@claim(
    "holds_with_limit",
    "Momentum converges before SGD on a sphere and a canyon.",
    limit="on a sphere only below eta = 0.051 (mu = 0.9); tuned descent needs one step",
)
def faster() -> ExperimentResult:
    """Race gradient descent and heavy ball, each at theory's best, on a canyon; then both on a sphere."""
    canyon, sphere = builtin.canyon(), builtin.sphere()
    runs = {rule: approach(rule, canyon, 1000, **tuned(rule, 100.0)) for rule in ("sgd", "momentum")}
    descent, ball = (arrival(far) for far in runs.values())
    rates = [0.005 * i for i in range(1, 21)]
    shallow = path("momentum", canyon, (1.0, 1.0), steps=120, **tuned("momentum", 100.0)).points[0]
    return ExperimentResult(
        (
            Quantity(
                "steps of heavy ball, less steps of gradient descent, canyon, each tuned",
                ball - descent,
                0,
                relation="<",
                unit="steps",
            ),
            # At eta = 2/(L+mu) both axes shrink by (kappa-1)/(kappa+1) from the first step on.
            Quantity(
                "steps of gradient descent to 1e-6, tuned, kappa = 100",
                descent,
                predicted_steps((99 / 101, 0.0), (-99 / 101, 0.0)),
                unit="steps",
            ),
            # r = +-9/11 on the axes of curvature 1 and 100, eta = 4/121: e_1 = 1 - eta h = r (1 + c) gives c.
            Quantity(
                "steps of heavy ball to 1e-6, tuned, kappa = 100",
                ball,
                predicted_steps((9 / 11, 2 / 11), (-9 / 11, 20 / 11)),
                unit="steps",
            ),
            # e_t = (1 + c t) r^t: log(e_t / t) has slope log r up to (1/c)(1/60 - 1/110)/50 < 1e-3.
            Quantity(
                "contraction of heavy ball, (sqrt kappa-1)/(sqrt kappa+1), from log(|x|/t)",
                double_root_rate(shallow, 60, 110),
                9 / 11,
                1e-3,
            ),
            Quantity(
                "sphere, both at eta = 0.01, mu = 0.9: steps of heavy ball, less gradient descent's",
                race_steps("momentum", sphere, lr=0.01, momentum=MU) - race_steps("sgd", sphere, lr=0.01),
                0,
                relation="<",
                unit="steps",
            ),
            Quantity(
                "sphere at eta = 0.1: steps of gradient descent",
                race_steps("sgd", sphere, lr=0.1),
                math.ceil(math.log(TARGET) / (2 * math.log(0.9))),
                role="limit",
                unit="steps",
            ),
            Quantity(
                "sphere at eta = 0.1: steps of heavy ball, mu = 0.9, more than those",
                race_steps("momentum", sphere, lr=0.1, momentum=MU),
                heavy_ball_hit(0.1, (1.0, 5.0), (1.0, 3.0)),
                role="limit",
                unit="steps",
            ),
            # Oscillating, heavy ball shrinks by sqrt mu a step at any eta; descent by 1 - eta.
            Quantity(
                "sphere, mu = 0.9: the eta up to which heavy ball contracts faster, 1 - sqrt mu",
                changes(0.01, 0.2, lambda eta: heavy_ball_rate(eta) < steady_rate("sgd", eta)),
                1 - math.sqrt(MU),
                1e-6,
                role="limit",
            ),
            Quantity(
                "sphere, tuned: steps of gradient descent",
                steps_to_target("sgd", sphere, 10, lr=1.0),
                1,
                role="limit",
                unit="steps",
            ),
        ),
        "In a canyon sqrt(kappa) takes kappa's place in the number of steps: 93 steps for 691 at kappa = 100. On a "
        "sphere momentum of 0.9 is ahead only below eta = 0.051: at 0.1 descent needs 66 steps to a millionth of the "
        "loss and momentum 83, and tuned descent needs one.",
        effect=descent / ball,
        scene=(
            Curves(
                "step",
                "canyon: distance to the minimum",
                (
                    Line("gradient descent at its best", runs["sgd"][:700]),
                    Line("heavy ball at its best", runs["momentum"][:100]),
                    level("a millionth of the start's", TARGET * runs["sgd"][0], (0, 700)),
                ),
                log="y",
            ),
            Curves(
                "eta, in units of 1/L",
                "sphere: share of the distance that a step leaves",
                (
                    Line("gradient descent", [steady_rate("sgd", eta) for eta in rates], rates, "dots"),
                    Line("heavy ball, mu = 0.9", [heavy_ball_rate(eta) for eta in rates], rates, "dots"),
                    Line("1 - eta", (1.0, 0.9), (0.0, 0.1), "theory"),
                    level("sqrt mu", math.sqrt(MU), (0.0, 0.1)),
                ),
                marks={"heavy ball is ahead up to here": 1 - math.sqrt(MU)},
            ),
        ),
    )


@claim("holds", "Momentum counteracts a badly conditioned Hessian.")
def conditioning() -> ExperimentResult:
    """Count the steps to the target of tuned gradient descent and heavy ball from kappa = 10 to 10,000."""
    kappas = (10.0, 100.0, 1e3, 1e4)
    steps = {
        rule: [steps_to_target(rule, builtin.canyon(kappa), cap, **tuned(rule, kappa)) for kappa in kappas]
        for rule, cap in (("sgd", 80_000), ("momentum", 2_000))
    }
    slopes = {rule: math.log10(found[-1] / found[-2]) for rule, found in steps.items()}
    return ExperimentResult(
        (
            # Steps go like sqrt kappa (ln 1e6 + ln t)/2: ten times kappa adds ln(sqrt 10) to about 17 in the bracket.
            Quantity("exponent of kappa in heavy ball's steps, kappa = 1e3 to 1e4", slopes["momentum"], 0.5, 0.05),
            Quantity("exponent of kappa in gradient descent's steps", slopes["sgd"], 1.0, 0.01),
        ),
        "Gradient descent's steps grow like kappa, momentum's like its square root.",
        scene=(
            Curves(
                "condition kappa",
                "steps to a millionth of the distance",
                (
                    Line("gradient descent at its best", steps["sgd"], kappas, "dots"),
                    Line("heavy ball at its best", steps["momentum"], kappas, "dots"),
                    Line("like kappa", [steps["sgd"][-1] * kappa / 1e4 for kappa in kappas], kappas, "theory"),
                    Line(
                        "like sqrt kappa",
                        [steps["momentum"][-1] * math.sqrt(kappa / 1e4) for kappa in kappas],
                        kappas,
                        "theory",
                    ),
                ),
                log="xy",
            ),
        ),
    )


@claim(
    "holds_with_limit",
    "The velocity is a weighted average of past steps.",
    limit="a sum, whose weights add up to 1/(1-mu)",
)
def weighted_average() -> ExperimentResult:
    """Compare the velocity with the explicit sum of mu^i times past steps, and sum up the weights."""
    rate = 0.01
    run = path("momentum", builtin.canyon(), (5.0, 1.0), steps=60, lr=rate, momentum=MU)
    worst = 0.0
    sums: list[list[float]] = []
    for axis, curvature in zip(run.points, (1.0, 100.0), strict=True):
        sums.append([])
        moves = [-rate * curvature * x for x in axis]
        for t in range(1, 61):
            velocity = axis[t] - axis[t - 1]
            explicit = math.fsum(MU**i * moves[t - 1 - i] for i in range(t))
            worst = max(worst, abs(velocity - explicit) / max(map(abs, moves)))
            sums[-1].append(explicit)
    rule, velocity, weights = RULES["momentum"], 0.0, []
    for t in range(1, 301):  # 0.9^300 = 2e-14: the weights that are missing
        _, velocity = rule.update(0.0, 1.0, t, velocity, lr=rate, momentum=MU)
        weights.append(velocity / -rate)
    steep = run.points[1]
    return ExperimentResult(
        (
            Quantity(
                "velocity, less sum of mu^i (-eta g_(t-i)), worst of 60 steps, over the largest step", worst, 0.0, 1e-12
            ),
            Quantity(
                "velocity over one step -eta g under a constant gradient: the weights' sum, 1/(1-mu)",
                velocity / -rate,
                1 / (1 - MU),
                1e-11,
                role="limit",
            ),
        ),
        "The velocity is the sum of all past steps, each weighted by mu once for every step since. The weights sum to "
        "1/(1-mu), ten at mu = 0.9, where an average's sum to 1.",
        scene=(
            Curves(
                "step",
                "velocity along the steep axis",
                (
                    Line("the run's", [after - before for before, after in itertools.pairwise(steep)]),
                    Line("sum of mu^i times past steps", sums[1], look="dots"),
                ),
            ),
            Curves(
                "step",
                "velocity over one step, constant gradient",
                (
                    Line("the run's", weights[:80]),
                    level("a sum's weights, 1/(1-mu)", 1 / (1 - MU), (0, 80)),
                    level("an average's", 1.0, (0, 80)),
                ),
            ),
        ),
    )


@claim(
    "holds_with_limit",
    "Momentum lowers the variance of the gradient, as a low-pass filter.",
    limit="not the place's variance at equal eta/(1-mu)",
)
def low_pass() -> ExperimentResult:
    """Feed white noise and an alternating signal to an average, then let SGD and heavy ball rattle in a bowl."""
    import numpy as np  # noqa: PLC0415 - populations only

    generator = np.random.default_rng(1)
    mu, rule = MU, RULES["momentum"]
    noise, alternating = np.zeros(CHAINS), 0.0
    one_chain: list[tuple[float, float]] = []
    # With eta = 1 - mu the weights of past gradients sum to 1: the velocity is their average, its sign turned.
    for t in range(1, 201):  # 0.9^200 = 7e-10: the start is forgotten
        drawn = generator.standard_normal(CHAINS)
        _, noise = rule.update(0.0, drawn, t, noise, lr=1 - mu, momentum=mu)
        one_chain.append((float(drawn[0]), -float(noise[0])))
        _, alternating = rule.update(0.0, (-1.0) ** t, t, alternating, lr=1 - mu, momentum=mu)

    def rattle(rule: str, **settings: float) -> Interval:
        chosen = RULES[rule]
        state = [np.zeros(CHAINS) for _ in range(1 + len(chosen.slots))]
        slowest = 1 / math.sqrt(settings.get("momentum", 1 - settings["lr"]))
        for t in range(1, 1 + math.ceil(10 / math.log(slowest))):
            gradient = state[0] + generator.standard_normal(CHAINS)
            state = list(chosen.step(state[0], gradient, t, *state[1:], **chosen.settings(settings)))
        return mean_interval((state[0] ** 2).tolist())

    resolution = 0.1  # a tenth: averaging without a limit would lower each variance 19 times
    # The mean is 0 by symmetry, so that a variance is a mean of squares over independent chains.
    kept = mean_interval((noise**2).tolist())
    eta = 0.1
    ball = rattle("momentum", lr=eta, momentum=mu)
    small = 0.005
    slow_ball = rattle("momentum", lr=small, momentum=mu)
    descent = rattle("sgd", lr=small / (1 - mu))
    ratio = ratio_of_intervals(descent, slow_ball)
    ratio_theory = small * (1 + mu) / ((1 - mu) * (2 * (1 + mu) - small)) / (small / (1 - mu) / (2 - small / (1 - mu)))
    quantities = (
        Quantity.estimated(
            "variance of averaged white noise, mu = 0.9, (1-mu)/(1+mu)",
            kept,
            (1 - mu) / (1 + mu),
            resolution,
            relative=True,
        ),
        Quantity("gain at period 2, (1-mu)/(1+mu)", abs(alternating), (1 - mu) / (1 + mu), 1e-8),
        Quantity.estimated(
            "variance of the ball round the minimum of x^2/2, eta = 0.1",
            ball,
            eta * (1 + mu) / ((1 - mu) * (2 * (1 + mu) - eta)),
            resolution,
            relative=True,
        ),
        Quantity.estimated(
            "its variance over SGD's at equal eta/(1-mu), eta = 0.005: not smaller than theory's",
            ratio,
            ratio_theory,
            resolution,
            relative=True,
            role="limit",
        ),
    )
    averaged, _, place, over = quantities
    raw, own = zip(*one_chain, strict=True)
    return ExperimentResult(
        quantities,
        "Averaging lowers the noise of the gradient 19 times, but the ball round the minimum rattles as widely as "
        "SGD's at the same effective rate eta/(1-mu): the filter lowers the noise of a step, not of the place.",
        scene=(
            Curves(
                "step",
                "one of 20,000 chains",
                (Line("gradient noise", raw), Line("its average, mu = 0.9", own)),
            ),
            Bars(
                "variance",
                {
                    "averaged noise\nof variance 1": averaged,
                    "the place, eta = 0.1": place,
                    "the place's over SGD's\nat equal eta/(1-mu)": over,
                },
            ),
        ),
    )


@claim(
    "holds_with_limit",
    "Nesterov momentum is faster than standard momentum.",
    limit="at equal mu and eta below 4/(3L), past which it diverges; each tuned, heavy ball is faster",
)
def nesterov() -> ExperimentResult:
    """Measure both contractions at the same settings and at each one's best, count steps, and find where it ends."""
    canyon, kappa = builtin.canyon(), 100.0
    pair: dict[str, Any] = {"lr": 1 / kappa, "momentum": 9 / 11}
    shallow = path("nesterov", canyon, (1.0, 1.0), steps=200, **pair).points[0]
    heavy = path("momentum", canyon, (1.0, 1.0), steps=200, **pair).points[0]
    best = path("nesterov", canyon, (1.0, 1.0), steps=200, **tuned("nesterov", kappa)).points[0]
    rate = double_root_rate(shallow, 100, 180)
    usual = {"lr": 0.01, "momentum": MU}
    past: dict[str, Any] = {"lr": 0.015, "momentum": MU}

    def shrinks(rule: str) -> Callable[[float], bool]:
        return lambda eta: len(values := bowl(rule, eta, 2000)) > 2000 and abs(values[-1]) < 1  # noqa: PLR2004 - all

    root = math.sqrt(MU)
    converging = {rule: approach(rule, canyon, 200, lr=0.01, momentum=MU) for rule in ("momentum", "nesterov")}
    past_runs = {rule: approach(rule, canyon, 200, **past) for rule in ("momentum", "nesterov")}
    return ExperimentResult(
        (
            Quantity(
                "contraction at eta = 1/L, mu = (sqrt kappa-1)/(sqrt kappa+1), less heavy ball's there",
                rate - ball_rate(heavy, 1 + pair["momentum"] - pair["lr"], pair["momentum"], 180),
                0.0,
                relation="<",
            ),
            # As for heavy ball: a double root on the shallow axis, and c of the order of 1 - r.
            Quantity("contraction at that pair, 1 - 1/sqrt kappa", rate, 0.9, 1e-3),
            Quantity(
                "contraction at the best pair, 1 - 2/sqrt(3 kappa + 1)",
                double_root_rate(best, 100, 180),
                1 - 2 / math.sqrt(3 * kappa + 1),
                1e-3,
            ),
            # The steep axis arrives in the first step; on the other r = 0.9 and e_1 = 0.99 = r (1 + c).
            Quantity(
                "steps to 1e-6 at that pair",
                steps_to_target("nesterov", canyon, 1000, **pair),
                predicted_steps((0.9, 0.1), (0.0, 0.0)),
                unit="steps",
            ),
            Quantity(
                "steps to 1e-6 at the defaults eta = 0.01, mu = 0.9, less heavy ball's",
                steps_to_target("nesterov", canyon, 1000, **usual) - steps_to_target("momentum", canyon, 1000, **usual),
                0,
                relation="<",
                unit="steps",
            ),
            # Its larger root is +-sqrt mu, heavy ball's contraction, at these two; between them it is smaller.
            Quantity(
                "eta times curvature from which it contracts faster, mu = 0.9, (1 - sqrt mu)^2/(1 - sqrt mu + mu)",
                changes(0.00265, 0.00277, lambda eta: steady_rate("nesterov", eta, 4000) > heavy_ball_rate(eta)),
                (1 - root) ** 2 / (1 - root + MU),
                1e-6,
                role="limit",
            ),
            Quantity(
                "eta times curvature up to which it does, (1 + sqrt mu)^2/(1 + sqrt mu + mu)",
                changes(1.05, 1.35, lambda eta: steady_rate("nesterov", eta) < heavy_ball_rate(eta)),
                (1 + root) ** 2 / (1 + root + MU),
                1e-6,
                role="limit",
            ),
            Quantity(
                "the eta L up to which Nesterov converges, mu = 0.9, 2(1+mu)/(1+2mu)",
                changes(1.0, 4.0, shrinks("nesterov")),
                2 * (1 + MU) / (1 + 2 * MU),
                1e-3,
                role="limit",
            ),
            Quantity(
                "the eta L up to which heavy ball converges, mu = 0.9, 2(1+mu)",
                changes(1.0, 5.0, shrinks("momentum")),
                2 * (1 + MU),
                1e-3,
                role="limit",
            ),
            Quantity(
                "steps at eta = 1.5/L, mu = 0.9: Nesterov, which diverges",
                race_steps("nesterov", canyon, **past),
                math.inf,
                role="limit",
                unit="steps",
            ),
            Quantity(
                "steps there: heavy ball, which converges",
                race_steps("momentum", canyon, **past),
                heavy_ball_hit(0.015, (1.0, 5.0), (100.0, 1.0)),
                role="limit",
                unit="steps",
            ),
            Quantity(
                "each at its own best pair: steps of heavy ball, less Nesterov's",
                steps_to_target("momentum", canyon, 1000, **tuned("momentum", kappa))
                - steps_to_target("nesterov", canyon, 1000, **tuned("nesterov", kappa)),
                0,
                relation="<",
                role="limit",
                unit="steps",
            ),
        ),
        "At the same eta and mu Nesterov contracts faster than standard momentum on axes where eta times the curvature "
        "is below about 4/3 (1.333 at mu = 0.9) and above the little at which momentum begins to oscillate (0.0028). "
        "From eta L = 1.36 on it diverges, where standard momentum converges up to 3.8. Each at its own best, heavy "
        "ball wins on quadratics.",
        scene=tuple(
            Curves(
                "step",
                f"distance to the minimum, {words}, mu = 0.9",
                (
                    Line("standard momentum", runs["momentum"]),
                    Line("Nesterov momentum", [far for far in runs["nesterov"] if far < 100 * runs["nesterov"][0]]),
                ),
                log="y",
            )
            for words, runs in (("eta L = 1", converging), ("eta L = 1.5", past_runs))
        ),
    )


@claim(
    "holds_with_limit",
    "Once mu v is added to theta, the gradient at theta is obsolete.",
    limit="up to eta L = 1; past it every step turns back",
)
def obsolete_gradient() -> ExperimentResult:
    """Compare the gradient at theta and at theta + mu v with the one where the step ends, in a steady descent."""

    def misses(values: Sequence[float], at: int) -> tuple[float, float]:
        before, here, after = values[at - 1 : at + 2]
        ahead = here + MU * (here - before)
        # On x^2/2 the gradient is x itself.
        return abs(ahead - after), abs(here - after)

    def larger_root(rate: float) -> float:
        # z^2 - (1 + mu)(1 - eta) z + mu (1 - eta), real at both rates.
        half = (1 + MU) * (1 - rate) / 2
        return half + math.copysign(math.sqrt(half * half - MU * (1 - rate)), half)

    calm, wild = 0.001, 1.2
    runs = {rate: bowl("nesterov", rate, 400) for rate in (calm, wild)}
    calm_miss, wild_miss = (operator.truediv(*misses(runs[rate], at)) for rate, at in ((calm, 390), (wild, 40)))
    return ExperimentResult(
        (
            Quantity(
                "miss of the gradient at theta + mu v, over that at theta, eta L = 0.001, |1 - mu/r|",
                calm_miss,
                abs(1 - MU / larger_root(calm)),
                1e-6,
            ),
            Quantity("the same, less 1", calm_miss - 1, 0.0, relation="<"),
            Quantity(
                "the same at eta L = 1.2, where r < 0 and every step turns back",
                wild_miss,
                abs(1 - MU / larger_root(wild)),
                1e-6,
                role="limit",
            ),
            Quantity(
                "the same, less 1: the gradient ahead is the worse one",
                wild_miss - 1,
                0.0,
                relation=">",
                role="limit",
            ),
        ),
        "While the velocity points the right way, the gradient at theta + mu v is eleven times nearer to the one where "
        "the step ends than the gradient at theta. Past eta L = 1 each step turns back, and looking ahead is the worse "
        "guess.",
        scene=tuple(
            Curves(
                "step",
                f"miss of the gradient where the step ends, eta L = {rate:g}",
                [
                    Line(name, [misses(runs[rate], at)[part] for at in range(1, steps)])
                    for part, name in ((1, "taken at theta"), (0, "taken at theta + mu v"))
                ],
                log="y",
            )
            for rate, steps in ((calm, 390), (wild, 40))
        ),
    )


@claim(
    "holds_with_limit",
    "Nesterov can be written without the gradient at theta + mu v.",
    limit="in torch.optim's form at a constant rate alone",
)
def no_lookahead() -> ExperimentResult:
    """Compare theta + mu v with phi, whose gradient is taken where it stands, and with torch.optim's SGD."""
    ahead, phi, torchs, _ = look_ahead_forms([0.005] * 300)
    size = max(math.hypot(*point) for point in ahead)
    before = 20
    halved = look_ahead_forms([0.005] * before + [0.0025] * 20)
    jump = math.dist(halved[0][before + 1], halved[2][before + 1]) / math.hypot(*halved[3][before])
    return ExperimentResult(
        (
            Quantity(
                "phi's path, less theta + mu v, worst of 300 steps, over the path's size",
                max(map(math.dist, phi, ahead)) / size,
                0.0,
                1e-12,
            ),
            Quantity(
                "path of torch.optim's SGD, less theta + mu v, likewise",
                max(map(math.dist, torchs, ahead)) / size,
                0.0,
                1e-12,
            ),
            # torch keeps b = -v/eta: at a new rate eta' its step has mu^2 v eta'/eta where the notes' has mu^2 v.
            Quantity(
                "torch.optim's gap after a step at half the rate, over |v|, mu^2/2",
                jump,
                MU**2 / 2,
                1e-9,
                role="limit",
            ),
        ),
        "Written in phi = theta + mu v, the gradient is taken where the parameters stand, and the path is the same; "
        "torch.optim's is too, as long as the learning rate does not change.",
        scene=tuple(
            Curves(
                "step",
                f"flat coordinate, {words}",
                (
                    Line("theta + mu v", [point[0] for point in forms[0][:steps]]),
                    Line("phi", [point[0] for point in forms[1][:steps:2]], range(0, steps, 2), "dots"),
                    Line("torch.optim's SGD", [point[0] for point in forms[2][1:steps:2]], range(1, steps, 2), "dots"),
                ),
                marks=marks,
            )
            for words, forms, steps, marks in (
                ("constant rate", (ahead, phi, torchs), 60, {}),
                ("the rate halved", halved, before + 20, {"halved": float(before)}),
            )
        ),
    )


def look_ahead_forms(rates: Sequence[float]) -> tuple[list[Point], list[Point], list[Point], list[Point]]:
    """Run Nesterov on a canyon from (5, 1), a rate a step, in three forms; returns three paths and the velocities.

    The paths are the notes' theta + mu v, phi with its gradient taken where it stands, and torch.optim's parameter.
    """
    import torch  # noqa: PLC0415 - for this claim alone
    from torch.optim.sgd import sgd  # noqa: PLC0415 - what SGD.step calls; the class loads torch's compiler for seconds

    curvatures, start = (1.0, 100.0), (5.0, 1.0)
    rule = RULES["nesterov"]
    assert rule.lookahead is not None  # noqa: S101 - the look-ahead is what the rule is about
    theta, velocity = list(start), [0.0, 0.0]
    phi, own = list(start), [0.0, 0.0]
    parameter = torch.tensor(start, dtype=torch.float64)
    buffers: list[torch.Tensor | None] = [None]
    options: dict[str, Any] = {"weight_decay": 0.0, "dampening": 0.0, "nesterov": True, "maximize": False}
    paths: tuple[list[Point], ...] = ([start], [start], [start], [(0.0, 0.0)])
    for t, rate in enumerate(rates, 1):
        gradients = torch.tensor(curvatures, dtype=torch.float64) * parameter
        sgd([parameter], [gradients], buffers, lr=rate, momentum=MU, **options)
        for i, h in enumerate(curvatures):
            gradient = h * rule.lookahead(theta[i], velocity[i], MU)
            theta[i], velocity[i] = rule.update(theta[i], gradient, t, velocity[i], lr=rate, momentum=MU)
            before, own[i] = own[i], MU * own[i] - rate * h * phi[i]
            phi[i] += (1 + MU) * own[i] - MU * before
        ahead = [rule.lookahead(x, v, MU) for x, v in zip(theta, velocity, strict=True)]
        for kept, point in zip(paths, (ahead, phi, parameter.tolist(), velocity), strict=True):
            kept.append(tuple(point))
    return paths[0], paths[1], paths[2], paths[3]
