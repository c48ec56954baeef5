"""The study behind `time`: cells prepared in groups that fit in memory, sampled together, each ending as one record."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, get_args

from mlcv_bench.errors import BenchError, UsageError
from mlcv_bench.statistics import median_if_known, median_interval, percentile_interval
from mlcv_bench.timing.blocks import Block, WarmUp, Workload, median_call
from mlcv_bench.timing.clock import Basis
from mlcv_bench.timing.request import CELL_COLUMNS, Cell, CellCost, Facts
from mlcv_bench.timing.sampling import Plan, Sampler, Sampling
from mlcv_bench.trials import Status, outcome_after

SETTINGS = CELL_COLUMNS[: CELL_COLUMNS.index("fold_batch_norm") + 1]
"""The settings that stand before the figures."""
LATEST = CELL_COLUMNS[CELL_COLUMNS.index("throughput") :]
"""The settings that came after the other columns, and stand behind them."""
COLUMNS = (
    *SETTINGS,
    *("median_s", "ci_low_s", "ci_high_s", "min_s", "p90_s", "images_per_s", "gflops_per_s", "peak_bytes"),
    *("blocks", "samples", "contention", "status", "reason"),
)
FACTS = (
    *("first_call_s", "compile_s", "graph_breaks", "max_abs_error", "max_rel_error", "tolerance"),
    *("reserved_bytes", "resident_bytes"),
)
"""What of preparing a cell is a column under its own name."""

CLOCKS: tuple[Basis, ...] = get_args(Basis)
BY_EACH_CLOCK = tuple(f"{clock}_{name}" for clock in CLOCKS for name in ("median_s", "ci_low_s", "ci_high_s"))
"""A row's figure by the wall clock, and by the processor's where the cell has one, whichever its `basis` is."""

PERCENTILES = {"p50": 0.50, "p90": 0.90, "p95": 0.95, "p99": 0.99}
PERCENTILE_BOUNDS = tuple(f"{name}_{end}_s" for name in PERCENTILES for end in ("low", "high"))
"""Ends of the percentiles' intervals at 95%."""

CPU_MEMORY = "DefaultCPUAllocator: can't allocate memory"
"""What torch's plain RuntimeError says when the processor's memory does not suffice."""


UNLOADED_S = 1.0
"""How long a call is timed to estimate what it takes without other load."""


