"""The database: every result that was added, in one SQLite file that survives two writers and a kill at any moment.

Each result is added in one transaction of SQLite's, with its figures and its whole document. SQLite's rollback journal
keeps it so, rather than a write-ahead log: the history stays a single file, which a CI system caches as it is.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from mlcv_bench.comparing.baseline import kept_document
from mlcv_bench.comparing.differences import deciding
from mlcv_bench.comparing.saved import study_of
from mlcv_bench.errors import BaselineError, UsageError
from mlcv_bench.history.commits import Commit, in_order
from mlcv_bench.history.figures import Value, digest_of, figures_of, fingerprint, settings_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

APPLICATION = 0x6D6C6376
"""`mlcv`: marks a SQLite file as a history, in its header."""
PATIENCE_S = 60.0
"""How long a writer waits for another."""
MIGRATIONS = (
    """
    CREATE TABLE environments (id INTEGER PRIMARY KEY, fingerprint TEXT NOT NULL UNIQUE, facts TEXT NOT NULL);
    CREATE TABLE results (
        id INTEGER PRIMARY KEY,
        digest TEXT NOT NULL UNIQUE,
        sha TEXT NOT NULL,
        parents TEXT NOT NULL,
        author_date TEXT NOT NULL,
        commit_date TEXT NOT NULL,
        branch TEXT NOT NULL,
        dirty INTEGER NOT NULL,
        entry TEXT NOT NULL,
        study TEXT NOT NULL,
        tool_version TEXT NOT NULL,
        environment INTEGER NOT NULL REFERENCES environments (id),
        document BLOB NOT NULL
    );
    CREATE INDEX results_by_time ON results (branch, dirty, commit_date, sha);
    CREATE INDEX results_by_commit ON results (sha);
    CREATE TABLE series (
        id INTEGER PRIMARY KEY,
        study TEXT NOT NULL,
        row TEXT NOT NULL,
        settings TEXT NOT NULL,
        "column" TEXT NOT NULL,
        UNIQUE (study, row, settings, "column")
    );
    CREATE TABLE figures (
        result INTEGER NOT NULL REFERENCES results (id),
        series INTEGER NOT NULL REFERENCES series (id),
        value,
        ci_low REAL,
        ci_high REAL,
        basis TEXT NOT NULL,
        contention TEXT NOT NULL,
        PRIMARY KEY (result, series)
    ) WITHOUT ROWID;
    """,
    # Names of rows leave out the settings that are called "default".
    "UPDATE series SET row = replace(row, ' default', '') WHERE study = 'time';",
)
"""What made each version of the schema from the one before; a file says its own in `user_version`."""


@dataclass(frozen=True, slots=True)
class StoredFigure:
    """One figure of one result of one commit: a row of `history show` and `history export`."""

    commit: str
    parents: tuple[str, ...]
    author_date: str
    branch: str
    dirty: bool
    study: str
    row: str
    column: str
    value: Value
    ci_low: float | None
    ci_high: float | None
    environment: str
    tool_version: str
    settings: str
    entry: str
    basis: str
    contention: str
    commit_date: str
    result: int = field(metadata={"hidden": True})
    """The result's place in the order in which results were added."""


@dataclass(frozen=True)
class NewResult:
    """A saved document that is to be added: of which commit, and under which name of a suite's entry."""

    commit: Commit
    dirty: bool
    document: Mapping[str, Any]
    entry: str = ""


SELECTED = """
    SELECT r.sha, r.parents, r.author_date, r.branch, r.dirty, s.study, s.row, s."column", f.value, f.ci_low, f.ci_high,
        e.fingerprint, r.tool_version, s.settings, r.entry, f.basis, f.contention, r.commit_date, r.id
    FROM results r JOIN environments e ON e.id = r.environment
        JOIN figures f ON f.result = r.id JOIN series s ON s.id = f.series
"""
FEW = 500
"""Values in one statement of SQLite's."""


