"""Trials and their outcomes: the unit of work that every study runs, stores and resumes."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from mlcv_bench.errors import BenchError
from mlcv_bench.names import first_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

Status = Literal["done", "skipped", "failed"]


class NotApplicableError(Exception):
    """Raised by a study when a trial makes no sense for its subject: skipped with this reason, never an error."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One thing to measure: a subject under settings with a seed; hashable, so that a store can resume."""

    subject: str
    settings: tuple[tuple[str, Any], ...] = ()
    seed: int = 0

    @classmethod
    def of(cls, subject: str, *, seed: int = 0, **settings: Any) -> Trial:  # noqa: ANN401 - plain values
        """Build a trial from keyword settings, in a fixed order."""
        return cls(subject, tuple(sorted(settings.items())), seed)

    def setting(self, key: str) -> Any:  # noqa: ANN401 - plain values
        """Return one setting."""
        return dict(self.settings)[key]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a trial: its record when done, its reason when skipped or failed."""

    trial: Trial
    status: Status
    record: Any = None
    reason: str = ""


def grid(subjects: Iterable[str], axes: Mapping[str, Sequence[Any]], seeds: Iterable[int] = (0,)) -> list[Trial]:
    """Return every combination of subject, setting and seed, subjects outermost."""
    return [
        Trial.of(subject, seed=seed, **dict(zip(axes, values, strict=True)))
        for subject in subjects
        for values in itertools.product(*axes.values())
        for seed in seeds
    ]


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
