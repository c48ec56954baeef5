from __future__ import annotations

import pytest

from mlcv_bench.report.plots.tasks import draw, figure
from mlcv_bench.report.task_races import task_report
from mlcv_bench.task_race.race import prepare
from mlcv_bench.task_race.request import TaskRaceRequest
from tests.task_race.test_race import made_up, play


@pytest.fixture(scope="module")
def report():
    race = prepare(TaskRaceRequest(optimizers=("sgd", "nesterov", "adam"), epochs=2))
    play(race, made_up)
    return task_report(race)


def test_a_picture_has_curves_sensitivity_differences_and_profile(report):
    drawn = figure(report)
    titles = [axes.get_title() for axes in drawn.axes]
    for words in ("tuned: median and range of 3 seeds", "dashed: target", "star: best", "paired by seed", "profile"):
        assert any(words in title for title in titles), words
    assert [text.get_text() for text in drawn.legends[0].get_texts()] == ["sgd", "nesterov", "adam"]
    losses = drawn.axes[0]
    expected = [run["train_loss"] for run in report.runs if run["optimizer"] == "sgd" and run["protocol"] == "tuned"]
    assert list(losses.lines[0].get_ydata()) == expected[:2]


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_a_picture_is_saved(report, tmp_path, suffix):
    draw(report, tmp_path / f"x{suffix}")
    assert (tmp_path / f"x{suffix}").stat().st_size > 10_000


def test_a_race_without_a_finished_run_is_a_picture_too(tmp_path):
    race = prepare(TaskRaceRequest(optimizers=("sgd",)))
    draw(task_report(race), tmp_path / "x.png")


def test_a_race_of_which_nothing_is_left_to_label_is_a_picture_too(tmp_path):
    def lost(job):
        return [
            {
                **run,
                "diverged_at": 1,
                "epochs": [
                    {**epoch, "train_loss": None, "val_loss": None, "val_accuracy": None} for epoch in run["epochs"]
                ],
            }
            for run in made_up(job)
        ]

    race = prepare(TaskRaceRequest(optimizers=("sgd",), protocols=("default",), epochs=2))
    play(race, lost)
    assert not figure(task_report(race)).legends
    draw(task_report(race), tmp_path / "x.png")
