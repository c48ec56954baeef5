"""Where every box goes: longest-path ranks, few crossings, straight chains, and columns that fit a page.

A layered layout after Sugiyama et al. 1981: rank, order, place. Pure Python on plain numbers, units are points.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Pair = tuple[int, int]
Place = tuple[float, float]

RANK_GAP = 20.0
SIDE_GAP = 14.0
FRAME = 9.0
COLUMN_GAP = 46.0
ENTRY = 6.0
"""Room above a column for the arrow that comes from the one before."""
LANE = 8.0
"""Width that an arrow keeps free where it passes boxes of other ranks."""
ASPECT = 1.45
"""Width over height that the columns aim for."""
PORT = 1_000_000_000
SWEEPS = 200


@dataclass(frozen=True)
class Size:
    """Width and height of a box."""

    width: float
    height: float


@dataclass(frozen=True)
class Layout:
    """Centres of boxes, the points that every arrow passes, and the page's size; y grows downwards."""

    centres: dict[int, Place]
    routes: dict[Pair, list[Place]]
    width: float
    height: float
    column_of: dict[int, int]
    edges: tuple[tuple[float, float], ...]  # left and right of every column
    ports: dict[int, Place]  # where the value enters a column that comes from the one before


def ranks_of(boxes: Sequence[int], arrows: Sequence[Pair]) -> dict[int, int]:
    """Return every box's rank: the longest path from a source; `boxes` must come in the order of execution."""
    before: defaultdict[int, list[int]] = defaultdict(list)
    for a, b in arrows:
        before[b].append(a)
    rank: dict[int, int] = {}
    for box in boxes:
        rank[box] = max((rank[a] + 1 for a in before[box]), default=0)
    return rank


def lay_out(
    sizes: Mapping[int, Size],
    arrows: Sequence[Pair],
    groups: Mapping[int, Sequence[str]],
    *,
    columns: int | None = None,
) -> Layout:
    """Place the boxes.

    Args:
        sizes: box numbers, in the order of execution, with their sizes.
        arrows: from box to box.
        groups: the frames that each box stands in; no column ends inside one.
        columns: how many; by default the number whose page comes closest to the usual shape.

    """
    if not sizes:
        return Layout({}, {}, 0.0, 0.0, {}, (), {})
    rank = ranks_of(list(sizes), arrows)
    frames = frames_of(rank, groups)
    cuts = possible_cuts(rank, arrows, frames)
    heights = rank_heights(rank, sizes, frames)
    layouts: list[Layout] = []
    for number in range(1, 13) if columns is None else [columns]:
        spans = columns_between(heights, cuts, number)
        if layouts and len(spans) < number:
            break  # no more places to cut
        layouts.append(placed(sizes, arrows, groups, rank, heights, spans))
        if layouts[-1].width >= ASPECT * layouts[-1].height:
            break  # more columns only make it wider
    shapes = [layout.width / layout.height / ASPECT for layout in layouts]
    return layouts[min(range(len(shapes)), key=lambda i: max(shapes[i], 1 / shapes[i]))]


def frames_of(rank: Mapping[int, int], groups: Mapping[int, Sequence[str]]) -> dict[str, tuple[int, int]]:
    """Return the first and the last rank of every frame."""
    inside: defaultdict[str, list[int]] = defaultdict(list)
    for box, paths in groups.items():
        for path in paths:
            inside[path].append(rank[box])
    return {path: (min(found), max(found)) for path, found in inside.items()}


def possible_cuts(rank: Mapping[int, int], arrows: Sequence[Pair], frames: Mapping[str, tuple[int, int]]) -> set[int]:
    """Return the ranks that may begin a column: one value alone crosses to them, and no frame does."""
    sources: defaultdict[int, set[int]] = defaultdict(set)
    for a, b in arrows:
        for level in range(rank[a] + 1, rank[b] + 1):
            sources[level].add(a)
    framed = {level for first, last in frames.values() for level in range(first + 1, last + 1)}
    return {level for level, found in sources.items() if len(found) == 1} - framed


