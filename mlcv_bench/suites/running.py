"""Running a suite: each command in a process of its own, so that a crash in one costs no other, and judged at once.

A process of its own also gives every entry the settings of threads, caches and memory that the command has when typed,
and what it leaves behind is the file that `-o` saves: the suite judges the same document that people keep.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, NoReturn

from mlcv_bench.comparing.baseline import Baseline
from mlcv_bench.comparing.judging import Check, Result, judge, not_run
from mlcv_bench.comparing.limits import Entry
from mlcv_bench.errors import ExitCode
from mlcv_bench.records import Report
from mlcv_bench.suites.document import Suite
from mlcv_bench.suites.report import suite_report

GRACE_S = 30.0
"""How long an interrupted command has to save what it finished."""


def run_suite(
    suite: Suite,
    baseline: Baseline | None,
    *,
    updating: bool,
    missing: str = "",
    show: Callable[[str, int], object] = lambda _text, _done: None,
    keep: Callable[[Report], object] = lambda _report: None,
) -> tuple[list[Check], list[Result]]:
    """Run every entry in turn and judge it; what was finished is kept after each, and when interrupted.

    Args:
        suite: what to run.
        baseline: what limits are held against, if there is one.
        updating: this run's results become the baseline.
        missing: why there is no baseline.
        show: hears which entry runs, and after how many.
        keep: gets the report so far after every entry.

    """
    checks: list[Check] = []
    results: list[Result] = []
    entries = list(suite.entries)
    with terminated_is_interrupted():
        for position, entry in enumerate(entries, start=1):
            show(f"[{position}/{len(entries)}] {entry.name}: {entry.command}", position - 1)
            try:
                result = run_entry(entry)
            except KeyboardInterrupt:
                result = None
            if result is None or result.code == ExitCode.INTERRUPTED:
                # Nothing is judged by half, but what it measured is kept.
                results += [result] if result is not None and result.document is not None else []
                for one in entries[position - 1 :]:
                    checks += not_run(one, "interrupted")
                break
            results.append(result)
            checks += judge(result, baseline, updating=updating, missing=missing)
            keep(suite_report(suite, checks, results))
    return checks, results


@contextlib.contextmanager
def terminated_is_interrupted() -> Iterator[None]:
    """Treat SIGTERM, by which CI systems cancel, like Ctrl-C: save what is finished and end with 130."""

    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def run_entry(entry: Entry) -> Result:
    """Run an entry's command in the current folder; an interrupt is passed on once and waited for.

    Returns a result in every case; `code` is 130 when it was interrupted, negative when a signal ended it.
    """
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mlcv-bench-") as folder, tempfile.TemporaryFile() as errors:
        saved = Path(folder) / "result.json"
        process = subprocess.Popen(  # noqa: S603 - this project's own command
            # -P keeps the current folder, which may be a checkout of another version, off the child's path.
            [sys.executable, "-P", "-m", "mlcv_bench", *entry.arguments, "--format", "json", "-o", str(saved)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            env=child_environment(),
            # A group of its own: Ctrl-C reaches it once, through us, and a kill takes its workers along.
            process_group=0,
        )
        code, why = _wait(process, entry.timeout_s)
        document = _loaded(saved)
        if document is not None:
            document["command"] = document["environment"]["command"] = entry.command
        words = why or _last_words(errors, code)
    return Result(entry, code, document, words, time.monotonic() - start)


def child_environment() -> dict[str, str]:
    """Return this environment, with this very package first on the path of the child."""
    environment = dict(os.environ)
    own = Path(__file__).resolve().parents[2]
    if own.name not in {"site-packages", "dist-packages"}:
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(own), environment.get("PYTHONPATH")]))
    return environment


def _wait(process: subprocess.Popen[bytes], timeout_s: float) -> tuple[int, str]:
    try:
        return process.wait(timeout_s), ""
    except subprocess.TimeoutExpired:
        _stop(process)
        return ExitCode.TRIALS_FAILED, f"stopped after {timeout_s:g} s; raise its timeout_s, or ask for less"
    except KeyboardInterrupt:
        _stop(process)
        return ExitCode.INTERRUPTED, "interrupted"


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Interrupt the command and its workers so that they save what they have; kill them when that takes too long."""
    try:
        os.killpg(process.pid, signal.SIGINT)
        process.wait(GRACE_S)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def _loaded(path: Path) -> dict[str, Any] | None:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) else None


def _last_words(errors: IO[bytes], code: int) -> str:
    errors.seek(0)
    lines = [line.strip() for line in errors.read().decode(errors="replace").splitlines()]
    said = [line for line in lines if line and not line.startswith("warning: ")]
    if code < 0:
        name = signal.Signals(-code).name
        hint = "; the system may have run out of memory" if -code == signal.SIGKILL else ""
        return f"ended by {name}{hint}"
    return said[-1].removeprefix("mlcv-bench: ") if said else f"ended with exit code {code}" if code else ""
