"""The race: protocols, tuning, outcomes, determinism, interruption, and the commands."""

from __future__ import annotations

import dataclasses
import io
import itertools
import json
import math

import pytest

from mlcv_bench import race
from mlcv_bench.errors import UsageError
from mlcv_bench.optimizers.rule import DEFAULT_OPTIMIZERS
from mlcv_bench.report.formats.delimited import to_csv
from mlcv_bench.report.formats.terminal import print_report
from mlcv_bench.report.races import basins_report, medians_of, sweep_report
from mlcv_bench.surface_race.basins import basins
from mlcv_bench.surface_race.race import lr_sweep
from mlcv_bench.surface_race.request import BasinsRequest, SweepRequest
from mlcv_bench.surface_race.tuning import GRID, Sweep

CONTRACT = "surface,optimizer,protocol,lr,start,seed,steps,first_hit,last_exit,final_loss,distance,outcome,diverged_at"


def test_the_grid_is_the_contracts():
    assert len(GRID) == 36
    assert (GRID[0], GRID[25], GRID[-1]) == (1e-5, 1.0, 1e2)
    ratios = [b / a for a, b in itertools.pairwise(GRID)]
    assert ratios == pytest.approx([10**0.2] * 35)


def test_the_default_race_has_all_protocols_and_the_contracts_columns():
    found = race()
    pairs = [(row.optimizer, row.protocol) for row in found.results]
    assert list(dict.fromkeys(name for name, _ in pairs)) == list(DEFAULT_OPTIMIZERS)
    assert [name for name, protocol in pairs if protocol == "theory"] == ["sgd", "momentum", "nesterov", "newton"]
    assert to_csv(found.report()).startswith(CONTRACT + ",")
    stream = io.StringIO()
    print_report(found.report(), stream, 100)
    assert sum(line.startswith("newton") for line in stream.getvalue().splitlines()) == 3  # one table, nothing folded
    tuned = {row.optimizer: row for row in found.results if row.protocol == "tuned"}
    assert tuned["newton"].first_hit == 1
    assert tuned["sgd"].lr == pytest.approx(10**-1.8)


def test_the_table_of_many_starts_is_one_on_100_columns():
    stream = io.StringIO()
    print_report(race(starts=20, steps=300).report(), stream, 100)
    lines = stream.getvalue().splitlines()
    rows = [line for line in lines if line.startswith(tuple(DEFAULT_OPTIMIZERS))]
    assert len(rows) == 20  # eight optimizers, of which theory has no closed form for four
    assert sum("optimizer" in line and "outcomes" in line for line in lines) == 1
    assert max(map(len, lines)) <= 100


def test_tuning_finds_the_rate_that_a_full_scan_finds():
    found = race("canyon", ["sgd"], protocols=("tuned",))
    scan = [race("canyon", [f"sgd:lr={rate!r}"], protocols=("default",)).results[0] for rate in GRID]
    best = min((row.last_exit, row.lr) for row in scan if row.last_exit is not None)
    assert found.results[0].lr == best[1]
    assert found.results[0].last_exit == best[0]


def test_every_end_has_its_name():
    def ends(optimizer, surface="canyon", **more):
        row = race(surface, [optimizer], protocols=("default",), **more).results[0]
        return row.outcome

    assert ends("sgd") == "converged"
    assert ends("adam") == "budget"
    assert ends("rmsprop") == "floor"
    assert ends("sgd:lr=1") == "diverged"
    assert ends("sgd:lr=0.05", "local-minima", start=(3.0, 1.8)) == "wrong_minimum"
    assert ends("newton", "saddle") == "saddle"


def test_a_diverging_run_ends_early_with_its_step():
    row = race("canyon", ["sgd:lr=1"], protocols=("default",)).results[0]
    # |1 - lr L| = 99 a step, from a gap of 62.5 to 1e20 times it.
    assert row.diverged_at == row.steps == math.ceil(20 / (2 * math.log10(99)))
    assert row.final_loss is None
    assert row.distance is None


def test_step_zero_is_the_start():
    row = race("canyon", ["sgd"], start=(0.0, 0.0), protocols=("default",)).results[0]
    assert (row.first_hit, row.last_exit, row.outcome) == (0, 0, "converged")