def rank_heights(
    rank: Mapping[int, int], sizes: Mapping[int, Size], frames: Mapping[str, tuple[int, int]]
) -> list[float]:
    """Return the height of every rank with the gap above it; a frame that opens there needs room for its title."""
    heights = [0.0] * (max(rank.values()) + 1)
    for box, level in rank.items():
        heights[level] = max(heights[level], sizes[box].height)
    opens: defaultdict[int, int] = defaultdict(int)
    for path, (level, _) in frames.items():
        nested = sum(1 for other, (at, _) in frames.items() if at == level and path.startswith(other + "."))
        opens[level] = max(opens[level], 1 + nested)
    closes = {last + 1 for _, last in frames.values()}
    return [
        height + RANK_GAP + opens[level] * (FRAME + 11) + (FRAME if level in closes else 0.0)
        for level, height in enumerate(heights)
    ]


def columns_between(heights: Sequence[float], cuts: set[int], number: int) -> list[tuple[int, int]]:
    """Cut the ranks into at most `number` columns so that the tallest is as low as can be."""
    edges = [0, *sorted(cuts), len(heights)]
    total = [0.0, *itertools.accumulate(heights)]

    def fits(limit: float) -> list[int] | None:
        chosen, start = [0], 0
        for here, following in itertools.pairwise([*edges[1:], len(heights)]):
            if total[following] - total[start] > limit and here < len(heights):
                if here == start or len(chosen) == number:
                    return None
                chosen.append(here)
                start = here
        return chosen if total[len(heights)] - total[start] <= limit else None

    limits = sorted({total[b] - total[a] for a, b in itertools.combinations(edges, 2)})
    found = next((chosen for limit in limits if (chosen := fits(limit)) is not None), [0])
    return list(itertools.pairwise([*found, len(heights)]))


def placed(
    sizes: Mapping[int, Size],
    arrows: Sequence[Pair],
    groups: Mapping[int, Sequence[str]],
    rank: Mapping[int, int],
    heights: Sequence[float],
    spans: Sequence[tuple[int, int]],
) -> Layout:
    """Place every column by itself, then the columns side by side."""
    centres: dict[int, Place] = {}
    routes: dict[Pair, list[Place]] = {}
    column_of: dict[int, int] = {}
    edges: list[tuple[float, float]] = []
    ports: dict[int, Place] = {}
    left, tallest = 0.0, 0.0
    for column, (start, end) in enumerate(spans):
        inside = [box for box in sizes if start <= rank[box] < end]
        # What comes from the column before starts at a port, a place without size above the first rank.
        own = [(a if rank[a] >= start else PORT, b) for a, b in arrows if start <= rank[b] < end]
        levels = {box: rank[box] for box in inside} | ({PORT: start - 1} if column else {})
        xs, lanes = across(levels, {**sizes, PORT: Size(0.0, 0.0)}, own, groups)
        reach = [(xs[box], sizes[box].width / 2 + FRAME * len(groups.get(box, ()))) for box in inside]
        reach += [(x, LANE) for points in lanes.values() for _, x in points]
        low, high = min(x - half for x, half in reach), max(x + half for x, half in reach)
        top = ENTRY if column else 0.0
        foot = {level: top + sum(heights[start : level + 1]) for level in range(start, end)}
        tallest_in = {level: max(sizes[b].height for b in inside if rank[b] == level) for level in range(start, end)}
        middle = {level: foot[level] - tallest_in[level] / 2 for level in foot}
        for box in inside:
            centres[box] = (left + xs[box] - low, middle[rank[box]])
            column_of[box] = column
        if column:
            ports[column] = (left + xs[PORT] - low, ENTRY + 2)
        origin = {b: a for a, b in arrows if rank[a] < start <= rank[b] < end}
        for (a, b), points in lanes.items():
            pair = (origin[b] if a == PORT else a, b)
            # Straight down through every rank that it passes, so that it bends in the gaps alone.
            routes[pair] = [
                (left + x - low, y) for level, x in points for y in (foot[level] - tallest_in[level], foot[level])
            ]
        edges.append((left, left + high - low))
        left += high - low + COLUMN_GAP
        tallest = max(tallest, foot[end - 1] + FRAME)
    return Layout(centres, routes, left - COLUMN_GAP, tallest, column_of, tuple(edges), ports)


