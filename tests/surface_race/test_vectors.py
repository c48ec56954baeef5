"""One long vector: the scalar engine's numbers where both can run, closed forms where only the vector form can."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from mlcv_bench.errors import UsageError
from mlcv_bench.optimizers.rule import RULES, read
from mlcv_bench.surface_race import metrics
from mlcv_bench.surface_race.floats import Runner
from mlcv_bench.surface_race.program import Problem
from mlcv_bench.surface_race.request import random_start
from mlcv_bench.surface_race.vectors import VectorRunner
from mlcv_bench.surfaces.builtin import long_quadratic
from mlcv_bench.surfaces.catalog import find

STEPS = 120


def both_forms(name, dim, noise=0.0):
    """Return a surface with every coordinate written out, and the same in vector form."""
    written = find(name, dim=dim, noise=noise)
    vector = long_quadratic(name, written.formula, written.quadratic.curvatures, written.start, written.box)
    return written, dataclasses.replace(vector, noise=noise)


@pytest.mark.parametrize("optimizer", RULES)
@pytest.mark.parametrize(("name", "noise"), [("sphere", 0.0), ("quadratic", 0.0), ("quadratic", 0.1)])
def test_both_forms_give_the_same_numbers(name, noise, optimizer):
    rule = RULES[optimizer]
    for dim in (2, 10, 64):
        written, vector = both_forms(name, dim, noise)
        scalar, wide = Runner(rule, written), VectorRunner(rule, vector)
        start = random_start(written, 0, 3)
        for lr in (rule.defaults["lr"], 0.019, 30.0):
            settings = rule.settings({"lr": lr})
            problem = Problem(rule, settings, vector, STEPS)
            trace = scalar.trace(dataclasses.replace(problem, surface=written), start)
            alone = metrics.measure(dataclasses.replace(problem, surface=written), trace)
            path = np.full((STEPS + 1, 2), np.nan)
            run = wide.run(problem, np.array([start.point]), numbers=[start.number], path=path)
            beside = metrics.ending(problem, start.point, run.summary(problem, 0))
            kept = len(trace.values)
            assert path[:kept, 0] == pytest.approx(trace.values, rel=1e-12)
            assert path[:kept, 1] == pytest.approx([math.hypot(*trace.point(t)) for t in range(kept)], rel=1e-12)
            assert np.isnan(path[kept:]).all()
            for field in ("steps", "first_hit", "last_exit", "outcome", "diverged_at", "sign_flips"):
                assert getattr(beside, field) == getattr(alone, field)
            assert beside.path_ratio == pytest.approx(alone.path_ratio, rel=1e-12)
            assert beside.point == pytest.approx(alone.point, rel=1e-12, abs=1e-12 * max(map(abs, alone.point)))
            # A sweep of rates runs the same runs.
            swept = wide.run(problem, np.array([start.point]), rates=[1e-3, lr], numbers=[start.number])
            assert (swept.first_hit[1], swept.last_exit[1]) == (run.first_hit[0], run.last_exit[0])
            assert swept.final_value[1:] == pytest.approx(run.final_value, rel=0, nan_ok=True)


def test_gradient_descent_in_many_dimensions_follows_its_closed_form():
    surface = find("quadratic", dim=100_000)
    rule = RULES["sgd"]
    h = 100.0 ** (np.arange(100_000) / 99_999)
    problem = Problem(rule, {"lr": 0.015}, surface, 40)
    path = np.empty((41, 2))
    run = VectorRunner(rule, surface).run(problem, np.array([surface.start]), path=path)
    for t in (0, 1, 7, 40):
        x = (1 - 0.015 * h) ** t
        assert path[t] == pytest.approx([math.fsum(0.5 * h * x * x), np.linalg.norm(x)], rel=1e-12)
    assert run.points[0] == pytest.approx(x, rel=1e-12)
    # The steepest coordinate is the last: 1 - 0.015 * 100 is negative, so that every step crosses.
    assert run.flips[0] == 40


def test_runs_do_not_depend_on_threads_or_on_each_other():
    surface = find("quadratic", dim=1000, noise=0.01)
    rule = RULES["adam"]
    problem = Problem(rule, rule.settings({"lr": 0.01}), surface, 30)
    points = np.random.default_rng(0).uniform(-2, 2, (3, 1000))
    runner = VectorRunner(rule, surface)
    one, two = (runner.run(problem, points, rates=[0.01, 50.0], threads=threads) for threads in (1, 2))
    assert one.final_value.tobytes() == two.final_value.tobytes()
    last = runner.run(problem, points[2:], numbers=[2])
    assert last.final_value[0] == one.final_value[2]


def test_a_rule_that_is_more_than_arithmetic_runs_on_a_vector():
    def clipped(x, g, t, lr=0.1):
        step = lr * g
        step = min(step, 0.5)
        return x - step

    written, vector = both_forms("quadratic", 5)
    rule = read(clipped)
    start = random_start(written, 0, 0)
    alone = Runner(rule, written).trace(Problem(rule, {"lr": 0.01}, written, 50), start)
    run = VectorRunner(rule, vector).run(Problem(rule, {"lr": 0.01}, vector, 50), np.array([start.point]))
    assert run.points[0] == pytest.approx(alone.point(-1), rel=1e-12)


def test_a_long_surface_answers_as_a_written_one():
    written, vector = both_forms("quadratic", 7)
    point = [0.3 * i - 1 for i in range(7)]
    assert vector.value(*point) == pytest.approx(written.value(*point), rel=1e-15)
    assert vector.gradient(*point) == pytest.approx(written.gradient(*point), rel=1e-15)
    assert vector.newton_direction(point, 0.5) == pytest.approx(written.newton_direction(point, 0.5), rel=1e-14)
    assert (vector.mu, vector.L, vector.quadratic.steep_axis) == (
        *(written.mu, written.L),
        written.quadratic.steep_axis,
    )


@pytest.mark.parametrize(
    ("name", "settings", "says"),
    [
        ("sphere", {"dim": 10**6 + 1}, "from 1 to 1000000, not 1000001"),
        ("rosenbrock", {"dim": 65}, "from 2 to 64, not 65; sphere and quadratic go up to 1000000"),
        ("rastrigin", {"dim": 1000}, "sphere and quadratic go up to 1000000"),
        ("sphere", {"dim": 100, "rotate": 10.0}, "rotated in up to 64 coordinates, and sphere has 100"),
    ],
)
def test_what_cannot_be_so_long_is_one_clear_sentence(name, settings, says):
    with pytest.raises(UsageError, match=says):
        find(name, **settings)
