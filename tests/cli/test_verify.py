"""`mlcv-bench verify` as users run it: columns, files, exit codes."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from pathlib import Path

import pytest

from mlcv_bench.cli import verify as command_line
from mlcv_bench.cli.app import run
from mlcv_bench.equivalence import harness

SMALL = ("--groups", "2", "--width", "3", "--channels", "6")
MODULES = """
from torch import nn

class Wide(nn.Module):
    def __init__(self):
        super().__init__()
        self.both = nn.Conv2d(3, 4, 1)
    def forward(self, x):
        return self.both(x)

class Narrow(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 2, 1), nn.Conv2d(3, 2, 1)
    def forward(self, x):
        return self.one(x), self.two(x)

class Dropping(Wide):
    def forward(self, x):
        return nn.functional.dropout(self.both(x), 0.5, self.training)

class Positive(Wide):
    def forward(self, x):
        return nn.functional.conv2d(x, self.both.weight.abs(), self.both.bias)

class Picky(Wide):
    def forward(self, x):
        raise RuntimeError("not this one")

class Joined(Narrow):
    def forward(self, x):
        import torch
        return torch.cat(super().forward(x), dim=1)

def carry(state):
    out = {}
    for key in ("weight", "bias"):
        out[f"one.{key}"], out[f"two.{key}"] = state[f"both.{key}"].chunk(2)
    return out
