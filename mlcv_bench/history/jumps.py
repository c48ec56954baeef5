"""At which commit a figure jumped: exact figures at every commit that changed them, times by their change points."""

from __future__ import annotations

import itertools
import statistics
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mlcv_bench.comparing.differences import OPEN, Change, exact_difference
from mlcv_bench.comparing.fingerprints import diagnoses
from mlcv_bench.comparing.saved import RULES, SavedResult
from mlcv_bench.errors import BaselineError, UsageError
from mlcv_bench.history.commits import Commit, read_commit
from mlcv_bench.history.database import History, StoredFigure
from mlcv_bench.history.figures import ALL_JUDGED, Value, is_timed, judged_columns
from mlcv_bench.history.levels import FEWEST, SHORTEST, LevelChange, level_changes
from mlcv_bench.names import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mlcv_bench.history.request import JumpRequest, Selection

FEWEST_COMMITS = 2
WORSE = ("worse", "changed", "missing")
FINGERPRINT = "fingerprint"
"""The study of what networks compute."""
MADE_GOOD = 0.5
"""A jump of a time is made good when the newest level has less than half of it left."""
TOO_FEW = f"fewer than {FEWEST} commits were timed in one environment; `run --against` and `ab` need no more than two"
Key = tuple[str, str, str, str]
"""Study, row, settings and column: what names a series."""


@dataclass(frozen=True, slots=True)
class Jump:
    """A change of one figure between two commits.

    `commit` is the first that has the new figure, of a time most probably; it lies in the range `after`..`until`, of
    which git leaves out `after`.
    """

    study: str
    row: str
    column: str
    change: Change
    base: Value
    new: Value
    ratio: float | None
    ratio_low: float | None
    ratio_high: float | None
    commit: str
    after: str
    until: str
    author_date: str
    standing: bool
    """Whether it is for the worse, and not made good up to the newest commit."""
    p_value: float | None = None
    environment: str = ""
    settings: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Selected:
    """The commits of a branch, oldest first, and the figures asked for, by their series."""

    branch: str
    other_branches: Sequence[str]
    commits: Sequence[Commit]
    series: Mapping[Key, Sequence[StoredFigure]]

    @property
    def figures(self) -> list[StoredFigure]:
        """All figures, newest commit first."""
        place = {one.commit: -position for position, one in enumerate(self.commits)}
        return sorted(itertools.chain.from_iterable(self.series.values()), key=lambda one: place[one.commit])


@dataclass(frozen=True)
class JumpSearch:
    """Every jump among the selected commits, newest first, and the times about which nothing can be said, by reason."""

    selected: Selected
    jumps: Sequence[Jump]
    undecided: Mapping[str, Sequence[str]] = field(default_factory=dict)
    within: int = 0
    """Jumps of times that are smaller than asked for."""

    @property
    def worse(self) -> list[Jump]:
        """The jumps for the worse that the newest commit still has."""
        return [one for one in self.jumps if one.standing]


def select(history: History, asked: Selection) -> Selected:
    """Read the selected figures of the last commits.

    Raises:
        BaselineError: the history, or the branch, holds nothing.
        UsageError: no figure has such a name.

    """
    branches = history.branches()
    if not branches:
        raise BaselineError(f"the history {history.path} is empty; add results with `mlcv-bench history add FILE.json`")
    branch = branches[0] if asked.branch is None else asked.branch
    commits = history.commits(branch, asked.last)
    if not commits:
        known = ", ".join(map(repr, branches))
        raise BaselineError(
            f"{history.path} has no result of a clean checkout of branch '{branch}'; it has branches {known}: --branch"
        )
    found: dict[Key, list[StoredFigure]] = {}
    for one in history.figures(commits, branch, asked.columns or ALL_JUDGED):
        if asked.holds(one.row) and (asked.columns or one.column in judged_columns(one.study)):
            found.setdefault((one.study, one.row, one.settings, one.column), []).append(one)
    if not found:
        raise UsageError(_nothing(asked, history))
    # A whole name is no choice of words: other rows may have them too.
    whole = {key[1].lower() for key in found}.intersection(asked.rows)
    wanted = asked.rows and whole.issuperset(asked.rows)
    kept = {key: some for key, some in found.items() if key[1].lower() in whole} if wanted else found
    return Selected(branch, branches, commits, kept)


