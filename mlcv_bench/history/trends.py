"""What a suite asks of a history: how each figure came to what it is now, and the baseline that a branch has."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlcv_bench.comparing.baseline import Baseline
from mlcv_bench.comparing.differences import HARMLESS, SAID_IN_ROWS, environment_differences
from mlcv_bench.comparing.saved import study_of
from mlcv_bench.errors import UsageError
from mlcv_bench.history.commits import newest_of, read_commit, short
from mlcv_bench.history.figures import ALL_JUDGED, Value, figures_of

if TYPE_CHECKING:
    from mlcv_bench.history.database import History

COMMITS = 50
"""Stored commits among which the first one of a violation is looked for."""
SHOWN = 10


@dataclass(frozen=True)
class Trend:
    """The way of one figure: the commits that have it, oldest first, the last of them the one that is measured now."""

    commits: Sequence[str]
    values: Sequence[Value]

    @property
    def last(self) -> Sequence[Value]:
        """The values of the last ten commits."""
        return self.values[-SHOWN:]

    def first_seen(self, bad: Callable[[Value], bool]) -> str:
        """Return the commit since which every value has been bad; with `or before`, if all of them are."""
        run = list(itertools.takewhile(lambda at: bad(self.values[at]), range(len(self.values) - 1, -1, -1)))
        if not run:
            return ""
        return short(self.commits[run[-1]]) + (" or before" if len(run) == len(self.values) == COMMITS + 1 else "")


class Trends:
    """The trends of what is measured now, at a commit of a branch whose earlier results a history holds."""

    def __init__(self, history: History, branch: str, commit: str) -> None:
        """Read the branch's last commits."""
        self.commit = commit
        commits = [one for one in history.commits(branch, COMMITS + 1) if one.commit != commit][-COMMITS:]
        self._known: dict[tuple[str, str, str], dict[str, Value]] = {}
        for one in history.figures(commits, branch, ALL_JUDGED):
            self._known.setdefault((one.study, one.row, one.column), {})[one.commit] = one.value

    def of(self, document: Mapping[str, Any]) -> dict[tuple[str, str], Trend]:
        """Return the trend of every figure of a document, by its row's name and its column."""
        study = study_of(document)
        found = {}
        for one in figures_of(document):
            before = self._known.get((study, one.row, one.column), {})
            found[one.row, one.column] = Trend([*before, self.commit], [*before.values(), one.value])
        return found


@dataclass(frozen=True)
class Against:
    """The results of a branch's newest commit that has some, as a baseline, and a sentence on where it comes from."""

    baseline: Baseline | None
    sentence: str
    branch: str = ""


def baseline_of(history: History, revision: str, environment: Mapping[str, Any], folder: Path) -> Against:
    """Return the baseline that a revision has: the newest of its commits that the history holds results of.

    Of several results of an entry the newest of this machine counts, or else the newest.

    Raises:
        UsageError: git knows no such revision.

    """
    tip = read_commit(revision, folder)
    if tip is None:
        raise UsageError(f"--against {revision}: git knows no such commit here; fetch it, or name another")
    found = newest_of(tip.commit, history.names(), folder)
    if found is None:
        return Against(None, f"{history.path} has no result of {revision} or a commit before it; run the suite there")
    entries: dict[str, Mapping[str, Any]] = {}
    elsewhere: list[str] = []
    documents = [(name, one) for name, one in history.documents(found) if name]
    for name, document in documents:
        if name not in entries or not _differs(document, environment) or _differs(entries[name], environment):
            entries[name] = document
    for one in entries.values():
        elsewhere += _differs(one, environment)
    behind = "" if found == tip.commit else f", {short(tip.commit)} having none"
    where = f"; it was measured elsewhere ({', '.join(dict.fromkeys(elsewhere))} differ): exact figures are binding, "
    where = f"{where}times advisory" if elsewhere else ""
    branch = history.commit(found).branch
    words = f"Baseline: {short(found)}, the newest commit of {revision} with results{behind}{where}."
    return Against(Baseline(history.path, entries, f"commit {short(found)}"), words, branch)


def _differs(document: Mapping[str, Any], environment: Mapping[str, Any]) -> list[str]:
    # Which accelerator computes is known when the entry has run.
    ignored = (*HARMLESS, *SAID_IN_ROWS, "device")
    return [name for name, _ in environment_differences(document["environment"], environment, ignoring=ignored)]