"""


def test_csv_has_the_contract_columns_and_only_the_runs(command):
    done = command("verify", "projection", *SMALL, "--format", "csv", check=0)
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert done.stdout.startswith(
        "subject,case,quantity,dtype,mode,device,max_abs_error,max_rel_error,tolerance,control_detected,passed,status,reason"
    )
    assert {row["passed"] for row in rows} == {"true"}
    assert {row["control_detected"] for row in rows} == {"", "true"}
    assert {row["device"] for row in rows} == {"cpu"}


def test_pictures_and_files(command, tmp_path):
    done = command(
        *("verify", "resnext", *SMALL, "--dtype", "float64", "-o", "forms.png", "-o", "v.json", "-o", "v.csv"), check=0
    )
    for words in ("Equivalences", "Negative controls", "three prices", "times grouped", "0 failed"):
        assert words in done.stdout
    assert (tmp_path / "forms.png").read_bytes().startswith(b"\x89PNG")
    saved = json.loads((tmp_path / "v.json").read_text())
    assert saved["schema"] == "mlcv-bench/verify"
    assert [form["form"] for form in saved["details"]["forms"]] == ["branches", "concat", "grouped"]
    assert saved["details"]["arithmetic"]["tf32"] is False
    with (tmp_path / "v.csv").open() as file:
        assert len(list(csv.DictReader(file))) == len(saved["runs"])


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("mine.py:Wide", "mine.py:Joined", "--transplant", "mine.py:carry"), 0, "same"),
        (("mine.py:Wide", "mine.py:Joined"), 2, "give --transplant"),
        # One output against two: not the same function.
        (("mine.py:Wide", "mine.py:Narrow", "--transplant", "mine.py:carry"), 1, "comparisons failed"),
        (("mine.py:Wide", "mine.py:Picky"), 5, "1 cases broke"),
        (("mine.py:Wide", "mine.py:Wide", "--input", "4x5x5"), 2, "the first network takes images of"),
        (("resnet18", "resnet34", "--input", "1x64x64"), 2, "resnet18 takes 3"),
        (("resnt18", "mine.py:Wide"), 2, "did you mean resnet18"),
        (("mine.py:Wide", "mine.py:Joined", "mine.py:Narrow"), 2, "two networks"),
        (("mine.py:Wide", "mine.py:Joined", "--transplant", "mine.py:nothing"), 2, "has no attribute"),
        (("mine.py:Wide", "mine.py:Joined", "--transplant", "mine.py:__name__"), 2, "is no function"),
    ],
)
def test_two_networks(arguments, code, words, capsys, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(MODULES)
    monkeypatch.chdir(tmp_path)
    size = () if "--input" in arguments else ("--input", "3x5x5")
    assert run(["verify", *arguments, *size]) == code
    shown = capsys.readouterr()
    assert words in shown.out + shown.err
    assert len(shown.err.splitlines()) == (code != 0)


CASES = Path(__file__).parent.parent / "cases"


@pytest.mark.parametrize(
    ("names", "code", "words"),
    [
        (("named", "reordered"), 0, ("same, proved exactly, for outputs within ", "larger ones were not seen")),
        (("named", "swapped"), 1, ("FAILS",)),
        (("relu", "relu6"), 1, ("FAILS", "output at scale 1000")),
        (("with_scale", "with_other_scale"), 1, ("FAILS",)),
        (("first_in_place", "first_apart"), 0, ("same",)),
    ],
)
def test_pairs_that_are_or_are_not_one_function(names, code, words, capsys, monkeypatch):
    monkeypatch.chdir(CASES)
    monkeypatch.setenv("COLUMNS", "200")
    assert run(["verify", *(f"pairs.py:{name}" for name in names), "--input", "3x9x9"]) == code
    shown = " ".join(capsys.readouterr().out.split())
    assert all(word in shown for word in words)
    assert f"pairs.py:{names[0]} = pairs.py:{names[1]}" in shown
    # Outputs of about 1, at a scale of a million.
    assert all(1e6 < float(far) < 1e7 for far in re.findall(r"for outputs within (\S+);", shown))


def test_a_network_that_is_random_in_evaluation_is_said_to_be(capsys, monkeypatch):
    monkeypatch.chdir(CASES)
    assert run(["verify", "timed.py:RandomInEval", "timed.py:RandomInEval", "--input", "3x9x9"]) == 0
    assert "timed.py:RandomInEval is random in evaluation" in capsys.readouterr().out


def test_networks_that_agree_in_evaluation_alone(capsys, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(MODULES)
    monkeypatch.chdir(tmp_path)
    pair = ["verify", "mine.py:Wide", "mine.py:Dropping", "--input", "3x5x5"]
    assert run(pair) == 1
    shown = capsys.readouterr()
    for text in (shown.out, shown.err):
        assert "same in evaluation and differ in training; --mode eval" in " ".join(text.split())
    assert len(shown.err.splitlines()) == 1
    assert run([*pair, "--mode", "eval"]) == 0
    assert "--mode" not in capsys.readouterr().out


def test_weights_of_files_and_ones_own(capsys, tmp_path, monkeypatch):
    import torch

    (tmp_path / "mine.py").write_text(MODULES)
    monkeypatch.chdir(tmp_path)
    for number in (1, 2):
        torch.save({"both.weight": torch.full((4, 3, 1, 1), number), "both.bias": torch.ones(4)}, f"{number}.pth")
    pair = ["verify", "mine.py:Wide", "mine.py:Positive", "--input", "3x5x5"]
    assert run(pair) == 1
    assert run([*pair, "--weights", "1.pth"]) == 0
    assert run([*pair, "--weights", "1.pth", "--weights", "1.pth"]) == 0
    assert run([*pair, "--weights", "1.pth", "--weights", "2.pth"]) == 1
    assert run([*pair, "--keep-weights"]) == 1
    twice = ["verify", "mine.py:Wide", "mine.py:Wide", "--input", "3x5x5", "--keep-weights"]
    assert run(twice) == 0
    assert "the weights are kept" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("resnxt",), "did you mean resnext"),
        ((), "subjects"),
        (("resnext", "--groups", "2,x"), "'x' is no whole number"),
        (("resnext", "--groups", "0"), "from 1 on"),
        (("resnext", "--dtype", "float23"), "did you mean float32"),
        (("resnext", "--mode", "test"), "train, eval"),
        (("folding", "-o", "x.png"), "name resnext"),
        (("folding", "-o", "x.gif"), ".gif"),
        (("folding", "--input", "3x8x8"), "belong to two networks"),
        (("folding", "--keep-weights"), "belong to two networks"),
        (("folding", "--weights", "a.pth"), "belong to two networks"),
        (("resnet18", "resnet18", "--weights", "a.pth"), "there is no such file"),
        (("resnet18", "resnet18", *["--weights", "a.pth"] * 3), "3 times; give one file a network"),
        (("resnet18", "resnet18", "--weights", "a.pth", "--keep-weights"), "leave --keep-weights out"),
        (("resnet18", "resnet18", *["--weights", "a.pth"] * 2, "--transplant", "a.py:f"), "leave one of them out"),
        (("a.py:f", "b.py:g", "--transplant", "carry"), "is no function"),
        (("folding", "--device", "nonsense"), "--device has no nonsense"),
        (("folding", "--device", "meta"), "choose from cpu"),
        (("a.py:f",), "two networks"),
        (("a.py:f", "b.py:g"), "does not exist"),
        (("resnet18", "resnet34", "--groups", "4"), "--groups changes nothing for two networks"),
        (("momentum", "--device", "cuda"), "--device changes nothing for momentum"),
        (("torchvision", "auxiliary", "--dtype", "float64"), "--dtype changes nothing for torchvision, auxiliary"),
        (("folding", "--mode", "train"), "--mode changes nothing for folding"),
    ],
)
def test_usage_errors(arguments, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(["verify", *arguments]) == 2
    shown = capsys.readouterr()
    assert words in shown.err
    assert len(shown.err.splitlines()) == 1
    assert not shown.out


def test_an_undetected_control_is_exit_code_1(monkeypatch, capsys):
    monkeypatch.setattr(harness, "NUDGES", dict.fromkeys(harness.NUDGES, 0.0))
    assert run(["verify", "folding", "--dtype", "float64"]) == 1
    shown = capsys.readouterr()
    assert "negative controls were not detected" in shown.err
    assert "What failed" in shown.out


def test_an_interruption_is_exit_code_130_and_shows_what_was_found(monkeypatch, capsys):
    from mlcv_bench.equivalence import folding

    def interrupted(*_arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(folding, "examine_folding", interrupted)
    assert run(["verify", "projection", "folding", *SMALL]) == 130
    shown = capsys.readouterr()
    assert "projection" in shown.out
    assert "Interrupted" in shown.out


def test_an_interruption_before_the_costs_leaves_the_picture_alone(monkeypatch, capsys, tmp_path):
    from mlcv_bench.equivalence import resnext

    def interrupted(*_arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(resnext, "examine_block", interrupted)
    picture, table = tmp_path / "forms.png", tmp_path / "v.csv"
    picture.write_bytes(b"from before")
    assert run(["verify", "resnext", *SMALL, "-o", str(picture), "-o", str(table)]) == 130
    assert picture.read_bytes() == b"from before"
    assert table.read_text().startswith("subject,case")
    assert "Interrupted" in capsys.readouterr().out


def test_a_named_subject_of_which_nothing_is_compared_is_exit_code_2(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    assert run(["verify", "torchvision", "folding", "--dtype", "float32"]) == 2
    shown = capsys.readouterr()
    assert "nothing of torchvision was compared: torchvision" in shown.err
    assert "Skipped, torchvision" in shown.out


def test_types_that_are_computed_anyway_may_be_named():
    for subject, option in (("auxiliary", ("--dtype", "float32")), ("momentum", ("--dtype", "float64"))):
        assert run(["verify", subject, *option, "--format", "csv"]) == 0


def test_subjects_are_listed(command):
    done = command("list", "subjects", "--format", "json", check=0)
    assert {"resnext", "published"} <= {row["name"] for row in json.loads(done.stdout)}


def test_completion():
    assert command_line.complete_subject("gro") == ["grouped-conv"]
    assert "all" in command_line.complete_subject("")


@pytest.mark.parametrize(
    ("words", "code"), [("list subjects --format json", 0), ("verify --help", 0), ("verify resnxt", 2)]
)
def test_help_and_usage_errors_load_no_torch(words, code, heavy_modules):
    assert heavy_modules(words.split())[:2] == (code, [])
