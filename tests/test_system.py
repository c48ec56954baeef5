"""The suite's core where a system has no locks, no usage, no /proc, no affinity, no process groups and no SIGHUP."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from mlcv_bench import environment, interruption, system
from mlcv_bench.cli import app
from mlcv_bench.cli.app import run, settle_environment
from mlcv_bench.execution import processes
from mlcv_bench.timing import clock, contention, devices, machine

ROOT = Path(__file__).parent.parent
NAMED = re.compile(
    r"import (?:fcntl|resource)$|os\.killpg|signal\.SIG(?:HUP|KILL)|sched_getaffinity|prctl|preexec_fn"
    r"|[\"'(]/(?:proc|sys)/"
)


@pytest.fixture
def bare(monkeypatch, tmp_path):
    """Take away what Windows or macOS lack."""
    for name in ("LOCKS", "USAGE"):
        monkeypatch.setattr(system, name, None)
    for name in ("sched_getaffinity", "killpg"):
        monkeypatch.delattr(os, name, raising=False)
    monkeypatch.delattr(signal, "SIGHUP", raising=False)
    monkeypatch.setattr(system, "sys", SimpleNamespace(platform="other"))
    monkeypatch.setattr(system, "INTERRUPTIONS", [signal.SIGINT, signal.SIGTERM])
    monkeypatch.setattr(interruption, "INTERRUPTIONS", [signal.SIGINT, signal.SIGTERM])
    nowhere = tmp_path / "nowhere"
    for module in (system, environment, clock, contention, devices, machine):
        for name in ("PROC", "SYS", "CPUS", "TASKS"):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, nowhere)
    contention._throttle_files.cache_clear()
    contention._package_files.cache_clear()
    yield nowhere
    contention._throttle_files.cache_clear()
    contention._package_files.cache_clear()


def test_one_module_alone_names_what_systems_have_differently():
    for path in (ROOT / "mlcv_bench").rglob("*.py"):
        if path.name != "system.py":
            lines = path.read_text(encoding="utf-8").splitlines()
            assert [line for line in lines if NAMED.search(line)] == [], path


@pytest.mark.parametrize(
    "words",
    [
        "flops resnet20",
        "env",
        "verify momentum",
        "optim-race --optimizer sgd --protocol default --steps 5",
        "time resnet20 --seconds 0.1 --threads 1 --store store.jsonl",
    ],
)
def test_the_core_runs_without(bare, words, tmp_path, monkeypatch, capsys):
    del bare
    monkeypatch.chdir(tmp_path)
    assert run([*words.split(), "-q", "--format", "json", "-o", "found.json"]) == 0
    assert json.loads(capsys.readouterr().out)
    assert json.loads((tmp_path / "found.json").read_text())["environment"]["usable_cores"] >= 1


def test_a_suite_runs_without(bare, tmp_path, monkeypatch, capsys):
    del bare
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gate.toml").write_text('[entries.a]\ncommand = "list optimizers"', encoding="utf-8")
    assert run(["run", "gate.toml", "-q", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["verdict"] == "pass"


def test_a_child_is_ended_without_process_groups(bare):
    del bare
    assert system.own_group() == system.with_parent() == {}
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    processes.stop(child)
    assert child.returncode == -signal.SIGTERM


def test_the_fallbacks_know_less(bare, tmp_path):
    assert system.allowed_cores() == [*range(os.cpu_count())]
    assert system.usage().switches is None
    assert system.usage().own_s > 0
    assert system.text_of(bare / "stat") == ""
    with (tmp_path / "file").open("wb") as file, (tmp_path / "file").open("rb") as other:
        assert system.locked(file)
        assert system.locked(other)


@pytest.mark.skipif(system.LOCKS is None, reason="this system has no such locks")
def test_a_locked_file_is_another_ones(tmp_path):
    with (tmp_path / "file").open("wb") as file, (tmp_path / "file").open("rb") as other:
        assert system.locked(file)
        assert not system.locked(other)


@pytest.mark.parametrize(
    ("groups", "files", "quota", "memory", "throttled"),
    [
        # A container sees its own group as the root: version 2, and version 1 with a path that is not there.
        ("0::/", {"cpu.max": "150000 100000", "memory.max": "2147483648"}, 1.5, 2**31, None),
        (
            "4:memory:/docker/1\n1:cpu,cpuacct:/docker/1",
            {
                "cpu/cpu.cfs_quota_us": "50000",
                "cpu/cpu.cfs_period_us": "100000",
                "cpu/cpu.stat": "nr_periods 3\nthrottled_time 2500000000",
                "memory/memory.limit_in_bytes": "1073741824",
            },
            0.5,
            2**30,
            2.5,
        ),
        # No container: the smallest of a service's own group and those around it.
        (
            "0::/user/1/job",
            {
                "user/1/job/cpu.max": "max 100000",
                "user/1/cpu.max": "200000 100000",
                "user/cpu.max": "400000 100000",
                "user/1/cpu.stat": "usage_usec 5\nthrottled_usec 1500000",
                "user/cpu.stat": "throttled_usec 250000",
            },
            2.0,
            None,
            1.75,
        ),
        (
            "1:cpu:/\n4:memory:/",
            {
                "cpu/cpu.cfs_quota_us": "-1",
                "cpu/cpu.cfs_period_us": "100000",
                "memory/memory.limit_in_bytes": "9223372036854771712",
            },
            None,
            None,
            None,
        ),
        ("0::/", {}, None, None, None),
    ],
)
def test_limits_of_both_versions_of_cgroups(bare, monkeypatch, groups, files, quota, memory, throttled):
    root = bare / "fs/cgroup"
    for name, text in {**files, "../../self/cgroup": groups}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{text}\n", encoding="utf-8")
    assert system.cgroup_quota() == quota
    assert environment.memory_limit_bytes() == memory
    assert contention._throttled_seconds() == throttled
    monkeypatch.setattr(environment, "allowed_cores", lambda: [0, 1, 2, 3])
    assert environment.usable_cores() == {None: 4, 2.0: 2}.get(quota, 1)


def test_libraries_start_in_a_container_with_a_quota_and_nowhere_to_write(monkeypatch):
    monkeypatch.setattr(os, "environ", {"TMPDIR": "/somewhere"})
    monkeypatch.setattr(os, "access", lambda folder, mode: folder == "/somewhere")
    monkeypatch.setattr(app, "cgroup_quota", lambda: None)
    settle_environment()
    assert not os.environ.keys() & {"OMP_NUM_THREADS", "TORCHINDUCTOR_CACHE_DIR"}
    monkeypatch.setattr(os, "access", lambda folder, mode: False)
    for module in (app, environment):
        monkeypatch.setattr(module, "cgroup_quota", lambda: 1.5)
    settle_environment()
    assert (os.environ["OMP_NUM_THREADS"], os.environ["TORCHINDUCTOR_CACHE_DIR"]) == ("1", os.sep)
    os.environ["OMP_NUM_THREADS"] = "7"  # as the user says
    settle_environment()
    assert os.environ["OMP_NUM_THREADS"] == "7"


# An unknown user, without a home, who may read this checkout and write nowhere at all.
UNKNOWN_USER = """
mount -o remount,bind,ro /
exec setpriv --reuid 12345 --regid 12345 --clear-groups --inh-caps=-all,+dac_read_search \\
  --ambient-caps=-all,+dac_read_search --bounding-set=-all,+dac_read_search env -i PATH=/usr/bin:/bin "$@"
"""
NAMESPACE = ("unshare", "--mount", "sh", "-euc", UNKNOWN_USER, "sh")


def may_be_another_user():
    try:
        return subprocess.run([*NAMESPACE, "true"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


@pytest.mark.skipif(not may_be_another_user(), reason="needs root, unshare and setpriv of Linux")
@pytest.mark.parametrize(
    "words",
    [
        "time resnet8 --seconds 0.1 --threads 1",
        "optim-race --surface sphere --optimizer sgd --protocol tuned --engine lanes",
    ],
)
def test_an_unknown_user_who_can_write_nowhere(words):
    command = [f"PYTHONPATH={ROOT}", sys.executable, "-m", "mlcv_bench", *words.split()]
    done = subprocess.run([*NAMESPACE, *command], capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), (done.stdout, done.stderr)
