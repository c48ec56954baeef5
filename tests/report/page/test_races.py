"""Races on their pages, in a real browser: what the sliders and names do, held against runs of their own."""

from __future__ import annotations

import base64
import dataclasses
import io

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from mlcv_bench import race
from mlcv_bench.optimizers.rule import RULES
from mlcv_bench.report.formats.json_text import document_parts
from mlcv_bench.report.page.document import Content, page, page_of
from mlcv_bench.report.page.figures import figures_of
from mlcv_bench.report.page.races import MOST_POINTS, SEEN, marks_of, visible_steps
from mlcv_bench.report.plots.basins import pixels
from mlcv_bench.report.plots.race_data import loss_panel, rate_panel
from mlcv_bench.report.plots.tasks import panels as panels_of_tasks
from mlcv_bench.report.races import basins_report, sweep_report
from mlcv_bench.report.task_races import task_report
from mlcv_bench.surface_race.basins import basins
from mlcv_bench.surface_race.floats import Runner
from mlcv_bench.surface_race.program import Problem, Start
from mlcv_bench.surface_race.race import lr_sweep
from mlcv_bench.surface_race.request import BasinsRequest, SweepRequest
from mlcv_bench.surface_race.tuning import GRID
from mlcv_bench.task_race.race import prepare
from mlcv_bench.task_race.request import TaskRaceRequest
from tests.report.page.conftest import until
from tests.task_race.test_race import made_up, play

STEPS = 300
PHONE = 360
"""Pixels across, in which software draws three dimensions soonest."""
ABOVE, SOLID, LOSS, DISTANCE, RATES = range(5)


@pytest.fixture(scope="module")
def found():
    return race("canyon", ["sgd", "momentum", "adam"], steps=STEPS)


@pytest.fixture(scope="module")
def place(found, tmp_path_factory):
    path = tmp_path_factory.mktemp("race") / "race.html"
    path.write_text("".join(page_of(found.report(), found)))
    return path


def drawn(tab, plot, name):
    """Return what a plot shows of a run, once it is drawn as it is to be: its path, and its head."""
    until(tab, "![...document.querySelectorAll('.plot')].some((plot) => plot.later)")
    script = """([plot, name]) => document.querySelectorAll(".plot")[plot].data
        .filter((trace) => trace.meta && trace.meta.run === name)
        .map((trace) => ["x", "y", "z", "customdata"]
            .map((key) => Array.from(trace[key] || [], (one) => (one.length ? Array.from(one) : one))))"""
    return tab.evaluate(script, [plot, name])


def slide(tab, label, value):
    tab.get_by_role("slider", name=label).evaluate(
        "(input, value) => { input.value = value; input.dispatchEvent(new Event('input')); }", value
    )


def held(trace, steps):
    """Return the points and losses of a run at some steps, as a page's 32 bits hold them."""
    return [np.array(part, dtype=np.float32)[steps] for part in (*trace.points, trace.values)]


def check_path(tab, name, trace, last):
    """Compare what is drawn of a run up to a step with the run itself; all it misses lies closer than is seen."""
    (x, y, _, told), head = drawn(tab, ABOVE, name)
    steps = [int(one[0]) for one in told]
    assert steps[0] == 0
    assert steps[-1] <= last
    expected = held(trace, steps)
    assert [x, y] == [part.tolist() for part in expected[:2]]
    assert [one[1] for one in told] == pytest.approx(expected[2].tolist())
    assert [head[0], head[1]] == [x[-1:], y[-1:]]
    end = np.array(trace.points)[:, min(last, len(trace.values) - 1)]
    assert [x[-1], y[-1]] == pytest.approx(end, rel=1e-6, abs=20 * SEEN)
    across, losses, *_ = drawn(tab, LOSS, name)[0]
    assert across == steps
    assert losses == pytest.approx(np.maximum(expected[2], 1e-38).tolist())


@pytest.mark.parametrize("step", [0, 7, 60])
def test_the_step_slider_cuts_every_path(step, found, place, visit):
    tab = visit(place, width=PHONE)
    tab.get_by_label("Runs").select_option("tuned")
    slide(tab, "Step", step)
    for name in ("sgd", "momentum", "adam"):
        check_path(tab, name, found.traces[name, "tuned"], step)
    assert tab.locator(".plot").first.locator(".contour path").count() > 10
    assert tab.locator(".steering .long output").last.inner_text() == str(step)


def test_another_protocol_shows_its_runs_and_slopes(found, place, visit):
    tab = visit(place, width=PHONE)
    tab.get_by_label("Runs").select_option("theory")
    check_path(tab, "momentum", found.traces["momentum", "theory"], STEPS)
    assert drawn(tab, ABOVE, "adam")[0][0] == []  # no closed form
    slopes = (
        "document.querySelectorAll('.plot')[2].data.filter(t => t.meta.protocol).map(t => [t.meta.protocol, t.opacity])"
    )
    assert set(map(tuple, tab.evaluate(slopes))) == {("default", 0), ("tuned", 0), ("theory", 1)}


