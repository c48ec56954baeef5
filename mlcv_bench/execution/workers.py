"""Where jobs run: in this process, in a pool of local processes, or on a Dask cluster; all through one interface."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, Protocol


class Workers(Protocol):
    """A `concurrent.futures.Executor`, and what becomes of it when a worker dies or the run is stopped."""

    @property
    def executor(self) -> Executor:
        """The executor that takes jobs now."""
        ...

    @property
    def slots(self) -> int:
        """How many jobs to hand out at a time."""
        ...

    def rebuild(self) -> None:
        """Put a new executor in the place of one that a dead worker broke."""
        ...

    def stop(self, *, at_once: bool) -> None:
        """End the workers: after their jobs, or at once."""
        ...


class InlineExecutor(Executor):
    """Runs every job in this process, when it is submitted."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:  # noqa: ANN401 - Executor's
        """Run `fn` now; its result or exception is in the future that comes back."""
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - handed on through the future, as every executor does
            future.set_exception(error)
        return future


class Inline:
    """One worker: this process."""

    slots = 1

    def __init__(self) -> None:
        """Start nothing."""
        self.executor: Executor = InlineExecutor()

    def rebuild(self) -> None:
        """Do nothing: this process is alive."""

    def stop(self, *, at_once: bool) -> None:
        """Do nothing: no job outlives its submission."""
