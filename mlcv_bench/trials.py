"""What became of one trial of a study: done, skipped or failed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from mlcv_bench.crashes import located
from mlcv_bench.errors import BenchError
from mlcv_bench.names import first_line

if TYPE_CHECKING:
    from collections.abc import Callable

Status = Literal["done", "skipped", "failed"]


class NotApplicableError(Exception):
    """Raised by a study when a trial makes no sense for its subject: skipped with this reason, never an error."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a trial: its record when done, its reason when skipped or failed."""

    status: Status
    record: Any = None
    reason: str = ""


def outcome_of(measure: Callable[[], Any]) -> Outcome:
    """Measure one trial; a failure is an outcome, a usage error ends the run."""
    try:
        return Outcome("done", measure())
    except BenchError:
        raise
    except Exception as error:  # noqa: BLE001 - one failing trial must not cost the others
        return outcome_after(error)


def outcome_after(error: BaseException) -> Outcome:
    """Return what an error makes of the trial that raised it."""
    if isinstance(error, NotApplicableError):
        return Outcome("skipped", reason=str(error))
    return Outcome("failed", reason=f"{type(error).__name__}: {first_line(error)}{located(error)}")
