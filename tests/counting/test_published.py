"""Every figure, counted again: recounts to the integer, printed figures in the digits that are printed."""

from __future__ import annotations

import csv
import re
from decimal import ROUND_DOWN, ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal
from importlib import resources

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlcv_bench.architectures.catalog import ARCHITECTURES
from mlcv_bench.architectures.request import Request
from mlcv_bench.counting.cost import count
from mlcv_bench.counting.published import (
    PAPER_WIDTHS,
    PrintedNumber,
    block_macs_per_pixel,
    figures,
    known,
    matching_width,
)
from mlcv_bench.report.costs import cost_report

WRONG = {("googlenet", "macs")}
"""Szegedy et al. 2015, table 1, contradicts itself: its conv1 cell says 34M where its filters make 118.0M."""


@pytest.mark.parametrize("row", figures(), ids=lambda row: f"{row.name}-{row.kind}-{row.source}")
def test_recount(row, counted):
    cost = counted(row.name, input=row.input)
    for quantity in ("params", "macs"):
        figure = getattr(row, quantity)
        if figure is None:
            continue
        if row.kind == "recount":
            assert (getattr(cost, quantity), figure.digit) == (figure.value, 1)
        else:
            wrong = (row.name, quantity) in WRONG
            assert (figure.is_met_by(getattr(cost, quantity)), bool(row.remark)) == (not wrong, wrong)


# What is in print, looked up in the papers and on the pages themselves, not in published.csv.
PRINTED = {
    "vgg16": ("138", "15.47", "Simonyan and Zisserman 2015 table 2; torchvision's documentation"),
    "resnet18": ("11.69", "1.8", "torchvision's documentation; He et al. 2016 table 1"),
    "resnet50": ("-", "3.8", "He et al. 2016 table 1"),
    "resnet50_v1_5": ("25.56", "4.09", "torchvision's documentation"),
    "resnext50_32x4d": ("25.0", "4.2", "Xie et al. 2017 table 1"),
    "resnext50_2x40d": ("-", "-", None),
    "googlenet": ("-", "1.502", "Szegedy et al. 2015 table 1 sum of the operations column"),
    "inception_resnet_v1": ("-", "-", None),
    "resnet110": ("1.7", "-", "He et al. 2016 table 6"),
}


@pytest.mark.parametrize("name", PRINTED)
def test_published_is_what_is_printed(name):
    cost = count(name)
    report = cost_report([cost], [name])
    table = report.tables[0]
    shown = {column.key: column.text(table.rows[0][column.key]) for column in table.columns}
    # A column that no row fills is left out.
    cells = [shown.get(key, "-") for key in ("published_params", "published_macs")]
    assert (*cells, cost.published_source) == PRINTED[name]
    for position, quantity in enumerate(("params", "macs")):
        alone = cells[position] == "-" and getattr(cost, f"recounted_{quantity}")
        words = {"params": "parameters", "macs": "MACs"}[quantity]
        assert (f"{words} of {name}" in table.caption) == bool(alone)
    assert report.columns[-3:-1] == ("recounted_params", "recounted_macs")


def test_every_source_is_named_once_with_its_networks():
    caption = cost_report([count(name) for name in ("resnet18", "resnet50")], ["a", "b"]).tables[0].caption
    assert "Published: torchvision's documentation (resnet18); He et al. 2016 table 1 (resnet18, resnet50);" in caption
    assert "recounted from the definition: parameters of resnet50." in caption


@pytest.mark.parametrize(
    ("text", "value", "digit"),
    [
        ("25.0M", 25_000_000, 100_000),
        ("4.2G", 4_200_000_000, 100_000_000),
        ("133M", 133_000_000, 1_000_000),
        ("7.80G", 7_800_000_000, 10_000_000),
        ("25557032", 25_557_032, 1),
    ],
)
def test_a_figure_is_worth_its_printed_digits(text, value, digit):
    assert PrintedNumber.parse(text) == (value, digit)


@given(st.integers(10**6, 10**9), st.integers(0, 2), st.integers(-(10**6), 10**6))
def test_a_figure_is_met_by_what_rounds_to_it_or_is_cut_off_there(count, decimals, apart):
    digit = Decimal(1).scaleb(-decimals)
    millions = Decimal(count) / 10**6
    for rounding in (ROUND_HALF_UP, ROUND_DOWN):
        assert PrintedNumber.parse(f"{millions.quantize(digit, rounding)}M").difference(count) == 0.0
    other = PrintedNumber.parse(f"{(millions + Decimal(apart) / 10**6).quantize(digit, ROUND_HALF_EVEN)}M")
    near = {int(millions.quantize(digit, rounding) * 10**6) for rounding in (ROUND_HALF_UP, ROUND_DOWN)}
    assert other.is_met_by(count) == (other.value in near)
    if other.value and not other.is_met_by(count):
        assert other.difference(count) == pytest.approx((count - other.value) / other.value)


def test_the_difference_shown_is_of_one_image():
    row = cost_report([count("googlenet", batch=3)], ["googlenet"]).tables[0].rows[0]
    assert row["macs_difference"] == pytest.approx(1_582_671_872 / 1_502_000_000 - 1)
    assert cost_report([count("resnet50", batch=3)], ["resnet50"]).tables[0].rows[0]["macs_difference"] == 0.0


def test_the_file_has_no_figure_twice():
    with resources.files("mlcv_bench.counting").joinpath("published.csv").open(encoding="utf-8") as file:
        rows = [(row["name"], row["kind"], row["source"]) for row in csv.DictReader(file)]
    assert len(rows) == len(set(rows))


# At depth 26, whose stages have every block that deeper ones repeat: a form of hundreds of branches takes seconds.
RESNEXTS = {re.sub("resnext(50|101|152)_", "resnext26_", name) for name in ARCHITECTURES if name.startswith("resnext")}


@pytest.mark.parametrize("name", sorted(RESNEXTS))
def test_three_forms_of_every_resnext_cost_the_same(name):
    grouped, concat, branches = (count(name, form=form) for form in ("grouped", "concat", "branches"))
    for other in (concat, branches):
        assert (other.params, other.macs, other.activations) >= (grouped.params, grouped.macs, 0)
        assert (other.params, other.macs) == (grouped.params, grouped.macs)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_is_counted_whole(name, counted):
    cost = counted(name)
    assert cost.uncounted == ()
    assert cost.params > 0
    assert cost.flops == 2 * cost.macs
    assert cost.weight_bytes == 4 * cost.params
    double = count(name, batch=2)
    assert (double.macs, double.activations, double.params) == (2 * cost.macs, 2 * cost.activations, cost.params)
    assert double.peak_activation_bytes == 2 * cost.peak_activation_bytes


def test_macs_are_known_at_their_input_alone():
    assert known("resnext50_32x4d", (3, 224, 224), "printed")[:2] == (
        (25_000_000, 100_000),
        (4_200_000_000, 100_000_000),
    )
    assert known("resnext50_32x4d", (3, 64, 64), "printed")[:2] == ((25_000_000, 100_000), None)
    assert known("nothing", (3, 224, 224), "printed") == (None, None, None)


def test_published_figures_stand_beside_equal_networks_only():
    other = count(Request.of("resnet50", options={"num_classes": 10}))
    assert (other.published_macs, other.recounted_params) == (None, None)
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