def across(
    rank: Mapping[int, int], sizes: Mapping[int, Size], arrows: Sequence[Pair], groups: Mapping[int, Sequence[str]]
) -> tuple[dict[int, float], dict[Pair, list[tuple[int, float]]]]:
    """Return the boxes' x, and for long arrows the points (rank, x) between their ends.

    A long arrow takes a lane: a narrow place of its own in every rank that it passes.
    """
    levels: defaultdict[int, list[int]] = defaultdict(list)
    for box, level in rank.items():
        levels[level].append(box)
    half = {box: sizes[box].width / 2 + FRAME * len(groups.get(box, ())) for box in rank}
    links: list[tuple[int, int, float]] = []
    leaving, entering = Counter(a for a, _ in arrows), Counter(b for _, b in arrows)
    lanes: dict[Pair, list[int]] = {}
    fresh = -1
    for a, b in arrows:
        chain = [a]
        for level in range(rank[a] + 1, rank[b]):
            levels[level].append(fresh)
            half[fresh] = LANE / 2
            chain.append(fresh)
            fresh -= 1
        lanes[a, b] = chain[1:]
        skip = len(chain) > 1 and leaving[a] > 1 and entering[b] > 1
        for one, other in itertools.pairwise([*chain, b]):
            # A skip connection stays straight and pulls nothing, so that the boxes it passes stay straight too.
            weight = (6.0 if one < 0 and other < 0 else 1e-4) if skip else 1.0
            links.append((one, other, weight))
    order = {level: list(levels[level]) for level in sorted(levels)}
    reduce_crossings(order, links)
    xs = positions(order, half, links)
    straighten(order, half, xs, chains_of(links))
    return {box: xs[box] for box in rank}, {
        pair: [(rank[pair[0]] + 1 + i, xs[lane]) for i, lane in enumerate(chain)] for pair, chain in lanes.items()
    }


def chains_of(links: Sequence[tuple[int, int, float]]) -> list[list[int]]:
    """Return the runs of places that lead from one to the next alone, the longest first; these should be straight."""
    leaving, entering = Counter(a for a, _, _ in links), Counter(b for _, b, _ in links)
    following = {a: b for a, b, _ in links if leaving[a] == 1 and entering[b] == 1}
    inner = set(following.values())
    chains = []
    for first in following:
        if first in inner:
            continue
        chain = [first]
        while chain[-1] in following:
            chain.append(following[chain[-1]])
        chains.append(chain)
    return sorted(chains, key=len, reverse=True)


def straighten(
    order: Mapping[int, Sequence[int]], half: Mapping[int, float], xs: dict[int, float], chains: Sequence[Sequence[int]]
) -> None:
    """Move every chain to one x, the mean of its places, where its neighbours leave the room."""
    sides: dict[int, tuple[int | None, int | None]] = {}
    for row in order.values():
        for left, place, right in zip([None, *row], row, [*row[1:], None], strict=False):
            sides[place] = (left, right)
    for chain in chains:
        goal = sum(xs[place] for place in chain) / len(chain)
        low, high = -float("inf"), float("inf")
        for place in chain:
            left, right = sides[place]
            if left is not None:
                low = max(low, xs[left] + half[left] + SIDE_GAP + half[place])
            if right is not None:
                high = min(high, xs[right] - half[right] - SIDE_GAP - half[place])
        if low <= high + 1e-6:  # rounding must not hold a tight row back
            xs |= dict.fromkeys(chain, min(max(goal, low), high))


def neighbours(links: Sequence[tuple[int, int, float]]) -> dict[int, list[tuple[int, float]]]:
    """Return each place's linked places with the links' weights."""
    found: defaultdict[int, list[tuple[int, float]]] = defaultdict(list)
    for a, b, weight in links:
        found[a].append((b, weight))
        found[b].append((a, weight))
    return found


