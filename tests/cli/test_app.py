"""The command line's contract: help that loads nothing, one sentence for every error, exit codes."""

from __future__ import annotations

import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mlcv_bench import __version__
from mlcv_bench.cli import app
from mlcv_bench.cli.app import COMMANDS, load_command, parse
from mlcv_bench.errors import BenchError


@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("flops ResNet18 --batch 1,8 --batch 2 --sort MACS", {"batches": (1, 8, 2), "sort": "macs"}),
        (
            "flops resnet18 --training --optimizer sgd --optimizer Adam:lr=0.1,beta1=0.8,lion",
            {"optimizers": ("sgd", "Adam:lr=0.1,beta1=0.8", "lion")},
        ),
        (
            "optim-race --optimizer momentum:lr=0.1,momentum=0.9,adam:beta1=0.8 --optimizer lion",
            {"optimizers": ("momentum:lr=0.1,momentum=0.9", "adam:beta1=0.8", "lion")},
        ),
        (
            "optim-race --task digits --optimizer torch.optim:Adam:betas=(0.9,0.99),amsgrad=true,sgd",
            {"optimizers": ("torch.optim:Adam:betas=(0.9,0.99),amsgrad=true", "sgd")},
        ),
        ("lr-sweep --optimizer sgd,adam", {"optimizers": ("sgd", "adam")}),
        ("claims --id 1.1-Epoch,1.1-canyon-lr", {"ids": ("1.1-epoch", "1.1-canyon-lr")}),
        ("verify RESNEXT --dtype Float32 --mode EVAL,train", {"dtypes": ("float32",), "modes": ("eval", "train")}),
        ("verify resnext --device CPU", {"device": "cpu"}),
        ("verify resnext --device CUDA:1", {"device": "cuda:1"}),
        ("optim-race --surface Canyon --protocol Tuned,THEORY", {"protocols": ("tuned", "theory")}),
        ("optim-race --engine LANES --schedule Cosine", {"engine": "lanes", "schedule": "cosine"}),
        ("lr-sweep --engine Scalar --schedule STEP", {"engine": "scalar", "schedule": "step"}),
        ("basins --schedule Linear", {"schedule": "linear"}),
        ("optim-race --task digits --schedule COSINE --tune-for Loss", {"schedule": "cosine", "tune_for": "loss"}),
        ("optim-race --task Digits --model MLP,Logistic", {"tasks": ("digits",), "models": ("mlp", "logistic")}),
    ],
)
def test_commas_separate_and_case_does_not_matter(line, values):
    request = parse(line.split()).request
    assert {name: getattr(request, name) for name in values} == values


def test_the_grid_of_timed_cells_is_named_without_regard_to_case():
    grid = parse(
        ["time", "resnet18", "--device", "CUDA:3,Cpu", "--wait-policy", "PASSIVE", "--runtime", "Eager"]
    ).request.grid
    assert (grid.device, grid.wait_policy, grid.runtime) == (("cuda:3", "cpu"), "passive", ("eager",))


def test_shapes_are_separated_by_commas():
    shapes = parse(["flops", "resnet20", "--input", "3x32x32,3x64x64"]).request.networks.shapes
    assert shapes == ((3, 32, 32), (3, 64, 64))