def test_a_given_rate_is_kept_and_not_tuned():
    found = race("canyon", ["adam:lr=0.1", "adam:beta1=0.5", "momentum:momentum=0.5"])
    assert [(row.optimizer, row.protocol) for row in found.results] == [
        ("adam:lr=0.1", "default"),
        ("adam:beta1=0.5", "default"),
        ("adam:beta1=0.5", "tuned"),
        ("momentum:momentum=0.5", "default"),
        ("momentum:momentum=0.5", "tuned"),
    ]
    assert found.skipped["momentum:momentum=0.5", "theory"] == "its settings were given"


def test_what_was_left_out_is_said():
    notes = race("canyon", ["adam:lr=0.1", "rmsprop:lr=0.1"], protocols=("tuned",), steps=5).report().notes
    assert notes == ["Not run, tuned: adam:lr=0.1, rmsprop:lr=0.1 (its learning rate was given)."]


def test_a_protocol_named_twice_runs_once():
    assert len(race("canyon", ["sgd"], protocols=("default", "default"), steps=5).results) == 1


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"surface": "abs(x) + y**2"}, "singular"),
        ({"surface": "quadratic:dim=4", "rotate": 30.0, "engine": "lanes"}, "--engine scalar"),
    ],
)
def test_newton_does_not_sink_the_default_race(arguments, why):
    found = race(**arguments, steps=20, protocols=("default",))
    assert {row.optimizer for row in found.results} == set(DEFAULT_OPTIMIZERS) - {"newton"}
    assert why in found.skipped["newton", "default"]


def test_what_an_engine_refuses_is_said_before_the_first_run():
    finished = []
    with pytest.raises(UsageError, match="use engine scalar"):
        race(
            "quadratic:dim=4",
            ["sgd", "newton"],
            rotate=30.0,
            engine="lanes",
            steps=20,
            protocols=("default",),
            progress=finished.append,
        )
    assert not finished


