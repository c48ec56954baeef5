from __future__ import annotations

import pytest

from mlcv_bench.landscapes.landscape import landscape
from mlcv_bench.landscapes.request import LandscapeRequest
from mlcv_bench.report.landscapes import landscape_report
from mlcv_bench.report.plots.loss_landscapes import draw, figure, grounds_of, levels

ASKED = {"models": ("logistic",), "epochs": 1, "resolution": 7, "directions": ("random", "principal")}


@pytest.fixture(scope="module")
def found():
    return landscape(LandscapeRequest(optimizers=("sgd", "adam"), **ASKED))


def test_a_picture_shows_what_the_rows_hold(found):
    grounds = grounds_of(landscape_report(found))
    for ground, plane in zip(grounds, found.planes, strict=True):
        assert (ground.losses == plane.losses).all()
        assert (ground.a == plane.a).all()
        assert list(ground.paths) == ["sgd", "adam"]
        assert ground.paths["adam"].a == plane.paths[1].places[:, 0].tolist()


def test_a_picture_has_every_plane_and_path(found, tmp_path):
    report = landscape_report(found)
    drawn = figure(report)
    assert len(drawn.axes) == 4
    assert "of the paths' variance" in drawn.axes[2].get_xlabel()
    assert [text.get_text() for text in drawn.legends[0].get_texts()] == ["sgd", "adam"]
    assert list(drawn.axes[1].lines[0].get_ydata()) == found.planes[0].paths[0].distances.tolist()
    for suffix in (".png", ".svg"):
        draw(report, tmp_path / f"x{suffix}")
        assert (tmp_path / f"x{suffix}").stat().st_size > 10_000


def test_a_landscape_without_a_plane_is_a_picture_too(tmp_path):
    report = landscape_report(landscape(LandscapeRequest(optimizers=("sgd:lr=1e30",), **ASKED)))
    draw(report, tmp_path / "x.png")


def test_lines_of_equal_loss_read_well():
    import numpy as np

    assert levels(np.array([[0.03, 4.0], [np.nan, 0.5]])) == pytest.approx([0.05, 0.1, 0.2, 0.5, 1, 2])
