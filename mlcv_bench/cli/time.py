"""`mlcv-bench time`: how long a pass of each network takes, and `env`: what that depends on here."""

from __future__ import annotations

import contextlib
import functools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlcv_bench.cli.options import (
    PICTURES,
    Asked,
    Assets,
    FontSize,
    Format,
    Inputs,
    Names,
    Output,
    PictureSize,
    Quiet,
    Resume,
    Settings,
    Sink,
    StorePath,
    ThemeOption,
    TurnSeed,
    listed,
    look_of,
    networks,
    numbers,
    parse_share,
    parse_time,
)
from mlcv_bench.errors import ExitCode, UsageError
from mlcv_bench.execution.store import check_store
from mlcv_bench.interruption import postponed
from mlcv_bench.names import DEVICES, spelled
from mlcv_bench.records import counted
from mlcv_bench.report.look import LETTERS
from mlcv_bench.statistics import fewest_for_percentile
from mlcv_bench.timing.machine import WAIT_POLICIES, set_wait_policy
from mlcv_bench.timing.request import (
    COMPILE_MODES,
    DTYPES,
    MEMORY_FORMATS,
    PASSES,
    RUNTIMES,
    TF32,
    Cell,
    CellGrid,
    TimeRequest,
    cost_of,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlcv_bench.timing.machine import Peaks
    from mlcv_bench.timing.sampling import Plan
    from mlcv_bench.timing.study import Timing


Many = list[str] | None
Device = Annotated[
    Many, typer.Option("--device", help="cpu, cuda, cuda:1, xpu, mps or auto. Repeatable, or with commas.")
]
Batches = Annotated[Many, typer.Option("--batch", help="Images in a batch, 1 by default. Repeatable, or with commas.")]
Dtype = Annotated[Many, typer.Option("--dtype", help=f"{', '.join(DTYPES)}. Repeatable, or with commas.")]
Threads = Annotated[Many, typer.Option("--threads", help="Threads; by default the physical cores usable. Repeatable.")]
MemoryFormat = Annotated[Many, typer.Option("--memory-format", help=f"{', '.join(MEMORY_FORMATS)}. Repeatable.")]
Runtime = Annotated[Many, typer.Option("--runtime", help=f"{', '.join(RUNTIMES)}. Repeatable.")]
Passes = Annotated[Many, typer.Option("--pass", help=f"{', '.join(PASSES)}. Repeatable.")]
Fold = Annotated[bool, typer.Option("--fold-batch-norm", help="Fold batch norms into the convolutions before them.")]
WaitPolicy = Annotated[
    str, typer.Option("--wait-policy", help=f"How threads wait for each other: {', '.join(WAIT_POLICIES)}.")
]
CompileMode = Annotated[
    Many, typer.Option("--compile-mode", help=f"For --runtime compile: {', '.join(COMPILE_MODES)}. Repeatable.")
]
Tf32 = Annotated[
    Many, typer.Option("--tf32", help=f"TF32 in float32 on CUDA: {', '.join(TF32)}, torch's switches. Repeatable.")
]
CudnnBenchmark = Annotated[
    bool, typer.Option("--cudnn-benchmark", help="Let cuDNN try its algorithms first and take the fastest.")
]
Deterministic = Annotated[bool, typer.Option("--deterministic", help="Let torch use deterministic algorithms alone.")]
Throughput = Annotated[
    bool, typer.Option("--throughput", help="Also time calls without a wait between them: throughput_images_per_s.")
]
ColdCache = Annotated[
    bool, typer.Option("--cold-cache", help="Overwrite the last-level cache before every timed call.")
]
Weights = Annotated[Path | None, typer.Option("--weights", help="A state dict (.pt, .safetensors) for every name.")]
Precision = Annotated[str, typer.Option("--precision", help="Stop a cell when its interval is this narrow, as ±2%.")]
Seconds = Annotated[float, typer.Option("--seconds", min=0.1, help="Time for each cell, its warm-up included.")]
Isolate = Annotated[bool, typer.Option("--isolate", help="Run every cell in a process of its own.")]
Roofline = Annotated[bool, typer.Option("--roofline", help="Measure this machine's peaks and compare with them.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="List the cells and how long they will take; measure nothing.")]
LatencyBudget = Annotated[
    str | None, typer.Option("--latency-budget", help="Find the largest batch whose p95 stays below, such as 20ms.")
]
Strict = Annotated[bool, typer.Option("--strict", help="Exit with 3 when a row is contended or wider than asked.")]


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
    wait_policy: WaitPolicy = "default",
    inputs: Inputs = None,
    settings: Settings = None,
    weights: Weights = None,
    compile_mode: CompileMode = None,
    tf32: Tf32 = None,
    cudnn_benchmark: CudnnBenchmark = False,
    deterministic: Deterministic = False,
    precision: Precision = "2%",
    seconds: Seconds = 10.0,
    isolate: Isolate = False,
    store: StorePath = None,
    resume: Resume = False,
    roofline: Roofline = False,
    dry_run: DryRun = False,
    strict: Strict = False,
    latency_budget: LatencyBudget = None,
    throughput: Throughput = False,
    cold_cache: ColdCache = False,
    seed: TurnSeed = 0,
    form: Format = "table",
    output: Output = None,
    assets: Assets = None,
    theme: ThemeOption = "light",
    font_size: FontSize = LETTERS,
    picture_size: PictureSize = None,
    quiet: Quiet = False,
) -> Asked:
    """Time forward passes so that the figure can be trusted, also on a busy machine."""
    sink = Sink.of(form, output, quiet, PICTURES, look=look_of(theme, font_size, picture_size), assets=assets)
    grid = CellGrid(
        networks(names, settings, inputs),
        device=tuple(listed("--device", [text.casefold() for text in device or ()], known=("auto", *DEVICES))),
        runtime=tuple(listed("--runtime", runtime, RUNTIMES[0], RUNTIMES)),
        dtype=tuple(listed("--dtype", dtype, DTYPES[0], DTYPES)),
        memory_format=tuple(listed("--memory-format", memory_format, MEMORY_FORMATS[0], MEMORY_FORMATS)),
        batch=tuple(numbers("--batch", batch, 1)),
        threads=tuple(numbers("--threads", threads)),
        direction=tuple(listed("--pass", passes, PASSES[0], PASSES)),
        fold_batch_norm=fold_batch_norm,
        wait_policy=spelled(wait_policy, WAIT_POLICIES),
        weights=weights,
        compile_mode=tuple(listed("--compile-mode", compile_mode, COMPILE_MODES[0], COMPILE_MODES)),
        tf32=tuple(listed("--tf32", tf32, TF32[0], TF32)),
        cudnn_benchmark=cudnn_benchmark,
        deterministic=deterministic,
        throughput=throughput,
        cold_cache=cold_cache,
    )
    request = TimeRequest(
        grid,
        parse_share(precision),
        seconds,
        isolate,
        store,
        resume,
        roofline,
        dry_run,
        strict,
        seed,
        None if latency_budget is None else parse_time("--latency-budget", latency_budget),
    )
    request.check()
    check_store(store, sink.outputs, resume=resume)
    return Asked(request, sink, lambda: measure(request, sink))


def env(*, form: Format = "table", output: Output = None, assets: Assets = None, quiet: Quiet = False) -> Asked:
    """Show what decides a figure here: processor, quota, versions, BLAS, threads, GPU, flags."""
    sink = Sink.of(form, output, quiet, assets=assets)

    def run() -> None:
        from mlcv_bench.report.timings import machine_report
        from mlcv_bench.timing.devices import resolve_device
        from mlcv_bench.timing.machine import describe

        sink.emit(machine_report(describe(resolve_device("auto"))))

    return Asked(None, sink, run)


def measure(request: TimeRequest, sink: Sink) -> int:
    """Count, time and report the cells; returns the exit code."""
    set_wait_policy(request.grid.wait_policy)
    from mlcv_bench.execution.processes import PipeChannel
    from mlcv_bench.execution.progress import Progress
    from mlcv_bench.execution.store import Store
    from mlcv_bench.report.timings import dry_report, timing_report
    from mlcv_bench.timing.batches import search_batches
    from mlcv_bench.timing.devices import fits_in_memory
    from mlcv_bench.timing.forward import open_here
    from mlcv_bench.timing.machine import accelerators_in, describe
    from mlcv_bench.timing.sampling import Plan
    from mlcv_bench.timing.study import Commentary, Journal, StoreJournal, Timing, estimate_unloaded, recall, time_cells
    from mlcv_bench.timing.worker import MODULE, open_isolated

    cells = request.grid.cells(request.seed)
    budget_s = request.latency_budget_s
    calls = 0 if budget_s is None else fewest_for_percentile(0.95)
    plan = Plan(seconds=request.seconds, precision=request.precision, seed=request.seed, minimum_calls=calls)
    timings = [Timing(cell, cost_of(cell), plan) for cell in cells]
    machine = describe(cells[0].device)
    accelerator = accelerators_in({cell.device for cell in cells}, machine)
    with contextlib.ExitStack() as stack:
        journals: list[Journal] = []
        opened = None
        if request.store is not None and (request.resume or not request.dry_run):
            opened = stack.enter_context(Store(request.store, "time", resume=request.resume, device=accelerator))
            recall(opened, timings)
            journals.append(StoreJournal(opened))
        waiting = sum(not timing.finished for timing in timings)
        if request.dry_run:
            sink.emit(dry_report(timings, plan, budget_s))
            return ExitCode.DONE
        peaks = measured_peaks(cells) if request.roofline else []
        progress = stack.enter_context(Progress(waiting, quiet=sink.quiet))
        journals.append(Commentary(waiting, plan.seconds, progress.show))
        interrupted = False
        isolated = functools.partial(open_isolated, connect=functools.partial(PipeChannel, MODULE))
        time_all = functools.partial(
            time_cells,
            plan=plan,
            open_cell=isolated if request.isolate else open_here,
            journals=journals,
            fits=fits_in_memory([cell.device for cell in cells]),
        )

        try:
            time_all(timings)
            if budget_s is not None:
                search_batches(timings, budget_s, plan, time_all, known=opened)
            estimate_unloaded(timings, plan, isolated)
        except KeyboardInterrupt:
            if not any(timing.finished or timing.sampling.blocks for timing in timings):
                raise
            interrupted = True
            mark_interrupted(timings)
    with postponed():
        report = timing_report(timings, plan, peaks=peaks, machine=machine, latency_budget_s=budget_s)
        sink.emit(report, "timings:draw")
    return ExitCode.INTERRUPTED if interrupted else _exit_code(request, timings, plan)


def _exit_code(request: TimeRequest, timings: Sequence[Timing], plan: Plan) -> ExitCode:
    """Return what became of the cells as an exit code.

    Raises:
        UsageError: nothing that was asked for can be timed here.

    """
    from mlcv_bench.report.timings import inconclusive, undecided_budgets

    if any(timing.status == "failed" for timing in timings):
        return ExitCode.TRIALS_FAILED
    if all(timing.status == "skipped" for timing in timings):
        raise UsageError(f"nothing was timed: {timings[0].reason}")
    unanswered = request.latency_budget_s is not None and undecided_budgets(timings, request.latency_budget_s)
    if unanswered or (request.strict and inconclusive(timings, plan)):
        return ExitCode.INCONCLUSIVE
    return ExitCode.DONE


def mark_interrupted(timings: Sequence[Timing]) -> None:
    """Say of every cell that was not finished why it has no figure."""
    for timing in timings:
        if not timing.finished:
            finished = counted(len(timing.sampling.blocks), "block")
            timing.status, timing.reason = "skipped", f"interrupted after {finished}"


def measured_peaks(cells: Sequence[Cell]) -> list[Peaks]:
    """Measure the peaks of every device, type and thread count that the cells use."""
    from mlcv_bench.timing.machine import measure_peaks

    keys = dict.fromkeys((cell.device, cell.number, cell.threads, cell.tf32) for cell in cells)
    return [peaks for key in keys for peaks in measure_peaks(*key)]
