"""The values that a setting may take, as `--set-range` reads them. Loads no torch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal

from mlcv_bench.errors import UsageError

NUMBER = r"-?\d{1,12}(?:\.\d{1,12})?"
RANGE = re.compile(rf"([A-Za-z_]\w*)=({NUMBER})\.\.({NUMBER})(?::({NUMBER}))?", re.ASCII)


@dataclass(frozen=True)
class SettingRange:
    """The values that a setting may take: `low`, then by `step` up to `high` at most. Exact, as they are written."""

    key: str
    low: Decimal
    high: Decimal
    step: Decimal

    def __len__(self) -> int:
        """Return how many values there are."""
        return int((self.high - self.low) / self.step) + 1

    def __getitem__(self, place: int) -> str:
        """Return one value as `--set` reads it."""
        return str(self.low + place * self.step)

    def __str__(self) -> str:
        """Write it as `--set-range` reads it."""
        return f"{self.key}={self.low}..{self.high}{'' if self.step == 1 else f':{self.step}'}"


def parse_range(text: str) -> SettingRange:
    """Read width=16..128, by ones, or width=0.25..2:0.05.

    Raises:
        UsageError: it is no range, or holds no two values.

    """
    found = RANGE.fullmatch(text.replace(" ", ""))
    if found is None:
        raise UsageError(f"--set-range {text} is no range; write width=16..128, or with a step width=16..128:8")
    key, low, high, step = found.groups()
    if step is None and "." in low + high:
        raise UsageError(f"--set-range {text} needs a step; write {key}={low}..{high}:0.05")
    span = SettingRange(key, Decimal(low), Decimal(high), Decimal(step or 1))
    if span.step <= 0 or span.low + span.step > span.high:
        raise UsageError(f"--set-range {text} holds no two values; write the lower one first, as {key}=16..128")
    return span
