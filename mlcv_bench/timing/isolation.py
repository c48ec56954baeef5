"""The parent's side of a worker process: a cell timed elsewhere looks like any other workload."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

from mlcv_bench.timing import openmp
from mlcv_bench.timing.blocks import Block, WarmUp
from mlcv_bench.timing.cells import Cell, Facts
from mlcv_bench.timing.worker import PROTOCOL
from mlcv_bench.trials import NotApplicableError


class WorkerError(Exception):
    """The worker process ended, or could not do what was asked; `worker` says which of several."""

    def __init__(self, message: str, *, worker: int = 0) -> None:
        """Say what happened, and to which of several workers."""
        super().__init__(message)
        self.worker = worker


class WorkerRefusalError(WorkerError):
    """The request itself is wrong: no such interpreter or package there, or nothing that this worker could ever do."""


class WorkerMemoryError(WorkerError):
    """The worker's device ran out of memory."""


REFUSALS = ("UsageError", "MissingExtraError")
"""The worker's errors that say what is wrong with the request, in words of their own."""


class Channel(Protocol):
    """A way to ask a worker something; a test brings its own."""

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send one request and wait for its reply."""
        ...

    def close(self) -> None:
        """End the worker."""
        ...


class PipeChannel:
    """A worker process under some Python, asked over its stdin and stdout."""

    def __init__(self, python: str | None = None, path: Path | None = None) -> None:
        """Start a worker; waiting threads sleep there too.

        Args:
            python: an interpreter that has mlcv_bench; this one by default.
            path: a checkout whose mlcv_bench is used instead of the installed one.

        Raises:
            WorkerRefusalError: the interpreter cannot be started.

        """
        environment = dict(os.environ)
        openmp.settle(environment)
        own = Path(__file__).resolve().parents[2]
        if path is not None:
            environment["PYTHONPATH"] = str(path.resolve())
        elif python is None and own.name not in {"site-packages", "dist-packages"}:
            # The parent runs from a checkout, so its worker must find the same one.
            environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(own), environment.get("PYTHONPATH")]))
        elif python is not None:
            # What this process was told to import must not replace the other environment's own package.
            environment.pop("PYTHONPATH", None)
        # -P keeps the current folder, which may be a checkout itself, off the worker's path.
        try:
            self._process = subprocess.Popen(  # noqa: S603 - the interpreter that the user named
                [python or sys.executable, "-P", "-m", "mlcv_bench.timing.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=environment,
            )
        except OSError as error:
            msg = f"{python or sys.executable} cannot be started: {error.strerror or error}"
            raise WorkerRefusalError(msg) from error

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send one request and wait for its reply."""
        process = self._process
        if process.stdin is None or process.stdout is None:
            msg = "the worker has no pipes"
            raise WorkerError(msg)
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise WorkerError(_last_words(process.wait()))
        try:
            reply = json.loads(line)
        except ValueError:
            reply = None
        if not isinstance(reply, dict) or not reply.keys() & {"ok", "error"}:
            msg = f"the worker printed {line.strip()!r:.60} where its reply should be"
            raise WorkerError(msg)
        return reply

    def close(self) -> None:
        """End the worker: its requests end, and so does it; one that hangs is killed."""
        process = self._process
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:
                    continue
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _last_words(code: int) -> str:
    if code >= 0:
        return f"the worker process ended with exit code {code}"
    name = signal.Signals(-code).name
    hint = "; the system may have run out of memory" if -code == signal.SIGKILL else ""
    return f"the worker process was ended by {name}{hint}"


def start_workers(
    cells: Sequence[Cell], places: Sequence[tuple[Path | None, Path | None]], stack: contextlib.ExitStack
) -> list[tuple[WorkerWorkload, Facts]]:
    """Start a worker for every cell at once, since most of a start is importing torch; `stack` ends them.

    Args:
        cells: what each prepares, for a comparison.
        places: the interpreter and the checkout of each; None is this one.
        stack: closes every worker that was started, also when another could not be.

    Raises:
        WorkerRefusalError: one cannot be started there, or can never do what is asked.
        WorkerError: another failed; of several the first, and `worker` is its position.

    """

    def start(position: int, place: tuple[Path | None, Path | None], cell: Cell) -> tuple[WorkerWorkload, Facts]:
        python, path = place
        try:
            channel = PipeChannel(str(python) if python else None, path)
            stack.callback(channel.close)
            side = WorkerWorkload(channel, position)
        except WorkerError as error:
            raise WorkerRefusalError(str(error), worker=position) from error
        try:
            return side, side.prepare(cell, comparing=True)
        except NotApplicableError as error:
            raise WorkerRefusalError(str(error), worker=position) from error

    with ThreadPoolExecutor(len(cells)) as pool:
        started = [pool.submit(start, *one) for one in zip(range(len(cells)), places, cells, strict=True)]
    return [future.result() for future in started]


class WorkerWorkload:
    """A cell in a worker process, to be timed like a local one."""

    def __init__(self, channel: Channel, position: int = 0) -> None:
        """Greet the worker behind `channel`, the `position`-th of several, refusing one that speaks another version."""
        self._channel = channel
        self._position = position
        self.hello = hello = self._ask({"do": "hello"})
        if hello["protocol"] != PROTOCOL:
            msg = f"the worker speaks version {hello['protocol']} of the protocol, this one {PROTOCOL}"
            raise WorkerRefusalError(msg, worker=position)

    def prepare(self, cell: Cell, *, comparing: bool = False) -> Facts:
        """Have the worker build and check the cell, as `forward.prepare` does.

        Raises:
            WorkerMemoryError: its device ran out of memory.
            NotApplicableError: the cell's runtime cannot do this.
            WorkerError: anything else went wrong there.

        """
        return Facts(**self._ask({"do": "prepare", "cell": cell.as_dict(), "memory": not comparing}))

    def warm_up(self, seconds: float) -> WarmUp:
        """Have the worker warm up."""
        return WarmUp(**self._ask({"do": "warm_up", "seconds": seconds}))

    def block(self, seconds: float) -> Block:
        """Have the worker time one block; the ledger is read there, around the calls alone."""
        return Block.from_dict(self._ask({"do": "block", "seconds": seconds}))

    def close(self) -> None:
        """End the worker."""
        self._channel.close()

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            reply = self._channel.ask(request)
        except WorkerError as error:
            error.worker = self._position
            raise
        if "ok" in reply:
            answer: dict[str, Any] = reply["ok"]
            return answer
        kind, message = reply["error"]["kind"], reply["error"]["message"]
        if kind == "NotApplicableError":
            raise NotApplicableError(message)
        if kind == "OutOfMemoryError":
            raise WorkerMemoryError(message, worker=self._position)
        if kind in REFUSALS:
            raise WorkerRefusalError(message, worker=self._position)
        msg = f"{kind}: {message}"
        raise WorkerError(msg, worker=self._position)
