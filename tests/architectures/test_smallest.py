"""The least image that each network accepts, and that nothing smaller passes."""

from __future__ import annotations

import pytest
import torch

from mlcv_bench.architectures import catalog
from mlcv_bench.architectures.build import build


@pytest.mark.parametrize("name", list(catalog.ARCHITECTURES))
def test_the_smallest_image_passes_and_a_smaller_one_fails(name):
    side = catalog.find(name).smallest
    with torch.device("meta"), torch.no_grad():
        network = build(name).eval()
        for accepted in (side, side + 1, side + 2, side + 17):
            assert network(torch.empty(2, 3, accepted, accepted)).shape[0] == 2
        if side > 1:
            with pytest.raises(RuntimeError):
                network(torch.empty(2, 3, side - 1, side - 1))


@pytest.mark.parametrize("name", list(catalog.ARCHITECTURES))
def test_classes_and_channels_can_be_chosen(name):
    with torch.device("meta"), torch.no_grad():
        network = build(name, num_classes=7, in_channels=2).eval()
        assert network(torch.empty(3, 2, *catalog.find(name).input[1:])).shape == (3, 7)
