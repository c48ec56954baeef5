"""Children that are forked from one process which has imported what they need: a start takes milliseconds.

The process that asks and the one that forks share a socket. For every child a second pair of sockets is made, and one
end of it sent over (SCM_RIGHTS): the child answers there, one line of JSON each, as every worker does.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import socket
import subprocess
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlcv_bench.execution.places import HERE, Place
from mlcv_bench.execution.processes import PATIENCE_S, LineChannel, PipeChannel, start, stop
from mlcv_bench.system import KILLING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

GREETING_S = 180.0
"""How long a process may take to import torch and answer for the first time."""
CAN_FORK = hasattr(os, "fork") and hasattr(socket, "send_fds")


@contextlib.contextmanager
def starters(module: str, arguments: Sequence[str], places: Sequence[Place]) -> Iterator[Starters]:
    """Give for each of several workers a function that starts it, however often.

    Those of one place and argument are forked from one process, so that only what is a child's own can differ between
    them, and that is drawn anew with every start.

    Args:
        module: the workers' module, which serves over stdin and stdout, or with an argument forks.
        arguments: of each worker, for its fork server.
        places: where each runs.

    """
    with contextlib.ExitStack() as stack:
        if not CAN_FORK:
            yield Starters([functools.partial(PipeChannel, module, place) for place in places])
            return
        wanted = list(zip(arguments, places, strict=True))
        servers = {one: ForkServer(module, one[0], place=one[1]) for one in set(wanted)}
        for server in servers.values():
            stack.callback(server.close)
        yield Starters([servers[one].connect for one in wanted], tuple(servers.values()))


@dataclass(frozen=True)
class Starters:
    """Functions that start a worker each, and the fork servers behind them, if any."""

    connects: list[Callable[[], LineChannel]]
    servers: tuple[ForkServer, ...] = ()

    def warm(self) -> None:
        """Let the servers import what their children need, where Ctrl-C can end that; one that fails says so later."""
        for server in self.servers:
            with contextlib.suppress(OSError):
                server.begin()
        for server in self.servers:
            with contextlib.suppress(OSError):
                server.start()


class ForkServer:
    """A process that imports what its children need, and forks one whenever it is asked."""

    def __init__(self, module: str, *arguments: str, place: Place = HERE) -> None:
        """Name a module whose main, given these arguments, forks as `timing.worker` does; the first child starts it."""
        self._command, self._place = (module, *arguments), place
        self._process: subprocess.Popen[bytes] | None = None
        self._control, self._theirs = socket.socketpair()
        self._replies = self._control.makefile("rb")
        self._turn = threading.Lock()
        self._ready = False

    def begin(self) -> None:
        """Start the server, and do not wait for it.

        Raises:
            OSError: it cannot be started.

        """
        if self._process is None:
            with self._theirs:
                # Whatever is no Python may print something: stdout is the result's alone.
                self._process = start(*self._command, place=self._place, stdin=self._theirs, stdout=2)

    def start(self) -> None:
        """Start the server, and return when it has imported what its children need; a first child starts it else.

        For the main thread, where Ctrl-C ends the waiting.

        Raises:
            OSError: it cannot be started, or has ended.

        """
        with self._turn:
            self._begin()

    def _begin(self) -> None:
        self.begin()
        if not self._ready:
            self._control.settimeout(GREETING_S)
            try:
                self._ask({"do": "greet"})
            except TimeoutError as error:
                raise ConnectionError(f"{self._place.python or 'the worker'} does not answer as mlcv-bench") from error
            self._control.settimeout(None)
            self._ready = True

    def connect(self) -> LineChannel:
        """Fork a child.

        Raises:
            OSError: the server cannot be started, or has ended.

        """
        ours, theirs = socket.socketpair()
        try:
            with theirs, self._turn:
                self._begin()
                pid = self._ask({"do": "fork"}, theirs.fileno())
        except OSError:
            ours.close()
            raise
        return ForkedChannel(self, pid, ours)

    def wait(self, pid: int) -> int:
        """Wait for a child's end and return its exit code, or minus the signal that ended it."""
        with self._turn:
            return self._ask({"do": "wait", "pid": pid})

    def _ask(self, request: dict[str, object], *handles: int) -> int:
        try:
            socket.send_fds(self._control, [json.dumps(request).encode() + b"\n"], handles)
            line = self._replies.readline()
        except (BrokenPipeError, ConnectionResetError):
            line = b""
        if not line:
            raise ConnectionError("the process that starts workers has ended")
        return int(json.loads(line))

    def close(self) -> None:
        """End the server; its children end with their own channels."""
        for file in (self._replies, self._control, self._theirs):
            file.close()
        if self._process is None:
            return
        # One that still imports would not see before its end that nobody asks any more.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(PATIENCE_S if self._ready else 0)
            return
        stop(self._process)


class ForkedChannel(LineChannel):
    """A child of a ForkServer, over a socket of its own."""

    def __init__(self, server: ForkServer, pid: int, own: socket.socket) -> None:
        """Speak to the child `pid` of `server`."""
        with own:
            super().__init__(own.makefile("wb"), own.makefile("rb"))
        self._server, self._pid = server, pid
        self._code: int | None = None
        self._turn = threading.Lock()
        """A child is waited for once: whoever closes the channel and a thread that asks may both see its end."""

    def _wait(self) -> int:
        with self._turn:
            return self._waited()

    def _waited(self) -> int:
        if self._code is None:
            self._code = self._server.wait(self._pid)
        return self._code

    def _end(self, *, at_work: bool) -> None:  # noqa: ARG002 - nothing in it is worth saving, at work or not
        # A server that has ended has nobody to wait for.
        with self._turn, contextlib.suppress(ConnectionError):
            if self._code is None:
                # Until the server has waited for it, no other process can have its number.
                os.kill(self._pid, KILLING)
            self._waited()
