"""Loss landscapes against weights set by hand, numpy's least squares and numpy's singular value decomposition."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch import nn
from torch.nn import functional

from mlcv_bench.errors import UsageError
from mlcv_bench.landscapes import landscape as studies
from mlcv_bench.landscapes.directions import filter_normalised, place_on, principal
from mlcv_bench.landscapes.heights import LossOnImages
from mlcv_bench.landscapes.landscape import landscape
from mlcv_bench.landscapes.request import LandscapeRequest
from mlcv_bench.optimizers.rule import RULES
from mlcv_bench.optimizers.torch_optimizer import RuleOptimizer
from mlcv_bench.report.landscapes import COLUMNS, landscape_report
from mlcv_bench.task_race.learners import named_state, state_of
from mlcv_bench.tasks.datasets import epoch_batches, load
from mlcv_bench.tasks.models import build_model
from tests.timing import fake_cuda

BOTH = {"directions": ("principal", "random"), "resolution": 5, "epochs": 1}


@pytest.fixture(scope="module")
def digits():
    return load("digits")


@pytest.fixture(scope="module")
def found():
    return landscape(LandscapeRequest(optimizers=("sgd:lr=0.1", "nesterov", "adam"), **BOTH))


def trained_by_hand(data, optimizer, **settings):
    """Train the perceptron for one epoch with a plain loop, and return it."""
    model = build_model("mlp", data.input, data.classes, 0)
    steps = RuleOptimizer(model.parameters(), RULES[optimizer], **settings)
    training, _ = data.split(0)
    for chosen in epoch_batches(len(training), 32, 0, 0):
        steps.zero_grad()
        functional.cross_entropy(model(data.images[training[chosen]]), data.labels[training[chosen]]).backward()
        steps.step()
    return model


def whole_loss(model, data, images=1000):
    """Return a model's loss on the images that a landscape takes by default, in double precision."""
    training, _ = data.split(0)
    order = torch.randperm(len(training), generator=studies.generator(0, studies.SHOWN))
    chosen = training[order[:images]]
    with torch.no_grad():
        logits = model.double().eval()(data.images[chosen].double())
        return float(functional.cross_entropy(logits, data.labels[chosen]))


def best_of(found):
    return next(path for path in found.paths if path.result.optimizer == found.centre)


def span_of(found, number):
    """Return the directions of the first plane, of all paths' points, or of the second, of the centre's filters."""
    if number == 0:
        return principal(np.concatenate([path.states for path in found.paths]))
    shapes = [(64, 64), (64,), (10, 64), (10,)]
    parts = torch.from_numpy(best_of(found).states[-1]).split([math.prod(shape) for shape in shapes])
    return filter_normalised([part.view(shape) for part, shape in zip(parts, shapes, strict=True)], 0)


def test_a_path_ends_where_a_plain_loop_does(found, digits):
    path = next(path for path in found.paths if path.result.optimizer == "adam")
    by_hand = trained_by_hand(digits, "adam", **RULES["adam"].defaults)
    assert np.allclose(path.states[-1], state_of(by_hand), atol=1e-5)
    assert path.losses[-1] == pytest.approx(whole_loss(by_hand, digits), rel=1e-4)
    assert path.steps == tuple(range(37))


def test_the_origin_has_the_loss_of_the_trained_model(found, digits):
    best = best_of(found)
    assert best.losses[-1] == min(path.losses[-1] for path in found.paths)
    model = build_model("mlp", digits.input, digits.classes, 0)
    nn.utils.vector_to_parameters(torch.from_numpy(best.states[-1]), model.parameters())
    plane = found.planes[1]
    assert (plane.a[2], plane.b[2]) == (0, 0)
    assert plane.losses[2, 2] == pytest.approx(whole_loss(model, digits), rel=1e-6)


