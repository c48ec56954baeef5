"""How far a run is, on one line of a terminal: done, running, failed, the time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sized
from typing import IO, Protocol


class HasLanes(Protocol):
    """A job that trains several models."""

    @property
    def lanes(self) -> Sized:
        """One entry a model."""
        ...


class RunProgress:
    """Counts training runs; silent where stderr is no terminal."""

    def __init__(
        self,
        expected: int,
        stream: IO[str] | None = None,
        *,
        quiet: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Expect so many runs in all."""
        self._stream = stream or sys.stderr
        self._shown = self._stream.isatty() and not quiet
        self._clock = clock
        self._begin = clock()
        self.expected, self.done, self.failed, self.running, self.remembered = expected, 0, 0, 0, 0

    def began(self, job: HasLanes) -> None:
        """Count a job's runs as running."""
        self.running += len(job.lanes)
        self._show()

    def ended(self, job: HasLanes, status: str, *, remembered: bool) -> None:
        """Count a job's runs as done or failed."""
        lanes = len(job.lanes)
        if remembered:
            self.remembered += lanes
        else:
            self.running = max(0, self.running - lanes)
        if status == "done":
            self.done += lanes
        else:
            self.failed += lanes
        self._show()

    def text(self) -> str:
        """Return the line."""
        finished = self.done + self.failed
        measured = finished - self.remembered
        left = ""
        if measured > 0:
            seconds = (self._clock() - self._begin) / measured * max(0, self.expected - finished)
            left = f", about {seconds:.0f} s left" if seconds < 120 else f", about {seconds / 60:.0f} min left"  # noqa: PLR2004 - two minutes read better in seconds
        failed = f", {self.failed} failed" if self.failed else ""
        return f"{self.done} of {self.expected} runs done, {self.running} running{failed}{left}"

    def close(self) -> None:
        """Leave an empty line behind."""
        if self._shown:
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def _show(self) -> None:
        if self._shown:
            self._stream.write(f"\r\x1b[K{self.text()[:110]}")
            self._stream.flush()
