"""What follows a run as it goes: a store that keeps every block, and a commentary that words the estimate."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from mlcv_bench.timing.blocks import Block, WarmUp
from mlcv_bench.timing.cells import Facts
from mlcv_bench.timing.sampling import Sampling
from mlcv_bench.timing.study import Journal, Timing


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
    """Give every timing what the store knows of it."""
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
        width = f" ±{estimate.relative_width:.1%}" if len(timing.sampling.blocks) > 1 else ""
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