def crossings(order: Mapping[int, Sequence[int]], links: Sequence[tuple[int, int, float]]) -> int:
    """Count the pairs of links that cross."""
    at = {place: (level, i) for level, row in order.items() for i, place in enumerate(row)}
    by_level: defaultdict[int, list[Pair]] = defaultdict(list)
    for a, b, _ in links:
        by_level[at[a][0]].append((at[a][1], at[b][1]))
    return sum(
        (a - c) * (b - d) < 0 for pairs in by_level.values() for (a, b), (c, d) in itertools.combinations(pairs, 2)
    )


def reduce_crossings(order: dict[int, list[int]], links: Sequence[tuple[int, int, float]]) -> None:
    """Sort every rank by the mean place of its neighbours, down and up, and keep the best order met."""
    linked = neighbours(links)
    best, fewest = {level: list(row) for level, row in order.items()}, crossings(order, links)
    levels = list(order)
    for sweep in range(8):
        if not fewest:
            break
        downwards = sweep % 2 == 0
        for level in levels if downwards else reversed(levels):
            at = {place: i for row in order.values() for i, place in enumerate(row)}
            linked_row = order.get(level - 1 if downwards else level + 1, [])

            def wanted(place: int, at: dict[int, int] = at, row: Sequence[int] = linked_row) -> float:
                found = [at[other] for other, _ in linked[place] if other in row]
                return sum(found) / len(found) if found else at[place]

            order[level].sort(key=wanted)
        count = crossings(order, links)
        if count < fewest:
            best, fewest = {level: list(row) for level, row in order.items()}, count
    order.update(best)


def positions(
    order: Mapping[int, Sequence[int]], half: Mapping[int, float], links: Sequence[tuple[int, int, float]]
) -> dict[int, float]:
    """Draw linked places together, down and up the ranks, keeping order and distances."""
    linked = neighbours(links)
    xs: dict[int, float] = {}
    for row in order.values():
        spread = evenly(row, half)
        xs |= dict(zip(row, spread, strict=True))
    for sweep in range(SWEEPS):
        rows = list(order.values())
        for row in rows if sweep % 2 == 0 else rows[::-1]:
            wanted, weights = [], []
            for place in row:
                total = sum(weight for _, weight in linked[place])
                goal = sum(weight * xs[other] for other, weight in linked[place])
                wanted.append(goal / total if total else xs[place])
                weights.append(max(total, 1e-3))
            for place, x in zip(row, nearest(row, wanted, weights, half), strict=True):
                xs[place] = x
    return xs


def evenly(row: Sequence[int], half: Mapping[int, float]) -> list[float]:
    """Return places side by side, centred on 0."""
    ends = list(itertools.accumulate(2 * half[place] + SIDE_GAP for place in row))
    middle = (ends[-1] - SIDE_GAP) / 2
    return [end - SIDE_GAP - half[place] - middle for end, place in zip(ends, row, strict=True)]


def nearest(
    row: Sequence[int], wanted: Sequence[float], weights: Sequence[float], half: Mapping[int, float]
) -> list[float]:
    """Return the places nearest to `wanted` in least squares that keep order and distance (pooling violators)."""
    offsets = [0.0]
    for one, other in itertools.pairwise(row):
        offsets.append(offsets[-1] + half[one] + half[other] + SIDE_GAP)
    pools: list[list[float]] = []  # [mean, weight, size]
    for goal, weight, offset in zip(wanted, weights, offsets, strict=True):
        pools.append([goal - offset, weight, 1])
        while len(pools) > 1 and pools[-2][0] >= pools[-1][0]:
            mean, heavy, size = pools.pop()
            before = pools[-1]
            together = before[1] + heavy
            pools[-1] = [(before[0] * before[1] + mean * heavy) / together, together, before[2] + size]
    flat = [pool[0] for pool in pools for _ in range(int(pool[2]))]
    return [x + offset for x, offset in zip(flat, offsets, strict=True)]
