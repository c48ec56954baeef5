"""`mlcv-bench history` from the command line: in a real repository, and on made-up histories."""

from __future__ import annotations

import csv
import io
import json
import subprocess

import pytest

from mlcv_bench.cli.app import run
from mlcv_bench.history.database import History
from mlcv_bench.records import Report
from mlcv_bench.report.history import sparkline
from mlcv_bench.report.plots.history import panels
from tests.history.documents import cost, document, filled, sha


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository with two commits on `main`, in which the test stands."""
    monkeypatch.chdir(tmp_path)
    for name in ("GITHUB_HEAD_REF", "GITHUB_REF_NAME", "CI_COMMIT_REF_NAME"):
        monkeypatch.delenv(name, raising=False)
    git("init", "-q", "-b", "main")
    for number in range(2):
        (tmp_path / "file").write_text(str(number))
        git("add", "file")
        git("commit", "-q", "-m", f"{number}", "--date", f"2026-01-0{number + 1}T12:00:00+02:00")
    return tmp_path


def git(*words):
    names = ("-c", "user.name=A", "-c", "user.email=a@b")
    done = subprocess.run(["git", *names, *words], check=True, capture_output=True, text=True)  # noqa: S607 - on PATH
    return done.stdout.strip()


def test_add_reads_the_commit_from_git_and_adds_nothing_twice(repository, capfd):
    head = git("rev-parse", "HEAD")
    for number in range(2):
        (repository / f"{number}.json").write_text(
            json.dumps(document("cost", cost(7), commit=head, dirty=number == 1))
        )
    assert run(["history", "add", "0.json", "1.json"]) == 0
    assert "2 results of 1 commit added to bench.sqlite" in capfd.readouterr().err
    assert run(["history", "add", "0.json"]) == 0
    assert "0 results of 1 commit added to bench.sqlite, 1 there already" in capfd.readouterr().err
    assert run(["history", "export"]) == 0
    rows = list(csv.DictReader(io.StringIO(capfd.readouterr().out)))
    assert ",".join(list(rows[0])[:13]) == (
        "commit,parents,author_date,branch,dirty,study,row,column,value,ci_low,ci_high,environment,tool_version"
    )
    params = [row for row in rows if row["column"] == "params"]
    assert [(row["dirty"], row["value"], row["branch"]) for row in params] == [
        ("false", "7", "main"),
        ("true", "7", "main"),
    ]
    assert (params[0]["commit"], params[0]["parents"]) == (head, git("rev-parse", "HEAD~1"))
    assert params[0]["author_date"] == "2026-01-02T10:00:00+00:00"
    given = ["--commit", "cafe", "--parents", "a,b", "--date", "2026-02-03T04:05:06Z", "--branch", "x", "--clean"]
    assert run(["history", "add", "1.json", *given]) == 0
    with History(repository / "bench.sqlite") as history:
        (one,) = history.commits("x", 10)
    assert (one.commit, one.parents, one.author_date) == ("cafe", ("a", "b"), "2026-02-03T04:05:06+00:00")


def test_what_is_accepted_is_named_as_git_names_it(repository, capfd):
    for number, revision in enumerate(("HEAD~1", "HEAD")):
        found = document("cost", cost(7 + number), commit=git("rev-parse", revision), dirty=False)
        (repository / f"{number}.json").write_text(json.dumps(found))
    assert run(["history", "add", "0.json", "1.json"]) == 0
    assert run(["history", "check"]) == 1
    assert run(["history", "check", "--since", "HEAD~1"]) == 1
    assert run(["history", "check", "--since", "main"]) == 0
    assert run(["history", "check", "--since", "elsewhere"]) == 2
    assert "--since elsewhere is none of the last 2 commits" in capfd.readouterr().err


def test_a_file_of_a_commit_that_is_not_here_is_dated_by_its_measurement(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.json").write_text(
        json.dumps(document("cost", cost(7), commit="f" * 40, time="2026-01-02T03:04:05Z"))
    )
    assert run(["history", "add", "a.json"]) == 0
    with History(tmp_path / "bench.sqlite") as history:
        assert history.commits("", 10)[0].author_date == "2026-01-02T03:04:05+00:00"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "a.json does not exist"),
        (
            document("width", {"a": 1}),
            "a.json holds 'width'; a history follows",
        ),
        (document("cost", cost(1)), "name no commit; give it with --commit"),
        ({"no": "result"}, "is not a saved result"),
    ],
)
def test_a_wrong_file_is_refused_and_nothing_is_added(tmp_path, monkeypatch, capsys, content, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good.json").write_text(json.dumps(document("cost", cost(7), commit="f" * 40)))
    if content is not None:
        (tmp_path / "a.json").write_text(json.dumps(content))
    assert run(["history", "add", "good.json", "a.json"]) in {2, 4}
    assert words in capsys.readouterr().err
    assert not (tmp_path / "bench.sqlite").exists()


@pytest.fixture
def history(tmp_path):
    """A history in which the parameters grow at the fourth of five commits, and the second network stays."""
    values = (10, 10, 10, 12, 12)
    documents = [document("cost", cost(value), cost(5, "other"), cost(1, "third")) for value in values]
    return str(filled(tmp_path / "h.sqlite", documents))


def test_show_has_the_newest_commit_first(history, capfd):
    assert run(["history", "show", "--history", history, "--row", "RESNET20", "--column", "params", "--last", "3"]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[0] == "The last 3 commits of branch main: resnet20 3x32x32 batch=1"
    assert [line.split() for line in lines[3:6]] == [
        [sha(4)[:10], "1970-01-01", "1", "12"],
        [sha(3)[:10], "1970-01-01", "1", "12"],
        [sha(2)[:10], "1970-01-01", "1", "10"],
    ]
    assert run(["history", "show", "--history", history]) == 0
    out = capfd.readouterr().out
    assert "▁▁▁██" in out
    assert "▄▄▄▄▄" in out
    assert run(["history", "show", "--history", history, "--format", "csv"]) == 0
    assert capfd.readouterr().out.splitlines()[1].startswith(f"{sha(4)},{sha(3)},")


def test_check_names_the_commit_and_ends_with_its_code(history, tmp_path, capfd):
    out = tmp_path / "out.json"
    assert run(["history", "check", "--history", history, "-o", str(out)]) == 1
    told = capfd.readouterr().out
    assert f"{sha(4)[:10]}, the newest of 5 commits of branch main: 2 figures worse than before" in told
    assert f"{sha(2)[:10]}..{sha(3)[:10]}" in told
    rows = json.loads(out.read_text())["runs"]
    assert {(row["commit"], row["column"], row["change"], row["standing"]) for row in rows} == {
        (sha(3), "params", "worse", True),
        (sha(3), "macs", "worse", True),
    }
    assert run(["history", "check", "--history", history, "--since", sha(3)]) == 0
    assert run(["history", "check", "--history", history, "--row", "other"]) == 0
    assert run(["history", "check", "--history", str(tmp_path / "none.sqlite")]) == 4
    assert run(["history", "check", "--history", history, "--branch", "other"]) == 4
    assert run(["history", "check", "--history", history, "--row", "resnet21"]) == 2
    assert run(["history", "check", "--history", history, "--last", "1"]) == 4


def test_plot_draws_and_export_writes_types(history, tmp_path, capfd):
    picture, page, table = (tmp_path / f"x.{suffix}" for suffix in ("png", "html", "parquet"))
    assert run(["history", "plot", "--history", history, "-o", str(picture), "-o", str(page)]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "resnet20 3x32x32 batch=1: params" in page.read_text()
    assert run(["history", "plot", "--history", history]) == 2
    assert "-o trend.png" in capfd.readouterr().err
    assert run(["history", "export", "--history", history, "-o", str(table)]) == 0
    from pyarrow import parquet

    read = parquet.read_table(table)
    assert read.num_rows == 30
    assert [str(read.schema.field(name).type) for name in ("value", "dirty", "commit")] == ["int64", "bool", "string"]
    # Parameters and five times as many MACs of all networks.
    assert sum(read["value"].to_pylist()) == 6 * (10 + 10 + 10 + 12 + 12) + 6 * 5 * (5 + 1)


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ((1, 2, 3), "▁▅█"),
        ((7, 7), "▄▄"),
        ((1000, None, 1001), "▁·█"),
        ((1.0, 1.01, 1.0), "▁▂▁"),
        ((1.0, 1.2), "▁█"),
        (("true", "false", "true"), "▁█▁"),
        ((), ""),
    ],
)
def test_bars_show_every_change_of_an_exact_figure_and_little_of_noise(values, line):
    assert sparkline(values) == line


def test_a_picture_leaves_out_words_that_never_changed_where_there_are_figures():
    row = {"study": "time", "row": "net", "settings": "", "environment": "", "contention": ""}
    row |= {"author_date": "2026-01-01", "ci_low": None, "ci_high": None}
    status = [{**row, "commit": f"c{at}", "column": "status", "value": "done"} for at in range(3)]
    params = [{**row, "commit": f"c{at}", "column": "params", "value": 7} for at in range(3)]
    failed = [{**one, "value": "failed"} for one in status[:1]] + status[1:]
    for rows, titles in [
        (status + params, ["net: params"]),
        (failed + params, ["net: status", "net: params"]),
        (status, ["net: status"]),
    ]:
        assert [panel.title for panel in panels(Report("history", (), rows, []))] == titles
