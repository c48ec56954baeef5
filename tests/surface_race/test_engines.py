"""Two engines, one arithmetic: floats and numba lanes agree, and isolate what diverges."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest

from mlcv_bench import race
from mlcv_bench.errors import UsageError
from mlcv_bench.functions import maximum, sign, tanh
from mlcv_bench.optimizers.rule import RULES, find, read
from mlcv_bench.surface_race.engines import choose
from mlcv_bench.surface_race.floats import Runner
from mlcv_bench.surface_race.lanes import LaneRunner
from mlcv_bench.surface_race.program import Problem
from mlcv_bench.surface_race.request import random_start
from mlcv_bench.surfaces import catalog
from mlcv_bench.surfaces.surface import SURFACES

STEPS = 120
PLACES = [
    *((name, {}) for name in SURFACES),
    ("canyon", {"rotate": 30.0, "noise": 0.1}),
    ("regression", {"batch_size": 7}),
    ("logistic", {"batch_size": 40}),
    ("x**4 + y**2 - x*y", {}),
]
# Every rule on one surface and every surface under three rules: a kernel takes most of a second to compile.
PAIRS = [("rosenbrock", {}, name) for name in RULES] + [
    (*PLACES[i], name) for i, _ in enumerate(PLACES) for name in (("adam", "nesterov", "newton")[i % 3],)
]


def rows(population, i):
    return tuple(
        None if step < 0 else int(step)
        for step in (population.first_hit[i], population.last_exit[i], population.diverged_at[i])
    )


@pytest.mark.parametrize(("name", "settings", "optimizer"), PAIRS)
def test_the_engines_agree(name, settings, optimizer):
    surface = catalog.find(name, **settings)
    rule = RULES[optimizer]
    if optimizer == "newton" and surface.dimension > 2 and not surface.expressions.diagonal:
        pytest.skip("elimination runs on floats only")
    starts = [random_start(surface, 0, number) for number in range(4)]
    points = np.array([start.point for start in starts])
    scalar, wide = Runner(rule, surface), LaneRunner(rule, surface)
    for lr in (rule.defaults["lr"], 30.0):
        problem = Problem(rule, rule.settings({"lr": lr}), surface, STEPS)
        in_lanes = wide.run(problem, points)
        for i, start in enumerate(starts):
            alone = scalar.scan(problem, start)
            wanted = (alone.first_hit, alone.last_exit, alone.diverged_at)
            assert rows(in_lanes, i) == wanted
            if alone.diverged_at is None:
                scale = max(1.0, abs(alone.final_value))
                assert in_lanes.final_value[i] == pytest.approx(alone.final_value, abs=1e-12 * scale)


def test_a_diverging_run_never_changes_its_neighbours_bits():
    surface = catalog.find("canyon")
    rule, _ = find("momentum")
    problem = Problem(rule, dict(rule.defaults), surface, 300)
    points = np.random.default_rng(0).uniform(-2, 2, (130, 2))
    calm = np.full(130, 0.01)
    wild = calm.copy()
    wild[::3] = 50.0
    runner = LaneRunner(rule, surface)
    alone, beside = runner.run(problem, points, rates=calm), runner.run(problem, points, rates=wild)
    kept = np.arange(130) % 3 != 0
    assert (alone.points[kept] == beside.points[kept]).all()
    assert (alone.final_value[kept] == beside.final_value[kept]).all()
    assert (beside.diverged_at[~kept] > 0).all()
    assert np.isnan(beside.final_value[~kept]).all()


def test_threads_and_blocks_change_nothing():
    surface = catalog.find("himmelblau")
    rule, _ = find("momentum")
    problem = Problem(rule, dict(rule.defaults), surface, 50)
    points = np.random.default_rng(1).uniform(-4, 4, (1000, 2))
    runner = LaneRunner(rule, surface)
    one, two = runner.run(problem, points), runner.run(problem, points, threads=2)
    assert (one.points == two.points).all()
    part = runner.run(problem, points[137:141])
    assert (part.points == one.points[137:141]).all()


@pytest.mark.parametrize("text", ["1/(x**2 + y**2 - 1)", "exp(x**2 + y**2)", "log(x) + y**2", "x**1.5 + y**2"])
def test_overflow_and_poles_diverge_everywhere_alike(text):
    surface = catalog.find(text)
    rule = RULES["sgd"]
    problem = Problem(rule, rule.settings({"lr": 0.5}), surface, 60)
    starts = [start for start in (random_start(surface, 3, n) for n in range(40)) if _finite(surface, start.point)][:6]
    points = np.array([start.point for start in starts])
    scalar = Runner(rule, surface)
    in_lanes = LaneRunner(rule, surface).run(problem, points)
    for i, start in enumerate(starts):
        alone = scalar.scan(problem, start)
        assert rows(in_lanes, i)[2] == alone.diverged_at


def _finite(surface, point):
    try:
        return math.isfinite(surface.value(*point))
    except (ValueError, OverflowError, ZeroDivisionError):
        return False


def test_a_rule_that_is_more_than_arithmetic_runs_on_floats_and_lanes():
    def clipped(x, g, t, lr=0.1):
        step = lr * g
        step = min(step, 0.5)
        return x - step

    rule = read(clipped)
    surface = catalog.find("canyon")
    problem = Problem(rule, {"lr": 0.01}, surface, 50)
    start = random_start(surface, 0, 0)
    alone = Runner(rule, surface).scan(problem, start)
    wide = LaneRunner(rule, surface).run(problem, np.array([start.point]))
    assert wide.final_value[0] == alone.final_value


@pytest.mark.parametrize(
    ("name", "work", "engine"),
    [
        ("canyon", {"raced": 24, "tuned": 8 * 36}, "scalar"),  # the default race
        ("canyon", {"raced": 10_000}, "lanes"),  # --starts 10000 --protocol default: 17 s on floats
        ("canyon", {"raced": 1000}, "scalar"),
        ("canyon", {"tuned": 36 * 8 * 100}, "lanes"),
        ("logistic", {"raced": 100}, "lanes"),  # a sum over 96 samples a step
        ("quadratic:dim=10", {"raced": 1000}, "lanes"),
    ],
)
def test_the_engine_follows_the_work(name, work, engine):
    assert choose("auto", RULES["adam"], catalog.find(name), **work, steps=1000) == engine
    assert choose("lanes", RULES["adam"], catalog.find(name), **work, steps=1000) == "lanes"


@pytest.mark.parametrize(("surface", "optimizer"), [("canyon", "adam:lr=0.1"), ("rastrigin", "sgd:lr=0.001")])
def test_many_starts_under_default_settings_run_on_lanes_with_the_same_results(surface, optimizer):
    arguments = {"surface": surface, "optimizers": [optimizer], "starts": 300, "protocols": ("default",), "steps": 60}
    wide = race(**arguments, engine="lanes")
    assert len({result.outcome for result in wide.results}) > (surface == "rastrigin")
    assert race(**arguments, engine="scalar").results == wide.results


def test_elimination_refuses_the_lanes():
    surface = catalog.find("quadratic:dim=4", rotate=20.0)
    with pytest.raises(UsageError, match="--engine scalar"):
        LaneRunner(RULES["newton"], surface)


def test_an_edited_rule_is_another_kernel():
    surface = catalog.find("canyon")

    def one(x, g, t, lr=0.1):
        return x - lr * g

    first = LaneRunner(read(one), surface).source()

    def one(x, g, t, lr=0.1):
        return x - 2 * lr * g

    assert LaneRunner(read(one), surface).source() != first
    assert LaneRunner(RULES["sgd"], surface).source() == first


def test_a_damaged_cache_is_compiled_anew(tmp_path, monkeypatch):
    monkeypatch.setenv("MLCV_BENCH_CACHE", str(tmp_path))
    surface = catalog.find("sphere:dim=5")
    rule = RULES["sgd"]
    problem = Problem(rule, dict(rule.defaults), surface, 10)
    points = np.array([[1.0, 2.0, 3.0, 4.0, 5.0]])
    before = LaneRunner(rule, surface, full=False).run(problem, points)
    files = list((tmp_path / "__pycache__").glob("*.nbi")) + list((tmp_path / "__pycache__").glob("*.nbc"))
    assert files
    for file in files:
        file.write_bytes(b"\x80")
    for name in [name for name in sys.modules if name.startswith("mlcv_bench_kernel")]:
        monkeypatch.delitem(sys.modules, name)
    after = LaneRunner(rule, surface, full=False).run(problem, points)
    assert (before.points == after.points).all()


def no_home():
    raise RuntimeError("Could not determine home directory.")


@pytest.mark.parametrize("home", ["read-only", "none"])
def test_without_a_place_for_it_a_kernel_is_compiled_in_memory(monkeypatch, tmp_path, home):
    file = tmp_path / "no-folder"
    file.write_text("")
    monkeypatch.setenv("MLCV_BENCH_CACHE", str(file / "kernels"))
    if home == "none":  # as in a container of another user's
        for name in ("MLCV_BENCH_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(Path, "home", no_home)
    surface = catalog.find("sphere:dim=3")
    rule = RULES["sgd"]
    found = LaneRunner(rule, surface, full=False).run(Problem(rule, {"lr": 1.0}, surface, 5), np.ones((1, 3)))
    assert found.first_hit[0] == 1


def test_a_rule_that_is_more_than_arithmetic_may_call_the_tables_functions():
    def turning(x, g, t, s, lr=0.1):
        s = maximum(s, abs(g))
        return (x - lr * sign(g), s) if t > 3 else (x - lr * tanh(g), s)

    rule = read(turning)
    surface = catalog.find("canyon")
    problem = Problem(rule, {"lr": 0.01}, surface, 50)
    start = random_start(surface, 0, 0)
    alone = Runner(rule, surface).scan(problem, start)
    wide = LaneRunner(rule, surface).run(problem, np.array([start.point]))
    assert wide.final_value[0] == pytest.approx(alone.final_value, rel=1e-12)
