"""A claim's picture: a scene for those that have one, the numbers for all."""

from __future__ import annotations

import pytest
from matplotlib.figure import Figure

from mlcv_bench.claims import figures
from mlcv_bench.claims.claim import CLAIMS, examine
from mlcv_bench.report.diagrams import networks
from mlcv_bench.report.gallery import GALLERY
from mlcv_bench.report.plots import claims


@pytest.mark.parametrize("name", claims.SCENES)
def test_every_scene_draws_something(name):
    assert name in CLAIMS
    axes = Figure().subplots()
    claims.SCENES[name]()(axes)
    assert axes.lines or axes.collections
    assert axes.get_legend() is not None


@pytest.mark.parametrize("name", claims.NETWORKS)
def test_networks_are_figures(name):
    assert name in CLAIMS
    assert claims.NETWORKS[name] in GALLERY


def test_every_figure_of_the_gallery_is_run_or_built():
    assert [*figures.FIGURES, *networks.FIGURES] == list(GALLERY)


@pytest.mark.parametrize("name", ["1.1-sphere", "1.2-parabola", "1.3-conditioning"])
def test_the_numbers_stand_beside_it(name, tmp_path):
    result = examine(CLAIMS[name])
    claims.draw(result, tmp_path / "x.svg")
    canvas = Figure().subplots()
    claims.numbers(canvas, result.evidence.quantities)
    assert len(canvas.texts) == 2 * len(result.evidence.quantities)
    assert (tmp_path / "x.svg").stat().st_size > 5000


def test_show(command, tmp_path):
    command("claims", "--id", "1.2-parabola", "--show", check=0)
    assert (tmp_path / "1.2-parabola.png").read_bytes()[:4] == b"\x89PNG"
    assert "name it with --id" in command("claims", "--show", check=2).stderr
    assert "is no form" in command("claims", "--id", "1.2-parabola", "-o", "x.png", check=2).stderr
