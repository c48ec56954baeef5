"""The public Python interface and the checks for other people's suites."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import mlcv_bench
from mlcv_bench.counting.cost import Cost
from mlcv_bench.errors import UsageError
from mlcv_bench.records import columns_of
from mlcv_bench.testing import assert_cost


def test_count_has_a_frame():
    cost = mlcv_bench.count("resnet20", batch=2)
    assert list(cost.frame.columns) == list(columns_of(Cost))
    assert cost.frame.loc[0, "macs"] == cost.macs == 2 * 40_551_040
    operators = cost.operators_frame
    assert operators["macs"].sum() == cost.macs
    assert operators["operations"].sum() == cost.norm_ops + cost.activation_ops + cost.pooling_ops + cost.addition_ops
    assert len(operators) == cost.operators


def test_count_shows_itself_in_a_notebook():
    html = mlcv_bench.count(nn.Linear(4, 4), input=(4,))._repr_html_()
    assert html.startswith("<table>")
    assert "Linear" in html


def test_named_tensors():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(5, 4)

        def forward(self, tokens):
            return self.table(tokens) @ torch.ones(4, 2, device=tokens.device)

    assert mlcv_bench.count(Net(), tensors=["tokens:int64:1x3"]).macs == 3 * 8


def test_training():
    cost = mlcv_bench.count_training("resnet20", optimizer="momentum", memory="1GiB")
    assert cost.optimizer_bytes == cost.gradient_bytes == 4 * cost.params
    assert cost.largest_batch_bytes <= 2**30


def test_every_public_name_is_there():
    for name in mlcv_bench.__all__:
        assert getattr(mlcv_bench, name) is not None


class TestAssertCost:
    def test_within_budget(self):
        assert assert_cost(nn.Linear(4, 4), max_params=20, max_macs=16, input=(4,)).params == 20

    def test_over_budget_says_by_how_much(self):
        with pytest.raises(AssertionError, match=r"25,557,032 params, max_params is 25,000,000 \(\+2.23%\)") as error:
            assert_cost("resnet50_v1_5", max_params=25e6, max_macs=4e9)
        assert "4,089,184,256 macs" in str(error.value)

    @pytest.mark.parametrize(
        "limit", [{"max_activations": 3}, {"max_peak_activation_bytes": 31}, {"max_macs": 0}, {"max_params": 19.5}]
    )
    def test_each_limit_fails(self, limit):
        with pytest.raises(AssertionError, match=next(iter(limit))):
            assert_cost(nn.Linear(4, 4), input=(4,), **limit)

    def test_no_limit_is_no_check(self):
        with pytest.raises(ValueError, match="max_params"):
            assert_cost(nn.Linear(4, 4), input=(4,))

    def test_a_wrong_input_is_no_failed_limit(self):
        with pytest.raises(UsageError):
            assert_cost(nn.Linear(4, 4), max_params=1, input=(5,))


@pytest.mark.parametrize("shape", ["3x32x32", (3, 32, 32), [3, 32, 32], torch.Size([3, 32, 32])])
def test_an_input_as_text_or_any_sequence(shape):
    assert mlcv_bench.count("resnet18", input=shape).input == "3x32x32"
    assert mlcv_bench.count_training("resnet20", input=shape).input == "3x32x32"


@pytest.mark.parametrize(
    ("subject", "given", "words"),
    [
        ("resnet18", {"input": "3x0x224"}, "zero"),
        ("resnet18", {"input": (3, 0, 224)}, "whole numbers from 1 on"),
        ("resnet18", {"input": (3, 224.0, 224)}, "whole numbers from 1 on"),
        ("resnet18", {"input": ()}, "whole numbers from 1 on"),
        ("resnet18", {"batch": 0}, "batch"),
        ("resnet18", {"batch": -1}, "batch"),
        ("resnet18", {"batch": 2.0}, "batch"),
        (5, {}, "not 5"),
        (nn.Conv2d, {}, "class Conv2d; call it first"),
        ("resnext", {}, "is a family"),
    ],
)
@pytest.mark.parametrize("function", [mlcv_bench.count, mlcv_bench.count_training])
def test_a_wrong_call_is_one_sentence(function, subject, given, words):
    with pytest.raises(UsageError, match=words):
        function(subject, **given)
