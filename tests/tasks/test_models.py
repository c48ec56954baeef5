from __future__ import annotations

import pytest
import torch
from torch import nn

from mlcv_bench.errors import UsageError
from mlcv_bench.tasks.catalog import MODELS, check_model
from mlcv_bench.tasks.models import OWN, batchable, build_model

GRAY, COLOUR = (1, 8, 8), (3, 32, 32)


def flat(model):
    return torch.cat([parameter.detach().reshape(-1) for parameter in model.parameters()])


def test_the_table_of_names_is_the_table_of_builders():
    assert list(MODELS) == list(OWN)


@pytest.mark.parametrize("name", [*MODELS, "resnet8", "plain8", "resnext29_2x8d"])
@pytest.mark.parametrize("shape", [GRAY, COLOUR])
def test_models_take_the_tasks_images_and_their_seed_decides_the_weights(name, shape):
    state = torch.random.get_rng_state()
    model = build_model(name, shape, 7, seed=3)
    assert torch.equal(torch.random.get_rng_state(), state), "the caller's random numbers are its own"
    assert model(torch.zeros(2, *shape)).shape == (2, 7)
    assert model.training
    assert torch.equal(flat(model), flat(build_model(name, shape, 7, seed=3)))
    assert not torch.equal(flat(model), flat(build_model(name, shape, 7, seed=4)))


def test_only_dense_models_are_batched():
    assert [name for name in [*MODELS, "resnet8"] if batchable(build_model(name, GRAY, 10, 0))] == ["logistic", "mlp"]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("resnet50", "made for images of 224x224; race logistic, mlp, cnn"),
        ("mpl", "did you mean mlp"),
        ("resnet", "is a family"),
    ],
)
def test_wrong_names_are_said_without_building(name, sentence):
    with pytest.raises(UsageError, match=sentence):
        check_model(name)


def test_specifications_are_models(tmp_path):
    source = (
        "import torch\n"
        "def small(num_classes=10):\n"
        "    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, num_classes))\n"
        "def wrong():\n"
        "    return torch.nn.Flatten()\n"
    )
    (tmp_path / "mine.py").write_text(source)
    assert build_model(f"{tmp_path}/mine.py:small", GRAY, 4, 0)(torch.zeros(2, *GRAY)).shape == (2, 4)
    with pytest.raises(UsageError, match="2x64 for two images of 1x8x8, not 2x10 logits"):
        build_model(f"{tmp_path}/mine.py:wrong", GRAY, 10, 0)
    with pytest.raises(UsageError, match="does not take images of 3x32x32"):
        build_model(f"{tmp_path}/mine.py:small", COLOUR, 10, 0)


def test_batch_norm_keeps_a_model_apart():
    assert not batchable(nn.Sequential(nn.Flatten(), nn.Linear(4, 2), nn.BatchNorm1d(2)))
