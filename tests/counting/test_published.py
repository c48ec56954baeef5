"""Every published figure, recounted: `recount` rows to the integer, `printed` rows within the paper's rounding."""

from __future__ import annotations

import pytest

from mlcv_bench.architectures.catalog import ARCHITECTURES
from mlcv_bench.architectures.request import Request
from mlcv_bench.counting.cost import count
from mlcv_bench.counting.published import figures, published
from mlcv_bench.counting.width import PAPER_WIDTHS, block_macs_per_pixel, matching_width

DIFFERENCES = {
    # Szegedy et al. 2015, table 1: its conv1 cell says 34M where 7x7x3x64 at 112x112 makes 118.0M, and 5a says 54M
    # where the filters make 51.1M; its operations column adds up to 1.502G.
    ("googlenet", "macs"): 0.055,
    # Table 1 prints 3.8 x 10^9 for ResNet-50, whose exact count is 3.858G: rounded down.
    ("resnet50", "macs"): 0.016,
    # Table 1 prints 3.6 x 10^9 for ResNet-34; exact 3.664G: rounded down.
    ("resnet34", "macs"): 0.018,
    # 4.2 x 10^9 printed, 4.230G exact; 25.0 x 10^6 printed, 25.029M exact: both roundings to two digits.
    ("resnext50_32x4d", "macs"): 0.008,
    # Table 6 prints 1.7M for ResNet-110; exact with parameter-free shortcuts 1.728M: rounded down.
    ("resnet110", "params"): 0.017,
}
ROUNDING = 0.01


@pytest.mark.parametrize("row", figures(), ids=lambda row: f"{row.name}-{row.kind}")
def test_recount(row):
    cost = count(row.name, input=row.input)
    for quantity in ("params", "macs"):
        figure = getattr(row, quantity)
        if figure is None:
            continue
        if row.kind == "recount":
            assert getattr(cost, quantity) == figure
        else:
            allowed = DIFFERENCES.get((row.name, quantity), ROUNDING)
            assert abs(getattr(cost, quantity) / figure - 1) <= allowed


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name.startswith("resnext")])
def test_three_forms_of_every_resnext_cost_the_same(name):
    grouped, concat, branches = (count(name, form=form) for form in ("grouped", "concat", "branches"))
    for other in (concat, branches):
        assert (other.params, other.macs, other.activations) >= (grouped.params, grouped.macs, 0)
        assert (other.params, other.macs) == (grouped.params, grouped.macs)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_is_counted_whole(name):
    cost = count(name)
    assert cost.uncounted == ()
    assert cost.params > 0
    assert cost.flops == 2 * cost.macs
    assert cost.weight_bytes == 4 * cost.params
    double = count(name, batch=2)
    assert (double.macs, double.activations, double.params) == (2 * cost.macs, 2 * cost.activations, cost.params)
    assert double.peak_activation_bytes == 2 * cost.peak_activation_bytes


def test_printed_figures_go_before_recounted_ones():
    assert published("resnext50_32x4d", (3, 224, 224))[:2] == (25_000_000, 4_200_000_000)
    assert published("resnext50_32x4d", (3, 64, 64))[:2] == (25_000_000, None)
    assert published("nothing", (3, 224, 224)) == (None, None, None)


def test_published_figures_stand_beside_equal_networks_only():
    assert count(Request.of("resnet50", options={"num_classes": 10})).published_params is None
    assert count("resnext50_32x4d", form="branches").published_params == 25_000_000


@pytest.mark.parametrize(("groups", "width"), [(1, 64.0), (2, 39.95), (4, 23.93), (8, 13.70), (32, 3.97)])
def test_width_equation(groups, width):
    root = matching_width(groups)
    assert root == pytest.approx(width, abs=0.005)
    assert 9 * groups * root**2 + 2 * 256 * groups * root == pytest.approx(9 * 64**2 + 2 * 256 * 64)
    assert round(root) == PAPER_WIDTHS[groups]


@pytest.mark.parametrize(
    # Twice C and d0 give twice the root, as the equation is homogeneous; C or d0 alone does not.
    ("groups", "channels", "bottleneck", "width"),
    [(32, 512, 128, 7.9452), (32, 512, 64, 3.0436), (4, 128, 32, 11.9661), (1, 100, 10, 10.0), (2, 256, 32, 18.7923)],
)
def test_width_equation_for_other_blocks(groups, channels, bottleneck, width):
    root = matching_width(groups, channels, bottleneck)
    assert root == pytest.approx(width, abs=5e-5)
    cost = 9 * groups * root**2 + 2 * channels * groups * root
    assert cost == pytest.approx(9 * bottleneck**2 + 2 * channels * bottleneck)
    assert block_macs_per_pixel(1, bottleneck, channels) == pytest.approx(cost)


def test_block_costs_of_the_notes():
    assert block_macs_per_pixel(1, 64) == 69_632
    assert block_macs_per_pixel(32, 4) == 70_144