@dataclass
class Timing:
    """One cell's record: what preparing it showed, what was sampled, how it ended."""

    cell: Cell
    cost: CellCost
    plan: Plan
    facts: Facts | None = None
    sampling: Sampling = field(default_factory=Sampling)
    status: Status = "skipped"
    reason: str = "not measured"
    finished: bool = False
    """Whether status and record are final."""
    unloaded_s: float | None = None
    """Of several threads that were measured beside other load: what a call takes alone, see `estimate_unloaded`."""

    def __post_init__(self) -> None:
        """Let the sampling know whether one thread does the work."""
        self.sampling.one_thread = self.cell.one_thread

    def row(self) -> dict[str, Any]:
        """Return the contract's columns, then everything else that is one number."""
        cell, plan = self.cell, self.plan
        facts = self.facts.as_dict() if self.facts else {}
        done = self.status == "done"
        used = self.sampling.used(plan) if done else []
        calls = [call for block in used for call in block.calls_s]
        device_s = median_if_known(call for block in used for call in block.device_s)
        dispatch_s = median_if_known(call for block in used for call in block.dispatch_s)
        pipelined_s = median_if_known(block.pipelined_s for block in used)
        power_w = self._power_w(used)
        estimate = self.sampling.estimate(plan) if done else None
        middle = estimate.middle if estimate else None
        bounded = estimate is not None and estimate.bounded
        by_cpu = done and self.sampling.basis(plan) == "cpu"
        percentiles = _percentiles([] if by_cpu else calls)
        clocks = self._by_each_clock() if used else {}
        warm_up, rate = self.sampling.warm_up, self.flops_per_s()
        settings = cell.columns()
        return {
            **{name: settings[name] for name in SETTINGS},
            "median_s": middle,
            "ci_low_s": estimate.low if estimate and bounded else None,
            "ci_high_s": estimate.high if estimate and bounded else None,
            "min_s": min(self.sampling.times(plan) if by_cpu else calls, default=None),
            "p90_s": percentiles["p90_s"],
            "images_per_s": cell.images / middle if middle else None,
            "gflops_per_s": None if rate is None else rate / 1e9,
            "peak_bytes": facts.get("allocated_bytes"),
            "blocks": len(used),
            "samples": len(calls),
            "contention": (" ".join(self.sampling.flags(plan)) or "none") if used else None,
            "status": self.status,
            "reason": self.reason,
            "basis": self.sampling.basis(plan) if used else None,
            **{name: clocks.get(name) for name in BY_EACH_CLOCK},
            "p95_s": percentiles["p95_s"],
            "p99_s": percentiles["p99_s"],
            "device_s": device_s,
            "dispatch_s": dispatch_s,
            "bound": bound(device_s, dispatch_s),
            "power_w": power_w,
            "joules_per_image": power_w * middle / cell.images if power_w and middle else None,
            "images_per_joule": cell.images / (power_w * middle) if power_w and middle else None,
            "cpu_s": statistics.median([block.cpu_per_call_s for block in used]) if used else None,
            "idle_s": self._idle_s() if used else None,
            "contended_blocks": self.sampling.contended,
            "warm_up_calls": warm_up.calls if warm_up else None,
            "warm_up_agreed": warm_up.agreed if warm_up else None,
            **{name: facts.get(name) for name in FACTS},
            "requested_batch": cell.batch,
            "actual_batch": cell.batch if done else None,
            "params": self.cost.params,
            "macs": self.cost.macs,
            **{name: settings[name] for name in CELL_COLUMNS if name not in (*SETTINGS, *LATEST)},
            "key": cell.key(),
            "p50_s": percentiles["p50_s"],
            **{name: percentiles[name] for name in PERCENTILE_BOUNDS},
            **{name: settings[name] for name in LATEST},
            "throughput_images_per_s": cell.images / pipelined_s if pipelined_s else None,
            "unloaded_s": self.unloaded_s,
        }

    def _by_each_clock(self) -> dict[str, float | None]:
        """Return the figure and its interval by every clock the cell has, so that two rows can share one."""
        values: dict[str, float | None] = {}
        for clock in CLOCKS if self.sampling.has_processor_clock else CLOCKS[:1]:
            found = median_interval(self.sampling.times(self.plan, clock))
            values[f"{clock}_median_s"] = found.middle
            values[f"{clock}_ci_low_s"] = found.low if found.bounded else None
            values[f"{clock}_ci_high_s"] = found.high if found.bounded else None
        return values

    @staticmethod
    def _power_w(blocks: Sequence[Block]) -> float | None:
        """Return the mean power of all blocks: a GPU counts its energy in steps that are longer than a short block."""
        found = [power for block in blocks if (power := block.contention.power_w) is not None]
        return (statistics.fmean(found) or None) if found else None

    def _idle_s(self) -> float | None:
        """Return what a call was idle for whatever the load, in the median block; None is unknown."""
        if not self.cell.on_cpu:
            return None
        return median_if_known(block.idle_per_call_s for block in self.sampling.used(self.plan))

    def flops_per_s(self) -> float | None:
        """Return 2 x MACs over the median, for a forward pass whose MACs are known."""
        estimate = self.sampling.estimate(self.plan) if self.status == "done" else None
        if estimate is None or not self.cost.macs or self.cell.direction != "forward":
            return None
        return 2 * self.cost.macs / estimate.middle

    def intensity(self) -> float | None:
        """Return the FLOP a byte of the least possible traffic."""
        macs, moved = self.cost.macs, self.cost.moved_bytes
        return 2 * macs / moved if macs and moved else None


def _percentiles(calls: Sequence[float]) -> dict[str, float | None]:
    """Return the percentiles of the calls' wall times with their bounds; empty where the sample cannot bound one."""
    values: dict[str, float | None] = {}
    for name, q in PERCENTILES.items():
        found = percentile_interval(calls, q)
        values[f"{name}_s"] = found.middle if found else None
        values[f"{name}_low_s"] = found.low if found else None
        values[f"{name}_high_s"] = found.high if found else None
    return values


def bound(device_s: float | None, dispatch_s: float | None) -> str | None:
    """Return what a pass on an accelerator waits for: `launch`, the host that asks for its kernels, or the `device`."""
    if device_s is None or dispatch_s is None:
        return None
    return "launch" if dispatch_s > device_s else "device"


Opener = Callable[[Cell], tuple[Workload, Facts]]
"""Prepares a cell, here or in a worker process; returns the workload with what preparing it showed."""


class Journal:
    """Follows everything as it happens: a store writes it down, a terminal shows it, this one does nothing."""

    def prepared(self, timing: Timing) -> None:
        """A cell is built and checked."""

    def warmed(self, timing: Timing, warm_up: WarmUp) -> None:
        """A cell is warm."""

    def block(self, timing: Timing, block: Block) -> None:
        """One more block is timed."""

    def ended(self, timing: Timing) -> None:
        """A cell is finished: its status and record change no more."""


