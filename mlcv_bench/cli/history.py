"""`mlcv-bench history`: results over commits; add, show, plot, check, bisect and export, a function each."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlcv_bench.cli.options import (
    PICTURES,
    Asked,
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
from mlcv_bench.errors import ExitCode, UsageError
from mlcv_bench.report.formats import TABULAR, Form
from mlcv_bench.report.look import LETTERS

if TYPE_CHECKING:
    from mlcv_bench.history.request import Selection

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
DEFAULT = Path("bench.sqlite")


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
    history: HistoryPath = DEFAULT,
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
    from mlcv_bench.history.request import AddRequest

    given = None if parents is None else tuple(listed("--parents", parents))
    request = AddRequest(tuple(files), history, commit, given, date, branch, dirty)
    if history.is_dir() or not history.parent.is_dir():
        raise UsageError(f"--history {history} cannot be written there; give a file in a folder that exists")

    def run() -> None:
        from mlcv_bench.history.adding import documents_in, new_results
        from mlcv_bench.history.database import History
        from mlcv_bench.records import counted

        # All files are read before any is added.
        found = [one for file in files for one in new_results(documents_in(file), request, Path.cwd())]
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
    history: HistoryPath = DEFAULT,
    row: Rows = None,
    column: Columns = None,
    branch: Branch = None,
    last: Last = 10,
    form: Format = "table",
    output: Output = None,
    quiet: Quiet = False,
) -> Asked:
    """Show the figures of the last commits, newest first."""
    return shown(selection(history, row, column, branch, last), Sink.of(form, output, quiet, PICTURES))


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
    history: HistoryPath = DEFAULT,
    row: Rows = None,
    column: Columns = None,
    branch: Branch = None,
    last: Last = 50,
    theme: ThemeOption = "light",
    font_size: FontSize = LETTERS,
    size: PictureSize = None,
    form: Format = "table",
    output: Output = None,
    quiet: Quiet = False,
) -> Asked:
    """Draw the figures of the last commits: a panel each, as a picture or a page."""
    if not any(path.suffix.lower() in (*PICTURES, ".html") for path in output or []):
        raise UsageError("history plot draws a picture or a page; say where: -o trend.png or -o trend.html")
    sink = Sink.of(form, output, quiet, PICTURES, look=look_of(theme, font_size, size))
    return shown(selection(history, row, column, branch, last), sink)


def check(
    *,
    history: HistoryPath = DEFAULT,
    row: Rows = None,
    column: Columns = None,
    branch: Branch = None,
    last: Last = 50,
    fail_above: Annotated[str, typer.Option("--fail-above", help="How much slower a time may get.")] = "5%",
    since: Annotated[
        str | None,
        typer.Option("--since", help="Accept what this commit and those before it changed.", show_default=False),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 3 when a time is undecided.")] = False,
    form: Format = "table",
    output: Output = None,
    quiet: Quiet = False,
) -> Asked:
    """Find the commits at which figures jumped; exit with 1 when the newest commit is worse for one."""
    from mlcv_bench.history.request import JumpRequest

    sink = Sink.of(form, output, quiet, PICTURES)
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


def export(
    *,
    history: HistoryPath = DEFAULT,
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
