"""What papers and libraries print: published figures, shipped as data with their sources."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal


@dataclass(frozen=True, slots=True)
class Published:
    """One published figure: parameters and MACs per image; `recount` to the integer, `printed` as rounded."""

    name: str
    input: tuple[int, ...]
    params: int | None
    macs: int | None
    kind: Literal["recount", "printed"]
    source: str


@cache
def figures() -> tuple[Published, ...]:
    """Read every published figure, in the file's order."""
    text = resources.files("mlcv_bench.counting").joinpath("published.csv").read_text(encoding="utf-8")
    return tuple(
        Published(
            row["name"],
            tuple(int(size) for size in row["input"].split("x")),
            int(row["params"]) if row["params"] else None,
            int(row["macs"]) if row["macs"] else None,
            "printed" if row["kind"] == "printed" else "recount",
            row["source"],
        )
        for row in csv.DictReader(text.splitlines())
    )


def published(name: str, shape: tuple[int, ...]) -> tuple[int | None, int | None, str | None]:
    """Return the published parameters, MACs per image and source of an architecture at an input shape.

    What a paper printed goes before what was recounted from its definition; MACs only at the published input.
    """
    rows = sorted((row for row in figures() if row.name == name), key=lambda row: row.kind != "printed")
    of_params = next((row for row in rows if row.params is not None), None)
    of_macs = next((row for row in rows if row.macs is not None and row.input == shape), None)
    sources = dict.fromkeys(row.source for row in (of_params, of_macs) if row is not None)
    return (
        of_params.params if of_params else None,
        of_macs.macs if of_macs else None,
        "; ".join(sources) or None,
    )
