from __future__ import annotations

import pytest
import torch

from mlcv_bench.timing.exact import ExactFigures, exact_differences, exact_figures
from mlcv_bench.timing.request import Cell

LAYER = """
import torch
from torch import nn

def narrow():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten(), nn.Linear(16, 5))

def wide():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Flatten(), nn.Linear(16, 7))
"""


def figures(path, name, returned):
    return exact_figures(Cell(f"{path}:{name}", (3, 2, 2)), returned)


def test_figures_of_a_small_network_by_hand(tmp_path):
    """A 1x1 convolution has 3 x 4 weights at 4 places and 4 biases, the linear layer 16 x 5 and 5."""
    path = tmp_path / "layer.py"
    path.write_text(LAYER)
    narrow = figures(path, "narrow", torch.ones(1, 5))
    assert (narrow.params, narrow.macs) == (3 * 4 + 4 + 16 * 5 + 5, 3 * 4 * 4 + 16 * 5)
    assert narrow.moved_bytes == 4 * (narrow.params + 4 * 4 + 5 + 12)
    (shape, norm, projections) = narrow.outputs[0]
    assert (shape, norm) == ([1, 5], pytest.approx(5**0.5))
    assert sorted(map(abs, projections)) == [0.0] * 11 + [1.0] * 5, "each of five ones in a sum of its own"
    wide = figures(path, "wide", torch.ones(1, 7))
    sentences = exact_differences(narrow, wide)
    assert [one for one in sentences if "parameters" in one] == ["Exactly: 135 parameters in B, 101 in A, 1.337 times."]
    assert "Exactly: 160 MACs in B, 128 in A, 1.25 times." in sentences
    assert any("relu 1 instead of 0" in one for one in sentences)
    assert sentences[-1] == "Exactly: outputs of other shapes: 1x7 in B, 1x5 in A."


def test_what_is_alike_is_said_and_numbers_that_differ_are_measured(tmp_path):
    path = tmp_path / "layer.py"
    path.write_text(LAYER)
    output = torch.randn(1, 1000, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    error = torch.randn(1, 1000, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    base, same, other = (figures(path, "narrow", one) for one in (output, output.clone(), output + 0.01 * error))
    (sentence,) = exact_differences(base, same)
    assert sentence.startswith("Exactly alike: 101 parameters, 128 MACs")
    (sentence,) = exact_differences(base, other)
    share = float(sentence.split()[7])
    assert share == pytest.approx(float((0.01 * error).norm() / output.norm()), rel=0.5)


def test_what_cannot_be_counted_is_compared_by_its_outputs():
    one = ExactFigures(outputs=[([1], 2.0, [2.0] * 16)])
    assert exact_differences(one, one) == ["Exactly: neither could be counted; the outputs for one seed are the same."]
    assert exact_differences(ExactFigures(), ExactFigures()) == []
    other = ExactFigures(outputs=[([1], 3.0, [3.0] * 16)], calibrated=True)
    assert exact_differences(one, other) == exact_differences(one, one), "another network than that of its seed"
