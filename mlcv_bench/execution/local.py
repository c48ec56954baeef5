"""A pool of local processes that survives the death of a worker."""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from concurrent.futures import Executor, ProcessPoolExecutor


def start_worker() -> None:
    """Prepare a worker: deaf to Ctrl-C (the main process decides), gone when the main process is."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    """Leave when the main process is gone: a pool's worker would wait for its next job for ever."""
    multiprocessing.connection.wait([sentinel])
    os._exit(1)


class LocalPool:
    """So many processes of this machine."""

    def __init__(self, workers: int) -> None:
        """Start the pool; the processes start with the first jobs."""
        self.slots = workers
        self.executor: Executor = self._new()

    def _new(self) -> Executor:
        # Spawned, not forked: a fork of a process whose torch already runs threads may hang.
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(self.slots, mp_context=context, initializer=start_worker)

    def rebuild(self) -> None:
        """Start a new pool: one dead worker breaks a ProcessPoolExecutor for good."""
        self.stop(at_once=True)
        self.executor = self._new()

    def stop(self, *, at_once: bool) -> None:
        """End the pool's processes."""
        # The executor has no public way to stop a running job before Python 3.14.
        processes = list((getattr(self.executor, "_processes", None) or {}).values()) if at_once else []
        self.executor.shutdown(wait=not at_once, cancel_futures=True)
        for process in processes:
            with contextlib.suppress(ValueError, ProcessLookupError):
                process.terminate()
        for process in processes:
            with contextlib.suppress(ValueError, AssertionError):
                process.join()
