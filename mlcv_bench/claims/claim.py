"""What a claim is: a remark of the course notes, an experiment, and one rule from its numbers to a verdict.

The rule, which a reader can redo by hand from the printed numbers. Every quantity compares what was measured with what
theory predicts. A quantity of the role `statement` says what the remark says; one of the role `limit` says where the
remark stops holding, and is as much a part of the claim: theory predicts it as well.

- a quantity, statement or limit, that is not met: `does_not_hold`;
- else one that is open: `not_decided`;
- else, if there is a limit: `holds_with_limit`;
- else `holds`.

So no quantity that gets worse, from met to open to not met, makes a verdict better. A measurement that is statistical
comes with an interval: it is met where the whole interval is where it should be, not met where none of it is, and
open otherwise. `=` claims equality within its tolerance, stated before anything is measured: a wide interval that holds
the prediction and reaches beyond the tolerance is open, however well its middle fits.
"""

from __future__ import annotations

import importlib
import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from mlcv_bench.records import row_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mlcv_bench.statistics import Interval

Verdict = Literal["holds", "holds_with_limit", "does_not_hold", "not_decided"]
Relation = Literal["=", "<=", ">=", "<", ">"]
Role = Literal["statement", "limit"]

COLUMNS = (
    *("id", "section", "remark", "verdict", "measured", "predicted", "tolerance", "unit", "seconds", "explanation"),
    *("expected", "quantity", "effect", "status", "reason", "limit"),
)
"""The columns of `claims` in CSV; the first ten are the contract's, of the claim's first quantity."""


@dataclass(frozen=True)
class Claim:
    """A remark that can be tested; its function lives at `place` and returns a Finding.

    `expected` is the verdict recorded in this repository; a change of it is news, and exit code 1. `limit` says
    in a few words where a remark that holds with a limit ends.
    """

    id: str
    section: str
    remark: str
    place: str
    expected: Verdict
    quick: bool = True
    limit: str = ""

    def experiment(self) -> Callable[[], Finding]:
        """Import and return the claim's function."""
        module, _, name = self.place.partition(":")
        found: Callable[[], Finding] = getattr(importlib.import_module(module), name)
        return found


@dataclass(frozen=True)
class Quantity:
    """One number of an experiment beside theory's.

    Attributes:
        name: what was measured, in words.
        measured: the number found.
        predicted: theory's number.
        tolerance: how far `=`, `<=` and `>=` may miss it, from theory, rounding or, where there is an interval, the
            resolution that is asked for; in the same unit, relative where `relative` says.
        relation: how measured and predicted have to stand for the quantity to be met.
        role: whether it says what the remark says, or where the remark ends.
        unit: the unit of all three numbers.
        interval: where the measurement is statistical, its interval.
        relative: whether the tolerance is a share of the prediction.

    """

    name: str
    measured: float
    predicted: float
    tolerance: float = 0.0
    relation: Relation = "="
    role: Role = "statement"
    unit: str = ""
    interval: tuple[float, float] | None = None
    relative: bool = False

    @classmethod
    def estimated(
        cls,
        name: str,
        found: Interval,
        predicted: float,
        tolerance: float = 0.0,
        relation: Relation = "=",
        role: Role = "statement",
        unit: str = "",
        *,
        relative: bool = False,
    ) -> Quantity:
        """Return a quantity whose measurement is an estimate with its interval."""
        return cls(name, found.middle, predicted, tolerance, relation, role, unit, (found.low, found.high), relative)

    @property
    def met(self) -> bool | None:
        """Whether measured and predicted stand as they should; None where the interval leaves it open."""
        if math.isnan(self.measured):
            return False
        low, high = self.interval or (self.measured, self.measured)
        slack = self.tolerance * (abs(self.predicted) if self.relative else 1.0)
        least, most = self.predicted - slack, self.predicted + slack
        inside, outside = {
            "=": (least <= low and high <= most, high < least or most < low),
            "<=": (high <= most, most < low),
            ">=": (least <= low, high < least),
            "<": (high < self.predicted, self.predicted <= low),
            ">": (self.predicted < low, high <= self.predicted),
        }[self.relation]
        return True if inside else False if outside else None


@dataclass(frozen=True)
class Finding:
    """What an experiment found: its quantities, the deciding one first, and a sentence in plain words.

    The sentence goes with the recorded verdict; where another one comes out, `examine` gives the numbers instead.
    """

    quantities: tuple[Quantity, ...]
    explanation: str
    effect: float | None = None
    figure: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def verdict(self) -> Verdict:
        """The verdict, by the rule at the head of this file."""
        met = {one.met for one in self.quantities}
        if False in met:
            return "does_not_hold"
        if None in met:
            return "not_decided"
        return "holds_with_limit" if any(one.role == "limit" for one in self.quantities) else "holds"

    @property
    def shortfall(self) -> str:
        """What is not met and what is open, in numbers."""
        words = [
            f"{'Open' if one.met is None else 'Not met'}: {one.name}, {one.measured:.4g}, "
            f"where {one.relation} {one.predicted:.4g} is predicted."
            for one in self.quantities
            if not one.met
        ]
        return " ".join(words or ["Every quantity is met."])


@dataclass(frozen=True)
class ClaimResult:
    """A claim's row: the contract's columns, of its first quantity; all quantities stay beside it."""

    id: str
    section: str
    remark: str
    verdict: Verdict | None
    measured: float | None
    predicted: float | None
    tolerance: float | None
    unit: str
    seconds: float
    explanation: str
    expected: Verdict
    quantity: str
    effect: float | None
    status: Literal["done", "failed"]
    reason: str
    limit: str = ""
    finding: Finding | None = field(default=None, metadata={"hidden": True})

    @property
    def changed(self) -> bool:
        """Whether the verdict is not the recorded one."""
        return self.status == "done" and self.verdict != self.expected

    def row(self) -> dict[str, Any]:
        """Return the record under the columns of the contract."""
        return row_of(self)


def examine(claim: Claim, clock: Callable[[], float] = time.perf_counter) -> ClaimResult:
    """Run a claim's experiment and judge it; an experiment that raises is a failed row, not the end."""
    start = clock()
    shared: dict[str, Any] = {"id": claim.id, "section": claim.section, "remark": claim.remark}
    try:
        finding = claim.experiment()()
    except Exception as error:  # noqa: BLE001 - one broken experiment must not cost the others
        return ClaimResult(
            **shared,
            verdict=None,
            measured=None,
            predicted=None,
            tolerance=None,
            unit="",
            seconds=clock() - start,
            explanation="",
            expected=claim.expected,
            quantity="",
            effect=None,
            status="failed",
            reason=f"{type(error).__name__}: {error}",
        )
    first, as_recorded = finding.quantities[0], finding.verdict == claim.expected
    return ClaimResult(
        **shared,
        verdict=finding.verdict,
        measured=first.measured,
        predicted=first.predicted,
        tolerance=first.tolerance,
        unit=first.unit,
        seconds=clock() - start,
        explanation=finding.explanation if as_recorded else finding.shortfall,
        expected=claim.expected,
        quantity=first.name,
        effect=finding.effect,
        status="done",
        reason="",
        limit=claim.limit if finding.verdict == "holds_with_limit" else "",
        finding=finding,
    )
