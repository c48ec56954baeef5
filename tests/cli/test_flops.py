"""`flops`, `params`, `summary`, `width`, `list` as real subprocesses."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from mlcv_bench.cli.app import run

CONTRACT = (
    "architecture,family,input,batch,params,macs,flops,activations,weight_bytes,peak_activation_bytes,"
    "published_params,published_macs,published_source"
)


def test_flops_saves_and_prints(command, tmp_path, golden):
    done = command("flops", "resnext", "-o", "cost.csv", "-o", "cost.json", "-o", "cost.md", check=0)
    golden("flops-resnext.txt", done.stdout)
    assert not done.stderr
    text = (tmp_path / "cost.csv").read_text()
    assert text.startswith(CONTRACT)
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["architecture"] for row in rows] == ["resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d"]
    assert (rows[0]["params"], rows[0]["macs"]) == ("25028904", "4230479872")
    document = json.loads((tmp_path / "cost.json").read_text())
    assert document["command"] == "mlcv-bench flops resnext -o cost.csv -o cost.json -o cost.md"
    assert document["runs"][0]["flops"] == 2 * 4230479872
    assert "| resnext50_32x4d |" in (tmp_path / "cost.md").read_text()


def test_csv_on_stdout_is_the_file(command, tmp_path):
    done = command("flops", "resnet20", "--format", "csv", "-o", "x.csv", check=0)
    assert done.stdout == (tmp_path / "x.csv").read_text()


def test_json_on_stdout_is_the_runs(command):
    (row,) = json.loads(command("params", "resnet20", "--format", "json", check=0).stdout)
    assert row["params"] == 269_722


@pytest.mark.parametrize("width", [60, 80, 200])
def test_any_width(command, width):
    out = command("flops", "resnet18", env={"COLUMNS": str(width)}, check=0).stdout
    assert max(map(len, out.splitlines())) <= width
    assert "1.814" in out


def test_no_colour_in_a_pipe(command):
    assert "\x1b" not in command("flops", "resnet20", check=0).stdout


def test_sort_top_batch_and_set(command):
    out = command("flops", "resnet_cifar", "--sort", "macs", "--top", "2", "--format", "csv", check=0).stdout
    assert [row["architecture"] for row in csv.DictReader(io.StringIO(out))] == ["resnet110", "resnet56"]
    out = command("flops", "resnet20", "--batch", "3", "--set", "num_classes=100", "--format", "csv", check=0).stdout
    (row,) = csv.DictReader(io.StringIO(out))
    assert row["batch"] == "3"
    assert int(row["params"]) == 269_722 + 90 * 65
    assert row["published_params"] == ""


def test_specification_from_a_file(command, tmp_path):
    (tmp_path / "mine.py").write_text(
        "from torch import nn\ndef tiny(width: int = 4):\n    return nn.Sequential(nn.Conv2d(3, width, 3))\n"
        "def broken():\n    raise RuntimeError('no weights today')\nnumber = 3\ndef nothing():\n    return 5\n"
    )
    out = command("flops", "mine.py:tiny", "--set", "width=8", "--input", "3x10x10", "--format", "csv", check=0).stdout
    (row,) = csv.DictReader(io.StringIO(out))
    assert (row["family"], int(row["macs"])) == ("external", 8 * 27 * 64)
    for name, words in [
        ("mine.py:broken", "RuntimeError"),
        ("mine.py:number", "int"),
        ("mine.py:nothing", "int"),
        ("mine.py:tine", "tiny"),
        ("yours.py:tiny", "does not exist"),
    ]:
        done = command("flops", name, check=5 if name == "mine.py:broken" else 2)
        assert words in done.stderr
        assert len(done.stderr.splitlines()) == 1
        assert not done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["resnext51_32x4d"], "26, 50, 101, 152"),
        (["resnet5"], "resnet50"),
        (["resnext", "--set", "form=twisted"], "grouped, concat, branches"),
        (["resnext", "--set", "breadth=x"], "form"),
        (["resnet50", "--set", "form=grouped"], "resnet50 has no option form"),
        (["resnet50", "--input", "3x0x224"], "zero"),
        (["resnet50", "--input", "1x224x224"], "in_channels=1"),
        (["vgg16", "--input", "3x8x8"], "at least"),
        (["resnet18", "-o", "x.xlsx"], ".csv"),
        (["resnet18", "-o", "missing/x.csv"], "does not exist"),
        (["resnet18", "vgg99"], "vgg"),
    ],
)
def test_bad_input_is_one_sentence_and_no_counting(command, arguments, words, tmp_path):
    done = command("flops", *arguments, check=2)
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not done.stdout
    assert not list(tmp_path.iterdir())


def test_an_unwritable_file(command):
    done = command("flops", "resnet20", "-o", "/proc/cost.csv", check=2)
    assert "cannot be written" in done.stderr or "no permission" in done.stderr


def test_summary_folds_repeated_blocks(command, golden):
    golden("summary-resnet18.txt", command("summary", "resnet18", "--depth", "2", check=0).stdout)


def test_summary_of_a_family_names_its_members(command):
    assert "resnet18, resnet34" in command("summary", "resnet", check=2).stderr


def test_width_table(command, golden):
    golden("width.txt", command("width", check=0).stdout)
    assert "resnet50_v1_5" in command("width", "--match", "vgg16", check=2).stderr


def test_list(command):
    out = command("list", "--format", "csv", check=0).stdout
    rows = list(csv.DictReader(io.StringIO(out)))
    assert {"name", "family", "year", "paper", "section"} <= set(rows[0])
    assert "resnext50_32x4d" in {row["name"] for row in rows}
    assert "mlcv-bench list" in command("list", "nonsense", check=2).stderr


def test_a_closed_pipe_is_no_error(tmp_path):
    import os
    import subprocess
    import sys
    from pathlib import Path

    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, "-m", "mlcv_bench", "list", "--format", "json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(root)},
    )
    process.stdout.close()
    assert process.wait(60) == 0
    assert process.stderr.read() == b""
    process.stderr.close()


def test_what_a_factory_prints_stays_out_of_the_result(command, tmp_path):
    (tmp_path / "loud.py").write_text(
        "from torch import nn\nprint('imported')\ndef tiny():\n    print('built')\n    return Loud()\n"
        "class Loud(nn.Conv2d):\n    def __init__(self):\n        super().__init__(3, 4, 3)\n"
        "    def forward(self, x):\n        print('running')\n        return super().forward(x)\n"
    )
    for name in ("loud.py:tiny", "loud:tiny"):
        done = command("flops", name, "--format", "csv", check=0)
        assert done.stdout.startswith(CONTRACT)
        assert {"imported", "built", "running"} <= set(done.stderr.splitlines())


@pytest.mark.parametrize("leaves", ["at import", "when called", "when run"])
def test_a_factory_cannot_end_the_command(capsys, tmp_path, leaves):
    (tmp_path / "leaver.py").write_text(
        f"import sys\nfrom torch import nn\n{leaves == 'at import'} and sys.exit()\n"
        f"class Leaver(nn.Module):\n    def forward(self, x):\n        sys.exit()\n"
        f"def net():\n    {leaves == 'when called'} and sys.exit()\n    return Leaver()\n"
    )
    assert run(["flops", f"{tmp_path}/leaver.py:net"]) == 2
    out, sentence = capsys.readouterr()
    assert "sys.exit()" in sentence
    assert len(sentence.splitlines()) == 1
    assert not out


@pytest.mark.parametrize(
    "arguments",
    [
        ["flops", "resnet18", "--input", "3x99999999999x99999999999"],
        ["flops", "resnet18", "--input", f"3x{'9' * 5000}x3"],
        ["flops", "resnet18", "--batch", "9223372036854775807"],
        ["params", "resnet18", "--batch", "99999999999999999999"],
        ["summary", "resnet18", "--batch", "99999999999999999999"],
        ["flops", f"resnext50_{'9' * 5000}x4d"],
        ["flops", "resnext50_10000000x10000000d"],
        ["flops", "resnext50_٣٢x4d"],
        ["width", "--groups", "9" * 5000],
    ],
    ids=lambda arguments: " ".join(arguments)[:50],
)
def test_sizes_beyond_any_tensor_are_one_sentence(capsys, arguments):
    assert run(arguments) == 2
    out, sentence = capsys.readouterr()
    assert len(sentence.splitlines()) == 1
    assert not out


UNUSUAL = """
import torch
from torch import nn


