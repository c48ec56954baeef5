from __future__ import annotations

import contextlib
import functools
import io
import json
from pathlib import Path
from typing import ClassVar

import pytest

from mlcv_bench.errors import UsageError
from mlcv_bench.execution.places import Place
from mlcv_bench.execution.processes import PipeChannel
from mlcv_bench.timing import worker
from mlcv_bench.timing.request import Cell, Facts
from mlcv_bench.timing.worker import WorkerError, WorkerMemoryError, WorkerRefusalError, WorkerWorkload, start_workers
from mlcv_bench.trials import NotApplicableError
from tests.timing.fakes import FakeWorkload

CELL = Cell("resnet18", (3, 224, 224))


class FakeChannel:
    """Answers through a server in this process, or as a test says; every request and reply really passes JSON."""

    def __init__(self, **replies):
        self.server, self.replies, self.closed = worker.Server(), replies, False

    def ask(self, request):
        if request["do"] in self.replies:
            return self.replies[request["do"]]
        requests, answers = io.StringIO(json.dumps(request) + "\n"), io.StringIO()
        original, worker.Server = worker.Server, lambda: self.server
        try:
            worker.serve(requests, answers)
        finally:
            worker.Server = original
        return json.loads(answers.getvalue())

    def close(self):
        self.closed = True


def test_a_worker_is_timed_like_any_workload():
    channel = FakeChannel(prepare={"ok": Facts(0.0, 0.0, 0.1).as_dict()})
    workload = WorkerWorkload(channel)
    assert workload.prepare(CELL) == Facts(0.0, 0.0, 0.1)
    channel.server._workload = FakeWorkload(0.25)
    assert workload.warm_up(1).agreed
    assert workload.block(0.1) == FakeWorkload(0.25).block(0.1)
    workload.close()
    assert channel.closed


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("OutOfMemoryError", WorkerMemoryError),
        ("MemoryError", WorkerMemoryError),
        ("NotApplicableError", NotApplicableError),
        ("ValueError", WorkerError),
        ("UsageError", WorkerRefusalError),
    ],
)
def test_an_error_over_there_is_an_error_here(kind, error):
    workload = WorkerWorkload(FakeChannel(prepare={"error": {"kind": kind, "message": "so it is"}}))
    with pytest.raises(error, match="so it is"):
        workload.prepare(CELL)


def test_a_worker_survives_what_it_cannot_do():
    workload = WorkerWorkload(FakeChannel())
    with pytest.raises(WorkerError, match="before 'prepare'"):
        workload.block(0.1)
    with pytest.raises(WorkerError, match="before 'prepare'"):
        workload.warm_up(0.1)


def test_another_version_is_refused():
    with pytest.raises(WorkerError, match="version 99"):
        WorkerWorkload(FakeChannel(hello={"ok": {"protocol": 99}}))


def test_a_real_worker_greets_and_its_printing_does_not_disturb():
    channel = PipeChannel(worker.MODULE)
    assert channel.ask({"do": "hello"})["ok"]["protocol"] == worker.PROTOCOL
    channel.close()
    assert channel._process.returncode == 0


def test_a_worker_that_dies_is_told_from_one_that_answers():
    class Dead(FakeChannel):
        def ask(self, request):
            raise ConnectionError("the worker process ended with exit code 3")

    with pytest.raises(WorkerError, match="exit code 3") as caught:
        WorkerWorkload(Dead(), 1)
    assert caught.value.worker == 1


def test_a_refusal_in_a_worker_is_a_wrong_request():
    refusing = FakeChannel(prepare={"error": {"kind": "UsageError", "message": "--weights x"}})
    with pytest.raises(UsageError, match="--weights x"):
        worker.open_isolated(CELL, lambda *_: refusing)
    assert refusing.closed


class Starting(FakeChannel):
    """A channel whose worker does what the name of its interpreter says."""

    made: ClassVar[list] = []

    def __init__(self, _module, python):
        facts = {"ok": Facts(0.0, 0.0, 0.1).as_dict()}
        broken = {
            "error": {
                "kind": "ValueError" if python != Path("strange") else "NotApplicableError",
                "message": str(python),
            }
        }
        super().__init__(prepare=facts if python is None else broken)
        self.made.append(self)


def test_workers_start_together_and_the_one_that_cannot_is_told(monkeypatch):
    monkeypatch.setattr(Starting, "made", [])
    here = functools.partial(Starting, worker.MODULE, None)
    with contextlib.ExitStack() as stack:
        sides = start_workers([CELL] * 3, [here] * 3, stack)
        assert len(sides) == 3
        assert not any(channel.closed for channel in Starting.made)
    assert [channel.closed for channel in Starting.made] == [True] * 3
    for name in ("broken", "strange"):
        there = functools.partial(Starting, worker.MODULE, Path(name))
        with contextlib.ExitStack() as stack, pytest.raises(WorkerError, match=name) as caught:
            start_workers([CELL] * 3, [here, there, here], stack)
        assert caught.value.worker == 1
    assert all(channel.closed for channel in Starting.made)


def test_what_cannot_be_a_worker_is_a_wrong_request(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# no program")
    page.chmod(0o755)
    talker = tmp_path / "talker"
    talker.write_text("#!/bin/sh\necho hello\ncat > /dev/null\n")
    talker.chmod(0o755)
    here = functools.partial(Starting, worker.MODULE, None)
    for python, words in ((page, "cannot be started"), (tmp_path, "cannot be started"), (talker, "printed 'hello'")):
        with contextlib.ExitStack() as stack, pytest.raises(WorkerRefusalError, match=words) as caught:
            start_workers([CELL] * 2, [functools.partial(PipeChannel, worker.MODULE, Place(python)), here], stack)
        assert caught.value.worker == 0


def test_a_worker_that_fails_later_is_known_by_its_position():
    workload = WorkerWorkload(FakeChannel(), 2)
    for ask in (lambda: workload.block(0.1), lambda: workload.warm_up(0.1)):
        with pytest.raises(WorkerError) as caught:
            ask()
        assert caught.value.worker == 2
