"""`mlcv-bench ab`: B against A in one run, alternately, with a margin from A against itself."""

from __future__ import annotations

import math
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from mlcv_bench.cli.options import Format, Output, Quiet
from mlcv_bench.errors import ExitCode, TrialsFailedError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlcv_bench.timing.cells import Cell
    from mlcv_bench.timing.compare import ComparePlan, Comparison, Sides

SIDES = ("A", "B", "A again")
Side = Annotated[
    str,
    typer.Argument(
        help='A name with options of `time`: "resnet50 --batch 8"; CPU and one thread by default.', show_default=False
    ),
]
OtherSide = Annotated[
    str | None, typer.Argument(help="What to hold against it; A again by default, with other pythons.")
]
BasePython = Annotated[Path | None, typer.Option("--base-python", help="The interpreter that runs A.")]
HeadPython = Annotated[Path | None, typer.Option("--head-python", help="The interpreter that runs B.")]
BasePath = Annotated[Path | None, typer.Option("--base-path", help="The checkout whose mlcv_bench runs A.")]
HeadPath = Annotated[Path | None, typer.Option("--head-path", help="The checkout whose mlcv_bench runs B.")]
Seconds = Annotated[
    float, typer.Option("--seconds", min=1, help="Timed seconds of all sides; starting them comes on top.")
]
Margin = Annotated[str, typer.Option("--margin", help="What B may differ by, 1% or more; A against A may widen it.")]
Strict = Annotated[bool, typer.Option("--strict", help="Exit with 3 when nothing can be decided.")]
Seed = Annotated[int, typer.Option("--seed", help="Seeds weights, images and the order of turns.")]


def ab(
    base: Side,
    head: OtherSide = None,
    *,
    base_python: BasePython = None,
    head_python: HeadPython = None,
    base_path: BasePath = None,
    head_path: HeadPath = None,
    seconds: Seconds = 30.0,
    margin: Margin = "1%",
    strict: Strict = False,
    seed: Seed = 0,
    form: Format = "table",
    output: Output = None,
    quiet: Quiet = False,
) -> int:
    """Compare two networks, settings or versions alternately: faster, slower, same or inconclusive.

    With one thread, time spent waiting for a core is left out, unless a side sleeps or waits for something else.
    """
    from mlcv_bench.report import check_outputs, emit

    check_outputs(output or [])
    check_places(head, (base_python, head_python), (base_path, head_path))
    from mlcv_bench.timing.compare import ComparePlan

    cells = sides_of(base, head, seed)
    one_thread = all(cell.one_thread for cell in cells)
    if not math.isfinite(seconds):
        raise UsageError(f"--seconds takes a finite number, not {seconds:g}; for example --seconds 30")
    plan = ComparePlan(seconds=seconds, margin=parse_margin(margin), on_cpu_time=one_thread, seed=seed)
    places = [(base_python, base_path), (head_python, head_path), (base_python, base_path)]
    names = shown(base, places[0]), shown(head or base, places[1])
    from mlcv_bench.report.comparisons import ab_report

    looks: list[Comparison] = []
    details: dict[str, Any] = {"cells": [cell.as_dict() for cell in cells]}

    def show(ended: str = "") -> None:
        unfinished = f"{ended} after look {looks[-1].looks} of {len(plan.looks)}" if ended else ""
        emit(ab_report(*names, looks[-1], details, unfinished=unfinished), form, output or [], quiet=quiet)

    try:
        found = compare_in_workers(cells, places, plan, looks=looks, details=details, quiet=quiet)
    except (KeyboardInterrupt, TrialsFailedError) as error:
        if looks:
            show("interrupted" if isinstance(error, KeyboardInterrupt) else "a worker failed")
        raise
    show()
    if found.verdict == "slower":
        return ExitCode.CHECK_FAILED
    return ExitCode.INCONCLUSIVE if strict and found.verdict == "inconclusive" else ExitCode.DONE


def check_places(
    head: str | None, pythons: tuple[Path | None, Path | None], paths: tuple[Path | None, Path | None]
) -> None:
    """Refuse interpreters and checkouts that are none, and a comparison of a side with itself.

    Raises:
        UsageError: as said.

    """
    if head is None and not any((*pythons, *paths)):
        raise UsageError('B is missing; name it, as `mlcv-bench ab resnet50 "resnet50 --memory-format channels_last"`')
    for side, python in zip(("base", "head"), pythons, strict=True):
        if python is not None and not python.is_file():
            raise UsageError(f"--{side}-python {python} does not exist; give a Python that has mlcv-bench installed")
        if python is not None and not os.access(python, os.X_OK):
            raise UsageError(f"--{side}-python {python} is no program; give a Python that has mlcv-bench installed")
    for side, path in zip(("base", "head"), paths, strict=True):
        if path is not None and not (path / "mlcv_bench").is_dir():
            raise UsageError(f"--{side}-path {path} holds no mlcv_bench; give the root of a checkout")


def parse_margin(text: str) -> float:
    """Read --margin, a share of 1% or more.

    Raises:
        UsageError: no such share.

    """
    from mlcv_bench.cli.time import parse_share
    from mlcv_bench.timing.compare import ComparePlan

    return ComparePlan(margin=parse_share(text)).margin


