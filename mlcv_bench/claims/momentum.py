"""Section 1.3: momentum and Nesterov momentum."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

from mlcv_bench.claims.claim import Finding, Quantity
from mlcv_bench.claims.paths import distances, first, path
from mlcv_bench.optimizers.rule import RULES
from mlcv_bench.racing.theory import best_rate, best_settings, error_at, recurrence
from mlcv_bench.surfaces import builtin

if TYPE_CHECKING:
    from mlcv_bench.surfaces.surface import Surface

TARGET = 1e-6
CHAINS = 20_000


def steps_to_target(rule: str, surface: Surface, steps: int, **settings: Any) -> float:  # noqa: ANN401 - as in `path`
    """Return the first step at which the distance is a millionth of the start's."""
    far = distances(path(rule, surface, (1.0, 1.0), steps=steps, **settings))
    return first(far, lambda d: d <= TARGET * far[0])


def predicted_steps(rule: str, kappa: float, settings: dict[str, float]) -> float:
    """Return the same from the closed form of the linear recurrence on the axes of curvature 1 and kappa."""
    chosen = RULES[rule].settings(settings)
    axes = [(1 - chosen["lr"] * h, *recurrence(rule, chosen, h)) for h in (1.0, kappa)]
    return next(
        float(t)
        for t in itertools.count()
        if math.hypot(*(error_at(a, b, 1.0, second, t) for second, a, b in axes)) <= TARGET * math.sqrt(2)
    )


def tuned(rule: str, kappa: float) -> dict[str, Any]:
    """Return theory's best settings on a canyon."""
    found = best_settings(rule, builtin.canyon(kappa))
    assert found is not None  # noqa: S101 - a canyon is quadratic
    return dict(found)


def double_root_rate(values: list[float], early: int, late: int) -> float:
    """Return the contraction of a path that goes like t r^t, from two of its points."""
    return math.exp((math.log(abs(values[late]) / late) - math.log(abs(values[early]) / early)) / (late - early))


def faster() -> Finding:
    """Race gradient descent and heavy ball, each at theory's best, on a canyon; then both on a sphere."""
    canyon, sphere, kappa = builtin.canyon(), builtin.sphere(), 100.0
    descent = steps_to_target("sgd", canyon, 1000, **tuned("sgd", kappa))
    ball = steps_to_target("momentum", canyon, 1000, **tuned("momentum", kappa))
    shallow = path("momentum", canyon, (1.0, 1.0), steps=120, **tuned("momentum", kappa)).points[0]
    same = 0.01
    return Finding(
        (
            Quantity(
                "steps of heavy ball, less steps of gradient descent, canyon",
                ball - descent,
                0,
                relation="<",
                unit="steps",
            ),
            Quantity(
                "steps of gradient descent to 1e-6, tuned, kappa = 100",
                descent,
                predicted_steps("sgd", kappa, tuned("sgd", kappa)),
                unit="steps",
            ),
            Quantity(
                "steps of heavy ball to 1e-6, tuned, kappa = 100",
                ball,
                predicted_steps("momentum", kappa, tuned("momentum", kappa)),
                unit="steps",
            ),
            # e_t = (1 + c t) r^t: log(e_t / t) has slope log r up to (1/c)(1/60 - 1/110)/50 < 2e-4.
            Quantity(
                "contraction of heavy ball, from log(|x|/t)",
                double_root_rate(shallow, 60, 110),
                best_rate("momentum", kappa),
                1e-3,
            ),
            Quantity(
                "sphere at the same eta = 0.01: steps of heavy ball, less gradient descent's",
                steps_to_target("momentum", sphere, 3000, lr=same) - steps_to_target("sgd", sphere, 3000, lr=same),
                0,
                relation="<",
                unit="steps",
            ),
            Quantity(
                "sphere, tuned: steps of gradient descent",
                steps_to_target("sgd", sphere, 10, lr=1.0),
                1,
                role="limit",
                unit="steps",
            ),
        ),
        "In a canyon momentum needs the square root of descent's steps; on a sphere it is ahead only at the same eta, "
        "since tuned descent needs a single step.",
        effect=descent / ball,
    )


