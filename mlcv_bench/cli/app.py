"""The Typer app: a table of commands, each imported only when it is called, and one place where errors end."""

from __future__ import annotations

import importlib
import os
import re
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.core
import typer.main

from mlcv_bench import __version__, interruption
from mlcv_bench.cli.options import Asked
from mlcv_bench.crashes import located
from mlcv_bench.deprecations import renewed
from mlcv_bench.errors import BenchError, ExitCode, InputMismatchError, UsageError
from mlcv_bench.names import ExitError, did_you_mean, first_line
from mlcv_bench.records import visible
from mlcv_bench.streams import result_alone
from mlcv_bench.system import cgroup_quota

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

LONGEST_WORD = 500
TRACEBACK = "MLCV_BENCH_TRACEBACK"
"""The variable that --debug sets, also for the processes that a command starts."""


def _row(name: str, line: str, place: str = "") -> tuple[str, tuple[str, str]]:
    """Return a command with its MODULE:FUNCTION, of its own name if none is given, and its line of help."""
    usual = name.replace("-", "_")
    return name, (f"mlcv_bench.cli.{place or f'{usual}:{usual}'}", line)


COMMANDS: dict[str, tuple[str, str]] = dict(
    (
        _row(
            "list",
            "List what exists: architectures, families, optimizers, surfaces, tasks, claims, subjects of `verify`.",
            "list:list_",
        ),
        _row("flops", "Count MACs, FLOPs, activations and memory of architectures."),
        _row("params", "Count parameters, buffers and their bytes of architectures.", "flops:params"),
        _row("summary", "Show one architecture as a tree of modules with their costs."),
        _row("time", "Time forward passes so that the figure can be trusted, also on a busy machine."),
        _row("ab", "Compare two networks, settings or versions alternately: faster, slower, same or inconclusive."),
        _row(
            "compare",
            "Compare two saved files of one study or suite: costs, times, races, verifications, claims, ab or run.",
        ),
        _row(
            "report",
            "Show saved results again; several files of one study side by side, of any on one page (-o report.html).",
        ),
        _row("run", "Run a suite of commands and hold their results against its limits: one table, one exit code."),
        _row(
            "history add",
            "Append saved results to a history, with their commits; what is there already is not added again.",
            "history:add",
        ),
        _row("history show", "Show the figures of the last commits, newest first.", "history:show"),
        _row(
            "history plot",
            "Draw the figures of the last commits: a panel each, as a picture or a page.",
            "history:plot",
        ),
        _row(
            "history check",
            "Find the commits at which figures jumped; exit with 1 when the newest commit is worse for one.",
            "history:check",
        ),
        _row(
            "history bisect",
            "Print the commands that find the commit of a jump by git bisect; while git bisects, judge this checkout.",
            "history:bisect",
        ),
        _row(
            "history export",
            "Write every figure of a history, a row each, as CSV, JSON or Parquet, for pandas and DuckDB.",
            "history:export",
        ),
        _row(
            "env", "Show what decides a figure here: processor, quota, versions, BLAS, threads, GPU, flags.", "time:env"
        ),
        _row("claims", "Test the course notes' remarks: an experiment, theory's prediction and a verdict for each."),
        _row(
            "optim-race",
            "Race optimizers on a surface or on real tasks: default, tuned and theory's settings side by side.",
        ),
        _row("lr-sweep", "Run every optimizer at 36 learning rates: steps to the target against the rate."),
        _row("landscape", "Show a real network's loss on a plane of its weights, and every optimizer's path on it."),
        _row("basins", "Map the basins of attraction: each pixel a start, which minimum, how fast."),
        _row("diff", "Show two networks side by side, block by block, with ratios."),
        _row("verify", "Prove numerically that formulations are one function, and that the proof can fail."),
        _row("width", "Solve the notes' equation for d: ResNeXts as costly as a ResNet."),
        _row("draw", "Draw an architecture from its code, as SVG, PNG or Graphviz text."),
        _row("figures", "Draw the notes' figures from real runs and built networks."),
    )
)
"""Name to place and one line of help; a test holds the line against the command's own docstring."""

GROUPS = {
    "history": "Results over commits: add them, show and draw them, and find the commit at which a figure jumped."
}
"""The first words of commands of two, with what they have in common."""


