"""`mlcv-bench history`: results over commits; add, show, plot, check, bisect and export, a function each."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlcv_bench.cli.options import (
    PICTURES,
    Asked,
    Assets,
    FontSize,
    Format,
    Output,
    PictureSize,
    Quiet,
    Sink,
    ThemeOption,
    listed,
    look_of,
    parse_share,
)
from mlcv_bench.errors import BenchError, ExitCode, UsageError
from mlcv_bench.history.request import CHECKED, HISTORY, SHOWN
from mlcv_bench.records import visible
from mlcv_bench.report.formats import TABULAR, Form
from mlcv_bench.report.look import LETTERS
from mlcv_bench.streams import writing_result

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlcv_bench.history.request import BisectRequest, Selection

Files = Annotated[
    list[Path], typer.Argument(help="Files that -o X.json saved, of a study or of `run`.", show_default=False)
]
HistoryPath = Annotated[Path, typer.Option("--history", help="The database, a SQLite file.")]
Rows = Annotated[
    list[str] | None,
    typer.Option("--row", help="Rows of this name, or with these words in it. Repeatable.", show_default=False),
]
Columns = Annotated[
    list[str] | None,
    typer.Option("--column", help="This column, such as macs or p90_s. Repeatable.", show_default="what is judged"),
]
Branch = Annotated[
    str | None, typer.Option("--branch", help="Commits of this branch.", show_default="that of the newest result")
]
Last = Annotated[int, typer.Option("--last", min=1, help="How many commits, the newest ones.")]


def selection(
    path: Path, rows: list[str] | None, columns: list[str] | None, branch: str | None, last: int
) -> Selection:
    """Return what is selected of a history, checked."""
    from mlcv_bench.history.request import Selection

    names = tuple(text.lower() for text in rows or [])
    asked = Selection(path, names, tuple(text.lower() for text in listed("--column", columns)), branch, last)
    asked.check()
    return asked


def add(
    files: Files,
    *,
    history: HistoryPath = HISTORY,
    commit: Annotated[
        str | None, typer.Option("--commit", help="The commit they belong to.", show_default="as the files say")
    ] = None,
    parents: Annotated[
        list[str] | None, typer.Option("--parents", help="Its parents.", show_default="as git says")
    ] = None,
    date: Annotated[
        str | None, typer.Option("--date", help="Its author's date, ISO 8601.", show_default="as git says")
    ] = None,
    branch: Annotated[
        str | None, typer.Option("--branch", help="The branch it is on.", show_default="as git says")
    ] = None,
    dirty: Annotated[
        bool | None,
        typer.Option("--dirty/--clean", help="Whether the checkout was changed.", show_default="as the files say"),
    ] = None,
    quiet: Quiet = False,
) -> Asked:
    """Append saved results to a history, with their commits; what is there already is not added again."""
    from mlcv_bench.history.request import AddRequest, check_writable

    given = None if parents is None else tuple(listed("--parents", parents))
    request = AddRequest(tuple(files), history, commit, given, date, branch, dirty)
    check_writable(history)

    def run() -> None:
        from mlcv_bench.history.adding import documents_in, new_results
        from mlcv_bench.history.database import History
        from mlcv_bench.records import counted

        # All files are read before any is added.
        documents = [named for file in files for named in documents_in(file).items()]
        found = list(new_results(documents, request, Path.cwd()))
        with History(history, create=True) as database:
            new = database.add(found)
        if not quiet:
            there = len(found) - new
            already = f", {there} there already" if there else ""
            commits = len({one.commit.commit for one in found})
            typer.echo(
                f"{counted(new, 'result')} of {counted(commits, 'commit')} added to {history}{already}", err=True
            )

    return Asked(request, None, run)


def show(
    *,
    history: HistoryPath = HISTORY,
    row: Rows = None,
    column: Columns = None,
    branch: Branch = None,
    last: Last = SHOWN,
    form: Format = "table",
    output: Output = None,
    assets: Assets = None,
    quiet: Quiet = False,
) -> Asked:
    """Show the figures of the last commits, newest first."""
    return shown(selection(history, row, column, branch, last), Sink.of(form, output, quiet, PICTURES, assets=assets))


def shown(asked: Selection, sink: Sink) -> Asked:
    """Return what shows and draws the selected figures."""

    def run() -> None:
        from mlcv_bench.history.database import History
        from mlcv_bench.history.jumps import select
        from mlcv_bench.report.history import history_report

        with History(asked.path) as database:
            selected = select(database, asked)
        sink.emit(history_report(selected), plot="history:draw")

    return Asked(asked, sink, run)


def plot(
    *,
    history: HistoryPath = HISTORY,
    row: Rows = None,
    column: Columns = None,
    branch: Branch = None,
    last: Last = CHECKED,
    theme: ThemeOption = "light",
    font_size: FontSize = LETTERS,
    size: PictureSize = None,
    form: Format = "table",
    output: Output = None,
    assets: Assets = None,
    quiet: Quiet = False,
) -> Asked:
    """Draw the figures of the last commits: a panel each, as a picture or a page."""
    if not any(path.suffix.lower() in (*PICTURES, ".html") for path in output or []):
        raise UsageError("history plot draws a picture or a page; say where: -o trend.png or -o trend.html")
    sink = Sink.of(form, output, quiet, PICTURES, look=look_of(theme, font_size, size), assets=assets)
    return shown(selection(history, row, column, branch, last), sink)


def check(
    *,
    history: HistoryPath = HISTORY,
    row: Rows = None,
    column: Columns = None,
    branch: Branch = None,
    last: Last = CHECKED,
    fail_above: Annotated[str, typer.Option("--fail-above", help="How much slower a time may get.")] = "5%",
    since: Annotated[
        str | None,
        typer.Option("--since", help="Accept what this commit and those before it changed.", show_default=False),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 3 when a time is undecided.")] = False,
    form: Format = "table",
    output: Output = None,
    assets: Assets = None,
    quiet: Quiet = False,
) -> Asked:
    """Find the commits at which figures jumped; exit with 1 when the newest commit is worse for one."""
    from mlcv_bench.history.request import JumpRequest

    sink = Sink.of(form, output, quiet, PICTURES, assets=assets)
    request = JumpRequest(selection(history, row, column, branch, last), parse_share(fail_above), since)

    def run() -> ExitCode:
        from mlcv_bench.history.database import History
        from mlcv_bench.history.jumps import search
        from mlcv_bench.report.history import jumps_report

        with History(history) as database:
            found = search(database, request)
        sink.emit(jumps_report(found), plot="history:draw")
        if found.worse:
            return ExitCode.CHECK_FAILED
        return ExitCode.INCONCLUSIVE if strict and found.undecided else ExitCode.DONE

    return Asked(request, sink, run)


def bisect(
    *,
    history: HistoryPath = HISTORY,
    row: Rows = None,
    column: Columns = None,
    branch: Branch = None,
    last: Last = CHECKED,
    bad_above: Annotated[
        str | None,
        typer.Option(
            "--bad-above", help="How much worse than before the jump is bad.", show_default="any, of a time 5%"
        ),
    ] = None,
) -> Asked:
    """Print the commands that find the commit of a jump by git bisect; while git bisects, judge this checkout.

    Judging runs the command that measured the figure and ends with 0 for good, 1 for bad, 125 to skip, 128 to stop.
    """
    from mlcv_bench.history.bisecting import is_bisecting
    from mlcv_bench.history.request import BisectRequest

    def read() -> BisectRequest:
        share = None if bad_above is None else parse_share(bad_above)
        return BisectRequest(selection(history, row, column, branch, last), share)

    if is_bisecting(Path.cwd()):
        # An error's own exit code would read as good or bad.
        return Asked(None, None, lambda: judged(read))
    request = read()
    return Asked(request, None, lambda: print_commands(request))


def print_commands(request: BisectRequest) -> None:
    """Print what is to be typed."""
    from mlcv_bench.history.bisecting import target_of
    from mlcv_bench.history.database import History

    with History(request.selection.path) as database:
        jump = target_of(database, request).jump
    above = [] if request.bad_above is None else ["--bad-above", f"{100 * request.bad_above:g}%"]
    branch = [] if request.selection.branch is None else ["--branch", request.selection.branch]
    path = str(request.selection.path.resolve())
    words = ["--history", path, "--row", jump.row, "--column", jump.column, *branch, *above]
    if request.selection.last != CHECKED:
        words += ["--last", str(request.selection.last)]
    with writing_result() as stream:
        stream.write(
            f"git bisect start {jump.until} {jump.after}\n"
            f"git bisect run {shlex.join(['mlcv-bench', 'history', 'bisect', *words])}\n"
            "git bisect reset\n"
        )


def judged(read: Callable[[], BisectRequest]) -> int:
    """Measure the figure in this checkout and return the exit code that tells git what it is."""
    from mlcv_bench import interruption
    from mlcv_bench.cli.run import check_command
    from mlcv_bench.comparing.limits import Entry
    from mlcv_bench.history.bisecting import ABORT, ATTEMPTS, CODES, answer_of, target_of
    from mlcv_bench.history.database import History
    from mlcv_bench.suites.running import run_entry

    try:
        request = read()
        with History(request.selection.path) as database:
            target = target_of(database, request)
        check_command(target.arguments)
        entry = Entry("bisect", target.arguments, {})
        for _ in range(ATTEMPTS):
            result = run_entry(entry)
            if result.code in interruption.CODES:
                return ABORT
            if result.document is None:
                typer.echo(f"skip: {entry.command}: {result.words}", err=True)
                return CODES["skip"]
            if answer := answer_of(target, result.document):
                typer.echo(f"{answer}: {target.jump.row} {target.jump.column}", err=True)
                return CODES[answer]
        typer.echo(f"skip: {target.jump.row} was undecided {ATTEMPTS} times", err=True)
        return CODES["skip"]
    except BenchError as error:
        typer.echo(f"mlcv-bench: {visible(str(error))}", err=True)
        return ABORT


def export(
    *,
    history: HistoryPath = HISTORY,
    form: Annotated[
        Form | None,
        typer.Option(
            "--format", help="How stdout shows the result; csv and json print the rows.", show_default="csv without -o"
        ),
    ] = None,
    output: Output = None,
    quiet: Quiet = False,
) -> Asked:
    """Write every figure of a history, a row each, as CSV, JSON or Parquet, for pandas and DuckDB."""
    sink = Sink.of(form or ("table" if output else "csv"), output, quiet, texts=(".csv", ".json", TABULAR))
    asked = selection(history, None, None, None, 1)

    def run() -> None:
        from mlcv_bench.history.database import History
        from mlcv_bench.report.history import stored_report

        with History(history) as database:
            sink.emit(stored_report(database))

    return Asked(asked, sink, run)
