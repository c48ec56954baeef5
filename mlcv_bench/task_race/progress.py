"""How far a race is: runs done, running and failed, and the time that the rest will take."""

from __future__ import annotations

import time
from collections.abc import Callable, Sized
from typing import Protocol


class HasLanes(Protocol):
    """A job that trains several models."""

    @property
    def lanes(self) -> Sized:
        """One entry a model."""
        ...


class RunCounter:
    """Counts training runs and words the count; a watcher of the driver."""

    def __init__(
        self, expected: int, show: Callable[[str, int], object], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Expect so many runs in all; `show` takes the line and the runs that are finished."""
        self._show, self._clock = show, clock
        self._begin = clock()
        self.expected, self.done, self.failed, self.running, self.remembered = expected, 0, 0, 0, 0

    def began(self, job: HasLanes) -> None:
        """Count a job's runs as running."""
        self.running += len(job.lanes)
        self._show(self.text(), self.done + self.failed)

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
        self._show(self.text(), self.done + self.failed)

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