def test_a_rule_that_turns_complex_diverges(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("def rooted(x, g, t, lr=0.5):\n    return x - lr * pow(g - 1, 0.5)\n")
    found = race("canyon", [f"{path}:rooted"], steps=50)
    assert found.results[0].outcome == "diverged"
    trace = found.traces[found.results[0].optimizer, "default"]
    assert all(isinstance(part, float) for axis in (*trace.points, trace.values) for part in axis)
    assert len(trace.values) == trace.diverged_at


def test_a_race_without_a_run_is_a_picture_too(tmp_path):
    from mlcv_bench.report.plots.animation import draw

    found = race("rosenbrock", ["sgd"], protocols=("theory",))
    assert not found.results
    for name in ("x.gif", "x.png"):
        draw(found, tmp_path / name)
        assert (tmp_path / name).stat().st_size > 1000


def test_two_landscapes_stand_above_three_curves(tmp_path):
    from matplotlib.figure import Figure

    from mlcv_bench.report.plots.races import paint

    # The formula is the surface's name too. A layout that fails is a warning, which is an error here.
    found = race("0.5*(x**2 + 100*y**2)", ["sgd"], protocols=("default", "tuned"), steps=20)
    figure = Figure(layout="constrained")
    paint(found, figure)
    figure.savefig(tmp_path / "race.png")
    assert len(figure.axes) == 5
    assert figure.get_suptitle() == "0.5*(x**2 + 100*y**2)"
    widths = [axes.get_position().width for axes in figure.axes]
    assert min(widths[:2]) > max(widths[2:]) > 0.1


def test_a_sweep_stopped_at_once_is_a_picture_too(monkeypatch, tmp_path):
    from mlcv_bench.report.plots.sweeps import draw
    from mlcv_bench.surface_race import race as studies

    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(studies, "engine_for", stop)
    found = lr_sweep(SweepRequest("canyon", ("sgd",)))
    assert found.interrupted
    draw(found, tmp_path / "x.png")
    assert not sweep_report(found).runs


def test_several_starts_are_tuned_on_others():
    found = race("canyon", ["sgd"], starts=5)
    assert len({row.start for row in found.results}) == 5
    assert len(found.results) == 15
    assert len(found.sweeps[0].first_hits[0]) == 5
    alone = race("canyon", ["momentum"], starts=5)
    assert {row.start for row in found.results} == {row.start for row in alone.results}
    assert {row.start for row in race("canyon", ["sgd"], starts=5, seed=1).results}.isdisjoint(
        row.start for row in found.results
    )
    # The same tuning on the raced starts themselves takes other steps.
    assert (
        lr_sweep(SweepRequest("canyon", ("sgd",), starts=5)).swept[0].sweeps[0].first_hits != found.sweeps[0].first_hits
    )


@pytest.mark.parametrize("size", [3, 5, 6, 7, 10, 24, 41])
def test_the_interval_over_starts_holds_95_percent(size):
    # The steps of so many starts are 1, 2, ...: an interval from a to b holds the true median unless fewer than a or
    # more than b - 1 of them lie below it, which has a binomial chance whatever their distribution.
    (one,) = race("canyon", ["sgd"], steps=3, protocols=("default",)).runs

    def hitting(steps):
        return dataclasses.replace(one, endings=dataclasses.replace(one.endings, first_hit=list(steps)))

    found = medians_of(hitting(range(1, size + 1)))
    if size < 6:
        assert "first_hit_interval" not in found
        return
    low, high = map(int, found["first_hit_interval"].split("-"))
    assert low + high == size + 1
    assert sum(math.comb(size, below) for below in range(low, high)) / 2**size >= 0.95
    assert sum(math.comb(size, below) for below in range(low + 1, high - 1)) / 2**size < 0.95
    missed = medians_of(hitting([*range(1, 7), *[-1] * 6]))
    assert missed["first_hit"] is None
    assert missed["first_hit_interval"] == "3-miss"
    assert "first_hit_interval" not in medians_of(hitting([-1] * size))


def test_a_rate_on_the_edge_is_flagged():
    found = race("x**2/20000 + y**2/20000", ["sgd"], protocols=("tuned",))
    assert any("edge of the grid" in warning for warning in found.warnings)


@pytest.mark.parametrize("engine", ["scalar", "lanes"])
def test_same_seed_same_bytes(engine):
    def once():
        return to_csv(race("canyon", ["sgd", "adam"], starts=3, noise=0.1, steps=120, engine=engine).report())

    first = once()
    assert first == once()
    other = "lanes" if engine == "scalar" else "scalar"
    crossed = race("canyon", ["sgd", "adam"], starts=3, noise=0.1, steps=120, engine=other)
    assert to_csv(crossed.report()) == first


def test_what_was_finished_survives_an_interruption():
    finished = []

    def stop(results):
        finished.append(results)
        if len(finished) == 2:
            raise KeyboardInterrupt

    found = race("canyon", ["sgd", "momentum"], progress=stop)
    assert found.interrupted
    assert len(found.results) == 2
    assert "interrupted" in found.report().notes[0]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"optimizers": ["sgd", "sgd"]}, "races twice"),
        ({"steps": 0}, "at least 1 step"),
        ({"steps": 10**20}, "at most 10000000 steps"),
        ({"target": 1.0}, "below 1"),
        ({"protocols": ("best",)}, "unknown protocol"),
        ({"start": (1.0,)}, "the start has 1"),
        ({"start": (1.0, 1.0), "starts": 3}, "not both"),
        ({"surface": "log(x) + y", "start": (-1.0, 0.0)}, "no finite value"),
        ({"surface": "x*0 + y**2", "optimizers": ["newton"]}, "singular"),
    ],
)
def test_a_wrong_race_is_one_clear_sentence(arguments, says):
    with pytest.raises(UsageError, match=says):
        race(**arguments)


def test_misses_are_infinite_and_the_middle_of_ties_wins():
    sweep = Sweep("sgd", (0.1, 1.0, 10.0, 100.0), ((5,), (3,), (3,), (-1,)), ((5,), (3,), (3,), (-1,)), (0.0,) * 4)
    assert sweep.medians == (5, 3, 3, math.inf)
    assert sweep.best == 1.0
    assert sweep.width == pytest.approx(3.0)
    steps = ((21,), (20,), (10,), (19,), (21,))
    assert Sweep("sgd", (0.1, 1.0, 10.0, 100.0, 1000.0), steps, steps, (0.0,) * 5).width == pytest.approx(3.0)
    missed = Sweep("sgd", (0.1, 1.0), ((-1,), (-1,)), ((-1,), (-1,)), (2.0, 1.0))
    assert (missed.hit_any, missed.best, missed.width) == (False, 1.0, None)


