"""Commits: what git knows of the one that a result belongs to, and the order in which they came."""

from __future__ import annotations

import datetime as dt
import heapq
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlcv_bench.environment import output_of
from mlcv_bench.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

BRANCH_VARIABLES = ("GITHUB_HEAD_REF", "GITHUB_REF_NAME", "CI_COMMIT_REF_NAME")
"""Where a CI system names the branch whose commit it checked out; of a pull request GITHUB_HEAD_REF alone is right."""
PERSON = re.compile(r"(author|committer) .*> (-?\d+) [+-]\d{4}")
LOOKED_BACK = 10_000
"""Commits that are searched for one with results."""
SHORT = 10
"""Letters of a commit's name that people read."""


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit: its name, its parents', when it was written and when it took its place, and on which branch.

    Dates are ISO 8601 in UTC, so that they sort as text.
    """

    commit: str
    parents: tuple[str, ...] = ()
    author_date: str = ""
    commit_date: str = ""
    """As the committer's: a rebase moves a commit on, and its author's date stays."""
    branch: str = ""


def git(folder: Path, *arguments: str) -> str:
    """Return what git prints in a checkout; nothing where it fails, or there is none."""
    return output_of("git", "-C", str(folder), *arguments)


def read_commit(revision: str, folder: Path) -> Commit | None:
    """Return what git knows of a revision in this checkout; None where it knows no such one.

    The commit's own text is read: it names the parents in a shallow clone too, which has none of them.
    """
    name = git(folder, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    text = git(folder, "cat-file", "commit", name) if name else ""
    if not text:
        return None
    header = text.partition("\n\n")[0].splitlines()
    parents = tuple(line.removeprefix("parent ") for line in header if line.startswith("parent "))
    dates = {found[1]: date_of(int(found[2])) for found in map(PERSON.fullmatch, header) if found}
    return Commit(name, parents, dates.get("author", ""), dates.get("committer", ""), _branch(name, folder))


def _branch(commit: str, folder: Path) -> str:
    """Return the branch that is checked out, if the commit is on it; nothing where no branch is."""
    if git(folder, "merge-base", commit, "HEAD") != commit:
        return ""
    named = git(folder, "symbolic-ref", "--quiet", "--short", "HEAD")
    return named or next((os.environ[name] for name in BRANCH_VARIABLES if os.environ.get(name)), "")


def date_of(seconds: float) -> str:
    """Return a time since 1970 as ISO 8601 in UTC."""
    return dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat(timespec="seconds")


def parse_date(text: str) -> str:
    """Read a date of ISO 8601, which is local where it names no zone.

    Raises:
        UsageError: it is none.

    """
    try:
        return dt.datetime.fromisoformat(text).astimezone(dt.UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError) as error:
        raise UsageError(f"'{text:.40}' is no date; write 2026-01-31, or 2026-01-31T12:00:00+00:00") from error


def in_order(commits: Iterable[Commit]) -> list[Commit]:
    """Return commits oldest first: by date, as they are given in one second, and never before a parent among them."""
    known = {one.commit: one for one in commits}
    place = {name: (one.commit_date, position, name) for position, (name, one) in enumerate(known.items())}
    waiting = {name: [parent for parent in one.parents if parent in known] for name, one in known.items()}
    children: dict[str, list[str]] = {}
    for name, parents in waiting.items():
        for parent in parents:
            children.setdefault(parent, []).append(name)
    ready = [place[name] for name, parents in waiting.items() if not parents]
    heapq.heapify(ready)
    found: list[Commit] = []
    missing = {name: len(parents) for name, parents in waiting.items()}
    while ready:
        _, _, name = heapq.heappop(ready)
        found.append(known[name])
        for child in children.get(name, ()):
            missing[child] -= 1
            if not missing[child]:
                heapq.heappush(ready, place[child])
    # Parents that somebody gave may go round in a circle.
    return found + [one for name, one in known.items() if missing[name]]


def short(commit: str) -> str:
    """Return a commit's name as people read it."""
    return commit[:SHORT]


def newest_of(revision: str, stored: Sequence[str], folder: Path) -> str | None:
    """Return the newest commit of a revision's history that is among the `stored`; None where none is."""
    wanted = set(stored)
    lines = git(folder, "rev-list", f"--max-count={LOOKED_BACK}", "--end-of-options", revision).splitlines()
    return next((name for name in lines if name in wanted), None)