def time_cells(
    timings: Sequence[Timing],
    plan: Plan,
    *,
    open_cell: Opener,
    journals: Sequence[Journal] = (),
    fits: Callable[[], bool] = lambda: True,
) -> None:
    """Measure every timing whose status is not settled yet, in place.

    As many cells as `fits` allows are alive at once and sampled together. A cell that fails or is refused costs no
    other one; a refusal is not told to the journals, so that a resumed run tries the cell again. An interrupt leaves
    every record as far as it came.

    Raises:
        BenchError: every cell was refused, each for the same reason.

    """
    waiting = [timing for timing in timings if not timing.finished]
    while waiting:
        group: dict[str, Timing] = {}
        workloads: dict[str, Workload] = {}
        try:
            while waiting and (not workloads or fits()):
                timing = waiting[0]
                workload = _open(timing, open_cell, journals, timings, beside=len(workloads))
                if workload is None and not timing.finished:
                    break
                waiting.pop(0)
                if workload is not None:
                    group[timing.cell.key()], workloads[timing.cell.key()] = timing, workload
            first_round = 1 + max((block.round for one in timings for block in one.sampling.blocks), default=-1)
            _sample(group, workloads, plan, journals, first_round)
        finally:
            for workload in workloads.values():
                workload.close()


def estimate_unloaded(timings: Sequence[Timing], plan: Plan, open_isolated: Opener) -> None:
    """Estimate what cells of several threads that were measured beside other load take alone, in place.

    Threads that wait for one which lost its core spin, and their spinning is processor time too. In a process of its
    own, where they sleep instead (`--wait-policy passive`), it is their work alone, of which each does its share.
    """
    for timing in timings:
        cell = timing.cell
        if timing.status != "done" or cell.one_thread or not cell.on_cpu or not timing.sampling.loaded(plan):
            continue
        try:
            workload, _ = open_isolated(replace(cell, wait_policy="passive"))
        except Exception:  # noqa: BLE001, S112 - the measurement itself stands
            continue
        try:
            workload.warm_up(UNLOADED_S / 3)
            blocks = [workload.block(UNLOADED_S / 10)]
            while sum(sum(block.calls_s) for block in blocks) < UNLOADED_S:
                blocks.append(workload.block(UNLOADED_S / 10))
        finally:
            workload.close()
        timing.unloaded_s = median_call(blocks, "cpu") / cell.threads


def _open(
    timing: Timing,
    open_cell: Opener,
    journals: Iterable[Journal],
    timings: Sequence[Timing],
    *,
    beside: int,
) -> Workload | None:
    """Prepare a cell; None where it cannot be, or not yet: beside others memory may be short that alone suffices."""
    try:
        workload, timing.facts = open_cell(timing.cell)
    except BenchError as error:
        timing.status, timing.reason, timing.finished = "failed", str(error), True
        if all(one.reason == timing.reason for one in timings):
            # No row would show anything else.
            raise
        return None
    except Exception as error:  # noqa: BLE001 - one failing cell must not cost the others
        if beside and is_out_of_memory(error):
            return None
        timing.status = outcome_after(error).status
        timing.reason = reason_of(error, timing.cell)
        timing.finished = True
        _tell(journals, "ended", timing)
        return None
    _tell(journals, "prepared", timing)
    return workload


def _tell(journals: Iterable[Journal], event: str, *what: object) -> None:
    for journal in journals:
        getattr(journal, event)(*what)


def _sample(
    group: Mapping[str, Timing],
    workloads: Mapping[str, Workload],
    plan: Plan,
    journals: Sequence[Journal],
    first_round: int,
) -> None:
    def ended(key: str) -> None:
        timing = group[key]
        failure = timing.sampling.failure
        timing.status = "failed" if failure else "done"
        timing.reason = reason_of(failure, timing.cell) if failure else ""
        timing.finished = True
        _tell(journals, "ended", timing)

    Sampler(
        workloads,
        plan,
        known={key: timing.sampling for key, timing in group.items()},
        first_round=first_round,
        on_warm_up=lambda key, warm_up: _tell(journals, "warmed", group[key], warm_up),
        on_block=lambda key, block: _tell(journals, "block", group[key], block),
        on_end=ended,
    ).run()


def reason_of(error: Exception, cell: Cell) -> str:
    """Return why a cell failed, in one sentence; out of memory names the batch to try next."""
    if is_out_of_memory(error):
        if cell.batch == 1:
            return "out of memory at batch 1; try a smaller --input, or another --device"
        return f"out of memory at batch {cell.batch}; try --batch {cell.batch // 2}"
    reason = outcome_after(error).reason
    if type(error).__name__ == "AcceleratorError":
        return f"{reason}; this process has lost {cell.device}: give every cell a process of its own with --isolate"
    return reason


