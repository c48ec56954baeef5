from __future__ import annotations

import csv
import dataclasses
import io
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from mlcv_bench.errors import UsageError
from mlcv_bench.execution.processes import Inline
from mlcv_bench.execution.scheduler import run_jobs
from mlcv_bench.random_streams import HELD_OUT
from mlcv_bench.report.formats.delimited import to_csv
from mlcv_bench.report.task_races import lowest_class, task_report
from mlcv_bench.statistics import performance_profile, ranks
from mlcv_bench.task_race import learners
from mlcv_bench.task_race.jobs import Epoch, Run, Setup
from mlcv_bench.task_race.learners import make_optimizer
from mlcv_bench.task_race.optimizers import find_optimizer
from mlcv_bench.task_race.race import TUNING_SEEDS, TaskResult, prepare
from mlcv_bench.task_race.request import TaskRaceRequest
from mlcv_bench.task_race.training import run_job_plainly
from mlcv_bench.task_race.tuning import TaskSweep, score, trials_near_best
from mlcv_bench.trials import Outcome

CONTRACT = (
    "task,model,optimizer,protocol,lr,batch_size,seed,epoch,step,train_loss,val_loss,val_accuracy,test_accuracy,"
    "status,reason"
)
ALL = ("sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "adamw")


def made_up(job):
    """Return runs whose steps to the target depend on the rate alone: 100 at 0.1, more elsewhere."""
    found = []
    for rate, seed in job.lanes:
        distance = abs(np.log10(rate / 0.1))
        diverged = 5 if rate > 10 else None
        hit = int(100 * (1 + distance) ** 2) if distance < 1.5 and diverged is None else None
        loss = None if diverged else 0.1 + distance + 0.001 * (seed % 7)
        epochs = [
            Epoch(36, 1.0, 0.5, loss, 0.9, 0.8, 1.0, 0.1),
            Epoch(72, 0.9, 0.6, (loss or 0) + 1, 0.9, 0.7, 1.0, 0.1),
        ]
        run = Run(rate, seed, hit, hit, loss, loss, diverged, tuple(epochs) if job.purpose == "race" else ())
        found.append(run.as_dict())
    return found


def play(race, function=made_up):
    """Run every job through `function`; returns the jobs in order."""
    ran = []
    while jobs := race.ready():
        for job in jobs:
            ran.append(job)
            race.take(job, Outcome("done", function(job)))
    return ran


def test_every_optimizer_gets_the_same_budget_and_fresh_seeds():
    race = prepare(TaskRaceRequest(optimizers=ALL, seeds=3))
    jobs = play(race)
    tuning = {}
    for job in jobs:
        if job.purpose == "tuning":
            tuning[job.optimizer] = tuning.get(job.optimizer, 0) + len(job.lanes)
            assert all(seed >= HELD_OUT for seed in job.seeds)
        else:
            assert set(job.seeds) == {0, 1, 2}
    assert tuning == dict.fromkeys(ALL, (36 + 12) * TUNING_SEEDS)
    assert race.expected == sum(len(job.lanes) for job in jobs)
    keys = [job.key for job in jobs]
    assert len(set(keys)) == len(keys)
    for contest in race.contests:
        assert contest.sweep is not None
        assert contest.sweep.best.rate == pytest.approx(0.1, rel=0.2)
        assert not contest.sweep.on_edge


def test_the_jobs_do_not_depend_on_the_order_of_results():
    forwards, backwards = (
        prepare(TaskRaceRequest(optimizers=("sgd", "nesterov"))),
        prepare(TaskRaceRequest(optimizers=("sgd", "nesterov"))),
    )
    one = {job.key for job in play(forwards)}
    other = set()
    while jobs := backwards.ready():
        for job in reversed(jobs):
            other.add(job.key)
            backwards.take(job, Outcome("done", made_up(job)))
    assert one == other
    assert to_csv(task_report(forwards)) == to_csv(task_report(backwards))


def test_a_failed_tuning_run_fails_the_protocol_with_its_reason():
    race = prepare(TaskRaceRequest(optimizers=("adam",), seeds=2))
    while jobs := race.ready():
        for number, job in enumerate(jobs):
            failed = job.purpose == "tuning" and number == 1
            outcome = Outcome("failed", reason="boom") if failed else Outcome("done", made_up(job))
            race.take(job, outcome)
    by_protocol = {(result.protocol, result.status) for result in race.results}
    assert by_protocol == {("default", "done"), ("tuned", "failed")}
    report = task_report(race)
    assert any("boom" in warning for warning in report.warnings)
    assert {run["reason"] for run in report.runs if run["status"] == "failed"} == {"a tuning run failed: boom"}


def test_given_rates_are_kept_and_given_momenta_are_not_tuned():
    race = prepare(TaskRaceRequest(optimizers=("sgd:lr=0.3", "momentum:momentum=0.7")))
    jobs = play(race)
    assert {job.rates for job in jobs if job.optimizer == "sgd:lr=0.3"} == {(0.3,)}
    assert {dict(job.settings)["momentum"] for job in jobs if job.optimizer.startswith("momentum")} == {0.7}
    assert sum(len(job.rates) for job in jobs if job.purpose == "tuning") == 48
    skipped = next(contest.skipped for contest in race.contests if contest.optimizer.label == "sgd:lr=0.3")
    assert skipped == {"tuned": "its learning rate was given"}


def test_settings_beside_the_rate():
    momentum = trials_near_best(find_optimizer("momentum"), 0.1, (0.01, 0.1, 1.0))
    assert [dict(settings)["momentum"] for settings, _ in momentum] == [0.5, 0.8, 0.95, 0.99]
    # The middle rate keeps lr / (1 - momentum), the length of the steps.
    for settings, rates in momentum:
        assert rates[1] / (1 - dict(settings)["momentum"]) == pytest.approx(0.1 / 0.1)
    ((_, rates),) = trials_near_best(find_optimizer("sgd"), 0.1, (0.01, 0.1, 1.0))
    assert len(rates) == 12
    assert list(rates) == sorted(set(rates))
    assert 0.1 not in rates


def test_scores_and_widths():
    def run(hit, loss=1.0, diverged=None):
        return Run(0.1, 0, hit, hit, loss, 1.0, diverged)

    assert score(0.1, (), [run(10), run(None)], 100).steps == 55
    assert score(0.1, (), [run(10), run(5, diverged=20)], 100).steps == 55
    assert score(0.1, (), [run(10), run(5, diverged=20)], 100).loss == float("inf")
    grid = tuple(
        dataclasses.replace(score(10.0**k, (), [run(hit)], 100)) for k, hit in enumerate((None, 40, 20, 30, 41))
    )
    sweep = TaskSweep(grid, (), "steps", 100)
    assert sweep.best_of_grid == 2
    assert sweep.width == pytest.approx(3.0)
    never = TaskSweep(tuple(score(10.0**k, (), [run(None, loss=k)], 100) for k in range(3)), (), "steps", 100)
    assert never.width is None
    assert never.best_of_grid == 0
    assert never.on_edge


def test_newton_is_skipped_with_the_reason():
    race = prepare(TaskRaceRequest(optimizers=("newton", "sgd"), models=("mlp",)))
    (result,) = race.results
    assert result.status == "skipped"
    assert "4810 x 4810 Hessian" in result.reason
    assert prepare(TaskRaceRequest(optimizers=("newton",), models=("logistic",))).contests
    report = task_report(race)
    assert [(run["optimizer"], run["status"]) for run in report.runs] == [("newton", "skipped")]


def test_a_users_newton_is_skipped_before_its_hessian_is_computed(tmp_path, monkeypatch):
    (tmp_path / "damped.py").write_text(
        "def damped(x, newton_direction, t, lr=1.0):\n    return x - lr * newton_direction\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(learners, "hessian", lambda _: pytest.fail("a Hessian was computed"))
    (result,) = prepare(TaskRaceRequest(optimizers=("damped.py:damped",), models=("mlp",))).results
    assert result.status == "skipped"
    assert "4810 x 4810 Hessian" in result.reason


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        ({"tasks": ("digits", "digits")}, "twice"),
        ({"batch_size": 0}, "at least 1"),
        ({"batch_size": 2000}, "more than the 1150 training images"),
        ({"epochs": 0}, "--epochs"),
        ({"seeds": 0}, "--seeds"),
        ({"target": 1.5}, "validation accuracy"),
        ({"schedule": "exponential"}, "constant, cosine, step, linear"),
        ({"warm_up": 72, "epochs": 2}, "--warm-up 72 leaves no step of the run's 72"),
        ({"clip_norm": -1.0}, "--clip-norm takes a number above 0"),
        ({"protocols": ("theory",)}, "no closed form"),
        ({"rates": 2}, "at least 3"),
        ({"optimizers": ("sgd", "sgd")}, "races twice"),
        ({"optimizers": ("sgd:lr=1", "sgd:lr=1")}, "as in sgd:lr=0.1"),
        ({"optimizers": ("torch.optim:Adam:beta=3",)}, "has no beta .*did you mean betas"),
        ({"optimizers": ("torch.optim:SGD:lr=nan",)}, "lr must be finite"),
        (
            {"optimizers": ("sgd", "torch.optim:AdamW:lr=-1")},
            "AdamW cannot be built: Invalid learning rate: -1.0",
        ),
        (
            {"optimizers": ("torch.optim:Adam:betas=0.9",)},
            "Adam cannot be built: .*; give its settings as in",
        ),
        ({"optimizers": ("torch.nn:Linear",)}, "no torch.optim.Optimizer"),
        ({"models": ("resnet50",)}, "224x224"),
        ({"data": Path("somewhere")}, "takes no --data"),
    ],
)
def test_wrong_requests_are_one_sentence(request_, sentence):
    with pytest.raises(UsageError, match=sentence):
        prepare(TaskRaceRequest(**request_))


