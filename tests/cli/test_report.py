"""`mlcv-bench report`: what was saved is shown again."""

from __future__ import annotations

import csv
import io
import json

import pytest

from mlcv_bench.cli.app import run
from tests.suites.documents import cost, document, timed


@pytest.fixture(autouse=True)
def saved(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, study, row in (
        ("a", "cost", cost()),
        ("b", "cost", cost("resnet32", params=2000)),
        ("c", "time", timed()),
        ("d", "env", {"name": "cpu", "value": "A processor"}),
    ):
        (tmp_path / f"{name}.json").write_text(json.dumps(document(study, [row])))


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["a"], ["resnet20", "1,000", "A processor"]),
        (["a", "b"], ["a.json", "b.json", "resnet32", "2,000"]),
        (["c"], ["median_s", "0.01", "done"]),
        (["d"], ["cpu", "A processor"]),
    ],
)
def test_what_was_saved_is_shown_again(capsys, names, words):
    assert run(["report", *(f"{name}.json" for name in names)]) == 0
    shown = capsys.readouterr().out
    assert all(word in shown for word in words)


def test_csv_has_the_columns_that_were_saved(capsys, tmp_path):
    assert run(["report", "a.json", "--format", "csv", "-o", "again.csv"]) == 0
    text = capsys.readouterr().out
    (row,) = csv.DictReader(io.StringIO(text))
    assert row == {key: str(value) for key, value in cost().items()}
    assert (tmp_path / "again.csv").read_text() == text


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["a.json", "c.json"], 2, "give files of one study"),
        (["a.json", "-o", "x.json"], 2, "use one of .csv .md"),
        (["missing.json"], 4, "does not exist"),
    ],
)
def test_what_cannot_be_shown_is_said(capsys, arguments, code, words):
    assert run(["report", *arguments]) == code
    assert words in capsys.readouterr().err
