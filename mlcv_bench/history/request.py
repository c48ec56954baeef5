"""What is asked of a history: which commits and figures, and by how much a time may grow; checked before it is read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mlcv_bench.errors import BaselineError, UsageError

HISTORY = Path("bench.sqlite")
SHOWN = 10
"""Commits that are shown, if nothing else is said."""
CHECKED = 50
"""Commits among which jumps are looked for, if nothing else is said."""


def check_writable(path: Path) -> None:
    """Refuse a history that cannot be written where it is to be.

    Raises:
        UsageError: it is a folder, or lies in one that does not exist.

    """
    if path.is_dir() or not path.parent.is_dir():
        raise UsageError(f"--history {path} cannot be written there; give a file in a folder that exists")


@dataclass(frozen=True)
class Selection:
    """Some figures of the last commits of one branch.

    `rows` and `columns` name figures in small letters, none all that are judged; `branch` is that of the newest
    result if None.
    """

    path: Path = HISTORY
    rows: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    branch: str | None = None
    last: int = SHOWN

    def check(self) -> None:
        """Refuse what can be known to be wrong without opening the history.

        Raises:
            BaselineError: there is no such file.
            UsageError: it is no file, or a name is empty.

        """
        if not self.path.exists():
            add = f"mlcv-bench history add FILE.json --history {self.path}"
            raise BaselineError(f"there is no history {self.path}; add results with `{add}`")
        if not self.path.is_file():
            raise UsageError(f"--history {self.path} is no file; give one that `mlcv-bench history add` made")
        if not all(text.strip() for text in (*self.rows, *self.columns)):
            raise UsageError("--row and --column take names; `mlcv-bench history show` lists them")

    def holds(self, row: str) -> bool:
        """Tell whether a row is asked for: by its whole name, or by words of it."""
        name = row.lower()
        words = set(name.split())
        return not self.rows or any(text == name or words.issuperset(text.split()) for text in self.rows)


@dataclass(frozen=True)
class JumpRequest:
    """Where the selected figures jumped; a time counts from a ratio of 1 + `fail_above` on, the rest as it is."""

    selection: Selection
    fail_above: float = 0.05
    since: str | None = None
    """A commit whose figures, and all before it, are accepted as they are."""


@dataclass(frozen=True)
class AddRequest:
    """Saved results to be added, with what of their commit is given rather than read from git."""

    files: tuple[Path, ...]
    path: Path = HISTORY
    commit: str | None = None
    parents: tuple[str, ...] | None = None
    date: str | None = None
    branch: str | None = None
    dirty: bool | None = None


@dataclass(frozen=True)
class BisectRequest:
    """Which figure of this checkout is to be judged, and how much worse than at the good commit is bad."""

    selection: Selection
    bad_above: float | None = None
    """As a share; None for whatever is worse, and for a time that is 5% longer."""