class LazyGroup(typer.core.TyperGroup):
    """A group that shows its help from the table and imports one command's module when it is called.

    A command of two words is one of the group that its first word names: `prefix` is that word and a space.
    """

    prefix = ""

    def rows(self) -> dict[str, str]:
        """Return the commands of this group, each with its line of help."""
        size = len(self.prefix)
        return {name[size:]: line for name, (_, line) in COMMANDS.items() if name.startswith(self.prefix)}

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override] # typer vendors its Context
        """Return the commands in the table's order, which is the order of the help."""
        del ctx
        return list(self.rows())

    def get_command(self, ctx: typer.Context, cmd_name: str) -> Any:  # type: ignore[override] # noqa: ANN401 - vendored
        """Import and return one command, or None."""
        del ctx
        name = f"{self.prefix}{cmd_name}"
        if name in GROUPS:
            group = LazyGroup(name=cmd_name, help=GROUPS[name], no_args_is_help=True, rich_markup_mode=None)
            group.prefix = f"{name} "
            return group
        if name not in COMMANDS:
            return None
        command = load_command(name)
        command.callback = running(command.callback)
        return command

    def resolve_command(self, ctx: typer.Context, args: list[str]) -> Any:  # type: ignore[override] # noqa: ANN401 - vendored
        """Return the command that the arguments name; an unknown one is an error with near misses."""
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            raise no_command(f"{self.prefix}{args[0]}")
        name, command, rest = super().resolve_command(ctx, args)
        return name, command, list(renewed(f"{self.prefix}{name}", rest, say))

    def format_commands(self, ctx: typer.Context, formatter: Any) -> None:  # type: ignore[override] # noqa: ANN401 - vendored
        """Write the list of commands without importing any."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(list(self.rows().items()))


def load_command(name: str) -> Any:  # noqa: ANN401 - a command class that typer vendors
    """Import one command's function and let Typer read its signature."""
    module, _, attribute = COMMANDS[name][0].partition(":")
    function = getattr(importlib.import_module(module), attribute)
    single = typer.Typer(add_completion=False, rich_markup_mode=None, context_settings=CONTEXT)
    single.command(name)(function)
    command = typer.main.get_command(single)
    for parameter in command.params:
        if hasattr(parameter.type, "case_sensitive"):
            parameter.type.case_sensitive = False
    return command


def parse(words: Sequence[str]) -> Asked:
    """Read and check a command line as `mlcv-bench` does, and run nothing.

    What a specification (anything with a colon) names is not opened: that is the first thing `Asked.run` does.

    Raises:
        UsageError: no such command, a wrong option or value, or what the command's request refuses.

    """
    name, *rest = words
    if name in GROUPS and rest:
        name, *rest = f"{name} {rest[0]}", *rest[1:]
    if name not in COMMANDS:
        raise no_command(name)
    command = load_command(name)
    try:
        words = list(renewed(name, rest, say))
        context = command.make_context(f"mlcv-bench {name}", words, help_option_names=[])
        return command.invoke(context)  # type: ignore[no-any-return] # Typer's commands are untyped
    except typer.TyperException as error:
        raise UsageError(usage_sentence(error)) from error


def running(read: Callable[..., Asked]) -> Callable[..., int | None]:
    """Return a command that is run as soon as it is read, with stdout for its result alone."""

    def run_alone(**arguments: Any) -> int | None:  # noqa: ANN401 - whatever the command takes
        with result_alone():
            return read(**arguments).run()

    return run_alone


def no_command(name: str) -> UsageError:
    """Return the error for a name that is no command's, with near misses."""
    hint = did_you_mean(name, COMMANDS)
    return UsageError(f"no command '{name}'; {hint}{hint and ' '}`mlcv-bench --help` lists all")


CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}

app = typer.Typer(
    name="mlcv-bench",
    cls=LazyGroup,
    rich_markup_mode=None,
    context_settings=CONTEXT,
    pretty_exceptions_enable=False,
)


def show_version(wanted: bool) -> None:
    """Print the version and stop."""
    if wanted:
        typer.echo(f"mlcv-bench {__version__}")
        raise typer.Exit


@app.callback(no_args_is_help=True)
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Show the version.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the whole traceback of an error, for any command.")
    ] = False,
) -> None:
    """What vision architectures cost, whether formulations agree, how fast they run, which optimizer wins.

    Every command prints a table; --format csv or json prints the runs behind it, and -o saves them
    (.csv, .json, .md, .tex, .html to explore in a browser, and pictures as .png, .svg or .pdf where a command draws).
    """
    del version, debug


