"""A worker process: builds one cell and times blocks of it on request, one JSON line in, one out."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from typing import IO, TYPE_CHECKING, Any

from mlcv_bench.environment import installed_versions
from mlcv_bench.streams import result_alone

if TYPE_CHECKING:
    from mlcv_bench.timing.blocks import Workload

PROTOCOL = 1


class Server:
    """Answers the requests of one parent; holds at most one prepared cell."""

    def __init__(self) -> None:
        """Start without a cell."""
        self._workload: Workload | None = None

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
            return self._prepare(request["cell"], comparing=not request["memory"])
        if self._workload is None:
            msg = f"'{action}' before 'prepare'"
            raise RuntimeError(msg)
        if action == "warm_up":
            warm_up = self._workload.warm_up(request["seconds"])
            return {name: getattr(warm_up, name) for name in ("calls", "seconds", "call_s", "agreed")}
        if action == "block":
            return self._workload.block(request["seconds"]).as_dict()
        msg = f"unknown request '{action}'"
        raise RuntimeError(msg)

    def _prepare(self, values: dict[str, Any], *, comparing: bool) -> dict[str, Any]:
        from mlcv_bench.timing.cells import Cell  # noqa: PLC0415 - the wait policy must be set before torch loads
        from mlcv_bench.timing.forward import prepare  # noqa: PLC0415 - as above
        from mlcv_bench.timing.networks import builder  # noqa: PLC0415 - as above

        cell = Cell.from_dict(values)
        self._workload, facts = prepare(cell, builder(cell), comparing=comparing)
        return facts.as_dict()


def serve(requests: IO[str], answers: IO[str]) -> None:
    """Answer every line of `requests` until they end; an error is an answer too."""
    server = Server()
    for line in requests:
        try:
            reply = {"ok": server.answer(json.loads(line))}
        except Exception as error:  # noqa: BLE001 - the parent decides what an error means
            reply = {"error": {"kind": type(error).__name__, "message": str(error)}}
        answers.write(json.dumps(reply) + "\n")
        answers.flush()


def main() -> None:
    """Serve the parent over stdin and stdout; whatever a network prints goes to stderr instead."""
    from mlcv_bench.timing import openmp  # noqa: PLC0415 - here, beside its use

    openmp.settle()
    with result_alone() as answers, contextlib.suppress(BrokenPipeError, KeyboardInterrupt):
        serve(sys.stdin, answers)
    # Nothing is left to save, and taking torch down takes half a second.
    os._exit(0)


if __name__ == "__main__":
    main()
