"""Many runs as columns: starts, ends, distances and first hits are those of each run alone; threads change no byte."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest

from mlcv_bench import race
from mlcv_bench.optimizers.rule import RULES
from mlcv_bench.random_streams import HELD_OUT
from mlcv_bench.report.formats.delimited import to_csv
from mlcv_bench.report.races import sweep_standings
from mlcv_bench.surface_race import basins as maps
from mlcv_bench.surface_race import endings, engines, metrics
from mlcv_bench.surface_race import race as studies
from mlcv_bench.surface_race.basins import basins
from mlcv_bench.surface_race.lanes import Population
from mlcv_bench.surface_race.metrics import OUTCOMES, Runs
from mlcv_bench.surface_race.program import Problem
from mlcv_bench.surface_race.request import BasinsRequest, RaceRequest, SweepRequest, random_start, random_starts
from mlcv_bench.surface_race.theory import predicted_hits
from mlcv_bench.surface_race.tuning import FEW, median_or_miss
from mlcv_bench.surfaces import catalog
from mlcv_bench.surfaces.many import apart, distances_to_minimum, newton_directions, value_of
from mlcv_bench.surfaces.minima import distance_to_minimum
from mlcv_bench.surfaces.surface import SURFACES


@pytest.mark.parametrize("seed", [0, 7, 1 << 70])
@pytest.mark.parametrize("first", [0, HELD_OUT])
@pytest.mark.parametrize("name", ["canyon", "quadratic:dim=5"])
def test_starts_drawn_at_once_are_those_drawn_one_by_one(name, seed, first):
    surface = catalog.find(name)
    drawn = random_starts(surface, seed, 500, first)
    assert list(drawn) == [random_start(surface, seed, first + number) for number in range(500)]
    assert drawn[3] == random_start(surface, seed, first + 3)
    assert list(drawn[5:7]) == list(drawn)[5:7]


def standing(surface, count):
    """Make up runs that have stopped: at random points, where Newton's method leads from them, and close by."""
    points = random_starts(surface, 1, count).points
    places = points.copy()
    for _ in range(40):
        places = places - newton_directions(surface, places)
    with np.errstate(all="ignore"):
        inside = np.isfinite(places).all(axis=1) & (np.abs(places - points).max(axis=1) < surface.box_diagonal)
    random = np.random.default_rng(0)
    points[inside] = places[inside] + random.normal(size=(inside.sum(), 1)) * random.choice([0.0, 1e-9, 1e-2])
    values = value_of(surface, points)
    first = value_of(surface, random_starts(surface, 2, count).points)
    extremes = dict.fromkeys(("lowest_before", "lowest_after", "highest_before", "highest_after"), values)
    steps = {name: np.full(count, -1) for name in ("first_hit", "last_exit", "diverged_at")}
    return Population(
        **steps,
        **extremes,
        undercut=np.zeros(count, bool),
        first_value=first,
        final_value=values,
        points=points,
        path_length=np.ones(count),
        flips=np.zeros(count, int),
    )


def alone(problem, runs, i):
    """Return one of many runs as it is gathered of a run alone."""
    diverged = int(runs.diverged_at[i])
    steps = (None if step < 0 else int(step) for step in (runs.first_hit[i], runs.last_exit[i]))
    return metrics.RunSummary(
        problem.steps if diverged < 0 else diverged,
        *(float(part[i]) for part in (runs.first_value, runs.lowest_before, runs.highest_before)),
        *(float(part[i]) for part in (runs.lowest_after, runs.highest_after, runs.final_value)),
        *steps,
        None if diverged < 0 else diverged,
        tuple(runs.points[i].tolist()),
        float(runs.path_length[i]),
        int(runs.flips[i]),
    )


seen: set[str] = set()


