"""Real processes: what they inherit, how they answer, and that nothing they started outlives them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mlcv_bench.execution import processes
from mlcv_bench.execution.places import Place
from mlcv_bench.execution.processes import LocalPool, PipeChannel

ROOT = Path(__file__).parent.parent.parent
ECHO = """
import sys
for line in sys.stdin:
    print('{"ok": ' + line.strip() + '}', flush=True)
"""
BUSY = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
for line in sys.stdin:
    print('{"ok": %d}' % child.pid, flush=True)
    time.sleep(600)
"""


def alive(number):
    """Tell whether a process runs; one that has ended and is waited for by nobody does not."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def gone(number):
    end = time.monotonic() + 20
    while alive(number) and time.monotonic() < end:
        time.sleep(0.01)
    return not alive(number)


@pytest.fixture
def module(tmp_path):
    def made(code):
        (tmp_path / "answering.py").write_text(code)
        return PipeChannel("answering", Place(path=tmp_path))

    return made


def test_a_child_answers_and_ends_with_its_requests(module):
    channel = module(ECHO)
    assert channel.ask({"a": [1, "\u00fc"]}) == {"ok": {"a": [1, "\u00fc"]}}
    channel.close()
    assert channel._process.returncode == 0


def test_a_child_at_work_is_interrupted_and_takes_its_own_along(module):
    channel = module(BUSY)
    grandchild = channel.ask({})["ok"]
    channel._asking = True
    channel.close()
    assert channel._process.returncode == -signal.SIGTERM
    assert gone(grandchild)


def test_a_child_that_ignores_an_interrupt_is_killed(module):
    channel = module("import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + BUSY)
    grandchild = channel.ask({})["ok"]
    processes.stop(channel._process, 0.1)
    channel.close()
    assert channel._process.returncode == -signal.SIGKILL
    assert gone(grandchild)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("raise SystemExit(3)", "exit code 3"),
        ("import os; os.kill(os.getpid(), 9)", "SIGKILL; the system may"),
        ("print('hello'); input(); input()", "printed 'hello'"),
    ],
)
def test_a_child_that_cannot_answer_is_a_broken_connection(module, code, words):
    channel = module(code)
    with pytest.raises(ConnectionError, match=words):
        channel.ask({"do": "hello"})
    channel.close()


def test_what_cannot_be_started_is_named(tmp_path):
    with pytest.raises(OSError, match=f"{tmp_path} cannot be started: Permission denied"):
        processes.start("any", place=Place(python=tmp_path))


def test_a_pool_ends_with_its_main_process(tmp_path):
    (tmp_path / "main.py").write_text(
        "import os, time\n"
        "from mlcv_bench.execution.processes import LocalPool\n"
        "if __name__ == '__main__':\n"
        "    pool = LocalPool(1)\n"
        "    print(pool.executor.submit(os.getpid).result(), flush=True)\n"
        "    time.sleep(600)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    main = subprocess.Popen([sys.executable, str(tmp_path / "main.py")], stdout=subprocess.PIPE, env=environment)
    worker = int(main.stdout.readline())
    main.kill()
    main.communicate()
    assert gone(worker)


def test_a_pool_that_is_stopped_at_once_leaves_nothing_running():
    pool = LocalPool(1)
    worker = pool.executor.submit(os.getpid).result()
    pool.executor.submit(time.sleep, 600)
    pool.stop(at_once=True)
    assert gone(worker)