def is_out_of_memory(error: Exception) -> bool:
    """Tell whether a cell failed for want of memory, here or in its worker, on the processor or an accelerator."""
    kinds = {"OutOfMemoryError", "WorkerMemoryError", "MemoryError"}
    return type(error).__name__ in kinds or CPU_MEMORY in str(error)


class KeyedLines(Protocol):
    """A file of lines, each with a kind and a key, such as `execution.store.Store`."""

    def append(self, kind: str, key: str, values: dict[str, Any]) -> None:
        """Write one line."""
        ...

    def of_kind(self, kind: str) -> dict[str, list[dict[str, Any]]]:
        """Return the lines of one kind by their key, in the order they were written."""
        ...


class StoreJournal(Journal):
    """Writes every block and every finished row into a store."""

    def __init__(self, store: KeyedLines) -> None:
        """Write into `store`."""
        self._store = store

    def prepared(self, timing: Timing) -> None:
        """Write down what preparing showed."""
        if timing.facts is not None:
            cell = timing.cell
            self._store.append("cell", cell.key(), {"cell": cell.as_dict(), "facts": timing.facts.as_dict()})

    def warmed(self, timing: Timing, warm_up: WarmUp) -> None:
        """Write down how the warm-up went."""
        self._store.append("warm_up", timing.cell.key(), warm_up.as_dict())

    def block(self, timing: Timing, block: Block) -> None:
        """Write down the block with all its samples."""
        self._store.append("block", timing.cell.key(), block.as_dict())

    def ended(self, timing: Timing) -> None:
        """Write down the finished row."""
        self._store.append("row", timing.cell.key(), {"row": timing.row()})


def recall(store: KeyedLines, timings: Sequence[Timing]) -> None:
    """Give every timing what the store knows of it.

    Raises:
        UsageError: a line of the store is damaged.

    """
    try:
        _recall(store, timings)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        msg = f"the --store is damaged ({type(error).__name__}: {error}); start a new one"
        raise UsageError(msg) from error


def _recall(store: KeyedLines, timings: Sequence[Timing]) -> None:
    cells, warm_ups = store.of_kind("cell"), store.of_kind("warm_up")
    blocks, rows = store.of_kind("block"), store.of_kind("row")
    for timing in timings:
        key = timing.cell.key()
        if key in cells:
            timing.facts = Facts(**cells[key][-1]["facts"])
        warm_up = None
        if key in warm_ups:
            known = warm_ups[key][-1]
            warm_up = WarmUp(known["calls"], known["seconds"], known["call_s"], known["agreed"])
        done = [Block.from_dict(line) for line in blocks.get(key, [])]
        timing.sampling = Sampling(done, warm_up, one_thread=timing.cell.one_thread)
        if key in rows:
            row = rows[key][-1]["row"]
            timing.status, timing.reason, timing.finished = row["status"], row["reason"], True


class Commentary(Journal):
    """Words the running estimate and its interval."""

    def __init__(self, cells: int, seconds: float, show: Callable[[str, int], object]) -> None:
        """Expect `cells` cells of `seconds` each; `show` takes a line and the number of cells that are finished."""
        self._show = show
        self._cells, self._finished = cells, 0
        self._end = time.monotonic() + cells * seconds

    def prepared(self, timing: Timing) -> None:
        """Say which cell was built and how exact it is."""
        error = timing.facts.max_rel_error if timing.facts else None
        shown = "" if error is None else f", largest relative error {error:.1e}"
        self._show(f"built {timing.cell.architecture}{shown}", self._finished)

    def block(self, timing: Timing, block: Block) -> None:
        """Give the estimate after one more block."""
        estimate = timing.sampling.estimate(timing.plan)
        if estimate is None:
            return
        width = f" ±{estimate.relative_width:.1%}" if estimate.bounded else ""
        flags = f" [{' '.join(block.contention.flags)}]" if block.contention.flags else ""
        left = max(0.0, self._end - time.monotonic())
        text = (
            f"{self._finished}/{self._cells} cells, at most {left:.0f} s left: {timing.cell.architecture} "
            f"{estimate.middle * 1e3:.3f} ms{width}, block {len(timing.sampling.blocks)}{flags}"
        )
        self._show(text, self._finished)

    def ended(self, timing: Timing) -> None:
        """Count one more finished cell."""
        self._finished += 1
        if timing.status == "failed":
            self._show(f"{timing.cell.architecture} failed: {timing.reason}", self._finished)
