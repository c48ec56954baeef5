"""What works without any extra, and what each is for: named in one sentence, before anything runs."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from importlib import metadata
from itertools import chain
from pathlib import Path

import pytest

import mlcv_bench
from mlcv_bench.cli.app import parse, run
from mlcv_bench.errors import MissingExtraError, UsageError
from mlcv_bench.extras import EXTRAS

ROOT = Path(__file__).parent.parent
CORE = [
    "flops resnet20 -o costs.json",
    "summary resnet20",
    "diff resnet20 plain20",
    "verify momentum",
    "time resnet20 --seconds 0.1 --threads 1",
    "optim-race --steps 20 -o race.json",
    "lr-sweep --optimizer sgd --steps 20",
    "draw resnet20",
    "figures",
    "list tasks",
    "compare costs.json costs.json",
    "report race.json",
]
RUN = f"""
import sys
sys.modules |= dict.fromkeys(sys.argv[1:])
from mlcv_bench.cli.app import run
for line in {CORE!r}:
    print(run(line.split()), line, file=sys.stderr)
"""
NEEDING = {
    "plots": [
        "flops resnet20 -o x.svg",
        "time resnet20 -o x.png",
        "lr-sweep -o x.pdf",
        "optim-race -o x.gif",
        "draw resnet20 -o x.svg",
        "draw resnet -o folder",
        "figures --all -o folder",
        "claims --id 1.1-sphere --show",
    ],
    "races": [
        "basins",
        "optim-race --starts 2000",
        "optim-race --surface sphere --dim 1000",
        "lr-sweep --engine lanes --optimizer sgd",
    ],
    "tasks": ["claims", "landscape", "optim-race --task digits"],
    "page": ["list tasks -o x.html", "optim-race -o x.html"],
    "history": ["history export -o x.parquet"],
    "onnx": ["time resnet20 --runtime onnx", "ab resnet20 'resnet20 --runtime onnx'"],
    "cluster": ["optim-race --task digits --scheduler tcp://here:8786"],
    "weights": ["time resnet20 --weights w.safetensors"],
}


def test_the_extras_install_the_packages_that_need_them():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    optional = project["optional-dependencies"]
    for name, extra in EXTRAS.items():
        assert {re.split("[>=]", one)[0] for one in optional[name]} == set(extra.packages)
    assert optional["all"] == [f"mlcv-bench[{','.join(sorted(EXTRAS))}]"]
    assert "mlcv-bench[all]" in optional["dev"]


def test_every_dependency_is_pinned():
    pinned = {line.partition("==")[0].casefold() for line in (ROOT / "constraints.txt").read_text().splitlines()}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    names = {re.split(r"[>=\[]", one)[0].casefold() for one in named} - {"mlcv-bench"}
    assert names <= pinned


def test_core_commands_run_without_any_package_of_an_extra(tmp_path):
    packages = {module for extra in EXTRAS.values() for module in extra.packages.values()}
    done = subprocess.run(
        [sys.executable, "-c", RUN, *packages],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert [line for line in done.stderr.splitlines() if line[0].isdigit()] == [f"0 {line}" for line in CORE]


@pytest.mark.parametrize(("extra", "words"), [(extra, line) for extra, lines in NEEDING.items() for line in lines])
def test_a_missing_extra_is_named_before_anything_runs(extra, words, without, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("w.safetensors").touch()
    without(extra)
    with pytest.raises(UsageError, match=rf"needs the extra '{extra}'; type: pip install 'mlcv-bench\[{extra}\]'"):
        parse(shlex.split(words))  # as a suite and `ab` read a command, too


def test_a_command_that_misses_an_extra_ends_with_2(without, capsys):
    without("races")
    assert run(["basins", "--size", "20x10"]) == 2
    assert capsys.readouterr().err == (
        "mlcv-bench: so much work (200 runs of 500 steps on himmelblau) needs the extra 'races'; "
        "type: pip install 'mlcv-bench[races]'\n"
    )


def test_python_names_a_missing_extra_too(without):
    without("plots", "races", "page")
    cost = mlcv_bench.count("resnet20")
    for call, extra in (
        (lambda: mlcv_bench.race(starts=2000), "races"),
        (cost.plot, "plots"),
        (lambda: cost.plot(interactive=True), "page"),
        (lambda: mlcv_bench.draw("resnet20").save("x.svg"), "plots"),
        (mlcv_bench.draw("resnet20")._repr_svg_, "plots"),
    ):
        with pytest.raises(MissingExtraError, match=rf"type: pip install 'mlcv-bench\[{extra}\]'$"):
            call()


def test_a_race_that_floats_do_in_time_needs_no_extra(without):
    without(*EXTRAS)
    assert mlcv_bench.race("canyon", "sgd", steps=5, protocols="default").results[0].steps == 5


def test_env_says_what_is_missing_for_what(without, capsys, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.setenv("COLUMNS", "200")
    without("races")
    assert run(["env", "-q", "--format", "json"]) == 0
    found = {row["name"]: row["value"] for row in json.loads(capsys.readouterr().out)}
    assert found["extras.races"] == "numba missing; type: pip install 'mlcv-bench[races]'"
    assert found["extras.plots"] == f"matplotlib {metadata.version('matplotlib')}"
    assert run(["env", "-q"]) == 0
    assert "basins; races and sweeps of many runs or coordinates" in " ".join(capsys.readouterr().out.split())
