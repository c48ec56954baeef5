"""A network as a tree of modules, each with its output shape, receptive field, parameters and MACs."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mlcv_bench.counting.network import Network, Observation, observe

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn

    from mlcv_bench.architectures.request import Request
    from mlcv_bench.counting.tracing import Trace


@dataclass(frozen=True)
class Node:
    """One module: its own name, its class, and what it and everything below it cost.

    `path` is its place in the network, whose own is its name. `times` counts the equal siblings that one node stands
    for; `macs` and `params` are those of one. `ran` tells whether its forward was called: a container or an auxiliary
    head may never be.
    """

    name: str
    path: str
    kind: str
    output: tuple[int, ...]
    receptive_field: int | None
    params: int
    macs: int
    children: tuple[Node, ...] = ()
    times: int = 1
    ran: bool = True

    def same_as(self, other: Node) -> bool:
        """Tell whether two siblings differ in name and place alone."""
        return (
            (self.kind, self.output, self.params, self.macs) == (other.kind, other.output, other.params, other.macs)
            and len(self.children) == len(other.children)
            and all(mine.same_as(theirs) for mine, theirs in zip(self.children, other.children, strict=True))
        )

    def walk(self, depth: int, level: int = 0) -> Iterator[tuple[int, Node]]:
        """Yield the nodes down to `depth` with their level, parents first."""
        yield level, self
        if level < depth:
            for child in self.children:
                yield from child.walk(depth, level + 1)


def tree_of(
    subject: str | Request | nn.Module, batch: int = 1, *, fold: bool = True, seen: Observation | None = None
) -> Node:
    """Trace a network and return its tree.

    Args:
        subject: a name, a request, or any module, which is left as it is.
        batch: images in the batch.
        fold: let one node stand for equal neighbours.
        seen: what the network showed, if it ran already.

    """
    network = Network.of(subject)
    seen = seen or observe(network, batch, fields=True)
    module, trace, request = seen.module, seen.trace, network.request
    own = own_costs(module, trace)
    parts = dict(module.named_modules(remove_duplicate=False))  # a module that stands twice is met twice
    below: defaultdict[str, list[str]] = defaultdict(list)
    for path in filter(None, parts):
        below[path.rpartition(".")[0]].append(path)

    def node_of(name: str, path: str) -> Node:
        """Build the node of one module."""
        kind, params, macs = own[path]
        children = [node_of(child.rpartition(".")[2], child) for child in below[path]]
        return Node(
            name=name,
            path=path or name,
            kind=kind,
            output=trace.outputs.get(path, ()),
            receptive_field=trace.fields.get(path),
            params=params + sum(child.params * child.times for child in children),
            macs=macs + sum(child.macs * child.times for child in children),
            children=tuple(folded(children)) if fold else tuple(children),
            ran=path in trace.outputs,
        )

    return node_of(request.name, "")


def own_costs(module: nn.Module, trace: Trace) -> dict[str, tuple[str, int, int]]:
    """Return class, parameters and MACs of every module by its path, without those of the modules in it.

    A weight that is used twice counts where it stands first.
    """
    macs: defaultdict[str, int] = defaultdict(int)
    for call in trace.calls:
        macs[call.module] += call.work.macs
    counted: set[int] = set()
    found = {}
    for path, part in module.named_modules(remove_duplicate=False):
        own = [weight for weight in part.parameters(recurse=False) if id(weight) not in counted]
        counted.update(id(weight) for weight in own)
        found[path] = type(part).__name__, sum(weight.numel() for weight in own), macs[path]
    return found


def folded(nodes: list[Node]) -> list[Node]:
    """Let the first of equal neighbours stand for all of them."""
    out: list[Node] = []
    first_names: list[str] = []
    for node in nodes:
        if out and node.children and out[-1].same_as(node):
            out[-1] = replace(node, name=f"{first_names[-1]}-{node.name}", times=out[-1].times + 1)
        else:
            out.append(node)
            first_names.append(node.name)
    return out
