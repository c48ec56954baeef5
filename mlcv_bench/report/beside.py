"""What stands beside the cost of each network: figures of one's own with the Pareto front, or the way to equal cost."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mlcv_bench.counting.own_figures import front, unmatched
from mlcv_bench.errors import UsageError
from mlcv_bench.records import Column

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlcv_bench.counting.equal_cost import Counted
    from mlcv_bench.counting.own_figures import OwnFigures


@dataclass(frozen=True)
class Beside:
    """Columns beside those of the cost: for people, and under their keys for files; one row a network."""

    columns: Sequence[Column]
    rows: Sequence[Mapping[str, Any]]
    caption: str
    warnings: Sequence[str] = ()
    details: Mapping[str, Any] = field(default_factory=dict)


def joined(counted: Sequence[Counted], figures: OwnFigures) -> Beside:
    """Set a file's figures beside the costs, and tell which networks are on the front of MACs against the first.

    Raises:
        UsageError: no network here has such a figure, or the cost has a column of that name itself.

    """
    for name in figures.columns:
        if name in counted[0].cost.row():
            raise UsageError(
                f"--join {figures.path} gives {name}, which the cost has itself; rename that column, or name another "
                "by --join-column"
            )
    keys = [figures.found([one.label, one.cost.architecture], one.cost.row()) for one in counted]
    empty = dict.fromkeys(figures.columns)
    own = [figures.rows[key] if key is not None else empty for key in keys]
    first = figures.columns[0]
    if all(row[first] is None for row in own):
        raise UsageError(f"--join {figures.path} has no {first} of any network here; it speaks of {figures.names}")
    ahead = front([(one.cost.macs, row[first]) for one, row in zip(counted, own, strict=True)], figures.better)
    rows = [
        dict(row) | {"pareto_front": on if row[first] is not None else None} for row, on in zip(own, ahead, strict=True)
    ]
    return Beside(
        (*(Column(name, name) for name in figures.columns), Column("pareto_front", "front")),
        rows,
        f"Front: no other here is ahead in MACs or {first} ({figures.better} is better) and not behind.",
        unmatched(figures, keys, [one.label for one in counted]),
        {"join": {"file": str(figures.path), "columns": figures.columns, "better": figures.better}},
    )


def equal_cost(counted: Sequence[Counted]) -> Beside:
    """Set beside each network how far its MACs are from those that it was to have."""
    rows = [{"match_difference": one.cost.macs / one.target - 1 if one.target else None} for one in counted]
    return Beside(
        (Column("match_difference", "off", "%", "+.2f", 0.01),),
        rows,
        "Off: the MACs over those to be matched, less 1.",
        [doubt for one in counted for doubt in one.doubts],
    )