def run(arguments: Sequence[str]) -> int:
    """Run the command line and return its exit code; every error ends here as one sentence on stderr."""
    open_streams()
    settle_environment()
    arguments = without_debug(arguments)
    command = typer.main.get_command(app)
    try:
        code = command.main(args=list(arguments), prog_name="mlcv-bench", standalone_mode=False)
    except SystemExit as leaving:
        # Typer leaves so when the reader of --help or --version closes the pipe, which is no error.
        if isinstance(leaving.__context__, BrokenPipeError):
            return ExitCode.DONE
        raise
    except (KeyboardInterrupt, typer.Abort):
        code = ExitCode.INTERRUPTED
    except BenchError as error:
        return refuse(error)
    except Exception as error:
        if "NoArgsIsHelp" in type(error).__name__:
            typer.echo(words_of(error), err=True)
            return ExitCode.USAGE
        # An error that goes on would end Python with 1, which reads as a failed check.
        if os.environ.get(TRACEBACK):
            raise
        return complain(usage_sentence(error), ExitCode.USAGE)
    if code == ExitCode.INTERRUPTED:
        saved = "what was finished is in the files that -o and --store name, if any"
        return complain(f"{interruption.reason()}; {saved}", interruption.exit_code())
    return code if isinstance(code, int) else ExitCode.DONE


def without_debug(arguments: Sequence[str]) -> list[str]:
    """Return the arguments but for --debug, which stands anywhere; it holds for the processes that a command starts."""
    if "--debug" in arguments:
        os.environ[TRACEBACK] = "1"
    return [word for word in arguments if word != "--debug"]


def refuse(error: BenchError) -> int:
    """Say why a command ends, with the last frames of the user's code where that crashed, and return the exit code."""
    if os.environ.get(TRACEBACK):
        traceback.print_exception(error)
    where = located(error)
    # What a user's own code raised is no wrong request, however it was worded; but code that leaves says so itself.
    asked = isinstance(error, InputMismatchError) or isinstance(error.__cause__, ExitError)
    crashed = bool(where) and error.exit_code == ExitCode.USAGE and not asked
    return complain(str(error) + where, ExitCode.TRIALS_FAILED if crashed else error.exit_code)


def open_streams() -> None:
    """Give stdout and stderr somewhere to go where the caller closed them, and replace what they cannot encode."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - open to the end
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")


TEMPORARY = ("/tmp", "/var/tmp", "/usr/tmp", ".")  # noqa: S108 - where Python looks, and only whether they are there
"""Where Python makes temporary files, unless the environment names another folder."""


def settle_environment() -> None:
    """Take away what would stop a library: a width that is no number, a backend of matplotlib's that shows windows.

    In a container, let libraries start as many threads as its quota has cores, and start where nothing can be written.
    """
    for name in ("COLUMNS", "LINES"):
        if not re.fullmatch("[0-9]{1,9}", os.environ.get(name, "0")):
            del os.environ[name]
    os.environ["MPLBACKEND"] = "agg"
    if cgroup_quota() is not None:
        from mlcv_bench.environment import usable_cores

        # Libraries count the cores that they may use, and know of no quota: a container would be stopped at every turn.
        os.environ.setdefault("OMP_NUM_THREADS", str(usable_cores()))
    named = (os.environ.get(name, "") for name in ("TMPDIR", "TEMP", "TMP"))
    if not any(os.access(folder, os.W_OK) for folder in (*named, *TEMPORARY)):
        # torch's compiler wants a folder that is there when it is loaded, also where nothing is compiled.
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", os.sep)


def usage_sentence(error: Exception) -> str:
    """Return what was wrong with the words, and the command whose help lists what is right.

    Of an error that nothing foresaw, say whether the system, an installation or this program is at fault.
    """
    if isinstance(error, typer.TyperException):
        context = getattr(error, "ctx", None)
        path = context.command_path if context is not None else "mlcv-bench"
        return f"{words_of(error).strip().rstrip('.')}; `{path} --help` shows what it takes"
    words = f"{type(error).__name__}: {first_line(error)}"
    places = {frame.f_globals.get("__name__") for frame, _ in traceback.walk_tb(error.__traceback__)}
    if "torch" in places and "torch" not in sys.modules:
        return f"torch cannot be imported here: {words}; mend the setting or the installation"
    if isinstance(error, OSError | MemoryError):
        return f"the system refuses: {words}"
    return f"{words}, which is a fault of mlcv-bench; --debug shows where"


def words_of(error: Exception) -> str:
    """Return an error of Typer's as a sentence, which some have a method for."""
    return error.format_message() if hasattr(error, "format_message") else str(error)


def complain(sentence: str, code: int) -> int:
    """Say one sentence on stderr and return the exit code."""
    say(sentence)
    return int(code)


def say(sentence: str) -> None:
    """Say one sentence on stderr."""
    words = [word if len(word) <= LONGEST_WORD else f"{word[:60]}..." for word in visible(sentence).split()]
    typer.echo(f"mlcv-bench: {' '.join(words)}", err=True)
