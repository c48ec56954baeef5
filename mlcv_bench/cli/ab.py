"""`mlcv-bench ab`: B against A in one run, alternately, with a margin from A against itself."""

from __future__ import annotations

import contextlib
import shlex
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlcv_bench.cli.options import Asked, Assets, Format, Output, Quiet, Sink, TurnSeed, parse_share
from mlcv_bench.errors import ExitCode, TrialsFailedError, UsageError
from mlcv_bench.records import counted
from mlcv_bench.timing.request import CellGrid, TimeRequest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlcv_bench.execution.forks import Starters
    from mlcv_bench.execution.places import Place
    from mlcv_bench.execution.progress import Progress
    from mlcv_bench.report.comparisons import Compared
    from mlcv_bench.timing.compare import ComparePlan, Comparison, Sides
    from mlcv_bench.timing.request import Cell

NAMES = ("A", "B", "A again")
Base = Annotated[
    str,
    typer.Argument(
        help='Names with options of `time`: "resnet50 --batch 8"; CPU and one thread by default.', show_default=False
    ),
]
Head = Annotated[
    str | None, typer.Argument(help="What to hold against it, cell by cell; A again by default, in another place.")
]
BasePython = Annotated[Path | None, typer.Option("--base-python", help="The interpreter that runs A.")]
HeadPython = Annotated[Path | None, typer.Option("--head-python", help="The interpreter that runs B.")]
BasePath = Annotated[Path | None, typer.Option("--base-path", help="The checkout whose code A is.")]
HeadPath = Annotated[Path | None, typer.Option("--head-path", help="The checkout whose code B is.")]
BaseRevision = Annotated[
    str | None, typer.Option("--base-rev", help="The revision of git whose code A is, such as origin/main.")
]
HeadRevision = Annotated[str | None, typer.Option("--head-rev", help="The revision of git whose code B is.")]
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
    base_rev: BaseRevision = None,
    head_rev: HeadRevision = None,
    seconds: Seconds = 30.0,
    margin: Margin = "2%",
    strict: Strict = False,
    seed: TurnSeed = 0,
    form: Format = "table",
    output: Output = None,
    assets: Assets = None,
    quiet: Quiet = False,
) -> Asked:
    """Compare two networks, settings or versions alternately: faster, slower, same or inconclusive.

    With one thread, time spent waiting for a core is left out, unless a side sleeps or waits for something else.
    """
    sink = Sink.of(form, output, quiet, assets=assets)
    from mlcv_bench.execution.places import Place

    places = Place(base_python, base_path, base_rev), Place(head_python, head_path, head_rev)
    if head is None and all(place.at_home for place in places):
        raise UsageError('B is missing; name it, as `mlcv-bench ab resnet50 "resnet50 --memory-format channels_last"`')
    for name, place in zip(("base", "head"), places, strict=True):
        place.check(name)
    from mlcv_bench.timing.compare import ComparePlan

    plan = ComparePlan(seconds=seconds, margin=parse_share(margin, whole=True), seed=seed)
    sides = (
        ComparedSide(base, parse_side(base), places[0]),
        ComparedSide(head or base, parse_side(head or base), places[1]),
    )
    counts = [side.grid.count() for side in sides]
    if counts[0] != counts[1]:
        has = f"A has {counted(counts[0], 'cell')} and B {counts[1]}"
        raise UsageError(f"{has}; give both the same number, to be paired in turn")
    if sides[0].grid.batch != sides[1].grid.batch:
        raise UsageError("A and B have different batches, which no ratio can make alike; give both the same --batch")

    def run() -> ExitCode:
        found = measure(sides, plan, sink)
        if any(one.verdict == "slower" for one in found):
            return ExitCode.CHECK_FAILED
        undecided = any(one.verdict == "inconclusive" for one in found)
        return ExitCode.INCONCLUSIVE if strict and undecided else ExitCode.DONE

    return Asked((sides, plan), sink, run)


@dataclass(frozen=True)
class ComparedSide:
    """What is compared: its cells, as typed and read, and where they run."""

    text: str
    grid: CellGrid
    place: Place

    def cells(self, seed: int) -> list[Cell]:
        """Return the cells; what a specification names is opened where it runs.

        Raises:
            UsageError: one is wrong here already.

        """
        return self.grid.cells(seed, elsewhere=not self.place.at_home)

    def label(self, cell: Cell, cells: list[Cell]) -> str:
        """Return what was typed, or of several the one cell, and where its code comes from."""
        text = self.text if len(cells) == 1 else cell.label(tuple(cells))
        return " ".join([text, *(f"[{part}]" for part in self.place.words)])