@pytest.mark.parametrize("number", [3, 18])
def test_the_rate_slider_shows_the_run_at_that_rate(number, place, visit):
    tab = visit(place, width=PHONE)
    slide(tab, "Learning rate", number)
    assert tab.get_by_label("Runs").input_value() == "rate"
    assert float(tab.locator(".steering .long output").first.inner_text()) == pytest.approx(GRID[number], rel=5e-3)
    surface = race("canyon", "sgd", steps=1).surface
    for name in ("sgd", "adam"):
        settings = {**RULES[name].settings({}), "lr": GRID[number]}
        alone = Runner(RULES[name], surface).trace(
            Problem(RULES[name], settings, surface, STEPS), Start(0, surface.start)
        )
        check_path(tab, name, alone, STEPS)


def test_the_paths_lie_on_the_surface_in_three_dimensions(place, visit):
    tab = visit(place, width=PHONE)
    slide(tab, "Step", 20)
    until(
        tab, "document.querySelectorAll('.plot')[1].data.filter(t => t.meta && t.meta.run === 'sgd')[0].x.length <= 21"
    )
    flat, solid = drawn(tab, ABOVE, "sgd")[0], drawn(tab, SOLID, "sgd")[0]
    assert solid[:2] == flat[:2]
    assert all(0 <= height <= 1 for height in solid[2])
    losses = [one[1] for one in flat[3]]
    assert np.argsort(solid[2]).tolist() == np.argsort(losses).tolist()


def test_a_click_on_a_name_hides_it_in_every_figure(place, visit):
    tab = visit(place, width=PHONE)
    hidden = """[...document.querySelectorAll(".plot")].map((plot) => plot.data
        .filter((trace) => trace.legendgroup === "adam").every((trace) => trace.visible === "legendonly"))"""
    assert tab.evaluate(hidden) == [False] * 5
    tab.get_by_role("button", name="adam").press("Enter")
    until(tab, f"{hidden}.every(Boolean)")
    assert tab.get_by_role("button", name="adam").get_attribute("aria-pressed") == "false"
    tab.get_by_role("button", name="adam").click()
    until(tab, f"!{hidden}.some(Boolean)")


def test_play_moves_the_steps_until_they_are_moved_by_hand(tmp_path, visit):
    # Three coordinates have curves alone, of which software draws enough frames.
    curves = race("x**2 + y**2 + z**2", ["sgd", "momentum"], start=(1.0, 1.0, 1.0), steps=60, protocols="default")
    path = tmp_path / "curves.html"
    path.write_text("".join(page_of(curves.report(), curves)))
    tab = visit(path, width=PHONE)
    slide(tab, "Step", 40)
    # On a slow machine a frame may take as long as the playing: every step that was shown is kept.
    tab.evaluate(
        """() => {
          const step = document.querySelectorAll('.steering input')[1];
          window.shown = [];
          const keep = () => window.shown.push(Number(step.value));
          new MutationObserver(keep).observe(step.nextElementSibling, { childList: true });
        }"""
    )
    tab.get_by_role("button", name="Play").click()
    until(tab, "window.shown.some((step) => step < 40)")
    until(tab, "window.shown.at(-1) > 1")
    slide(tab, "Step", 10)
    assert tab.locator(".steering > button").inner_text() == "Play"
    assert tab.locator(".steering .long output").last.inner_text() == "10"


def test_page_and_picture_have_the_same_numbers(found):
    figures = list(figures_of(found.report(), found))
    assert [one.title.split(",")[0] for one in figures] == [
        *("Paths from above", "Paths in three dimensions", "Loss", "Distance to the minimum"),
        "Steps to the target against the rate",
    ]
    panel = loss_panel(found, "tuned")
    for one in panel.series[:3]:
        (trace,) = (trace for trace in figures[LOSS].figure.data if trace.meta.get("run") == one.name)
        assert trace.y.tolist() == pytest.approx(np.asarray(one.y)[trace.x].tolist(), rel=1e-6)
        assert trace.line.color == one.colour
    rates = rate_panel(found.sweeps, ["sgd", "momentum", "adam"], STEPS)
    for one, trace in zip(rates.series, figures[RATES].figure.data, strict=True):
        assert np.array_equal(one.x, trace.x)
        assert np.array_equal(one.y, trace.y, equal_nan=True)


def test_a_loss_without_a_lowest_value_is_drawn_as_it_is():
    falling = race("x**3 + y**2", "sgd:lr=0.1", start=(-0.5, 1.0), steps=12, protocols="default")
    values = falling.traces["sgd:lr=0.1", "default"].values
    assert falling.surface.minimum is None
    assert values[-1] < 0
    axes = Figure().add_subplot()
    loss_panel(falling, "default")(axes)
    assert list(axes.lines[0].get_ydata()) == values
    figures = list(figures_of(falling.report(), falling))
    trace = next(trace for trace in figures[LOSS].figure.data if trace.meta.get("shows") == "loss")
    assert trace.y.tolist() == pytest.approx([values[step] for step in trace.x], rel=1e-6)
    assert trace.x[-1] == len(values) - 1


