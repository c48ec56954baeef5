"""Two networks side by side: their blocks aligned in the order they run, with what each costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlcv_bench.counting.tree import Node, tree_of
from mlcv_bench.records import row_of, shape_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mlcv_bench.architectures.request import Request

SAME_NAME = 4.0
SAME_KIND = 0.5
SAME_OUTPUT = 1.5
SAME_SIZE = 1.0
LEAST = 1.0
"""Two blocks stand side by side when they share at least so much: the size of the image, if nothing else."""


@dataclass(frozen=True)
class DiffRow:
    """One block of the first network beside one of the second; None where a side has no partner.

    Ratios are second / first.
    """

    first: str | None
    second: str | None
    first_kind: str | None
    second_kind: str | None
    first_output: str | None
    second_output: str | None
    first_params: int | None
    second_params: int | None
    params_ratio: float | None
    first_macs: int | None
    second_macs: int | None
    macs_ratio: float | None

    def row(self) -> dict[str, Any]:
        """Return the record as plain values."""
        return row_of(self)


@dataclass(frozen=True)
class Block:
    """One module at the chosen depth, by its path."""

    path: str
    node: Node


def blocks_of(root: Node, depth: int) -> list[Block]:
    """Return the modules at `depth`, or the leaves above it, in the order of definition.

    Their costs add up to the root's. Weights and operators that belong to a module itself, not to its children, stand
    under the module's own name. Modules without either (activations, pools, dropout) are left out.
    """
    return [block for block in _blocks(root, "", depth) if block.node.params or block.node.macs]


def _blocks(node: Node, path: str, depth: int) -> Iterator[Block]:
    if depth == 0 or not node.children:
        yield Block(path or node.name, node)
        return
    for child in node.children:
        yield from _blocks(child, f"{path}.{child.name}" if path else child.name, depth - 1)
    own_params = node.params - sum(child.params for child in node.children)
    own_macs = node.macs - sum(child.macs for child in node.children)
    if own_params or own_macs:
        yield Block(
            f"{path or node.name} (itself)", Node(node.name, node.kind, node.output, None, own_params, own_macs)
        )


def likeness(one: Block, other: Block) -> float:
    """Return how much two blocks have in common: the name above all, then the output's shape, then the class."""
    score = SAME_NAME * (one.path == other.path) + SAME_KIND * (one.node.kind == other.node.kind)
    mine, theirs = one.node.output, other.node.output
    if mine == theirs:
        score += SAME_OUTPUT
    if mine[2:] == theirs[2:] and len(mine) == len(theirs):
        score += SAME_SIZE
    return score


def aligned(first: Sequence[Block], second: Sequence[Block]) -> list[tuple[Block | None, Block | None]]:
    """Pair blocks in order so that their common traits add up to the most (Needleman and Wunsch 1970)."""
    rows, columns = len(first), len(second)
    best = [[0.0] * (columns + 1) for _ in range(rows + 1)]
    for i in range(rows - 1, -1, -1):
        for j in range(columns - 1, -1, -1):
            score = likeness(first[i], second[j])
            paired = best[i + 1][j + 1] + score if score >= LEAST else -1.0
            best[i][j] = max(paired, best[i + 1][j], best[i][j + 1])
    pairs: list[tuple[Block | None, Block | None]] = []
    i = j = 0
    while i < rows and j < columns:
        score = likeness(first[i], second[j])
        if score >= LEAST and best[i][j] == best[i + 1][j + 1] + score:
            pairs.append((first[i], second[j]))
            i, j = i + 1, j + 1
        elif best[i][j] == best[i + 1][j]:
            pairs.append((first[i], None))
            i += 1
        else:
            pairs.append((None, second[j]))
            j += 1
    return [*pairs, *((block, None) for block in first[i:]), *((None, block) for block in second[j:])]


def ratio(second: int | None, first: int | None) -> float | None:
    """Return second / first where both are there and the first is not zero."""
    return second / first if first and second is not None else None


def beside(one: Block | None, other: Block | None) -> DiffRow:
    """Return the row of a pair."""
    mine, theirs = (block.node if block else None for block in (one, other))
    return DiffRow(
        first=one.path if one else None,
        second=other.path if other else None,
        first_kind=mine.kind if mine else None,
        second_kind=theirs.kind if theirs else None,
        first_output=shape_text(mine.output[1:]) if mine else None,
        second_output=shape_text(theirs.output[1:]) if theirs else None,
        first_params=mine.params if mine else None,
        second_params=theirs.params if theirs else None,
        params_ratio=ratio(theirs.params if theirs else None, mine.params if mine else None),
        first_macs=mine.macs if mine else None,
        second_macs=theirs.macs if theirs else None,
        macs_ratio=ratio(theirs.macs if theirs else None, mine.macs if mine else None),
    )


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
    roots = [tree_of(request, batch, fold=False) for request in (first, second)]
    pairs = aligned(*(blocks_of(root, depth) for root in roots))
    return [*(beside(one, other) for one, other in pairs), beside(*(Block(root.name, root) for root in roots))]
