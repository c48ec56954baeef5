"""What a timed network is given, where that is not one image: tensors by name, in dictionaries and lists, examples."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from mlcv_bench.api.timing import time_forward
from mlcv_bench.architectures.inputs import read_inputs
from mlcv_bench.architectures.request import Networks, parse_inputs
from mlcv_bench.errors import UsageError
from mlcv_bench.timing.forward import prepare
from mlcv_bench.timing.request import Cell, CellGrid, cost_of
from mlcv_bench.timing.single import assert_not_slower


class Sees(nn.Module):
    """Keeps what it was given last."""

    def __init__(self):
        super().__init__()
        self.embed, self.fc = nn.Embedding(50, 4), nn.Linear(4, 2)
        self.seen = None

    def use(self, tokens, mask):
        self.seen = tokens, mask
        return self.fc(self.embed(tokens) * mask[..., None])


class Two(Sees):
    def forward(self, tokens, mask):
        return self.use(tokens, mask)


class Dictionary(Sees):
    def forward(self, batch):
        return self.use(batch["ids"], batch["attention"])


class Listed(Sees):
    def forward(self, pair):
        return self.use(pair[0].long().abs(), pair[1])


CASES = [
    (Two, ["mask:2x6", "tokens:int64:2x6"]),
    (Dictionary, ["ids:int64:2x6", "attention:float32:2x6"]),
    (Listed, ["pair:2x6", "pair:2x6"]),
]


@pytest.mark.parametrize("settings", [{}, {"dtype": "bfloat16"}, {"direction": "forward-backward"}], ids=str)
@pytest.mark.parametrize(("kind", "texts"), CASES, ids=lambda value: getattr(value, "__name__", ""))
def test_each_kind_is_prepared(kind, texts, settings):
    built = []

    def build():
        built.append(kind())
        return built[-1]

    cell = Cell("net", parse_inputs(texts)[1], batch=3, **settings)
    workload, facts = prepare(cell, build)
    workload.close()
    tokens, mask = built[0].seen
    assert tokens.shape == mask.shape == (6, 6)
    assert mask.dtype == getattr(torch, cell.dtype)
    assert facts.max_rel_error <= facts.tolerance
    if kind is not Listed:
        # Zeros alone would read one row of the table, again and again.
        assert tokens.dtype == torch.int64
        assert len(tokens.unique()) > 5
        assert tokens.max() < 50


def test_a_cell_keeps_its_tensors_on_the_way_to_a_worker():
    cell = Cell("net", parse_inputs(["mask:2x6", "tokens:int64:2x6"])[1], batch=3)
    assert Cell.from_dict(json.loads(json.dumps(cell.as_dict()))) == cell
    assert cell.columns()["input"] == "mask:float32:2x6 tokens:int64:2x6"
    assert cell.images == 6
    assert cell.key() != Cell("net", parse_inputs(["mask:2x6", "tokens:int32:2x6"])[1], batch=3).key()
    assert Cell("net", (3, 8, 8), batch=3).images == 3


def test_the_grid_takes_several_shapes_and_refuses_tensors_of_the_catalogue():
    grid = CellGrid(Networks(("resnet20",), shapes=((3, 32, 32), (3, 64, 64))), device=("cpu",))
    grid.check()
    assert [cell.input for cell in grid.cells(0)] == [(3, 32, 32), (3, 64, 64)]
    with pytest.raises(UsageError, match="resnet20 takes one image"):
        CellGrid(Networks(("resnet20",), tensors=parse_inputs(["x:1x4"])[1])).check()


def test_cost_of_named_tensors(tmp_path):
    (tmp_path / "net.py").write_text("from torch import nn\ndef net(): return nn.Linear(4, 2)\n")
    cost = cost_of(Cell(f"{tmp_path}/net.py:net", parse_inputs(["input:3x4"])[1], batch=2))
    assert (cost.macs, cost.moved_bytes) == (6 * 8, 4 * (10 + 12 + 24))


def test_examples_from_python_are_what_runs():
    network = Two()
    tokens, mask = torch.full((1, 6), 49), torch.ones(1, 6)
    done = time_forward(network, input={"tokens": tokens, "mask": mask}, seconds=0.1, threads=1, device="cpu")
    assert done.status == "done"
    assert done.row()["input"] == "tokens:int64:1x6 mask:float32:1x6"
    cell = Cell("net", read_inputs([tokens, mask]).tensors)
    workload, _ = prepare(cell, lambda: network)
    workload.close()
    assert torch.equal(network.seen[0], tokens)


def test_not_slower_with_an_example():
    network = Two()
    found = assert_not_slower(
        network,
        network,
        {"tokens": torch.zeros(1, 6, dtype=torch.int64), "mask": torch.ones(1, 6)},
        seconds=0.2,
        margin=0.9,
    )
    assert found.looks > 0