def test_a_sweep_over_conditions_shows_the_square_root():
    found = lr_sweep(SweepRequest("canyon", ("sgd", "newton"), conditions=(1.0, 10.0, 100.0)))
    sgd = [place.sweeps[0] for place in found.swept]
    assert sgd[0].medians[sgd[0].best_index] == 1
    assert sgd[2].medians[sgd[2].best_index] > 5 * sgd[1].medians[sgd[1].best_index]
    assert len(sweep_report(found).runs) == 3 * 2 * 36
    with pytest.raises(UsageError, match="leave lr out"):
        lr_sweep(SweepRequest("canyon", ("sgd:lr=0.1",)))


def test_basins_are_symmetric_where_the_surface_is():
    found = basins(BasinsRequest("saddle", ("sgd:lr=0.1",), size=(40, 40)))
    assert found.index.shape == (40, 40)
    assert ((found.index == 0) == (found.index[::-1] == 1)).all()
    assert (found.steps[found.index >= 0] >= 0).all()
    rows = basins_report(found).runs
    assert [row["share"] for row in rows] == [0.5, 0.5]


def test_basins_time_local_minima_against_themselves():
    found = basins(BasinsRequest("local-minima", ("sgd:lr=0.1",), size=(50, 50)))
    local = [row for row in basins_report(found).runs if row["is_global"] is False]
    assert local[0]["share"] > 0
    assert local[0]["median_steps"] is not None


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"surface": "washboard:force=2"}, "no minimum"),
        ({"surface": "sphere:dim=3"}, "two coordinates"),
        ({"surface": "(x + y - 3)^2"}, "one valley"),
        ({"size": (1, 5)}, "2x2"),
        ({"size": (99999, 99999)}, "at most 10000000 pixels"),
    ],
)
def test_wrong_basins_are_one_clear_sentence(arguments, says):
    with pytest.raises(UsageError, match=says):
        basins(BasinsRequest(**arguments))


def test_the_command_needs_no_heavy_module(heavy_modules):
    code, loaded, _ = heavy_modules(["optim-race", "--surface", "canyon"])
    assert code == 0
    assert set(loaded) <= {"rich"}


def test_the_commands_save_what_they_show(command, tmp_path):
    command(
        *("optim-race", "--optimizer", "sgd", "--optimizer", "adam:lr=0.1,beta1=0.8", "--steps", "60"),
        *("-o", "race.csv", "-o", "race.json", "-o", "race.png", "-o", "race.gif", "--trajectory", "path.csv"),
        check=0,
    )
    assert (tmp_path / "race.csv").read_text().startswith(CONTRACT)
    document = json.loads((tmp_path / "race.json").read_text())
    assert len(document["details"]["sweeps"][0]["rates"]) == 36
    assert (tmp_path / "race.png").read_bytes()[:4] == b"\x89PNG"
    assert (tmp_path / "race.gif").read_bytes()[:3] == b"GIF"
    points = (tmp_path / "path.csv").read_text().splitlines()
    assert points[1] == "sgd,default,0,5.0 1.0,62.5"
    assert points[-1].startswith('"adam:lr=0.1,beta1=0.8",default,60,')


def test_the_other_commands_draw(command, tmp_path):
    command("lr-sweep", "--condition", "1,10", "--optimizer", "sgd", "-o", "heat.png", check=0)
    command("lr-sweep", "--optimizer", "sgd", "-o", "curve.svg", check=0)
    command("basins", "--size", "30x20", "-o", "basins.png", check=0)
    for name in ("heat.png", "curve.svg", "basins.png"):
        assert (tmp_path / name).stat().st_size > 1000


