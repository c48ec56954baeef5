"""Trials and their outcomes: the unit of work that every study runs, stores and resumes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from mlcv_bench.errors import BenchError
from mlcv_bench.names import first_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

Status = Literal["done", "skipped", "failed"]


class NotApplicableError(Exception):
    """Raised by a study when a trial makes no sense for its subject: skipped with this reason, never an error."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One thing to measure, by the name or key that a store knows it by."""

    subject: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a trial: its record when done, its reason when skipped or failed."""

    trial: Trial
    status: Status
    record: Any = None
    reason: str = ""


def run(trials: Iterable[Trial], measure: Callable[[Trial], Any]) -> Iterator[Outcome]:
    """Measure each trial in turn; a failure is an outcome, a usage error ends the run."""
    for trial in trials:
        try:
            yield Outcome(trial, "done", measure(trial))
        except NotApplicableError as error:
            yield Outcome(trial, "skipped", reason=str(error))
        except BenchError:
            raise
        except Exception as error:  # noqa: BLE001 - one failing trial must not cost the others
            yield Outcome(trial, "failed", reason=f"{type(error).__name__}: {first_line(error)}")
