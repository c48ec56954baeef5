"""Schedules, warm-up and clipping on surfaces: against torch's own loop, by hand, and alike in both engines."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch.optim import lr_scheduler

from mlcv_bench import race
from mlcv_bench.errors import UsageError
from mlcv_bench.optimizers.rule import RULES, read
from mlcv_bench.optimizers.schedule import Schedule
from mlcv_bench.report.formats.delimited import to_csv
from mlcv_bench.report.races import basins_report, sweep_report
from mlcv_bench.surface_race.basins import basins
from mlcv_bench.surface_race.floats import Runner
from mlcv_bench.surface_race.lanes import LaneRunner
from mlcv_bench.surface_race.program import Problem, Start
from mlcv_bench.surface_race.race import lr_sweep
from mlcv_bench.surface_race.request import BasinsRequest, RaceRequest, SweepRequest, random_start
from mlcv_bench.surfaces import catalog

COSINE = Schedule("cosine", warm_up=7)


def path(rule, surface, start, settings, schedule, clip_norm, steps=40):
    problem = Problem(rule, settings, surface, steps, schedule=schedule, clip_norm=clip_norm)
    return np.array(Runner(rule, surface).trace(problem, Start(0, start)).points).T


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw_torch", "adamw"])
def test_a_path_is_that_of_torchs_optimizer_scheduler_and_clipping(name):
    settings = RULES[name].settings({"lr": 0.05} | ({"weight_decay": 0.01} if "adamw" in name else {}))
    ours = path(RULES[name], catalog.find("rosenbrock"), (-1.5, 1.0), settings, COSINE, 2.0)
    point = torch.tensor([-1.5, 1.0], dtype=torch.float64, requires_grad=True)
    optimizer = {
        "sgd": lambda: torch.optim.SGD([point], lr=0.05),
        "adam": lambda: torch.optim.Adam([point], lr=0.05),
        "adamw": lambda: torch.optim.Adam([point], lr=0.05),
        "adamw_torch": lambda: torch.optim.AdamW([point], lr=0.05, weight_decay=0.01),
    }[name]()
    rise = lr_scheduler.LinearLR(optimizer, 1 / 7, 1.0, total_iters=6)
    fall = lr_scheduler.CosineAnnealingLR(optimizer, T_max=33)
    scheduler = lr_scheduler.SequentialLR(optimizer, [rise, fall], milestones=[7])
    theirs = [point.detach().numpy().copy()]
    for _ in range(40):
        optimizer.zero_grad()
        x, y = point
        ((1 - x) ** 2 + 100 * (y - x**2) ** 2).backward()
        torch.nn.utils.clip_grad_norm_([point], 2.0)
        before = point.detach().clone()
        optimizer.step()
        scheduler.step()
        if name == "adamw":
            # The notes' decay is not multiplied by the rate, so that no scheduler changes it.
            point.data -= 0.01 * before
        theirs.append(point.detach().numpy().copy())
    # torch divides by norm + 1e-6; the norms here are 2 and more.
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)
    plain = path(RULES[name], catalog.find("rosenbrock"), (-1.5, 1.0), settings, Schedule(), 2.0)
    assert np.abs(ours - plain).max() > 0.01


def test_newtons_rate_is_scheduled_and_its_gradient_clipped():
    # On x^2 / 2 + y^2 the direction is the point itself, scaled as its gradient (x, 2 y) is.
    surface = catalog.find("0.5*x^2 + y^2")
    found = path(RULES["newton"], surface, (3.0, 2.0), {"lr": 1.0, "damping": 0.0}, Schedule("linear"), 1.0, steps=4)
    assert found[1] == pytest.approx([3.0 * (1 - 1 / 5), 2.0 * (1 - 1 / 5)])  # the gradient (3, 4) has norm 5
    gradient = np.hypot(found[1][0], 2 * found[1][1])
    assert found[2] == pytest.approx(found[1] * (1 - 0.75 / gradient))


def test_nesterov_looks_ahead_as_before_and_a_rule_without_a_rate_goes_its_way():
    def signed(x, g, t):
        return x - 0.1 * (g / abs(g))

    rule, surface = read(signed), catalog.find("canyon")
    found = race("canyon", [signed], steps=20, protocols=("default",), schedule="cosine")
    assert found.warnings == ("signed: without lr, so that the schedule changes nothing",)
    start = random_start(surface, 0, 0).point
    assert (path(rule, surface, start, {}, COSINE, None) == path(rule, surface, start, {}, Schedule(), None)).all()
    # By hand, on x^2 / 2: v <- 0.5 v - lr (x + 0.5 v), with lr 0.2, then half of it.
    halved = path(
        RULES["nesterov"], catalog.find("sphere"), (1.0, 0.0), {"lr": 0.2, "momentum": 0.5}, Schedule("linear"), None, 2
    )
    v = -0.2 * 1.0 * surface_curvature(catalog.find("sphere"))
    x = 1.0 + v
    v = 0.5 * v - 0.1 * (x + 0.5 * v) * surface_curvature(catalog.find("sphere"))
    assert halved[:, 0] == pytest.approx([1.0, x, x + v])


def surface_curvature(surface):
    (low, high) = (surface.hessian(0.0, 0.0)[0][0], surface.hessian(0.0, 0.0)[1][1])
    assert low == high
    return low


def leaning(x, g, t, v, lr=0.01):
    """Steps that are more than arithmetic, at a look-ahead that reads the rate."""
    if t > 3:
        v = 0.5 * v - lr * g
    return x + v, v


def leaning_lookahead(x, v, lr=0.01):
    return x + lr * v


@pytest.mark.parametrize(
    ("name", "settings", "optimizer"),
    [
        ("canyon", {"rotate": 30.0, "noise": 0.1}, RULES["nesterov"]),
        ("rosenbrock", {}, RULES["adamw"]),
        ("regression", {"batch_size": 7}, RULES["sgd"]),
        ("himmelblau", {}, RULES["newton"]),
        ("canyon", {}, read(leaning)),
    ],
)
def test_both_engines_give_the_same_bytes(name, settings, optimizer):
    surface = catalog.find(name, **settings)
    starts = [random_start(surface, 0, number) for number in range(4)]
    points = np.array([start.point for start in starts])
    plain = Problem(optimizer, dict(optimizer.defaults), surface, 20, seed=3)
    problem = dataclasses.replace(plain, schedule=COSINE, clip_norm=0.7)
    found = LaneRunner(optimizer, surface, full=False).run(problem, points)
    runner = Runner(optimizer, surface)
    for i, start in enumerate(starts):
        alone = runner.trace(problem, start)
        assert alone.diverged_at is None
        assert alone.point(20) == tuple(found.points[i])
        assert alone.point(20) != runner.trace(plain, start).point(20)


def test_every_rate_of_a_sweep_is_scheduled_and_clipped():
    surface, rule = catalog.find("canyon"), RULES["momentum"]
    problem = Problem(rule, dict(rule.defaults), surface, 30, schedule=COSINE, clip_norm=1.0)
    rates = np.array([0.001, 0.01, 0.1])
    found = LaneRunner(rule, surface, full=False).run(problem, np.array([[5.0, 1.0]] * 3), rates=rates)
    for rate, point in zip(rates, found.points, strict=True):
        settings = {**rule.defaults, "lr": rate}
        assert tuple(point) == tuple(path(rule, surface, (5.0, 1.0), settings, COSINE, 1.0, 30)[-1])


@pytest.mark.parametrize("change", [{"schedule": "linear"}, {"warm_up": 5}, {"clip_norm": 1.0}])
def test_theory_says_that_it_does_not_apply(change):
    found = race("canyon", ["sgd", "newton"], steps=50, protocols=("default", "theory"), **change)
    assert {row.protocol for row in found.results} == {"default"}
    assert all(row.predicted_hit is None for row in found.results)
    report = found.report()
    assert report.notes[-1] == "Not run, theory: sgd, newton (no closed form under a schedule or clipping)."
    wanted = {"schedule": "constant", "warm_up": 0, "clip_norm": None} | change
    assert {key: report.details[key] for key in wanted} == wanted
    assert set(wanted) <= set(report.columns)
    assert all({key: row[key] for key in wanted} == wanted for row in report.runs)


def test_titles_sweeps_and_basins_say_what_was_done():
    change = {"schedule": "step", "warm_up": 5, "clip_norm": 2.0}
    words = "step schedule, warm-up of 5 steps, gradients clipped to norm 2"
    report = race("canyon", ["sgd"], steps=50, protocols=("default",), **change).report()
    assert report.tables[0].title.endswith(f", 50 steps, {words}")
    assert ",step,5,2.0," in to_csv(report).splitlines()[1]
    swept = sweep_report(lr_sweep(SweepRequest(optimizers=("sgd",), steps=50, **change)))
    assert f"over 50 steps, {words}. " in swept.tables[0].caption
    mapped = basins_report(basins(BasinsRequest(size=(4, 3), steps=50, **change)))
    assert mapped.tables[0].caption.startswith(f"50 steps, {words}. ")
    for other in (swept, mapped):
        assert all((row["schedule"], row["warm_up"], row["clip_norm"]) == ("step", 5, 2.0) for row in other.runs)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"schedule": "cosin"}, "did you mean cosine"),
        ({"warm_up": 100}, "--warm-up 100 leaves no step of the run's 100"),
        ({"warm_up": -1}, "at least 0 steps"),
        ({"clip_norm": 0.0}, "above 0"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(change, sentence):
    with pytest.raises(UsageError, match=sentence):
        RaceRequest(steps=100, **change).check()
