"""The closed forms of the notes' first chapter, met by the public interface: rates, flips, floors, bounds, escapes."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mlcv_bench import race
from mlcv_bench.expression import function_from
from mlcv_bench.optimizers.rule import RULES, find
from mlcv_bench.surface_race import program as programs
from mlcv_bench.surface_race import theory
from mlcv_bench.surface_race.engines import engine_for
from mlcv_bench.surface_race.floats import Runner
from mlcv_bench.surface_race.metrics import measure
from mlcv_bench.surface_race.program import Problem, Start
from mlcv_bench.surfaces import catalog
from mlcv_bench.surfaces.newton import direction

L, MU = 100.0, 1.0


def trace_of(optimizer, surface="canyon", steps=1000, start=None, **surface_settings):
    rule, own = find(optimizer)
    place = catalog.find(surface, **surface_settings) if isinstance(surface, str) else surface
    problem = Problem(rule, rule.settings(own), place, steps)
    point = start or place.start
    trace = Runner(rule, place).trace(problem, Start(0, point))
    return problem, trace


@pytest.mark.parametrize("share", [0.5, 0.9, 1.0, 1.5, 1.9, 2.0])
def test_one_step_of_gradient_descent_on_a_sphere(share):
    _, trace = trace_of(f"sgd:lr={share}", "sphere", steps=1)
    assert abs(trace.point(1)[0] / trace.point(0)[0]) == pytest.approx(abs(1 - share), abs=1e-15)


@pytest.mark.parametrize(("share", "flips"), [(1.9, 1.0), (0.9, 0.0)])
def test_the_steep_axis_flips_past_one_over_l(share, flips):
    problem, trace = trace_of(f"sgd:lr={share / L}", steps=200)
    assert measure(problem, trace).sign_flips == flips


def test_the_loss_falls_while_the_path_oscillates():
    problem, trace = trace_of(f"sgd:lr={1.9 / L}", steps=200)
    assert all(b < a for a, b in zip(trace.values, trace.values[1:], strict=False))
    assert measure(problem, trace).sign_flips == 1.0


def rate_of(trace, double=False):
    """Fit the factor a step over the last half of the path, of |x|, or of |x| / t at a double root."""
    steps = range(len(trace.values) // 2, len(trace.values))
    sizes = [math.hypot(*trace.point(t)) / (t if double else 1) for t in steps]
    logs = [math.log(size) for size in sizes]
    mean_t, mean_log = sum(steps) / len(logs), sum(logs) / len(logs)
    slope = sum((t - mean_t) * (log - mean_log) for t, log in zip(steps, logs, strict=True))
    return math.exp(slope / sum((t - mean_t) ** 2 for t in steps))


def best(name, **settings):
    found = theory.best_settings(name, catalog.find("canyon", **settings))
    return f"{name}:" + ",".join(f"{key}={value!r}" for key, value in found.items())


def test_the_best_rates_of_the_notes():
    _, trace = trace_of(best("sgd"))
    assert rate_of(trace) == pytest.approx(99 / 101, rel=1e-9)
    _, trace = trace_of(best("momentum"), steps=300)
    assert rate_of(trace, double=True) == pytest.approx(9 / 11, rel=2e-3)
    root = (math.sqrt(100) - 1) / (math.sqrt(100) + 1)
    _, trace = trace_of(f"nesterov:lr=0.01,momentum={root!r}", steps=300)
    assert rate_of(trace, double=True) == pytest.approx(0.9, rel=2e-3)
    _, trace = trace_of(best("nesterov"), steps=300)
    assert rate_of(trace, double=True) == pytest.approx(0.88472, rel=2e-3)
    canyon = catalog.find("canyon")
    contraction = theory.contraction("nesterov", theory.best_settings("nesterov", canyon), canyon)
    assert contraction == pytest.approx(0.88472, abs=5e-6)


@pytest.mark.parametrize(("name", "steps"), [("sgd", 691), ("momentum", 93), ("nesterov", 155)])
def test_steps_to_a_millionth_of_the_distance(name, steps):
    # The distances of the recorded anchors: from (1, 1), and Nesterov at lr = 1/L.
    text = best(name) if name != "nesterov" else f"nesterov:lr=0.01,momentum={9 / 11!r}"
    _, trace = trace_of(text, start=(1.0, 1.0))
    first = next(t for t in range(1001) if math.hypot(*trace.point(t)) <= 1e-6 * math.sqrt(2))
    assert first == pytest.approx(steps, abs=12)


@pytest.mark.parametrize("condition", [1.0, 10.0, 100.0])
@pytest.mark.parametrize("degrees", [0.0, 30.0])
def test_the_closed_form_predicts_the_first_hit(condition, degrees):
    result = race("canyon", ["sgd", "momentum", "nesterov", "newton"], condition=condition, rotate=degrees)
    checked = [row for row in result.results if row.first_hit is not None]
    assert checked
    for row in checked:
        assert row.predicted_hit == row.first_hit, row
    assert all(row.predicted_hit is None for row in result.results if row.first_hit is None)


@pytest.mark.parametrize(
    "optimizer",
    [
        "sgd:lr=0.003",
        "momentum:lr=0.02,momentum=0.5",
        "momentum:lr=0.001,momentum=0.95",
        "nesterov:lr=0.004,momentum=0.8",
        "newton:lr=0.3,damping=4",
        "sgd:lr=0.03",
        "momentum:lr=0.05,momentum=0.3",
    ],
)
@pytest.mark.parametrize("condition", [1.0, 7.0, 100.0])
def test_contraction_is_the_spectral_radius_of_the_step(optimizer, condition):
    # The step of (e, v) along an axis, written from the notes' rules; its eigenvalues are numpy's.
    rule, own = find(optimizer)
    hyper = rule.settings(own)
    surface = catalog.find("canyon", condition=condition)
    lr, mu = hyper["lr"], hyper.get("momentum", 0.0)
    radii = []
    for h in (1.0, condition):
        if rule.name == "newton":
            step = [[1 - lr * h / (h + hyper["damping"])]]
        else:
            # v' = mu v - lr h (e + mu v if Nesterov's); e' = e + v'
            ahead = mu if rule.name == "nesterov" else 0.0
            step = [[1 - lr * h, mu - lr * h * ahead], [-lr * h, mu - lr * h * ahead]]
        radii.append(max(abs(np.linalg.eigvals(np.array(step)))))
    assert theory.contraction(rule.name, hyper, surface) == pytest.approx(max(radii), rel=1e-7)


def test_the_dashed_slope_of_a_picture_is_the_slowest_decay():
    from mlcv_bench.report.plots.race_data import contraction_of

    found = race("canyon", ["sgd", "momentum:lr=0.001"], protocols=("default",))
    # lr = 0.01: along x by 0.99 a step, along y at once; momentum 0.9 at 0.001: sqrt(0.9) along y, slower along x.
    assert contraction_of(found, "sgd", "default") == pytest.approx(0.99, rel=1e-12)
    slow = (1.899 + math.sqrt(1.899**2 - 3.6)) / 2
    assert contraction_of(found, "momentum:lr=0.001", "default") == pytest.approx(slow, rel=1e-12)


@pytest.mark.parametrize("engine", ["scalar", "lanes"])
@pytest.mark.parametrize(
    ("surface", "degrees"), [("canyon", 0.0), ("canyon", 30.0), ("quadratic:dim=4", 0.0), ("quadratic:dim=4", 25.0)]
)
@pytest.mark.parametrize("damping", [0.0, 0.7, 30.0])
def test_newtons_step_solves_the_damped_system(engine, surface, degrees, damping):
    place = catalog.find(surface, rotate=degrees)
    if engine != "scalar" and place.dimension > 2 and degrees:
        pytest.skip("elimination runs on floats only")
    rule = RULES["newton"]
    start = Start(0, tuple(1.0 + 0.3 * i for i in range(place.dimension)))
    problem = Problem(rule, {"lr": 0.5, "damping": damping}, place, 1)
    worker = engine_for(problem, engine)
    (end,) = worker.endings(problem, [start]).points
    hessian = np.array(place.hessian(*start.point)) + damping * np.eye(place.dimension)
    wanted = np.array(start.point) - 0.5 * np.linalg.solve(hessian, np.array(place.gradient(*start.point)))
    assert end == pytest.approx(wanted, rel=1e-12)


INTEGERS = st.integers(-1000, 1000)


@given(a=INTEGERS, b=INTEGERS, d=INTEGERS, x=INTEGERS, y=INTEGERS)
@settings(max_examples=200, deadline=None)
def test_two_equations_of_whole_numbers_are_solved_exactly(a, b, d, x, y):
    # Cramer's rule divides once, at the end: an inverse rounds twice.
    assume(a * d != b * b)
    lines = programs._direction(2, "0.0", diagonal=False)
    solved = function_from("solve", ["h00", "h01", "h11", "g0", "g1"], [*lines, "return g0, g1"], {})
    assert solved(float(a), float(b), float(d), float(a * x + b * y), float(b * x + d * y)) == (x, y)


@pytest.mark.parametrize("size", [3, 5, 8])
def test_elimination_leaves_a_residual_of_rounding_alone(size):
    # Solving by an inverse leaves one as large as the condition number, here up to 1e10, times rounding.
    hilbert = [[1 / (i + j + 1) for j in range(size)] for i in range(size)]
    for seed in range(20):
        generator = np.random.default_rng(seed)
        gradient = np.array(hilbert) @ generator.standard_normal(size)
        found = direction(hilbert, gradient.tolist())
        left = [
            abs(sum(Fraction(h) * Fraction(x) for h, x in zip(row, found, strict=True)) - Fraction(float(g)))
            for row, g in zip(hilbert, gradient, strict=True)
        ]
        assert max(left) <= 4 * size * 2.0**-53 * max(map(abs, found))


def test_elimination_pivots():
    assert direction([[1e-20, 1.0], [1.0, 1.0]], [1.0, 2.0]) == (1.0, 1.0)
    assert direction([[0.0, 1.0], [1.0, 0.0]], [2.0, 3.0]) == (3.0, 2.0)


def test_newton_takes_one_step_on_a_turned_canyon():
    _, trace = trace_of("newton", rotate=30.0, steps=1)
    assert math.hypot(*trace.point(1)) / math.hypot(*trace.point(0)) <= 100 * 2.3e-16


def test_newton_is_drawn_to_the_saddle():
    result = race("saddle", ["newton"], start=(1.0, 0.1), protocols=("default",))
    assert result.results[0].outcome == "saddle"


def test_gradient_descent_leaves_the_saddle_on_time():
    _, trace = trace_of("sgd:lr=0.1", "saddle", start=(1.0, 1e-6))
    first = next(t for t in range(1001) if abs(trace.point(t)[1]) >= 0.1)
    assert first == math.ceil(math.log(0.1 / 1e-6) / math.log(1.1)) == 121
    result = race("saddle", ["sgd:lr=0.1"], start=(1.0, 0.0), protocols=("default",))
    assert result.results[0].outcome == "saddle"


def test_adagrads_and_rmsprops_first_and_last_steps():
    _, trace = trace_of("rmsprop:lr=0.01,beta=0.99", "sphere", steps=1)
    assert abs(trace.point(1)[0] - trace.point(0)[0]) == pytest.approx(0.1, rel=1e-6)
    for condition in (1.0, 100.0):
        _, trace = trace_of("rmsprop:lr=0.01", "canyon", steps=3000, condition=condition)
        assert abs(trace.point(-1)[0]) == pytest.approx(0.005, rel=1e-3)
    _, trace = trace_of("adagrad", "sphere", steps=1)
    assert abs(trace.point(1)[0] - trace.point(0)[0]) == pytest.approx(0.01, rel=1e-6)


def drive(name, gradients, **settings):
    """Feed a rule a sequence of gradients in one coordinate and return its steps."""
    rule = RULES[name]
    hyper = {**rule.defaults, **settings}
    x, slots, steps = 0.0, [0.0] * len(rule.slots), []
    for t, g in enumerate(gradients, start=1):
        moved, *slots = rule.update(x, g, t, *slots, **hyper)
        steps.append(moved - x)
        x = moved
    return steps


def test_adams_bounds():
    assert drive("adam", [3.0], lr=1.0)[0] == pytest.approx(-1.0, rel=1e-7)
    constant = drive("adam", [3.0] * 50, lr=1.0, eps=0.0)
    assert constant == pytest.approx([-1.0] * 50, rel=1e-12)
    late = drive("adam", [0.0] * 20000 + [1.0], lr=1.0)
    assert abs(late[-1]) == pytest.approx((1 - 0.9) / math.sqrt(1 - 0.999), rel=1e-6)
    growing = drive("adam", [0.0] * 20000 + [(0.999 / 0.9) ** t for t in range(400)], lr=1.0, eps=1e-30)
    bound = (1 - 0.9) / math.sqrt((1 - 0.999) * (1 - 0.9**2 / 0.999))
    assert abs(growing[-1]) == pytest.approx(bound, rel=1e-4)
    assert bound == pytest.approx(7.2703, abs=5e-5)


def test_adam_without_eps_does_not_see_the_scale_of_an_axis():
    def xs(condition):
        _, trace = trace_of("adam:lr=0.1,eps=0", "canyon", steps=300, condition=condition, start=(1.0, 1.0))
        return trace.points[1]

    assert xs(1.0) == pytest.approx(xs(1e6), rel=1e-12, abs=1e-15)


def test_momentum_is_rotation_invariant_and_adam_is_not():
    def steps(optimizer):
        plain = race("canyon", [optimizer], protocols=("default",)).results[0]
        turned = race("canyon", [optimizer], rotate=45.0, protocols=("default",)).results[0]
        return plain.first_hit, turned.first_hit

    assert len(set(steps("momentum"))) == 1
    assert len(set(steps("adam:lr=0.1"))) == 2


@pytest.mark.parametrize(("force", "lr"), [(0.05, 0.01), (0.1, 0.02)])
def test_the_critical_momentum_of_the_washboard(force, lr):
    # From a barrier's top, a run with more momentum than critical crosses the next barrier, one with less does not.
    wanted = math.pi / 4 * force * math.sqrt(lr)

    def escapes(friction):
        start = (-math.pi - math.asin(force) + 1e-6, 0.0)
        text = f"momentum:lr={lr},momentum={1 - friction!r}"
        _, trace = trace_of(text, f"washboard:force={force}", steps=40000, start=start)
        return max(trace.points[0]) > math.pi - math.asin(force) + 0.1

    assert escapes(0.93 * wanted)
    assert not escapes(1.07 * wanted)


def test_the_limits_of_adam_with_l2_and_with_decay():
    surface = catalog.find("2*(x - 3)**2")
    lr, decay = 1e-3, 0.5
    problem = Problem(RULES["adam_l2"], {**RULES["adam_l2"].defaults, "lr": lr, "weight_decay": decay}, surface, 40000)
    trace = Runner(problem.rule, surface).trace(problem, Start(0, (0.0,)))
    assert trace.point(-1)[0] == pytest.approx(4 * 3 / 4.5, abs=5e-3)
    name = "adamw_torch"
    problem = Problem(RULES[name], {**RULES[name].defaults, "lr": lr, "weight_decay": decay}, surface, 40000)
    trace = Runner(problem.rule, surface).trace(problem, Start(0, (0.0,)))
    assert trace.point(-1)[0] == pytest.approx(2.0, abs=5e-3)


def test_the_ball_round_the_minimum_of_a_noisy_momentum():
    lr, mu = 0.1, 0.9
    _, trace = trace_of(f"momentum:lr={lr},momentum={mu}", "sphere", steps=60000, start=(0.0, 0.0), noise=1.0)
    values = trace.points[0][1000:] + trace.points[1][1000:]
    variance = sum(value * value for value in values) / len(values)
    assert variance == pytest.approx(lr * (1 + mu) / ((1 - mu) * (2 * (1 + mu) - lr)), rel=0.06)


def test_the_noise_of_a_mini_batch_shrinks_as_theory_says():
    # Variance of the mini-batch gradient, drawn without replacement: sigma^2 (N - B) / (B (N - 1)).
    from mlcv_bench.surfaces.finite_sum import batches

    for size in (4, 16, 48):
        surface = catalog.find("regression", batch_size=size)
        samples = surface.finite_sum.samples
        point = surface.start
        per_sample = [a * (a * point[0] + b * point[1] - c) for a, b, c in samples]
        mean = sum(per_sample) / len(samples)
        sigma2 = sum((g - mean) ** 2 for g in per_sample) / len(samples)
        drawn = [
            sum(per_sample[i] for i in batch) / len(batch) for batch in batches(surface, seed=1, start=0, steps=6000)
        ]
        variance = sum((g - mean) ** 2 for g in drawn) / len(drawn)
        wanted = sigma2 * (96 - size) / (size * 95)
        assert variance / wanted == pytest.approx(1, abs=0.08)
