"""Figures of one's own beside the cost: a CSV joined by the networks' names, and the Pareto front. Loads no torch."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from mlcv_bench.errors import UsageError
from mlcv_bench.names import bounded_text, did_you_mean, first_line, spelled

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

Better = Literal["higher", "lower"]
KEYS = ("name", "architecture")
"""The column that names the network: the first of these that the file has."""
SWEPT = ("input", "batch")
"""Where the file has these columns too, as that of `time`, a row is one network's at this input and batch."""
LOWER = ("error", "loss", "latency", "time", "perplexity", "second", "median", "bytes", "joules")
LOWER_ENDS = ("_s", "_ms", "_us")
"""A column called so is better when lower."""
LARGEST = 16 * 2**20
"""Bytes of a file that is read; a table of networks is far smaller."""


@dataclass(frozen=True)
class OwnFigures:
    """Columns of a CSV by network: numbers, None where a cell is empty; the first column is that of the front."""

    path: Path
    columns: tuple[str, ...]
    better: Better
    swept: tuple[str, ...]
    rows: Mapping[tuple[str, ...], Mapping[str, float | None]]

    @property
    def names(self) -> str:
        """What the rows are called, the first few."""
        return _some([" ".join(key) for key in self.rows])

    def found(self, names: Sequence[str], sweep: Mapping[str, object]) -> tuple[str, ...] | None:
        """Return the key of a network's row, which the file may call by any of its names; None without one."""
        rest = tuple(str(sweep[column]) for column in self.swept)
        own = {key[0] for key in self.rows}
        return next((key for name in names if (key := (spelled(name, own), *rest)) in self.rows), None)


def front(points: Sequence[tuple[float, float | None]], better: Better) -> list[bool]:
    """Tell of each (cost, quality) whether no other point costs as little and is as good, and is ahead in one of them.

    A point without a quality is not on the front.
    """
    sign = 1 if better == "higher" else -1
    known = [(cost, sign * quality) for cost, quality in points if quality is not None]

    def dominated(cost: float, quality: float) -> bool:
        return any(a <= cost and b >= quality and (a, b) != (cost, quality) for a, b in known)

    return [quality is not None and not dominated(cost, sign * quality) for cost, quality in points]


def read(path: Path, columns: Sequence[str] = (), better: Better | None = None) -> OwnFigures:
    """Read the columns of a CSV, by default the first that holds numbers.

    Raises:
        UsageError: no such file or column, no column that names networks, a network named twice, or no number.

    """
    header, lines = _lines(path)
    key = next((name for name in KEYS if name in header), None)
    if key is None:
        raise UsageError(f"--join {path} has no column {' or '.join(KEYS)} that would name the networks")
    swept = tuple(name for name in SWEPT if name in header)
    for name in columns:
        if name not in header:
            hint = did_you_mean(name, header, f"it has {', '.join(header)}")
            raise UsageError(f"--join-column {name}: {path} has no such column; {hint}")
    free = [name for name in header if name and name not in (key, *swept)]
    numeric = [name for name in free if any(_number(line[name]) is not None for line in lines)]
    chosen = tuple(columns or numeric[:1])
    rows: dict[tuple[str, ...], dict[str, float | None]] = {}
    for line in lines:
        place = (line[key], *(line[name] for name in swept))
        if place in rows:
            raise UsageError(f"--join {path} names {' '.join(place)} twice; keep one row")
        rows[place] = {name: _number(line[name]) for name in chosen}
    for name in chosen or ("",):
        if all(row.get(name) is None for row in rows.values()):
            what = f"the column {name} of {path}" if name else str(path)
            raise UsageError(f"--join: {what} holds no number; write numbers with a point, as 76.1")
    return OwnFigures(path, chosen, better or guessed(chosen[0]), swept, rows)


def guessed(column: str) -> Better:
    """Return which direction of a column is better, by its name."""
    low = column.lower()
    return "lower" if low.endswith(LOWER_ENDS) or any(word in low for word in LOWER) else "higher"


def _lines(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    try:
        text = bounded_text(path, LARGEST).removeprefix("\ufeff")
    except OSError as error:
        raise UsageError(f"--join {path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"--join {path} is no text in UTF-8; save it as CSV") from error
    except ValueError as error:
        raise UsageError(f"--join {path} cannot be joined: {first_line(error)}; keep one row a network") from error
    first = text.partition("\n")[0]
    comma = next((sign for sign in (",", ";", "\t") if sign in first), ",")
    try:
        header, *rows = list(csv.reader(text.splitlines(), delimiter=comma, strict=True)) or [[]]
    except csv.Error as error:
        raise UsageError(f"--join {path} is no CSV with a header: {first_line(error)}") from error
    if not header:
        raise UsageError(f"--join {path} is no CSV with a header: its first line is empty")
    header = [name.strip() for name in header]
    if len(set(header)) < len(header):
        raise UsageError(f"--join {path} has two columns of one name; give each its own")
    for number, row in enumerate(rows, start=2):
        if row and len(row) != len(header):
            raise UsageError(f"--join {path}: row {number} has {len(row)} cells, the header {len(header)}")
    return header, [dict(zip(header, map(str.strip, row), strict=True)) for row in rows if row]


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def unmatched(figures: OwnFigures, used: Iterable[tuple[str, ...] | None], labels: Sequence[str]) -> list[str]:
    """Say which networks have no row in the file, and which rows no network here."""
    keys = list(used)
    without = [label for label, key in zip(labels, keys, strict=True) if key is None]
    left = [" ".join(key) for key in figures.rows if key not in set(keys)]
    return [
        *([f"{figures.path} has no row for {_some(without)}"] if without else []),
        *([f"{figures.path} has rows that no network here is called by: {_some(left)}"] if left else []),
    ]


def _some(names: Sequence[str], most: int = 5) -> str:
    more = [f"and {len(names) - most} more"] if len(names) > most else []
    return ", ".join([*names[:most], *more])
