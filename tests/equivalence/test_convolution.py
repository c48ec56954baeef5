"""Grouped convolutions as chunks and as block-diagonal kernels, 1x1 identities, folding: against torch itself."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from mlcv_bench.equivalence import fold, from_block_diagonal, randomness, to_block_diagonal, to_chunks
from mlcv_bench.equivalence.convolution import stacked_inputs, stacked_outputs

LAYERS = st.fixed_dictionaries(
    {
        "groups": st.integers(1, 5),
        "inputs": st.integers(1, 3),
        "outputs": st.integers(1, 3),
        "kernel": st.tuples(st.integers(1, 3), st.integers(1, 3)),
        "stride": st.integers(1, 3),
        "size": st.integers(3, 8),
        "seed": st.integers(0, 2**20),
    }
)


def weight_and_image(layer):
    source = randomness.generator(layer["seed"])
    groups = layer["groups"]
    weight = randomness.whole((groups * layer["outputs"], layer["inputs"], *layer["kernel"]), 2, source)
    return weight, randomness.whole((2, groups * layer["inputs"], layer["size"], layer["size"]), 3, source)


@given(layer=LAYERS)
@settings(deadline=None, max_examples=60)
def test_three_formulations_give_equal_bits(layer):
    weight, image = weight_and_image(layer)
    groups, stride = layer["groups"], layer["stride"]
    grouped = functional.conv2d(image, weight, stride=stride, groups=groups)
    parts = zip(image.chunk(groups, dim=1), to_chunks(weight, groups), strict=True)
    chunks = torch.cat([functional.conv2d(part, kernel, stride=stride) for part, kernel in parts], dim=1)
    dense = functional.conv2d(image, to_block_diagonal(weight, groups), stride=stride)
    assert torch.equal(grouped, chunks)
    assert torch.equal(grouped, dense)


@given(layer=LAYERS)
@settings(deadline=None, max_examples=60)
def test_block_diagonal_and_back(layer):
    weight, _ = weight_and_image(layer)
    dense = to_block_diagonal(weight, layer["groups"])
    assert torch.equal(from_block_diagonal(dense, layer["groups"]), weight)
    assert dense.count_nonzero() == weight.count_nonzero()
    assert dense.numel() == layer["groups"] * weight.numel()


@given(layer=LAYERS)
@settings(deadline=None, max_examples=30)
def test_a_sum_of_1x1_convolutions_is_one_over_the_concatenation(layer):
    source = randomness.generator(layer["seed"])
    kernels = [randomness.whole((4, layer["inputs"], 1, 1), 2, source) for _ in range(layer["groups"])]
    images = [randomness.whole((2, layer["inputs"], 5, 5), 3, source) for _ in kernels]
    pairs = zip(images, kernels, strict=True)
    summed = torch.stack([functional.conv2d(image, kernel) for image, kernel in pairs]).sum(dim=0)
    assert torch.equal(summed, functional.conv2d(torch.cat(images, dim=1), stacked_inputs(kernels)))
    split = functional.conv2d(images[0], stacked_outputs(kernels)).chunk(len(kernels), dim=1)
    assert all(
        torch.equal(part, functional.conv2d(images[0], kernel)) for part, kernel in zip(split, kernels, strict=True)
    )


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("groups", [1, 2])
def test_folding_agrees_with_torch(bias, affine, groups):
    pair = nn.Sequential(nn.Conv2d(4, 6, 3, groups=groups, bias=bias), nn.BatchNorm2d(6, affine=affine)).double().eval()
    randomness.fill_normal(pair, randomness.generator(0))
    image = torch.randn(2, 4, 7, 7, dtype=torch.float64)
    before = {key: value.clone() for key, value in pair.state_dict().items()}
    folded = fold(*pair)
    assert torch.allclose(folded(image), pair(image), rtol=0, atol=1e-13)
    assert torch.allclose(folded.weight, fuse_conv_bn_eval(*pair).weight, rtol=1e-14, atol=0)
    assert all(torch.equal(value, before[key]) for key, value in pair.state_dict().items())


def test_folding_refuses_what_it_cannot_fold():
    with pytest.raises(ValueError, match="depends on the batch"):
        fold(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3, track_running_stats=False))
    with pytest.raises(ValueError, match="does not follow"):
        fold(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(4))
