"""What a batch decides: from where on throughput hardly grows, and the largest one within a latency budget."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mlcv_bench.timing.request import Cell, cost_of
from mlcv_bench.timing.study import KeyedLines, Timing, recall

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from mlcv_bench.timing.sampling import Plan


KNEE = 0.90
"""The share of the best throughput that the knee reaches."""


def by_batch(cells: Iterable[Cell]) -> dict[str, list[Cell]]:
    """Return the cells that differ in the batch alone, the smallest first, under what tells them from the others."""
    alike: dict[Cell, list[Cell]] = {}
    for cell in cells:
        alike.setdefault(replace(cell, batch=1), []).append(cell)
    return {one.label(tuple(alike)): sorted(members, key=lambda cell: cell.batch) for one, members in alike.items()}


def throughput(rows: Sequence[Mapping[str, Any]]) -> dict[int, float]:
    """Return the images a second of each batch, all of them by one clock: the rows' own, or the wall clock.

    They are those of pipelined calls where every row has them.
    """
    if all(row.get("throughput_images_per_s") for row in rows):
        return {row["batch"]: row["throughput_images_per_s"] for row in rows}
    clock = "" if len({row["basis"] for row in rows}) == 1 else "wall_"
    return {row["batch"]: row["images_per_s"] * row["median_s"] / row[f"{clock}median_s"] for row in rows}


def knee(rates: Mapping[int, float]) -> int:
    """Return the smallest batch whose throughput reaches 90% of the best."""
    return min(batch for batch, rate in rates.items() if rate >= KNEE * max(rates.values()))


def stays_below(row: Mapping[str, Any], budget_s: float) -> bool | None:
    """Tell whether a row's p95 stays below the budget with all of its interval; None where that is not known.

    A batch that finds no memory, or whose median or fastest call is surely above, has no such p95 either. Load makes a
    time longer: what stays below beside it does so alone, and what does not may.
    """
    bounded = row["p95_high_s"] is not None
    if bounded and row["p95_high_s"] < budget_s:
        return True
    if row["status"] == "failed":
        return False
    if row["basis"] == "wall" and row["contention"] != "none":
        return None
    surely_above = max(row["ci_low_s"] or 0.0, row["min_s"] or 0.0) >= budget_s
    return False if bounded or surely_above else None


def search_batches(
    timings: list[Timing],
    budget_s: float,
    plan: Plan,
    time_all: Callable[[list[Timing]], object],
    *,
    known: KeyedLines | None = None,
) -> None:
    """Time further batches, each a cell of its own, of every cell that has one batch, until the largest is known.

    Args:
        timings: what is timed already; what the search times is added, each network's batches in order.
        budget_s: what the p95 has to stay below.
        plan: how long to time each.
        time_all: times new cells.
        known: the store, whose cells of an earlier run are not timed again.

    """
    done = {timing.cell: timing for timing in timings}

    def fits(batch: int) -> bool | None:
        asked = replace(cell, batch=batch)
        if asked not in done:
            done[asked] = Timing(asked, cost_of(asked), plan)
            if known is not None:
                recall(known, [done[asked]])
            timings.append(done[asked])
            time_all([done[asked]])
        return stays_below(done[asked].row(), budget_s)

    for cell, *others in by_batch(list(done)).values():
        if not others:
            search_largest(cell.batch, fits)
    timings[:] = [done[cell] for members in by_batch(list(done)).values() for cell in members]


def search_largest(first: int, fits: Callable[[int], bool | None]) -> None:
    """Ask of batches whether they fit: doubled from the `first` on, then bisected; an unknown answer ends it."""
    good, bad, batch = 0, None, first
    while bad is None or bad - good > 1:
        answer = fits(batch)
        if answer is None:
            return
        good, bad = (batch, bad) if answer else (good, batch)
        batch = 2 * good if bad is None else (good + bad) // 2


def first_batches(first: int, *, fits: bool, most: int = 5) -> list[int]:
    """Return the batches that `search_largest` asks of, `most` at the most, while all of them fit, or none does."""
    asked: list[int] = []

    def answer(batch: int) -> bool | None:
        asked.append(batch)
        return fits if len(asked) < most else None

    search_largest(first, answer)
    return asked
