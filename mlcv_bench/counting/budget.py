"""How much memory there is, and how much of it an optimizer keeps; read without loading torch."""

from __future__ import annotations

import re

from mlcv_bench.errors import UsageError
from mlcv_bench.optimizers.rule import find

UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}


def slots_of(optimizer: str) -> int:
    """Return how many copies of the weights an optimizer keeps.

    Raises:
        UsageError: unknown optimizer, or one that needs the Hessian.

    """
    rule, _ = find(optimizer)
    if rule.needs == "hessian":
        raise UsageError(f"{optimizer} needs the Hessian, a number for every pair of weights; choose another optimizer")
    return len(rule.slots)


def parse_memory(text: str) -> int:
    """Read an amount of memory: 16GB is 16e9 bytes, 16GiB is 16 x 2**30.

    Raises:
        UsageError: the text is no amount.

    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?i?B?)", text.strip(), re.IGNORECASE | re.ASCII)
    if found is None or found[2].upper() not in UNITS or float(found[1]) == 0:
        raise UsageError(f"--memory {text} is no amount of memory; write 16GB or 16GiB")
    return int(float(found[1]) * UNITS[found[2].upper()])
