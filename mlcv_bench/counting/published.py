"""What papers and tables print of networks, with their sources, what we recounted, and the paper's widths of groups."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

UNITS = {"M": 10**6, "G": 10**9}
PAPER_WIDTHS = {1: 64, 2: 40, 4: 24, 8: 14, 32: 4}
"""Xie et al. 2017, table 2: d for each G at C = 256, d0 = 64."""


class PrintedNumber(NamedTuple):
    """A number as it is printed: its value, and what one of its last digit is worth (25.0 M: 100,000)."""

    value: int
    digit: int

    @classmethod
    def parse(cls, text: str) -> PrintedNumber | None:
        """Read `25.0M`, `4.2G` or `25557032`; an empty text gives None."""
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
    params: PrintedNumber | None
    macs: PrintedNumber | None
    kind: Literal["recount", "printed"]
    source: str
    remark: str


@cache
def figures() -> tuple[Published, ...]:
    """Read every figure, in the file's order."""
    text = Path(__file__).with_name("published.csv").read_text(encoding="utf-8")
    return tuple(
        Published(
            row["name"],
            tuple(int(size) for size in row["input"].split("x")),
            PrintedNumber.parse(row["params"]),
            PrintedNumber.parse(row["macs"]),
            "printed" if row["kind"] == "printed" else "recount",
            row["source"],
            row["remark"],
        )
        for row in csv.DictReader(text.splitlines())
    )


class Known(NamedTuple):
    """Parameters and MACs per image of a network from sources of one kind, and the sources."""

    params: PrintedNumber | None = None
    macs: PrintedNumber | None = None
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


def matching_width(groups: int, channels: int = 256, bottleneck: int = 64) -> float:
    """Solve 9 G d^2 + 2 C G d = 9 d0^2 + 2 C d0 for its positive root d.

    Left: weights (and MACs a pixel) of a block of G branches 1x1 to d, 3x3 from d to d, 1x1 back to C; right: those of
    the bottleneck with d0 channels.

    Args:
        groups: the number of branches G, at least 1.
        channels: the block's input and output channels C.
        bottleneck: the bottleneck's inner channels d0.

    """
    a, b = 9 * groups, 2 * channels * groups
    c = -(9 * bottleneck**2 + 2 * channels * bottleneck)
    return (-b + math.sqrt(b * b - 4 * a * c)) / (2 * a)


def block_macs_per_pixel(groups: int, width: int, channels: int = 256) -> int:
    """Return the MACs per pixel of a ResNeXt block without projection: 1x1, grouped 3x3, 1x1."""
    return 2 * channels * groups * width + 9 * groups * width**2


def paper_width(groups: int) -> int:
    """Return the d of the paper for G groups, or the equation's root rounded where the paper has none."""
    return PAPER_WIDTHS.get(groups) or max(1, round(matching_width(groups)))
