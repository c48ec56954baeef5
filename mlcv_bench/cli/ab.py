"""`mlcv-bench ab`: B against A in one run, alternately, with a margin from A against itself."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlcv_bench.architectures.catalog import expand
from mlcv_bench.cli.options import Asked, Format, Output, Quiet, Sink, TurnSeed, parse_share
from mlcv_bench.errors import ExitCode, TrialsFailedError, UsageError
from mlcv_bench.timing.request import CellGrid, TimeRequest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlcv_bench.timing.compare import ComparePlan, Comparison, Sides

NAMES = ("A", "B", "A again")
Base = Annotated[
    str,
    typer.Argument(
        help='A name with options of `time`: "resnet50 --batch 8"; CPU and one thread by default.', show_default=False
    ),
]
Head = Annotated[str | None, typer.Argument(help="What to hold against it; A again by default, with other pythons.")]
BasePython = Annotated[Path | None, typer.Option("--base-python", help="The interpreter that runs A.")]
HeadPython = Annotated[Path | None, typer.Option("--head-python", help="The interpreter that runs B.")]
BasePath = Annotated[Path | None, typer.Option("--base-path", help="The checkout whose mlcv_bench runs A.")]
HeadPath = Annotated[Path | None, typer.Option("--head-path", help="The checkout whose mlcv_bench runs B.")]
Seconds = Annotated[float, typer.Option("--seconds", min=1, help="Seconds for everything, starts of processes too.")]
Margin = Annotated[str, typer.Option("--margin", help="What B may differ by, 1% or more; A against A may widen it.")]
Strict = Annotated[bool, typer.Option("--strict", help="Exit with 3 when nothing can be decided.")]


def ab(
    base: Base,
    head: Head = None,
    *,
    base_python: BasePython = None,
    head_python: HeadPython = None,
    base_path: BasePath = None,
    head_path: HeadPath = None,
    seconds: Seconds = 30.0,
    margin: Margin = "2%",
    strict: Strict = False,
    seed: TurnSeed = 0,
    form: Format = "table",
    output: Output = None,
    quiet: Quiet = False,
) -> Asked:
    """Compare two networks, settings or versions alternately: faster, slower, same or inconclusive.

    With one thread, time spent waiting for a core is left out, unless a side sleeps or waits for something else.
    """
    sink = Sink.of(form, output, quiet)
    if head is None and not any((base_python, head_python, base_path, head_path)):
        raise UsageError('B is missing; name it, as `mlcv-bench ab resnet50 "resnet50 --memory-format channels_last"`')
    check_place("base", base_python, base_path)
    check_place("head", head_python, head_path)
    from mlcv_bench.timing.compare import ComparePlan

    plan = ComparePlan(seconds=seconds, margin=parse_share(margin, whole=True), seed=seed)
    sides = (
        ComparedSide(base, parse_side(base), (base_python, base_path)),
        ComparedSide(head or base, parse_side(head or base), (head_python, head_path)),
    )
    if sides[0].grid.batch != sides[1].grid.batch:
        raise UsageError("A and B have different batches, which no ratio can make alike; give both the same --batch")

    def run() -> ExitCode:
        found = measure(sides, plan, sink)
        if found.verdict == "slower":
            return ExitCode.CHECK_FAILED
        return ExitCode.INCONCLUSIVE if strict and found.verdict == "inconclusive" else ExitCode.DONE

    return Asked((sides, plan), sink, run)


@dataclass(frozen=True)
class ComparedSide:
    """What is compared: its cell, as typed and read, and the interpreter and the checkout that run it, if not these."""

    text: str
    grid: CellGrid
    place: tuple[Path | None, Path | None]

    @property
    def label(self) -> str:
        """What was typed, and where its code comes from."""
        return " ".join([self.text, *(f"[{part}]" for part in self.place if part is not None)])


def check_place(side: str, python: Path | None, path: Path | None) -> None:
    """Refuse a file that is no interpreter, and a folder that is no checkout.

    Raises:
        UsageError: one sentence.

    """
    if python is not None and not python.is_file():
        raise UsageError(f"--{side}-python {python} does not exist; give a Python that has mlcv-bench installed")
    if python is not None and not os.access(python, os.X_OK):
        raise UsageError(f"--{side}-python {python} is no program; give a Python that has mlcv-bench installed")
    if path is not None and not (path / "mlcv_bench").is_dir():
        raise UsageError(f"--{side}-path {path} holds no mlcv_bench; give the root of a checkout")


def measure(sides: tuple[ComparedSide, ComparedSide], plan: ComparePlan, sink: Sink) -> Comparison:
    """Compare A, B and A again, each in a worker that is started anew for every session, and show what was found.

    What was seen until then is also shown where the comparison is cut off.

    Raises:
        UsageError: a side that cannot be run.
        TrialsFailedError: a worker ran out of memory, or crashed.

    """
    import contextlib

    from mlcv_bench.execution.forks import starters
    from mlcv_bench.execution.progress import Progress
    from mlcv_bench.report.comparisons import ab_report
    from mlcv_bench.timing.compare import compare
    from mlcv_bench.timing.exact import exact_differences
    from mlcv_bench.timing.study import reason_of
    from mlcv_bench.timing.worker import MODULE, WorkerError, WorkerRefusalError, start_workers

    base, head = (cell for side in sides for cell in side.grid.cells(plan.seed))
    cells = [base, head, base]
    places = [sides[0].place, sides[1].place, sides[0].place]
    plan = replace(plan, on_cpu_time=base.one_thread and head.one_thread)
    looks: list[Comparison] = []
    details: dict[str, Any] = {"cells": [cell.as_dict() for cell in cells]}

    def show(ended: str = "") -> None:
        unfinished = f"{ended} after {looks[-1].seconds:.0f} of {plan.seconds:g} s" if ended else ""
        sink.emit(ab_report(sides[0].label, sides[1].label, looks[-1], details, unfinished=unfinished))

    def look(found: Comparison) -> None:
        looks.append(found)
        text = f"look {found.looks}: {found.ratio.middle:.4f} ({found.ratio.low:.4f} .. {found.ratio.high:.4f})"
        progress.show(f"{text}, {found.verdict}")

    @contextlib.contextmanager
    def open_sides() -> Iterator[Sides]:
        with contextlib.ExitStack() as stack:
            workers.warm()
            opened = start_workers(cells, workers.connects, stack)
            details["facts"] = [one.as_dict() for _, one in opened]
            details["workers"] = [side.hello for side, _ in opened]
            if "exact" not in details:
                details["exact"] = exact_differences(*(opened[i][0].exact_figures(cells[i]) for i in (0, 1)))
                progress.show(" ".join(details["exact"]))
            yield opened[0][0], opened[1][0], opened[2][0]

    ended = ""
    try:
        with (
            Progress(quiet=sink.quiet) as progress,
            starters(MODULE, [cell.wait_policy for cell in cells], places) as workers,
        ):
            return compare(open_sides, plan, on_look=look)
    except WorkerRefusalError as error:
        ended = "a worker failed"
        raise UsageError(f"{NAMES[error.worker]} cannot be run: {error}; try it with `time`") from error
    except WorkerError as error:
        ended = "a worker failed"
        reason = reason_of(error, cells[error.worker]).removeprefix("WorkerError: ")
        raise TrialsFailedError(f"{NAMES[error.worker]} failed: {reason}") from error
    except KeyboardInterrupt:
        ended = "interrupted"
        raise
    finally:
        if looks:
            show(ended)


def parse_side(text: str) -> CellGrid:
    """Read one side, "resnet50 --batch 8 --memory-format channels_last", as `time` reads it: one cell.

    Raises:
        UsageError: what `time` refuses, more than one cell, or an option that is none of a cell.

    """
    from mlcv_bench.cli.app import parse

    try:
        asked = parse(["time", *shlex.split(text)])
    except ValueError as error:
        raise UsageError(f"'{text}': {str(error).lower()} (a side is one name with options of `time`)") from error
    except UsageError as error:
        raise UsageError(f"'{text}': {error} (a side is one name with options of `time`)") from error
    request: TimeRequest = asked.request
    grid = replace(request.grid, device=request.grid.device or ("cpu",), threads=request.grid.threads or (1,))
    if (request, asked.sink) != (TimeRequest(request.grid), Sink()):
        raise UsageError(f"'{text}' says how to measure or where to save, which `ab` decides; a side is one cell")
    if grid.throughput:
        raise UsageError(f"'{text}' asks for --throughput, which `ab` does not compare: it compares calls one by one")
    for setting in fields(grid):
        value = getattr(grid, setting.name)
        if isinstance(value, tuple) and len(value) > 1:
            raise UsageError(f"'{text}' gives {setting.name} several values; a side is one cell")
    if len(grid.networks.shapes) > 1:
        raise UsageError(f"'{text}' gives input several values; a side is one cell")
    if len(members := expand(grid.networks.names)) > 1:
        raise UsageError(f"'{text}' names {len(members)} architectures; name one")
    if grid.weights is not None:
        grid = replace(grid, weights=grid.weights.resolve())
    return grid