class History:
    """An open history."""

    def __init__(self, path: Path, *, create: bool = False) -> None:
        """Open the file; with `create`, make it where there is none, and bring an older one up to date.

        Raises:
            BaselineError: there is none, or it holds nothing.
            UsageError: it is no history, was written by a newer version, or cannot be opened.

        """
        self.path = path
        if not create and not path.exists():
            raise BaselineError(f"there is no history {path}; add results with `mlcv-bench history add FILE.json`")
        with self._refusing():
            self._database = _connected(path)
            try:
                self._migrate(create=create)
            except BaseException:
                self._database.close()
                raise

    def __enter__(self) -> Self:
        """Return the open history."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self._database.close()

    @contextlib.contextmanager
    def _refusing(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise UsageError(f"the history {self.path} cannot be used: {error}; choose another --history") from error

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Hold the file for writing; what the block does is kept whole, or not at all."""
        with self._refusing():
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._database.rollback()
                raise
            self._database.commit()

    def _version(self) -> int:
        (application,), (version,) = (
            self._database.execute(f"PRAGMA {name}").fetchone() for name in ("application_id", "user_version")
        )
        empty = not self._database.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
        if application != APPLICATION and not empty:
            raise UsageError(f"{self.path} is no history; choose another --history")
        if version > len(MIGRATIONS):
            raise UsageError(f"{self.path} was written by a newer mlcv-bench; install that one")
        return int(version)

    def _migrate(self, *, create: bool) -> None:
        version = self._version()
        if version == len(MIGRATIONS):
            return
        if not version and not create:
            raise BaselineError(f"the history {self.path} is empty; add results: `mlcv-bench history add FILE.json`")
        with self._writing():
            # Another writer may have done it meanwhile.
            for script in MIGRATIONS[self._version() :]:
                for statement in script.split(";"):
                    self._database.execute(statement)
            self._database.execute(f"PRAGMA application_id = {APPLICATION}")
            self._database.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")

    def add(self, results: Sequence[NewResult]) -> int:
        """Add results, all of them or none, and return how many were new: what is there already is not added again."""
        with self._writing():
            return sum(map(self._added, results))

    def _added(self, new: NewResult) -> bool:
        document = kept_document(new.document)
        environment = document["environment"]
        digest = digest_of([new.commit.commit, new.dirty, new.entry, document])
        run = self._database.execute
        if run("SELECT 1 FROM results WHERE digest = ?", [digest]).fetchone():
            return False
        name, facts = fingerprint(environment), json.dumps(deciding(environment), sort_keys=True)
        run("INSERT OR IGNORE INTO environments (fingerprint, facts) VALUES (?, ?)", [name, facts])
        study, settings = study_of(document), settings_text(document)
        version = str(environment.get("versions", {}).get("mlcv-bench", ""))
        one = new.commit
        result = run(
            "INSERT INTO results (digest, sha, parents, author_date, commit_date, branch, dirty, entry, study,"
            " tool_version, environment, document)"
            " SELECT ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, id, ? FROM environments WHERE fingerprint = ?",
            [
                *(digest, one.commit, " ".join(one.parents), one.author_date, one.commit_date, one.branch, new.dirty),
                *(new.entry, study, version, zlib.compress(json.dumps(document).encode()), name),
            ],
        ).lastrowid
        for figure in figures_of(document):
            place = [study, figure.row, settings, figure.column]
            run('INSERT OR IGNORE INTO series (study, row, settings, "column") VALUES (?, ?, ?, ?)', place)
            run(
                "INSERT INTO figures SELECT ?, id, ?, ?, ?, ?, ? FROM series"
                ' WHERE study = ? AND row = ? AND settings = ? AND "column" = ?',
                [
                    *(result, figure.value, figure.ci_low, figure.ci_high, figure.basis, figure.contention),
                    *place,
                ],
            )
        return True

    def branches(self) -> list[str]:
        """Return every branch that has results, that of the result added last first."""
        with self._refusing():
            newest = self._database.execute("SELECT branch FROM results ORDER BY id DESC LIMIT 1").fetchall()
            names = self._database.execute(
                # Each step of this looks one name up in the index, whatever the number of results.
                "WITH RECURSIVE names (name) AS (SELECT min(branch) FROM results UNION ALL"
                " SELECT (SELECT min(branch) FROM results WHERE branch > name) FROM names WHERE name IS NOT NULL)"
                " SELECT name FROM names WHERE name IS NOT NULL"
            ).fetchall()
        return list(dict.fromkeys(name for (name,) in [*newest, *names]))

    def commits(self, branch: str, last: int, *, dirty: bool = False) -> list[Commit]:
        """Return the last so many commits of a branch that have results of a clean checkout, or a changed one."""
        with self._refusing():
            rows = self._database.execute(
                "SELECT DISTINCT commit_date, sha FROM results WHERE branch = ? AND dirty = ?"
                " ORDER BY commit_date DESC, sha DESC LIMIT ?",
                [branch, dirty, last],
            ).fetchall()
            first = "SELECT min(id) FROM results WHERE sha = ?"
            # Commits of one second come as they were added.
            added = {sha: self._database.execute(first, [sha]).fetchone() for _, sha in rows}
            rows.sort(key=lambda row: (row[0], added[row[1]]))
            return in_order(self.commit(sha) for _, sha in rows)

    def commit(self, sha: str) -> Commit:
        """Return a commit that has results, as the last of them says it."""
        sha, parents, *rest = self._database.execute(
            "SELECT sha, parents, author_date, commit_date, branch FROM results WHERE sha = ? ORDER BY id DESC LIMIT 1",
            [sha],
        ).fetchone()
        return Commit(sha, tuple(parents.split()), *rest)

    def figures(
        self, commits: Sequence[Commit], branch: str, columns: Sequence[str] = (), *, dirty: bool = False
    ) -> list[StoredFigure]:
        """Return the figures of these commits, oldest first, and of one commit in the order of adding.

        `columns`, in small letters, are those that are wanted, all of them if none is named.
        """
        place = {one.commit: position for position, one in enumerate(commits)}
        found: list[StoredFigure] = []
        names = list(place)
        wanted = f'AND lower(s."column") IN ({_marks(columns)})' if columns else ""
        for start in range(0, len(names), FEW):
            some = names[start : start + FEW]
            # The plus keeps SQLite from the index that leads to the whole branch.
            where = f"WHERE r.sha IN ({_marks(some)}) AND +r.branch = ? AND +r.dirty = ? {wanted}"
            with self._refusing():
                found += map(_figure, self._database.execute(SELECTED + where, [*some, branch, dirty, *columns]))
        return sorted(found, key=lambda one: (place[one.commit], one.result))

    def size(self) -> int:
        """Return the number of figures."""
        with self._refusing():
            return int(self._database.execute("SELECT count(*) FROM figures").fetchone()[0])

    def known(self) -> tuple[list[str], list[str]]:
        """Return the names of all rows, and of all columns."""
        with self._refusing():
            found = self._database.execute('SELECT row, "column" FROM series ORDER BY id').fetchall()
        return list(dict.fromkeys(row for row, _ in found)), list(dict.fromkeys(column for _, column in found))

    def every_figure(self) -> Iterator[StoredFigure]:
        """Yield every figure of the history, oldest commit first by date."""
        with self._refusing():
            results = self._database.execute("SELECT id FROM results ORDER BY commit_date, id").fetchall()
            for (result,) in results:
                yield from map(_figure, self._database.execute(f"{SELECTED} WHERE r.id = ?", [result]))

    def names(self) -> list[str]:
        """Return every commit that has results."""
        with self._refusing():
            return [name for (name,) in self._database.execute("SELECT DISTINCT sha FROM results")]

    def documents(self, sha: str, study: str = "") -> list[tuple[str, dict[str, Any]]]:
        """Return what a commit's clean checkout measured: each entry's name and its document, oldest first.

        Of one `study`, if it is named.
        """
        with self._refusing():
            rows = self._database.execute(
                "SELECT entry, document FROM results WHERE sha = ? AND NOT dirty AND ? IN ('', study) ORDER BY id",
                [sha, study],
            ).fetchall()
        return [(entry, json.loads(zlib.decompress(document))) for entry, document in rows]


def _marks(values: Sequence[Any]) -> str:
    return ", ".join("?" * len(values))


def _connected(path: Path) -> sqlite3.Connection:
    # None: transactions are begun and ended by this module alone.
    database = sqlite3.connect(path, timeout=PATIENCE_S, isolation_level=None)
    database.execute("PRAGMA synchronous = FULL")
    return database


def _figure(row: tuple[Any, ...]) -> StoredFigure:
    sha, parents, author_date, branch, dirty, *rest = row
    return StoredFigure(sha, tuple(parents.split()), author_date, branch, bool(dirty), *rest)
