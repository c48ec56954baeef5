"""A cell timed in a worker process, one JSON line in and one out: the parent's side, and the worker's below it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, Protocol

from mlcv_bench.crashes import located
from mlcv_bench.environment import installed_versions
from mlcv_bench.errors import UsageError
from mlcv_bench.names import current_folder
from mlcv_bench.streams import result_alone
from mlcv_bench.timing.blocks import Block, LocalWorkload, WarmUp, Workload
from mlcv_bench.timing.exact import ExactFigures, exact_figures
from mlcv_bench.timing.machine import set_wait_policy
from mlcv_bench.timing.request import Cell, Facts
from mlcv_bench.trials import NotApplicableError
from mlcv_bench.worlds import refuse_strays

MODULE = "mlcv_bench.timing.worker"
PROTOCOL = 5
"""Counted up with every change of what a request means or a reply holds."""
REFUSALS = ("UsageError", "MissingExtraError")
"""The worker's errors that say what is wrong with the request, in words of their own."""
MEMORY_ERRORS = ("OutOfMemoryError", "MemoryError")
"""Those of a device's memory, and of the processor's."""


class WorkerError(Exception):
    """The worker process ended, or could not do what was asked; `worker` says which of several."""

    def __init__(self, message: str, *, worker: int = 0) -> None:
        """Say what happened, and to which of several workers."""
        super().__init__(message)
        self.worker = worker


class WorkerRefusalError(WorkerError):
    """The request itself is wrong: no such interpreter or package there, or nothing that this worker could ever do."""


class WorkerMemoryError(WorkerError):
    """The worker, or its device, ran out of memory."""


class Channel(Protocol):
    """A way to ask a worker something."""

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send one request and wait for its reply; a ConnectionError says that none can come."""
        ...

    def close(self) -> None:
        """End the worker."""
        ...


Connect = Callable[[], Channel]
"""Starts a worker; an OSError says why it cannot."""


def open_isolated(cell: Cell, connect: Connect) -> tuple[Workload, Facts]:
    """Prepare a cell in a worker process of its own.

    Raises:
        UsageError: the worker refuses the request.

    """
    with contextlib.ExitStack() as stack:
        try:
            channel = connect()
            stack.callback(channel.close)
            workload = WorkerWorkload(channel)
            facts = workload.prepare(cell)
        except (WorkerRefusalError, OSError) as error:
            raise UsageError(str(error)) from error
        stack.pop_all()
    return workload, facts


def start_workers(
    cells: Sequence[Cell], connects: Sequence[Connect], stack: contextlib.ExitStack
) -> list[tuple[WorkerWorkload, Facts]]:
    """Start a worker for every cell, all at once; `stack` ends them.

    Args:
        cells: what each prepares, for a comparison.
        connects: starts the worker of each.
        stack: closes every worker that was started, also when another could not be.

    Raises:
        WorkerRefusalError: one cannot be started there, or can never do what is asked.
        WorkerError: another failed; of several the first, and `worker` is its position.

    """

    def started(position: int, connect: Connect, cell: Cell) -> tuple[WorkerWorkload, Facts]:
        try:
            channel = connect()
            stack.callback(channel.close)
            side = WorkerWorkload(channel, position)
        except (WorkerError, OSError) as error:
            raise WorkerRefusalError(str(error), worker=position) from error
        try:
            return side, side.prepare(cell, comparing=True)
        except NotApplicableError as error:
            raise WorkerRefusalError(str(error), worker=position) from error

    with ThreadPoolExecutor(len(cells)) as pool:
        futures = [pool.submit(started, *one) for one in zip(range(len(cells)), connects, cells, strict=True)]
        try:
            wait(futures)
        except KeyboardInterrupt:
            # The pool waits for its threads, and they for the workers, some of which are importing torch.
            stack.close()
            raise
    return [future.result() for future in futures]


class WorkerWorkload:
    """A cell in a worker process, to be timed like a local one."""

    def __init__(self, channel: Channel, position: int = 0) -> None:
        """Greet the worker behind `channel`, the `position`-th of several, refusing one that speaks another version."""
        self._channel = channel
        self._position = position
        self.hello = hello = self._ask({"do": "hello"})
        if hello["protocol"] != PROTOCOL:
            raise WorkerRefusalError(
                f"the worker speaks version {hello['protocol']} of the protocol, this one {PROTOCOL}", worker=position
            )

    def prepare(self, cell: Cell, *, comparing: bool = False) -> Facts:
        """Have the worker build and check the cell, as `forward.prepare` does.

        Raises:
            WorkerMemoryError: it, or its device, ran out of memory.
            NotApplicableError: the cell's runtime cannot do this.
            WorkerError: anything else went wrong there.

        """
        return Facts(**self._ask({"do": "prepare", "cell": cell.as_dict(), "memory": not comparing}))

    def exact_figures(self, tree: Sequence[Path] = ()) -> ExactFigures:
        """Have the worker count the cell it has prepared and look at its outputs.

        Args:
            tree: folders whose modules it must have, if it has any of their names.

        Raises:
            WorkerRefusalError: it computes with modules of another tree.

        """
        return ExactFigures(**self._ask({"do": "exact_figures", "tree": list(map(str, tree))}))

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
        except ConnectionError as error:
            raise WorkerError(str(error), worker=self._position) from error
        if "ok" in reply:
            answer: dict[str, Any] = reply["ok"]
            return answer
        kind, message, where = reply["error"]["kind"], reply["error"]["message"], reply["error"].get("where", "")
        if kind == "NotApplicableError":
            raise NotApplicableError(message)
        if kind in MEMORY_ERRORS:
            raise WorkerMemoryError(message, worker=self._position)
        if kind in REFUSALS and where:
            # The user's own code crashed, which no request is refused for.
            raise WorkerError(message + where, worker=self._position)
        if kind in REFUSALS:
            raise WorkerRefusalError(message, worker=self._position)
        raise WorkerError(f"{kind}: {message}{where}", worker=self._position)


class Server:
    """Answers the requests of one parent; holds at most one prepared cell."""

    def __init__(self) -> None:
        """Start without a cell."""
        self._workload: LocalWorkload | None = None
        self._cell: Cell | None = None

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return what one request asks for, as plain values."""
        action = request["do"]
        if action == "hello":
            package = sys.modules["mlcv_bench"]
            return {
                "protocol": PROTOCOL,
                "python": sys.version.split()[0],
                "version": package.__version__,
                "package": str(package.__file__),
                **installed_versions(("torch", "numpy")),
            }
        if action == "prepare":
            cell = Cell.from_dict(request["cell"])
            set_wait_policy(cell.wait_policy)
            from mlcv_bench.timing.forward import open_here  # noqa: PLC0415 - torch, after the wait policy is set

            self._cell = cell = replace(cell, settings=cell.request.opened().options)
            self._workload, facts = open_here(cell, comparing=not request["memory"])
            return facts.as_dict()
        if self._workload is None:
            raise RuntimeError(f"'{action}' before 'prepare'")
        if action == "exact_figures" and self._cell is not None:
            with self._workload.context():
                returned = self._workload.call()
            tops = {name for name in sys.modules if "." not in name}
            refuse_strays(self._cell.architecture, [Path(folder) for folder in request["tree"]], tops)
            return exact_figures(self._cell, returned).as_dict()
        if action == "warm_up":
            return self._workload.warm_up(request["seconds"]).as_dict()
        if action == "block":
            return self._workload.block(request["seconds"]).as_dict()
        raise RuntimeError(f"unknown request '{action}'")