def weighted_average() -> Finding:
    """Compare the velocity with the explicit sum of mu^i times past steps."""
    mu, rate = 0.9, 0.01
    run = path("momentum", builtin.canyon(), (5.0, 1.0), steps=60, lr=rate, momentum=mu)
    worst = 0.0
    for axis, curvature in zip(run.points, (1.0, 100.0), strict=True):
        moves = [-rate * curvature * x for x in axis]
        for t in range(1, 61):
            velocity = axis[t] - axis[t - 1]
            explicit = math.fsum(mu**i * moves[t - 1 - i] for i in range(t))
            worst = max(worst, abs(velocity - explicit) / max(map(abs, moves)))
    return Finding(
        (
            Quantity(
                "velocity, less sum of mu^i (-eta g_(t-i)), worst of 60 steps, over the largest step", worst, 0.0, 1e-12
            ),
        ),
        "The velocity is the sum of all past steps, each weighted by mu once for every step since.",
    )


def low_pass() -> Finding:
    """Feed white noise and an alternating signal to an average, then let SGD and heavy ball rattle in a bowl."""
    import numpy as np  # noqa: PLC0415 - populations only

    generator = np.random.default_rng(1)
    mu = 0.9
    average, alternating = np.zeros(CHAINS), 0.0
    for t in range(200):  # 0.9^200 = 7e-10: the start is forgotten
        average = mu * average + (1 - mu) * generator.standard_normal(CHAINS)
        alternating = mu * alternating + (1 - mu) * (-1) ** t
    spread = math.sqrt(2 / CHAINS)  # of a variance of normal numbers, relative

    def rattle(rule: str, **settings: float) -> float:
        chosen = RULES[rule]
        state = [np.zeros(CHAINS) for _ in range(1 + len(chosen.slots))]
        slowest = 1 / math.sqrt(settings.get("momentum", 1 - settings["lr"]))
        for t in range(1, 1 + math.ceil(10 / math.log(slowest))):
            gradient = state[0] + generator.standard_normal(CHAINS)
            after = chosen.update(state[0], gradient, t, *state[1:], **chosen.settings(settings))
            state = list(after) if isinstance(after, tuple) else [after]
        return float(state[0].var())

    resolution = 0.1  # a tenth: averaging without a limit would lower each variance 19 times

    def around(value: float) -> tuple[float, float]:
        return value * (1 - 3 * spread), value * (1 + 3 * spread)

    kept = float(average.var())
    eta = 0.1
    ball = rattle("momentum", lr=eta, momentum=mu)
    small = 0.005
    slow_ball = rattle("momentum", lr=small, momentum=mu)
    descent = rattle("sgd", lr=small / (1 - mu))
    ratio = slow_ball / descent
    ratio_theory = small * (1 + mu) / ((1 - mu) * (2 * (1 + mu) - small)) / (small / (1 - mu) / (2 - small / (1 - mu)))
    return Finding(
        (
            Quantity(
                "variance of averaged white noise, mu = 0.9, (1-mu)/(1+mu)",
                kept,
                (1 - mu) / (1 + mu),
                resolution,
                interval=around(kept),
                relative=True,
            ),
            Quantity("gain at period 2, (1-mu)/(1+mu)", abs(alternating), (1 - mu) / (1 + mu), 1e-8),
            Quantity(
                "variance of the ball round the minimum of x^2/2, eta = 0.1",
                ball,
                eta * (1 + mu) / ((1 - mu) * (2 * (1 + mu) - eta)),
                resolution,
                interval=around(ball),
                relative=True,
            ),
            Quantity(
                "its variance over SGD's at equal eta/(1-mu), eta = 0.005: not smaller than theory's",
                ratio,
                ratio_theory,
                resolution,
                interval=(ratio * (1 - 5 * spread), ratio * (1 + 5 * spread)),
                relative=True,
                role="limit",
            ),
        ),
        "Averaging lowers the noise of the gradient 19 times, but the ball round the minimum rattles as widely as "
        "SGD's at the same effective rate eta/(1-mu): the filter lowers the noise of a step, not of the place.",
    )


