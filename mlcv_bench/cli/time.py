"""`mlcv-bench time`: how long a pass of each network takes, measured so that the figure can be trusted."""

from __future__ import annotations

import contextlib
import itertools
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlcv_bench.architectures.request import check_weights, resolve
from mlcv_bench.cli.options import (
    DEVICES,
    Format,
    Input,
    Names,
    Output,
    Quiet,
    Settings,
    check_device,
    parse_shape,
)
from mlcv_bench.errors import ExitCode, MissingExtraError, UsageError
from mlcv_bench.names import near_misses, parse_settings
from mlcv_bench.timing.cells import DTYPES, MEMORY_FORMATS, PASSES, RUNTIMES, Cell

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlcv_bench.architectures.request import Request
    from mlcv_bench.timing.roofline import Peaks
    from mlcv_bench.timing.sampling import Plan
    from mlcv_bench.timing.study import Timing

Many = list[str] | None
Device = Annotated[Many, typer.Option("--device", help="cpu, cuda, cuda:1, mps or auto. Repeatable, or with commas.")]
Batches = Annotated[Many, typer.Option("--batch", help="Images in a batch, 1 by default. Repeatable, or with commas.")]
Dtype = Annotated[Many, typer.Option("--dtype", help=f"{', '.join(DTYPES)}. Repeatable, or with commas.")]
Threads = Annotated[Many, typer.Option("--threads", help="Threads; by default the physical cores usable. Repeatable.")]
MemoryFormat = Annotated[Many, typer.Option("--memory-format", help=f"{', '.join(MEMORY_FORMATS)}. Repeatable.")]
Runtime = Annotated[Many, typer.Option("--runtime", help=f"{', '.join(RUNTIMES)}. Repeatable.")]
Passes = Annotated[Many, typer.Option("--pass", help=f"{', '.join(PASSES)}. Repeatable.")]
Fold = Annotated[bool, typer.Option("--fold-batch-norm", help="Fold batch norms into the convolutions before them.")]
Weights = Annotated[Path | None, typer.Option("--weights", help="A state dict (.pt, .safetensors) for every name.")]
Precision = Annotated[str, typer.Option("--precision", help="Stop a cell when its interval is this narrow, as ±2%.")]
Seconds = Annotated[float, typer.Option("--seconds", min=0.1, help="Time for each cell, its warm-up included.")]
Isolate = Annotated[bool, typer.Option("--isolate", help="Run every cell in a process of its own.")]
StorePath = Annotated[Path | None, typer.Option("--store", help="Write every block here at once, as JSON lines.")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue the --store where it was cut off.")]
Roofline = Annotated[bool, typer.Option("--roofline", help="Measure this machine's peaks and compare with them.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="List the cells and how long they will take; measure nothing.")]
Strict = Annotated[bool, typer.Option("--strict", help="Exit with 3 when a row is contended or wider than asked.")]
Seed = Annotated[int, typer.Option("--seed", help="Seeds weights, images and the order of turns.")]


def time(
    names: Names,
    *,
    device: Device = None,
    batch: Batches = None,
    dtype: Dtype = None,
    threads: Threads = None,
    memory_format: MemoryFormat = None,
    runtime: Runtime = None,
    passes: Passes = None,
    fold_batch_norm: Fold = False,
    shape: Input = None,
    settings: Settings = None,
    weights: Weights = None,
    precision: Precision = "2%",
    seconds: Seconds = 10.0,
    isolate: Isolate = False,
    store: StorePath = None,
    resume: Resume = False,
    roofline: Roofline = False,
    dry_run: DryRun = False,
    strict: Strict = False,
    seed: Seed = 0,
    form: Format = "table",
    output: Output = None,
    quiet: Quiet = False,
) -> int:
    """Time forward passes so that the figure can be trusted, also on a busy machine."""
    from mlcv_bench.report.files import PICTURE_SUFFIXES, check_outputs
    from mlcv_bench.timing import openmp

    check_outputs(output or [], pictures=[suffix for suffix in PICTURE_SUFFIXES if suffix != ".gif"])
    requests = resolve(
        names,
        settings=parse_settings(settings or []),
        input=parse_shape(shape) if shape is not None else None,
    )
    width = parse_share(precision)
    check_paths(weights, store, resume=resume)
    if store is not None and store.resolve() in {path.resolve() for path in output or []}:
        raise UsageError(f"-o and --store both name {store}; keep the store in a file of its own")
    grid: dict[str, list[Any]] = {
        "device": devices(device),
        "runtime": chosen("--runtime", runtime, RUNTIMES, "eager"),
        "dtype": chosen("--dtype", dtype, DTYPES, "float32"),
        "memory_format": chosen("--memory-format", memory_format, MEMORY_FORMATS, "contiguous"),
        "batch": numbers("--batch", batch, 1),
        "threads": numbers("--threads", threads, usual_threads()),
        "direction": chosen("--pass", passes, PASSES, "forward"),
    }
    if "onnx" in grid["runtime"]:
        require_onnx()
    openmp.settle()
    from mlcv_bench.timing.devices import resolve_device

    grid["device"] = list(dict.fromkeys(resolve_device(name) for name in grid["device"]))
    fixed = {"fold_batch_norm": fold_batch_norm, "weights": str(weights) if weights else None, "seed": seed}
    cells = cells_of(requests, grid, fixed)
    from mlcv_bench.timing.sampling import Plan

    if not math.isfinite(seconds):
        raise UsageError(f"--seconds takes a finite number, not {seconds:g}; for example --seconds 30")
    plan = Plan(seconds=seconds, precision=width, seed=seed)
    return measure(
        cells,
        plan,
        isolate=isolate,
        store=store,
        resume=resume,
        roofline=roofline,
        dry_run=dry_run,
        strict=strict,
        show={"form": form, "outputs": output or [], "quiet": quiet},
    )


def measure(
    cells: Sequence[Cell],
    plan: Plan,
    *,
    isolate: bool,
    store: Path | None,
    resume: bool,
    roofline: bool,
    dry_run: bool,
    strict: bool,
    show: dict[str, Any],
) -> int:
    """Count, time and report the cells; returns the exit code."""
    from mlcv_bench.execution.progress import Progress
    from mlcv_bench.execution.store import Store
    from mlcv_bench.execution.timings import Commentary, StoreJournal, fits_in_memory, open_here, open_isolated, recall
    from mlcv_bench.report import emit
    from mlcv_bench.report.plots.timings import draw
    from mlcv_bench.report.timings import dry_report, inconclusive, timing_report
    from mlcv_bench.timing.machine import describe
    from mlcv_bench.timing.study import Journal, Timing, time_cells
    from mlcv_bench.timing.work import work_of

    timings = [Timing(cell, work_of(cell), plan) for cell in cells]
    with contextlib.ExitStack() as stack:
        journals: list[Journal] = []
        if store is not None and (resume or not dry_run):
            opened = stack.enter_context(Store(store, "time", resume=resume))
            recall(opened, timings)
            journals.append(StoreJournal(opened))
        waiting = sum(not timing.finished for timing in timings)
        if dry_run:
            emit(dry_report(timings, plan), show["form"], show["outputs"], quiet=show["quiet"])
            return ExitCode.DONE
        peaks = measured_peaks(cells) if roofline else []
        progress = stack.enter_context(Progress(waiting, quiet=show["quiet"]))
        journals.append(Commentary(waiting, plan.seconds, progress.show))
        interrupted = False
        try:
            time_cells(
                timings,
                plan,
                open_cell=open_isolated if isolate else open_here,
                journals=journals,
                fits=fits_in_memory([cell.device for cell in cells]),
            )
        except KeyboardInterrupt:
            interrupted = True
            mark_interrupted(timings)
    report = timing_report(timings, plan, peaks=peaks, machine=describe(cells[0].device))
    emit(report, show["form"], show["outputs"], draw=draw, quiet=show["quiet"])
    if interrupted:
        return ExitCode.INTERRUPTED
    if any(timing.status == "failed" for timing in timings):
        return ExitCode.TRIALS_FAILED
    if all(timing.status == "skipped" for timing in timings):
        raise UsageError(f"nothing was timed: {timings[0].reason}")
    return ExitCode.INCONCLUSIVE if strict and inconclusive(timings, plan) else ExitCode.DONE


def mark_interrupted(timings: Sequence[Timing]) -> None:
    """Say of every cell that was not finished why it has no figure."""
    for timing in timings:
        if not timing.finished:
            timing.status, timing.reason = "skipped", f"interrupted after {len(timing.sampling.blocks)} blocks"


def measured_peaks(cells: Sequence[Cell]) -> list[Peaks]:
    """Measure the peaks of every device, type and thread count that the cells use."""
    from mlcv_bench.timing.roofline import measure_peaks

    keys = dict.fromkeys((cell.device, cell.dtype, cell.threads) for cell in cells)
    return [peaks for key in keys for peaks in measure_peaks(*key)]


def cells_of(requests: Sequence[Request], grid: dict[str, list[Any]], fixed: dict[str, Any]) -> list[Cell]:
    """Return every combination once, networks outermost."""
    cells = [
        Cell(
            request.name,
            request.input,
            settings=request.options,
            **dict(zip(grid, values, strict=True)),
            **fixed,
        )
        for request in requests
        for values in itertools.product(*grid.values())
    ]
    return list(dict.fromkeys(cells))


def listed(option: str, texts: Many, default: str) -> list[str]:
    """Split what was given repeatedly or with commas.

    Raises:
        UsageError: nothing stands before, between or after the commas.

    """
    parts = [part.strip() for text in texts or [default] for part in text.split(",")]
    if not all(parts):
        raise UsageError(f"{option} '{','.join(texts or [])}' leaves a value out; give one on each side of a comma")
    return list(dict.fromkeys(parts))


def chosen(option: str, texts: Many, known: Sequence[str], default: str) -> list[str]:
    """Return the values of an option that knows only some.

    Raises:
        UsageError: another value; the message says which there are.

    """
    values = listed(option, texts, default)
    for value in values:
        if value not in known:
            close = near_misses(value, known)
            hint = f"did you mean {close[0]}?" if close else f"choose from {', '.join(known)}"
            raise UsageError(f"{option} has no {value}; {hint}")
    return values


def devices(texts: Many) -> list[str]:
    """Return the devices asked for; whether they are here is known once torch is loaded."""
    values = listed("--device", texts, "auto")
    for value in values:
        check_device(value, ("auto", *DEVICES))
    return values


def numbers(option: str, texts: Many, default: int) -> list[int]:
    """Return an option's whole numbers, each at least 1."""
    values = listed(option, texts, str(default))
    for value in values:
        if not (value.isascii() and value.isdigit() and int(value) > 0):
            raise UsageError(f"{option} takes whole numbers from 1, not '{value}'; for example {option} 1,8")
    return [int(value) for value in values]


def parse_share(text: str) -> float:
    """Read 2% or 0.02 as a share above 0 and below 1."""
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = 0.0
    if not 0 < share < 1:
        raise UsageError(f"'{text}' is no share between 0% and 100%; write 2% or 0.02")
    return share


def check_paths(weights: Path | None, store: Path | None, *, resume: bool) -> None:
    """Refuse files that are not there, before anything is built."""
    if weights is not None:
        check_weights(weights)
    if resume and store is None:
        raise UsageError("--resume continues a store; add --store PATH")
    if store is not None and not store.parent.is_dir():
        raise UsageError(f"--store {store}: the folder {store.parent} does not exist; create it or choose another")
    if store is not None and not resume and store.is_file() and store.stat().st_size:
        raise UsageError(f"--store {store} exists already; add --resume to continue it, or choose another")


def require_onnx() -> None:
    """Refuse --runtime onnx where its packages are missing."""
    from importlib.util import find_spec

    if any(find_spec(package) is None for package in ("onnx", "onnxruntime", "onnxscript")):
        raise MissingExtraError("--runtime onnx", "onnx")


def usual_threads() -> int:
    """Return the default number of threads."""
    from mlcv_bench.timing.cores import physical_cores

    return physical_cores()
