"""What studies yield and reports print: columns, tables and whole reports, of plain numbers."""

from __future__ import annotations

import dataclasses
import itertools
import re
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

DIGITS = ".4g"
"""How people read a number where nothing else is said; files keep all digits."""
SCHEMA_VERSION = 1
"""Version of every saved JSON; raised when a field changes its meaning."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a printed table: which key it shows, under which words, in which unit.

    `scale` divides the value before `format` (a Python format specification) prints it; None prints as `missing`. A
    `spare` column is left out where the terminal is too narrow for it; files have it.
    """

    key: str
    header: str
    unit: str = ""
    format: str = ""
    scale: float = 1.0
    justify: Literal["left", "right"] = "right"
    missing: str = "-"
    spare: bool = False

    def text(self, value: Any) -> str:  # noqa: ANN401 - any plain value a record holds
        """Return the cell for `value`, rounded for people."""
        if value is None:
            return self.missing
        if isinstance(value, bool):
            return "yes" if value else "no"
        if isinstance(value, int | float):
            if self.scale != 1.0:
                value = value / self.scale
            return format(value, self.format or (DIGITS if isinstance(value, float) else ""))
        return plain_text(value)

    @property
    def title(self) -> str:
        """The header with its unit in brackets."""
        return f"{self.header} [{self.unit}]" if self.unit else self.header


UNITS = (
    (("G", 1e9), ("M", 1e6), ("k", 1e3), ("", 1.0)),
    (("GiB", 2.0**30), ("MiB", 2.0**20), ("KiB", 2.0**10), ("B", 1.0)),
)
"""Units of numbers and of bytes, the largest first."""
SMALLEST = 0.1
"""A column whose largest figure is less than this much of its unit takes a smaller one."""


def fitted(columns: Sequence[Column], rows: Sequence[Mapping[str, Any]]) -> tuple[Column, ...]:
    """Return the columns in units that their figures fill; next to a published figure they keep that one's unit."""
    return tuple(replace(column, **_unit_of(column, rows)) for column in columns)


def filled(columns: Sequence[Column], rows: Sequence[Mapping[str, Any]]) -> list[Column]:
    """Return the columns that some row has a value for; one without any is not shown."""
    return [column for column in columns if any(row.get(column.key) is not None for row in rows)]


def _unit_of(column: Column, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    prefix, space, rest = column.unit.partition(" ")
    ladder = next((steps for steps in UNITS if (prefix, column.scale) in steps[:-1]), ())
    if not ladder or any(row.get(f"published_{column.key}") for row in rows):
        return {}
    largest = max((row[column.key] for row in rows if row.get(column.key)), default=0)
    for unit, scale in ladder[ladder.index((prefix, column.scale)) :]:
        if largest >= SMALLEST * scale or scale == 1.0:
            plain = {"format": ",.0f"} if scale == 1.0 else {}
            return {"unit": f"{unit}{space}{rest}".strip(), "scale": scale} | plain
    return {}


@dataclass(frozen=True, slots=True)
class Table:
    """What a person reads: some columns of some rows, and a sentence below them."""

    title: str
    columns: Sequence[Column]
    rows: Sequence[Mapping[str, Any]]
    caption: str = ""
    folded: bool = False
    """Whether a page that can fold shows the title alone at first."""


class Rows(Sequence[Mapping[str, Any]]):
    """Flat rows that are made as they are read, where there are too many to keep; all have the same columns."""

    columns: Sequence[str]

    @abstractmethod
    def values(self) -> Iterator[Sequence[Any]]:
        """Return the values of every row, in the order of the columns."""

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Return every row."""
        for values in self.values():
            yield dict(zip(self.columns, values, strict=True))

    def __getitem__(self, place: Any) -> Any:  # noqa: ANN401 - a row, or a list of some
        """Return a row, or some."""
        if isinstance(place, slice):
            return list(self)[place]
        return next(itertools.islice(self, range(len(self))[place], None))


@dataclass(frozen=True)
class Report:
    """Everything one command found, before anything is rounded or drawn.

    `runs` are flat rows under the `columns` of the contract, for CSV and JSON; `tables` and `notes` are for people;
    `details` holds what only the saved JSON carries (raw samples, settings); `warnings` go to stderr.
    """

    study: str
    columns: Sequence[str]
    runs: Sequence[Mapping[str, Any]]
    tables: Sequence[Table] = ()
    notes: Sequence[str] = ()
    warnings: Sequence[str] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    device: str | None = None
    """The accelerator that the figures come from, with its driver: part of the saved environment."""

    @property
    def all_columns(self) -> list[str]:
        """The contract's columns in order, then those that only some rows have."""
        if isinstance(self.runs, Rows):
            return list(self.runs.columns)
        return list(dict.fromkeys([*self.columns, *(name for run in self.runs for name in run)]))

    def run_values(self) -> Iterator[Sequence[Any]]:
        """Return the values of every run under `all_columns`, None for what it has not."""
        if isinstance(self.runs, Rows):
            return self.runs.values()
        columns = self.all_columns
        return ([run.get(column) for column in columns] for run in self.runs)


def columns_of(kind: type) -> tuple[str, ...]:
    """Return the columns of a record's rows: the names of its fields, in order, without hidden ones."""
    return tuple(item.name for item in dataclasses.fields(kind) if not item.metadata.get("hidden"))


def row_of(record: Any) -> dict[str, Any]:  # noqa: ANN401 - any frozen dataclass of plain values
    """Return a record's fields as a flat row; a mapping field with `flatten` in its metadata is spread out."""
    row: dict[str, Any] = {}
    for item in dataclasses.fields(record):
        value = getattr(record, item.name)
        if item.metadata.get("flatten"):
            row.update(value)
        elif not item.metadata.get("hidden"):
            row[item.name] = value
    return row


def plain_text(value: Any) -> str:  # noqa: ANN401 - any plain value a record holds
    """Return the one text form of a value in CSV: full precision, `true`/`false`, empty when missing."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple | list):
        return " ".join(plain_text(part) for part in value)
    if isinstance(value, float):
        return repr(float(value))
    return visible(str(value))


HIDDEN = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff\ufffe\uffff]"
)
"""What commands a terminal, turns the direction of a text, or is no text: nothing that a reader should get."""


def visible(text: str) -> str:
    r"""Return a text with control characters written out, as `\x1b`: names, files and errors may hold any."""
    return HIDDEN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def shape_text(shape: Sequence[int]) -> str:
    """Write a shape the way `--input` reads it: 3x224x224."""
    return "x".join(str(size) for size in shape)


def counted(number: int, noun: str) -> str:
    """Return `1 row`, `2 rows`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def interval_text(low: float, high: float, form: str) -> str:
    """Write the two ends of an interval, each by a format specification."""
    return f"{low:{form}} .. {high:{form}}"
