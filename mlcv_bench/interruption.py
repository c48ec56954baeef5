"""Ctrl-C, SIGTERM and SIGHUP end a command alike: what is finished is saved and shown; the exit code says which."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from typing import TYPE_CHECKING

from mlcv_bench.errors import ExitCode
from mlcv_bench.system import INTERRUPTIONS

if TYPE_CHECKING:
    from collections.abc import Iterator

CODES = frozenset(128 + number for number in INTERRUPTIONS)
"""How a process ends that was interrupted: 130, 143 or 129."""
TWICE_S = 1.0
"""`timeout`, and a wrapper that passes Ctrl-C on, send one signal twice; only a later one is a second one."""


class _State:
    """What was received, when, and what it does now."""

    first: int | None = None
    at: float = 0.0
    postponed: bool = False
    leaving: int | None = None


_state = _State()


def hold() -> None:
    """Raise KeyboardInterrupt on each signal from now on, but for those that the caller ignores, as `nohup` does."""
    for number in INTERRUPTIONS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _receive)


def _receive(number: int, frame: object) -> None:
    del frame
    now = time.monotonic()
    if _state.first is None:
        _state.first, _state.at = number, now
    elif now - _state.at < TWICE_S:
        return
    else:
        _state.postponed = False
    if _state.leaving is not None:
        os._exit(_state.leaving)
    torch = sys.modules.get("torch")
    if torch is not None and getattr(torch.__spec__, "_initializing", False):
        # Its C++ would abort on an exception.
        sys.stderr.write("mlcv-bench: interrupted before anything was measured\n")
        os._exit(exit_code())
    if not _state.postponed:
        raise KeyboardInterrupt


def exit_code() -> int:
    """Return the code of a command that was interrupted: 128 and the number of the first signal."""
    return ExitCode.INTERRUPTED if _state.first is None else 128 + _state.first


def reason() -> str:
    """Say what ended the command."""
    by_hand = _state.first is None or _state.first == signal.SIGINT
    return "interrupted" if by_hand else f"interrupted by {signal.Signals(_state.first or 0).name}"


@contextlib.contextmanager
def postponed() -> Iterator[None]:
    """Save and show a result before an interruption ends the command; a second one, later, ends it at once."""
    before, outer = _state.first, _state.postponed
    _state.postponed = True
    try:
        yield
    finally:
        _state.postponed = outer
    if _state.first != before:
        raise KeyboardInterrupt


def check() -> None:
    """End a command that was interrupted before it found anything: files that hold an earlier result stay."""
    if _state.first is not None:
        raise KeyboardInterrupt


def leave(code: int) -> None:
    """Let a further signal end the process at once: all is saved, and Python takes its threads and modules down."""
    _state.leaving = code
