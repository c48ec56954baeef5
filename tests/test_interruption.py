"""Signals: the first ends the work, a result is written out before it ends the command, the second ends that too."""

from __future__ import annotations

import signal

import pytest

from mlcv_bench import interruption
from mlcv_bench.cli import app
from mlcv_bench.cli.options import Asked, Sink
from mlcv_bench.records import Report
from mlcv_bench.system import INTERRUPTIONS


class Clock:
    """A clock that stands still until it is set."""

    now = 0.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    """The signals held as in a command, and the clock between them; afterwards all is as before."""
    before = {number: signal.getsignal(number) for number in INTERRUPTIONS}
    standing = Clock()
    monkeypatch.setattr(interruption, "_state", interruption._State())
    monkeypatch.setattr(interruption, "time", standing)
    interruption.hold()
    yield standing
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("number", "code", "words"),
    [
        (signal.SIGINT, 130, "interrupted"),
        (signal.SIGTERM, 143, "interrupted by SIGTERM"),
        (signal.SIGHUP, 129, "interrupted by SIGHUP"),
    ],
)
def test_each_signal_has_the_code_that_shells_give_it(clock, number, code, words):
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(number)
    assert (interruption.exit_code(), interruption.reason()) == (code, words)


def test_the_same_signal_sent_twice_at_once_is_one(clock):
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGTERM)
    clock.now = 0.5
    signal.raise_signal(signal.SIGTERM)
    clock.now = 1.5
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    assert interruption.exit_code() == 143


def test_a_result_is_written_before_the_command_ends(clock):
    written = []

    @interruption.postponed()
    def write():
        with interruption.postponed():
            written.append(1)
        signal.raise_signal(signal.SIGINT)
        written.append(2)

    with pytest.raises(KeyboardInterrupt):
        write()
    assert written == [1, 2]


def test_a_second_signal_ends_the_writing(clock):
    written = []

    @interruption.postponed()
    def write():
        signal.raise_signal(signal.SIGINT)
        clock.now = 2.0
        signal.raise_signal(signal.SIGINT)
        written.append(1)

    with pytest.raises(KeyboardInterrupt):
        write()
    assert not written


def test_after_the_result_a_signal_ends_the_process_with_its_code(clock, monkeypatch):
    ended = []
    monkeypatch.setattr(interruption.os, "_exit", ended.append)
    interruption.leave(1)
    with pytest.raises(KeyboardInterrupt):  # os._exit would not have come back
        signal.raise_signal(signal.SIGINT)
    assert ended == [1]


def test_an_ignored_signal_stays_ignored(monkeypatch):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    held = {number: signal.getsignal(number) for number in INTERRUPTIONS}
    interruption.hold()
    try:
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        for number, handler in held.items():
            signal.signal(number, handler)
        signal.signal(signal.SIGHUP, before)


@pytest.fixture
def study(monkeypatch):
    """A command of one study, which is interrupted with so many rows found."""
    monkeypatch.setitem(app.COMMANDS, "list", (f"{__name__}:command", ""))

    def run(rows, path):
        FOUND[:] = [rows, path]
        return app.run(["list"])

    return run


FOUND: list = []


def command() -> Asked:
    """Be interrupted."""
    rows, path = FOUND
    sink = Sink("csv", (path,))

    def measure() -> int:
        try:
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt:
            sink.emit(Report("cost", ("name",), [{"name": f"row {i}"} for i in range(rows)]))
        return 130

    return Asked(None, sink, measure)


@pytest.mark.parametrize(("rows", "kept"), [(0, "an earlier result"), (1, "name\nrow 0\n")])
def test_what_found_nothing_replaces_nothing(clock, study, tmp_path, capsys, rows, kept):
    path = tmp_path / "found.csv"
    path.write_text("an earlier result")
    assert study(rows, path) == 143
    assert path.read_text() == kept
    shown = capsys.readouterr()
    assert shown.out == ("name\nrow 0\n" if rows else "")
    assert shown.err.strip().startswith("mlcv-bench: interrupted by SIGTERM")
