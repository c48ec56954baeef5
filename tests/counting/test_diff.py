"""Two networks side by side: blocks align by name and by size, and add up."""

from __future__ import annotations

import pytest

from mlcv_bench.architectures.request import Request
from mlcv_bench.counting.cost import count
from mlcv_bench.counting.diff import diff
from mlcv_bench.report.trees import diff_report

PAIRS = [("resnet50_v1_5", "resnext50_32x4d"), ("vgg16", "resnet18"), ("resnet20", "plain20"), ("alexnet", "googlenet")]


@pytest.mark.parametrize(("first", "second"), PAIRS)
@pytest.mark.parametrize("depth", [1, 2, 4])
def test_rows_add_up_to_the_totals(first, second, depth):
    *rows, total = diff(Request.of(first), Request.of(second), depth=depth)
    for side, name in (("first", first), ("second", second)):
        cost = count(name)
        for quantity in ("params", "macs"):
            amounts = [getattr(row, f"{side}_{quantity}") or 0 for row in rows]
            assert sum(amounts) == getattr(total, f"{side}_{quantity}") == getattr(cost, quantity)
        names = [getattr(row, side) for row in rows if getattr(row, side)]
        assert len(names) == len(set(names))


def test_equal_names_stand_side_by_side():
    rows = diff(Request.of("resnet18"), Request.of("resnet34"))
    for row in rows[:-1]:
        if row.first is not None:
            assert row.first == row.second
    assert {row.second for row in rows if row.first is None} >= {"layer1.2", "layer3.5"}
    assert rows[-1].params_ratio == pytest.approx(21_797_672 / 11_689_512)


def test_other_names_align_where_the_image_is_as_large():
    rows = diff(Request.of("vgg16"), Request.of("resnet18"))
    for row in rows[:-1]:
        if row.first and row.second:
            assert row.first_output.split("x")[1:] == row.second_output.split("x")[1:]
    assert any(row.first and row.second == "layer2.0" for row in rows)


def test_one_column_of_names_where_they_agree():
    rows = diff(Request.of("resnet18"), Request.of("resnet34"))
    report = diff_report("resnet18", "resnet34", rows, "3x224x224, batch 1")
    assert report.tables[0].columns[0].header == "block"
    assert len(report.runs) == len(rows)
