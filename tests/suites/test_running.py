"""Entries run in processes of their own: whatever happens there is a result here."""

from __future__ import annotations

import pytest

from mlcv_bench.comparing.judging import judge
from mlcv_bench.comparing.limits import Entry
from mlcv_bench.suites.running import run_entry


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # Imported as surfaces, which takes no torch.
    for name, text in {
        "killed": "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)",
        "endless": "import signal\nsignal.pause()",
        "gone": "import sys\nsys.exit('no surface today')",
    }.items():
        (tmp_path / f"{name}.py").write_text(text)


def test_a_result_carries_what_the_command_saves():
    entry = Entry("a", ("list", "optimizers"), {})
    result = run_entry(entry)
    assert (result.code, result.words) == (0, "")
    assert result.document["command"] == result.document["environment"]["command"] == "mlcv-bench list optimizers"
    assert result.document["runs"]
    assert result.seconds > 0


def test_what_a_command_refuses_is_said_in_its_words():
    result = run_entry(Entry("a", ("optim-race", "--surface", "json:missing"), {}))
    assert (result.code, result.document) == (2, None)
    assert "has no attribute 'missing'" in result.words


@pytest.mark.parametrize(
    ("name", "timeout", "words"),
    [
        ("killed", 600.0, "ended by SIGKILL; the system may have run out of memory"),
        ("endless", 0.5, "stopped after 0.5 s; raise its timeout_s, or ask for less"),
    ],
)
def test_however_it_ends_it_fails_and_says_why(name, timeout, words):
    result = run_entry(Entry("a", ("optim-race", "--surface", f"{name}.py:it"), {"must_reach": True}, timeout))
    (check,) = judge(result, None)
    assert (check.verdict, check.reason) == ("failed", words)


def test_user_code_that_leaves_is_refused_with_its_words():
    result = run_entry(Entry("a", ("optim-race", "--surface", "gone.py:it"), {"must_reach": True}, 600.0))
    (check,) = judge(result, None)
    assert check.verdict == "refused"
    assert "no surface today" in check.reason