@pytest.fixture(scope="module")
def small():
    """Really train a small race: rules, a class of torch.optim, a divergence, two models."""
    race = prepare(
        TaskRaceRequest(
            optimizers=("sgd", "adam:lr=0.01", "torch.optim:SGD:lr=0.1", "momentum:lr=1e20"),
            models=("mlp", "logistic"),
            epochs=2,
            rates=4,
            seeds=2,
            target=0.8,
        )
    )
    run_jobs(race, run_job_plainly, Inline())
    return race


def test_the_rows_of_a_race(small):
    report = task_report(small)
    text = to_csv(report)
    assert text.startswith(CONTRACT)
    rows = list(csv.DictReader(io.StringIO(text)))
    assert {row["status"] for row in rows} == {"done"}
    whole = [row for row in rows if row["optimizer"] == "adam:lr=0.01" and row["model"] == "mlp"]
    assert [(row["seed"], row["epoch"], row["step"]) for row in whole] == [
        (seed, epoch, step) for seed, (epoch, step) in itertools.product("01", [("1", "36"), ("2", "72")])
    ]
    assert all(float(row["test_accuracy"]) > 0.7 for row in whole)
    assert list(rows[0])[-4:] == ["class_accuracy", "schedule", "warm_up", "clip_norm"]
    for row in whole:
        classes = dict(part.split("=") for part in row["class_accuracy"].split())
        assert list(classes) == list("0123456789")
    gone = [row for row in rows if row["optimizer"].startswith("momentum")]
    assert gone
    assert all(row["outcome"] == "diverged" for row in gone)
    assert all(row["reason"].startswith("diverged at step ") for row in gone)
    assert all(row["train_loss"] == row["test_accuracy"] == row["class_accuracy"] == "" for row in gone)