@pytest.mark.parametrize("shape", [(200, 2), (3, 1000), (1, 2), (0, 2)])
def test_pairs_lie_as_far_apart_as_python_says_whichever_are_more(shape):
    some, others = np.random.default_rng(0).normal(size=(2, *shape))
    assert apart(some, others).tolist() == [math.dist(*pair) for pair in zip(some, others, strict=True)]


@pytest.mark.parametrize("name", [*SURFACES, "(x*y - 1)^2", "abs(x) + abs(y)", "x^3 + y^2", "quadratic:dim=6"])
def test_the_ends_of_many_runs_have_the_names_that_each_has_alone(name):
    surface = catalog.find(name)
    problem = Problem(RULES["sgd"], RULES["sgd"].defaults, surface)
    runs = standing(surface, 200)
    # Some that diverged, hold, grow or go on.
    runs.diverged_at[:5], runs.last_exit[5:10] = 7, 900
    runs = dataclasses.replace(
        runs,
        lowest_before=np.where(np.arange(200) % 20 == 11, runs.lowest_after + 1, runs.lowest_after),
        highest_before=np.where(np.arange(200) % 20 == 12, runs.lowest_after - 1, runs.highest_after),
    )
    wanted = [metrics.outcome(problem, alone(problem, runs, i)) for i in range(200)]
    assert [OUTCOMES[i] for i in endings.outcomes(problem, runs)] == wanted
    seen.update(wanted)


def test_every_name_was_seen():
    assert seen == set(OUTCOMES)


@pytest.mark.parametrize("name", [*SURFACES, "(x + y - 3)^2", "abs(x) + abs(y)"])
def test_distances_of_many_are_those_of_each(name):
    surface = catalog.find(name)
    points = random_starts(surface, 3, 60).points * 1.3
    found = [distance_to_minimum(surface, tuple(point)) for point in points.tolist()]
    wanted = [math.nan if distance is None else distance for distance in found]
    assert distances_to_minimum(surface, points) == pytest.approx(wanted, rel=1e-14, nan_ok=True)


@pytest.mark.parametrize("name", ["sin(x) + y^2", "washboard:force=0", "(x*y - 1)^2", "(x^2 + y^2 - 4)^2"])
def test_minima_that_are_searched_for_are_found_for_many_as_for_each(name):
    surface = catalog.find(name)
    points = random_starts(surface, 3, 12).points * 1.7
    wanted = [distance_to_minimum(surface, tuple(point)) for point in points.tolist()]
    found = distances_to_minimum(surface, points)
    assert found == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("sgd", {"lr": 0.01}),
        ("sgd", {"lr": 0.019}),
        ("momentum", {"lr": 0.03, "momentum": 0.67}),
        ("momentum", {"lr": 0.001, "momentum": 0.99}),  # swings: the gap rises and falls
        ("nesterov", {"lr": 0.005, "momentum": 0.95}),
        ("newton", {"lr": 0.5, "damping": 3.0}),
        ("sgd", {"lr": 30.0}),  # overflows
        ("adam", {}),  # no closed form
    ],
)
@pytest.mark.parametrize("degrees", [0.0, 30.0])
def test_theory_meets_the_target_from_many_starts_when_it_does_from_each(name, settings, degrees):
    surface = catalog.find("canyon", rotate=degrees)
    problem = Problem(RULES[name], RULES[name].settings(settings), surface)
    starts = random_starts(surface, 0, 40)
    assert list(predicted_hits(problem, starts)) == [predicted_hits(problem, [start])[0] for start in starts]


def test_threads_and_portions_change_no_byte(monkeypatch):
    def once(**more):
        arguments = {"starts": 700, "steps": 30, "noise": 0.01, "engine": "lanes"}
        found = race("canyon", ["sgd", "momentum"], **arguments, **more)
        # The sweeps are saved in JSON alone.
        return to_csv(found.report()), [np.asarray(sweep.last_exits).tolist() for sweep in found.sweeps]

    whole = once(threads=1)
    assert [once(threads=threads) == whole for threads in (2, 3)] == [True, True]
    monkeypatch.setattr(engines, "MOST_AT_ONCE", 130)
    assert once(threads=2) == whole