def sides_of(base: str, head: str | None, seed: int) -> list[Cell]:
    """Read A, B, and A again as cells.

    Raises:
        UsageError: a side that cannot be, or two that no ratio compares.

    """
    cells = [parse_cell(base, seed), parse_cell(head if head is not None else base, seed)]
    if cells[0].batch != cells[1].batch:
        raise UsageError("A and B have different batches, which no ratio can make alike; give both the same --batch")
    return [*cells, cells[0]]


def compare_in_workers(
    cells: list[Cell],
    places: list[tuple[Path | None, Path | None]],
    plan: ComparePlan,
    *,
    looks: list[Comparison],
    details: dict[str, Any],
    quiet: bool,
) -> Comparison:
    """Compare A, B and A again, each in a worker that is started anew for every session.

    Args:
        cells: what each side runs.
        places: the interpreter and the checkout of each; None is this one.
        plan: how long, and what counts as a difference.
        looks: gets what every look at the evidence found, which outlasts an error.
        details: gets what the workers said of themselves and their networks.
        quiet: show no progress.

    Raises:
        UsageError: a side that cannot be run.
        TrialsFailedError: a worker ran out of memory, or crashed.

    """
    import contextlib

    from mlcv_bench.execution.progress import Progress
    from mlcv_bench.timing.compare import compare
    from mlcv_bench.timing.isolation import WorkerError, WorkerRefusalError, start_workers
    from mlcv_bench.timing.study import reason_of

    def look(found: Comparison) -> None:
        looks.append(found)
        text = f"look {found.looks}: {found.ratio.middle:.4f} ({found.ratio.low:.4f} .. {found.ratio.high:.4f})"
        progress.show(f"{text}, {found.verdict}", found.looks)

    @contextlib.contextmanager
    def open_sides() -> Iterator[Sides]:
        with contextlib.ExitStack() as stack:
            sides = start_workers(cells, places, stack)
            details["facts"] = [one.as_dict() for _, one in sides]
            details["workers"] = [side.hello for side, _ in sides]
            yield sides[0][0], sides[1][0], sides[2][0]

    progress = Progress(len(plan.looks), quiet=quiet)
    try:
        return compare(open_sides, plan, on_look=look)
    except WorkerRefusalError as error:
        raise UsageError(f"{SIDES[error.worker]} cannot be run: {error}; try it with `time`") from error
    except WorkerError as error:
        reason = reason_of(error, cells[error.worker]).removeprefix("WorkerError: ")
        raise TrialsFailedError(f"{SIDES[error.worker]} failed: {reason}") from error
    finally:
        progress.close()


def shown(text: str, place: tuple[Path | None, Path | None]) -> str:
    """Name a side, with where its code comes from if that was said."""
    return " ".join([text, *(f"[{part}]" for part in place if part is not None)])


def parse_cell(text: str, seed: int) -> Cell:
    """Read one side, "resnet50 --batch 8 --memory-format channels_last", as a cell.

    Raises:
        UsageError: an unknown name or option, or more than one value for an option.

    """
    import argparse

    from mlcv_bench.architectures.request import resolve
    from mlcv_bench.cli.options import parse_shape
    from mlcv_bench.cli.time import check_paths, chosen, devices, numbers, require_onnx
    from mlcv_bench.names import parse_settings
    from mlcv_bench.timing.cells import DTYPES, MEMORY_FORMATS, PASSES, RUNTIMES, Cell

    class Parser(argparse.ArgumentParser):
        def error(self, message: str) -> NoReturn:
            raise UsageError(f"'{text}': {message}; a side is one name with options of `time`")

    parser = Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("name")
    for option in ("device", "batch", "dtype", "threads", "memory-format", "runtime", "pass", "input", "weights"):
        parser.add_argument(f"--{option}")
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--fold-batch-norm", action="store_true")
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UsageError(f"'{text}': {str(error).lower()}; a side is one name with options of `time`") from error
    said = vars(parser.parse_args(words))
    requests = resolve(
        [said["name"]],
        settings=parse_settings(said["set"]),
        input=parse_shape(said["input"]) if said["input"] else None,
    )
    if len(requests) != 1:
        raise UsageError(f"'{said['name']}' stands for {len(requests)} architectures; name one")
    weights = Path(said["weights"]) if said["weights"] else None
    check_paths(weights, None, resume=False)

    def many(key: str) -> list[str] | None:
        return [said[key]] if said[key] is not None else None

    values: dict[str, list[Any]] = {
        "device": devices(many("device") or ["cpu"]),
        "runtime": chosen("--runtime", many("runtime"), RUNTIMES, "eager"),
        "dtype": chosen("--dtype", many("dtype"), DTYPES, "float32"),
        "memory_format": chosen("--memory-format", many("memory_format"), MEMORY_FORMATS, "contiguous"),
        "batch": numbers("--batch", many("batch"), 1),
        "threads": numbers("--threads", many("threads"), 1),
        "direction": chosen("--pass", many("pass"), PASSES, "forward"),
    }
    if crowded := [name for name, found in values.items() if len(found) > 1]:
        raise UsageError(f"'{text}' gives {crowded[0]} several values; a side is one cell")
    if values["runtime"] == ["onnx"]:
        require_onnx()
    if values["device"] != ["cpu"]:
        from mlcv_bench.timing.devices import resolve_device

        values["device"] = [resolve_device(values["device"][0])]
    return Cell(
        requests[0].name,
        requests[0].input,
        settings=requests[0].options,
        fold_batch_norm=said["fold_batch_norm"],
        weights=str(weights.resolve()) if weights else None,
        seed=seed,
        **{name: found[0] for name, found in values.items()},
    )
