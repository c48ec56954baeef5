"""Receptive fields against what actually reaches an output: the input pixels with a gradient."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mlcv_bench.counting import native
from mlcv_bench.counting.tree import tree_of


class Parallel(nn.Module):
    """The sum of two branches."""

    def __init__(self, one, other):
        super().__init__()
        self.one, self.other = one, other

    def forward(self, x):
        return self.one(x) + self.other(x)


NETWORKS = {
    "one axis each": lambda: nn.Sequential(
        nn.Conv2d(1, 1, (1, 7), padding=(0, 3)), nn.Conv2d(1, 1, (7, 1), padding=(3, 0))
    ),
    "strides differ": lambda: nn.Sequential(nn.Conv2d(1, 1, 3, (2, 1)), nn.Conv2d(1, 1, (3, 5)), nn.Conv2d(1, 1, 3)),
    "dilations differ": lambda: nn.Sequential(nn.Conv2d(1, 1, 3, dilation=(1, 4)), nn.Conv2d(1, 1, (9, 1))),
    "branches": lambda: Parallel(
        nn.Conv2d(1, 1, (1, 9), padding=(0, 4)),
        nn.Sequential(nn.Conv2d(1, 1, (5, 1), padding=(2, 0)), nn.Conv2d(1, 1, 3, padding=1)),
    ),
    "average pool": lambda: nn.Sequential(nn.AvgPool2d((3, 2), 2), nn.Conv2d(1, 1, (1, 5)), nn.AvgPool2d(2)),
    "one dimension": lambda: nn.Sequential(nn.Conv1d(1, 1, 5, 2), nn.Conv1d(1, 1, 3)),
    "three dimensions": lambda: nn.Sequential(
        nn.Conv3d(1, 1, (1, 3, 3)), nn.AvgPool3d((5, 1, 1), 1), nn.Conv3d(1, 1, 3)
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_as_many_pixels_as_have_a_gradient(name):
    module = NETWORKS[name]()
    for weight in module.parameters():
        nn.init.ones_(weight)
    axes = 1 if "one dim" in name else 3 if "three" in name else 2
    image = torch.zeros((1, 1, *(15 if axes == 3 else 45,) * axes), requires_grad=True)
    out = module(image)
    out[(0, 0, *(size // 2 for size in out.shape[2:]))].backward()
    reached = image.grad[0, 0].nonzero()
    longest = int((reached.max(0).values - reached.min(0).values + 1).max())
    shape = torch.empty(image.shape, device="meta")
    assert native.trace(NETWORKS[name]().to("meta"), [shape]).fields[""] == longest


def test_a_dilated_max_pool_sees_further():
    chain = nn.Sequential(nn.Conv2d(1, 1, 3), nn.MaxPool2d(3, 1, dilation=2), nn.MaxPool2d((1, 3), (1, 2)))
    fields = native.trace(chain.to("meta"), [torch.empty(1, 1, 32, 32, device="meta")]).fields
    assert (fields["0"], fields["1"], fields["2"]) == (3, 7, 9)


def test_inception_v4_by_hand():
    """The 1x7 and the 7x1 of a block widen one axis each: 192 pixels a block of twelve at 16 pixels a step, not 384."""
    by_name = {node.name: node.receptive_field for _, node in tree_of("inception_v4").walk(1)}
    assert by_name["stem"] == 11 + 4 + 32 + 8
    assert by_name["inception_a"] == 55 + 4 * 4 * 8
    assert by_name["reduction_a"] == 183 + (2 + 2) * 8
    assert by_name["inception_b"] == 215 + 7 * 12 * 16
    assert by_name["reduction_b"] == 1559 + (6 + 2) * 16
    assert by_name["inception_c"] == 1687 + 3 * 4 * 32
