"""What is asked of `flops` and `params`: networks, batches, and which way to count. Checked without torch."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mlcv_bench.architectures.request import Networks
from mlcv_bench.errors import UsageError

UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}


@dataclass(frozen=True)
class CostRequest:
    """Networks to count, each at every batch; `sort` and `top` order and cut the plain count.

    `ways` holds one of audit, reconcile and training, or nothing; `optimizers` (none is sgd) and `memory` (16GB)
    belong to training.
    """

    networks: Networks
    batches: tuple[int, ...] = (1,)
    ways: tuple[str, ...] = ()
    optimizers: tuple[str, ...] = ()
    memory: str | None = None
    sort: str | None = None
    top: int | None = None

    def check(self) -> None:
        """Refuse options that say nothing together, and what is wrong with a single one.

        Raises:
            UsageError: one sentence.

        """
        if len(self.ways) > 1:
            raise UsageError(f"--{self.ways[0]} and --{self.ways[1]} are different tables; ask for one at a time")
        if "training" not in self.ways and (self.optimizers or self.memory):
            option = "--optimizer" if self.optimizers else "--memory"
            raise UsageError(f"{option} belongs to --training; add --training")
        if self.ways == ("reconcile",) and self.batches != (1,):
            raise UsageError("--reconcile speaks of one image; leave --batch out")
        if self.ways and (self.sort or self.top):
            option = "sort" if self.sort else "top"
            raise UsageError(f"--{option} orders the plain count; leave it out with --{self.ways[0]}")
        self.networks.check()
        if "training" in self.ways:
            for optimizer in self.optimizers:
                slots_of(optimizer)
            if self.memory is not None:
                parse_memory(self.memory)


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
