"""Two networks compared: their blocks aligned in the order they run, with what each costs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from mlcv_bench.counting.network import Network, observe
from mlcv_bench.counting.tree import Node, tree_of
from mlcv_bench.records import row_of, shape_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mlcv_bench.architectures.request import Request

SAME_NAME = 4.0
SAME_KIND = 0.5
SAME_OUTPUT = 1.5
SAME_SIZE = 1.0
ENOUGH = 1.0
"""Two blocks are partners if they have at least so much in common: the size of the image, if nothing else."""


@dataclass(frozen=True)
class DiffRow:
    """One block of each network; None where one has no partner. Ratios are second / first, None where first is zero."""

    first: str | None = None
    second: str | None = None
    first_kind: str | None = None
    second_kind: str | None = None
    first_output: str | None = None
    second_output: str | None = None
    first_params: int | None = None
    second_params: int | None = None
    params_ratio: float | None = None
    first_macs: int | None = None
    second_macs: int | None = None
    macs_ratio: float | None = None

    def row(self) -> dict[str, Any]:
        """Return the record as plain values."""
        return row_of(self)


def blocks_of(root: Node, depth: int) -> list[Node]:
    """Return the modules at `depth`, or the leaves above it, in the order of definition.

    Their costs add up to the root's. Weights and operators that belong to a module itself, not to its children, stand
    under the module's own name. Modules without either (activations, pools, dropout) are left out.
    """
    return [node for node in _blocks(root, depth) if node.params or node.macs]


def _blocks(node: Node, depth: int) -> Iterator[Node]:
    if depth == 0 or not node.children:
        yield node
        return
    for child in node.children:
        yield from _blocks(child, depth - 1)
    yield replace(
        node,
        path=f"{node.path} (itself)",
        receptive_field=None,
        params=node.params - sum(child.params for child in node.children),
        macs=node.macs - sum(child.macs for child in node.children),
        children=(),
    )


def likeness(one: Node, other: Node) -> float:
    """Return how much two blocks have in common: the name above all, then the output's shape, then the class."""
    score = SAME_NAME * (one.path == other.path) + SAME_KIND * (one.kind == other.kind)
    mine, theirs = one.output, other.output
    if mine == theirs:
        score += SAME_OUTPUT
    if mine[2:] == theirs[2:] and len(mine) == len(theirs):
        score += SAME_SIZE
    return score


def aligned(first: Sequence[Node], second: Sequence[Node]) -> list[tuple[Node | None, Node | None]]:
    """Pair blocks in order so that their common traits add up to the most (Needleman and Wunsch 1970)."""
    rows, columns = len(first), len(second)
    best = [[0.0] * (columns + 1) for _ in range(rows + 1)]
    for i in range(rows - 1, -1, -1):
        for j in range(columns - 1, -1, -1):
            score = likeness(first[i], second[j])
            paired = best[i + 1][j + 1] + score if score >= ENOUGH else -1.0
            best[i][j] = max(paired, best[i + 1][j], best[i][j + 1])
    pairs: list[tuple[Node | None, Node | None]] = []
    i = j = 0
    while i < rows and j < columns:
        score = likeness(first[i], second[j])
        if score >= ENOUGH and best[i][j] == best[i + 1][j + 1] + score:
            pairs.append((first[i], second[j]))
            i, j = i + 1, j + 1
        elif best[i][j] == best[i + 1][j]:
            pairs.append((first[i], None))
            i += 1
        else:
            pairs.append((None, second[j]))
            j += 1
    return [*pairs, *((block, None) for block in first[i:]), *((None, block) for block in second[j:])]


def compared(one: Node | None, other: Node | None) -> DiffRow:
    """Return the row of two blocks, or of one without a partner."""
    row: dict[str, Any] = {}
    for side, node in (("first", one), ("second", other)):
        if node is not None:
            row |= {side: node.path, f"{side}_kind": node.kind, f"{side}_output": shape_text(node.output[1:])}
            row |= {f"{side}_params": node.params, f"{side}_macs": node.macs}
    if one is not None and other is not None:
        row["params_ratio"] = other.params / one.params if one.params else None
        row["macs_ratio"] = other.macs / one.macs if one.macs else None
    return DiffRow(**row)


def diff(first: Request, second: Request, *, depth: int = 2, batch: int = 1) -> list[DiffRow]:
    """Align two networks block by block; the last row holds the totals, which the others add up to.

    Args:
        first: one network.
        second: the other; ratios are this one's share of the first.
        depth: how many levels of modules down the blocks are.
        batch: images in the batch.

    Raises:
        UsageError: a network cannot be counted.

    """
    roots = [
        # Nothing here shows a receptive field, so none is followed.
        tree_of(request, batch, fold=False, seen=observe(Network.of(request), batch))
        for request in (first, second)
    ]
    pairs = aligned(*(blocks_of(root, depth) for root in roots))
    return [*(compared(*pair) for pair in pairs), compared(*roots)]
