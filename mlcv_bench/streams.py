"""Where a result goes: stdout is the result's alone, whatever else the process prints."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING, TextIO

from mlcv_bench.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

STDOUT = 1
_results: list[TextIO] = []


@contextlib.contextmanager
def writing_result() -> Iterator[TextIO]:
    """Give the stream that a result is written to; a reader that leaves early ends the writing, not the command.

    Raises:
        UsageError: stdout takes no more for another reason, such as a full disk.

    """
    stream = _results[-1] if _results else sys.stdout
    try:
        yield stream
        stream.flush()
    except OSError as error:
        # Whatever Python still flushes at its end goes nowhere, instead of raising once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        if not isinstance(error, BrokenPipeError):
            msg = f"stdout cannot be written: {error.strerror or error}; choose another place, or save with -o"
            raise UsageError(msg) from error


@contextlib.contextmanager
def result_alone() -> Iterator[TextIO]:
    """Keep stdout for what is written to the stream given, which is that of `writing_result` meanwhile.

    Whatever else is printed inside goes to stderr: by Python, by C code, and by child processes, which inherit it.
    """
    with contextlib.ExitStack() as stack:
        stream = stack.enter_context(_apart(sys.stdout)) if _number(sys.stdout) == STDOUT else sys.stdout
        stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        _results.append(stream)
        stack.callback(_results.pop)
        yield stream


@contextlib.contextmanager
def _apart(stdout: TextIO) -> Iterator[TextIO]:
    """Yield a stream to where stdout goes, and let stdout go where stderr does."""
    stdout.flush()
    # No child inherits the copy, so that a pipe ends when this process has written its result.
    stream = os.fdopen(os.dup(STDOUT), "w", encoding=stdout.encoding, errors=stdout.errors)
    try:
        number = _number(sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY) if number is None else number, STDOUT)
        yield stream
    finally:
        import ctypes  # noqa: PLC0415 - help and version, which load this module too, need none

        # C code has a buffer of its own, which would be written at the end of the process.
        ctypes.CDLL(None).fflush(None)
        os.dup2(stream.fileno(), STDOUT)
        # What could not be written was reported when it was flushed.
        with contextlib.suppress(OSError):
            stream.close()


def _number(stream: TextIO) -> int | None:
    """Return the file descriptor of a stream; None for one that has none, as a test's."""
    try:
        return stream.fileno()
    except (OSError, ValueError, AttributeError):
        return None
