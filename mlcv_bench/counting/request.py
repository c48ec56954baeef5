"""What is asked of `flops` and `params`: networks, batches, and which way to count. Checked without torch."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from mlcv_bench.architectures.request import Networks
from mlcv_bench.counting.own_figures import Better, OwnFigures, read
from mlcv_bench.counting.setting_range import parse_range
from mlcv_bench.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}


@dataclass(frozen=True)
class CostRequest:
    """Networks to count, each at every batch; `sort` and `top` order and cut the plain count.

    `ways` holds one of audit, reconcile and training, or nothing; `optimizers` (none is sgd) and `memory` (16GB)
    belong to training. `join` is a CSV of one's own with `join_columns` (its first numbers if none is named), `better`
    the direction of the first; at the value in `setting_range` (width=16..128) the networks cost as much as `match`.
    """

    networks: Networks
    batches: tuple[int, ...] = (1,)
    ways: tuple[str, ...] = ()
    optimizers: tuple[str, ...] = ()
    memory: str | None = None
    sort: str | None = None
    top: int | None = None
    join: Path | None = None
    join_columns: tuple[str, ...] = ()
    better: Better | None = None
    match: str | None = None
    setting_range: str | None = None

    def check(self) -> None:
        """Refuse options that say nothing together, and what is wrong with a single one.

        Raises:
            UsageError: one sentence.

        """
        self._check_ways()
        self._check_beside()
        self.ranged(0).check()
        if "training" in self.ways:
            for optimizer in self.optimizers:
                slots_of(optimizer)
            if self.memory is not None:
                parse_memory(self.memory)

    def _check_beside(self) -> None:
        if (self.join_columns or self.better) and self.join is None:
            option = "--join-column" if self.join_columns else "--better"
            raise UsageError(f"{option} speaks of the file that --join names; add --join results.csv")
        if (self.match is None) != (self.setting_range is None):
            raise UsageError(
                "--match-macs and --set-range belong together: --match-macs resnet50 --set-range width=16..128"
            )
        if self.match is not None:
            Networks((self.match,), shapes=self.networks.shapes).check()
            Networks((self.match,)).check_one("--match-macs")
        _ = self.own_figures  # reads the file

    def _check_ways(self) -> None:
        if len(self.ways) > 1:
            raise UsageError(f"--{self.ways[0]} and --{self.ways[1]} are different tables; ask for one at a time")
        if "training" not in self.ways and (self.optimizers or self.memory):
            option = "--optimizer" if self.optimizers else "--memory"
            raise UsageError(f"{option} belongs to --training; add --training")
        if self.ways == ("reconcile",) and self.batches != (1,):
            raise UsageError("--reconcile speaks of one image; leave --batch out")
        for option in ("sort", "top", "join", "match"):
            if self.ways and getattr(self, option):
                name = "match-macs" if option == "match" else option
                raise UsageError(f"--{name} belongs to the plain count; leave it out with --{self.ways[0]}")

    def ranged(self, place: int) -> Networks:
        """Return the networks, with a value of the range as one more setting.

        Raises:
            UsageError: no range, or one of a setting that has a value already.

        """
        if self.setting_range is None:
            return self.networks
        span = parse_range(self.setting_range)
        if span.key in dict(self.networks.settings):
            raise UsageError(f"--set-range looks for {span.key}, which --set gives a value; keep one")
        return replace(self.networks, settings=tuple(sorted([*self.networks.settings, (span.key, span[place])])))

    @cached_property
    def own_figures(self) -> OwnFigures | None:
        """The file of one's own, if one is named; read once, as a pipe can be.

        Raises:
            UsageError: it cannot be joined.

        """
        return None if self.join is None else read(self.join, self.join_columns, self.better)


def slots_of(optimizer: str) -> int:
    """Return how many copies of the weights an optimizer keeps.

    Raises:
        UsageError: unknown optimizer, or one that needs the Hessian.

    """
    from mlcv_bench.optimizers.rule import find  # noqa: PLC0415 - reads all rules, for training alone

    rule, _ = find(optimizer)
    if rule.needs == "hessian":
        raise UsageError(f"{optimizer} needs the Hessian, a number for every pair of weights; choose another optimizer")
    return len(rule.slots)


def parse_memory(text: str | int) -> int:
    """Read an amount of memory: 16GB is 16e9 bytes, 16GiB is 16 x 2**30, a number is bytes.

    Raises:
        UsageError: the text is not an amount.

    """
    text = str(text)
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?i?B?)", text.strip(), re.IGNORECASE | re.ASCII)
    if found is None or found[2].upper() not in UNITS or float(found[1]) == 0:
        raise UsageError(f"--memory {text} is no amount of memory; write 16GB or 16GiB")
    return int(float(found[1]) * UNITS[found[2].upper()])
