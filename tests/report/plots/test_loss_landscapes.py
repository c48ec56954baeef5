from __future__ import annotations

import numpy as np
import pytest

from mlcv_bench.landscapes.landscape import landscape
from mlcv_bench.landscapes.request import LandscapeRequest
from mlcv_bench.report.landscapes import landscape_report
from mlcv_bench.report.plots.loss_landscapes import SeenPlane, draw, figure, planes_of

ASKED = {"models": ("logistic",), "epochs": 1, "resolution": 7, "directions": ("random", "principal")}


@pytest.fixture(scope="module")
def found():
    return landscape(LandscapeRequest(optimizers=("sgd", "adam"), **ASKED))


def test_a_picture_shows_what_the_rows_hold(found):
    planes = planes_of(landscape_report(found))
    for seen, plane in zip(planes, found.planes, strict=True):
        assert (seen.losses == plane.losses).all()
        assert (seen.a == plane.a).all()
        assert list(seen.paths) == ["sgd", "adam"]
        assert seen.paths["adam"].a == plane.paths[1].places[:, 0].tolist()


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
    axis = np.array([0.0, 1.0])
    plane = SeenPlane("", "", ("", ""), axis, axis, np.array([[0.03, 4.0], [np.nan, 0.5]]), {})
    assert plane.levels == pytest.approx([0.05, 0.1, 0.2, 0.5, 1, 2])
    assert SeenPlane("", "", ("", ""), axis, axis, np.full((2, 2), np.nan), {}).levels == []


def test_a_page_shows_what_the_picture_shows(found):
    pytest.importorskip("plotly")
    from mlcv_bench.report.page.figures import figures_of

    report = landscape_report(found)
    above, solid, hidden, *others = figures_of(report)
    assert len(others) == 3
    plane = found.planes[0]
    contour, path, end = above.figure.data[:3]
    assert np.allclose(contour.z, np.log10(plane.losses), atol=1e-5)
    assert list(path.x) == plane.paths[0].places[:, 0].tolist()
    assert (end.x[0], end.y[0]) == tuple(plane.paths[0].places[-1])
    assert path.text[-1].startswith("step 36<br>loss ")
    assert np.allclose(solid.figure.data[1].z, np.log10(found.paths[0].losses))
    assert list(hidden.figure.data[1].y) == plane.paths[1].distances.tolist()
    assert [one.name for one in hidden.figure.data] == ["sgd", "adam"]
