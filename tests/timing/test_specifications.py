"""Networks in files of their own: imported as Python imports them, copied, never left on the meta device."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
import torch

from mlcv_bench.names import load_specification
from mlcv_bench.timing.forward import open_here
from mlcv_bench.timing.request import Cell, cost_of

CASES = Path(__file__).parents[1] / "cases" / "timed.py"


@pytest.fixture
def place(tmp_path):
    """Return a fresh copy of the cases, which nothing has imported yet."""
    copy = shutil.copy(CASES, tmp_path / "timed.py")
    with Path(copy).open("a") as file:
        file.write("\n\ndef the_same():\n    return built\n")
    return copy


def test_a_file_is_imported_with_values_and_its_factory_called_without(place):
    cell = Cell(f"{place}:Base", (3, 16, 16))
    weights = 8 * 3 * 9 + 8 + 8 * 4 + 4
    assert cost_of(cell).params == weights
    assert load_specification(f"{place}:MEAN").device == torch.device("cpu")
    workload, facts = open_here(cell)
    assert facts.max_abs_error == 0
    assert len(workload.block(0.0).calls_s) == 1


@pytest.mark.parametrize("attribute", ["built", "the_same"])
@pytest.mark.parametrize("settings", [{}, {"dtype": "bfloat16"}, {"direction": "forward-backward"}])
def test_a_network_that_is_built_already_is_timed_and_left_as_it_is(place, attribute, settings):
    cell = Cell(f"{place}:{attribute}", (3, 16, 16), **settings)
    assert cost_of(cell).macs == 8 * 27 * 14 * 14
    theirs = load_specification(f"{place}:built")
    before = {name: tensor.clone() for name, tensor in theirs.state_dict().items()}
    workload, facts = open_here(cell)
    workload.block(0.0)
    assert facts.max_rel_error <= facts.tolerance
    assert theirs.training
    assert all(parameter.grad is None for parameter in theirs.parameters())
    after = theirs.state_dict()
    assert all(
        torch.equal(after[name], tensor) and after[name].dtype == tensor.dtype for name, tensor in before.items()
    )


def test_a_package_is_imported_with_values_too(place, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(place).parent))
    monkeypatch.delitem(sys.modules, "timed", raising=False)
    assert cost_of(Cell("timed:Base", (3, 16, 16))).params == 260
    assert sys.modules.pop("timed").MEAN.device == torch.device("cpu")
