"""Running a suite: each command in a process of its own, so that a crash in one costs no other, and judged at once.

A process of its own also gives every entry the settings of threads, caches and memory that the command has when typed,
and what it leaves behind is the file that `-o` saves: the suite judges the same document that people keep.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from mlcv_bench import interruption
from mlcv_bench.comparing.baseline import Baseline
from mlcv_bench.comparing.judging import Check, Result, judge, not_run
from mlcv_bench.comparing.limits import Entry
from mlcv_bench.errors import ExitCode
from mlcv_bench.execution import processes
from mlcv_bench.records import Report
from mlcv_bench.report.files import own_prefix, remove_leftovers
from mlcv_bench.suites.document import Suite
from mlcv_bench.suites.report import suite_report
from mlcv_bench.system import with_parent

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
        show: called with a line on the entry that begins, and the number of those finished.
        keep: gets the report so far after every entry.

    """
    checks: list[Check] = []
    results: list[Result] = []
    entries = list(suite.entries)
    for position, entry in enumerate(entries, start=1):
        show(f"[{position}/{len(entries)}] {entry.name}: {entry.command}", position - 1)
        try:
            result = run_entry(entry)
        except KeyboardInterrupt:
            result = None
        if result is None or result.code in interruption.CODES:
            # Nothing is judged by half, but what it measured is kept.
            results += [result] if result is not None and result.document is not None else []
            for one in entries[position - 1 :]:
                checks += not_run(one, "interrupted")
            break
        with interruption.postponed():
            results.append(result)
            checks += judge(result, baseline, updating=updating, missing=missing)
            keep(suite_report(suite, checks, results))
    return checks, results


def run_entry(entry: Entry) -> Result:
    """Run an entry's command in the current folder; an interrupt is passed on once and waited for.

    Returns a result in every case; `code` is one of `interruption.CODES` when it was interrupted, negative when a
    signal ended it.
    """
    start = time.monotonic()
    remove_leftovers(Path(tempfile.gettempdir()))
    with tempfile.TemporaryDirectory(prefix=own_prefix()) as folder, tempfile.TemporaryFile() as errors:
        saved = Path(folder) / "result.json"
        arguments = (*entry.arguments, "--format", "json", "-o", str(saved))
        process = processes.start(
            "mlcv_bench",
            *arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            **with_parent(),
        )
        code, why = _wait(process, entry.timeout_s)
        document = _loaded(saved)
        if document is not None:
            document["command"] = document["environment"]["command"] = entry.command
        words = why or _last_words(errors, code)
    return Result(entry, code, document, words, time.monotonic() - start)


def _wait(process: subprocess.Popen[bytes], timeout_s: float) -> tuple[int, str]:
    try:
        return process.wait(timeout_s), ""
    except subprocess.TimeoutExpired:
        processes.stop(process, GRACE_S)
        return ExitCode.TRIALS_FAILED, f"stopped after {timeout_s:g} s; raise its timeout_s, or ask for less"
    except KeyboardInterrupt:
        processes.stop(process, GRACE_S)
        return ExitCode.INTERRUPTED, "interrupted"


def _loaded(path: Path) -> dict[str, Any] | None:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) else None


def _last_words(errors: IO[bytes], code: int) -> str:
    errors.seek(0)
    lines = [line.strip() for line in errors.read().decode(errors="replace").splitlines()]
    lines = [line for line in lines if line and not line.startswith("warning: ")]
    if code < 0:
        return processes.ending(code)
    if lines:
        return lines[-1].removeprefix("mlcv-bench: ")
    return processes.ending(code) if code else ""
