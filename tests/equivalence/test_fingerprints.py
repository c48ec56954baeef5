"""What a network computes, kept as numbers: which change shows where, and what is told from what."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from mlcv_bench.architectures.fingerprints import counted, distance, fingerprint_of
from mlcv_bench.comparing.fingerprints import diagnoses
from mlcv_bench.comparing.saved import SavedResult
from mlcv_bench.equivalence.fingerprints import draw, fingerprints
from mlcv_bench.equivalence.request import VerifyRequest
from mlcv_bench.errors import UsageError
from mlcv_bench.records import row_of


class Net(nn.Module):
    """A network with everything that a change may lie in."""

    def __init__(self, activation=nn.ReLU, spread=None, momentum=0.1, name="head", classes=3, limit=math.inf, drop=0.0):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4, momentum=momentum), activation())
        self.name = name
        self.limit = limit
        self.drop = nn.Dropout(drop)
        setattr(self, name, nn.Linear(4, classes))
        if spread is not None:
            nn.init.normal_(self.layers[0].weight, 0.0, spread)

    def forward(self, x):
        logits = getattr(self, self.name)(self.drop(self.layers(x).mean((2, 3))))
        return {"logits": logits.clamp(max=self.limit), "total": logits.sum(1)}


def taken(build, torch_version="2.0", **more):
    rows = [row_of(row) for row in fingerprints(VerifyRequest((build,), input=(2, 6, 6), fingerprint=True, **more))]
    # All networks are one that has changed.
    named = [row | {"network": "net"} for row in rows]
    return SavedResult("a file", "fingerprint", named, {"versions": {"torch": torch_version}})


@pytest.fixture(scope="module")
def base():
    return taken(Net)


def test_the_same_network_is_the_same(base):
    assert diagnoses(base, taken(Net)) == []
    assert {row["quantity"] for row in base.runs} == {
        *("parameters", "output['logits']", "output['total']"),
        *("input gradient", "weight gradients", "batch-norm statistics"),
    }
    assert {row["weights"] for row in base.runs} == {"own", "drawn"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"activation": nn.LeakyReLU}, "computes otherwise: its output"),
        ({"spread": 0.5}, "has weights initialised otherwise; with equal weights it computes the same"),
        ({"momentum": 0.2}, "computes otherwise: its batch-norm statistics in training"),
        ({"momentum": 0.2}, "; in evaluation it is the same"),
        ({"limit": 20.0}, "for inputs of scale 100 differs"),
        ({"name": "classifier"}, "has other parameters, by name or shape; with its own weights it computes the same"),
        ({"classes": 4}, "has other parameters, by name or shape; and computes otherwise"),
        ({"drop": 0.5}, "in training"),
    ],
)
def test_what_changed_is_told(base, change, words):
    (found,) = diagnoses(base, taken(lambda: Net(**change)))
    assert words in found.reason


def test_a_gradient_alone_may_change(base):
    class Detached(Net):
        def forward(self, x):
            return super().forward(x.detach() + 0.0 * x)

    (found,) = diagnoses(base, taken(Detached))
    assert found.reason.endswith("; its outputs are the same")
    assert "input gradient" in found.reason


def test_trained_weights_come_from_a_file(base, tmp_path):
    network = Net()
    files = []
    for name, factor in (("one.pt", 1.0), ("two.pt", 1.001)):
        state = copy.deepcopy(network.state_dict())
        state["head.bias"] *= factor
        torch.save(state, tmp_path / name)
        files.append(taken(Net, weights=(tmp_path / name,)))
    (found,) = diagnoses(*files)
    assert found.reason == "has other weights in its file; with equal weights it computes the same"
    assert {row["weights"] for row in files[0].runs} == {"file", "drawn"}


def test_chance_is_said_and_compared_under_one_torch_alone():
    dropping = taken(lambda: Net(drop=0.5))
    assert {row["mode"] for row in dropping.runs if row["random"]} == {"train"}
    assert diagnoses(dropping, taken(lambda: Net(drop=0.4))) != []
    assert diagnoses(dropping, taken(lambda: Net(drop=0.4), torch_version="2.1")) == []


def test_weights_that_no_seed_decides_are_left_out():
    def unseeded():
        network = Net()
        with torch.no_grad():
            network.head.bias.fill_(float(np.random.default_rng().random()))
        return network

    rows = taken(unseeded).runs
    (own,) = [row for row in rows if row["weights"] == "own"]
    assert (own["status"], own["reason"]) == (
        "skipped",
        "its weights are others each time: torch's seed does not decide them",
    )
    assert any(row["weights"] == "drawn" and row["status"] == "done" for row in rows)


def test_what_keeps_a_state_is_skipped():
    class Counting(Net):
        calls = 0

        def forward(self, x):
            Counting.calls += 1
            return super().forward(x)["logits"] + Counting.calls

    rows = taken(Counting).runs
    assert all(row["status"] == "skipped" for row in rows if row["quantity"] == "output")


def test_a_fingerprint_is_of_numbers_and_tells_how_far_two_are_apart():
    source = torch.Generator().manual_seed(1)
    one = torch.randn(1000, generator=source, dtype=torch.float64)
    step = torch.randn(1000, generator=source, dtype=torch.float64)
    first = fingerprint_of(one)
    assert first[:2] == ([1000], pytest.approx(float(one.norm())))
    shares = [distance(first, fingerprint_of(one + size * step)) for size in (1e-3, 1e-9)]
    assert shares == pytest.approx([1e-3, 1e-9], rel=0.5)
    assert fingerprint_of(one[:500], one[500:])[2] == pytest.approx(first[2])
    assert distance(first, fingerprint_of(one.reshape(10, 100))) == math.inf
    assert fingerprint_of(one / 0) is None


def test_counted_numbers_have_mean_0_and_variance_1_and_go_by_name():
    numbers = counted((300_000,), 0, "weight")
    assert float(numbers.mean()) == pytest.approx(0, abs=0.01)
    assert float(numbers.var()) == pytest.approx(1, abs=0.01)
    assert torch.equal(numbers[:9], counted((9,), 0, "weight"))
    assert not torch.equal(numbers[:9], counted((9,), 0, "bias"))


def test_drawn_weights_are_decided_by_names_and_shapes():
    torch.manual_seed(1)
    one, other = Net().double(), Net(spread=3.0).double()
    draw(one, 0)
    draw(other, 0)
    for left, right in zip(one.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(left, right)


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (VerifyRequest(("folding",), fingerprint=True), "takes networks, and 'folding' is none"),
        (VerifyRequest((), fingerprint=True), "no network is named"),
        (VerifyRequest(("resnet18",), fingerprint=True, keep_weights=True), "belong to two networks"),
        (VerifyRequest(("resnet18",), fingerprint=True, dtypes=("float32",)), "computes in float64"),
        (VerifyRequest(("all",), against="x.json"), "add --fingerprint"),
    ],
)
def test_what_makes_no_sense_is_refused(request_, words):
    with pytest.raises(UsageError, match=words):
        request_.check()
