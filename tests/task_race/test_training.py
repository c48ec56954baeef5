from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from sklearn.metrics import recall_score
from torch.nn import functional

from mlcv_bench import race_on_tasks
from mlcv_bench.errors import UsageError
from mlcv_bench.execution.processes import Inline
from mlcv_bench.execution.scheduler import run_jobs
from mlcv_bench.optimizers.rule import NOTES, RULES
from mlcv_bench.task_race import training
from mlcv_bench.task_race.jobs import Job, Run, Setup
from mlcv_bench.task_race.learners import SingleLearner, StepMeasurements
from mlcv_bench.task_race.optimizers import find_optimizer
from mlcv_bench.task_race.race import prepare
from mlcv_bench.task_race.request import FIRST_ORDER, TaskRaceRequest
from mlcv_bench.task_race.training import OtherDataError, Training, run_job, run_job_plainly
from mlcv_bench.tasks.datasets import epoch_batches, load
from mlcv_bench.tasks.models import build_model
from tests.timing import fake_cuda

SETUP = Setup("digits", "mlp", 100, 3, 0.9)


def job(optimizer="sgd", *, rates=(0.01,), seeds=(0,), purpose="race", batched=False, setup=SETUP, **given):
    found = find_optimizer(optimizer)
    settings = {name: value for name, value in found.settings.items() if name != "lr"} | given
    return Job(setup, optimizer, tuple(settings.items()), tuple(rates), tuple(seeds), purpose, batched)


def values(run):
    return np.array([*run.losses, *run.accuracies, *run.gradient_norms, *run.update_norms])


FIRST_ORDER_RULES = [name for name, rule in RULES.items() if rule.needs == "gradient"]


@pytest.mark.parametrize(
    ("optimizer", "model"),
    # The field's rules on the smaller model alone: each pair takes a second.
    [(name, "logistic") for name in FIRST_ORDER_RULES] + [(name, "mlp") for name in FIRST_ORDER_RULES if name in NOTES],
)
def test_many_models_at_once_are_the_separate_ones(optimizer, model):
    setup = dataclasses.replace(SETUP, model=model, schedule="cosine", warm_up=5, clip_norm=1.0)
    rates, seeds = (0.0005, 0.003), (0, 5, 9)
    together = run_job(job(optimizer, rates=rates, seeds=seeds, batched=True, setup=setup))
    apart = run_job(job(optimizer, rates=rates, seeds=seeds, setup=setup))
    assert [(run.lr, run.seed) for run in together] == [(rate, seed) for rate in rates for seed in seeds]
    for one, other in zip(together, apart, strict=True):
        assert (one.lr, one.seed, one.diverged_at) == (other.lr, other.seed, None)
        assert len(one.losses) == 3 * 12
        np.testing.assert_allclose(one.losses, other.losses, rtol=1e-4)
        np.testing.assert_allclose(values(one), values(other), rtol=2e-3, atol=2e-5)
        assert [epoch.step for epoch in one.epochs] == [12, 24, 36]
        np.testing.assert_allclose(
            [epoch.val_loss for epoch in one.epochs], [epoch.val_loss for epoch in other.epochs], rtol=1e-4
        )


