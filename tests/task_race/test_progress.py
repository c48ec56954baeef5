from __future__ import annotations

from types import SimpleNamespace

from mlcv_bench.task_race.jobs import RunCounter

JOB = SimpleNamespace(lanes=((0.1, 0),))


def test_the_counter_says_how_far_things_are():
    now, shown = [0.0], []
    counter = RunCounter(10, lambda *line: shown.append(line), clock=lambda: now[0])
    counter.began(JOB)
    assert counter.text() == "0 of 10 runs done, 1 running"
    now[0] = 3.0
    counter.ended(JOB, "done", remembered=False)
    counter.ended(JOB, "failed", remembered=True)
    assert counter.text() == "1 of 10 runs done, 0 running, 1 failed, about 24 s left"
    assert shown[-1] == (counter.text(), 2)


def test_long_waits_are_in_minutes():
    now = [0.0]
    counter = RunCounter(100, lambda *_: None, clock=lambda: now[0])
    now[0] = 6.0
    counter.ended(JOB, "done", remembered=False)
    assert counter.text().endswith("about 10 min left")