def _nothing(asked: Selection, history: History) -> str:
    """Say which name no figure has, with near misses."""
    rows, columns = history.known()
    if unknown := [text for text in asked.columns if text not in columns]:
        return f"no result has a column '{unknown[0]}'; {did_you_mean(unknown[0], columns, 'see `history show`')}"
    words = f"of row '{', '.join(asked.rows)}' " if asked.rows else ""
    hint = did_you_mean(asked.rows[0], rows, "") if asked.rows else ""
    return f"these commits have no such figure {words}; {hint or '`mlcv-bench history show` lists what there is'}"


def search(history: History, asked: JumpRequest) -> JumpSearch:
    """Look for jumps among the selected commits.

    Raises:
        BaselineError: there are no two commits to hold against each other.
        UsageError: no figure has such a name, or `since` is not among the commits.

    """
    selected = select(history, asked.selection)
    if len(selected.commits) < FEWEST_COMMITS:
        raise BaselineError(f"{history.path} holds one commit of '{selected.branch}'; a jump needs two: add another's")
    place = {one.commit: position for position, one in enumerate(selected.commits)}
    accepted = _accepted(selected.commits, asked.since)
    timed = {key for key in selected.series if is_timed(key[0], key[3])}
    jumps: list[Jump] = []
    undecided: dict[str, list[str]] = {}
    within = 0
    for key, figures in selected.series.items():
        if key not in timed:
            jumps += [] if RULES[key[0]].fingerprints else _exact_jumps(key, figures)
            continue
        found, reason = _timed_jumps(key, figures, selected.commits[-1], shared_by=len(timed))
        large = [one for one in found if one.ratio is None or max(one.ratio, 1 / one.ratio) > 1 + asked.fail_above]
        within += len(found) - len(large)
        jumps += large
        if reason:
            undecided.setdefault(reason, []).append(key[1])
    if any(RULES[study].fingerprints for study, *_ in selected.series):
        jumps += _fingerprint_jumps(history, selected, asked.selection)
    jumps.sort(key=lambda one: place[one.commit], reverse=True)
    return JumpSearch(
        selected, [one if place[one.commit] > accepted else _accept(one) for one in jumps], undecided, within
    )


def _accept(jump: Jump) -> Jump:
    return replace(jump, standing=False, reason="accepted") if jump.standing else jump


def _accepted(commits: Sequence[Commit], since: str | None) -> int:
    if since is None:
        return -1
    known = read_commit(since, Path.cwd())
    named = known.commit if known else since
    places = [place for place, one in enumerate(commits) if one.commit.startswith(named)]
    if len(places) != 1:
        many = "names several" if places else "is none"
        raise UsageError(f"--since {since} {many} of the last {len(commits)} commits of this branch; see history show")
    return places[0]


def _exact_jumps(key: Key, figures: Sequence[StoredFigure]) -> list[Jump]:
    """Return every change between one commit and the next that has this figure; of several results the last counts."""
    study, row, settings, column = key
    rule = RULES[study]
    # What says nothing, an inconclusive verdict for instance, is no change.
    points = list({one.commit: one for one in figures if one.value not in OPEN}.values())
    if not points:
        return []
    newest = points[-1].value
    found = []
    for base, new in itertools.pairwise(points):
        one = exact_difference(rule, row, column, base.value, new.value)
        # Another torch may take a function apart in other operators.
        if one.change == "same" or (column == rule.calls and base.environment != new.environment):
            continue
        since = exact_difference(rule, row, column, base.value, newest).change
        # A word that is neither better nor worse is undone when it is again what it was at first.
        undone = one.change == "changed" and newest == points[0].value
        standing = one.change in WORSE and since in WORSE and not undone
        tools = (base.tool_version, new.tool_version)
        reason = f"counted by mlcv-bench {tools[0]}, then {tools[1]}" if tools[0] != tools[1] else ""
        found.append(
            Jump(
                *(study, row, column, one.change, one.base, one.new, one.ratio, one.ratio, one.ratio),
                *(new.commit, base.commit, new.commit, new.author_date, standing),
                settings=settings,
                reason=reason,
            )
        )
    return found


