"""A race as it runs: one line an optimizer and protocol as soon as it is finished, best first."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlcv_bench.surface_race.metrics import RaceResult

LINES = 24


class Standings:
    """The finished runs, best first."""

    def __init__(self) -> None:
        """Begin with none."""
        self._lines: list[tuple[float, str]] = []

    def after(self, results: Sequence[RaceResult]) -> str:
        """Take in one optimizer under one protocol; return the best lines so far."""
        arrived = [result.last_exit for result in results if result.last_exit is not None]
        first = min(arrived, default=None)
        what = f"holds from step {first}" if first is not None else results[0].outcome.replace("_", " ")
        if len(results) > 1:
            what = f"{len(arrived)} of {len(results)} arrive, the first at step {first}" if arrived else "none arrives"
        rate = "" if results[0].lr is None else f"rate {results[0].lr:.3g}"
        line = f"{results[0].optimizer:<14} {results[0].protocol:<8} {rate:<14} {what}"
        self._lines.append((float("inf") if first is None else first, line))
        best = sorted(self._lines, key=lambda item: item[0])[:LINES]
        return "\n".join(line for _, line in best)