def test_the_lanes_of_a_batch_do_not_touch_each_other():
    # The third lane diverges to NaN; the other two have to be what they are without it.
    with_it = run_job(job("sgd", rates=(0.01, 0.1, 1e30), batched=True))
    alone = run_job(job("sgd", rates=(0.01, 0.1, 0.2), batched=True))
    assert with_it[2].diverged_at is not None
    assert with_it[:2] == alone[:2]


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam"])
def test_training_is_the_loop_of_every_tutorial(optimizer):
    """Against torch.optim, a plain loop, and measurements made by other means."""
    data = load("digits")
    (run,) = run_job(job(optimizer, rates=(0.01,)))
    model = build_model("mlp", data.input, 10, 0)
    made = {
        "sgd": lambda p: torch.optim.SGD(p, lr=0.01),
        "momentum": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9),
        "adam": lambda p: torch.optim.Adam(p, lr=0.01),
    }[optimizer](model.parameters())
    train, validate = data.split(0)
    losses, gradients, updates = [], [], []
    for epoch in range(3):
        for chosen in epoch_batches(len(train), 100, 0, epoch):
            before = torch.cat([p.detach().reshape(-1).clone() for p in model.parameters()])
            made.zero_grad()
            loss = functional.cross_entropy(model(data.images[train[chosen]]), data.labels[train[chosen]])
            loss.backward()
            made.step()
            losses.append(loss.item())
            gradients.append(torch.cat([p.grad.reshape(-1) for p in model.parameters()]).norm().item())
            updates.append((torch.cat([p.detach().reshape(-1) for p in model.parameters()]) - before).norm().item())
    np.testing.assert_allclose(run.losses, losses, rtol=1e-4)
    np.testing.assert_allclose(run.gradient_norms, gradients, rtol=2e-3)
    np.testing.assert_allclose(run.update_norms, updates, rtol=2e-3)
    with torch.no_grad():
        logits = model(data.images[validate])
        accuracy = (logits.argmax(1) == data.labels[validate]).double().mean().item()
        answers = model(data.test_images).argmax(1)
    last = run.epochs[-1]
    assert last.val_accuracy == pytest.approx(accuracy)
    assert last.test_accuracy == pytest.approx((answers == data.test_labels).double().mean().item())
    recalls = recall_score(data.test_labels, answers, average=None)
    assert last.class_accuracy == pytest.approx(dict(zip("0123456789", recalls, strict=True)))
    assert last.val_loss == pytest.approx(functional.cross_entropy(logits, data.labels[validate]).item(), rel=1e-4)
    # The last batch of an epoch is short, and counts by its samples.
    sizes = np.array([100] * 11 + [50])
    assert last.train_loss == pytest.approx(float((np.array(losses[24:]) * sizes).sum() / 1150), rel=1e-4)


@pytest.mark.parametrize("optimizer", ["momentum", "torch.optim:SGD:momentum=0.9"])
def test_schedule_and_clipping_are_those_of_every_tutorial(optimizer):
    """Warm-up counts the steps of all epochs; the norm is that of all parameters together, before it is clipped."""
    data = load("digits")
    setup = dataclasses.replace(SETUP, schedule="linear", warm_up=15, clip_norm=0.5)
    (run,) = run_job(job(optimizer, rates=(0.3,), setup=setup))
    model = build_model("mlp", data.input, 10, 0)
    made = torch.optim.SGD(model.parameters(), lr=0.3, momentum=0.9)
    rise = torch.optim.lr_scheduler.LinearLR(made, 1 / 15, 1.0, total_iters=14)
    fall = torch.optim.lr_scheduler.LinearLR(made, 1.0, 0.0, total_iters=21)
    scheduler = torch.optim.lr_scheduler.SequentialLR(made, [rise, fall], milestones=[15])
    train, _ = data.split(0)
    losses, norms = [], []
    velocity = [torch.zeros_like(p) for p in model.parameters()]
    for epoch in range(3):
        for chosen in epoch_batches(len(train), 100, 0, epoch):
            made.zero_grad()
            loss = functional.cross_entropy(model(data.images[train[chosen]]), data.labels[train[chosen]])
            loss.backward()
            norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5).item())
            if optimizer == "momentum":
                # The notes multiply the gradient by the rate before the velocity takes it, torch the velocity after.
                with torch.no_grad():
                    for p, v in zip(model.parameters(), velocity, strict=True):
                        v.mul_(0.9).sub_(scheduler.get_last_lr()[0] * p.grad)
                        p.add_(v)
                        p.grad = None
            made.step()
            scheduler.step()
            losses.append(loss.item())
    assert max(norms) > 0.5
    np.testing.assert_allclose(run.losses, losses, rtol=1e-3)
    np.testing.assert_allclose(run.gradient_norms, norms, rtol=2e-2)


def test_newton_on_a_task_takes_the_direction_of_the_clipped_gradient():
    setup = dataclasses.replace(SETUP, model="logistic", epochs=1)
    (plain,) = run_job(job("newton:damping=0.1", rates=(1.0,), setup=setup))
    (clipped,) = run_job(job("newton:damping=0.1", rates=(1.0,), setup=dataclasses.replace(setup, clip_norm=0.01)))
    assert clipped.gradient_norms[0] == plain.gradient_norms[0]
    scale = 0.01 / plain.gradient_norms[0]
    assert clipped.update_norms[0] == pytest.approx(plain.update_norms[0] * scale, rel=1e-4)


