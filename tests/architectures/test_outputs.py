"""What networks return, part by part."""

from __future__ import annotations

import dataclasses
import types
from collections import namedtuple

import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence

from mlcv_bench.architectures.outputs import parts_of, tensors_in

ONE, TWO = torch.ones(2), torch.zeros(3)
Both = namedtuple("Both", "logits boxes")  # noqa: PYI024 - as users' networks have them


@dataclasses.dataclass
class Record:
    logits: torch.Tensor
    boxes: torch.Tensor


@pytest.mark.parametrize(
    "value",
    [
        {"logits": ONE, "boxes": TWO},
        {"boxes": TWO, "logits": ONE},
        Both(ONE, TWO),
        Record(ONE, TWO),
        types.SimpleNamespace(logits=ONE, boxes=TWO),
        types.MappingProxyType({"logits": ONE, "boxes": TWO}),
    ],
)
def test_names_are_kept_in_any_container_and_order(value):
    parts = parts_of(value)
    assert parts.keys() == {"output['logits']", "output['boxes']"}
    assert torch.equal(parts["output['logits']"], ONE)
    assert torch.equal(parts["output['boxes']"], TWO)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (ONE, {"output": ONE}),
        ((ONE, [TWO]), {"output[0]": ONE, "output[1][0]": TWO}),
        ({"a": {"b": 1}, "a.b": 2}, {"output['a']['b']": 1, "output['a.b']": 2}),
        ({0: 1, "0": 2}, {"output[0]": 1, "output['0']": 2}),
        (None, {"output": None}),
        ({}, {"output": ()}),
        ((1, []), {"output[0]": 1, "output[1]": ()}),
        (["cat", 0.07], {"output[0]": "cat", "output[1]": 0.07}),
        (np.float32(0.5), {"output": torch.tensor(0.5)}),
        (np.array(["cat", "dog"]), {"output[0]": "cat", "output[1]": "dog"}),
        (ONE.to_sparse(), {"output": ONE}),
        (torch.float32, {"output": torch.float32}),
    ],
)
def test_every_part_stands_where_it_stood(value, expected):
    found = parts_of(value)
    assert found.keys() == expected.keys()
    for name, part in expected.items():
        if isinstance(part, torch.Tensor):
            assert torch.equal(found[name], part)
        else:
            assert found[name] == part


def test_tensors_alone():
    found = tensors_in({"a": ONE, "n": 3, "text": "cat", "more": [TWO, None]})
    assert [id(tensor) for tensor in found] == [id(ONE), id(TWO)]
    packed = pack_padded_sequence(torch.ones(2, 3, 1), torch.tensor([3, 2]), batch_first=True)
    assert [tuple(tensor.shape) for tensor in tensors_in(packed)] == [(5, 1), (3,)]


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
def test_quantised_tensors_come_as_numbers():
    assert torch.equal(parts_of(torch.quantize_per_tensor(ONE, 0.5, 0, torch.quint8))["output"], ONE)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_nested_tensors_come_apart():
    nested = torch.nested.nested_tensor([ONE, TWO])
    assert [tuple(tensor.shape) for tensor in tensors_in(nested)] == [(2,), (3,)]


def test_an_object_that_holds_itself_ends():
    holder = types.SimpleNamespace(logits=ONE)
    holder.loop = [1]
    holder.loop.append(holder.loop)
    assert parts_of(holder).keys() == {"output['logits']", "output['loop'][0]", "output['loop'][1]"}
