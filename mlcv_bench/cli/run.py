"""`mlcv-bench run`: a suite of commands with limits, one table, one exit code, and files for CI systems."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from mlcv_bench.cli.options import Format, Output, Quiet
from mlcv_bench.errors import BaselineError, ExitCode, UsageError
from mlcv_bench.names import near_misses

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from mlcv_bench.comparing.baseline import Baseline
    from mlcv_bench.comparing.judging import Check, Result
    from mlcv_bench.records import Report
    from mlcv_bench.suites.document import Suite
    from mlcv_bench.suites.running import Runner

EXPORTS = ("smaller-is-better", "bigger-is-better", "pyperf", "bencher", "junit")

SuitePath = Annotated[
    Path, typer.Argument(help="A TOML file, such as benchmarks/suites/smoke.toml.", show_default=False)
]
Only = Annotated[list[str] | None, typer.Option("--only", help="Run this entry alone. Repeatable.", show_default=False)]
BaselinePath = Annotated[
    Path | None, typer.Option("--baseline", help="Compare with this file instead of the suite's own.")
]
Update = Annotated[bool, typer.Option("--update-baseline", help="Save this run's results as the new baseline.")]
Strict = Annotated[
    bool, typer.Option("--strict", help="Exit with 3 when a limit is undecided, 4 when environments differ.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check the suite and list its entries; run nothing.")]
Exports = Annotated[
    list[str] | None,
    typer.Option("--export", help=f"FORMAT=PATH, with FORMAT of {', '.join(EXPORTS)}. Repeatable.", show_default=False),
]


def run(
    suite: SuitePath,
    *,
    only: Only = None,
    baseline: BaselinePath = None,
    update_baseline: Update = False,
    strict: Strict = False,
    dry_run: DryRun = False,
    export: Exports = None,
    form: Format = "table",
    output: Output = None,
    quiet: Quiet = False,
) -> int:
    """Run a suite of commands and hold their results against its limits: one table, one exit code.

    -o also takes .xml (JUnit). On GitHub Actions the table goes to the step's summary and failures become annotations.
    """
    from mlcv_bench.cli.suite_commands import check_command
    from mlcv_bench.report import emit
    from mlcv_bench.suites.document import read_suite
    from mlcv_bench.suites.report import plan_report
    from mlcv_bench.suites.running import run_entry

    exports = parse_exports(export or [])
    check_files(output or [], exports)
    if dry_run and (exports or any(path.suffix.lower() == ".xml" for path in output or [])):
        raise UsageError("--dry-run measures nothing to export; leave --export and -o X.xml out, or --dry-run")
    asked = read_suite(suite, check_command)
    chosen = asked.only(only or [])
    if dry_run:
        emit(plan_report(chosen), form, output or [], quiet=quiet)
        return ExitCode.DONE
    place = baseline or asked.baseline
    before, missing = known_baseline(place, chosen, named=baseline is not None, update=update_baseline)
    sinks = Sinks(output or [], exports, strict=strict)
    checks, results = run_suite(
        chosen, before, run_entry, updating=update_baseline, keep=sinks.save, quiet=quiet, missing=missing
    )
    from mlcv_bench.comparing.judging import exit_code
    from mlcv_bench.suites.report import suite_report

    report = suite_report(chosen, checks, results)
    code = exit_code(checks, strict=strict)
    sinks.save(report)
    emit(report, form, quiet=quiet)
    tell_github(report, code, strict=strict, quiet=quiet)
    if update_baseline and code != ExitCode.INTERRUPTED:
        update(place, before, asked, results)
    return code


def run_suite(
    suite: Suite,
    baseline: Baseline | None,
    runner: Runner,
    *,
    updating: bool,
    keep: Callable[[Report], object],
    quiet: bool,
    missing: str = "",
) -> tuple[list[Check], list[Result]]:
    """Run every entry in turn and judge it; what was finished is kept after each, and when interrupted."""
    from mlcv_bench.comparing.judging import judge, not_run
    from mlcv_bench.execution.progress import Progress
    from mlcv_bench.suites.report import suite_report

    checks: list[Check] = []
    results: list[Result] = []
    entries = list(suite.entries)
    with terminated_is_interrupted(), Progress(len(entries), quiet=quiet) as progress:
        for position, entry in enumerate(entries, start=1):
            progress.show(f"[{position}/{len(entries)}] {entry.name}: {entry.command}", position - 1)
            try:
                result = runner(entry)
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


def known_baseline(path: Path, suite: Suite, *, named: bool, update: bool) -> tuple[Baseline | None, str]:
    """Read the baseline where one is needed or to be replaced.

    The suite's own may be missing, which is a verdict later, in words; one that somebody `named` may not.

    Raises:
        UsageError: the file is no baseline, or no place to save one.
        BaselineError: a named one is missing.

    """
    from mlcv_bench.comparing.baseline import load_baseline
    from mlcv_bench.report.files import check_outputs

    if update:
        check_outputs([path])
    if not update and not any(entry.needs_baseline for entry in suite.entries):
        return None, ""
    try:
        return load_baseline(path), ""
    except BaselineError as error:
        if named and not update:
            raise
        return None, str(error)


def update(path: Path, before: Baseline | None, suite: Suite, results: Sequence[Result]) -> None:
    """Save what limits are held against; an entry that failed keeps its old baseline, and a warning says so."""
    from mlcv_bench.comparing.baseline import baseline_text
    from mlcv_bench.report.files import save_text

    good = (ExitCode.DONE, ExitCode.CHECK_FAILED, ExitCode.INCONCLUSIVE)
    compared = [one for one in results if one.entry.needs_baseline]
    new = {one.entry.name: one.document for one in compared if one.document is not None and one.code in good}
    names = [entry.name for entry in suite.entries if entry.needs_baseline]
    save_text(path, baseline_text(before, new, names))
    for one in compared:
        if one.entry.name not in new:
            sys.stderr.write(f"warning: {one.entry.name} failed, so its baseline in {path} stays as it was\n")


def parse_exports(texts: Sequence[str]) -> list[tuple[str, Path]]:
    """Read every FORMAT=PATH.

    Raises:
        UsageError: no such format, or no path.

    """
    found = []
    for text in texts:
        form, equals, path = text.partition("=")
        if form not in EXPORTS:
            close = near_misses(form, EXPORTS)
            hint = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(EXPORTS)}"
            raise UsageError(f"--export has no format '{form}'; {hint}")
        if not equals or not path:
            raise UsageError(f"--export takes FORMAT=PATH, such as --export {form}=results.json")
        found.append((form, Path(path)))
    return found


def check_files(outputs: Sequence[Path], exports: Sequence[tuple[str, Path]]) -> None:
    """Refuse, before anything runs, a file that could not be written afterwards."""
    from mlcv_bench.report.files import check_outputs

    check_outputs([*outputs, *(path for _, path in exports)], pictures=(".xml",))


class Sinks:
    """Every file that a suite's outcome goes to, replaced after each entry."""

    def __init__(self, outputs: Sequence[Path], exports: Sequence[tuple[str, Path]], *, strict: bool) -> None:
        """Save to `outputs` by their suffix and to `exports` by their format."""
        self._outputs = [path for path in outputs if path.suffix.lower() != ".xml"]
        self._exports = [*exports, *(("junit", path) for path in outputs if path.suffix.lower() == ".xml")]
        self._strict = strict

    def save(self, report: Report) -> None:
        """Write every file anew."""
        from mlcv_bench.report.emit import save
        from mlcv_bench.report.files import save_text

        save(report, self._outputs)
        for form, path in self._exports:
            save_text(path, self._text(form, report))

    def _text(self, form: str, report: Report) -> str:
        from mlcv_bench import environment
        from mlcv_bench.report.formats.action_benchmark import to_action_benchmark
        from mlcv_bench.report.formats.bencher import to_bencher
        from mlcv_bench.report.formats.junit import to_junit
        from mlcv_bench.report.formats.measurements import measurements
        from mlcv_bench.report.formats.pyperf import to_pyperf

        documents: dict[str, Any] = report.details["entries"]
        match form:
            case "smaller-is-better":
                return to_action_benchmark(measurements(documents), "smaller")
            case "bigger-is-better":
                return to_action_benchmark(measurements(documents), "bigger")
            case "pyperf":
                return to_pyperf(documents)
            case "bencher":
                return to_bencher(measurements(documents))
            case _:
                title = report.tables[0].title
                return to_junit(title, report.runs, environment.capture().as_dict(), strict=self._strict)


def tell_github(report: Report, code: ExitCode, *, strict: bool, quiet: bool) -> None:
    """Write the summary, the outputs and the annotations where GitHub Actions asks for them."""
    from mlcv_bench.report.formats import github
    from mlcv_bench.report.formats.markdown import to_markdown

    try:
        if place := os.environ.get("GITHUB_STEP_SUMMARY"):
            github.append_summary(Path(place), to_markdown(report) + "\n")
        if place := os.environ.get("GITHUB_OUTPUT"):
            failed = dict.fromkeys(run["entry"] for run in report.runs if run["verdict"] not in {"pass", "saved"})
            values = {"exit-code": int(code), "verdict": report.notes[0].rstrip("."), "not-passed": " ".join(failed)}
            github.append_outputs(Path(place), values)
    except OSError as error:
        sys.stderr.write(f"warning: {place} cannot be written: {error.strerror}; GitHub gets no summary\n")
    if os.environ.get("GITHUB_ACTIONS") == "true":
        # The runner reads both streams; stdout is the result's alone.
        for line in github.annotation_lines(report.runs, strict=strict):
            if not quiet or line.startswith("::error"):
                sys.stderr.write(line + "\n")