def test_the_table_of_a_race(small):
    report = task_report(small)
    assert [table.title.partition(":")[0] for table in report.tables] == [
        "digits, mlp, tuned", "digits, mlp, default", "digits, logistic, tuned", "digits, logistic, default",
    ]  # fmt: skip
    guessing = "Target: 80% validation accuracy (always guessing 3, the largest class, gives 10.2%)"
    assert all(guessing in table.caption for table in report.tables), "183 of the 1797 digits are threes"
    default = {row["optimizer"]: row for row in report.tables[1].rows}
    assert default["adam:lr=0.01"]["met"] == "2/2"
    assert default["momentum:lr=1e20"]["outcome"].startswith("diverged at")
    assert default["momentum:lr=1e20"]["steps"] is None
    tuned = {row["optimizer"]: row for row in report.tables[0].rows}
    assert tuned["adam:lr=0.01"]["outcome"] == "skipped: its learning rate was given"
    # Two models; two seeds of four optimizers by default and of one tuned.
    assert len(report.details["steps"]) == 2 * (2 * 4 + 2)


def test_the_lowest_class_is_the_lowest_mean_over_seeds():
    """At each run's lowest validation loss: here the first epoch."""

    def result(seed, cat, dog):
        epochs = (
            Epoch(36, 1.0, 0.5, 0.1, 0.9, 0.8, 1.0, 0.1, {"cat": cat, "dog": dog}),
            Epoch(72, 0.9, 0.6, 0.2, 0.9, 0.7, 1.0, 0.1, {"cat": 0.0, "dog": 1.0}),
        )
        run = Run(0.1, seed, 5, 5, 0.1, 0.1, None, epochs)
        return TaskResult(Setup("pets", "mlp", 32, 2, 0.9), "sgd", "default", seed, (), 0.1, "done", run=run)

    assert lowest_class([result(0, 0.9, 0.5), result(1, 0.25, 0.75)]) == "cat: 57.50%"
    assert lowest_class([result(0, 0.9, 0.5)]) == "dog: 50.00%"


