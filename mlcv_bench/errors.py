"""Every way a command can end badly, each with the exit code that scripts see."""

from __future__ import annotations

import enum


class ExitCode(enum.IntEnum):
    """The exit codes of every command."""

    DONE = 0
    CHECK_FAILED = 1
    USAGE = 2
    INCONCLUSIVE = 3
    BASELINE = 4
    TRIALS_FAILED = 5
    INTERRUPTED = 130


class BenchError(Exception):
    """An error that a user gets as one sentence, without a traceback."""

    exit_code: ExitCode = ExitCode.USAGE


class UsageError(BenchError):
    """The request itself is wrong: an unknown name, an unreadable input, a bad option."""


class InputMismatchError(UsageError):
    """The input that was asked for is not one the network takes; that its own code noticed this makes it no crash."""


class MissingExtraError(UsageError):
    """An optional package is not installed; the message names the extra that brings it."""

    def __init__(self, feature: str, extra: str) -> None:
        """Say which `feature` needs which `extra` of this project."""
        super().__init__(f"{feature} needs the extra '{extra}'; type: pip install 'mlcv-bench[{extra}]'")


class CheckFailedError(BenchError):
    """A check gave a verdict against what was measured."""

    exit_code = ExitCode.CHECK_FAILED


class BaselineError(BenchError):
    """The baseline is missing, or measures something else."""

    exit_code = ExitCode.BASELINE


class TrialsFailedError(BenchError):
    """Some of the asked trials failed; the others were measured and saved."""

    exit_code = ExitCode.TRIALS_FAILED
