"""How far a command is: on the terminal that stderr is, gone when the command is done.

Anywhere else there is nothing, or of a command that asks for it a line now and then.
"""

from __future__ import annotations

import sys
import time
from typing import IO, TYPE_CHECKING, Self

from mlcv_bench.records import visible

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

BAR_COLUMNS = 16
ROOM_FOR_BAR = 60
"""Columns of a terminal that shows a bar before the text."""
LINE_EVERY_S = 30.0
"""Seconds between two lines where stderr is no terminal."""


class Progress:
    """The present state in a few words, with a bar where the end is known.

    It is painted when something is shown and never in between, so that no thread runs during a measurement.
    """

    def __init__(
        self,
        total: int | None = None,
        *,
        quiet: bool = False,
        patience_s: float = 0.0,
        every_s: float = 0.0,
        lines: bool = False,
        stream: IO[str] | None = None,
    ) -> None:
        """Show nothing yet.

        Args:
            total: steps to the end, if known.
            quiet: show nothing at all.
            patience_s: show nothing in the first seconds: what is over sooner needs no progress.
            every_s: paint no more often, however often something is shown.
            lines: write the first line of what is shown every 30 seconds where the stream is no terminal.
            stream: where to; stderr by default. Anything but a terminal stays empty, unless it gets lines.

        """
        self._stream = stream or sys.stderr
        terminal = self._stream.isatty()
        self._shown = (terminal or lines) and not quiet
        self._lines = not terminal
        self._total = total
        self._every_s = every_s if terminal else LINE_EVERY_S
        self._from = time.monotonic() + (patience_s if terminal else LINE_EVERY_S)
        self._painted: tuple[RichProgress, TaskID] | None = None

    def __enter__(self) -> Self:
        """Return the progress."""
        return self

    def __exit__(self, *_: object) -> None:
        """Clear what was shown."""
        self.close()

    def show(self, text: str | Callable[[], str], done: int | None = None) -> None:
        """Show `text` in the place of what was shown, after `done` steps; too long a line is cut at the edge.

        A function is called for its text only where that is shown.
        """
        now = time.monotonic()
        if not self._shown or now < self._from:
            return
        self._from = now + self._every_s
        text = visible(text if isinstance(text, str) else text())
        if self._lines:
            print(text.partition("\n")[0], file=self._stream, flush=True)
        elif self._painted is None:
            self._painted = self._start(text, done or 0)
        else:
            painted, task = self._painted
            painted.update(task, description=text, completed=done, refresh=True)

    def close(self) -> None:
        """Clear what was shown."""
        if self._painted is not None:
            self._painted[0].stop()
            self._painted = None

    def _start(self, text: str, done: int) -> tuple[RichProgress, TaskID]:
        from rich.console import Console  # noqa: PLC0415 - off a terminal rich is not needed
        from rich.progress import BarColumn, ProgressColumn, TextColumn  # noqa: PLC0415 - as above
        from rich.progress import Progress as RichProgress  # noqa: PLC0415 - as above
        from rich.table import Column  # noqa: PLC0415 - as above

        console = Console(file=self._stream)
        line = Column(no_wrap=True, overflow="ellipsis")
        columns: list[ProgressColumn] = [TextColumn("{task.description}", markup=False, table_column=line)]
        if self._total is not None and console.width >= ROOM_FOR_BAR:
            columns.insert(0, BarColumn(BAR_COLUMNS))
        # stdout is the result's alone; a warning on stderr meanwhile goes above the line.
        painted = RichProgress(*columns, console=console, auto_refresh=False, transient=True, redirect_stdout=False)
        task = painted.add_task(text, total=self._total, completed=done)
        painted.start()
        return painted, task
