"""`mlcv-bench run`: a suite of commands with limits, one table, one exit code, and files for CI systems."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlcv_bench.architectures.catalog import LIBRARIES
from mlcv_bench.cli.options import Asked, Assets, Format, Output, Quiet, Sink, parts
from mlcv_bench.errors import BaselineError, ExitCode, UsageError
from mlcv_bench.interruption import postponed
from mlcv_bench.names import check_specification, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlcv_bench.comparing.baseline import Baseline
    from mlcv_bench.comparing.judging import Result
    from mlcv_bench.records import Report
    from mlcv_bench.suites.document import Suite

SPECIFICATION = re.compile(r"(?:^|[\s,])([^\s,]+\.py:\w[\w.]*|[A-Za-z_][\w.]*:[A-Za-z_][\w.]*)(?=[\s,]|$)")
"""A file's or a package's attribute; `adam:lr=0.1` and `tokens:int64:1x9` are none."""
PLACES = ("--base-", "--head-")
EXPORTS = ("smaller-is-better", "bigger-is-better", "pyperf", "bencher", "openmetrics", "junit")

SuitePath = Annotated[
    Path, typer.Argument(help="A TOML file, such as benchmarks/suites/smoke.toml.", show_default=False)
]
Only = Annotated[list[str] | None, typer.Option("--only", help="Run this entry alone. Repeatable.", show_default=False)]
BaselinePath = Annotated[
    Path | None, typer.Option("--baseline", help="Compare with this file instead of the suite's own.")
]
Update = Annotated[bool, typer.Option("--update-baseline", help="Save this run's results as the new baseline.")]
HistoryPath = Annotated[
    Path | None,
    typer.Option("--history", help="Append the results to this database, and show what it knows.", show_default=False),
]
Against = Annotated[
    str | None,
    typer.Option(
        "--against", help="Compare with this branch's newest commit in --history, as origin/main.", show_default=False
    ),
]
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
    history: HistoryPath = None,
    against: Against = None,
    strict: Strict = False,
    dry_run: DryRun = False,
    export: Exports = None,
    form: Format = "table",
    output: Output = None,
    assets: Assets = None,
    quiet: Quiet = False,
) -> Asked:
    """Run a suite of commands and hold their results against its limits: one table, one exit code.

    -o also takes .xml (JUnit). On GitHub Actions the table goes to the step's summary and failures become annotations.
    """
    from mlcv_bench.report.files import check_outputs
    from mlcv_bench.suites.document import read_suite

    exports = parse_exports(export or [])
    Sink.of(form, output, quiet, (".xml",), assets=assets)
    check_outputs([*(output or []), *(path for _, path in exports)], pictures=(".xml", ".txt"))
    reports = [path for path in output or [] if path.suffix.lower() != ".xml"]
    exports += [("junit", path) for path in output or [] if path not in reports]
    if dry_run and exports:
        raise UsageError("--dry-run measures nothing to export; leave --export and -o X.xml out, or --dry-run")
    check_history(history, against, replaced=update_baseline or baseline is not None, dry_run=dry_run)
    whole = read_suite(suite, check_command)
    chosen = whole.only(parts("--only", only or []))
    sink = Sink(form, tuple(reports), quiet, assets=assets)
    place = baseline or whole.baseline

    def run_chosen() -> ExitCode:
        from mlcv_bench.comparing.judging import exit_code
        from mlcv_bench.execution.progress import Progress
        from mlcv_bench.report.emit import save
        from mlcv_bench.report.files import save_text
        from mlcv_bench.report.formats.github import announce
        from mlcv_bench.suites.past import Past
        from mlcv_bench.suites.report import plan_report, suite_report
        from mlcv_bench.suites.running import run_suite

        if dry_run:
            sink.emit(plan_report(chosen))
            return ExitCode.DONE

        past = Past(history, against) if history is not None else None

        def keep(report: Report) -> None:
            save(report, sink.outputs, assets=assets)
            for kind, path in exports:
                save_text(path, exported(kind, report, strict=strict))
            if past is not None:
                past.add(report.details["entries"])

        if past is not None and past.base is not None:
            before, missing = past.base.baseline, past.base.sentence
        else:
            before, missing = known_baseline(place, chosen, named=baseline is not None, update=update_baseline)
        with Progress(len(chosen.entries), quiet=quiet) as progress:
            checks, results = run_suite(
                chosen, before, updating=update_baseline, missing=missing, show=progress.show, keep=keep
            )
        with postponed():
            report = suite_report(chosen, checks, results) if past is None else past.report(chosen, checks, results)
            code = exit_code(checks, strict=strict)
            keep(report)
            Sink(form, (), quiet).emit(report)
            announce(report, code, strict=strict, quiet=quiet)
            if update_baseline and code != ExitCode.INTERRUPTED:
                update(place, before, whole, results)
        return code

    return Asked(chosen, sink, run_chosen)


def check_history(history: Path | None, against: str | None, *, replaced: bool, dry_run: bool) -> None:
    """Refuse a history that could not be written, and a baseline of it beside another one, `replaced` or named.

    Raises:
        UsageError: one sentence.

    """
    from mlcv_bench.history.request import check_writable

    if against and history is None:
        raise UsageError("--against takes its baseline from a history; add --history bench.sqlite")
    if against and replaced:
        raise UsageError("--against leaves no room for another baseline; keep one")
    if history is not None and dry_run:
        raise UsageError("--dry-run measures nothing to add to a history; leave --history out, or --dry-run")
    if history is not None:
        check_writable(history)


def check_command(words: Sequence[str]) -> Any:  # noqa: ANN401 - every study has a request of its own
    """Return what an entry's command is asked, without running it.

    Refused is what it would refuse itself, and what makes no sense in a suite.

    Raises:
        UsageError: one sentence.

    """
    from mlcv_bench.cli.app import parse

    name, *rest = words
    if name == "run":
        raise UsageError("a suite cannot run a suite; give its entries here")
    options = [word.partition("=")[0] for word in rest]
    for option in options:
        if option in {"--output", "--format"} or (option.startswith("-o") and not option.startswith("--")):
            raise UsageError(f"leave {option} out; `run` decides where results go, with its own -o")
    for option, does in (("--help", "runs"), ("-h", "runs"), ("--dry-run", "measures")):
        if option in options:
            raise UsageError(f"{option} {does} nothing; leave it out")
    asked = parse(words)
    # The command itself opens it first of all; a suite may come to it after hours. What lies in another place is there.
    for place in () if any(option.startswith(PLACES) for option in options) else SPECIFICATION.findall("\n".join(rest)):
        if place.partition(":")[0] not in LIBRARIES:
            check_specification(place)
    if asked.sink is None:
        raise UsageError(f"`{name}` saves no result that a suite could judge")
    return asked.request


def known_baseline(path: Path, suite: Suite, *, named: bool, update: bool) -> tuple[Baseline | None, str]:
    """Read the baseline where one is needed or to be replaced.

    The suite's own may be missing, which becomes a verdict later; one that was `named` may not.

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
    """Save what limits are held against; an entry that failed or met other load keeps its old one, with a warning."""
    from mlcv_bench.comparing.baseline import baseline_text
    from mlcv_bench.comparing.judging import contended
    from mlcv_bench.report.files import save_text

    good = (ExitCode.DONE, ExitCode.CHECK_FAILED, ExitCode.INCONCLUSIVE)
    compared = [one for one in results if one.entry.needs_baseline]
    new = {
        one.entry.name: one.document
        for one in compared
        if one.document is not None and one.code in good and not contended(one)
    }
    names = [entry.name for entry in suite.entries if entry.needs_baseline]
    save_text(path, baseline_text(before, new, names))
    for one in compared:
        if one.entry.name not in new:
            why = contended(one) or "failed"
            sys.stderr.write(f"warning: {one.entry.name}: {why}, so its baseline in {path} stays as it was\n")


