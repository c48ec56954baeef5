"""Why every tool and table says something else of one network: the arithmetic from the exact count to each figure."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from mlcv_bench.architectures import catalog
from mlcv_bench.counting import tools
from mlcv_bench.counting.cost import count
from mlcv_bench.counting.network import Network, Observation, observe
from mlcv_bench.counting.published import figures
from mlcv_bench.counting.tools import Share
from mlcv_bench.records import row_of

if TYPE_CHECKING:
    from collections.abc import Iterator

GIGA = 10**9
TORCHVISION = "torchvision's documentation"
TIMM = "timm's model card"
"""Sources whose figures are tools', not papers'."""

FORMS = {
    "torch FlopCounterMode": (3, "GFLOP", 2),
    "fvcore": (3, "G", 1),
    "thop": (3, "G", 1),
    "ptflops": (2, "GMac", 1),
    "torchinfo": (2, "G", 1),
}
"""How each tool prints its figure: decimals and unit, and how many of that a MAC is."""

GOOGLENET_CELLS = {
    "conv1": 34,
    "conv2-conv3": 360,
    "inception3a": 128,
    "inception3b": 304,
    "inception4a": 73,
    "inception4b": 88,
    "inception4c": 100,
    "inception4d": 119,
    "inception4e": 170,
    "inception5a": 54,
    "inception5b": 71,
    "fc": 1,
}
"""Millions of operations in the cells of Szegedy et al. 2015, table 1, by our modules' names."""


@dataclass(frozen=True)
class Statement:
    """What one tool or table says of a network, and how it gets there.

    `total` is the tool's figure in its own unit, to the integer; `per_mac` how many of that unit a MAC is; `says` is
    what a reader sees, rounded as the tool rounds; `steps` lead from the exact count to the total, and add up to
    `difference`.
    """

    architecture: str
    input: str
    batch: int
    tool: str
    says: str
    total: int
    per_mac: int
    exact_macs: int
    difference: int
    arithmetic: str
    steps: tuple[Share, ...] = field(metadata={"hidden": True})

    def row(self) -> dict[str, Any]:
        """Return the record as plain values."""
        return row_of(self)


def reconcile(network: Network) -> list[Statement]:
    """Return what torchvision's table, timm's, the paper and five tools say of one image, each with its arithmetic.

    Raises:
        UsageError: the network cannot be counted.

    """
    seen = observe(network, functions=True)
    exact = seen.trace.macs
    name, shape = network.request.label, network.request.input_text

    def statement(
        tool: str, says: str, total: int, steps: tuple[Share, ...], text: str = "", per_mac: int = 1
    ) -> Statement:
        text, difference = text or written(steps, per_mac), total - per_mac * exact
        return Statement(name, shape, 1, tool, says, total, per_mac, exact, difference, text, steps)

    found = [statement("exact", f"{exact:,}", exact, (), "convolutions, linear layers and matrix products")]
    if network.request.plain:
        found += [statement(*printed) for printed in tables(network, seen, exact)]
    for tool, (decimals, unit, per_mac) in FORMS.items():
        tally = tools.tally(tool, seen.trace, seen.module)
        says, steps = f"{tally.total / GIGA:.{decimals}f} {unit}", steps_of(tally, exact, per_mac)
        found.append(statement(tool, says, tally.total, steps, per_mac=per_mac))
        if tool == "fvcore":
            text = "as fvcore, with which it counts, rounded to two decimals"
            found.append(statement("timm's table", f"{tally.total / GIGA:.2f} GMACs", tally.total, steps, text))
    return found


def steps_of(tally: tools.Tally, exact: int, per_mac: int) -> tuple[Share, ...]:
    """Return what a tool adds to, or leaves out of, the exact count."""
    steps = []
    products: Fraction | int = 0
    for (term, weight), elements in tally.shares.items():
        share = Share(term, elements, weight)
        if term in {tools.EXACT, tools.MISSED, tools.NO_EFFECT}:
            products += share.amount
        elif share.amount:
            steps.append(share)
    gap = int(products) - per_mac * exact
    if gap < 0:
        steps.insert(0, Share(tools.MISSED, -gap, -1))
    elif gap > 0:
        steps.insert(0, Share("products counted more than once", gap))
    return tuple(steps)


def written(steps: tuple[Share, ...], per_mac: int = 1) -> str:
    """Write the arithmetic: exact + 2 x 11,113,984 batch-norm elements."""
    text = "exact" if per_mac == 1 else f"{per_mac} x exact"
    for step in steps:
        sign = "-" if step.weight < 0 else "+"
        weight = "" if abs(step.weight) == 1 else f"{float(abs(step.weight)):g} x "
        text += f" {sign} {weight}{step.elements:,} {step.term}"
    return text


def tables(network: Network, seen: Observation, exact: int) -> Iterator[tuple[str, str, int, tuple[Share, ...], str]]:
    """Yield what tables print of the network at this input: whose, what, the total behind it, the way there, why."""
    name = network.request.name
    for row in sorted(figures(), key=lambda row: row.source != TORCHVISION):
        if row.kind != "printed" or row.macs is None or row.input != network.request.input:
            continue
        whose, says = "the paper", f"{row.macs.value / GIGA:g} G"
        if row.source == TORCHVISION:
            if row.name == name:
                model = catalog.find(name).torchvision
                text = f"exact, rounded to two decimals; it calls a MAC one operation ({model})"
                yield "torchvision's table", f"{row.macs.value / GIGA:.2f} GFLOPS", exact, (), text
        elif row.name == name == "googlenet":
            yield whose, says, row.macs.value, (), googlenet_cells(seen)
        elif row.name == name and row.source != TIMM:
            yield (
                whose,
                says,
                exact,
                (),
                f"exact, as {row.source} prints it ({100 * (row.macs.value / exact - 1):+.1f} %)",
            )
        elif f"{row.name}_v1_5" == name:
            total = count(row.name, input=network.request.input).macs
            step = Share("for the stride in the first 1x1 instead of the 3x3", exact - total, -1)
            text = f"{written((step,))}, as {row.source} prints it ({100 * (row.macs.value / total - 1):+.1f} %)"
            yield whose, says, total, (step,), text


def googlenet_cells(seen: Observation) -> str:
    """Say where the operations column of GoogLeNet's table departs from the exact count, cell by cell."""
    ours = dict.fromkeys(GOOGLENET_CELLS, 0)
    for call in seen.trace.calls:
        head = call.module.partition(".")[0]
        cell = next((name for name in ours if head in name.split("-")), None)
        if cell is not None:
            ours[cell] += call.work.macs
    apart = [
        f"{cell} {printed} M, exact {ours[cell] / 1e6:.1f} M"
        for cell, printed in GOOGLENET_CELLS.items()
        if abs(ours[cell] / 1e6 - printed) > 1
    ]
    return "the sum of the table's cells; they differ from the exact count at " + "; ".join(apart)