class Constant:
    """Two lanes that learn nothing: one is right on every zero but the first, the other on every three."""

    def step(self, _images, labels, _factor, **_norms):
        nothing = torch.zeros(len(labels))
        return StepMeasurements(nothing, (labels == 0).sum(dim=1), nothing, nothing)

    def score(self, _images, labels):
        right = labels == torch.tensor([0, 3])[:, None]
        right[0, right[0].nonzero()[0]] = False
        return torch.zeros(len(labels)), right


def test_the_accuracy_of_each_class_is_that_of_known_answers():
    data = load("digits")
    zeros, threes = Training(job(seeds=(0, 1)), data, Constant()).run()
    nothing = dict.fromkeys("0123456789", 0.0)
    many = {digit: (data.test_labels == digit).sum().item() for digit in (0, 3)}
    assert zeros.epochs[0].class_accuracy == nothing | {"0": (many[0] - 1) / many[0]}
    assert threes.epochs[0].class_accuracy == nothing | {"3": 1.0}
    assert zeros.epochs[0].test_accuracy == (many[0] - 1) / len(data.test_labels)


def test_a_class_without_test_images_has_no_accuracy():
    data = load("digits")
    images = data.test_labels != 7
    blind = dataclasses.replace(data, test_images=data.test_images[images], test_labels=data.test_labels[images])
    (run, _) = Training(job(seeds=(0, 1)), blind, Constant()).run()
    assert list(run.epochs[0].class_accuracy) == list("012345689")


def test_an_optimizer_of_a_third_party_trains_like_the_rule():
    (own,) = run_job(job("adam", rates=(0.003,)))
    (theirs,) = run_job(job("torch.optim:Adam", rates=(0.003,)))
    np.testing.assert_allclose(values(own), values(theirs), rtol=2e-3, atol=1e-5)


CASES = Path(__file__).parent.parent / "cases" / "optimizers.py"


@pytest.mark.parametrize("name", ["Plain", "NoClosure"])
def test_an_optimizer_as_people_write_it_trains_as_it_is(name):
    (own,) = run_job(job("sgd", rates=(0.1,)))
    (theirs,) = run_job(job(f"{CASES}:{name}", rates=(0.1,)))
    np.testing.assert_allclose(values(own), values(theirs), rtol=2e-3, atol=1e-5)


def test_an_optimizer_that_makes_its_state_at_the_first_step_trains():
    logistic = dataclasses.replace(SETUP, model="logistic")
    (run,) = run_job(job(f"{CASES}:SignMomentum", rates=(0.001,), setup=logistic))
    weights = sum(parameter.numel() for parameter in build_model("logistic", (1, 8, 8), 10, 0).parameters())
    # Every weight moves by the rate, in either direction.
    assert run.update_norms[0] == pytest.approx(0.001 * weights**0.5, rel=1e-4)
    assert run.losses[-1] < run.losses[0]


def test_a_closure_is_evaluated_where_the_step_begins():
    """LBFGS calls it up to 20 times a step: the first loss is that of the first weights, as for any other."""
    (plain,) = run_job(job("sgd", rates=(0.1,)))
    (lbfgs,) = run_job(job("torch.optim:LBFGS", rates=(0.1,)))
    assert lbfgs.losses[0] == pytest.approx(plain.losses[0], rel=1e-5)
    assert lbfgs.gradient_norms[0] == pytest.approx(plain.gradient_norms[0], rel=1e-4)
    assert lbfgs.losses[5] < plain.losses[5], "a step of twenty evaluations goes further"
    assert plain.evaluations == 36
    assert 36 < lbfgs.evaluations <= 36 * 25


