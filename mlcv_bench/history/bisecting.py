"""One step of `git bisect`: is the figure that jumped good or bad in this checkout?"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mlcv_bench.comparing.differences import exact_difference
from mlcv_bench.comparing.saved import RULES, row_name, study_of
from mlcv_bench.errors import BaselineError, UsageError
from mlcv_bench.history.commits import git
from mlcv_bench.history.figures import Measured, figures_of, fingerprint
from mlcv_bench.history.jumps import WORSE, Jump, search
from mlcv_bench.history.request import JumpRequest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlcv_bench.history.database import History
    from mlcv_bench.history.request import BisectRequest

Answer = Literal["good", "bad", "skip"]
CODES: dict[Answer, int] = {"good": 0, "bad": 1, "skip": 125}
"""What `git bisect run` takes an exit code for; from 128 on it ends the search."""
ABORT = 128
ATTEMPTS = 3
"""How often a time is measured whose interval holds the limit, or that met other load, before a commit is skipped."""
TIME_ABOVE = 0.05
"""How much slower is bad, if nothing is said."""
OUTPUTS = ("-o", "--output", "--format")


@dataclass(frozen=True)
class Target:
    """The jump that is looked for, and the command that measures its figure."""

    jump: Jump
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
    if len(found.selected.series) > 1:
        names = "; ".join(f"{row} {column}" for _, row, _, column in list(found.selected.series)[:4])
        raise UsageError(f"--row and --column name {len(found.selected.series)} figures ({names} ...); name one")
    worse = found.worse or [one for one in found.jumps if one.change in WORSE]
    if not worse:
        raise UsageError("no commit of this history made that figure worse; see `mlcv-bench history check`")
    jump = worse[0]
    for _, document in reversed(history.documents(jump.until)):
        if study_of(document) == jump.study and jump.row in {row_name(jump.study, row) for row in document["runs"]}:
            return Target(jump, without_outputs(shlex.split(str(document["command"]))), asked.bad_above)
    raise BaselineError(f"{history.path} holds no command that measured {jump.row}")


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
    figure = next((one for one in figures_of(document) if (one.row, one.column) == (jump.row, jump.column)), None)
    if figure is None:
        return "skip"
    if jump.p_value is not None:
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
    limit = jump.base * (1 + (TIME_ABOVE if target.bad_above is None else target.bad_above))
    low, high = figure.ci_low or figure.value, figure.ci_high or figure.value
    # Load makes a time longer, never shorter.
    if high <= limit:
        return "good"
    return "bad" if low > limit and not figure.contention else None
