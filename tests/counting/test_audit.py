"""The audit and the reconciliation: anchors to the integer, nothing left over, and an error that cannot hide."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from torch import nn
from torch.nn import functional

from mlcv_bench.architectures.catalog import ARCHITECTURES
from mlcv_bench.architectures.request import Request
from mlcv_bench.counting import tools
from mlcv_bench.counting.audit import audit, fvcore_counts
from mlcv_bench.counting.network import Network, observe
from mlcv_bench.counting.reconcile import reconcile

RESNET50 = {
    "exact": 4_089_184_256,
    "torch FlopCounterMode": 2 * 4_089_184_256,
    "fvcore": 4_111_512_576,
    "thop": 4_089_184_256 + 4 * 11_113_984 + 50 * 2048,
    "ptflops": 4_089_184_256 + 2 * 11_113_984 + 2 * (9_608_704 + 802_816 + 100_352) + 1000,
    "torchinfo": 4_089_184_256 + 53_120 + 1000,
    "the paper": 3_857_973_248,
}

SMALL = [name for name, entry in ARCHITECTURES.items() if max(entry.input) <= 32]


def test_resnet50_reconciles_to_the_integer():
    found = {statement.tool: statement for statement in reconcile(Network.of("resnet50_v1_5"))}
    assert {tool: found[tool].total for tool in RESNET50} == RESNET50
    assert found["timm's table"].says == "4.11 GMACs"
    assert found["torchvision's table"].says == "4.09 GFLOPS"


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_steps_add_up(name):
    for statement in reconcile(Network.of(name)):
        assert statement.difference == statement.total - statement.per_mac * statement.exact_macs
        if statement.tool != "the paper" or name != "googlenet":
            assert sum(step.amount for step in statement.steps) == statement.difference


def test_the_paper_and_the_tables_speak_of_their_own_input_alone():
    network = Network.of("resnet50_v1_5", input=(3, 160, 160))
    assert not {"the paper", "torchvision's table"} & {statement.tool for statement in reconcile(network)}


def test_googlenet_names_the_cells_that_are_wrong():
    (paper,) = (s for s in reconcile(Network.of("googlenet")) if s.tool == "the paper")
    assert paper.total == 1_502_000_000
    assert "conv1 34 M, exact 118.0 M" in paper.arithmetic
    assert "inception5a 54 M, exact 51.1 M" in paper.arithmetic


@pytest.mark.parametrize("name", [*SMALL[::4], "resnet18", "googlenet"])
def test_nothing_is_left_over(name):
    small = ARCHITECTURES[name].input if name in SMALL else (3, 64, 64)
    found = audit(Network.of(name, input=small), batch=2)
    assert found.leftover == 0
    assert found.modules_checked > 10
    assert {row.tool for row in found.rows} == {"fvcore", "torch FlopCounterMode"}
    assert sum(row.ours for row in found.rows if row.tool == "fvcore") == found.macs


class Many(nn.Module):
    """Every operator that the rules speak of."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, groups=1)
        self.up = nn.ConvTranspose2d(8, 8, 2, stride=2, groups=4)
        self.plain = nn.BatchNorm2d(8, affine=False)
        self.group = nn.GroupNorm(2, 8)
        self.layer = nn.LayerNorm(8)
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.upsample = nn.Upsample(scale_factor=2)
        self.linear = nn.Linear(8, 4)

    def forward(self, x):
        x = self.plain(self.up(self.conv(x)))
        x = self.group(functional.relu(x))
        x = self.upsample(self.pool(x))
        x = functional.adaptive_avg_pool2d(x, 1) * x.mean((2, 3), keepdim=True)
        x = self.layer(x.flatten(1))
        return self.linear(x) @ torch.ones(4, 5, device=x.device)


def test_norms_pools_upsampling_and_products_are_explained():
    found = audit(Network.of(Many(), input=(3, 8, 8)))
    assert found.leftover == 0, found


def test_what_no_rule_explains_is_left_over(monkeypatch):
    def one_more(network, batch):
        counts = fvcore_counts(network, batch)
        counts["linear"] += 1
        counts["by_module"]["fc"] += 1
        return counts

    monkeypatch.setattr("mlcv_bench.counting.audit.fvcore_counts", one_more)
    found = audit(Network.of("resnet8"))
    assert [(row.operator, row.leftover) for row in found.rows if row.leftover] == [("linear", 1)]
    assert found.modules_apart == ("fc: 641 against 640",)
    assert found.leftover == 2


def test_a_wrong_rule_is_found(monkeypatch):
    def products_alone(call, module, output):
        if call.work.macs:
            yield tools.Share(tools.EXACT, call.work.macs)

    monkeypatch.setitem(tools.RULES, "fvcore", products_alone)
    found = audit(Network.of("resnet8"))
    assert {row.operator for row in found.rows if row.leftover} == {"batch_norm", "adaptive_avg_pool2d"}


def test_functional_calls_are_missed_by_the_tools_that_hook_modules():
    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(4, 3, 3, 3))

        def forward(self, x):
            return functional.conv2d(x, self.weight)

    found = {s.tool: s for s in reconcile(Network.of(Functional(), input=(3, 5, 5)))}
    assert found["exact"].total == found["fvcore"].total == 9 * 108
    # torchinfo takes the 108 numbers of the weight for those of a linear layer.
    for tool, total in (("thop", 0), ("ptflops", 0), ("torchinfo", 108)):
        assert found[tool].total == total
        assert f"- {972 - total} products the tool does not see" in found[tool].arithmetic


def test_functions_are_noted_only_when_asked():
    network = Network(Request.of("resnet8"))
    assert {call.function for call in observe(network).trace.calls} == {""}
    names = {call.function for call in observe(network, functions=True).trace.calls}
    assert {"conv2d", "batch_norm", "adaptive_avg_pool2d", "linear"} <= names


def test_thop_counts_a_window_and_a_division():
    tally = tools.tally("thop", *trace_of("resnet8"))
    assert tally.shares["average-pool outputs, each its window and a division", Fraction(65)] == 64


def test_rules_of_tools_that_no_architecture_of_ours_meets():
    """thop: 2 an element of a norm without scale, softmax rows of 3 n - 1; ptflops: 1, and softmax functions alone."""
    layers = nn.Sequential(nn.BatchNorm2d(4, affine=False), nn.Softmax(1), nn.AvgPool2d(2), nn.ReLU())
    found = {s.tool: s.total for s in reconcile(Network.of(layers, input=(4, 6, 6)))}
    assert found["thop"] == 2 * 144 + 36 * (3 * 4 - 1) + 36
    assert found["ptflops"] == 144 + 144 + 2 * 144 + 2 * 36
    assert found["fvcore"] == 144
    assert found["torchinfo"] == found["exact"] == found["torch FlopCounterMode"] == 0


def trace_of(name):
    seen = observe(Network.of(name), functions=True)
    return seen.trace, seen.module
