"""Every figure of published.csv, counted anew by torch's own counter on the meta device."""

from __future__ import annotations

import csv
import functools
from importlib import resources

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from mlcv_bench.architectures import catalog
from mlcv_bench.architectures.build import build

with resources.files("mlcv_bench.counting").joinpath("published.csv").open(encoding="utf-8") as _file:
    PUBLISHED = list(csv.DictReader(_file))
RECOUNT = [row for row in PUBLISHED if row["kind"] == "recount"]
PRINTED = [row for row in PUBLISHED if row["kind"] == "printed"]

# GoogLeNet's operations column sums to 1.502 G: its conv1 cell says 34M where the layer costs 118.0M.
WRONG = {"googlenet"}


def printed(text: str) -> tuple[float, float]:
    """Return a printed figure and what one of its last digit is worth."""
    unit = {"M": 1e6, "G": 1e9}.get(text[-1], 1.0)
    digits = text.rstrip("MG")
    return float(digits) * unit, unit / 10 ** len(digits.partition(".")[2])


@functools.cache
def cost(name: str, **options: object) -> tuple[int, int]:
    with torch.device("meta"), torch.no_grad():
        network = build(name, **options).eval()
        image = torch.empty(1, *catalog.find(name).input)
        with FlopCounterMode(display=False) as counter:
            network(image)
    return sum(parameter.numel() for parameter in network.parameters()), counter.get_total_flops() // 2


@pytest.mark.parametrize("row", RECOUNT, ids=lambda row: row["name"])
def test_recounted_figures_are_met_to_the_integer(row):
    assert row["input"] == "x".join(map(str, catalog.find(row["name"]).input))
    assert cost(row["name"]) == (int(row["params"]), int(row["macs"]))


@pytest.mark.parametrize("row", PRINTED, ids=lambda row: f"{row['name']}-{row['source']}")
def test_printed_figures_are_met_in_their_digits(row):
    for text, counted in zip((row["params"], row["macs"]), cost(row["name"]), strict=True):
        if text and row["name"] not in WRONG:
            figure, digit = printed(text)
            assert figure - digit / 2 <= counted < figure + digit


# tests/counting counts the blocks of every published ResNeXt in every form; torch's counter is slow on 10,000 modules.
@pytest.mark.parametrize("name", ["resnext26_8x14d", "resnext50_2x40d", "resnext29_8x64d", "resnext26_3x5d"])
def test_the_three_forms_cost_the_same(name):
    grouped = cost(name)
    assert cost(name, form="concat") == grouped
    assert cost(name, form="branches") == grouped


@pytest.mark.parametrize(
    ("name", "options", "params"),
    [
        ("googlenet", {"auxiliary": True}, 13_378_280),  # counting.md
        ("inception_v4", {}, 42_679_816),  # timm's inception_v4
        ("resnext11_4x6d", {}, 122_698),  # by hand: stem 464, stages 4,592, 23,296 and 91,776, linear layer 2,570
        ("zfnet", {}, 62_357_608),  # Zeiler and Fergus 2014, figure 3, recounted by hand
        ("googlenet_torchvision", {"auxiliary": True}, 13_004_888),  # torchvision's GoogLeNet with both heads
    ],
)
def test_parameters_that_no_row_holds(name, options, params):
    with torch.device("meta"):
        network = build(name, **options)
    assert sum(parameter.numel() for parameter in network.parameters()) == params
