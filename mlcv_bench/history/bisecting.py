"""One step of `git bisect`: is the figure that jumped good or bad in this checkout?"""

from __future__ import annotations

import shlex
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mlcv_bench.comparing.differences import exact_difference
from mlcv_bench.comparing.fingerprints import diagnoses
from mlcv_bench.comparing.saved import RULES, SavedResult, study_of
from mlcv_bench.errors import BaselineError, UsageError
from mlcv_bench.history.commits import git
from mlcv_bench.history.figures import Measured, figures_of, fingerprint, is_timed
from mlcv_bench.history.jumps import WORSE, Jump, Key, search
from mlcv_bench.history.request import JumpRequest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlcv_bench.history.database import History, StoredFigure
    from mlcv_bench.history.request import BisectRequest

Answer = Literal["good", "bad", "skip"]
CODES: dict[Answer, int] = {"good": 0, "bad": 1, "skip": 125}
"""What `git bisect run` takes an exit code for; from 128 on it ends the search."""
ABORT = 128
ATTEMPTS = 3
"""How often a time is measured whose interval holds the limit, or that met other load, before a commit is skipped."""
NAMED = 4
TIME_ABOVE = 0.05
"""How much slower is bad, if nothing is said."""
OUTPUTS = ("-o", "--output", "--format")


@dataclass(frozen=True)
class Target:
    """The jump that is looked for, and the command that measures its figure."""

    jump: Jump
    base: Mapping[str, Any]
    """What the last good commit measured."""
    arguments: tuple[str, ...]
    bad_above: float | None


def is_bisecting(folder: Path) -> bool:
    """Tell whether `git bisect` is at work in this checkout."""
    place = git(folder, "rev-parse", "--git-path", "BISECT_LOG")
    return bool(place) and (folder / place).exists()


def target_of(history: History, asked: BisectRequest) -> Target:
    """Return the newest jump for the worse of the one figure that is asked for, and what measures it.

    Raises:
        UsageError: several figures are asked for, or none became worse.
        BaselineError: the history holds no two commits.

    """
    found = search(history, JumpRequest(asked.selection, asked.bad_above or 0.0))
    worse = found.worse or [one for one in found.jumps if one.change in WORSE]
    if not worse and len(found.selected.series) == 1:
        worse = _slower_ends(*next(iter(found.selected.series.items())), asked.bad_above)
    if not worse:
        loaded = any(one.contention for some in found.selected.series.values() for one in some)
        why = ", as far as times tell that met no other load" if loaded else ""
        raise UsageError(f"no commit of this history made that figure worse{why}; see `mlcv-bench history check`")
    jump = worse[0]
    figures = dict.fromkeys(f"{one.row} {one.column}" for one in worse)
    if len(figures) > 1:
        names = "; ".join(list(figures)[:NAMED])
        raise UsageError(f"{len(figures)} figures became worse ({names} ...); name one with --row and --column")
    base, new = (_measuring(history, commit, jump) for commit in (jump.after, jump.until))
    return Target(jump, base, without_outputs(shlex.split(str(new["command"]))), asked.bad_above)


def _slower_ends(key: Key, figures: Sequence[StoredFigure], bad_above: float | None) -> list[Jump]:
    """Return the jump of a time that too few commits have for a change point: from where on it is above the limit."""
    quiet = [one for one in figures if isinstance(one.value, float) and not one.contention]
    quiet = [one for one in quiet if (one.environment, one.basis) == (quiet[-1].environment, quiet[-1].basis)]
    if not quiet or not is_timed(key[0], key[3]):
        return []
    values = [float(one.value or 0.0) for one in quiet]
    start = next((at for at in range(len(values)) if min(values[at:]) > _limit(values[0], bad_above)), 0)
    if not start:
        return []
    base, new = statistics.median(values[:start]), statistics.median(values[start:])
    first, before = quiet[start], quiet[start - 1]
    study, row, settings, column = key
    return [
        Jump(
            *(study, row, column, "worse", base, new, new / base, None, None),
            *(first.commit, before.commit, first.commit, first.author_date, True),
            environment=first.environment,
            settings=settings,
        )
    ]


def _limit(base: float, bad_above: float | None) -> float:
    return base * (1 + (TIME_ABOVE if bad_above is None else bad_above))


def _measuring(history: History, commit: str, jump: Jump) -> dict[str, Any]:
    """Return the newest result of a commit that holds the row that jumped."""
    for _, document in reversed(history.documents(commit, jump.study)):
        if jump.row in _rows(document):
            found: dict[str, Any] = document
            return found
    raise BaselineError(f"{history.path} holds no command that measured {jump.row} at {commit}")


def _rows(document: Mapping[str, Any]) -> set[str]:
    """Return the names of a document's rows, as jumps have them."""
    if RULES[study_of(document)].fingerprints:
        # What a network computes is one figure, however many rows its fingerprint has.
        return {str(row.get("network")) for row in document["runs"]}
    return {one.row for one in figures_of(document)}


def without_outputs(words: Sequence[str]) -> tuple[str, ...]:
    """Return a command's arguments without those that say where its result goes."""
    kept: list[str] = []
    skipped = False
    for word in words[1:]:
        name, equals, _ = word.partition("=")
        if skipped or name in OUTPUTS or (word.startswith("-o") and not word.startswith("--")):
            skipped = not skipped and not equals and word in OUTPUTS
            continue
        kept.append(word)
    return tuple(kept)


def answer_of(target: Target, document: Mapping[str, Any]) -> Answer | None:
    """Judge what was measured: None for a time that has to be measured again.

    Raises:
        BaselineError: the times of the history were taken on another machine, or by another clock.

    """
    jump = target.jump
    if RULES[jump.study].fingerprints:
        changed = diagnoses(SavedResult.of("good", target.base), SavedResult.of("here", document))
        return "bad" if jump.row in {one.row for one in changed} else "good"
    figure = next((one for one in figures_of(document) if (one.row, one.column) == (jump.row, jump.column)), None)
    if figure is None:
        return "skip"
    if is_timed(jump.study, jump.column):
        return _timed_answer(target, figure, document)
    found = exact_difference(RULES[jump.study], jump.row, jump.column, jump.base, figure.value)
    enough = found.ratio is None or found.ratio > 1 + (target.bad_above or 0.0)
    return "bad" if found.change in WORSE and enough else "good"


def _timed_answer(target: Target, figure: Measured, document: Mapping[str, Any]) -> Answer | None:
    jump = target.jump
    if fingerprint(document["environment"]) != jump.environment:
        raise BaselineError(
            "the history's times of this figure were taken on another machine; run the suite here at the good and the "
            "bad commit with --history, or take a figure that is exact"
        )
    if not isinstance(figure.value, int | float) or not isinstance(jump.base, int | float):
        return "skip"
    limit = _limit(jump.base, target.bad_above)
    low, high = figure.ci_low or figure.value, figure.ci_high or figure.value
    # Load makes a time longer, never shorter.
    if high <= limit:
        return "good"
    return "bad" if low > limit and not figure.contention else None