@pytest.mark.parametrize("number", ["1.1", "1.2", "1.3", "1.4", "1.5", "1.6", "1.7", "1.8"])
def test_the_notes_figures_are_drawn(number, tmp_path):
    from mlcv_bench.claims.figures import run
    from mlcv_bench.report.plots.figures import draw

    draw(run(number), tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes()[:4] == b"\x89PNG"


def test_figure_1_1_says_what_the_notes_say():
    from mlcv_bench.claims.figures import run
    from mlcv_bench.claims.paths import flips

    sphere, canyon = run("1.1").races
    for found in (sphere, canyon):
        sgd, momentum = found.results
        assert momentum.first_hit < sgd.first_hit
    # Plain descent crosses the canyon at every step, and momentum damps that.
    swings = [flips(trace.points[1][:40]) for trace in canyon.traces.values()]
    assert swings[0] == 1
    assert swings[1] < 0.8
    # (1 - eta)^(2 t) <= 1e-6 from the curvature alone.
    assert sphere.results[0].first_hit == math.ceil(math.log(1e-6) / (2 * math.log(1 - 0.076)))


def test_figures_1_5_to_1_8_say_what_the_notes_say_and_where_it_ends():
    from mlcv_bench.claims.figures import RMSPROP, run

    drawn = run("1.5")
    hits = {result.optimizer: result.first_hit for result in drawn.races[0].results}
    assert hits["adagrad:lr=0.02"] is None
    assert hits["adagrad:lr=1"] < hits["sgd:lr=0.02"]
    said = drawn.figure.found(drawn.races)
    assert "79% of its way left" in said
    assert "At a rate of its own it does not stop" in said
    drawn = run("1.6")
    sgd, _, rmsprop = (trace.values for trace in drawn.races[0].traces.values())
    assert all(a < b for a, b in zip(rmsprop[1:200], sgd[1:200], strict=True))
    assert "for the first 211 steps" in drawn.figure.found(drawn.races)
    # 1.8 is 1.7 again, at a smaller batch and nothing else.
    eight, two = run("1.8").races
    assert [race.surface.finite_sum.batch_size for race in (eight, two)] == [8, 2]
    assert [one.settings for one in eight.results] == [one.settings for one in two.results]
    assert RMSPROP in [one.optimizer for one in run("1.7").races[0].results]


@pytest.mark.parametrize(
    "arguments",
    [
        ["optim-race", "--surface", "canyn"],
        ["optim-race", "--optimizer", "adam:beta1=2"],
        ["optim-race", "--optimizer", "sgd:lr=nan"],
        ["optim-race", "--start", "1 2 3"],
        ["optim-race", "--engine", "quantum"],
        ["optim-race", "--target", "2"],
        ["optim-race", "--trajectory", "path.txt"],
        ["optim-race", "--surface", "x; y"],
        ["optim-race", "--trajectory", "path.csv", "-o", "./path.csv"],
        ["optim-race", "--surface", "quadratic", "-o", "race.gif"],
        ["lr-sweep", "--condition", "1,x"],
        ["basins", "--size", "800"],
        ["figures", "9.9"],
    ],
    ids=" ".join,
)
def test_usage_errors_are_one_sentence_and_load_nothing(arguments, heavy_modules):
    code, loaded, said = heavy_modules(arguments)
    assert (code, loaded) == (2, [])
    assert len(said.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("surface", "optimizers", "says"),
    [
        ("abs(x)+abs(y)", ["lion:lr=0.01"], ["Floor: stopped improving without holding the target", "Last exit: "]),
        ("sphere", ["sgd"], ["Converged: ", "First hit: ", "Path: ", "Flips: "]),
        ("saddle", ["sgd:lr=3", "sgd"], ["Diverged: ", "Budget: still improving"]),
        ("x^3 + y^2", ["sgd"], ["No lowest point is known"]),
    ],
)
def test_a_table_says_what_its_words_mean(surface, optimizers, says):
    (table,) = race(surface, optimizers, protocols=("default",)).report().tables
    assert [words for words in says if words not in table.caption] == []
    assert ("Floor: " in table.caption) == any(row["outcome"] == "floor" for row in table.rows)
    assert ("Good rates: " in table.caption) == ("width" in {column.key for column in table.columns})


def test_a_sweep_says_where_no_rate_arrives():
    report = sweep_report(lr_sweep(SweepRequest("canyon", ("sgd",), steps=20, conditions=(1.0, 1000.0))))
    # At condition 1 gradient descent with rate 1 is there in a step; at 1000 it is not in 20.
    assert report.notes[-1] == "No rate of the grid arrives: sgd at condition 1000."
    assert "Steps there: the first step from which the target holds" in report.tables[0].caption
    bare = sweep_report(lr_sweep(SweepRequest("x^3 + y^2", ("sgd",), steps=3)))
    assert "No lowest point is known" in bare.tables[0].caption
    assert "Steps there" not in bare.tables[0].caption