def measure(sides: tuple[ComparedSide, ComparedSide], plan: ComparePlan, sink: Sink) -> list[Comparison]:
    """Compare A, B and A again, each in a worker that is started anew for every session, and show what was found.

    Of several cells each is compared with its counterpart, in an equal share of the time. What was seen until then is
    also shown where a comparison is cut off.

    Raises:
        UsageError: a side that cannot be run, or that is the other one's very file.
        TrialsFailedError: a worker ran out of memory, or crashed.

    """
    from mlcv_bench.execution.forks import starters
    from mlcv_bench.execution.places import checked_out
    from mlcv_bench.execution.progress import Progress
    from mlcv_bench.report.comparisons import Compared, ab_report
    from mlcv_bench.report.files import own_prefix, remove_leftovers
    from mlcv_bench.timing.worker import MODULE

    base, head = (side.cells(plan.seed) for side in sides)
    triples = [(one, other, one) for one, other in zip(base, head, strict=True)]
    plan = replace(plan, seconds=plan.seconds / len(triples))
    policies = [cell.wait_policy for triple in triples for cell in triple]
    found: list[Compared] = []
    remove_leftovers(Path(tempfile.gettempdir()))
    try:
        with (
            Progress(quiet=sink.quiet) as progress,
            tempfile.TemporaryDirectory(prefix=own_prefix()) as folder,
            checked_out([side.place for side in sides], Path(folder)) as places,
            # The processes that fork import torch once for all cells.
            starters(MODULE, policies, [*places, places[0]] * len(triples)) as workers,
        ):
            for number, cells in enumerate(triples):
                labels = [side.label(cell, all_) for side, cell, all_ in zip(sides, cells, (base, head), strict=False)]
                found.append(Compared(labels[0], labels[1], cells[1].label(tuple(head))))
                own = replace(workers, connects=workers.connects[3 * number : 3 * number + 3])
                _compare(found[-1], cells, (places[0], places[1]), own, plan, progress)
                # A worktree of git is gone afterwards: its files are known by where they lie in the repository.
                found[-1].exact = [
                    one.below(place.path) if side.place.revision and place.path else one
                    for one, place, side in zip(found[-1].exact, places, sides, strict=True)
                ]
    finally:
        if any(one.comparison for one in found):
            sink.emit(ab_report(found))
    return [one.comparison for one in found if one.comparison]


def _compare(
    found: Compared,
    cells: tuple[Cell, Cell, Cell],
    places: tuple[Place, Place],
    workers: Starters,
    plan: ComparePlan,
    progress: Progress,
) -> None:
    """Compare one pair of cells; every look is kept in `found`, and how it ended where that was too early."""
    from mlcv_bench.timing.compare import compare
    from mlcv_bench.timing.exact import exact_differences
    from mlcv_bench.timing.study import reason_of
    from mlcv_bench.timing.worker import WorkerError, WorkerRefusalError, start_workers

    plan = replace(plan, on_cpu_time=all(cell.one_thread for cell in cells))
    found.details["cells"] = [cell.as_dict() for cell in cells]

    def look(comparison: Comparison) -> None:
        found.comparison = comparison
        ratio = comparison.ratio
        text = f"look {comparison.looks}: {ratio.middle:.4f} ({ratio.low:.4f} .. {ratio.high:.4f})"
        progress.show(f"{text}, {comparison.verdict}")

    @contextlib.contextmanager
    def open_sides() -> Iterator[Sides]:
        with contextlib.ExitStack() as stack:
            workers.warm()
            opened = start_workers(cells, workers.connects, stack)
            found.details["facts"] = [one.as_dict() for _, one in opened]
            found.details["workers"] = [side.hello for side, _ in opened]
            if not found.exact:
                found.exact = tuple(
                    side.exact_figures(place.tree) for (side, _), place in zip(opened, places, strict=False)
                )
                refuse_same(cells[:2], places, found)
                found.details["exact"] = exact_differences(*found.exact)
                progress.show(" ".join(found.details["exact"]))
            yield opened[0][0], opened[1][0], opened[2][0]

    ended = ""
    try:
        compare(open_sides, plan, on_look=look)
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
        if ended and found.comparison:
            found.unfinished = f"{ended} after {found.comparison.seconds:.0f} of {plan.seconds:g} s"


def refuse_same(pair: tuple[Cell, Cell], places: tuple[Place, Place], found: Compared) -> None:
    """Refuse two places that turn out to be one: the same file of the model by the same versions.

    Raises:
        UsageError: it names the file.

    """
    sources = [one.source for one in found.exact]
    if pair[0] != pair[1] or all(place.at_home for place in places) or sources[0] != sources[1] or None in sources:
        return
    base, head, _ = found.details["workers"]
    if base == head:
        raise UsageError(
            f"A and B are both {sources[0]}, run by the same versions, so that they cannot differ; give each side the "
            "checkout that it is of: --base-path, or --base-rev"
        )


def parse_side(text: str) -> CellGrid:
    """Read one side, "resnet50 --batch 8 --memory-format channels_last", as `time` reads it.

    Raises:
        UsageError: what `time` refuses, or an option that is none of a cell.

    """
    from mlcv_bench.cli.app import parse

    try:
        asked = parse(["time", *shlex.split(text)])
    except ValueError as error:
        raise UsageError(f"'{text}': {str(error).lower()} (a side is names with options of `time`)") from error
    except UsageError as error:
        raise UsageError(f"'{text}': {error} (a side is names with options of `time`)") from error
    request: TimeRequest = asked.request
    grid = replace(request.grid, device=request.grid.device or ("cpu",), threads=request.grid.threads or (1,))
    if (request, asked.sink) != (TimeRequest(request.grid), Sink()):
        raise UsageError(f"'{text}' says how to measure or where to save, which `ab` decides; a side is cells")
    if grid.throughput:
        raise UsageError(f"'{text}' asks for --throughput, which `ab` does not compare: it compares calls one by one")
    if grid.weights is not None:
        grid = replace(grid, weights=grid.weights.resolve())
    return grid
