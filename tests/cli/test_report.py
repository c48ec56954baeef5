"""`mlcv-bench report`: what was saved is shown again."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

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


def with_row(**values):
    return json.dumps(document("cost", [cost(**values)]))


@pytest.mark.parametrize(
    "text",
    [
        with_row().replace('"columns": [', '"columns": [[[1]], '),
        with_row().replace('"runs": [', '"runs": [' + '{"a": ' * 1000),
        "[" * 100_000,
        with_row(params=[[1]]),
        with_row(architecture={"a": 1}),
        with_row(macs=10**400),
        "\udcff\x00",
        "1" * 5000,
        "{}",
        "null",
    ],
)
@pytest.mark.parametrize("command", [["report", "bad.json"], ["compare", "a.json", "bad.json"]])
def test_a_damaged_file_is_one_sentence(capsys, tmp_path, text, command):
    (tmp_path / "bad.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    assert run(command) in {0, 1, 2}
    errors = capsys.readouterr().err
    assert errors.count("mlcv-bench: ") <= 1
    assert "a fault of mlcv-bench" not in errors
    assert "Traceback" not in errors


def test_escapes_of_a_saved_file_are_shown_as_text(capsys, tmp_path):
    found = document("cost", [cost("\x1b[31mred")])
    found["environment"]["cpu"] = "\x1b]0;a title\x07"
    (tmp_path / "red.json").write_text(json.dumps(found))
    assert run(["report", "red.json"]) == 0
    assert run(["compare", "red.json", "a.json"]) in {1, 4}
    shown = "".join(capsys.readouterr())
    assert r"\x1b[31mred" in shown
    assert "\x1b" not in shown


def test_a_file_without_end_is_not_read_on(capsys):
    assert run(["compare", "a.json", "/dev/zero"]) == 2
    assert "larger than" in capsys.readouterr().err


DRAWN = re.compile(r'<script type="application/json" id=[^>]*>(.*?)</script>')


@pytest.mark.parametrize(
    ("words", "figures", "absent"),
    [
        ("optim-race --surface himmelblau --optimizer sgd,momentum --steps 40", 5, "The file holds no paths"),
        ("basins --size 12x8 --steps 40", 1, "The file holds no map"),
    ],
)
def test_a_saved_race_is_run_again_for_its_page(words, figures, absent, monkeypatch):
    words = [*words.split(), "-q", "-o", "saved.json", "-o", "live.html"]
    monkeypatch.setattr("sys.argv", ["mlcv-bench", *words])
    assert run(words) == 0
    assert run(["report", "saved.json", "-o", "again.html"]) == 0
    live, again = Path("live.html").read_text(), Path("again.html").read_text()
    assert len(DRAWN.findall(live)) == figures
    assert DRAWN.findall(again) == DRAWN.findall(live)
    assert absent not in again
    # What gives other rows is not shown as what was saved, nor is code run that a file names.
    document = json.loads(Path("saved.json").read_text())
    last = max(document["runs"][-1], key=lambda key: isinstance(document["runs"][-1][key], float))
    changed = {**document, "runs": [*document["runs"][:-1], {**document["runs"][-1], last: 0.125}]}
    command = document["command"].replace("himmelblau", "own.py:surface").replace("basins", "basins --surface own.py:f")
    for other in (changed, {**document, "command": command}, {**document, "command": "mlcv-bench '"}):
        Path("other.json").write_text(json.dumps(other))
        assert run(["report", "other.json", "-o", "other.html"]) == 0
        assert absent in Path("other.html").read_text()
