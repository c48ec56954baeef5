"""Any torch.optim.Optimizer class on any surface: as the rules where they are one, and each driven as it needs."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mlcv_bench import race
from mlcv_bench.errors import UsageError
from mlcv_bench.optimizers import third_party
from mlcv_bench.optimizers.rule import RULES
from mlcv_bench.report.plots.race_data import labels_of
from mlcv_bench.report.plots.races import MOST_TOGETHER, paint
from mlcv_bench.report.plots.style import style_of
from mlcv_bench.report.races import sweep_report
from mlcv_bench.surface_race.basins import basins
from mlcv_bench.surface_race.floats import Runner
from mlcv_bench.surface_race.lanes import LaneRunner
from mlcv_bench.surface_race.program import Problem, Start
from mlcv_bench.surface_race.race import lr_sweep
from mlcv_bench.surface_race.request import BasinsRequest, SweepRequest
from mlcv_bench.surface_race.torch_engine import LONGEST_STRETCH, TorchRunner
from mlcv_bench.surfaces import catalog
from mlcv_bench.surfaces.surface import SURFACES
from tests.timing import fake_cuda

PLACES = [
    *((name, {}) for name in SURFACES),
    ("canyon", {"rotate": 30.0, "noise": 0.1}),
    ("regression", {"batch_size": 7}),
    ("logistic", {"batch_size": 40, "rotate": 20.0}),
    ("x**4 + y**2 - x*y + abs(x)", {}),
    ("quadratic", {"dim": 5, "noise": 0.2}),
    ("regression", {"schedule": "cosine", "warm_up": 5, "clip_norm": 0.3, "batch_size": 32}),
]
RATE = 1e-3
PAIRS = {
    "sgd": "torch.optim:SGD",
    "momentum": "torch.optim:SGD:momentum=0.9",
    "adagrad": "torch.optim:Adagrad:eps=1e-8",
    "rmsprop": "torch.optim:RMSprop:alpha=0.9",
    "adam": "torch.optim:Adam",
    "adam_l2": "torch.optim:Adam:weight_decay=0.01",
    "adamw_torch": "torch.optim:AdamW",
    # The notes' weight decay is not multiplied by the rate, torch's is: 1e-5 is 0.01 times RATE.
    "adamw": "torch.optim:AdamW:weight_decay=0.01",
    "adamw:weight_decay=0.02": "torch.optim:AdamW:weight_decay=0.02",
    "nesterov": "torch.optim:SGD:momentum=0.9,nesterov=true",
}


def at_rate(text):
    return f"{text}{',' if '=' in text else ':'}lr={RATE}"


def apart(ours, theirs):
    return np.abs(ours - theirs).max() / np.abs(ours).max()


@pytest.mark.parametrize(("name", "settings"), PLACES)
def test_the_notes_rules_and_torchs_classes_take_one_path_as_entrants_of_one_race(name, settings):
    entrants = [at_rate(text) for pair in PAIRS.items() for text in pair]
    found = race(name, entrants, steps=25, protocols="default", **settings)
    paths = {label: np.array(trace.points) for (label, _), trace in found.traces.items()}
    for ours, theirs in PAIRS.items():
        if "schedule" in settings and ours in {"momentum", "nesterov", "adamw"}:
            continue  # the notes' velocity keeps the rates that its steps had, and their decay has none
        own, other = paths[at_rate(ours)], paths[at_rate(theirs)]
        if ours == "nesterov":
            # torch's parameter is the look-ahead, which is where the notes' rule takes its gradient (notes 1.3). Noise
            # and batches are those of the same steps.
            velocity = np.diff(own, axis=1)
            own, other = own[:, 1:] + 0.9 * velocity, other[:, 1:]
        if ours == "adamw:weight_decay=0.02":
            # At equal numbers the notes' decay is 1 / lr times torch's: the paths part.
            assert apart(own, other) > 1e-2
        else:
            assert apart(own, other) < 1e-10, ours
    finals = {row.optimizer: row.final_loss for row in found.results}
    assert finals[at_rate("adam")] == pytest.approx(finals[at_rate("torch.optim:Adam")], rel=1e-9)


@pytest.mark.parametrize("name", ["sphere", "rosenbrock", "logistic"])
def test_a_population_is_measured_as_the_lanes_measure_it(name):
    surface = catalog.find(name)
    rule, (own, _) = RULES["momentum"], third_party.find("torch.optim:SGD:momentum=0.9")
    settings = rule.settings({"lr": 0.003})
    points = surface.start + np.random.default_rng(0).uniform(-0.3, 0.3, (6, surface.dimension))
    rates = np.array([0.003] * 5 + [1e4])
    ours = LaneRunner(rule, surface).run(Problem(rule, settings, surface, 150), points, rates=rates)
    problem = Problem(own, {"lr": 0.003, "momentum": 0.9}, surface, 150)
    theirs = TorchRunner(own, surface, problem.settings).run(problem, points, rates=rates)
    for column in ("first_hit", "last_exit", "diverged_at", "undercut"):
        assert getattr(ours, column).tolist() == getattr(theirs, column).tolist(), column
    there = ours.diverged_at < 0
    assert there.any()
    assert there[-1] == (name == "logistic")  # whose slope is bounded
    measured = ("first_value", "final_value", "points", "path_length", "flips", "lowest_before", "highest_before")
    for column in (*measured, "lowest_after", "highest_after"):
        mine, other = (getattr(one, column)[there] for one in (ours, theirs))
        assert mine == pytest.approx(other, rel=1e-9, abs=1e-9), column


class Stepping(torch.optim.Optimizer):
    """Gradient descent, and something else as each test has it."""

    def __init__(self, params, lr=0.01):
        super().__init__(params, {"lr": lr})
        self.taken = 0

    def change(self, parameter):
        return -self.param_groups[0]["lr"] * parameter.grad

    @torch.no_grad()
    def step(self, closure=None):
        self.taken += 1
        for parameter in self.param_groups[0]["params"]:
            parameter.add_(self.change(parameter))


class CoupledLate(Stepping):
    """Looks at the whole tensor from a late step on."""

    def change(self, parameter):
        return super().change(parameter) / (1 + parameter.grad.norm() * (self.taken > LONGEST_STRETCH + 9))


class Drawing(Stepping):
    """Draws noise of its own."""

    def change(self, parameter):
        return super().change(parameter) + 1e-3 * torch.randn_like(parameter)


class Moving(Stepping):
    """Gives the parameter other memory at each step."""

    def change(self, parameter):
        moved = parameter.data + super().change(parameter)
        parameter.data = moved
        return torch.zeros_like(parameter)


class TwoModes(Stepping):
    """Stands at 1000 while it trains, and where the surface should be measured otherwise."""

    def train(self):
        self.param_groups[0]["params"][0].data.add_(1000.0)

    def eval(self):
        self.param_groups[0]["params"][0].data.sub_(1000.0)

    def change(self, parameter):
        assert (parameter > 500).all()
        return super().change(parameter)


class Falling(Stepping):
    """Fails where it sees what is no number."""

    def change(self, parameter):
        if not parameter.grad.isfinite().all():
            raise ValueError("no number")
        return super().change(parameter)


def run(kind, starts, steps=100, surface="canyon", rates=None, **settings):
    own, _ = third_party.find(kind)
    place = catalog.find(surface)
    problem = Problem(own, own.settings(settings), place, steps)
    runner = TorchRunner(own, place, problem.settings)
    return runner, problem, runner.run(problem, np.array(starts), rates=rates)


STARTS = np.random.default_rng(1).uniform(-1.5, 1.5, (7, 2))


@pytest.mark.parametrize(
    ("kind", "company"),
    [
        ("torch.optim:Adam", "a rate"),
        ("torch.optim:SGD:momentum=0.9", "a rate"),
        (Moving, "a rate"),
        ("torch.optim:Adafactor", "a run"),
        ("torch.optim:Muon", "a run"),
        (CoupledLate, "a run"),
        (Drawing, "alone"),
    ],
)
def test_runs_in_company_go_as_they_go_alone(kind, company):
    """Adafactor and Muon look at whole tensors: as one parameter all starts together would go other ways."""
    runner, problem, together = run(kind, STARTS)
    assert runner._company == company
    for i, start in enumerate(STARTS):
        path = runner.trace(problem, Start(i, tuple(start)))
        assert path.values[-1] == together.final_value[i]
        assert list(path.point(-1)) == together.points[i].tolist()


def test_a_measured_point_is_the_one_of_evaluation_and_the_gradient_that_of_training():
    runner, problem, _ = run(TwoModes, STARTS[:1], steps=3, lr=1e-4)
    path = runner.trace(problem, Start(0, (1.0, 1.0)))
    x = 1.0
    for step in range(4):
        assert path.points[0][step] == pytest.approx(x, abs=1e-9)
        x -= 1e-4 * (x + 1000)


def test_evaluations_of_a_closure_are_counted():
    _, _, found = run("torch.optim:LBFGS", STARTS[:2], steps=5)
    assert (found.evaluations > 5).all()
    assert (found.final_value < 1e-12).all()
    _, _, plain = run("torch.optim:SGD", STARTS[:2], steps=5)
    assert plain.evaluations is None


def test_sharpness_aware_minimization_steps_at_the_gradient_of_a_neighbour():
    """On x^2 / 2 the neighbour of x > 0 is x + rho: x <- x - lr (x + rho), two gradients a step (Foret et al. 2021)."""

    class SharpnessAware(torch.optim.Optimizer):
        def __init__(self, params, base_optimizer, rho=0.05, **kwargs):
            super().__init__(params, {"rho": rho})
            self.base = base_optimizer(self.param_groups, **kwargs)
            self.param_groups = self.base.param_groups

        @torch.no_grad()
        def step(self, closure=None):
            if closure is None:
                raise RuntimeError("give a closure")
            for group in self.param_groups:
                for p in group["params"]:
                    move = self.state[p]["move"] = group["rho"] * p.grad / p.grad.norm()
                    p.add_(move)
            closure()
            for group in self.param_groups:
                for p in group["params"]:
                    p.sub_(self.state[p]["move"])
            self.base.step()

    kind = functools.partial(SharpnessAware, base_optimizer="SGD")
    own, given = third_party.find(kind)
    assert own.defaults == {"rho": 0.05, "lr": 1e-3}  # the rate that SGD has where none is given
    surface = catalog.find("0.5*x**2")
    problem = Problem(own, {**own.settings(given), "lr": 0.1}, surface, 3)
    runner = TorchRunner(own, surface, problem.settings)
    x = [1.0]
    for _ in range(3):
        x.append(x[-1] - 0.1 * (x[-1] + 0.05))
    assert runner.trace(problem, Start(0, (1.0,))).points[0] == pytest.approx(x)
    assert runner.run(problem, np.array([[1.0]])).evaluations.tolist() == [6]


def test_what_fails_at_no_numbers_has_diverged_and_what_fails_before_is_refused():
    _, _, found = run(Falling, STARTS[:2], rates=np.array([0.01, 1e200]))
    assert (found.diverged_at < 0).tolist() == [True, False]

    class Failing(Stepping):
        def change(self, parameter):
            if self.taken == 5:
                raise RuntimeError("tired")
            return super().change(parameter)

    with pytest.raises(UsageError, match="Failing failed at step 5: tired; leave it out"):
        run(Failing, STARTS[:1])


def test_the_gradient_has_the_bits_of_floats_where_no_function_is_called():
    surface = catalog.find("rosenbrock", dim=4)
    own, _ = third_party.find("torch.optim:SGD:momentum=0.5")
    runner = TorchRunner(own, surface, {"lr": 0.01})
    points = torch.rand(50, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    wanted = [surface.gradient(*point) for point in points.tolist()]
    assert runner.tensors.gradient(points).tolist() == [list(slope) for slope in wanted]


def test_a_whole_list_races_and_what_cannot_run_is_said_with_its_reason():
    found = race("rosenbrock", "torch.optim:all", steps=8, protocols="default")
    raced = {row.optimizer for row in found.results}
    public = {
        f"torch.optim:{name}"
        for name, item in vars(torch.optim).items()
        if isinstance(item, type) and issubclass(item, torch.optim.Optimizer) and item is not torch.optim.Optimizer
    }
    assert raced | set(found.unable) == public
    assert list(found.unable) == ["torch.optim:SparseAdam"]
    assert "does not support dense gradients" in found.unable["torch.optim:SparseAdam"]
    *rows, last = found.report().runs
    assert [row["status"] for row in rows] == ["done"] * len(raced)
    assert (last["optimizer"], last["status"], last["reason"]) == (
        "torch.optim:SparseAdam",
        "skipped",
        *found.unable.values(),
    )
    more = [row["optimizer"] for row in rows if row["evaluations"] != row["steps"]]
    assert more == ["torch.optim:LBFGS"]


def test_a_file_s_list_has_its_own_classes(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from torch.optim import SGD, Adam\n\n"
        "class Slow(SGD):\n    def __init__(self, params, lr=1e-4):\n        super().__init__(params, lr)\n"
    )
    assert third_party.every(f"{file}:all:lr=0.1") == [f"{file}:Slow:lr=0.1"]
    assert third_party.every("adam:lr=0.1") is None
    with pytest.raises(UsageError, match=r"has no torch\.optim\.Optimizer class"):
        third_party.every("math:all")


def test_a_class_is_tuned_on_the_grid_like_a_rule():
    found = race("canyon", ["sgd", "torch.optim:SGD"], protocols=("default", "tuned"), steps=120)
    rows = {(row.optimizer, row.protocol): row for row in found.results}
    ours, theirs = rows["sgd", "tuned"], rows["torch.optim:SGD", "tuned"]
    assert (ours.lr, ours.first_hit, ours.last_exit) == (theirs.lr, theirs.first_hit, theirs.last_exit)
    assert rows["torch.optim:SGD", "default"].lr == 1e-3
    assert found.skipped == {}
    mine, other = found.sweeps
    assert mine.medians == other.medians


def test_sweeps_and_basins_take_a_class_too():
    swept = lr_sweep(SweepRequest("sphere", ("sgd", "torch.optim:SGD"), steps=40, starts=2))
    ours, theirs = swept.swept[0].sweeps
    assert {row["status"] for row in sweep_report(swept).runs} == {"done"}
    assert ours.medians == theirs.medians
    request = {"surface": "himmelblau", "size": (9, 7), "steps": 80}
    ours = basins(BasinsRequest(optimizers=("momentum:lr=0.005",), **request))
    theirs = basins(BasinsRequest(optimizers=("torch.optim:SGD:momentum=0.9,lr=0.005",), **request))
    assert (ours.index == theirs.index).all()
    assert (ours.steps == theirs.steps).all()


def test_a_list_is_no_basin_s_optimizer():
    with pytest.raises(UsageError, match=r"basins are drawn of one optimizer; name one, such as torch\.optim:Adadelta"):
        basins(BasinsRequest(optimizers=("torch.optim:all",), size=(4, 4)))


@pytest.mark.parametrize(
    ("optimizers", "more", "says"),
    [
        ("torch.optim:SparseAdam", {}, "cannot run on a surface: SparseAdam does not support dense gradients"),
        ("torch.optim:Adam:betas=(2,3)", {}, "torch.optim:Adam cannot be built: Invalid beta parameter"),
        ("torch.optim:Adam:beta1=0.9", {}, r"has no beta1 \(did you mean betas\?\)"),
        ("torch.optim:Adam,torch.optim:adam", {}, "is no torch.optim.Optimizer|no attribute|no update rule"),
        ("collections:OrderedDict", {}, "is no torch.optim.Optimizer"),
        ("torch.optim:Adam", {"dim": 65, "surface": "sphere"}, "races in up to 64 coordinates; give a smaller dim"),
        ("adam", {"device": "cuda"}, "device cuda is for classes such as torch.optim:Adam"),
        ("torch.optim:Adam", {"device": "cuda"}, "device cuda is not here; this machine has cpu"),
        ("torch.optim:Adam", {"device": "gpu"}, "device has no gpu"),
    ],
)
def test_what_cannot_race_is_refused_in_one_sentence(optimizers, more, says):
    if more.get("device") == "cuda" and torch.cuda.is_available():
        pytest.skip("a CUDA device is here")
    with pytest.raises(UsageError, match=says):
        race(**{"surface": "canyon", **more}, optimizers=optimizers if "(" in optimizers else optimizers.split(","))


def test_a_class_runs_on_a_device_with_the_same_results(monkeypatch):
    arguments = {"optimizers": ["momentum", "torch.optim:SGD:momentum=0.9"], "protocols": "default", "starts": 3}
    here = race("rosenbrock", **arguments, steps=12)
    with fake_cuda.present(monkeypatch) as device:
        there = race("rosenbrock", **arguments, steps=12, device="cuda")
        assert device.kernels > 12
    assert there.results == here.results


def test_a_list_too_long_for_one_panel_has_one_for_each_the_best_first():
    rates = [10.0**-i for i in range(MOST_TOGETHER + 1)]
    found = race("sphere", [f"sgd:lr={rate!r}" for rate in rates], steps=30, protocols="default")
    figure = Figure()
    paint(found, figure)
    shown = [axes.get_title() for axes in figure.axes if axes.get_visible()]
    assert shown == [f"sgd:lr={rate!r}" for rate in rates]


def test_a_rule_s_path_is_that_of_floats():
    surface = catalog.find("beale")
    found = race(surface, ["sgd:lr=0.001", "torch.optim:SGD:lr=0.001"], steps=30, protocols="default")
    alone = Runner(RULES["sgd"], surface).trace(
        Problem(RULES["sgd"], {"lr": 0.001}, surface, 30), Start(0, surface.start)
    )
    assert found.traces["torch.optim:SGD:lr=0.001", "default"].values == pytest.approx(alone.values, rel=1e-12)
    assert math.isfinite(alone.values[-1])


def test_many_classes_of_one_picture_differ_in_it_and_their_legend_lies_inside():
    found = race("sphere", "torch.optim:all", steps=3, protocols="default")
    labels = labels_of(found)
    assert len(labels) > 10
    assert len({style_of(label, labels) for label in labels}) == len(labels)
    figure = Figure(layout="constrained")
    paint(found, figure)
    FigureCanvasAgg(figure).draw()
    (legend,) = figure.legends
    inside, whole = legend.get_window_extent(), figure.bbox
    assert whole.x0 <= inside.x0 <= inside.x1 <= whole.x1
