"""Every exit code of the contract, produced by a real process."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mlcv_bench.errors import ExitCode
from tests.suites.documents import cost, document, time_document, timed

ROOT = Path(__file__).parents[2]


@pytest.fixture
def saved(tmp_path):
    def save(name, found):
        path = tmp_path / name
        path.write_text(json.dumps(found))
        return path

    return save


def test_the_codes_are_the_contracts():
    assert {code.name: int(code) for code in ExitCode} == {
        "DONE": 0,
        "CHECK_FAILED": 1,
        "USAGE": 2,
        "INCONCLUSIVE": 3,
        "BASELINE": 4,
        "TRIALS_FAILED": 5,
        "INTERRUPTED": 130,
    }


def test_0_done(command):
    assert command("list", check=0).stdout


def test_0_when_the_reader_closes_the_pipe():
    with subprocess.Popen(
        [sys.executable, "-m", "mlcv_bench", "list"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    ) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_1_a_regression(command, saved):
    base, new = saved("a.json", document("cost", [cost()])), saved("b.json", document("cost", [cost(params=1001)]))
    assert "regression(s): resnet20: params 1,000 -> 1,001" in command("compare", base, new, check=1).stdout
    base, new = saved("c.json", time_document(timed())), saved("d.json", time_document(timed(low=0.02, high=0.03)))
    command("compare", base, new, check=1)
    # A regression is not hidden by a row that is missing as well.
    base, new = (
        saved("e.json", document("cost", [cost(), cost("x")])),
        saved("f.json", document("cost", [cost(macs=9e9)])),
    )
    command("compare", base, new, "--strict", check=1)
    command("compare", base, saved("g.json", document("cost", [cost()])), "--strict", check=4)


def test_1_a_limit(command, tmp_path):
    (tmp_path / "gate.toml").write_text('[entries.a]\ncommand = "flops resnet20"\nmax_params = 1000')
    assert "fail" in command("run", "gate.toml", check=1).stdout


def test_2_usage(command, tmp_path):
    (tmp_path / "garbage.json").write_text("{")
    command("flops", "resnt50", check=2)
    command("compare", "garbage.json", "garbage.json", check=2)


def test_2_a_missing_extra(command, tmp_path):
    # To Python, a module that is None in sys.modules is not there.
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['onnxruntime'] = None\n")
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    done = command("time", "resnet20", "--runtime", "onnx", env={"PYTHONPATH": path}, check=2, fresh=True)
    assert "pip install 'mlcv-bench[onnx]'" in done.stderr


TIME = ("time", "resnet20", "--seconds", "0.1", "--threads", "1")


WIDE = {"low": 1e-9, "high": 1e9}


def test_3_inconclusive_only_when_strict(command, tmp_path):
    """One real measurement: its interval can be no narrower than one part in ten million."""
    path = tmp_path / "undecided.json"
    done = command(*TIME, "--precision", "0.00001%", "--strict", "-o", path, check=3)
    assert "resnet20" in done.stdout
    loaded = time_document(timed(low=0.02, high=0.03, contention="crowded"))
    (tmp_path / "quiet.json").write_text(json.dumps(time_document(timed())))
    (tmp_path / "loaded.json").write_text(json.dumps(loaded))
    assert "undecided" in command("compare", "quiet.json", "loaded.json", check=0).stdout
    command("compare", "quiet.json", "loaded.json", "--strict", check=3)
    # A baseline whose interval spans everything leaves any limit undecided.
    found = json.loads(path.read_text())
    found["runs"][0] |= {f"{clock}ci_{end}_s": s for clock in ("", "cpu_", "wall_") for end, s in WIDE.items()}
    baseline = {"schema": "mlcv-bench/suite", "version": 1, "details": {"entries": {"a": found}}}
    (tmp_path / "gate.baseline.json").write_text(json.dumps(baseline))
    (tmp_path / "gate.toml").write_text(f'[entries.a]\ncommand = "{" ".join(TIME)}"\nmax_slowdown = "5%"')
    done = command("run", "gate.toml", "--strict", check=3)
    assert "inconclusive" in done.stdout


def test_4_baseline(command, saved):
    base = saved("a.json", time_document(timed()))
    command("compare", "nowhere.json", base, check=4)
    other = saved("b.json", time_document(timed("resnet32")))
    command("compare", base, other, check=4)
    elsewhere = time_document(timed())
    elsewhere["environment"]["cpu"] = "Another processor"
    there = saved("c.json", elsewhere)
    assert "environments differ" in command("compare", base, there, check=0).stderr
    command("compare", base, there, "--strict", check=4)


FAILING = """
import torch

