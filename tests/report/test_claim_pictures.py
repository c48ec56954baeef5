"""A claim's picture: a scene of what decides the verdict, the verdict, and every number."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from mlcv_bench.claims import claim, figures
from mlcv_bench.claims.claim import CLAIMS, examine
from mlcv_bench.claims.quantity import Quantity
from mlcv_bench.claims.scene import Bars
from mlcv_bench.report.diagrams import networks
from mlcv_bench.report.gallery import GALLERY
from mlcv_bench.report.plots import claims


def test_every_figure_of_the_gallery_is_run_or_built():
    assert [*figures.FIGURES, *networks.FIGURES] == list(GALLERY)


SECTIONS = Path(claim.__file__).parent
DRAWN = ("1.1-sphere", "1.2-parabola", "1.2-saddle", "1.4-epsilon", "2.3-grouped-blocks")


@pytest.mark.parametrize("name", DRAWN)
def test_a_scene_is_drawn_with_legend_or_title(name, tmp_path):
    result = examine(CLAIMS[name])
    assert result.evidence.scene
    for panel in result.evidence.scene:
        axes = Figure().subplots()
        claims.draw_panel(axes, panel)
        assert axes.lines or axes.collections or axes.patches
        assert axes.get_legend() is not None or axes.get_title()
    claims.draw(result, tmp_path / "x.svg")
    assert (tmp_path / "x.svg").stat().st_size > 5000


def test_a_scene_is_of_the_measurements_that_decide():
    (panel,) = examine(CLAIMS["1.1-sphere"]).evidence.scene
    measured, theory = panel.lines
    # |1 - eta L| by hand, up to rounding.
    assert dict(zip(measured.x, measured.y, strict=True)) == pytest.approx({0.5: 0.5, 0.75: 0.25, 1: 0, 1.5: 0.5, 2: 1})
    assert theory.look == "theory"
    (panel,) = examine(CLAIMS["2.3-grouped-blocks"]).evidence.scene
    rows = panel.rows
    assert all(rows[i][j] == 0 for i in range(32) for j in range(16) if i // 8 != j // 4)
    (panel,) = examine(CLAIMS["1.1-epoch"]).evidence.scene
    # Three steps see each of seven samples once; the notes' fourth sees none.
    assert [sum(row) for row in panel.rows[:4]] == [3, 3, 1, 0]
    assert [sum(column) for column in zip(*panel.rows[:4], strict=True)] == [1] * 7


def test_no_two_claims_share_a_figure_and_every_figure_is_there():
    used = re.findall(r'NetworkFigure\("(.+?)"\)', "".join(path.read_text() for path in SECTIONS.glob("*.py")))
    assert len(used) == len(set(used))
    assert set(used) <= set(GALLERY)


def test_the_words_below_have_the_verdict_and_every_number():
    result = examine(CLAIMS["1.1-sphere"])
    lines = claims.words_below(result, 60)
    assert lines[0] == "Holds with a limit: up to eta = 1/L."
    text = " ".join(lines)
    for one in result.evidence.quantities:
        assert f"{one.measured:.6g}  = {one.predicted:.6g} \N{PLUS-MINUS SIGN} 1e-12" in text
    assert text.count("limit: |x1|/|x0|") == 2
    assert max(map(len, lines)) <= 60


def test_an_estimate_stands_with_its_interval():
    one = Quantity("gap", 0.5, 0.0, relation=">", unit="%", interval=(0.25, 0.75))
    evidence = claim.ExperimentResult((one,), "A gap.")
    result = dataclasses.replace(examine(CLAIMS["1.1-sphere"]), evidence=evidence)
    assert claims.words_below(result, 100)[-1].endswith("gap [%], interval 0.25 .. 0.75")


def test_a_network_stands_above_its_claims_numbers(tmp_path):
    claims.draw(examine(CLAIMS["2.2-bottleneck"]), tmp_path / "x.svg")
    text = (tmp_path / "x.svg").read_text()
    assert "costs about as much as a standard block" in text
    assert "Holds with a limit: a stage" in text


def test_a_claim_that_broke_has_its_reason(tmp_path):
    broken = examine(claim.Claim("x-y", "9", "Nothing.", "math:nothing", "holds"))
    assert claims.words_below(broken, 80)[:2] == ["Failed.", broken.reason]
    claims.draw(broken, tmp_path / "x.png")
    assert (tmp_path / "x.png").stat().st_size > 1000


@pytest.mark.parametrize("measured", [2.0, float("inf")])
def test_bars_show_what_has_no_prediction_or_no_end(measured):
    axes = Figure().subplots()
    claims.draw_panel(axes, Bars("steps", {"a": Quantity("", measured, float("nan")), "b": Quantity("", 1.0, 1.0)}))
    assert [text.get_text() for text in axes.texts] == ["2" if measured == 2 else "infinite: never there", "1"]


def test_show(command, tmp_path):
    command("claims", "--id", "1.2-parabola", "--show", check=0)
    assert (tmp_path / "1.2-parabola.png").read_bytes()[:4] == b"\x89PNG"
    assert "name it with --id" in command("claims", "--show", check=2).stderr
    assert "is no form" in command("claims", "--id", "1.2-parabola", "-o", "x.png", check=2).stderr
