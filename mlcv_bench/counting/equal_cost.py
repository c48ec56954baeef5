"""Equal cost: the value of a setting at which a network costs as many MACs as another."""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mlcv_bench.architectures.request import Networks
from mlcv_bench.counting.cost import Cost, count
from mlcv_bench.counting.setting_range import SettingRange, parse_range
from mlcv_bench.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mlcv_bench.counting.request import CostRequest


@dataclass(frozen=True)
class Counted:
    """A network's cost with the label of its row; where its setting was searched, the MACs it was to have."""

    label: str
    cost: Cost
    target: int | None = None
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Nearest:
    """The place in a range whose cost is nearest to a target, and whether the search saw what it relies on."""

    place: int
    inside: bool
    steady: bool


def nearest(count: int, cost_at: Callable[[int], int], target: int) -> Nearest:
    """Halve a range whose cost grows, or falls, from end to end, down to the two neighbours of a target.

    Args:
        count: how many values there are, at least two.
        cost_at: the cost at a place, from 0 on.
        target: the cost to be met.

    """
    seen: dict[int, int] = {}

    def cost(place: int) -> int:
        if place not in seen:
            seen[place] = cost_at(place)
        return seen[place]

    low, high = 0, count - 1
    rising = cost(low) <= cost(high)
    inside = min(cost(low), cost(high)) <= target <= max(cost(low), cost(high))
    while high - low > 1:
        middle = (low + high) // 2
        if (cost(middle) < target) == rising:
            low = middle
        else:
            high = middle
    in_order = [seen[place] for place in sorted(seen)]
    return Nearest(
        min((low, high), key=lambda place: abs(cost(place) - target)),
        inside,
        in_order == sorted(in_order, reverse=not rising),
    )


def matched(request: CostRequest) -> Iterator[Counted]:
    """Yield, for each input and batch, the network to be matched, then each other at its value nearest in MACs.

    Raises:
        UsageError: a network that cannot be built or run at a value which the search comes by.

    """
    if request.match is None or request.setting_range is None:
        return
    span = parse_range(request.setting_range)
    shapes = request.networks.shapes or (None,)
    references = Networks((request.match,), shapes=request.networks.shapes).requests()
    for (place, reference), batch in itertools.product(enumerate(references), request.batches):
        base = count(reference, batch=batch)
        yield Counted(reference.label, base, base.macs)
        for index in range(place, len(request.ranged(0).requests()), len(shapes)):
            yield at_equal_cost(request, span, index, batch, base)


def at_equal_cost(request: CostRequest, span: SettingRange, index: int, batch: int, base: Cost) -> Counted:
    """Return one of the networks that are asked for at the value whose MACs are nearest to those of `base`.

    Raises:
        UsageError: it cannot be built or run at a value which the search comes by.

    """

    @functools.cache
    def found(place: int) -> Counted:
        one = request.ranged(place).requests()[index]
        try:
            return Counted(one.label, count(one, batch=batch), base.macs)
        except UsageError as error:
            at = f"at {span.key}={span[place]}: {error}"
            raise UsageError(f"{at}; a step, as in --set-range width=16..128:8, leaves values out") from error

    best = nearest(len(span), lambda place: found(place).cost.macs, base.macs)
    one = found(best.place)
    doubts = []
    if not best.inside:
        doubts.append(
            f"{one.cost.architecture} never costs as much as {base.architecture} with {span}; this is nearest"
        )
    if not best.steady:
        doubts.append(f"{one.cost.architecture}'s MACs neither rise nor fall all along {span}; another may be nearer")
    return replace(one, doubts=tuple(doubts))