def oscillating_rate(values: list[float], rule: str, settings: dict[str, float], curvature: float, t: int) -> float:
    """Return the contraction of an oscillating path: q_t = e_t^2 - a e_t e_(t-1) + b e_(t-1)^2 shrinks by b a step."""
    a, b = recurrence(rule, RULES[rule].settings(settings), curvature)

    def q(at: int) -> float:
        return values[at] ** 2 - a * values[at] * values[at - 1] + b * values[at - 1] ** 2

    return math.exp(math.log(q(t) / q(t // 2)) / (2 * (t - t // 2)))


def nesterov() -> Finding:
    """Measure both contractions at the same settings and at each one's best, and count steps."""
    canyon, kappa = builtin.canyon(), 100.0
    root = math.sqrt(kappa)
    pair: dict[str, Any] = {"lr": 1 / kappa, "momentum": (root - 1) / (root + 1)}
    shallow = path("nesterov", canyon, (1.0, 1.0), steps=200, **pair).points[0]
    heavy = path("momentum", canyon, (1.0, 1.0), steps=200, **pair).points[0]
    best = path("nesterov", canyon, (1.0, 1.0), steps=200, **tuned("nesterov", kappa)).points[0]
    rate = double_root_rate(shallow, 100, 180)
    usual = {"lr": 0.01, "momentum": 0.9}
    return Finding(
        (
            Quantity(
                "contraction at eta = 1/L, mu = (sqrt kappa-1)/(sqrt kappa+1), less heavy ball's there",
                rate - oscillating_rate(heavy, "momentum", pair, 1.0, 180),
                0.0,
                relation="<",
            ),
            # As for heavy ball: a double root on the shallow axis, and c of the order of 1 - r.
            Quantity("contraction at that pair, 1 - 1/sqrt kappa", rate, 1 - 1 / root, 1e-3),
            Quantity(
                "contraction at the best pair, 1 - 2/sqrt(3 kappa + 1)",
                double_root_rate(best, 100, 180),
                best_rate("nesterov", kappa),
                1e-3,
            ),
            Quantity(
                "steps to 1e-6 at that pair",
                steps_to_target("nesterov", canyon, 1000, **pair),
                predicted_steps("nesterov", kappa, pair),
                unit="steps",
            ),
            Quantity(
                "steps to 1e-6 at the defaults eta = 0.01, mu = 0.9, less heavy ball's",
                steps_to_target("nesterov", canyon, 1000, **usual) - steps_to_target("momentum", canyon, 1000, **usual),
                0,
                relation="<",
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
        "At the same eta and mu Nesterov contracts faster than standard momentum; each at its own best, heavy ball "
        "wins on quadratics.",
    )


def no_lookahead() -> Finding:
    """Follow phi = theta + mu v, whose gradient is taken where it stands, and torch.optim's form of it."""
    rate, mu, steps = 0.005, 0.9, 300
    run = path("nesterov", builtin.canyon(), (5.0, 1.0), steps=steps, lr=rate, momentum=mu)
    worst = {"phi": 0.0, "torch": 0.0, "torch, rate halved": math.inf}
    far = 0.0
    for axis, curvature in zip(run.points, (1.0, 100.0), strict=True):
        ahead = [axis[0]] + [axis[t] + mu * (axis[t] - axis[t - 1]) for t in range(1, steps + 1)]
        phi, velocity = axis[0], 0.0
        place, buffer = axis[0], 0.0
        for t in range(steps + 1):
            scale = max(map(abs, axis))
            worst["phi"] = max(worst["phi"], abs(phi - ahead[t]) / scale)
            worst["torch"] = max(worst["torch"], abs(place - ahead[t]) / scale)
            before, velocity = velocity, mu * velocity - rate * curvature * phi
            phi = phi - mu * before + (1 + mu) * velocity
            gradient = curvature * place
            buffer = mu * buffer + gradient
            place = place - rate * (gradient + mu * buffer)
        far = max(far, abs(ahead[-1]))
    return Finding(
        (
            Quantity(
                "phi's path, less theta + mu v, worst of 300 steps, over the path's size", worst["phi"], 0.0, 1e-12
            ),
            Quantity("torch.optim's path, less theta + mu v, likewise", worst["torch"], 0.0, 1e-12),
        ),
        "Written in phi = theta + mu v, the gradient is taken where the parameters stand, and the path is the same.",
    )


def conditioning() -> Finding:
    """Count the steps to the target of tuned gradient descent and heavy ball from kappa = 10 to 10,000."""
    kappas = (10.0, 100.0, 1e3, 1e4)
    steps = {
        rule: [steps_to_target(rule, builtin.canyon(kappa), cap, **tuned(rule, kappa)) for kappa in kappas]
        for rule, cap in (("sgd", 80_000), ("momentum", 2_000))
    }
    slopes = {rule: math.log10(found[-1] / found[-2]) for rule, found in steps.items()}
    return Finding(
        (
            # Steps go like sqrt kappa (ln 1e6 + ln t)/2: ten times kappa adds ln(sqrt 10) to about 17 in the bracket.
            Quantity("exponent of kappa in heavy ball's steps, kappa = 1e3 to 1e4", slopes["momentum"], 0.5, 0.05),
            Quantity("exponent of kappa in gradient descent's steps", slopes["sgd"], 1.0, 0.01),
        ),
        "Gradient descent's steps grow like kappa, momentum's like its square root.",
        figure={"kappas": kappas, "steps": steps},
    )
