"""`flops --audit`, `--reconcile`, `--training`, sweeps and pictures, `diff`, `summary --weights`, as subprocesses."""

from __future__ import annotations

import csv
import io
import json

import pytest
import torch

from mlcv_bench.architectures.build import build


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_sweep_is_the_product(command):
    out = command(
        *("flops", "resnet8", "plain8", "--input", "3x32x32", "--input", "3x64x64", "--batch", "1", "--batch", "4"),
        *("--format", "csv"),
        check=0,
    ).stdout
    rows = rows_of(out)
    assert [(row["architecture"], row["input"], row["batch"]) for row in rows] == [
        (name, size, batch) for name in ("resnet8", "plain8") for size in ("3x32x32", "3x64x64") for batch in "14"
    ]
    assert int(rows[1]["macs"]) == 4 * int(rows[0]["macs"])
    out = command("flops", "resnet8", "--input", "3x32x32", "--input", "3x64x64", check=0).stdout
    assert "resnet8 3x64x64" in out


def test_audit_passes_and_saves(command, tmp_path):
    done = command("flops", "resnet8", "--audit", "-o", "audit.json", check=0)
    assert "Leftover 0" in done.stdout
    assert not done.stderr
    assert json.loads((tmp_path / "audit.json").read_text())["schema"] == "mlcv-bench/audit"


def test_an_audit_that_leaves_something_exits_with_1(command, tmp_path):
    (tmp_path / "other.py").write_text(
        "from torch import nn\n"
        "from fvcore.nn.flop_count import _DEFAULT_SUPPORTED_OPS\n"
        "_DEFAULT_SUPPORTED_OPS['aten::linear'] = lambda inputs, outputs: 7  # an fvcore with another rule\n"
        "def net():\n"
        "    return nn.Sequential(nn.Linear(4, 4))\n"
    )
    done = command("flops", "other.py:net", "--input", "4", "--audit", check=1)
    assert "unexplained for other.py:net" in done.stderr
    assert "disagree at 0: 7 against 16" in done.stdout


def test_reconcile_table(command, golden):
    golden("reconcile-resnet50.txt", command("flops", "--reconcile", "resnet50_v1_5", check=0).stdout)


def test_training_table(command, golden):
    done = command("flops", "resnext", "--training", "--optimizer", "adam", "--memory", "16GB", check=0)
    golden("training-resnext.txt", done.stdout)


def test_diff_table(command, golden):
    golden("diff-resnet8-plain8.txt", command("diff", "resnet8", "plain8", check=0).stdout)


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_a_picture_of_costs(command, tmp_path, suffix):
    command("flops", "resnet_cifar", "-o", f"cost.{suffix}", check=0)
    head = (tmp_path / f"cost.{suffix}").read_bytes()[:5]
    assert head in {b"\x89PNG\r", b"<?xml"}


def test_named_inputs(command, tmp_path):
    (tmp_path / "words.py").write_text(
        "from torch import nn\n"
        "class Words(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.table, self.out = nn.Embedding(10, 8), nn.Linear(8, 3)\n"
        "    def forward(self, tokens):\n"
        "        return {'scores': self.out(self.table(tokens))}\n"
    )
    out = command("flops", "words.py:Words", "--input", "tokens:int64:1x6", "--format", "csv", check=0).stdout
    (row,) = rows_of(out)
    assert (row["macs"], row["input"]) == (str(6 * 24), "tokens:int64:1x6")


def test_weights_that_fit_and_that_do_not(command, tmp_path):
    state = build("resnet8").state_dict()
    torch.save(state, tmp_path / "good.pth")
    del state["fc.bias"]
    torch.save(state, tmp_path / "bad.pth")
    assert "tensors fit" in command("summary", "resnet8", "--weights", "good.pth", check=0).stdout
    done = command("summary", "resnet8", "--weights", "bad.pth", check=1)
    assert "1 missing (fc.bias)" in done.stderr
    assert "no such file" in command("summary", "resnet8", "--weights", "none.pth", check=2).stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["flops", "resnet8", "--audit", "--training"], "one at a time"),
        (["flops", "resnet8", "--memory", "16GB"], "add --training"),
        (["flops", "resnet8", "--optimizer", "adam"], "add --training"),
        (["flops", "resnet8", "--training", "--optimizer", "newton"], "Hessian"),
        (["flops", "resnet8", "--training", "--memory", "much"], "16GB"),
        (["flops", "resnet8", "--training", "--optimizer", "adma"], "adam"),
        (["flops", "resnet8", "--reconcile", "--batch", "2"], "one image"),
        (["flops", "resnet8", "--audit", "-o", "x.png"], ".csv"),
        (["flops", "resnet8", "--audit", "--top", "1"], "--top"),
        (["flops", "resnet8", "--input", "x:int64:1x2"], "one image"),
        (["flops", "resnet8", "--input", "3x32x32", "--input", "3x32x32"], "twice"),
        (["diff", "resnet", "resnet18"], "resnet18, resnet34"),
        (["diff", "resnet18"], "second"),
        (["flops", "torchvision:resnet18"], "torchvision"),
        (["flops", "timm:resnet18"], "timm"),
    ],
    ids=" ".join,
)
def test_what_makes_no_sense_is_one_sentence(command, arguments, words):
    done = command(*arguments, check=2)
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not done.stdout
