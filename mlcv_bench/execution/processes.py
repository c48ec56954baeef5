"""Processes: how they start, what they inherit, how they and all they started end; and where a study's jobs run.

A child is in a process group of its own, so that Ctrl-C reaches it through this process alone, and a signal to the
group ends whatever it started too. A child that is asked over pipes ends with them; a worker of a pool ignores Ctrl-C
and ends with this process.
"""

from __future__ import annotations

import abc
import contextlib
import json
import multiprocessing
import multiprocessing.connection
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from typing import IO, Any, Protocol, TypeVar

from mlcv_bench.environment import usable_cores
from mlcv_bench.errors import UsageError
from mlcv_bench.execution.places import HERE, Place
from mlcv_bench.system import KILLING, end_group, ignore_interrupts, own_group

T = TypeVar("T")
R = TypeVar("R")

MOST_WORKERS = 1024
PATIENCE_S = 10.0
"""How long a child has to end by itself."""


def start(
    module: str,
    *arguments: str,
    place: Place = HERE,
    **pipes: Any,  # noqa: ANN401 - the keywords of Popen
) -> subprocess.Popen[bytes]:
    """Start `python -m module` with the package that this process runs, or in another place.

    Args:
        module: what is run.
        arguments: what it is given.
        place: the interpreter, and the checkout whose code comes first.
        pipes: the child's stdin, stdout and stderr, as `Popen` takes them.

    Raises:
        OSError: the interpreter cannot be started; the message names it.

    """
    command = place.command(module, *arguments)
    try:
        return subprocess.Popen(command, env=place.environment(), cwd=place.path, **own_group(), **pipes)  # noqa: S603 - ours, or what the user named
    except OSError as error:
        raise OSError(f"{place.python or command[0]} cannot be started: {error.strerror or error}") from error


def stop(process: subprocess.Popen[bytes], patience_s: float = PATIENCE_S) -> None:
    """Interrupt a child and all it started, so that it saves what it has; kill them when that takes too long."""
    try:
        end_group(process, signal.SIGTERM)
        process.wait(patience_s)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        end_group(process, KILLING)
    except ProcessLookupError:
        pass
    process.wait()


def ending(code: int) -> str:
    """Return how a child ended, in words that follow it: the exit code, or the signal."""
    if code >= 0:
        return f"ended with exit code {code}"
    hint = "; the system may have run out of memory" if -code == KILLING else ""
    return f"ended by {signal.Signals(-code).name}{hint}"


class LineChannel(abc.ABC):
    """A child that answers requests, one line of JSON each, over two files."""

    def __init__(self, requests: IO[bytes] | None, replies: IO[bytes] | None) -> None:
        """Ask through `requests`, hear through `replies`."""
        self._requests, self._replies = requests, replies
        self._asking = False

    @abc.abstractmethod
    def _wait(self) -> int:
        """Wait for the child's end and return its exit code, or minus the signal that ended it."""

    @abc.abstractmethod
    def _end(self, *, at_work: bool) -> None:
        """End the child: it is `at_work`, or its requests have ended."""

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send one request and wait for its reply.

        Raises:
            ConnectionError: the child has ended, or does not answer in JSON.

        """
        if self._requests is None or self._replies is None:
            raise ConnectionError("the worker has no pipes")
        self._asking = True
        try:
            self._requests.write(json.dumps(request).encode() + b"\n")
            self._requests.flush()
            line = self._replies.readline().decode(errors="replace")
        except (BrokenPipeError, ConnectionResetError):
            line = ""
        self._asking = False
        if not line:
            raise ConnectionError(f"the worker process {ending(self._wait())}")
        try:
            reply = json.loads(line)
        except ValueError:
            reply = None
        if not isinstance(reply, dict) or not reply.keys() & {"ok", "error"}:
            raise ConnectionError(f"the worker printed {line.strip()!r:.60} where its reply should be")
        return reply

    def close(self) -> None:
        """End the child: at rest it ends with its requests, at work it is interrupted."""
        if self._asking:
            # First, since a thread that waits for the reply holds the file until it ends.
            self._end(at_work=True)
        for file in (self._requests, self._replies):
            if file is not None:
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    file.close()
        self._end(at_work=False)


class PipeChannel(LineChannel):
    """A child of this process that answers over its stdin and stdout."""

    def __init__(self, module: str, place: Place = HERE) -> None:
        """Start the child, as `start` does.

        Raises:
            OSError: the interpreter cannot be started.

        """
        self._process = start(module, place=place, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        super().__init__(self._process.stdin, self._process.stdout)

    def _wait(self) -> int:
        return self._process.wait()

    def _end(self, *, at_work: bool) -> None:
        if not at_work:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(PATIENCE_S)
                return
        stop(self._process)


class Workers(Protocol):
    """Where jobs run: a `concurrent.futures.Executor`, and what becomes of it when a worker dies or the run stops."""

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


class Inline(Executor):
    """One worker: this process, which runs every job when it is submitted."""

    slots = 1

    @property
    def executor(self) -> Executor:
        """The executor is this one."""
        return self

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:  # noqa: ANN401 - Executor's
        """Run `fn` now; its result or exception is in the future that comes back."""
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - handed on through the future, as every executor does
            future.set_exception(error)
        return future

    def rebuild(self) -> None:
        """Do nothing: this process is alive."""

    def stop(self, *, at_once: bool) -> None:
        """Do nothing: no job outlives its submission."""


class LocalPool:
    """So many processes of this machine; a new pool replaces one that a dead worker broke."""

    def __init__(self, workers: int) -> None:
        """Start the pool; the processes start with the first jobs."""
        self.slots = workers
        self.executor: Executor = self._new()

    def _new(self) -> Executor:
        # Spawned, not forked: a fork of a process whose torch already runs threads may hang.
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(self.slots, mp_context=context, initializer=_start_worker)

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


def check_workers(workers: int | None, scheduler: str | None) -> None:
    """Refuse a number of processes that no machine runs, two places at once, and an address that is none.

    Raises:
        UsageError: the number is out of range, both are given, or the address is malformed.

    """
    if workers is not None and not 1 <= workers <= MOST_WORKERS:
        raise UsageError(f"--workers takes 1 to {MOST_WORKERS} processes, not {workers}")
    if scheduler is None:
        return
    if workers is not None:
        raise UsageError("give --workers for this machine or --scheduler for a cluster, not both")
    from mlcv_bench.execution.dask import check_address  # noqa: PLC0415 - for the few who name a cluster

    check_address(scheduler)


def make_workers(workers: int | None, scheduler: str | None) -> Workers:
    """Return where jobs run: a cluster if one is named, else local processes, else this process alone."""
    if scheduler is not None:
        from mlcv_bench.execution.dask import DaskCluster  # noqa: PLC0415 - as above

        return DaskCluster(scheduler)
    count = usable_cores() if workers is None else workers
    return Inline() if count == 1 else LocalPool(count)


def in_turn(function: Callable[[T], R], items: Sequence[T], workers: int) -> Iterator[R]:
    """Yield what a function makes of every item, in the items' order: in so many processes, or here with one worker."""
    if workers == 1:
        yield from map(function, items)
        return
    pool = LocalPool(workers)
    finished = False
    try:
        yield from pool.executor.map(function, items)
        finished = True
    finally:
        pool.stop(at_once=not finished)


def _start_worker() -> None:
    """Prepare a pool's worker: it leaves Ctrl-C and a closed terminal to the main process, and ends with that one."""
    ignore_interrupts()
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    """Leave when the main process is gone: a pool's worker would wait for its next job without end."""
    multiprocessing.connection.wait([sentinel])
    os._exit(1)