@pytest.mark.parametrize("command", COMMANDS)
def test_help_loads_nothing_heavy(command, heavy_modules):
    assert heavy_modules([*command.split(), "--help"])[:2] == (0, [])


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--help"], 0),
        (["--version"], 0),
        (["flops", "resnext51"], 2),
        (["flops", "resnet50", "--input", "3x0x224"], 2),
        (["flops", "resnet50", "--input", "224"], 2),
        (["flops", "inception_v4", "--input", "3x8x8"], 2),
        (["flops", "resnext", "--set", "form=twisted"], 2),
        (["flops", "resnext", "--set", "nothing=1"], 2),
        (["flops", "resnext", "-o", "cost.txt"], 2),
        (["flops", "resnet50", "nowhere.py:factory"], 2),
        (["summary", "no_such_package.models:factory"], 2),
        (["params", "tests:"], 2),
        (["flops", "resnext", "-o", "nowhere/cost.csv"], 2),
        (["flops", "--batch", "0", "resnet50"], 2),
        (["nonsense"], 2),
        (["time", "resnet50", "--weights", "pyproject.toml"], 2),
        (["time", "resnet50", "--device", "foo"], 2),
        (["summary", "resnet50", "--weights", "nowhere.pt"], 2),
        (["verify", "resnext", "--device", "foo"], 2),
        (["verify", "nowhere.py:A", "nowhere.py:B"], 2),
        (["verify", "resnet18", "no_such_package:B"], 2),
        (["width", "--groups", "1,x"], 2),
        (["list", "nothing"], 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_what_needs_no_network_loads_no_torch(arguments, code, heavy_modules):
    assert heavy_modules(arguments)[:2] == (code, [])


def test_help_lists_every_command(command):
    out = command("--help", check=0).stdout
    for name, (_, line) in COMMANDS.items():
        assert name in out
        assert line.split()[0] in out


@pytest.mark.parametrize("name", COMMANDS)
def test_table_of_commands_says_what_the_commands_say(name):
    module, _, attribute = COMMANDS[name][0].partition(":")
    function = getattr(importlib.import_module(module), attribute)
    assert inspect.getdoc(function).splitlines()[0] == COMMANDS[name][1]
    assert inspect.signature(function).return_annotation == "Asked"
    options = {option for one in load_command(name).params for option in one.opts}
    # Whatever can be a page can be one of a site; an export is rows alone.
    assert ("--assets" in options) == ("--output" in options and name != "history export")


def test_every_plot_that_a_command_names_is_there():
    folder = Path(app.__file__).parent
    plots = {name for path in folder.glob("*.py") for name in re.findall(r'"(\w+:draw\w*)"', path.read_text())}
    assert len(plots) > 5
    for name in plots:
        module, _, function = name.partition(":")
        assert callable(getattr(importlib.import_module(f"mlcv_bench.report.plots.{module}"), function))


@pytest.mark.parametrize(
    "words",
    [
        "flops nowhere.py:net",
        "diff resnet18 nowhere.py:net",
        "time nowhere.py:net --batch 1,8",
        "ab nowhere.py:old nowhere.py:new",
        "verify nowhere.py:one nowhere.py:other --transplant nowhere.py:carry",
        "optim-race --surface nowhere.py:f --optimizer nowhere.py:rule",
        "lr-sweep --surface nowhere.py:f",
        "basins --surface nowhere.py:f",
        "report nowhere.json",
    ],
)
def test_a_command_is_read_without_being_run_or_opening_what_it_names(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = parse(words.split())
    with pytest.raises(BenchError, match="does not exist"):
        asked.run()


def test_version(command):
    assert command("--version", check=0).stdout == f"mlcv-bench {__version__}\n"


def test_no_command_shows_the_help(command):
    done = command(check=2)
    assert "Commands:" in done.stderr
    assert not done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["flopz"], "flops"),
        (["flops"], "names"),
        (["flops", "resnet50", "--frobnicate"], "--frobnicate"),
        (["flops", "resnet50", "--format", "xml"], "table"),
    ],
)
def test_usage_errors_are_one_sentence(command, arguments, words):
    done = command(*arguments, check=2)
    assert words in done.stderr
    assert done.stderr.startswith("mlcv-bench: ")
    assert len(done.stderr.splitlines()) == 1
    assert not done.stdout


@pytest.mark.parametrize("moment", [0.2, 0.5, 0.9])
def test_an_interrupt_while_torch_loads_ends_with_130(tmp_path, moment):
    # The moment is where in the start the signal falls, not something measured: any moment must give 130.
    import os
    import signal
    import threading

    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, "-m", "mlcv_bench", "flops", *["resnext152_32x4d", "vgg", "inception", "resnet", "resnext"]],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(root)},
    )
    timer = threading.Timer(moment, process.send_signal, [signal.SIGINT])
    timer.start()
    _, errors = process.communicate(timeout=60)
    timer.cancel()
    # On a very slow or very fast machine the signal may fall before Python's own start, or after the end.
    assert process.returncode in {130, 0, -signal.SIGINT}
    if process.returncode == 130:
        assert b"interrupted" in errors
        assert b"Traceback" not in errors


@pytest.mark.parametrize(
    "words",
    [
        "flops late_model:Late --input 3x8x8",
        "flops late_model:Late --input 3x8x8 --training",
        "summary late_model:Late --input 3x8x8",
        "draw late_model:Late --input 3x8x8 -o net.svg",
        "optim-race --task digits --model late_model:Late --optimizer sgd --protocol default --epochs 1 --workers 1",
    ],
)
def test_a_network_may_import_its_neighbour_as_late_as_in_its_forward_pass(tmp_path, monkeypatch, words):
    (tmp_path / "late_neighbour.py").write_text("def flat(x):\n    return x.flatten(1)\n")
    (tmp_path / "late_model.py").write_text(
        "from torch import nn\n\n"
        "class Late(nn.Module):\n"
        "    def __init__(self, num_classes=10):\n"
        "        super().__init__()\n"
        "        self.head = nn.LazyLinear(num_classes)\n\n"
        "    def forward(self, x):\n"
        "        import late_neighbour\n"
        "        return self.head(late_neighbour.flat(x))\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [folder for folder in sys.path if folder])
    for name in ("late_model", "late_neighbour"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    assert not parse(words.split()).run()
