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


@pytest.mark.parametrize("name", [*MODELS, "resnet8", "plain8", "resnext11_4x6d"])
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


def test_a_model_that_is_given_itself_may_have_the_name_of_one_that_is_there():
    class mlp(nn.Module):  # noqa: N801 - the name is the point
        def __init__(self, num_classes=10):
            super().__init__()
            self.head = nn.Linear(64, num_classes)

        def forward(self, x):
            return self.head(x.flatten(1))

    assert isinstance(build_model(mlp, GRAY, 10, 0), mlp)


@pytest.mark.parametrize(
    "argument",
    [
        "num_classes",
        "classes",
        "n_classes=3",
        "nclass: int = 3",
        "num_labels=3",
        "out_features",
        "n_out=3",
        "output_dim",
    ],
)
def test_the_number_of_classes_under_whatever_name(tmp_path, argument):
    name = argument.partition("=")[0].partition(":")[0]
    (tmp_path / "mine.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Sequential):\n"
        f"    def __init__(self, in_chans, width=8, *, class_names=(), {argument}):\n"
        f"        super().__init__(nn.Conv2d(in_chans, width, 8), nn.Flatten(), nn.Linear(width, {name}))\n"
    )
    specification = f"{tmp_path}/mine.py:Net"
    shape = (3, 8, 8)
    assert build_model(specification, shape, 4, 0)[2].weight.shape == (4, 8)
    assert build_model(specification, shape, 4, 0, [("width", "5")])[2].weight.shape == (4, 5)
    with pytest.raises(UsageError, match="has no option depth; it takes in_chans, width"):
        build_model(specification, shape, 4, 0, [("depth", "5")])


def test_a_count_that_nothing_names_is_said(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from torch import nn\n"
        "def net(width, last=10):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.Linear(width, last))\n"
    )
    with pytest.raises(UsageError, match="needs width, without a default; add --set width="):
        build_model(f"{tmp_path}/mine.py:net", GRAY, 4, 0)
    with pytest.raises(
        UsageError, match=r"not 2x4 logits; none of its arguments \(width, last\) is called num_classes"
    ):
        build_model(f"{tmp_path}/mine.py:net", GRAY, 4, 0, [("width", "5")])
    given = [("width", "5"), ("last", "4")]
    assert build_model(f"{tmp_path}/mine.py:net", GRAY, 4, 0, given)(torch.zeros(2, *GRAY)).shape == (2, 4)


def test_settings_of_a_race_are_checked_without_building():
    with pytest.raises(UsageError, match="mlp takes no --set"):
        check_model("mlp", {"width": "5"})
    with pytest.raises(UsageError, match="resnet20 has no option width"):
        check_model("resnet20", {"width": "5"})


def test_batch_norm_keeps_a_model_apart():
    assert not batchable(nn.Sequential(nn.Flatten(), nn.Linear(4, 2), nn.BatchNorm1d(2)))