class Unusual(nn.Module):
    def __init__(self):
        super().__init__()
        self.parts, self.never = nn.ModuleList([nn.Conv2d(3, 4, 3)]), nn.Linear(5, 5)

    def forward(self, x):
        x = self.parts[0](x)
        return torch.fft.fft(x).abs() if x.sum() < float("inf") else x
"""


@pytest.mark.parametrize("study", ["flops", "params", "summary"])
def test_every_command_that_counts_says_what_it_could_not(study, capsys, tmp_path):
    (tmp_path / "unusual.py").write_text(UNUSUAL)
    asked = [study, f"{tmp_path}/unusual.py:Unusual", "--input", "3x9x9"]
    assert run(asked) == 0
    warnings = capsys.readouterr().err
    assert "not counted: _fft_r2c (1x)" in warnings
    assert "depend on values" in warnings
    assert run([*asked, "--quiet"]) == 0
    assert not capsys.readouterr().err


def test_summary_tells_the_whole_image_from_a_module_that_never_ran(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")  # a temporary folder's long name must not cut the table
    (tmp_path / "unusual.py").write_text(UNUSUAL)
    assert run(["summary", f"{tmp_path}/unusual.py:Unusual", "--input", "3x9x9", "--quiet"]) == 0
    rows = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("  ")}
    assert rows["0"][2:4] == ["1x4x7x7", "3"]
    assert rows["parts"][2] == "-"
    assert rows["never"][2] == "-"


def test_a_label_reads_as_it_is_written(capsys):
    assert run(["params", "googlenet", "--set", "auxiliary=true"]) == 0
    assert "googlenet auxiliary=true" in capsys.readouterr().out


def test_list_families(capsys):
    assert run(["list", "families", "--format", "csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    members = {row["family"]: row["members"].split() for row in rows}
    assert members["resnext"] == ["resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d"]


def test_csv_tells_the_options_apart(capsys):
    assert run(["flops", "resnet20", "--set", "num_classes=7", "--set", "skip=false", "--format", "csv"]) == 0
    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert row["options"] == "num_classes=7 skip=false"
    assert run(["flops", "resnet20", "--format", "csv"]) == 0
    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert row["options"] == ""


CASES = Path(__file__).parents[1] / "cases"


def test_named_inputs_in_summary_and_draw(command):
    tokens = ("--input", "tokens:int64:1x12")
    out = command("summary", f"{CASES}/networks.py:Tokens", *tokens, check=0).stdout
    assert "1,344 MACs" in out
    assert "1.34" in out  # k, not 0.00 M
    assert "12×16" in command("draw", f"{CASES}/networks.py:Tokens", *tokens, check=0).stdout
    done = command("diff", "resnet18", "resnet34", "--input", "3x64x64", "--input", "3x32x32", check=2)
    assert "one input" in done.stderr


def test_parameters_need_no_fitting_input_and_small_networks_small_units(command):
    done = command("params", f"{CASES}/networks.py:Recurrent", "--format", "csv", check=0)
    (row,) = csv.DictReader(io.StringIO(done.stdout))
    assert (row["params"], row["macs"], row["addition_ops"]) == ("16714", "", "")
    assert "the parameters need none" in done.stderr
    out = command("flops", f"{CASES}/networks.py:Tokens", "--input", "tokens:int64:1x12", check=0).stdout
    assert "0.000" not in out
    assert "1.344" in out


def test_a_compiled_network_is_counted_without_noise(command):
    done = command("flops", f"{CASES}/networks.py:compiled", "--input", "3x8x8", "--format", "csv", check=0)
    assert next(csv.DictReader(io.StringIO(done.stdout)))["macs"] == "5328"
    assert not done.stderr