def parse_exports(texts: Sequence[str]) -> list[tuple[str, Path]]:
    """Read every FORMAT=PATH.

    Raises:
        UsageError: no such format, or no path.

    """
    found = []
    for text in texts:
        form, equals, path = text.partition("=")
        if form not in EXPORTS:
            hint = did_you_mean(form, EXPORTS, f"there are {', '.join(EXPORTS)}")
            raise UsageError(f"--export has no format '{form}'; {hint}")
        if not equals or not path:
            raise UsageError(f"--export takes FORMAT=PATH, such as --export {form}=results.json")
        found.append((form, Path(path)))
    return found


def exported(kind: str, report: Report, *, strict: bool) -> str:
    """Return a suite's outcome in one of the formats of EXPORTS."""
    from mlcv_bench import environment
    from mlcv_bench.report.formats.junit import to_junit
    from mlcv_bench.report.formats.measurements import measurements, to_action_benchmark, to_bencher, to_openmetrics
    from mlcv_bench.report.formats.pyperf import to_pyperf

    documents: dict[str, Any] = report.details["entries"]
    match kind:
        case "smaller-is-better":
            return to_action_benchmark(measurements(documents), "smaller")
        case "bigger-is-better":
            return to_action_benchmark(measurements(documents), "bigger")
        case "pyperf":
            return to_pyperf(documents)
        case "openmetrics":
            return to_openmetrics(measurements(documents))
        case "bencher":
            return to_bencher(measurements(documents))
        case _:
            return to_junit(report.details["title"], report.runs, environment.capture().as_dict(), strict=strict)
