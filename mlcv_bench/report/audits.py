"""The audit and the reconciliation as people read them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlcv_bench.counting.audit import FVCORE, Audit, AuditRow
from mlcv_bench.counting.reconcile import Statement
from mlcv_bench.records import Column, Report, Table, columns_of

if TYPE_CHECKING:
    from collections.abc import Sequence


OPERATORS = (
    Column("tool", "tool", justify="left"),
    Column("operator", "operator", justify="left"),
    Column("ours", "our MACs", "", ",d"),
    Column("theirs", "it says", "", ",d"),
    Column("difference", "difference", "", "+,d"),
    Column("leftover", "leftover", "", ",d"),
    Column("explanation", "because", justify="left"),
)
OVERVIEW = (
    Column("architecture", "architecture", justify="left"),
    Column("macs", "MACs", "", ",d"),
    Column("fvcore", "fvcore says", "", ",d"),
    Column("torch", "torch says", "", ",d"),
    Column("modules", "modules compared", "", ",d"),
    Column("leftover", "leftover", "", ",d"),
)
STATEMENTS = (
    Column("tool", "tool", justify="left"),
    Column("says", "says"),
    Column("total", "to the integer", "", ",d"),
    Column("arithmetic", "because", justify="left"),
)


def audit_report(audits: Sequence[Audit]) -> Report:
    """Return the audits: one table a network, and an overview where there are several."""
    rows = [row.row() for audit in audits for row in audit.rows]
    tables = [
        Table(
            f"Audit of {audit.architecture}",
            OPERATORS,
            [row.row() for row in audit.rows],
            f"Leftover {audit.leftover}: what no rule explains, over both tools and {audit.modules_checked} modules."
            + "".join(f"\nfvcore and our trace disagree at {place}." for place in audit.modules_apart),
        )
        for audit in audits
    ]
    if len(audits) > 1:
        tables.append(Table("Audit", OVERVIEW, [overview(audit) for audit in audits]))
    return Report("audit", columns_of(AuditRow), rows, tables)


def overview(audit: Audit) -> dict[str, int | str]:
    """Return one network's line."""
    return {
        "architecture": audit.architecture,
        "macs": audit.macs,
        "fvcore": sum(row.theirs for row in audit.rows if row.tool == FVCORE),
        "torch": sum(row.theirs for row in audit.rows if row.tool != FVCORE),
        "modules": audit.modules_checked,
        "leftover": audit.leftover,
    }


def reconcile_report(statements: Sequence[Sequence[Statement]]) -> Report:
    """Return what every tool says, one table a network."""
    tables = [
        Table(
            f"What others say of {group[0].architecture}, one image of {group[0].input}",
            STATEMENTS,
            [statement.row() for statement in group],
            "A MAC is one multiply-accumulate; FLOPs = 2 x MACs. Most tools call a MAC a FLOP.",
        )
        for group in statements
    ]
    runs = [statement.row() for group in statements for statement in group]
    return Report("reconcile", columns_of(Statement), runs, tables)
