"""One long vector: the scalar engine's numbers where both can run, closed forms where only the vector form can."""

from __future__ import annotations

import csv
import dataclasses
import functools
import math

import numpy as np
import pytest
from matplotlib.figure import Figure

from mlcv_bench import race
from mlcv_bench.cli import app
from mlcv_bench.errors import UsageError
from mlcv_bench.optimizers.rule import RULES, read
from mlcv_bench.report.plots.races import paint
from mlcv_bench.surface_race import metrics, theory
from mlcv_bench.surface_race.endings import endings
from mlcv_bench.surface_race.floats import Runner
from mlcv_bench.surface_race.metrics import MISS, OUTCOMES
from mlcv_bench.surface_race.program import Problem, Start
from mlcv_bench.surface_race.race import lr_sweep
from mlcv_bench.surface_race.request import SweepRequest, random_start, random_starts
from mlcv_bench.surface_race.tuning import GRID
from mlcv_bench.surface_race.vectors import VectorRunner
from mlcv_bench.surfaces import builtin
from mlcv_bench.surfaces.builtin import long_quadratic
from mlcv_bench.surfaces.catalog import find

STEPS = 80


@functools.cache
def both_forms(name, dim, noise=0.0):
    """Return a surface with every coordinate written out, and the same in vector form."""
    written = find(name, dim=dim, noise=noise)
    vector = long_quadratic(name, written.formula, written.quadratic.curvatures, written.start, written.box)
    return written, dataclasses.replace(vector, noise=noise)


# A kernel takes most of a second to compile, and serves every length: all rules without noise, three with it.
@pytest.mark.parametrize(
    ("optimizer", "noise"), [*((name, 0.0) for name in RULES), ("adam", 0.1), ("nesterov", 0.1), ("newton", 0.1)]
)
def test_both_forms_give_the_same_numbers(optimizer, noise):
    rule = RULES[optimizer]
    # To write a rule out for 64 coordinates takes a second, and one does what another does.
    longest = [("quadratic", 64)] if optimizer in {"momentum", "adam", "newton"} else []
    for name, dim in (("sphere", 2), ("quadratic", 2), ("quadratic", 10), *longest):
        written, vector = both_forms(name, dim, noise)
        scalar, wide = Runner(rule, written), VectorRunner(rule, vector)
        start = random_start(written, 0, 3)
        point, numbers = np.array([start.point]), np.array([start.number], np.uint64)
        for lr in (rule.defaults["lr"], 0.019, 30.0):
            problem = Problem(rule, rule.settings({"lr": lr}), vector, STEPS)
            trace = scalar.trace(dataclasses.replace(problem, surface=written), start)
            alone = metrics.measure(dataclasses.replace(problem, surface=written), trace)
            path = wide.trace(problem, start)
            assert path.values == pytest.approx(trace.values, rel=1e-12)
            assert path.distances == pytest.approx(list(map(math.hypot, *trace.points)), rel=1e-12)
            assert (path.steps, path.diverged_at) == (trace.steps, trace.diverged_at)
            beside = endings(problem, point, wide.run(problem, point, numbers=numbers))
            assert OUTCOMES[beside.outcome[0]] == alone.outcome
            for field in ("steps", "first_hit", "last_exit", "diverged_at", "sign_flips", "path_ratio", "final_loss"):
                wanted, found = getattr(alone, field), getattr(beside, field)[0]
                if wanted is None:
                    assert found == MISS or math.isnan(found)
                else:
                    assert found == pytest.approx(wanted, rel=1e-12)
            last = trace.point(-1)
            assert beside.points[0] == pytest.approx(last, rel=1e-12, abs=1e-12 * max(map(abs, last)), nan_ok=True)


def test_gradient_descent_in_many_dimensions_follows_its_closed_form():
    surface = find("quadratic", dim=100_000)
    rule = RULES["sgd"]
    h = 100.0 ** (np.arange(100_000) / 99_999)
    problem = Problem(rule, {"lr": 0.015}, surface, 40)
    runner = VectorRunner(rule, surface)
    path, run = runner.trace(problem, Start(0, surface.start)), runner.run(problem, np.array([surface.start]))
    for t in (0, 1, 7, 40):
        x = (1 - 0.015 * h) ** t
        wanted = [math.fsum(0.5 * h * x * x), np.linalg.norm(x)]
        assert [path.values[t], path.distances[t]] == pytest.approx(wanted, rel=1e-12)
    assert run.points[0] == pytest.approx(x, rel=1e-12)
    # The steepest coordinate is the last: 1 - 0.015 * 100 is negative, so that every step crosses.
    assert run.flips[0] == 40


def test_runs_do_not_depend_on_threads_or_on_each_other():
    surface = find("quadratic", dim=1000, noise=0.01)
    rule = RULES["adam"]
    problem = Problem(rule, rule.settings({"lr": 0.01}), surface, 30)
    points = np.random.default_rng(0).uniform(-2, 2, (3, 1000))
    runner = VectorRunner(rule, surface)
    rates = np.array([0.01, 50.0, 0.01])
    one, two = (runner.run(problem, points, rates=rates, threads=threads) for threads in (1, 2))
    assert one.points.tobytes() == two.points.tobytes()
    last = runner.run(problem, points[2:], numbers=np.array([2], np.uint64))
    assert (last.points[0] == one.points[2]).all()


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


