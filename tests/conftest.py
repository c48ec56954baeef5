"""What every test shares: one torch thread, a fixed width, and the command as a real subprocess."""

from __future__ import annotations

import functools
import gc
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mlcv_bench.extras import EXTRAS

ROOT = Path(__file__).parent.parent


def pytest_configure(config) -> None:
    # Away from the user's kernels; one place for all workers and runs, since a kernel's name is the hash of its text.
    os.environ["MLCV_BENCH_CACHE"] = str(config.cache.mkdir("kernels"))
    # Whatever the environment says, byte code is kept: every command would compile the whole package anew.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    # Two xdist workers on two cores: more threads each would only wait for each other.
    for flag in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ.setdefault(flag, "1")
    # A shell ignores SIGINT for what it starts in the background, nohup SIGHUP, and children inherit that.
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


class Starter:
    """A process that imports libraries once, and runs code in forks of itself: see starter.py."""

    def __init__(self, folder, *libraries):
        self.folder, self.count = folder, 0
        self.process = subprocess.Popen(
            [sys.executable, ROOT / "tests" / "starter.py", *libraries],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )

    def run(self, code, *arguments, env=None, cwd=ROOT, timeout=120):
        """Run code in a fork as in a fresh interpreter, and return how it ended with what it printed."""
        self.count += 1
        out, err = (self.folder / f"{self.count}.{name}" for name in ("out", "err"))
        asked = {"code": code, "arguments": arguments, "env": env or dict(os.environ), "cwd": str(cwd)}
        asked |= {"timeout": timeout, "out": str(out), "err": str(err)}
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        ended = int(self.process.stdout.readline())
        return subprocess.CompletedProcess(code, ended, out.read_text(), err.read_text())

    def stop(self):
        self.process.communicate()


@pytest.fixture(scope="session")
def starters(tmp_path_factory):
    """Keep the starters of this session by the libraries that they have imported."""
    made = {}

    def starter(*libraries):
        if libraries not in made:
            made[libraries] = Starter(tmp_path_factory.mktemp("starter"), *libraries)
        return made[libraries]

    yield starter
    for one in made.values():
        one.stop()


# What most commands import of others' code, which takes them most of their time.
LIBRARIES = ("torch", "pandas", "rich.table", "scipy.stats", "typer")
MAIN = "import runpy; runpy.run_module('mlcv_bench', run_name='__main__', alter_sys=True)"


@pytest.fixture(scope="session")
def command_in(starters):
    """Run mlcv-bench in a folder; returns the finished process.

    It is a fork of one that has imported the libraries; with `fresh`, an interpreter of its own, for what a start does
    itself.
    """

    def run(*arguments, cwd, env=None, check=None, timeout=120, fresh=False):
        environment = {key: value for key, value in os.environ.items() if key not in {"COLUMNS", "NO_COLOR"}}
        environment |= {"PYTHONPATH": str(ROOT), "COLUMNS": "120"} | (env or {})
        words = list(map(str, arguments))
        if fresh or not hasattr(os, "fork"):
            done = subprocess.run(
                [sys.executable, "-m", "mlcv_bench", *words],
                capture_output=True,
                text=True,
                cwd=cwd,
                env=environment,
                timeout=timeout,
                check=False,
            )
        else:
            done = starters(*LIBRARIES).run(MAIN, *words, env=environment, cwd=cwd, timeout=timeout)
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
def command(command_in, tmp_path):
    """Run mlcv-bench in an empty folder."""
    return functools.partial(command_in, cwd=tmp_path)


HEAVY = (
    *("torch", "numpy", "pandas", "rich", "numba", "matplotlib"),
    *("fvcore", "sympy", "pydantic", "sklearn", "distributed"),
)


@pytest.fixture
def heavy_modules(starters):
    """Run a command line in a fork that has loaded Typer alone; returns its code, what it loaded and its stderr."""

    def run(arguments):
        code = (
            "import json, sys\nfrom mlcv_bench.cli.app import run\ncode = run(sys.argv[1:])\n"
            f"print(json.dumps([code, [name for name in {HEAVY!r} if name in sys.modules]]))"
        )
        done = starters("typer").run(code, *arguments)
        assert not done.returncode, done.stderr
        return *json.loads(done.stdout.splitlines()[-1]), done.stderr

    return run


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

    # What is loaded by now stays: no search for cycles need walk through it again, as timing does before each cell.
    gc.freeze()
    if torch.cuda.is_available():
        return
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="no CUDA device here"))