class SharpnessAware(torch.optim.SGD):
    """SAM as it is usually written: backward, then a step that evaluates the closure where the loss is steepest."""

    @torch.no_grad()
    def step(self, closure=None):
        assert closure is not None, "sharpness-aware minimization requires a closure"
        parameters = self.param_groups[0]["params"]
        gradients = [p.grad.clone() for p in parameters]
        norm = torch.stack([gradient.norm() for gradient in gradients]).norm() + 1e-12
        places = [p.clone() for p in parameters]
        for p, gradient in zip(parameters, gradients, strict=True):
            p.add_(0.05 * gradient / norm)
        with torch.enable_grad():
            closure()
        for p, place in zip(parameters, places, strict=True):
            p.copy_(place)
        super().step()


def test_an_optimizer_that_asks_for_a_closure_gets_one():
    """Against the two steps by hand (Foret et al. 2021, algorithm 1): w - lr g(w + rho g / |g|), two evaluations."""
    model = torch.nn.Linear(4, 3)
    weights = [p.detach().clone() for p in model.parameters()]
    images, labels = torch.randn(1, 5, 4), torch.tensor([[0, 1, 2, 0, 1]])
    learner = SingleLearner(model, find_optimizer(SharpnessAware), {"lr": 0.1})

    def gradient(weight, bias):
        error = (images[0] @ weight.T + bias).softmax(dim=1) - functional.one_hot(labels[0], 3)
        return error.T @ images[0] / 5, error.mean(dim=0)

    for _ in range(3):
        assert learner.step(images, labels, 1.0, norms=True).evaluations == 2
        slope = gradient(*weights)
        norm = math.sqrt(sum(float((part**2).sum()) for part in slope))
        steepest = gradient(*(w + 0.05 * part / norm for w, part in zip(weights, slope, strict=True)))
        weights = [w - 0.1 * part for w, part in zip(weights, steepest, strict=True)]
    for p, expected in zip(model.parameters(), weights, strict=True):
        torch.testing.assert_close(p.detach(), expected)


def test_an_optimizer_that_works_without_a_closure_gets_none():
    class Seen(torch.optim.SGD):
        given: ClassVar[list[object]] = []

        def step(self, closure=None):
            self.given.append(closure)
            return super().step()

    learner = SingleLearner(torch.nn.Linear(4, 3), find_optimizer(Seen), {"lr": 0.1})
    shown = learner.step(torch.randn(1, 5, 4), torch.zeros(1, 5, dtype=torch.int64), 1.0, norms=False)
    assert shown.evaluations == 1
    assert set(Seen.given) == {None}


class TwoModes(torch.optim.SGD):
    """Trains as SGD does, but only in its own training mode, as schedule-free optimizers; scores in the other."""

    training = False
    seen: ClassVar[set[str]] = set()

    def train(self):
        self.training = True
        self.seen.add("train")

    def eval(self):
        self.training = False
        self.seen.add("eval")

    def step(self):
        assert self.training
        return super().step()


def test_an_optimizer_with_modes_of_its_own_is_switched_with_the_model():
    learner = SingleLearner(torch.nn.Linear(4, 3), find_optimizer(TwoModes), {"lr": 0.1})
    images, labels = torch.randn(1, 5, 4), torch.zeros(1, 5, dtype=torch.int64)
    first = learner.step(images, labels, 1.0, norms=True)
    learner.score(images, labels)
    assert learner.step(images, labels, 1.0, norms=True).losses < first.losses
    assert TwoModes.seen == {"train", "eval"}


NORMED = (
    "from torch import nn\n"
    "class Normed(nn.Sequential):\n"
    "    def __init__(self, num_classes=10):\n"
    "        super().__init__(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Linear(8, num_classes))\n"
)


