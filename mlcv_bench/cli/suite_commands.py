"""Checking a suite's commands before any runs: Typer reads their options, and the tables their names.

Neither torch nor anybody's own file is imported for that: what a specification names is checked in its entry's process.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mlcv_bench.errors import UsageError


def check_claims(given: dict[str, Any]) -> None:
    """Check the ids and sections of `claims`."""
    from mlcv_bench.claims.catalog import select

    if given["ids"] and given["sections"]:
        raise UsageError("give --id or --section, not both")
    select(given["ids"] or [], given["sections"] or [], everything=given["everything"])


CHECKS: dict[str, Callable[[dict[str, Any]], None]] = {"claims": check_claims}