class Failing(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 4)

    def forward(self, x):
        if x.device.type != "meta":
            raise torch.OutOfMemoryError("too big for this machine")
        return self.layer(x)
"""


def test_5_some_trials_failed(command, tmp_path):
    (tmp_path / "network.py").write_text(FAILING)
    done = command(*TIME[:1], "network.py:Failing", "--input", "4", *TIME[2:], check=5)
    assert "out of memory" in done.stdout


WAITING = """
import os, signal

with open(os.environ["READY"], "w") as ready:
    print(os.getpid(), file=ready)
signal.pause()
"""


@pytest.fixture
def interrupted(tmp_path):
    """Start a command, send it a signal once it imports the user's surface, and return the finished process."""
    (tmp_path / "waiting.py").write_text(WAITING)
    fifo = tmp_path / "ready"
    os.mkfifo(fifo)

    def run(*arguments, by):
        reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
        with subprocess.Popen(
            [sys.executable, "-m", "mlcv_bench", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT), "READY": str(fifo)},
        ) as process:
            waiting = select.poll()
            waiting.register(reader, select.POLLIN)
            assert waiting.poll(120_000), "the surface was never imported"
            run.child = int(os.read(reader, 100))
            process.send_signal(by)
            try:
                out, errors = process.communicate(timeout=60)
            finally:
                # Where the suite itself runs under nohup, its children ignore SIGHUP.
                process.kill()
        os.close(reader)
        assert "Traceback" not in errors
        return process.returncode, out, errors

    return run


ENDS = [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]


@pytest.mark.parametrize(("by", "ended"), ENDS)
def test_130_143_129_interrupted(interrupted, by, ended):
    code, out, errors = interrupted("optim-race", "--surface", "waiting.py:it", by=by)
    assert code == ended
    assert "interrupted" in errors
    assert not out


@pytest.mark.parametrize(("by", "ended"), ENDS)
def test_130_143_129_a_suite_saves_what_it_finished(interrupted, tmp_path, by, ended):
    """CI systems cancel with either signal; the entry that runs is ended, and those before it are kept."""
    (tmp_path / "gate.toml").write_text(
        '[entries.first]\ncommand = "list"\n'
        '[entries.second]\ncommand = "optim-race --surface waiting.py:it"\nmust_reach = true\n'
        '[entries.third]\ncommand = "list"\n'
    )
    code, out, _ = interrupted("run", "gate.toml", "-o", "found.json", "--update-baseline", by=by)
    assert code == ended
    assert "interrupted" in out
    found = json.loads((tmp_path / "found.json").read_text())
    assert [(row["entry"], row["verdict"]) for row in found["runs"]] == [
        ("first", "pass"),
        ("second", "not run"),
        ("third", "not run"),
    ]
    assert list(found["details"]["entries"]) == ["first"]
    assert not (tmp_path / "gate.baseline.json").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone tells a child that its parent died")
def test_a_suite_that_is_killed_leaves_no_child_and_the_next_run_removes_its_files(interrupted, tmp_path, monkeypatch):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    (tmp_path / "gate.toml").write_text('[entries.a]\ncommand = "optim-race --surface waiting.py:it"\n')
    code, _, _ = interrupted("run", "gate.toml", by=signal.SIGKILL)
    assert code == -signal.SIGKILL
    while Path(f"/proc/{interrupted.child}").exists():  # waits for an event; pytest's own limit ends it
        select.select([], [], [], 0.01)
    assert len(list(temporary.glob("mlcv-bench-*"))) == 1
    interrupted("run", "gate.toml", by=signal.SIGTERM)
    assert not list(temporary.glob("mlcv-bench-*"))