def test_ranks_say_only_what_intervals_separate():
    far = {"a": [10.0, 11.0, 12.0], "b": [50.0, 51.0, 52.5], "c": [49.0, 52.0, 51.0]}
    assert ranks(far) == {"a": (1, 1), "b": (2, 3), "c": (2, 3)}
    assert ranks({"a": [1.0], "b": [2.0]}) == {"a": (1, 2), "b": (1, 2)}


def test_a_profile_is_dolans_and_mores():
    inf = float("inf")
    found = performance_profile({"a": [10.0, 40.0, inf], "b": [20.0, 20.0, inf]})
    # Two of three problems were solved by anyone.
    assert found["a"] == [(1.0, pytest.approx(1 / 3)), (2.0, pytest.approx(2 / 3))]
    assert found["b"] == [(1.0, pytest.approx(1 / 3)), (2.0, pytest.approx(2 / 3))]


def test_optimizers_are_read_as_typed():
    labels = [find_optimizer(text).label for text in ("adam", "adam:beta1=0.5", "torch.optim:AdamW")]
    assert labels == ["adam", "adam:beta1=0.5", "torch.optim:AdamW"]
    assert find_optimizer("torch.optim:AdamW").default_rate == 1e-3


def test_settings_of_a_third_party_are_of_any_kind():
    found = find_optimizer("torch.optim:Adam:betas=(0.8, 0.99),amsgrad=true,eps=1e-6")
    assert found.settings == {"betas": (0.8, 0.99), "amsgrad": True, "eps": 1e-6}
    made = make_optimizer(torch.nn.Linear(2, 2), found, found.settings | {"lr": 0.1})
    assert {key: made.defaults[key] for key in ("betas", "amsgrad", "lr")} == {
        "betas": (0.8, 0.99),
        "amsgrad": True,
        "lr": 0.1,
    }
    lbfgs = find_optimizer("torch.optim:LBFGS:max_iter=4,line_search_fn=strong_wolfe,lr=0.5")
    assert make_optimizer(torch.nn.Linear(2, 2), lbfgs, lbfgs.settings).defaults["line_search_fn"] == "strong_wolfe"
    assert lbfgs.default_rate == 0.5


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("torch.optim:Adam:betas=(0.9,inf)", "betas must be finite"),
        ("torch.optim:Adam:lr=fast", "lr takes a number, not fast"),
        ("torch.optim:Adam:lr=nan", "lr must be finite"),
        ("torch.optim:Adam:betas=(0.9;0.99)", "betas takes a number"),
        ("torch.optim:Adam:beta1=0.9", "has no beta1"),
        ("adam:lr=true", "lr takes a number, not 'true'"),
        ("adam:lr=(1,2)", "lr takes a number"),
    ],
)
def test_settings_that_cannot_be_are_one_sentence(text, sentence):
    with pytest.raises(UsageError, match=sentence):
        find_optimizer(text)