@pytest.mark.parametrize(
    "settings",
    [
        *({}, {"starts": 3}, {"starts": 2, "noise": 0.01, "seed": 5}),
        *({"schedule": "cosine", "warm_up": 5, "clip_norm": 1.0}, {"clip_norm": 0.1, "noise": 0.01}),
    ],
)
def test_a_race_says_the_same_in_both_forms(monkeypatch, settings):
    arguments = {"surface": "quadratic", "dim": 10, "optimizers": ["momentum", "adam", "newton"], "steps": 100}
    written = race(**arguments, **settings)
    monkeypatch.setattr(builtin, "quadratic_surface", long_quadratic)
    vector = race(**arguments, **settings)
    assert vector.surface.coordinate_sum is not None
    for one, other in zip(written.results, vector.results, strict=True):
        for column, value in dataclasses.asdict(one).items():
            found = getattr(other, column)
            assert found == (pytest.approx(value, rel=1e-12) if isinstance(value, float) else value), column
    assert [sweep.medians for sweep in vector.sweeps] == [sweep.medians for sweep in written.sweeps]


@pytest.mark.parametrize("optimizer", theory.LINEAR)
def test_theory_is_the_same_in_both_forms(optimizer):
    rule = RULES[optimizer]
    for name, dim in (("sphere", 3), ("quadratic", 2), ("quadratic", 64)):
        written, vector = both_forms(name, dim)
        starts = [random_start(written, 1, number) for number in range(4)]
        given = [{}, {"lr": 0.019}, {"lr": 5.0}, {"lr": 0.5}, theory.best_settings(optimizer, written)]
        for settings in map(rule.settings, given):
            problem = Problem(rule, settings, written, 400)
            beside = dataclasses.replace(problem, surface=vector)
            assert list(theory.predicted_hits(beside, starts)) == list(theory.predicted_hits(problem, starts))
            factor = theory.contraction(optimizer, settings, written)
            assert theory.contraction(optimizer, settings, vector) == pytest.approx(factor, rel=1e-12)


def test_theory_predicts_gradient_descent_in_many_dimensions():
    (result,) = race(surface="quadratic", dim=20_000, optimizers=["sgd"], protocols=("theory",), steps=800).results
    x, h = np.ones(20_000), 100.0 ** (np.arange(20_000) / 19_999)
    wanted, steps = 1e-6 * (h * x * x).sum(), 0
    while (h * x * x).sum() > wanted:
        x, steps = x - 2 / 101 * h * x, steps + 1
    assert (result.first_hit, result.predicted_hit, result.outcome) == (steps, steps, "converged")
    assert result.start is None


def test_a_sweep_of_a_long_sphere_is_its_closed_form():
    (swept,) = lr_sweep(SweepRequest("sphere", ("sgd",), dim=1000, steps=60)).swept
    (sweep,) = swept.sweeps
    for rate, (hit,), (held,) in zip(GRID, sweep.first_hits, sweep.last_exits, strict=True):
        # Every coordinate shrinks by |1 - rate| a step, and the gap by its square.
        wanted = next((t for t in range(61) if abs(1 - rate) ** t <= 1e-3), MISS)
        assert (hit, held) == (wanted, wanted)


def test_random_starts_of_a_long_vector_are_those_of_the_rule():
    surface = find("sphere", dim=101)
    drawn = random_starts(surface, 3, 2, first=7)
    assert [start.point for start in drawn] == [random_start(surface, 3, number).point for number in (7, 8)]


def test_files_and_tables_leave_long_points_out(tmp_path, capsys):
    saved, table = tmp_path / "race.json", tmp_path / "race.csv"
    words = (
        f"optim-race --surface sphere --dim 100000 --steps 5 --optimizer sgd,newton --starts 2 -o {saved} -o {table}"
    )
    assert app.run(words.split()) == 0
    assert "Points so long are left out of files" in capsys.readouterr().out
    assert max(saved.stat().st_size, table.stat().st_size) < 100_000
    first = next(csv.DictReader(table.read_text().splitlines()))
    assert (first["start"], first["start_number"]) == ("", "0")
    (shown,) = race(surface="sphere", dim=100_000, optimizers=["newton"], steps=2).report().tables
    assert "from (5 5 ... 100000 coordinates)" in shown.title


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            "--dim 100 --engine scalar",
            "--engine scalar runs up to 64 coordinates, and sphere has 100; leave",
        ),
        ("--dim 1000000 --starts 31", "31 starts of 1000000 coordinates are too many for memory; take up to 30"),
        ("--dim 100 --trajectory path.csv", "--trajectory saves points of up to 64 coordinates, and sphere has 100"),
        ("--dim 100 --start 1", "100 finite numbers, such as --start '1.0 2.5 0.5"),
        ("--dim 100 -o race.gif", "a .gif shows two coordinates, sphere has 100"),
    ],
)
def test_what_a_long_vector_cannot_do_is_one_clear_sentence(words, says, capsys):
    assert app.run(["optim-race", "--surface", "sphere", *words.split()]) == 2
    assert says in capsys.readouterr().err


def test_the_picture_of_a_long_race_has_the_curves(tmp_path):
    found = race(surface="sphere", dim=65, optimizers=["sgd"], steps=50)
    (trace,) = (trace for (_, protocol), trace in found.traces.items() if protocol == "default")
    # Gradient descent at rate 0.01 shrinks every coordinate of (5, 5, ...) by 0.99 a step.
    assert trace.distances == pytest.approx([5 * math.sqrt(65) * 0.99**t for t in range(51)])
    figure = Figure(layout="constrained")
    paint(found, figure)
    distances = next(axes for axes in figure.axes if axes.get_title().startswith("distance"))
    assert len(figure.axes) == 3
    assert len(distances.lines[0].get_ydata()) == len(found.traces["sgd", "tuned"].values)
