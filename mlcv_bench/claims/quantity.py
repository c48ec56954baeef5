"""One number of an experiment beside theory's, and when the two stand as they should."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from mlcv_bench.statistics import Interval

Relation = Literal["=", "<=", ">=", "<", ">"]
Role = Literal["statement", "limit"]


@dataclass(frozen=True)
class Quantity:
    """One number of an experiment, and theory's for it.

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
        lowest, highest = self.predicted - slack, self.predicted + slack
        inside, outside = {
            "=": (lowest <= low and high <= highest, high < lowest or highest < low),
            "<=": (high <= highest, highest < low),
            ">=": (lowest <= low, high < lowest),
            "<": (high < self.predicted, self.predicted <= low),
            ">": (self.predicted < low, high <= self.predicted),
        }[self.relation]
        return True if inside else False if outside else None
