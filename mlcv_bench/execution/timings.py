"""Between the timing study and the outside: where cells run, what the store keeps of them, how far things are."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlcv_bench.errors import UsageError
from mlcv_bench.timing.blocks import Block, WarmUp, Workload
from mlcv_bench.timing.cells import Cell, Facts
from mlcv_bench.timing.isolation import PipeChannel, WorkerRefusalError, WorkerWorkload
from mlcv_bench.timing.sampling import Sampling
from mlcv_bench.timing.study import Journal, Timing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mlcv_bench.execution.store import Store


def open_here(cell: Cell) -> tuple[Workload, Facts]:
    """Prepare a cell in this process."""
    from mlcv_bench.timing.forward import prepare  # noqa: PLC0415 - imports torch
    from mlcv_bench.timing.networks import builder  # noqa: PLC0415 - imports torch

    return prepare(cell, builder(cell))


def open_isolated(cell: Cell) -> tuple[Workload, Facts]:
    """Prepare a cell in a worker process of its own."""
    workload = WorkerWorkload(PipeChannel())
    try:
        return workload, workload.prepare(cell)
    except WorkerRefusalError as error:
        workload.close()
        raise UsageError(str(error)) from error
    except BaseException:
        workload.close()
        raise


def fits_in_memory(devices: Sequence[str]) -> Callable[[], bool]:
    """Return a function that tells whether another cell may join those alive: half of what was free must stay free."""
    free = {device: _free_bytes(device) for device in set(devices)}

    def fits() -> bool:
        return all(before is None or (_free_bytes(device) or 0) >= before / 2 for device, before in free.items())

    return fits


def _free_bytes(device: str) -> int | None:
    if device.startswith("cuda"):
        import torch  # noqa: PLC0415 - where a GPU is asked for, torch is loaded already

        return int(torch.cuda.mem_get_info(device)[0])
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None


class StoreJournal(Journal):
    """Writes every block and every finished row into a store."""

    def __init__(self, store: Store) -> None:
        """Write into `store`."""
        self._store = store

    def prepared(self, timing: Timing) -> None:
        """Write down what preparing found out."""
        if timing.facts is not None:
            cell = timing.cell
            self._store.append("cell", cell.key(), {"cell": cell.as_dict(), "facts": timing.facts.as_dict()})

    def warmed(self, timing: Timing, warm_up: WarmUp) -> None:
        """Write down how the warm-up went."""
        self._store.append("warm_up", timing.cell.key(), _warm_up_values(warm_up))

    def block(self, timing: Timing, block: Block) -> None:
        """Write down the block with all its samples."""
        self._store.append("block", timing.cell.key(), block.as_dict())

    def ended(self, timing: Timing) -> None:
        """Write down the finished row."""
        self._store.append("row", timing.cell.key(), {"row": timing.row()})


def _warm_up_values(warm_up: WarmUp) -> dict[str, Any]:
    return {name: getattr(warm_up, name) for name in ("calls", "seconds", "call_s", "agreed")}


def recall(store: Store, timings: list[Timing]) -> int:
    """Give every timing what the store knows of it; returns how many are finished already."""
    cells, warm_ups = store.of_kind("cell"), store.of_kind("warm_up")
    blocks, rows = store.of_kind("block"), store.of_kind("row")
    finished = 0
    for timing in timings:
        key = timing.cell.key()
        if key in cells:
            timing.facts = Facts(**cells[key][-1]["facts"])
        warm_up = None
        if key in warm_ups:
            warm_up = WarmUp(**{name: warm_ups[key][-1][name] for name in ("calls", "seconds", "call_s", "agreed")})
        known = [Block.from_dict(line) for line in blocks.get(key, [])]
        timing.sampling = Sampling(known, warm_up, one_thread=timing.cell.one_thread)
        if key in rows:
            row = rows[key][-1]["row"]
            timing.status, timing.reason, timing.finished = row["status"], row["reason"], True
            finished += 1
    return finished


class Commentary(Journal):
    """Words the running estimate and its interval."""

    def __init__(self, cells: int, seconds: float, show: Callable[[str, int], object]) -> None:
        """Expect `cells` cells of `seconds` each; `show` takes a line and the cells that are finished."""
        self._put = show
        self._cells, self._finished = cells, 0
        self._end = time.monotonic() + cells * seconds

    def prepared(self, timing: Timing) -> None:
        """Show which cell was built and how exact it is."""
        error = timing.facts.max_rel_error if timing.facts else None
        shown = "" if error is None else f", largest relative error {error:.1e}"
        self._show(f"built {timing.cell.architecture}{shown}")

    def block(self, timing: Timing, block: Block) -> None:
        """Show the estimate after one more block."""
        estimate = timing.sampling.estimate(timing.plan)
        if estimate is None:
            return
        width = f" ±{estimate.relative_width:.1%}" if len(timing.sampling.blocks) > 1 else ""
        flags = f" [{' '.join(block.contention.flags)}]" if block.contention.flags else ""
        left = max(0.0, self._end - time.monotonic())
        self._show(
            f"{self._finished}/{self._cells} cells, at most {left:.0f} s left: {timing.cell.architecture} "
            f"{estimate.middle * 1e3:.3f} ms{width}, block {len(timing.sampling.blocks)}{flags}"
        )

    def ended(self, timing: Timing) -> None:
        """Count one more finished cell."""
        self._finished += 1
        if timing.status == "failed":
            self._show(f"{timing.cell.architecture} failed: {timing.reason}")

    def _show(self, text: str) -> None:
        self._put(text, self._finished)
