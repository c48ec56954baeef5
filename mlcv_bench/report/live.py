"""A race as it runs, on stderr: one line an optimizer and protocol as soon as it is finished."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlcv_bench.surface_race.metrics import RaceResult

PATIENCE_S = 0.5
"""A race that is over sooner shows nothing."""
LINES = 24


class LiveRace:
    """The newest finished runs, best first; it goes away when the race is over."""

    def __init__(self) -> None:
        """Start the clock; nothing is shown yet."""
        self._began = time.monotonic()
        self._live: Live | None = None
        self._lines: list[tuple[float, str]] = []

    def add(self, results: Sequence[RaceResult]) -> None:
        """Take in one optimizer under one protocol."""
        arrived = [result.last_exit for result in results if result.last_exit is not None]
        first = min(arrived, default=None)
        what = f"holds from step {first}" if first is not None else results[0].outcome.replace("_", " ")
        if len(results) > 1:
            what = f"{len(arrived)} of {len(results)} arrive, the first at step {first}" if arrived else "none arrives"
        rate = "" if results[0].lr is None else f"rate {results[0].lr:.3g}"
        line = f"{results[0].optimizer:<14} {results[0].protocol:<8} {rate:<14} {what}"
        self._lines.append((float("inf") if first is None else first, line))
        if self._live is None and time.monotonic() - self._began > PATIENCE_S:
            self._live = Live(console=Console(file=sys.stderr), transient=True, refresh_per_second=8)
            self._live.start()
        if self._live is not None:
            shown = sorted(self._lines, key=lambda item: item[0])[:LINES]
            self._live.update(Text("\n".join(line for _, line in shown)))

    def close(self) -> None:
        """Take the view away."""
        if self._live is not None:
            self._live.stop()