def _fingerprint_jumps(history: History, selected: Selected, asked: Selection) -> Iterator[Jump]:
    """Yield every change of what a network computes, as the gate tells it: all quantities and scales are one figure."""
    entries: dict[str, list[tuple[Commit, SavedResult]]] = {}
    for commit in selected.commits:
        for entry, document in history.documents(commit.commit, FINGERPRINT):
            results = entries.setdefault(entry, [])
            if results and results[-1][0] is commit:
                results.pop()  # of several results the last counts
            results.append((commit, SavedResult.of(commit.commit, document)))
    for results in entries.values():
        apart = {one.row for one in diagnoses(results[0][1], results[-1][1])}
        for (before, base), (commit, new) in itertools.pairwise(results):
            changed = [one for one in diagnoses(base, new) if asked.holds(one.row)]
            left = apart & {one.row for one in diagnoses(base, results[-1][1])} if changed else set()
            for one in changed:
                yield Jump(
                    *(FINGERPRINT, one.row, one.quantity, one.change, one.base, one.new, None, None, None),
                    *(commit.commit, before.commit, commit.commit, commit.author_date, one.row in left),
                    reason=one.reason,
                )


def _timed_jumps(
    key: Key, figures: Sequence[StoredFigure], newest: Commit, *, shared_by: int
) -> tuple[list[Jump], str]:
    """Return the change points of a time in every environment, and why nothing can be said of the newest commit."""
    quiet: dict[tuple[str, str], dict[str, list[StoredFigure]]] = {}
    for one in figures:
        if isinstance(one.value, int | float) and not one.contention:
            quiet.setdefault((one.environment, one.basis), {}).setdefault(one.commit, []).append(one)
    found: list[Jump] = []
    reasons = []
    for (environment, _), commits in quiet.items():
        medians = [statistics.median(float(one.value or 0.0) for one in some) for some in commits.values()]
        firsts = [some[0] for some in commits.values()]
        changes = level_changes(medians, shared_by=shared_by)
        level = changes[-1].new if changes else 0.0
        found += [_timed_jump(key, firsts, one, level, environment) for one in changes]
        if firsts[-1].commit == newest.commit:
            start = changes[-1].place if changes else 0
            reasons.append(_doubt(medians[start:]) if len(medians) >= FEWEST else TOO_FEW)
    if newest.commit not in {one.commit for one in figures}:
        return found, "it has no result of the newest commit"
    if not reasons:
        return found, "at the newest commit it was measured beside other load"
    return found, "" if "" in reasons else reasons[0]


def _doubt(level: Sequence[float]) -> str:
    """Say that the newest values stand out, where so few are that they may be outliers."""
    for newest in (1, 2):
        before, after = level[:-newest], level[-newest:]
        if len(before) > SHORTEST and min(after) > max(before) + (max(before) - min(before)) / 2:
            ratio = statistics.median(after) / statistics.median(before)
            return f"the newest of it is {ratio:.2f} times the rest; {SHORTEST} commits tell a jump from an outlier"
    return ""


def _timed_jump(key: Key, points: Sequence[StoredFigure], found: LevelChange, level: float, environment: str) -> Jump:
    study, row, settings, column = key
    new = points[found.place]
    worse = found.ratio.middle > 1
    return Jump(
        *(study, row, column, "worse" if worse else "better", found.base, found.new),
        *(found.ratio.middle, found.ratio.low, found.ratio.high),
        *(new.commit, points[found.first - 1].commit, points[found.last].commit, new.author_date),
        standing=worse and level / found.base > 1 + MADE_GOOD * (found.ratio.middle - 1),
        p_value=found.p_value,
        environment=environment,
        settings=settings,
    )
