"""Lowest values and distances: valleys, periodic surfaces, singular quadratics, and claims that a run undercuts."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from mlcv_bench import race
from mlcv_bench.optimizers.rule import RULES
from mlcv_bench.report.races import sweep_report
from mlcv_bench.surface_race.engines import BelowMinimumError
from mlcv_bench.surface_race.program import Problem, Start
from mlcv_bench.surface_race.race import corrected, lr_sweep
from mlcv_bench.surface_race.request import SweepRequest
from mlcv_bench.surfaces.catalog import find
from mlcv_bench.surfaces.minima import distance_to_minimum
from mlcv_bench.surfaces.surface import rotate

ENDLESS = "It falls without end: it has no lowest point."
VALLEY = "Its lowest points are a valley: the distance is to the nearest of them."
PLACES = st.floats(-4.5, 4.5)


@pytest.mark.parametrize(
    ("text", "minimum", "curvatures"),
    [
        ("(x + y - 3)^2", 0.0, [4.0]),
        ("(0.1x + 0.3y)^2 - 7", -7.0, [0.2]),
        ("x^2 - 2x + 0*y", -1.0, [2.0]),
        ("(x + 2y - z)^2 + (x - 1)^2", 0.0, [7 - math.sqrt(29), 7 + math.sqrt(29)]),
        ("(a + b + c + d)^2/2 + 5", 5.0, [4.0]),
        ("(x - y)^2 + 2(x - y)", -1.0, [4.0]),
        ("(pi x + e y - 1)^2", 0.0, [2 * (math.pi**2 + math.e**2)]),
    ],
)
def test_a_singular_quadratic_has_its_lowest_value_and_its_curvatures(text, minimum, curvatures):
    surface = find(text)
    assert surface.minimum == minimum
    assert surface.quadratic.curvatures == pytest.approx(curvatures, rel=1e-12)
    assert surface.valley
    assert VALLEY in surface.remarks
    assert surface.value(*surface.minima[0]) == pytest.approx(minimum, abs=1e-14)


@pytest.mark.parametrize(
    "text", ["(x + y - 3)^2 + x", "x*y", "-(x + y)^2", "x^2 - y^2", "x + 2y", "-x^2", "x^2 + y + 0*z"]
)
def test_what_falls_without_end_is_said_to(text):
    surface = find(text)
    assert (surface.minimum, surface.minima, surface.quadratic) == (None, (), None)
    assert surface.remarks == (ENDLESS,)
    assert ENDLESS in race(surface, ["sgd"], steps=3, protocols=("default",)).report().notes


@given(coefficients=st.lists(st.integers(-5, 5), min_size=4, max_size=4), point=st.tuples(PLACES, PLACES, PLACES))
@settings(max_examples=15, deadline=None)
def test_the_distance_to_a_plane_or_a_line_is_the_projections(coefficients, point):
    a, b, c, d = coefficients
    rows = np.array([[a, b, c], [1, -1, 2]]) if a != -b or c != 2 * a else np.array([[1, -1, 2]])
    right = np.array([d, 1])[: len(rows)]
    text = " + ".join(f"({p}*x + ({q})*y + ({r})*z - ({s}))^2" for (p, q, r), s in zip(rows, right, strict=True))
    if np.linalg.matrix_rank(rows) < len(rows):
        return
    away = np.array(point) - np.linalg.pinv(rows) @ right
    wanted = np.linalg.norm(np.linalg.pinv(rows) @ rows @ away)
    assert distance_to_minimum(find(text), point) == pytest.approx(wanted, abs=1e-12)


HYPERBOLA, CIRCLE, SINE, TILES = (find(t) for t in ("(x*y - 1)^2", "(x^2 + y^2 - 4)^2", "sin(x)", "sin(3x) sin(3y)"))


def to_hyperbola(x, y):
    branches = []
    for sign in (1, -1):
        steps = np.linspace(-3.5, 3.5, 4001)
        distances = np.hypot(sign * np.exp(steps) - x, sign * np.exp(-steps) - y)
        best = steps[distances.argmin()]

        def square(u, sign=sign):
            return (sign * math.exp(u) - x) ** 2 + (sign * math.exp(-u) - y) ** 2

        found = minimize_scalar(square, bounds=(best - 0.01, best + 0.01), method="bounded", options={"xatol": 1e-12})
        branches.append(math.sqrt(found.fun))
    return min(branches)


@given(x=PLACES, y=PLACES)
@settings(max_examples=25, deadline=None)
def test_the_distance_to_a_curved_valley(x, y):
    assert distance_to_minimum(HYPERBOLA, (x, y)) == pytest.approx(to_hyperbola(x, y), rel=1e-6, abs=1e-7)
    if math.hypot(x, y) > 0.1:
        assert distance_to_minimum(CIRCLE, (x, y)) == pytest.approx(abs(math.hypot(x, y) - 2), rel=1e-6, abs=1e-7)


@given(x=st.floats(-60, 60), aside=st.floats(-1.5, 1.5))
@settings(max_examples=25, deadline=None)
def test_minima_without_end_are_found_beside_every_point(x, aside):
    period = 2 * math.pi
    nearest = round((x + math.pi / 2) / period) * period - math.pi / 2
    point = nearest + aside
    assert distance_to_minimum(SINE, (point,)) == pytest.approx(abs(aside), abs=1e-9)
    # More minima than the search keeps: sin(3x) sin(3y) is -1 where one is 1 and the other -1.
    x, y = (nearest / 12, point / 4)
    grid = [math.pi / 6 + k * math.pi / 3 for k in range(-40, 40)]
    wanted = min(
        math.hypot(x - a, y - b)
        for i, a in enumerate(grid)
        for b in grid[(i + 1) % 2 :: 2]
        if abs(a - x) + abs(b - y) < 4
    )
    assert distance_to_minimum(TILES, (x, y)) == pytest.approx(
        wanted, abs=0.75
    )  # the one below, which may be the second nearest


def test_a_valley_is_not_a_flat_minimum():
    assert HYPERBOLA.valley
    assert CIRCLE.valley
    for text in ("x^4 + y^2", "(x^2 - 1)^4 + y^2", "(x^2 - 1)^2 + y^2", "sin(x) + cos(y)"):
        assert not find(text).valley
    assert distance_to_minimum(find("(x^2 - 1)^4 + y^2"), (3.0, 3.0)) == pytest.approx(math.sqrt(13), rel=1e-9)


@pytest.mark.parametrize(
    ("text", "minimum", "place"), [("(x - 20)^4 + 1", 1.0, (20.0,)), ("-exp(-(x - 8)^2)", -1.0, (8.0,))]
)
def test_minima_outside_the_searched_box_are_found_from_its_border(text, minimum, place):
    surface = find(text)
    assert surface.minimum == pytest.approx(minimum, abs=1e-12)
    assert surface.minima[0] == pytest.approx(place, abs=1e-3)
    assert surface.box[0][0] <= place[0] <= surface.box[0][1]


@pytest.mark.parametrize("text", ["exp(-x) + y^2", "1/(1 + x^2)", "exp(x)"])
def test_what_falls_for_ever_towards_a_value_has_no_minimum(text):
    assert find(text).minimum is None


def test_a_level_washboard_has_wells_without_end():
    level = find("washboard:force=0")
    assert level.minimum == level.value(*level.minima[0]) == -1.0
    assert distance_to_minimum(level, (2 * math.pi * 9 + 0.25, 0.0)) == pytest.approx(0.25)
    assert find("washboard").minimum is None


@pytest.mark.parametrize(
    ("surface", "start", "distance"),
    [("sin(x)", (20.0,), 1e-3), ("(x*y-1)**2", (4.5, 1.0), 1e-12), ("(x+y-3)**2", (4.5, 1.0), 1e-12)],
)
def test_a_run_that_arrives_has_no_distance(surface, start, distance):
    (row,) = race(surface, ["sgd"], start=start, protocols=("default",)).results
    assert row.outcome == "converged"
    assert row.distance <= distance
    if surface == "(x+y-3)**2":
        assert row.predicted_hit == row.first_hit == 170


@pytest.mark.parametrize("engine", ["scalar", "lanes"])
def test_a_run_below_the_claimed_lowest_value_corrects_it(engine):
    # The search sees [-5, 5]; from 8 the run ends in the next well of x sin x, at tan x = -x.
    well = 11.085538406497022
    found = race("x*sin(x)", ["sgd"], start=(8.0,), protocols=("default",), engine=engine)
    assert found.surface.minimum == pytest.approx(well * math.sin(well), abs=1e-12)
    assert found.results[0].outcome == "converged"
    assert found.results[0].distance == pytest.approx(0, abs=1e-9)
    (said,) = found.warnings
    assert "f* was taken to be -4.81447, but sgd at rate 0.01 went down to -11.0407" in said
    assert found.report().details["minimum"] == found.surface.minimum


@pytest.mark.parametrize("order", [1, -1])
def test_the_lowest_of_several_undercutting_runs_decides(order):
    surface, rule = find("x*sin(x)"), RULES["sgd"]
    problem = Problem(rule, {"lr": 0.01}, surface)
    runs = [(problem, Start(i, (x,))) for i, x in enumerate((8.0, 14.5, 9.0))][::order]
    found, said = corrected(BelowMinimumError(runs), 0)
    # Where the slope is zero, tan x = -x; x = 11.09 and 17.34 are such wells.
    assert found.minima[0] == pytest.approx((17.33637792398336,), abs=1e-9)
    assert found.minimum == pytest.approx(-math.sqrt(17.33637792398336**4 / (1 + 17.33637792398336**2)), abs=1e-9)
    assert "went down to -17.3076" in said
    assert set(surface.minima) <= set(found.local_minima)
    assert distance_to_minimum(found, (10.0,)) == pytest.approx(17.33637792398336 - 10)
    assert corrected(BelowMinimumError(runs), 5)[0].minimum is None


def test_what_has_no_lowest_value_after_all_is_said_to_have_none():
    found = race("x*sin(x)", ["sgd"])
    assert found.surface.minimum is None
    assert all(row.first_hit is None and row.distance is None for row in found.results)
    assert "no lowest point is known" in found.warnings[0]
    # It falls for ever beyond |x| = 31; the well at 1 is not its lowest point.
    swept = lr_sweep(SweepRequest("(x^2 - 1)^2 - 0.001x^6", ("sgd",)))
    assert "no lowest point is known" in sweep_report(swept).warnings[0]
    assert swept.swept[0].sweeps[0].hit_any is False


def test_a_users_own_claim_is_corrected_too():
    false = dataclasses.replace(find("canyon"), minimum=1.0, minima=((1.0, 0.0),))
    found = race(false, ["sgd"], protocols=("default",))
    true = race("canyon", ["sgd"], protocols=("default",))
    assert found.surface.minimum == pytest.approx(0, abs=1e-20)
    assert (found.results[0].first_hit, found.results[0].outcome) == (true.results[0].first_hit, "converged")


def test_rounding_is_no_lower_point():
    found = race("x**2 - 2e4*x + 1e8 + y**2", ["sgd", "momentum"], start=(10001.0, 1.0))
    assert found.warnings == ()


@pytest.mark.parametrize("text", ["(x*y - 1)^2", "(x + y - 3)^2", "cos(x) + cos(y)"])
def test_a_turned_surface_has_the_same_distances(text):
    plain, turned = find(text), find(text, rotate=37.0)
    for point in ((3.0, 2.0), (-1.0, 4.0), (9.0, 12.0)):
        assert distance_to_minimum(turned, rotate(point, 37.0)) == pytest.approx(
            distance_to_minimum(plain, point), abs=1e-7
        )