def test_the_medians_of_many_steps_are_those_of_few():
    random = np.random.default_rng(0)
    for size in (3, 4, FEW + 1, FEW + 2):
        steps = random.integers(-1, 6, size).tolist()
        wanted = median_or_miss(sorted(steps)[:3])
        assert median_or_miss(np.array(sorted(steps)[:3])) == wanted
        few = [math.inf if step < 0 else step for step in steps]
        middle = sorted(few)[(size - 1) // 2 : size // 2 + 1]
        assert median_or_miss(np.array(steps)) == sum(middle) / len(middle)


def test_a_race_tells_how_far_it_is_and_runs_first_what_needs_no_tuning():
    told = []
    found = studies.race(RaceRequest("canyon", ("sgd", "adam"), steps=20, starts=5), watch=told.append)
    shares = [standing.share for standing in told]
    assert shares == sorted(shares)
    # Adam has no closed form to run.
    assert shares[-1] == pytest.approx(1 - 1 / (2 * (3 + 36)))
    order = list(dict.fromkeys((standing.protocol, standing.optimizer) for standing in told))
    assert order == [("default", "sgd"), ("default", "adam"), ("theory", "sgd"), ("tuned", "sgd"), ("tuned", "adam")]
    assert len(told[-1].finished) == 4
    # The results come in the order that was asked for.
    pairs = [(runs.optimizer, runs.protocol) for runs in found.runs]
    assert pairs == [("sgd", "default"), ("sgd", "tuned"), ("sgd", "theory"), ("adam", "default"), ("adam", "tuned")]
    assert list(found.traces) == pairs


def test_a_sweep_tells_how_far_it_is():
    told = []
    asked = SweepRequest("canyon", ("sgd", "adam"), steps=20, conditions=(1.0, 10.0))
    found = studies.lr_sweep(asked, watch=told.append)
    shares = [standing.share for standing in told]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert sweep_standings(told[-1]).splitlines() == [
        "100%: adam, condition 10",
        "sgd            condition 1      rate 1         1 steps",  # which is Newton's step on a sphere
        *(f"{name:<14} condition {kappa:<6} no rate arrives" for name, kappa in (("adam", 1), ("sgd", 10))),
    ]
    assert [place.sweeps[0].medians for place in found.swept] == [one.sweeps[0].medians for one in told[-1].swept]


def test_a_map_of_basins_in_pieces_is_the_same(monkeypatch):
    asked = BasinsRequest("himmelblau", ("momentum",), size=(12, 10), steps=60, noise=0.1)
    whole, told = basins(asked), []
    monkeypatch.setattr(maps, "runs_at_once", lambda *_: 50)
    cut = basins(asked, told.append)
    assert told == [50 / 120, 100 / 120, 1]
    assert np.array_equal(whole.index, cut.index)
    assert np.array_equal(whole.steps, cut.steps)


def test_the_rows_of_a_report_are_those_of_the_objects():
    found = race("canyon", ["sgd", "adam"], starts=4, steps=300)
    rows = found.report().runs
    assert [dataclasses.asdict(result) for result in found.results] == list(rows)
    assert rows[-1] == list(rows)[-1]
    assert len(rows) == len(found.frame) == 20


def test_columns_are_cut_without_gaps(monkeypatch):
    monkeypatch.setattr(metrics, "AT_ONCE", 3)
    (runs,) = race("canyon", ["sgd"], starts=10, steps=9, protocols=("default",)).runs
    assert isinstance(runs, Runs)
    assert [result.start_number for result in runs.results()] == list(range(10))
    assert [result.start_number for result in runs.results(slice(4, 9))] == [4, 5, 6, 7, 8]
    assert list(itertools.chain.from_iterable(range(10)[piece] for piece in metrics.pieces(range(2, 10), 4))) == [
        *range(2, 10)
    ]
