"""`draw` and `figures`, as a user meets them."""

from __future__ import annotations

from mlcv_bench.architectures.catalog import FAMILIES
from mlcv_bench.cli.app import run
from mlcv_bench.cli.figures import figures
from mlcv_bench.report import gallery
from mlcv_bench.report.gallery import GALLERY as FIGURES


def test_draw_writes_each_form(command, tmp_path):
    command("draw", "alexnet", "-o", "a.png", "-o", "a.svg", "-o", "a.dot", check=0)
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
    assert "<svg" in (tmp_path / "a.svg").read_text()
    assert (tmp_path / "a.dot").read_text().startswith("digraph")


def test_draw_without_output_prints_graphviz_text(command):
    done = command("draw", "resnet18", "--depth", "1", check=0)
    assert done.stdout.startswith('digraph "resnet18"')
    assert done.stderr == ""
    assert command("draw", "resnet18", "--depth", "1", "--quiet", check=0).stdout == done.stdout


def test_a_family_is_drawn_into_a_folder(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(["draw", "ResNet_v1_5", "--depth", "1", "-o", "nets"]) == 0
    assert {path.name for path in (tmp_path / "nets").iterdir()} == {f"{name}.svg" for name in FAMILIES["resnet_v1_5"]}
    assert capsys.readouterr().out == "nets\n"
    assert run(["draw", "all", "-o", "nets.svg"]) == 2
    assert "name a folder for all of them" in capsys.readouterr().err


def test_draw_refuses_before_building(command):
    assert "is no form" in command("draw", "alexnet", "-o", "a.csv", check=2).stderr
    assert "is a family" in command("draw", "resnext", check=2).stderr
    assert "did you mean" in command("draw", "resnet19", check=2).stderr


def test_figures_lists_and_draws(command, tmp_path):
    listed = command("figures", check=0).stdout
    assert [line.split()[0] for line in listed.splitlines()] == list(FIGURES)
    command("figures", "2.4", "-o", "blocks.png", check=0)
    assert (tmp_path / "blocks.png").stat().st_size > 10_000
    command("figures", "2.1", "2.4", "-o", "gallery", check=0)
    page = (tmp_path / "gallery" / "index.html").read_text()
    assert page.count("<figure ") == 2
    assert (tmp_path / "gallery" / "figure-2-1.png").exists()


def test_a_folders_figures_take_the_seed(monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr(gallery.figures, "run", lambda number, *, seed: seen.append((number, seed)))
    monkeypatch.setattr("mlcv_bench.report.plots.figures.draw", lambda drawn, path: path.write_text(str(drawn)))
    figures(["1.1", "1.5"], picture="svg", seed=7, output=[tmp_path / "folder"], quiet=True).run()
    assert seen == [("1.1", 7), ("1.5", 7)]


def test_figures_errors(command):
    assert "unknown figure" in command("figures", "2.9", "-o", "x.png", check=2).stderr
    assert "say where" in command("figures", "2.1", check=2).stderr
    assert "pictures alone" in command("figures", "2.1", "-o", "x.png", "--format", "csv", check=2).stderr
    assert "pictures alone" in command("figures", "1.1", "2.1", "-o", "g", "--format", "json", check=2).stderr
    assert "not both" in command("figures", "2.1", "--all", check=2).stderr
    assert "does not exist" in command("figures", "--all", "-o", "no/gallery", check=2).stderr


def test_several_figures_go_to_no_file(command):
    said = command("figures", "1.1", "1.3", "-o", "two.png", check=2).stderr
    assert "two.png names one file" in said


def test_a_look_needs_a_picture(command):
    assert "no -o names one" in command("flops", "alexnet", "--theme", "dark", check=2).stderr
    assert "draws none" in command("flops", "alexnet", "--audit", "--size", "400x300", check=2).stderr
    assert "is no size" in command("draw", "alexnet", "-o", "a.png", "--size", "big", check=2).stderr


def test_draw_one_module(command):
    said = command("draw", "inception_resnet_v1", "--module", "features.a.0", check=0).stdout
    assert said.startswith('digraph "inception_resnet_v1, features.a.0"')
    assert '"input\\n256×35×35"' in said
    assert "has no such module; did you mean" in command("draw", "alexnet", "--module", "featurs", check=2).stderr
    assert "does not run" in command("draw", "googlenet", "--set", "auxiliary=true", "--module", "aux1", check=2).stderr
