"""The ledger: its bound holds for every order of every sum, and it refuses what it cannot bound."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mlcv_bench.equivalence import convolution, folding, randomness, resnext
from mlcv_bench.equivalence.evidence import observe
from mlcv_bench.equivalence.exact import (
    LIMIT,
    RULES,
    SumLedger,
    check_whole,
    check_whole_inputs,
    proved_exactly,
    without_norms,
)
from mlcv_bench.equivalence.request import VerifyRequest
from mlcv_bench.trials import NotApplicableError


def whole(shape, largest, seed):
    return randomness.whole(shape, largest, randomness.generator(seed))


def bound_of(module, image, cotangent=None):
    ledger = SumLedger()
    observe(module, image, cotangent, train=False, watch=ledger)
    return ledger.certify()


@given(inputs=st.integers(1, 4), outputs=st.integers(1, 4), kernel=st.sampled_from([1, 3]), seed=st.integers(0, 999))
@settings(deadline=None, max_examples=40)
def test_the_bound_of_a_convolution_is_its_largest_sum_of_magnitudes(inputs, outputs, kernel, seed):
    layer = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False).double()
    randomness.fill_whole(layer, randomness.generator(seed))
    image = whole((2, inputs, 5, 5), 3, seed)
    windows = nn.functional.unfold(image.abs(), kernel, padding=kernel // 2)
    sums = layer.weight.abs().flatten(1) @ windows
    largest = max(sums.max().item(), image.abs().max().item(), layer.weight.abs().max().item())
    assert bound_of(layer, image) == largest


def test_the_backward_pass_is_bounded_too():
    layer = nn.Conv2d(2, 3, 1, bias=False).double()
    randomness.fill_whole(layer, randomness.generator(0))
    image = whole((4, 2, 9, 9), 3, 0)
    forwards = bound_of(layer, image)
    backwards = bound_of(layer, image, lambda shape: torch.full(shape, 2.0, dtype=torch.float64))
    # The weight's gradient sums over 4 images of 81 pixels, far more than the two channels forwards.
    assert backwards == (2 * image.abs()).sum(dim=(0, 2, 3)).max().item() > forwards


def test_sums_that_may_pass_2_to_the_53_are_refused():
    layer = nn.Conv2d(1, 1, 1, bias=False).double()
    with torch.no_grad():
        layer.weight.fill_(2.0**30)
    assert bound_of(layer, torch.full((1, 1, 2, 2), 2.0**22, dtype=torch.float64)) == 2.0**52
    with pytest.raises(NotApplicableError, match=r"past 2\^53"):
        bound_of(layer, torch.full((1, 1, 2, 2), 2.0**23, dtype=torch.float64))


def test_a_sum_that_cancels_is_bounded_by_its_parts():
    layer = nn.Conv2d(2, 1, 1, bias=False).double()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([1.0, -1.0]).view(1, 2, 1, 1))
    image = torch.full((1, 2, 1, 1), LIMIT / 2, dtype=torch.float64)
    assert layer(image).item() == 0
    with pytest.raises(NotApplicableError):
        bound_of(layer, image)


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (nn.Sigmoid(), "sigmoid"),
        (nn.AvgPool2d(2), "avg_pool2d"),
        (nn.BatchNorm2d(2), "whole"),
        (nn.Softmax(dim=1), "softmax"),
    ],
)
def test_what_does_not_keep_whole_numbers_whole_is_refused(layer, words):
    with pytest.raises(NotApplicableError, match=words):
        bound_of(layer.double(), whole((1, 2, 4, 4), 3, 0))


def test_batch_norm_in_training_is_refused():
    ledger = SumLedger()
    with pytest.raises(NotApplicableError, match="in training"):
        observe(nn.BatchNorm2d(2).double(), whole((2, 2, 4, 4), 3, 0), train=True, watch=ledger)


def test_weights_that_are_not_whole_are_refused():
    check_whole([torch.tensor([1.0, -2.0]), torch.tensor(3)])
    with pytest.raises(NotApplicableError):
        check_whole([torch.tensor([1.5])])


def test_weights_of_0_prove_nothing():
    image = torch.ones(1)
    check_whole_inputs(image, [torch.zeros(2), torch.tensor([0.0, 1.0])])
    check_whole_inputs(image, [])
    with pytest.raises(NotApplicableError, match="all weights are 0"):
        check_whole_inputs(image, [torch.zeros(2), torch.zeros(3)])


def blocks_without_round_trips(block, settings):
    return [found for found in resnext.examine_block(block, settings) if found.quantity != "round trip"]


@pytest.mark.parametrize(
    "examine",
    [
        lambda settings: blocks_without_round_trips(resnext.BlockCase(2, 2, 4, resnext.SHAPES[0]), settings),
        lambda settings: convolution.examine_layer(convolution.GroupedLayer(2, 4, 4, 3, 1, bias=False), settings),
        lambda settings: folding.examine_folding(folding.NormedLayer(1, 1, 1, bias=False), settings),
    ],
)
def test_a_proof_with_weights_of_0_fails(examine, monkeypatch):
    monkeypatch.setattr(randomness, "whole", lambda shape, _largest, _source: torch.zeros(shape, dtype=torch.float64))
    settings = VerifyRequest(dtypes=())
    exact = [found for found in examine(settings) if found.proof == "exact"]
    assert [(found.passed, found.reason.partition(",")[0]) for found in exact] == [(False, "all weights are 0")]


def test_results_in_a_shorter_format_are_bounded_by_that_format():
    image = torch.tensor([[2.0**20, 1.0]], dtype=torch.float64)
    assert bound_of(Shortened(), image) == 2.0**20
    with pytest.raises(NotApplicableError, match="float32, which rounds"):
        bound_of(Shortened(), 2.0**4 * image)


class Shortened(nn.Module):
    def forward(self, x):
        return x.float().double()


@pytest.mark.parametrize(
    ("layer", "size"),
    [(nn.MaxPool2d(3, 1), 25 * 9), (nn.ReplicationPad2d(2), 25 * 25), (nn.Upsample(scale_factor=2), 25 * 4)],
)
def test_a_gradient_that_adds_up_is_bounded_by_its_sum(layer, size):
    image = torch.zeros(1, 1, 5, 5, dtype=torch.float64)
    image[0, 0, 2, 2] = 1.0
    leaf = image.clone().requires_grad_()
    layer(leaf).sum().backward()
    bound = bound_of(layer, image, lambda shape: torch.ones(shape, dtype=torch.float64))
    assert leaf.grad.max() <= bound <= size


def test_an_exact_proof_that_cannot_be_made_fails():
    def findings():
        raise NotApplicableError("no rule")
        yield

    (found,) = proved_exactly(findings())
    assert (found.passed, found.proof, found.reason) == (False, "exact", "no rule")


def test_norms_are_removed_wherever_they_stand():
    network = nn.Sequential(nn.BatchNorm2d(1), nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1)))
    assert not [layer for layer in without_norms(network).modules() if isinstance(layer, nn.BatchNorm2d)]


@pytest.mark.parametrize("name", sorted(RULES))
def test_every_rule_names_an_operator_that_torch_has(name):
    assert torch._C._jit_get_schemas_for_operator(f"aten::{name}")
