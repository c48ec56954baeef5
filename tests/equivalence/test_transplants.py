"""Transplants between the three forms: nothing is lost, nothing is changed, and the function stays the same."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mlcv_bench.architectures import ResNeXtBlock
from mlcv_bench.architectures.build import build
from mlcv_bench.equivalence import convert, join, randomness, split, transplant
from mlcv_bench.equivalence.evidence import observe
from mlcv_bench.equivalence.exact import LIMIT, SumLedger, without_norms
from mlcv_bench.errors import UsageError

FORMS = ("branches", "concat", "grouped")
BLOCKS = st.fixed_dictionaries(
    {
        "groups": st.integers(1, 6),
        "width": st.integers(1, 4),
        "channels": st.integers(1, 9),
        "stride": st.integers(1, 3),
        "projection": st.booleans(),
        "size": st.integers(1, 7),
        "seed": st.integers(0, 2**20),
    }
)
PAIRS = [(source, target) for source in FORMS for target in FORMS]


def block(form, shape, *, dtype=torch.float64):
    inputs = shape["channels"] + 1 if shape["projection"] else shape["channels"]
    return ResNeXtBlock(
        inputs, shape["channels"], shape["stride"], groups=shape["groups"], width=shape["width"], form=form
    ).to(dtype)


def filled(form, shape):
    module = block(form, shape)
    randomness.fill_normal(module, randomness.generator(shape["seed"]))
    for name, buffer in module.named_buffers():
        if name.endswith("num_batches_tracked"):
            buffer.fill_(shape["seed"])
    return module


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize(("source", "target"), PAIRS)
@given(shape=BLOCKS)
@settings(deadline=None, max_examples=15)
def test_round_trips_give_back_the_same_tensors(source, target, shape):
    first = filled(source, shape)
    second = transplant(first, block(target, shape))
    third = transplant(second, block(source, shape))
    assert same(first.state_dict(), third.state_dict())


@pytest.mark.parametrize(("source", "target"), [pair for pair in PAIRS if pair[0] != pair[1]])
@given(shape=BLOCKS)
@settings(deadline=None, max_examples=15)
def test_whole_numbers_give_equal_outputs_and_gradients(source, target, shape):
    first = without_norms(block(source, shape))
    randomness.fill_whole(first, randomness.generator(shape["seed"]))
    second = transplant(first, without_norms(block(target, shape)))
    inputs = shape["channels"] + shape["projection"]
    image = randomness.whole((2, inputs, shape["size"], shape["size"]), 3, randomness.generator(shape["seed"], "image"))

    def cotangent(wanted):
        return randomness.whole(wanted, 2, randomness.generator(shape["seed"], "cotangent"))

    ledger = SumLedger()
    one, other = (observe(module, image, cotangent, train=True, watch=ledger) for module in (first, second))
    assert ledger.certify() < LIMIT
    assert same(one.output, other.output)
    assert torch.equal(one.input_gradient, other.input_gradient)
    assert same(one.weight_gradients, convert(other.weight_gradients, second, first))


@given(shape=BLOCKS)
@settings(deadline=None, max_examples=25)
def test_joined_statistics_stand_where_the_channels_stand(shape):
    branches = filled("branches", shape)
    joined = join(branches.state_dict(), "branches", shape["groups"])
    width = shape["width"]
    for index, branch in enumerate(branches.branches):
        channels = slice(index * width, (index + 1) * width)
        assert torch.equal(joined["conv1.weight"][channels], branch.conv1.weight)
        assert torch.equal(joined["conv2.weight"][channels], branch.conv2.weight)
        assert torch.equal(joined["conv3.weight"][:, channels], branch.conv3.weight)
        assert torch.equal(joined["bn2.running_var"][channels], branch.bn2.running_var)
    assert torch.equal(joined["bn3.running_mean"], branches.bn3.running_mean)


def test_split_of_some_keys_splits_those():
    assert list(split({"bn3.weight": torch.ones(3)}, "branches", 2)) == ["bn3.weight"]
    assert list(split({"conv3.weight": torch.ones(3, 4, 1, 1)}, "concat", 2)) == ["conv3.weight"]
    parts = split({"conv3.weight": torch.ones(3, 4, 1, 1)}, "branches", 2)
    assert {key: tuple(part.shape) for key, part in parts.items()} == {
        "branches.0.conv3.weight": (3, 2, 1, 1),
        "branches.1.conv3.weight": (3, 2, 1, 1),
    }


def test_a_target_on_the_meta_device_takes_tensors_of_its_own():
    shape = {"groups": 2, "width": 3, "channels": 4, "stride": 2, "projection": True, "size": 5, "seed": 1}
    source = filled("grouped", shape)
    with torch.device("meta"):
        target = block("branches", shape, dtype=torch.float32)
    transplant(source, target)
    assert target.branches[0].conv1.weight.dtype == torch.float64
    assert target.branches[0].conv3.weight.device.type == "cpu"
    before = {key: tensor.clone() for key, tensor in source.state_dict().items()}
    with torch.no_grad():
        for weight in target.parameters():
            weight.add_(1)
    assert same(before, source.state_dict())


def test_networks_are_transplanted_block_by_block():
    grouped = build("resnext29_2x3d", num_classes=5)
    branches = transplant(grouped, build("resnext29_2x3d", num_classes=5, form="branches"))
    back = transplant(branches, build("resnext29_2x3d", num_classes=5))
    assert same(grouped.state_dict(), back.state_dict())


@pytest.mark.parametrize(
    ("source", "target", "words"),
    [
        (lambda: build("resnext29_2x3d"), lambda: build("resnet20"), "ResNeXt block at layer1.0"),
        (lambda: build("resnext29_2x3d"), lambda: build("resnext29_3x2d"), "2 groups in one network"),
        (lambda: build("resnext29_2x3d"), lambda: build("resnext29_2x4d"), "differ in layer1.0.conv1.weight"),
        (lambda: nn.Linear(2, 2), lambda: nn.Linear(2, 2, bias=False), "differ in bias"),
    ],
)
def test_what_is_no_form_of_the_other_is_refused_in_one_sentence(source, target, words):
    with pytest.raises(UsageError, match=words):
        transplant(source(), target())


def test_branches_that_disagree_are_refused():
    state = {
        "branches.0.bn1.num_batches_tracked": torch.tensor(1),
        "branches.1.bn1.num_batches_tracked": torch.tensor(2),
    }
    with pytest.raises(ValueError, match="different numbers of batches"):
        join(state, "branches", 2)
    with pytest.raises(ValueError, match=r"branch 1 has no conv1\.weight"):
        join({"branches.0.conv1.weight": torch.ones(1)}, "branches", 2)
    with pytest.raises(ValueError, match="has no conv3"):
        join({"branches.0.conv3.weight": torch.ones(1)}, "concat", 1)
