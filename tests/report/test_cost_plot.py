"""The picture of costs: names stand clear of each other and of the points."""

from __future__ import annotations

import itertools

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mlcv_bench.counting.cost import count
from mlcv_bench.report.costs import cost_report
from mlcv_bench.report.picture import DPI
from mlcv_bench.report.plots import costs as plot

NAMES = ("vgg11", "vgg11_bn", "resnet50", "resnet50_v1_5", "resnext50_32x4d", "resnext50_2x40d", "resnext50_8x14d")


@pytest.mark.parametrize("names", [NAMES[:1], NAMES[:3], NAMES], ids=len)
@pytest.mark.parametrize("size", [(5, 3.5), (8, 6)], ids=str)
def test_names_cover_nothing(names, size):
    figure = Figure(figsize=size, dpi=DPI)
    axes = figure.add_subplot()
    found = [count(name) for name in names]
    points = [(cost.params, cost.macs) for cost in found]
    axes.scatter(*zip(*points, strict=True))
    plot.decorate(axes, [cost.row() for cost in found])
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    boxes = plot.place_names(axes, canvas.get_renderer(), points, names, ["black"] * len(names))
    assert len(boxes) == len(names)
    assert all(plot.overlap(one, other) == 0 for one, other in itertools.combinations(boxes, 2))
    for spot in axes.transData.transform(points):
        assert not any(box.contains(*spot) for box in boxes)
    assert {text.get_text() for text in axes.texts} - {""} == set(names)  # a leader is a text without words


def test_every_suffix_and_an_empty_network(tmp_path):
    costs = [count("resnet8"), count("resnet8", batch=4), count("plain8")]
    report = cost_report(costs, [cost.architecture for cost in costs])
    for suffix in ("png", "svg"):
        plot.draw_costs(report, tmp_path / f"cost.{suffix}")
        assert (tmp_path / f"cost.{suffix}").stat().st_size > 1000
