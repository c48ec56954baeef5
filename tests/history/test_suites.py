"""`run --history` and `history bisect`: results of a suite over commits, in a real repository, with made-up figures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlcv_bench import environment
from mlcv_bench.cli.app import run
from mlcv_bench.comparing.judging import Result
from mlcv_bench.comparing.limits import Entry
from mlcv_bench.history.commits import read_commit
from mlcv_bench.history.database import History, NewResult
from mlcv_bench.suites import running
from tests.history.documents import cost, document, timed
from tests.history.test_commands import git

SUITE = """
[entries.cost]
command = "flops resnet20"
max_params = 11
[entries.kept]
command = "flops resnet20"
must_match_baseline = true
[entries.speed]
command = "time resnet20"
max_slowdown = "5%"
"""


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository whose file `params` says what every entry measures."""
    monkeypatch.chdir(tmp_path)
    for name in ("GITHUB_HEAD_REF", "GITHUB_REF_NAME", "CI_COMMIT_REF_NAME", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(name, raising=False)
    git("init", "-q", "-b", "main")
    machine = environment.capture().as_dict()

    def measured(entry):
        value = json.loads(Path("params").read_text())
        now = {
            **machine,
            "commit": git("rev-parse", "HEAD"),
            "dirty": False,
            "cpu": Path(tmp_path / ".git/cpu").read_text(),
        }
        row = timed(value / 1000) if entry.study == "time" else cost(value)
        found = document("time" if entry.study == "time" else "cost", row, **now)
        return Result(entry, 0, found | {"command": entry.command}, seconds=1.0)

    (tmp_path / ".git/cpu").write_text(machine["cpu"])
    (tmp_path / ".gitignore").write_text("*.sqlite\n*.toml\n*.md\n*.json\n")
    (tmp_path / "gate.toml").write_text(SUITE)
    monkeypatch.setattr(running, "run_entry", measured)
    return tmp_path


def committed(value):
    Path("params").write_text(str(value))
    git("add", "-A")
    git("commit", "-q", "--allow-empty", "-m", str(value))
    return git("rev-parse", "HEAD")


def test_a_run_says_how_each_figure_came_about_and_since_when_it_is_wrong(repository, capfd):
    (repository / "gate.toml").write_text("[entries.cost]\ncommand = 'flops resnet20'\nmax_params = 11\n")
    commits = []
    for value in (10, 11, 12, 12, 13):
        commits.append(committed(value))
        words = ["--history", "bench.sqlite", "-o", "gate.md", "--export", "openmetrics=gate.txt", "-q"]
        code = run(["run", "gate.toml", *words])
        assert code == (1 if value > 11 else 0)
    assert "mlcv_bench_params" in (repository / "gate.txt").read_text()
    text = (repository / "gate.md").read_text()
    assert "| last commits | first seen at |" in text
    assert f"| ▁▃▆▆█ | {commits[2][:10]} |" in text
    with History(repository / "bench.sqlite") as history:
        assert [one.commit for one in history.commits("main", 10)] == commits
    assert run(["history", "check", "--column", "params"]) == 1
    assert commits[4][:10] in capfd.readouterr().out


def test_the_base_branch_is_the_baseline(repository, capfd):
    base = committed(10)
    assert run(["run", "gate.toml", "--history", "bench.sqlite", "-q"]) == 4  # nothing to match as yet
    git("checkout", "-q", "-b", "work")
    committed(10)
    capfd.readouterr()
    against = ["run", "gate.toml", "--history", "bench.sqlite", "--against", "main", "-o", "gate.json", "-q"]
    assert run(against) == 0
    assert f"Baseline: {base[:10]}, the newest commit of main with results." in capfd.readouterr().out
    committed(11)
    assert run(against) == 1
    verdicts = {row["entry"]: row["verdict"] for row in json.loads((repository / "gate.json").read_text())["runs"]}
    assert verdicts == {"cost": "pass", "kept": "fail", "speed": "fail"}
    # Elsewhere the time is advisory, and the parameters bind.
    (repository / ".git/cpu").write_text("Another processor")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(environment, "cpu_model", lambda: "Another processor")
        assert run(against) == 1
    verdicts = {row["entry"]: row["verdict"] for row in json.loads((repository / "gate.json").read_text())["runs"]}
    assert verdicts == {"cost": "pass", "kept": "fail", "speed": "advisory"}
    out = " ".join(capfd.readouterr().out.split())
    assert "it was measured elsewhere (cpu differ): exact figures are binding, times advisory." in out


def test_a_base_branch_without_results_is_no_baseline(repository, capfd):
    committed(10)
    assert run(["run", "gate.toml", "--history", "bench.sqlite", "--against", "main", "-q"]) == 4
    assert "bench.sqlite has no result of main or a commit before it" in capfd.readouterr().out
    for words, fault in [
        (["--against", "main"], "add --history"),
        (["--against", "nowhere", "--history", "bench.sqlite"], "git knows no such commit"),
        (["--against", "main", "--history", "bench.sqlite", "--update-baseline"], "keep one"),
        (["--history", "bench.sqlite", "--dry-run"], "measures nothing"),
        (["--history", "nowhere/bench.sqlite"], "a folder that exists"),
    ]:
        assert run(["run", "gate.toml", *words]) == 2
        assert fault in capfd.readouterr().err


@pytest.mark.parametrize(("column", "command"), [("params", "flops"), ("median_s", "time")])
def test_bisect_prints_its_commands_and_judges_each_step(repository, capfd, column, command):
    commits = []
    for at in range(32):
        commits.append(committed(10 + 2 * (at >= 20)))
        # Nobody ran the suite between the 16th and the 25th commit.
        if not 15 < at < 24:
            found = running.run_entry(Entry("it", (command, "resnet20"), {})).document
            with History(repository / "bench.sqlite", create=True) as history:
                history.add([NewResult(read_commit("HEAD", repository), dirty=False, document=found)])
    capfd.readouterr()
    assert run(["history", "bisect", "--column", column, "--row", "resnet20", "--bad-above", "5%"]) == 0
    start, step, reset = capfd.readouterr().out.splitlines()
    assert (start, reset) == (f"git bisect start {commits[24]} {commits[15]}", "git bisect reset")
    git(*start.split()[1:])
    words = step.replace("'", "").split()
    assert words[:5] == ["git", "bisect", "run", "mlcv-bench", "history"]
    judge = ["history", "bisect", "--row", "resnet20", "--column", column, "--bad-above", "5%"]
    for at, answer in ((15, 0), (19, 0), (20, 1), (24, 1)):
        git("checkout", "-q", commits[at])
        assert run(judge) == answer
    assert run([*judge, "--history", "none.sqlite"]) == 128
    if column == "median_s":
        (repository / ".git/cpu").write_text("Another processor")
        assert run(judge) == 128
        assert "taken on another machine" in capfd.readouterr().err


def test_bisect_needs_no_more_than_two_timed_commits(repository, capfd):
    commits = [committed(value) for value in (10, 10, 12, 12)]
    for at in (0, 3):
        git("checkout", "-q", commits[at])
        run(["run", "gate.toml", "--history", "bench.sqlite", "--only", "speed", "-q"])
    capfd.readouterr()
    assert run(["history", "bisect", "--column", "median_s"]) == 0
    assert capfd.readouterr().out.startswith(f"git bisect start {commits[3]} {commits[0]}")
    git("bisect", "start", commits[3], commits[0])
    for at, answer in ((1, 0), (2, 1)):
        git("checkout", "-q", commits[at])
        assert run(["history", "bisect", "--column", "median_s"]) == answer


def test_a_step_that_measures_nothing_is_skipped(repository, monkeypatch):
    first = committed(10)
    run(["run", "gate.toml", "--history", "bench.sqlite", "--only", "cost", "-q"])
    second = committed(12)
    run(["run", "gate.toml", "--history", "bench.sqlite", "--only", "cost", "-q"])
    git("bisect", "start", second, first)
    monkeypatch.setattr(running, "run_entry", lambda entry: Result(entry, 5, None, "ImportError"))
    assert run(["history", "bisect", "--column", "params"]) == 125
    assert run(["history", "bisect"]) == 128  # which of two figures?