@pytest.mark.parametrize("number", [0, 1])
def test_a_point_of_the_plane_has_the_loss_of_weights_set_by_hand(found, digits, number):
    plane, span = found.planes[number], span_of(found, number)
    centre = torch.from_numpy(best_of(found).states[-1]).double()
    model = build_model("mlp", digits.input, digits.classes, 0)
    for i, j in ((0, 4), (3, 1)):
        weights = (
            centre + plane.a[j] * torch.from_numpy(span.vectors[0]) + plane.b[i] * torch.from_numpy(span.vectors[1])
        )
        nn.utils.vector_to_parameters(weights.float(), model.float().parameters())
        assert plane.losses[i, j] == pytest.approx(whole_loss(model, digits), rel=1e-5)


@pytest.mark.parametrize("number", [0, 1])
def test_paths_lie_where_least_squares_puts_them(found, number):
    plane, best = found.planes[number], best_of(found)
    vectors = span_of(found, number).vectors
    for own in plane.paths:
        offsets = (own.path.states - best.states[-1]).T.astype(np.float64)
        places, squares, *_ = np.linalg.lstsq(vectors.T, offsets, rcond=None)
        assert np.allclose(own.places, places.T, atol=1e-6)
        assert np.allclose(own.distances**2, squares, atol=1e-6)
        assert np.allclose(own.from_centre, np.linalg.norm(offsets, axis=0))
        assert own.kept == pytest.approx(1 - squares.sum() / (offsets**2).sum(), abs=1e-9)


def test_coordinates_beside_oblique_directions():
    class Span:
        vectors = np.array([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0]])

    places, apart, away = place_on(Span, np.array([1.0, 1.0, 1.0]), np.array([[3, 4, 6], [1, 1, 1]], np.float32))
    assert np.allclose(places, [[-1, 3], [0, 0]])  # (2, 3, 5) = -(1, 0, 0) + 3 (1, 1, 0) + (0, 0, 5)
    assert np.allclose(apart, [5, 0])
    assert np.allclose(away, [38**0.5, 0])


def test_principal_directions_are_those_of_sklearn_and_of_singular_values():
    points = np.random.default_rng(0).normal(size=(40, 30)).astype(np.float32) @ np.diag(np.arange(30.0, 0, -1))
    points = points.astype(np.float32)
    span = principal(points)
    full = PCA(svd_solver="full").fit(points.astype(np.float64))
    assert span.variance == pytest.approx(full.explained_variance_ratio_[:2], rel=1e-5)
    _, sizes, rows = np.linalg.svd(points.astype(np.float64) - points.mean(axis=0, dtype=np.float64))
    assert span.variance == pytest.approx((sizes**2 / (sizes**2).sum())[:2], rel=1e-5)
    for own, row, sklearns in zip(span.vectors, rows, full.components_, strict=False):
        assert abs(own @ row) == pytest.approx(1, abs=1e-6)
        assert abs(own @ sklearns) == pytest.approx(1, abs=1e-6)
    assert (span.vectors @ (points[0] - points.mean(axis=0)) > 0).all()


def test_each_filter_of_a_random_direction_is_as_long_as_the_filter():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 5))
    with torch.no_grad():
        model[0].weight[2] = 0  # a dead filter stays one
    span = filter_normalised(list(model.parameters()), 7)
    for vector in torch.from_numpy(span.vectors):
        moved = dict(
            zip(dict(model.named_parameters()), vector.split([p.numel() for p in model.parameters()]), strict=True)
        )
        for filters, own in ((model[0].weight, moved["0.weight"]), (model[3].weight, moved["3.weight"])):
            lengths = own.view(filters.shape).flatten(1).norm(dim=1)
            assert torch.allclose(lengths, filters.flatten(1).norm(dim=1).double(), rtol=1e-6)
        assert not any(moved[name].any() for name in ("0.bias", "1.weight", "1.bias", "3.bias"))
    one, other = span.vectors / np.linalg.norm(span.vectors, axis=1, keepdims=True)
    assert abs(one @ other) < 0.3  # of 188 numbers
    assert not np.array_equal(filter_normalised(list(model.parameters()), 8).vectors, span.vectors)