def test_a_page_of_the_default_race_is_as_small_as_promised():
    found = race("canyon")
    report = found.report()
    content = Content(report, {}, document_parts(report), "race.json", found)
    size = sum(map(len, page([content], assets="assets")))
    assert 200_000 < size < 1_500_000


def test_a_page_keeps_the_first_steps_and_no_more_than_it_may():
    for last in (0, 5, 199, 200, 1000, 123_456):
        marks = marks_of(last)
        assert len(marks) <= MOST_POINTS
        assert (marks[0], marks[-1]) == (0, last)
        assert marks[: min(last, 100)].tolist() == list(range(min(last, 100)))


def test_steps_that_move_nothing_are_left_out_but_for_their_ends():
    rest = np.zeros((50, 1))
    assert visible_steps(rest) == [0, 49]
    rest[30:] = 0.5
    assert visible_steps(rest) == [0, 29, 30, 49]
    assert visible_steps(np.linspace(0, 1, 11)[:, None]) == list(range(11))
    assert visible_steps(np.array([[0.0], [np.nan], [0.0]])) == [0, 1, 2]


def test_a_map_of_basins_tells_what_the_study_found(tmp_path, visit):
    found = basins(BasinsRequest(size=(30, 20)))
    (figure,) = figures_of(basins_report(found), found)
    told = figure.figure.data[0]
    image = base64.b64decode(figure.figure.layout.images[0].source.partition(",")[2])
    shown = np.asarray(Image.open(io.BytesIO(image)))[::-1] / 255
    assert np.abs(shown - pixels(found)).max() <= 0.5 / 255 + 1e-9
    for row, column in np.ndindex(found.index.shape):
        number, steps = found.index[row, column], found.steps[row, column]
        x, y = found.minima[number]
        ends = f"({x:.3g}, {y:.3g})" if number >= 0 else "no minimum in 500 steps"
        assert told.text[row][column].startswith("diverges" if found.diverged[row, column] else ends)
        assert (f", {steps} step" in told.text[row][column]) == (steps >= 0)
    path = tmp_path / "basins.html"
    path.write_text("".join(page_of(basins_report(found), found)))
    tab = visit(path)
    assert tab.locator(".plot image").count() >= 1
    (absent,) = figures_of(basins_report(found))
    assert "The file holds no map" in absent.html


def test_a_sweep_is_drawn_from_its_rows_alone():
    found = lr_sweep(SweepRequest("canyon", ("sgd", "momentum"), steps=200))
    (figure,) = figures_of(sweep_report(found))
    lines = [trace for trace in figure.figure.data if trace.mode == "lines+markers"]
    for sweep, trace in zip(found.swept[0].sweeps, lines, strict=True):
        expected = [value if np.isfinite(value) else np.nan for value in sweep.medians]
        assert np.array_equal(np.array(expected), trace.y, equal_nan=True)
    several = lr_sweep(SweepRequest("canyon", ("sgd", "momentum"), steps=200, conditions=(1.0, 10.0)))
    maps = list(figures_of(sweep_report(several)))
    assert [one.title for one in maps] == ["sgd", "momentum"]
    table = maps[1].figure.data[0].z
    expected = [sweep.medians for sweep in (place.sweeps[1] for place in several.swept)]
    known = np.isfinite(expected)
    assert np.array_equal(np.isfinite(table), known)
    assert 10 ** table[known] == pytest.approx(np.maximum(np.array(expected)[known], 1))


def test_a_race_on_tasks_has_the_pictures_panels():
    raced = prepare(TaskRaceRequest(optimizers=("sgd", "adam"), epochs=2))
    play(raced, made_up)
    report = task_report(raced)
    figures, panels = list(figures_of(report)), list(panels_of_tasks(report))
    assert [one.title for one in figures] == [one.title for one in panels]
    band, line = figures[0].figure.data[:2]
    assert list(line.y) == list(panels[0].series[0].y)
    assert list(band.y[:2]) == list(panels[0].series[0].band[1])


def test_a_saved_race_shows_its_tuning(found):
    absent, figure = figures_of(found.report())
    assert "The file holds no paths" in absent.html
    assert figure.title == "steps to the target against the rate"
    live = rate_panel(found.sweeps, ["sgd", "momentum", "adam"], STEPS)
    assert np.array_equal(figure.figure.data[0].y, live.series[0].y, equal_nan=True)


def test_a_tuning_that_would_take_long_is_not_run_again(found):
    slow = [dataclasses.replace(one, problem=dataclasses.replace(one.problem, steps=10**7)) for one in found.sweeps]
    changed = dataclasses.replace(found, sweeps=(found.sweeps[0], *slow[1:]))
    first = next(iter(figures_of(found.report(), changed)))
    assert "Left out, since that takes long: momentum, adam." in first.caption
    assert "rates" in first.data["runs"]["sgd"]
    assert "rates" not in first.data["runs"]["adam"]
