"""Claims as people read them: a table of verdicts, and one of every number behind them."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from mlcv_bench.claims.claim import ClaimResult
from mlcv_bench.claims.quantity import Quantity
from mlcv_bench.records import Column, Report, Table, columns_of, counted, interval_text, row_of

if TYPE_CHECKING:
    from collections.abc import Sequence

VERDICTS = {
    "holds": "holds",
    "holds_with_limit": "holds with a limit",
    "does_not_hold": "does not hold",
    "not_decided": "not decided",
    None: "failed",
}
SUMMARY = (
    Column("id", "claim", justify="left"),
    Column("verdict_text", "verdict", justify="left"),
    Column("remark_text", "the notes' remark, and its limit", justify="left"),
    Column("seconds", "time", "s", ".1f"),
)
NUMBERS = (
    Column("id", "claim", justify="left"),
    Column("quantity", "quantity", justify="left"),
    Column("measured", "measured", "", ".6g"),
    Column("relation", "", justify="left"),
    Column("predicted", "predicted", "", ".6g"),
    Column("tolerance", "tolerance", "", ".2g"),
    Column("interval", "interval", missing=""),
    Column("met", "met", missing="open"),
)
RULE = (
    "A statement or a limit that is not met: does not hold. Else one whose interval leaves it open: not decided. "
    "Else, with limits: holds with a limit. Else: holds."
)


def claims_report(
    results: Sequence[ClaimResult], *, explain: bool = False, numbers: bool = False, left_out: Sequence[str] = ()
) -> Report:
    """Return what `claims` shows.

    Args:
        results: the claims that were tested.
        explain: add a sentence a claim.
        numbers: add the table of every number behind the verdicts.
        left_out: ids of the claims that were not tested because they take long.

    """
    rows = [
        row_of(result)
        | {
            "verdict_text": VERDICTS[result.verdict],
            "remark_text": f"{result.remark} Limit: {result.limit}." if result.limit else result.remark,
        }
        for result in results
    ]
    counts = [f"{sum(r.verdict == verdict for r in results)} {words}" for verdict, words in VERDICTS.items()]
    caption = f"{counted(len(results), 'claim')}: {', '.join(count for count in counts if not count.startswith('0 '))}."
    details = {
        result.id: [number_row(result, one) for one in result.evidence.quantities]
        for result in results
        if result.evidence
    }
    behind = list(itertools.chain.from_iterable(details.values()))
    return Report(
        "claims",
        columns_of(ClaimResult),
        [row_of(result) for result in results],
        [
            Table("Claims", SUMMARY, rows, caption),
            *([Table("The numbers behind them", NUMBERS, behind, RULE)] if numbers else []),
        ],
        notes=[
            *(f"{result.id}: {result.explanation}" for result in results if explain and result.explanation),
            *([f"Left out, since each takes minutes (--all tests them): {', '.join(left_out)}."] if left_out else []),
        ],
        details=details,
    )


def number_row(result: ClaimResult, one: Quantity) -> dict[str, Any]:
    """Return one quantity as a row."""
    return {
        "id": result.id,
        "quantity": ("limit: " if one.role == "limit" else "") + one.name,
        "role": one.role,
        "measured": one.measured,
        "relation": one.relation,
        "predicted": one.predicted,
        "tolerance": one.tolerance * abs(one.predicted) if one.relative else one.tolerance,
        "interval": interval_text(*one.interval, ".5g") if one.interval else None,
        "met": one.met,
        "unit": one.unit,
    }