@pytest.mark.parametrize(
    ("optimizer", "model", "batch_size", "sentence"),
    [
        ("torch.optim:Muon", "mlp", 32, "Muon cannot be built: Muon only supports 2D parameters"),
        ("torch.optim:SparseAdam", "mlp", 32, "SparseAdam cannot train this model: .*dense gradients"),
        ("{models}:branching", "mlp", 32, "branching cannot train this model: Boolean value .*mlcv_bench.functions"),
        ("torch.optim:Adam:betas=0.9", "mlp", 32, "optim:Adam cannot be built: .*give its settings as in .*betas="),
        ("{models}:undamped", "logistic", 32, "Hessian of the mini-batch is singular; give undamped a setting damping"),
        # 1150 training images: the last batch of 383 x 3 + 1 is one image.
        (
            "sgd",
            "{models}:Normed",
            383,
            "cannot train on the last batch of an epoch, 1 image: .*; add --drop-last, or try another --batch-size",
        ),
        ("sgd", "{models}:Normed", 1, "last batch of an epoch, 1 image: .*; try another --batch-size"),
    ],
)
def test_what_cannot_train_is_refused_before_anything_is_trained(tmp_path, optimizer, model, batch_size, sentence):
    (tmp_path / "models.py").write_text(
        f"{NORMED}"
        "def branching(x, g, t, lr=0.01):\n"
        "    return x - lr if g > 0 else x + lr\n"
        "def undamped(x, newton_direction, t, lr=1.0):\n"
        "    return x - lr * newton_direction\n"
    )
    with pytest.raises(UsageError, match=sentence):
        prepare(
            TaskRaceRequest(
                optimizers=tuple(dict.fromkeys(("sgd", optimizer.format(models=tmp_path / "models.py")))),
                models=(model.format(models=tmp_path / "models.py"),),
                batch_size=batch_size,
            )
        )


def test_without_its_last_batch_of_one_a_network_with_batch_norm_trains(tmp_path):
    (tmp_path / "models.py").write_text(NORMED)
    # 1150 training images: three batches of 383, and one image.
    request = TaskRaceRequest(
        optimizers=("sgd",),
        models=(f"{tmp_path / 'models.py'}:Normed",),
        batch_size=383,
        epochs=2,
        seeds=1,
        protocols=("default",),
        drop_last=True,
    )
    race = prepare(request)
    assert (race.problems[0].steps_per_epoch, race.problems[0].budget) == (3, 6)
    run_jobs(race, run_job_plainly, Inline())
    (result,) = race.results
    assert [epoch.step for epoch in result.run.epochs] == [3, 6]
    assert len(result.run.losses) == 6


def test_a_setting_that_is_off_leaves_the_key_of_a_job_as_it_was():
    # Of a job at 5da7450, before there was any --drop-last.
    assert job().key == "639dc6b5d785a9fed4c76daa"
    assert job(setup=dataclasses.replace(SETUP, drop_last=True)).key != job().key


def test_the_same_job_gives_the_same_bytes():
    assert run_job_plainly(job("adam", batched=True, seeds=(0, 1))) == run_job_plainly(
        job("adam", batched=True, seeds=(0, 1))
    )
    small = dataclasses.replace(SETUP, model="resnet8", epochs=1, batch_size=300)
    assert run_job(job("adam", setup=small)) == run_job(job("adam", setup=small))


def test_a_run_survives_the_way_through_plain_values():
    import json

    (run,) = run_job(job())
    assert Run.from_dict(json.loads(json.dumps(run.as_dict()))) == run


def test_tuning_sees_no_test_image(monkeypatch):
    data = load("digits")
    blind = dataclasses.replace(data, test_images=torch.full_like(data.test_images, math.nan))
    monkeypatch.setattr(training, "load", lambda *_: blind)
    (tuned,) = run_job(job(purpose="tuning"))
    monkeypatch.undo()
    (raced,) = run_job(job())
    assert tuned.best_loss == raced.best_loss
    assert not tuned.epochs


@pytest.mark.parametrize("batched", [True, False])
def test_divergence_is_named_with_its_step(batched):
    (run,) = run_job(job("adamw", rates=(1e30,), batched=batched))
    assert run.diverged_at is not None
    assert 1 <= run.diverged_at <= 36
    assert len(run.losses) == run.diverged_at - 1
    assert all(map(math.isfinite, [*run.losses, *run.gradient_norms]))
    assert run.first_hit is None
    assert run.held_from is None
    assert run.loss_area is None
    assert run.epochs[-1].train_loss is None


def test_hits_are_steps_of_a_check():
    setup = dataclasses.replace(SETUP, epochs=6, target=0.8)
    (run,) = run_job(job("adam", rates=(0.01,), setup=setup))
    assert run.first_hit is not None
    assert run.held_from is not None
    # Four checks in an epoch of 12 steps.
    assert run.first_hit % 3 == 0
    assert run.held_from >= run.first_hit
    missed = run_job(job("sgd", rates=(1e-5,)))[0]
    assert (missed.first_hit, missed.held_from) == (None, None)


