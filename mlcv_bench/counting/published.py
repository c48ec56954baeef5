"""What papers and tables print of networks, with their sources, and what was recounted from a definition by us."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from importlib import resources
from typing import Literal, NamedTuple

UNITS = {"M": 10**6, "G": 10**9}


class Figure(NamedTuple):
    """A number as it is printed: its value, and what one of its last digit is worth (25.0 M: 100,000)."""

    value: int
    digit: int

    @classmethod
    def parse(cls, text: str) -> Figure | None:
        """Read `25.0M`, `4.2G` or `25557032`; an empty text is no figure."""
        if not text:
            return None
        unit = UNITS.get(text[-1], 1)
        number = Decimal(text.rstrip("MG"))
        return cls(int(number * unit), int(Decimal(unit).scaleb(int(number.as_tuple().exponent))))

    def is_met_by(self, count: int) -> bool:
        """Tell whether a count rounds to the figure or is cut off at it; authors do both."""
        return 2 * self.value - self.digit <= 2 * count and count < self.value + self.digit

    def difference(self, count: int) -> float:
        """Return the relative difference of a count, which is 0 where the printed digits show none."""
        return 0.0 if self.is_met_by(count) else count / self.value - 1


@dataclass(frozen=True, slots=True)
class Published:
    """What one source says of a network: parameters, MACs per image.

    `printed` figures stand there in so many digits; a `recount` is ours, to the integer, from the definition in the
    source. `remark` says what is wrong with a printed figure that the network does not meet.
    """

    name: str
    input: tuple[int, ...]
    params: Figure | None
    macs: Figure | None
    kind: Literal["recount", "printed"]
    source: str
    remark: str


@cache
def figures() -> tuple[Published, ...]:
    """Read every figure, in the file's order."""
    text = resources.files("mlcv_bench.counting").joinpath("published.csv").read_text(encoding="utf-8")
    return tuple(
        Published(
            row["name"],
            tuple(int(size) for size in row["input"].split("x")),
            Figure.parse(row["params"]),
            Figure.parse(row["macs"]),
            "printed" if row["kind"] == "printed" else "recount",
            row["source"],
            row["remark"],
        )
        for row in csv.DictReader(text.splitlines())
    )


class Known(NamedTuple):
    """Parameters and MACs per image of a network from sources of one kind, and the sources."""

    params: Figure | None = None
    macs: Figure | None = None
    source: str | None = None


def known(name: str, shape: tuple[int, ...], kind: Literal["recount", "printed"]) -> Known:
    """Return what the first source of a kind says of an architecture; of MACs, at this input alone."""
    rows = [row for row in figures() if (row.name, row.kind) == (name, kind)]
    of_params = next(((row.params, row.source) for row in rows if row.params is not None), (None, None))
    of_macs = next(
        ((row.macs, row.source) for row in rows if row.macs is not None and row.input == shape), (None, None)
    )
    sources = dict.fromkeys(source for _, source in (of_params, of_macs) if source is not None)
    return Known(of_params[0], of_macs[0], "; ".join(sources) or None)
