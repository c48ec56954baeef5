"""The figures of a saved result: which rows and columns a history keeps, under names that compare and baselines use."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlcv_bench.comparing.differences import deciding, load_met
from mlcv_bench.comparing.saved import FIGURE, RULES, is_measured, row_names, settings_in, study_of
from mlcv_bench.records import plain_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

TIME = "median_s"
ENDS = FIGURE[1:]
"""Columns that say an interval's ends: they stand beside their median."""
LARGEST_WHOLE = 2**63 - 1
"""The largest whole number that SQLite holds as one."""

Value = int | float | str | None


@dataclass(frozen=True, slots=True)
class Measured:
    """One figure of a saved result; its interval, clock and other load where it is a time."""

    row: str
    column: str
    value: Value
    ci_low: float | None = None
    ci_high: float | None = None
    basis: str = ""
    contention: str = ""


def judged_columns(study: str) -> tuple[str, ...]:
    """Return the columns that are judged: those that `compare` holds against each other."""
    rule = RULES[study]
    more = ((TIME, rule.timed), (rule.calls, rule.calls), ("norm", rule.fingerprints))
    return (*rule.exact, *rule.outcomes, *(column for column, there in more if there))


ALL_JUDGED = tuple(dict.fromkeys(column for study in RULES for column in judged_columns(study)))


def is_timed(study: str, column: str) -> bool:
    """Tell whether a figure is the time that a study judges; everything else is exact."""
    return RULES[study].timed and column == TIME


def figures_of(document: Mapping[str, Any]) -> Iterator[Measured]:
    """Yield every number of a saved document's rows, and the words and truths that are judged.

    A figure that is judged and missing from a finished row, such as the step at which a race did not arrive, is None.
    """
    study = study_of(document)
    rule, judged = RULES[study], judged_columns(study)
    for row, run in zip(row_names(study, document["runs"]), document["runs"], strict=True):
        done = is_measured(run)
        for column, value in run.items():
            if column in rule.keys or column.endswith(ENDS):
                continue
            kept = done if value is None else isinstance(value, bool | str)
            if _is_number(value):
                yield _number(row, column, value, run)
            elif column in judged and kept and not is_timed(study, column):
                yield Measured(row, column, None if value is None else plain_text(value))


def _is_number(value: Any) -> bool:  # noqa: ANN401 - any plain value
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _number(row: str, column: str, value: float, run: Mapping[str, Any]) -> Measured:
    value = float(value) if abs(value) > LARGEST_WHOLE else value
    if not column.endswith(TIME):
        return Measured(row, column, value)
    low, high = (run.get(column.removesuffix(TIME) + end) for end in ENDS)
    return Measured(row, column, value, low, high, str(run.get("basis") or ""), load_met(run))


def settings_text(document: Mapping[str, Any]) -> str:
    """Return the settings that no row says, as JSON; nothing where there are none.

    Figures of unlike settings answer different questions, so a history never holds them against each other.
    """
    settings = settings_in(document)
    return json.dumps(settings, sort_keys=True) if settings else ""


def fingerprint(environment: Mapping[str, Any]) -> str:
    """Return a short name for what decides a time: processor, versions, flags, device."""
    return digest_of(deciding(environment))[:12]


def digest_of(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """Return the SHA-256 of a JSON value, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