def test_other_images_on_a_worker_are_refused():
    with pytest.raises(OtherDataError, match="differ"):
        run_job(job(setup=dataclasses.replace(SETUP, fingerprint="0" * 16)))


def test_newton_takes_newtons_step():
    """Against the closed-form Hessian of multinomial logistic regression, in numpy."""
    setup = dataclasses.replace(SETUP, model="logistic", batch_size=1150, epochs=1)
    (run,) = run_job(job("newton", rates=(1.0,), damping=0.1, setup=setup))
    data = load("digits")
    train, _ = data.split(0)
    images = data.images[train].flatten(1).double().numpy()
    labels = data.labels[train].numpy()
    model = build_model("logistic", data.input, 10, 0)
    weight, bias = (p.detach().double().numpy() for p in model.parameters())
    ones = np.concatenate([images, np.ones((len(images), 1))], axis=1)
    theta = np.concatenate([weight, bias[:, None]], axis=1)
    odds = np.exp(ones @ theta.T)
    share = odds / odds.sum(axis=1, keepdims=True)
    slope = (share - np.eye(10)[labels]).T @ ones / len(ones)
    curvature = np.einsum("ni,ij,nk,nl->ikjl", share, np.eye(10), ones, ones, optimize=True)
    curvature -= np.einsum("ni,nj,nk,nl->ikjl", share, share, ones, ones, optimize=True)
    full = curvature.reshape(650, 650) / len(ones) + 0.1 * np.eye(650)
    step = np.linalg.solve(full, slope.reshape(-1))
    assert run.gradient_norms[0] == pytest.approx(np.linalg.norm(slope), rel=1e-4)
    assert run.update_norms[0] == pytest.approx(np.linalg.norm(step), rel=1e-4)


def test_newton_without_damping_says_that_it_is_singular():
    setup = dataclasses.replace(SETUP, model="logistic", epochs=1)
    with pytest.raises(ArithmeticError, match="newton:damping"):
        run_job(job("newton", rates=(1.0,), setup=setup))


def test_the_field_is_all_first_order_rules_of_the_notes():
    assert FIRST_ORDER == ("sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "adamw")


def test_a_network_that_ends_python_in_training_fails_its_runs_alone(tmp_path, monkeypatch):
    (tmp_path / "quitting.py").write_text(
        "from torch import nn\n\n\n"
        "class Quitting(nn.Module):\n"
        "    def __init__(self, num_classes=10):\n"
        "        super().__init__()\n"
        "        self.head, self.passes = nn.Linear(64, num_classes), 0\n\n"
        "    def forward(self, x):\n"
        "        self.passes += 1\n"
        "        if self.passes > 10:\n"
        "            raise SystemExit(0)\n"
        "        return self.head(x.flatten(1))\n"
    )
    monkeypatch.chdir(tmp_path)
    race = prepare(
        TaskRaceRequest(optimizers=("sgd",), models=("quitting.py:Quitting",), protocols=("default",), seeds=1)
    )
    run_jobs(race, run_job_plainly, Inline())
    (result,) = race.results
    assert result.status == "failed"
    assert "sys.exit" in result.reason


def test_a_race_on_a_device_gives_the_processors_numbers(monkeypatch):
    """A rule and a class, many runs at once and one alone; the device is made of processor memory."""
    asked = {"models": "logistic", "epochs": 1, "seeds": 2, "protocols": "default"}
    optimizers = ["momentum", "torch.optim:SGD:lr=0.1"]
    here = race_on_tasks("digits", optimizers, **asked)
    with fake_cuda.present(monkeypatch) as device:
        there = race_on_tasks("digits", optimizers, **asked, device="cuda")
        assert device.kernels > 100
    assert [one.run for one in there.results] == [one.run for one in here.results]
    assert there.problems[0].setup.device == "cuda:0"


def test_a_device_that_is_not_here_is_one_sentence():
    if torch.cuda.is_available():
        pytest.skip("a CUDA device is here")
    with pytest.raises(UsageError, match="device cuda is not here; this machine has cpu"):
        race_on_tasks("digits", ["sgd"], device="cuda")