def losses_of(model, images, labels, states, **how):
    parts = LossOnImages(model, images, labels, **how).parts(states.numpy().__getitem__, len(states))
    return np.concatenate([losses for _, losses in parts]).tolist()


@pytest.mark.parametrize("name", ["mlp", "cnn", "resnet8"])
def test_many_states_at_once_have_the_losses_of_each_alone(digits, name):
    model = build_model(name, digits.input, digits.classes, 0)
    model(digits.images[:50])  # a batch norm's statistics are then no longer the first ones
    images, labels = digits.images[:300], digits.labels[:300]
    states = state_of(model) * torch.tensor([[1.0], [0.7], [1.2], [1.1], [0.9]])
    ways = [losses_of(model, images, labels, states, batched=way, threads=2) for way in (True, False)]
    assert ways[0] == pytest.approx(ways[1], rel=1e-5)
    assert ways[1] == losses_of(model, images, labels, states, batched=False, threads=1)
    parts = states[1].split([tensor.numel() for tensor in named_state(model).values()])
    with torch.no_grad():
        for tensor, part in zip(named_state(model).values(), parts, strict=True):
            tensor.copy_(part.view(tensor.shape))
        by_hand = functional.cross_entropy(model.eval()(images), labels)
    assert ways[0][1] == pytest.approx(float(by_hand), rel=1e-5)


def test_batch_norm_keeps_the_statistics_of_each_step_on_a_path_and_of_the_centre_on_a_plane(digits):
    asked = {**BOTH, "directions": ("random",), "resolution": 3, "batch_size": 359, "images": 20}
    found = landscape(LandscapeRequest(models=("resnet8",), optimizers=("momentum",), **asked))
    (path,) = found.paths
    assert any("running statistics" in note for note in landscape_report(found).notes)
    assert found.statistics == path.states.shape[1] - found.problem.weights > 0
    model = build_model("resnet8", digits.input, digits.classes, 0)
    for state, loss in ((path.states[2], path.losses[2]), (path.states[-1], found.planes[0].losses[1, 1])):
        parts = torch.from_numpy(state).split([tensor.numel() for tensor in named_state(model).values()])
        with torch.no_grad():
            for tensor, part in zip(named_state(model).values(), parts, strict=True):
                tensor.copy_(part.view(tensor.shape))
        assert loss == pytest.approx(whole_loss(model.float(), digits, 20), rel=1e-4)
        model.float()


def test_a_row_a_point_and_a_row_a_step(found):
    report = landscape_report(found)
    assert report.columns[:7] == ("task", "model", "direction_a", "direction_b", "a", "b", "loss")
    points = [row for row in report.runs if row["optimizer"] is None]
    assert len(points) == 2 * 25
    assert {(row["direction_a"], row["direction_b"]) for row in points} == {
        ("principal 1", "principal 2"),
        ("random 1", "random 2"),
    }
    plane = found.planes[0]
    assert (points[7]["a"], points[7]["b"], points[7]["loss"]) == (plane.a[2], plane.b[1], plane.losses[1, 2])
    steps = [row for row in report.runs if row["optimizer"] == "nesterov" and row["direction_a"] == "random 1"]
    assert [row["step"] for row in steps] == list(range(37))
    assert steps[0]["lr"] == 0.01
    assert all(row["loss"] > 0 and row["distance"] >= 0 for row in steps)
    assert set(COLUMNS) == {name for row in report.runs for name in row}


def test_every_some_steps_and_the_last():
    found = landscape(LandscapeRequest(models=("logistic",), optimizers=("sgd",), every=10, **BOTH))
    assert found.paths[0].steps == (0, 10, 20, 30, 36)


def test_a_path_that_diverges_bends_no_plane():
    quiet = landscape(LandscapeRequest(optimizers=("adam",), **BOTH))
    found = landscape(LandscapeRequest(optimizers=("adam", "sgd:lr=1e30"), **BOTH))
    assert np.array_equal(found.planes[0].losses, quiet.planes[0].losses)
    wild = found.paths[1]
    assert wild.diverged
    assert np.isfinite(wild.states).all()
    rows = [row for row in landscape_report(found).runs if row["optimizer"] == "sgd:lr=1e30"]
    assert rows[0]["reason"].startswith("diverged at step")