def serve(requests: IO[str], answers: IO[str]) -> None:
    """Answer every line of `requests` until they end; an error is an answer too."""
    server = Server()
    for line in requests:
        try:
            reply = {"ok": server.answer(json.loads(line))}
        except Exception as error:  # noqa: BLE001 - the parent decides what an error means
            reply = {"error": {"kind": type(error).__name__, "message": str(error), "where": located(error)}}
        answers.write(json.dumps(reply) + "\n")
        answers.flush()


def serve_forks() -> None:
    """Fork whenever the process on the other end of stdin, a socket, asks; a child serves the socket sent along.

    What children print goes to stderr. Returns when the asking process is gone.
    """
    control = socket.socket(fileno=os.dup(0))
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    while True:
        line, handles, _, _ = socket.recv_fds(control, 1024, 1)
        if not line:
            return
        request = json.loads(line)
        if request["do"] == "wait":
            found = os.waitstatus_to_exitcode(os.waitpid(request["pid"], 0)[1])
        elif request["do"] == "greet":
            found = 0
        elif found := os.fork():
            os.close(handles[0])
        else:
            control.close()
            with socket.socket(fileno=handles[0]) as own, own.makefile("r") as requests, own.makefile("w") as answers:
                serve(requests, answers)
            os._exit(0)
        control.sendall(f"{found}\n".encode())


def main() -> None:
    """Serve the parent over stdin and stdout, whatever a network prints goes to stderr; or fork so for every cell.

    Given a wait policy, it imports what cells need, and forks.
    """
    # Nothing here is worth saving: an interrupt ends it at once, also while torch is being imported.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    with current_folder(), contextlib.suppress(BrokenPipeError):
        if sys.argv[1:]:
            set_wait_policy(sys.argv[1])
            # torch, after the wait policy is set, and what it loads late where a network is built without memory.
            from torch.fx.experimental import symbolic_shapes  # noqa: F401, PLC0415

            from mlcv_bench.timing import forward  # noqa: F401, PLC0415

            serve_forks()
        else:
            with result_alone() as answers:
                serve(sys.stdin, answers)
    # Taking torch down takes half a second.
    os._exit(0)


if __name__ == "__main__":
    main()
