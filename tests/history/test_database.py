"""The database keeps what it was given, whoever writes beside and whenever a writer is killed."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mlcv_bench.errors import BaselineError, UsageError
from mlcv_bench.history import database
from mlcv_bench.history.database import History, NewResult
from tests.history.documents import commit, cost, document, filled, sha, timed

WRITERS = """
import json, os, random, signal, sys, time
from pathlib import Path
from mlcv_bench.history.database import History, NewResult
from tests.history.documents import commit, cost, document

path, chance = Path(sys.argv[1]), random.Random(0)

def write(name, number, out):
    while True:
        with History(path, create=True) as history:
            one = document("cost", cost(number, name), time=str(number))
            history.add([NewResult(commit(number), dirty=False, document=one)] * 2)
        os.write(out, b"%d\\n" % number)
        number += 1
        time.sleep(0.002)  # so that the other gets its turn

said = {"one": [], "other": []}
for _ in range(10):
    writers = {}
    for name, done in said.items():
        there, here = os.pipe()
        process = os.fork()
        if not process:
            write(name, max(done, default=-1) + 1, here)
        os.close(here)
        writers[name] = process, os.fdopen(there)
    for name, (process, lines) in writers.items():
        # At its first row, so that both write; then at any moment of the next ones.
        said[name].append(int(lines.readline()))
        time.sleep(0.05 * chance.random())
    for name, (process, lines) in writers.items():
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        said[name] += map(int, lines.read().split())
print(json.dumps(said))
"""
"""Starts two writers, kills both, and so ten times; prints what each said it had added."""


def test_two_writers_and_twenty_kills_lose_no_row_and_double_none(tmp_path):
    """What a writer said it had added is there, once; of what it was adding when it was killed, all or nothing."""
    path = tmp_path / "bench.sqlite"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", WRITERS, str(path)]
    said = json.loads(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)
    database = sqlite3.connect(path)
    assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()
    with History(path) as history:
        found = [(one.row.split()[0], one.commit, one.column) for one in history.every_figure()]
    assert len(found) == len(set(found))
    for name, numbers in said.items():
        there = {key for key in found if key[0] == name}
        assert len(numbers) >= 10
        assert {(name, sha(number), column) for number in numbers for column in ("params", "macs")} <= there
        assert len(there) == 2 * len({commit for _, commit, _ in there})


def test_a_result_comes_back_at_full_precision(tmp_path):
    median = 0.1 + 0.2
    rows = [timed(median), timed(1.0, "broken", status="failed", median_s=None, ci_low_s=None)]
    path = filled(tmp_path / "h.sqlite", [document("time", *rows)], [document("cost", cost(2**53 + 1))])
    with History(path) as history:
        found = {(one.row, one.column): one for one in history.figures([commit(0)], "main")}
        assert history.documents(sha(0))[0][1]["runs"] == rows
    time_row = found["resnet20 3x32x32 batch=1 threads=1", "median_s"]
    assert (time_row.value, time_row.ci_low, time_row.ci_high) == (median, 0.99 * median, 1.01 * median)
    assert (time_row.basis, time_row.commit, time_row.tool_version) == ("cpu", sha(0), "0.1.0")
    assert found["resnet20 3x32x32 batch=1 threads=1", "p90_s"].value == 2 * median
    assert found["resnet20 3x32x32 batch=1", "params"].value == 2**53 + 1
    assert found["broken 3x32x32 batch=1 threads=1", "status"].value == "failed"
    assert ("broken 3x32x32 batch=1 threads=1", "median_s") not in found


def test_commits_come_by_date_and_never_before_their_parents(tmp_path):
    with History(tmp_path / "h.sqlite", create=True) as history:
        # The clock of whoever wrote the third commit was a day late.
        commits = [commit(0), commit(1), replace(commit(2), commit_date="1969-12-31T00:00:00+00:00"), commit(3)]
        for one in reversed(commits):
            history.add([NewResult(one, dirty=False, document=document("cost", cost(1)))])
        history.add([NewResult(commit(9, branch="aside"), dirty=True, document=document("cost", cost(1)))])
        assert [one.commit for one in history.commits("main", 10)] == [sha(at) for at in range(4)]
        assert [one.commit for one in history.commits("main", 2)] == [sha(1), sha(3)]
        assert history.commits("aside", 10) == []
        assert history.branches() == ["aside", "main"]


def test_an_older_schema_is_brought_up_to_date_and_a_newer_one_refused(tmp_path, monkeypatch):
    path = filled(tmp_path / "h.sqlite", [document("cost", cost(1))])
    monkeypatch.setattr(database, "MIGRATIONS", (*database.MIGRATIONS, "ALTER TABLE results ADD COLUMN more TEXT"))
    with History(path) as history:
        assert len(list(history.every_figure())) == 2
    database_file = sqlite3.connect(path)
    assert database_file.execute("SELECT more FROM results").fetchall() == [(None,)]
    database_file.close()
    monkeypatch.undo()
    with pytest.raises(UsageError, match="newer mlcv-bench"):
        History(path)


def test_names_of_a_history_made_before_defaults_were_left_out_are_today_s(tmp_path, monkeypatch):
    monkeypatch.setattr(database, "MIGRATIONS", database.MIGRATIONS[:1])
    path = filled(tmp_path / "h.sqlite", [document("time", timed(1.0, wait_policy="default"))])
    with contextlib.closing(sqlite3.connect(path)) as older, older:
        older.execute("UPDATE series SET row = row || ' default default'")
    monkeypatch.undo()
    with History(path) as history:
        assert {one.row for one in history.every_figure()} == {"resnet20 3x32x32 batch=1 threads=1"}


def test_what_is_no_history_is_refused_in_a_sentence(tmp_path):
    path = tmp_path / "h.sqlite"
    with pytest.raises(BaselineError, match="there is no history"):
        History(path)
    path.touch()
    with pytest.raises(BaselineError, match="is empty"):
        History(path)
    path.write_text(json.dumps({"no": "database"}) * 100)
    with pytest.raises(UsageError, match=r"cannot be used: file is not a database"):
        History(path, create=True)
    path.unlink()
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE songs (title)")
    other.close()
    with pytest.raises(UsageError, match="is no history"):
        History(path, create=True)


def test_what_is_read_grows_with_what_is_shown_and_not_with_what_is_stored(tmp_path):
    """SQLite counts the steps of its own machine: no clock, no chance."""
    steps = {}
    for stored in (20, 80):
        path = filled(tmp_path / f"{stored}.sqlite", [document("cost", cost(at)) for at in range(stored)])
        with History(path) as history:
            count = 0

            def step():
                nonlocal count
                count += 1

            history._database.set_progress_handler(step, 1)
            history.branches()
            commits = history.commits("main", 10)
            assert len(history.figures(commits, "main")) == 20
            steps[stored] = count
    assert steps[80] == pytest.approx(steps[20], rel=0.05)