def test_without_an_end_there_is_no_plane():
    report = landscape_report(landscape(LandscapeRequest(optimizers=("sgd:lr=1e30",), **BOTH)))
    assert not report.tables
    assert any("no plane" in note for note in report.notes)


def test_what_was_finished_is_kept(monkeypatch):
    ask, trained = LandscapeRequest(optimizers=("sgd", "adam"), **BOTH), []
    run_job = studies.run_job

    def interrupted(job, watch):
        if trained:
            raise KeyboardInterrupt
        trained.append(job)
        return run_job(job, watch)

    monkeypatch.setattr(studies, "run_job", interrupted)
    found = landscape(ask)
    assert found.interrupted
    assert [path.result.optimizer for path in found.paths] == ["sgd"]
    report = landscape_report(found)
    rows = [row for row in report.runs if row["optimizer"] == "sgd" and row["direction_a"] == "principal 1"]
    assert len(rows) == 37
    assert rows[-1]["loss"] > 0
    assert not any(row["optimizer"] is None for row in report.runs)


def test_an_optimizer_that_fails_costs_the_others_nothing(monkeypatch):
    run_job = studies.run_job

    def failing(job, watch):
        if job.optimizer == "sgd":
            raise ArithmeticError("no step")
        return run_job(job, watch)

    monkeypatch.setattr(studies, "run_job", failing)
    report = landscape_report(landscape(LandscapeRequest(optimizers=("sgd", "adam"), **BOTH)))
    row = next(row for row in report.runs if row["optimizer"] == "sgd")
    assert (row["status"], row["a"]) == ("failed", None)
    assert row["reason"].startswith("ArithmeticError: no step; it failed in ")
    assert len(report.tables[0].rows) == 2


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"directions": ("randon",)}, "did you mean random"),
        ({"directions": ()}, "principal or random"),
        ({"resolution": 2}, "--resolution takes 3 to 1001"),
        ({"extent": 0.0}, "--extent is a length above 0"),
        ({"extent": float("nan")}, "--extent is a length above 0"),
        ({"images": 0}, "--images is at least 1"),
        ({"every": 0}, "--every is at least 1"),
        ({"tasks": ("digits", "mnist-5k")}, "one task and one model; --task gives digits, mnist-5k"),
        ({"models": ("mlp", "cnn")}, "--model gives mlp, cnn"),
        ({"optimizers": ()}, "name an optimizer"),
        ({"epochs": 0}, "--epochs is at least 1"),
        ({"device": "gpu"}, "--device has no gpu"),
    ],
)
def test_what_cannot_be_is_refused_first(given, words):
    with pytest.raises(UsageError, match=words):
        LandscapeRequest(**given).check()


def test_paths_that_no_memory_holds_are_refused_before_training(monkeypatch):
    monkeypatch.setattr(studies, "MOST_BYTES", 1 << 20)
    with pytest.raises(UsageError, match=r"2 paths take 0\.0 GiB; add --every 2"):
        landscape(LandscapeRequest(optimizers=("sgd", "adam"), **BOTH))


def test_a_device_shows_what_the_processor_shows(monkeypatch):
    """The device is made of processor memory."""
    asked = {**BOTH, "models": ("logistic",), "optimizers": ("momentum",), "images": 50}
    here = landscape(LandscapeRequest(**asked))
    with fake_cuda.present(monkeypatch):
        there = landscape(LandscapeRequest(**asked, device="cuda"))
    assert there.problem.setup.device == "cuda:0"
    for one, other in zip(here.planes, there.planes, strict=True):
        assert np.array_equal(one.losses, other.losses)
        assert np.array_equal(one.paths[0].places, other.paths[0].places)
