"""What every test shares: one torch thread, a fixed width, and the command as a real subprocess."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mlcv_bench.extras import EXTRAS

ROOT = Path(__file__).parent.parent


def pytest_configure() -> None:
    # Two xdist workers on two cores: more threads each would only wait for each other.
    for flag in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ.setdefault(flag, "1")
    # A shell ignores SIGINT for what it starts in the background, and children inherit that: Ctrl-C would never arrive.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def command(tmp_path):
    """Run mlcv-bench as a subprocess in an empty folder; returns the finished process."""

    def run(*arguments, env=None, cwd=tmp_path, check=None, timeout=120, **more):
        environment = {key: value for key, value in os.environ.items() if key not in {"COLUMNS", "NO_COLOR"}}
        environment |= {"PYTHONPATH": str(ROOT), "COLUMNS": "120"} | (env or {})
        done = subprocess.run(
            [sys.executable, "-m", "mlcv_bench", *map(str, arguments)],
            capture_output=True,
            text=True,
            cwd=cwd,
            env=environment,
            timeout=timeout,
            check=False,
            **more,
        )
        if check is not None:
            assert done.returncode == check, (done.returncode, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        return done

    return run


@pytest.fixture
def without(monkeypatch):
    """Take the packages of extras away, also what of them is imported already."""

    def take(*extras):
        tops = {module for extra in extras for module in EXTRAS[extra].packages.values()}
        for name in tops | {name for name in sys.modules if name.partition(".")[0] in tops}:
            monkeypatch.setitem(sys.modules, name, None)

    return take


@pytest.fixture
def golden(request):
    """Compare a text with tests/golden/NAME; `--update-golden` writes it anew."""

    def compare(name, text):
        path = ROOT / "tests" / "golden" / name
        if request.config.getoption("--update-golden"):
            path.write_text(text, encoding="utf-8")
        assert text == path.read_text(encoding="utf-8")

    return compare


def pytest_addoption(parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write the golden files anew")


def pytest_collection_modifyitems(items) -> None:
    import torch

    if torch.cuda.is_available():
        return
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="no CUDA device here"))
