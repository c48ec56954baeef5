"""The name of a run's end: each by its definition, and none by the parity of the last step."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from mlcv_bench import race
from mlcv_bench.optimizers.rule import RULES, find
from mlcv_bench.surface_race.engines import engine_for
from mlcv_bench.surface_race.floats import Runner, Trajectory
from mlcv_bench.surface_race.lanes import LaneRunner
from mlcv_bench.surface_race.metrics import measure
from mlcv_bench.surface_race.program import Problem, Start
from mlcv_bench.surfaces import catalog
from mlcv_bench.surfaces.newton import positive_definite

SPHERE, SADDLE, DENTED = (catalog.find(name) for name in ("sphere", "saddle", "local-minima"))


def word(values, surface=SPHERE, point=(1.0, 1.0), *, diverged_at=None):
    """Name a made-up run that showed these values and ended at this point."""
    points = tuple([part] * len(values) for part in point)
    problem = Problem(RULES["sgd"], RULES["sgd"].defaults, surface, len(values) - 1)
    return measure(problem, Trajectory(points, list(values), diverged_at, len(values) - 1)).outcome


LOCAL = DENTED.value(*DENTED.local_minima[0])


@pytest.mark.parametrize(
    ("values", "more", "name"),
    [
        # The target of a start at 1 is 1e-6.
        ([1.0, *[0.0] * 100], {}, "converged"),
        ([0.0], {}, "converged"),
        ([1.0, 0.0], {}, "budget"),  # one value shows nothing: the next may leave
        ([1.0, 0.0, 0.0], {}, "converged"),
        ([1.0] * 91 + [0.0] * 10, {}, "budget"),  # holds over the last 9 of 100 steps, not over 10
        ([1.0] * 90 + [0.0] * 11, {}, "converged"),
        ([1.0, *[0.0, 0.1] * 50], {}, "floor"),
        ([1.0, *[0.1, 0.0] * 50], {}, "floor"),
        ([1.0, *[0.5] * 100], {}, "floor"),
        ([1.0 - 0.005 * t for t in range(101)], {}, "budget"),
        ([1.0, *(0.5 + 0.01 * t for t in range(100))], {}, "diverged"),
        ([1.0, *(0.5 + 0.004 * t for t in range(100))], {}, "floor"),  # rises, but never above its start
        ([1.0, *[3.0, 2.0] * 50], {}, "floor"),  # worse than its start, but no longer growing
        ([1.0, 1e30], {"diverged_at": 1}, "diverged"),
        # The saddle at the origin has the value 0, and the lowest points -0.25.
        ([0.5, *[0.0] * 100], {"surface": SADDLE, "point": (0.0, 0.0)}, "saddle"),
        ([0.5, *[1e-4] * 100], {"surface": SADDLE, "point": (1e-2, 0.0)}, "saddle"),
        # Near it, but the values or the gradient are not those of a critical point.
        ([0.5, *[0.0, 0.1] * 50], {"surface": SADDLE, "point": (0.0, 0.0)}, "floor"),
        ([0.5, *[0.0] * 100], {"surface": SADDLE, "point": (0.15, 0.0)}, "floor"),
        ([9.0, *[LOCAL] * 100], {"surface": DENTED, "point": DENTED.local_minima[0]}, "wrong_minimum"),
        ([9.0, *[LOCAL + 0.3] * 100], {"surface": DENTED, "point": DENTED.local_minima[0]}, "floor"),
        ([9.0, *[LOCAL] * 100], {"surface": DENTED, "point": (0.0, 0.0)}, "floor"),
    ],
)
def test_every_end_has_its_name_by_definition(values, more, name):
    assert word(values, **more) == name


@pytest.mark.parametrize(
    ("surface", "optimizer", "name"),
    [
        # Steps of 0.6 and a gradient of 57 at the end: near a saddle on the map, at no critical point.
        ("rastrigin", "sgd", "floor"),
        # It settles in a dent, and RMSProp walks round one at +- lr / 2: both lack the basin, not the rate.
        ("rastrigin", "sgd:lr=0.001", "wrong_minimum"),
        ("rastrigin", "rmsprop", "wrong_minimum"),
        # The limit is 2 / 100; the loss grows by 1.0201 a step.
        ("canyon", "sgd:lr=0.0201", "diverged"),
        ("canyon", "sgd:lr=0.02001", "diverged"),
        ("canyon", "sgd:lr=0.02", "floor"),
        ("canyon", "sgd:lr=0.0199", "converged"),
    ],
)
def test_runs_end_by_definition_on_every_engine(surface, optimizer, name):
    found = race(surface, [optimizer], protocols=("default",))
    assert found.results[0].outcome == name
    if optimizer == "sgd:lr=0.0201":
        assert found.results[0].diverged_at is None
        assert found.results[0].final_loss > 1e10
        assert next(iter(found.report().tables[0].rows))["outcome"] == "diverging"
    rule, given_settings = find(optimizer)
    problem = Problem(rule, rule.settings(given_settings), found.surface)
    start = found.starts[0]
    scalar, lanes = (engine_for(problem, name).endings(problem, [start]) for name in ("scalar", "lanes"))
    for column in dataclasses.fields(scalar):
        assert np.array_equal(getattr(scalar, column.name), getattr(lanes, column.name), equal_nan=True), column.name


@pytest.mark.parametrize("steps", [1, 2, 9, 10, 11])
def test_the_shortest_runs_end_alike_on_every_engine(steps):
    surface, rule = catalog.find("sphere"), RULES["sgd"]
    start = Start(0, surface.start)
    for lr in (0.5, 1.9, 2.1):
        problem = Problem(rule, {"lr": lr}, surface, steps, target=0.5)
        ends = [engine_for(problem, name).endings(problem, [start]).outcome[0] for name in ("scalar", "lanes")]
        assert ends[0] == ends[1], (lr, ends)


def test_populations_gather_the_extremes_of_both_parts():
    surface, rule = catalog.find("canyon"), RULES["sgd"]
    problem = Problem(rule, {"lr": 0.0199}, surface, 57)
    points = np.array([[5.0, 1.0], [0.1, -1.5], [-3.0, 0.0]])
    found = LaneRunner(rule, surface).run(problem, points)
    for i, point in enumerate(points.tolist()):
        values = Runner(rule, surface).trace(problem, Start(0, tuple(point))).values
        before, after = values[:52], values[52:]  # nine tenths of 58 values
        wanted = [min(before), max(before), min(after), max(after)]
        gathered = [found.lowest_before, found.highest_before, found.lowest_after, found.highest_after]
        assert [float(part[i]) for part in gathered] == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("steps", [999, 1000])
def test_parity_decides_nothing(steps):
    row = race("abs(x)+abs(y)", ["sgd"], steps=steps, protocols=("default",)).results[0]
    assert (row.outcome, row.first_hit) == ("floor", 450)


VALUES = st.sampled_from([0.0, 1e-9, 1e-6, 1e-3, 0.5, 1.0, 2.0, 1e6])


@given(
    transient=st.lists(VALUES, max_size=6),
    cycle=st.lists(VALUES, min_size=1, max_size=4),
    surface=st.sampled_from([SPHERE, SADDLE, catalog.find("washboard")]),
    steps=st.integers(60, 130),
)
@settings(max_examples=200, deadline=None)
def test_one_more_step_of_an_orbit_changes_no_word(transient, cycle, surface, steps):
    def ends(count):
        orbit = itertools.chain([1.0], transient, itertools.cycle(cycle))
        return word(list(itertools.islice(orbit, count + 1)), surface, (0.0, 1.0))

    assert ends(steps) == ends(steps + 1)


SCALED = {
    (factor, shift): catalog.find(f"{factor}*(0.5*x**2 + 0.5*y**2) + {shift}") for factor, shift in [(3, -7), (0.1, 2)]
}


@given(how=st.sampled_from(sorted(SCALED)), values=st.lists(VALUES, min_size=2, max_size=40))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
def test_the_scale_of_the_loss_changes_no_word(how, values):
    assume(values[0] > 0)
    factor, scaled = how[0], SCALED[how]
    moved = [factor * value + scaled.minimum for value in values]
    # Sums round: a value that lies on a border of the definitions may fall on its other side.
    borders = [abs(b - 1e-6 * values[0]) for b in values] + [abs(a - b) for a, b in itertools.combinations(values, 2)]
    assume(all(gap == 0 or gap > 1e-6 * values[0] for gap in borders))
    assume(all(value != 1e-6 * values[0] for value in values))
    assert word(moved, scaled) == word(values)


@given(
    st.lists(st.floats(-2, 2), min_size=3, max_size=3),
    st.lists(st.floats(-2, 2), min_size=3, max_size=3),
    st.floats(-1, 1),
)
@settings(max_examples=40, deadline=None)
def test_definiteness_is_that_of_the_eigenvalues(diagonal, off, shift):
    a, b, c = off
    matrix = np.array([[diagonal[0], a, b], [a, diagonal[1], c], [b, c, diagonal[2]]])
    smallest = np.linalg.eigvalsh(matrix)[0] + shift
    if abs(smallest) > 1e-6:
        assert positive_definite(matrix.tolist(), shift) == (smallest > 0)
