from __future__ import annotations

import contextlib
import io
import re
import subprocess
import sys

import pytest

from mlcv_bench.execution.progress import Progress

LONG = "[3/4] resnet50: " + "a line that is longer than any terminal is wide, " * 4


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture(autouse=True)
def _an_ordinary_terminal(monkeypatch):
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")


def written(stream, *lines, total=None, **settings):
    with Progress(total, stream=stream, **settings) as progress:
        for done, line in enumerate(lines):
            progress.show(line, done)
    return stream.getvalue()


def lines_of(text):
    """Return what stood on the terminal, without the codes that move and colour."""
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    return [line.rstrip() for line in re.split(r"[\r\n]+", plain) if line.strip()]


def test_the_text_is_shown_and_taken_away():
    text = written(Terminal(), "a: 1.5 ms [busy]", "b")
    assert "a: 1.5 ms [busy]" in text
    assert "\x1b[2K" in text.rpartition("b")[2], "the line is left clean"
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l"), "the cursor is back"


def test_a_bar_says_how_near_the_end_is():
    assert "━" in written(Terminal(), "a", total=4)
    assert "━" not in written(Terminal(), "a")


@pytest.mark.parametrize("columns", [8, 20, 40, 59, 60, 200])
@pytest.mark.parametrize("total", [None, 4])
def test_every_width_has_one_line(monkeypatch, columns, total):
    monkeypatch.setenv("COLUMNS", str(columns))
    found = lines_of(written(Terminal(), LONG, total=total))
    assert len(set(found)) == 1
    assert 0 < len(found[0]) <= columns
    assert "…" in found[0] or columns > len(LONG)


def test_several_lines_are_cut_each(monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    found = lines_of(written(Terminal(), f"{LONG}\nshort"))
    assert found[:2] == ["[3/4] resnet50: a l…", "short"]


def test_no_color_has_no_color(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    text = written(Terminal(), "a", total=4)
    assert "a" in text
    assert not re.search(r"\x1b\[[0-9;]*m", text)


def test_a_dumb_terminal_gets_nothing_it_cannot_read(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    assert "\x1b" not in written(Terminal(), "a", total=4)


@pytest.mark.parametrize("name", ["FORCE_COLOR", "TTY_COMPATIBLE", "CLICOLOR_FORCE"])
def test_a_file_stays_empty(monkeypatch, name):
    monkeypatch.setenv(name, "1")
    assert not written(io.StringIO(), "a", total=4)


def test_quiet_is_quiet():
    assert not written(Terminal(), "a", total=4, quiet=True)


def test_what_is_over_soon_shows_nothing():
    assert not written(Terminal(), "a", patience_s=60)


def test_a_warning_stands_above_the_line(monkeypatch):
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    with Progress() as progress:
        progress.show("before")
        sys.stderr.write("warning: careful\n")
        progress.show("after")
    assert sys.stderr is stream
    assert "warning: careful" in lines_of(stream.getvalue())


def test_an_error_leaves_a_clean_line():
    stream = Terminal()
    with contextlib.suppress(KeyboardInterrupt), Progress(stream=stream) as progress:
        progress.show("a")
        raise KeyboardInterrupt
    assert stream.getvalue().endswith("\x1b[2K")


def test_rich_is_loaded_by_what_is_shown_alone():
    script = (
        "import sys; from mlcv_bench.execution.progress import Progress\n"
        "with Progress(3) as progress: progress.show('a', 1)\n"
        "assert 'rich' not in sys.modules"
    )
    assert not subprocess.run([sys.executable, "-c", script], check=True, capture_output=True).stderr


def test_off_a_terminal_a_long_command_writes_a_line_every_30_seconds(monkeypatch):
    clock, stream, asked = [0.0], io.StringIO(), []

    def text():
        asked.append(clock[0])
        return f"{clock[0]:.0f} s\nand a table"

    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    with Progress(stream=stream, lines=True, patience_s=0.5) as progress:
        for second in range(0, 100, 4):
            clock[0] = float(second)
            progress.show(text)
    assert stream.getvalue() == "32 s\n64 s\n96 s\n"
    assert asked == [32, 64, 96], "nothing is put into words that nobody sees"


def test_a_terminal_is_painted_no_more_often_than_asked(monkeypatch):
    clock, asked = [0.0], []
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    with Progress(stream=Terminal(), every_s=0.2, lines=True) as progress:
        for tenth in range(10):
            clock[0] = tenth / 10 + 0.001
            progress.show(lambda: asked.append(clock[0]) or "a")
    assert len(asked) == 5
