from __future__ import annotations

import subprocess
import sys

from mlcv_bench.timing import openmp


def test_waiting_threads_are_told_to_sleep():
    environment = {"PATH": "/bin"}
    assert openmp.settle(environment)
    assert environment["OMP_WAIT_POLICY"] == "passive"
    assert environment["GOMP_SPINCOUNT"] == "0"


def test_a_user_who_decided_is_left_alone():
    environment = {"OMP_WAIT_POLICY": "active"}
    openmp.settle(environment)
    assert environment["OMP_WAIT_POLICY"] == "active"
    assert "GOMP_SPINCOUNT" not in environment


def test_it_loads_no_torch_and_says_when_it_comes_too_late(monkeypatch):
    code = (
        "import sys; from mlcv_bench.timing import openmp; assert openmp.settle(); assert 'torch' not in sys.modules;"
        "sys.modules['torch'] = None; assert not openmp.settle()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_policy_in_force_is_named(monkeypatch):
    for name in openmp.PASSIVE:
        monkeypatch.delenv(name, raising=False)
    assert "default" in openmp.wait_policy()
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    assert openmp.wait_policy() == "OMP_WAIT_POLICY=passive"
