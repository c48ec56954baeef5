from __future__ import annotations

import json

import pytest

from mlcv_bench.execution.processes import Inline, LocalPool
from mlcv_bench.execution.scheduler import run_jobs
from mlcv_bench.execution.store import Store
from tests.execution.study import Job, Study, work


def jobs(folder, *names):
    return [Job(name, str(folder)) for name in names]


def log(folder):
    path = folder / "log"
    return [line.split()[0] for line in path.read_text().splitlines()] if path.exists() else []


def test_jobs_run_and_a_failing_one_costs_the_others_nothing(tmp_path):
    study = Study(jobs(tmp_path, "a", "raises", "bb"), jobs(tmp_path, "later"))
    run_jobs(study, work, Inline())
    assert {name: outcome.status for name, outcome in study.taken.items()} == {
        "a": "done", "raises": "failed", "bb": "done", "later": "done",
    }  # fmt: skip
    assert study.taken["raises"].reason.startswith("ValueError: boom; it failed in ")
    assert study.taken["bb"].record == {"name": "bb", "square": 4}
    assert log(tmp_path)[-1] == "later"


def test_a_dead_worker_costs_nothing_and_a_deadly_job_is_named(tmp_path):
    names = ["a", "once", "b", "kills", "c", "d"]
    study = Study(jobs(tmp_path, *names), jobs(tmp_path, "later"))
    run_jobs(study, work, LocalPool(2))
    done = {name for name, outcome in study.taken.items() if outcome.status == "done"}
    assert done == {"a", "once", "b", "c", "d", "later"}
    assert study.taken["kills"].status == "failed"
    assert "died 2 times" in study.taken["kills"].reason
    assert study.taken["once"].record["square"] == 16


def test_a_store_is_written_at_once_and_answers_the_next_run(tmp_path):
    store = tmp_path / "s.jsonl"
    first = Study(jobs(tmp_path, "a", "raises"), jobs(tmp_path, "later"))
    with Store(store, "x", resume=False) as opened:
        run_jobs(first, work, Inline(), store=opened)
    ran = log(tmp_path)
    again = Study(jobs(tmp_path, "a", "raises"), jobs(tmp_path, "later", "new"))
    with Store(store, "x", resume=True) as opened:
        run_jobs(again, work, Inline(), store=opened)
    assert log(tmp_path) == [*ran, "new"]
    assert {**again.taken, "new": None} == {**first.taken, "new": None} | {
        name: outcome for name, outcome in again.taken.items() if name in first.taken
    }
    assert [(o.status, o.record, o.reason) for n, o in again.taken.items() if n != "new"] == [
        (o.status, o.record, o.reason) for o in first.taken.values()
    ]
    keys = [line["key"] for line in map(json.loads, store.read_text().splitlines()) if line["kind"] == "job"]
    assert sorted(keys) == ["a", "later", "new", "raises"]


def test_an_interruption_keeps_what_was_finished(tmp_path):
    store = tmp_path / "s.jsonl"
    study = Study(jobs(tmp_path, "a", "b", "interrupt", "c"))
    with Store(store, "x", resume=False) as opened:
        run_jobs(study, work, Inline(), store=opened)
    assert study.interrupted
    assert list(study.taken) == ["a", "b"]
    rest = Study(jobs(tmp_path, "a", "b", "c"))
    with Store(store, "x", resume=True) as opened:
        run_jobs(rest, work, Inline(), store=opened)
    assert sorted(rest.taken) == ["a", "b", "c"]
    assert log(tmp_path) == ["a", "b", "interrupt", "c"]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_pool_of_any_size_gives_the_same(tmp_path, workers):
    study = Study(jobs("", "a", "bb", "ccc"))
    run_jobs(study, work, LocalPool(workers))
    assert {name: outcome.record["square"] for name, outcome in study.taken.items()} == {"a": 1, "bb": 4, "ccc": 9}
