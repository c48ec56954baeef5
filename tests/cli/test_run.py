"""`mlcv-bench run` as people and CI systems call it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from mlcv_bench.cli.run import check_command
from mlcv_bench.comparing.limits import LIMITS
from mlcv_bench.errors import UsageError
from mlcv_bench.suites.document import read_suite
from tests.cli.test_ab import GIT

ROOT = Path(__file__).parents[2]
SUITES = sorted((ROOT / "benchmarks" / "suites").glob("*.toml"))

NETWORK = """
import torch

class Small(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Conv2d(3, {channels}, 3)

    def forward(self, x):
        return self.layer(x)
"""


@pytest.fixture
def suite(tmp_path):
    def write(text, name="gate.toml"):
        (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path / name

    return write


def test_a_whole_round(command, suite, tmp_path):
    """A baseline is missing, is made, is met, is missed by a bigger network; and every file says so."""
    network = tmp_path / "network.py"
    network.write_text(NETWORK.format(channels=4))
    path = suite(
        """
        title = "round"
        [entries.cost]
        command = "flops network.py:Small --input 3x32x32"
        max_params = 200
        must_match_baseline = true
        [entries.listing]
        command = "list"
        """
    )
    done = command("run", path, "--format", "csv", check=4)
    assert "make one with --update-baseline" in done.stdout
    assert command("run", path, "--update-baseline", "-q", check=0).stderr == ""
    baseline = tmp_path / "gate.baseline.json"
    assert set(json.loads(baseline.read_text())["details"]["entries"]) == {"cost"}
    assert command("run", path, "--format", "csv", check=0).stdout.count(",pass,") == 3

    network.write_text(NETWORK.format(channels=8))
    summary, output = tmp_path / "summary.md", tmp_path / "output"
    github = {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(summary), "GITHUB_OUTPUT": str(output)}
    files = ["-o", "all.json", "-o", "all.xml", "-o", "all.md", "-o", "all.csv"]
    exports = ["--export", "smaller-is-better=action.json", "--export", "bencher=bencher.json"]
    done = command("run", path, "--format", "json", *files, *exports, env=github, check=1)
    rows = json.loads(done.stdout)
    assert [(row["limit"], row["verdict"]) for row in rows] == [
        ("max_params", "fail"),
        ("must_match_baseline", "fail"),
        ("completes", "pass"),
    ]
    assert rows[0]["measured"] == 8 * (27 + 1)
    assert "params 112 -> 224" in rows[1]["reason"]
    assert re.findall(r"^::error title=(.*?)::", done.stderr, re.MULTILINE) == [
        "cost%3A max_params",
        "cost%3A must_match_baseline",
    ]
    assert summary.read_text() == (tmp_path / "all.md").read_text() + "\n"
    assert output.read_text() == "exit-code=1\nverdict=1 of 3 checks pass, 2 fail\nnot-passed=cost\n"
    document = json.loads((tmp_path / "all.json").read_text())
    assert document["schema"] == "mlcv-bench/suite"
    assert document["details"]["entries"]["cost"]["command"] == "mlcv-bench flops network.py:Small --input 3x32x32"
    assert ET.parse(tmp_path / "all.xml").getroot().get("failures") == "2"  # noqa: S314 - this project wrote it
    assert (tmp_path / "all.csv").read_text().startswith("suite,entry,command,limit,allowed,measured,")
    assert json.loads((tmp_path / "action.json").read_text())[0]["value"] == 224
    assert json.loads((tmp_path / "bencher.json").read_text())
    # A saved result is a baseline too.
    assert command("run", path, "--only", "listing", "--baseline", "all.json", check=0)


def test_a_crash_costs_no_other_entry(command, suite, tmp_path):
    (tmp_path / "crash.py").write_text("import os\nos._exit(7)")
    path = suite(
        '[entries.a]\ncommand = "optim-race --surface crash.py:it"\nmust_reach = true\n[entries.b]\ncommand = "list"'
    )
    done = command("run", path, "--format", "json", check=5)
    rows = json.loads(done.stdout)
    assert [(row["entry"], row["verdict"]) for row in rows] == [("a", "failed"), ("b", "pass")]
    assert "exit code 7" in rows[0]["reason"]


def test_an_update_of_one_entry_keeps_the_others(command, suite, tmp_path):
    race = 'command = "optim-race --optimizer newton --protocol default --steps 5"\nmust_match_baseline = true\n'
    path = suite(f'[entries.a]\n{race}[entries.b]\n{race}[entries.c]\ncommand = "list"')
    command("run", path, "--update-baseline", check=0)
    baseline = tmp_path / "gate.baseline.json"
    document = json.loads(baseline.read_text())
    for name in ("a", "b"):
        document["details"]["entries"][name]["runs"][0]["first_hit"] = 0
    baseline.write_text(json.dumps(document))
    assert command("run", path, "--format", "csv", check=1).stdout.count("first_hit 0 -> 1") == 2
    command("run", path, "--update-baseline", "--only", "b", check=0)
    entries = json.loads(baseline.read_text())["details"]["entries"]
    assert {name: entry["runs"][0]["first_hit"] for name, entry in entries.items()} == {"a": 0, "b": 1}
    assert len(baseline.read_text().splitlines()) < 40


def test_a_dry_run_shows_the_plan_and_runs_nothing(command, suite):
    path = suite('[entries.a]\ncommand = "flops resnet50"\nmax_params = 1')
    done = command("run", path, "--dry-run", "--format", "json", check=0)
    assert json.loads(done.stdout) == [
        {"suite": "gate", "entry": "a", "command": "mlcv-bench flops resnet50", "limits": "max_params=1"}
        | {"timeout_s": 3600.0}
    ]


def test_what_is_wrong_with_a_suite_loads_no_torch(suite, heavy_modules):
    path = suite('[entries.a]\ncommand = "time resnt20"')
    assert heavy_modules(["run", str(path)])[:2] == (2, [])
    good = suite('[entries.a]\ncommand = "time resnet20 --threads 1"\nmax_slowdown = "5%"', "good.toml")
    assert heavy_modules(["run", str(good), "--export", "pyperv=x.json"])[:2] == (2, [])
    assert heavy_modules(["run", str(good), "--dry-run", "--format", "json"])[:2] == (0, [])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--export", "pyperv=x.json"], "did you mean pyperf"),
        (["--export", "pyperf"], "--export takes FORMAT=PATH"),
        (["--export", "pyperf=nowhere/x.json"], "nowhere"),
        (["--export", "pyperf=x.json", "-o", "x.json"], "given twice"),
        (["-o", "x.txt"], ".xml"),
        (["--dry-run", "-o", "x.xml"], "--dry-run measures nothing to export"),
        (["--dry-run", "--export", "pyperf=x.json"], "--dry-run measures nothing to export"),
        (["--only", "b"], "no such entry"),
        (["--update-baseline", "--baseline", "nowhere/b.json"], "nowhere"),
    ],
)
def test_wrong_options_are_said_before_anything_runs(command, suite, arguments, words):
    done = command("run", suite('[entries.a]\ncommand = "list"'), *arguments, check=2)
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1


DAMAGED = '{"schema": "mlcv-bench/cost", "runs": [1], "environment": {}}'


def test_a_baseline_that_is_none_is_refused(command, suite, tmp_path):
    path = suite('[entries.a]\ncommand = "flops resnet20"\nmust_match_baseline = true')
    for text in (
        "{",
        "[]",
        '{"schema": "mlcv-bench/cost", "version": 1}',
        '{"schema": "mlcv-bench/suite", "version": 1}',
        '{"schema": "mlcv-bench/suite", "version": 1, "details": null}',
        '{"schema": "mlcv-bench/suite", "version": 1, "details": {"entries": {"a": 1}}}',
        '{"schema": "mlcv-bench/suite", "version": 1, "details": {"entries": {"a": {"schema": 1}}}}',
        f'{{"schema": "mlcv-bench/suite", "version": 1, "details": {{"entries": {{"a": {DAMAGED}}}}}}}',
    ):
        (tmp_path / "gate.baseline.json").write_text(text)
        done = command("run", path, check=2)
        assert "baseline" in done.stderr
        assert len(done.stderr.splitlines()) == 1
        assert done.stdout == ""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a file's name is text")
def test_a_suite_may_have_any_name(command, tmp_path):
    name = b"g\xffte.toml"
    Path(os.fsdecode(bytes(tmp_path) + b"/" + name)).write_text('[entries.a]\ncommand = "list"')
    summary = tmp_path / "summary.md"
    done = command(
        "run", os.fsdecode(name), "-o", "x.md", "-o", "x.xml", check=0, env={"GITHUB_STEP_SUMMARY": str(summary)}
    )
    assert "g?te" in done.stdout
    assert "g?te" in summary.read_text()


def test_a_baseline_of_a_race_keeps_what_it_asked(command, suite, tmp_path):
    text = (
        '[entries.a]\ncommand = "optim-race --optimizer sgd --protocol default --steps {}"\nmust_match_baseline = true'
    )
    path = suite(text.format(50))
    command("run", path, "--update-baseline", check=0)
    entries = json.loads((tmp_path / "gate.baseline.json").read_text())["details"]["entries"]
    assert entries["a"]["settings"]["steps"] == 50
    command("run", path, check=0)
    suite(text.format(40))
    assert "differ in steps: 50 and 40" in " ".join(command("run", path, check=4).stdout.split())


def test_a_named_baseline_must_be_there_before_anything_runs(command, suite):
    path = suite('[entries.a]\ncommand = "flops resnet20"\nmust_match_baseline = true')
    done = command("run", path, "--baseline", "nowhere.json", check=4)
    assert "there is no baseline nowhere.json" in done.stderr
    assert done.stdout == ""
    command("run", path, "--baseline", "made.json", "--update-baseline", check=0)
    command("run", path, "--baseline", "made.json", check=0)


@pytest.mark.parametrize("path", SUITES, ids=lambda path: path.name)
def test_the_ready_suites_are_right(path):
    assert read_suite(path, check_command).entries


def test_the_page_on_ci_has_a_suite_that_is_right(tmp_path, monkeypatch):
    text = (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")
    (tmp_path / "gate.toml").write_text(re.search(r"```toml\n(# gate.*?)```", text, re.DOTALL)[1], encoding="utf-8")
    (tmp_path / "visnet.py").write_text(
        "from torch import nn\n\n\ndef net():\n    return nn.Linear(2, 2)\n", encoding="utf-8"
    )
    monkeypatch.chdir(tmp_path)
    for words in (
        ["init", "-q", "-b", "main"],
        ["add", "-A"],
        ["commit", "-q", "-m", "one"],
        ["branch", "origin/main"],
    ):
        subprocess.run([*GIT, *words], check=True)
    suite = read_suite(Path("gate.toml"), check_command)
    assert [entry.name for entry in suite.entries] == ["cost", "same", "speed"]


def test_the_page_on_ci_names_every_limit():
    text = (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")
    for name in LIMITS:
        assert f"`{name}`" in text


@pytest.mark.parametrize(
    "words",
    [
        ["flops", "missing.py:Net"],
        ["ab", "missing.py:Net --threads 1", "resnet20"],
        ["optim-race", "--surface", "missing.py:it"],
        ["lr-sweep", "--optimizer", "missing.py:rule"],
    ],
)
def test_a_file_that_is_not_there_is_said_before_the_suite_runs(words):
    with pytest.raises(UsageError, match=r"missing\.py, which does not exist"):
        check_command(words)
