"""From a built module to boxes and arrows: torch.fx traces it, so the picture cannot differ from the code."""

from __future__ import annotations

import itertools
import operator
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import fx, nn

from mlcv_bench.architectures.inputs import Inputs, in_order
from mlcv_bench.counting.tracing import floating_type
from mlcv_bench.errors import UsageError
from mlcv_bench.names import did_you_mean, first_line, user_code
from mlcv_bench.records import shape_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

FEW = 40
"""Boxes that a picture without a given depth may have; the deepest level below that is drawn."""
DEEPEST = 6
MANY_BRANCHES = 4
"""More equal branches than this between one fork and one join are drawn as the first, dots, and the last."""

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
POOLS: dict[type[nn.Module], tuple[str, int]] = {
    getattr(nn, f"{adaptive}{kind}Pool{axes}d"): (name, axes)
    for adaptive in ("", "Adaptive")
    for kind, name in (("Max", "max pool"), ("Avg", "average pool"))
    for axes in (1, 2, 3)
}
"""What each pooling is called, and over how many axes it pools."""
NORMS: dict[type[nn.Module], str] = {
    nn.BatchNorm1d: "batch norm",
    nn.BatchNorm2d: "batch norm",
    nn.LayerNorm: "layer norm",
    nn.GroupNorm: "group norm",
    nn.LocalResponseNorm: "response norm",
}
QUIET = (nn.Dropout, nn.Identity, nn.Flatten)
"""Layers that join the box before them without a box of their own."""
ADDITIONS = (operator.add, operator.iadd, torch.add)
JOINS = (torch.cat, torch.concat)
PRODUCTS = (operator.mul, operator.imul, torch.mul)


@dataclass(frozen=True)
class Box:
    """One box: what it is, what the code calls it, its output shape without the batch, and the modules it stands in.

    `kind` decides the colour; `then` are the element-wise layers that follow it and share its box; `inside` is what
    torch prints of a module that is drawn closed.
    """

    kind: str
    title: str
    name: str = ""
    shape: tuple[int, ...] = ()
    groups: tuple[str, ...] = ()
    then: tuple[str, ...] = ()
    times: int = 1
    inside: str = field(default="", repr=False)

    @property
    def lines(self) -> tuple[str, ...]:
        """The text below the title: what follows, the name in the code, the shape."""
        times = f"{self.times} of these" if self.times > 1 else ""
        return tuple(
            line for line in (" + ".join(self.then), times, self.name, shape_text(self.shape).replace("x", "×")) if line
        )

    def alike(self, other: Box) -> bool:
        """Tell whether two boxes differ in name and place alone."""
        mine = (self.kind, self.title, self.shape, self.then, self.inside)
        return mine == (other.kind, other.title, other.shape, other.then, other.inside)


@dataclass(frozen=True)
class Diagram:
    """Boxes by number, arrows between them, and the class of every module that boxes stand in."""

    title: str
    boxes: dict[int, Box]
    arrows: tuple[tuple[int, int], ...]
    groups: dict[str, str] = field(default_factory=dict)

    def before(self, number: int) -> list[int]:
        """Return the boxes whose arrows end at box `number`."""
        return [a for a, b in self.arrows if b == number]

    def after(self, number: int) -> list[int]:
        """Return the boxes at which the arrows of box `number` end."""
        return [b for a, b in self.arrows if a == number]


def diagram_of(
    module: nn.Module,
    given: Sequence[Any],
    *,
    title: str,
    depth: int | None = None,
    training: bool = False,
    closed: tuple[type[nn.Module], ...] = (),
    merge: bool = True,
    few: int = FEW,
) -> Diagram:
    """Trace a module that stands on the meta device.

    Args:
        module: a network or a block.
        given: the shape of its one input, without the batch; or its arguments, of two images each, since batch norm in
            training refuses a single value a channel.
        title: stands above the picture.
        depth: levels of modules to open, counted as `summary` counts them; by default as many as stay readable.
        training: trace the training pass, which runs the auxiliary classifiers.
        closed: classes of modules that stay one box at any depth.
        merge: give element-wise layers no box of their own, and show equal neighbours once.
        few: boxes that may be drawn without a given depth.

    Raises:
        UsageError: torch.fx cannot follow the forward pass, or the module cannot take the input.

    """
    arguments = list(given)
    if all(isinstance(size, int) for size in given):
        arguments = [torch.empty((2, *given), device="meta", dtype=floating_type(module))]
    if depth is not None:
        return traced(module, arguments, title, depth, training=training, closed=closed, merge=merge)
    best = traced(module, arguments, title, 1, training=training, closed=closed, merge=merge)
    for level in range(2, DEEPEST + 1):
        try:
            deeper = traced(module, arguments, title, level, training=training, closed=closed, merge=merge)
        except UsageError:
            break  # a deeper module cannot be followed; what is above it can
        if len(deeper.boxes) > few or deeper == best:
            break
        best = deeper
    return best


def part_of(network: nn.Module, arguments: Sequence[Any], path: str) -> tuple[nn.Module, list[Any]]:
    """Return a module of a network that stands on the meta device, and what its forward gets when it first runs.

    Raises:
        UsageError: no such module, one that does not run, or an input that the network cannot take.

    """
    parts = dict(network.named_modules())
    if path not in parts or not path:
        hint = did_you_mean(path, parts, "`mlcv-bench summary` lists them")
        raise UsageError(f"--module {path}: the network has no such module; {hint}")
    found: list[Inputs] = []
    handle = parts[path].register_forward_pre_hook(
        lambda _, given, named: found.append(Inputs(list(given), dict(named))), with_kwargs=True
    )
    try:
        with user_code(), torch.no_grad(), torch.device("meta"):
            network(*arguments)
    except Exception as error:
        raise UsageError(f"the network cannot take this input: {first_line(error)}; try another --input") from error
    finally:
        handle.remove()
    if not found:
        raise UsageError(f"--module {path} does not run in this pass; try --training, or the module around it")
    return parts[path], in_order(found[0], parts[path])


class DepthTracer(fx.Tracer):
    """Records a forward pass as a graph, leaving modules closed below a depth."""

    def __init__(self, depth: int, closed: tuple[type[nn.Module], ...]) -> None:
        """Open `depth` levels, but never a module of a class in `closed`."""
        super().__init__()
        self.depth = depth
        self.closed = closed

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Tell whether a module is drawn as one box."""
        if isinstance(m, self.closed) or module_qualified_name.count(".") + 1 >= self.depth:
            return True
        return super().is_leaf_module(m, module_qualified_name) or convolution_unit(m) is not None


def traced(
    module: nn.Module,
    arguments: Sequence[Any],
    title: str,
    depth: int,
    *,
    training: bool,
    closed: tuple[type[nn.Module], ...],
    merge: bool,
) -> Diagram:
    """Trace at one depth."""
    module.train(training)
    tracer = DepthTracer(depth, closed)
    try:
        with user_code():
            graph = tracer.trace(module)
    except Exception as error:
        raise UsageError(
            f"torch.fx cannot follow {title} at depth {depth}: {first_line(error)}; try a smaller --depth"
        ) from error
    reader = fx.Interpreter(fx.GraphModule(module, graph), garbage_collect_values=False)
    try:
        with user_code(), torch.no_grad(), torch.device("meta"):
            reader.run(*arguments)
    except Exception as error:
        raise UsageError(f"{title} cannot take this input: {first_line(error)}; try another --input") from error
    diagram = boxes_and_arrows(module, graph, reader.env, title)
    if merge:
        for step in (merge_followers, merge_additions, fold_neighbours, fold_branches):
            diagram = step(diagram)
    return without_lonely_groups(diagram)


def boxes_and_arrows(module: nn.Module, graph: fx.Graph, results: Mapping[fx.Node, Any], title: str) -> Diagram:
    """Turn the traced graph into boxes; what yields no tensor is skipped, and its inputs go on to its users."""
    modules = dict(module.named_modules())
    sources: dict[str, list[int]] = {}
    boxes: dict[int, Box] = {}
    arrows: list[tuple[int, int]] = []
    groups: dict[str, str] = {}

    def add(box: Box, inputs: Iterable[int]) -> int:
        number = len(boxes)
        boxes[number] = box
        arrows.extend((source, number) for source in dict.fromkeys(inputs))
        return number

    for node in graph.nodes:
        inputs = [source for argument in node.all_input_nodes for source in sources[argument.name]]
        if node.op == "output":
            for source in dict.fromkeys(inputs):
                add(Box("input", "output", "", boxes[source].shape), [source])
            continue
        result = tensor_in(results[node])
        stack = standing_in(node, modules)
        groups |= {path: type(modules[path]).__name__ for path in stack}
        packs = isinstance(node.target, type)  # a named tuple of results, say
        if node.op != "call_module" and (packs or result is None):
            sources[node.name] = inputs
            continue
        shape = () if result is None else tuple(result.shape[1:])
        box = replace(box_of(node, modules, len(inputs)), shape=shape, groups=stack)
        sources[node.name] = [add(box, inputs)]
    return Diagram(title, boxes, tuple(arrows), groups)


def tensor_in(value: Any) -> torch.Tensor | None:  # noqa: ANN401 - operators return anything
    """Return a result if it is a tensor, or the first one that it holds."""
    items = value if isinstance(value, tuple | list) else [value]
    return next((item for item in items if isinstance(item, torch.Tensor)), None)


def standing_in(node: fx.Node, modules: dict[str, nn.Module]) -> tuple[str, ...]:
    """Return the modules around a node, the outermost first; containers without a forward of their own do not count."""
    stack = node.meta.get("nn_module_stack", {})
    paths = [path for path, _ in stack.values() if path and path != node.target]
    return tuple(path for path in paths if not isinstance(modules[path], nn.Sequential | nn.ModuleList))


def box_of(node: fx.Node, modules: dict[str, nn.Module], inputs: int) -> Box:
    """Describe one node."""
    match node.op:
        case "placeholder":
            box = Box("input", "input")
        case "get_attr":
            box = Box("other", "parameter", str(node.target))
        case "call_module":
            box = replace(describe(modules[str(node.target)]), name=str(node.target))
        case "call_function" if node.target in ADDITIONS:
            box = Box("join", "+") if inputs > 1 else Box("follower", "+ constant")
        case "call_function" if node.target in PRODUCTS and inputs == 1:
            factor = next((value for value in node.args if not isinstance(value, fx.Node)), "")
            box = Box("follower", f"× {factor}")
        case "call_function" if node.target in JOINS:
            box = Box("join", "concatenate")
        case _:
            box = function_box(getattr(node.target, "__name__", str(node.target)))
    return box


def function_box(name: str) -> Box:
    """Describe a function or method by its name."""
    if name in {"relu", "relu_", "gelu", "sigmoid", "tanh", "softmax", "flatten", "dropout", "contiguous"}:
        return Box("follower", {"relu": "ReLU", "relu_": "ReLU", "gelu": "GELU"}.get(name, name))
    return Box("other", {"getitem": "part"}.get(name, name.replace("_", " ").strip()))


def convolution_unit(module: nn.Module) -> tuple[nn.Module, tuple[str, ...]] | None:
    """Return the convolution and the names of what follows it, of a module that runs just these in one line.

    Such as ConvolutionUnit: each runs once, the convolution first, the others element by element.
    """
    if not any(isinstance(child, CONVOLUTIONS) for child in module.children()):
        return None
    try:
        placeholder, *calls, output = DepthTracer(0, ()).trace(module).nodes
    except Exception:  # noqa: BLE001 - whatever a forward pass raises under fx: then it is not a unit
        return None
    in_line = all(
        node.all_input_nodes == [before] for before, node in itertools.pairwise([placeholder, *calls, output])
    )
    if not in_line or not calls or any(node.op != "call_module" for node in calls):
        return None
    convolution, *others = (module.get_submodule(str(node.target)) for node in calls)
    names = [follower(other) for other in others]
    if not isinstance(convolution, CONVOLUTIONS) or None in names:
        return None
    return convolution, tuple(name for name in names if name)


def follower(module: nn.Module) -> str | None:
    """Return how an element-wise layer is called in the box that it follows, None for other layers."""
    if type(module) in NORMS:
        return NORMS[type(module)]
    if isinstance(module, QUIET):
        return "" if isinstance(module, nn.Identity) else type(module).__name__.lower()
    if type(module).__module__ == "torch.nn.modules.activation" and not list(module.parameters()):
        return type(module).__name__
    return None


def describe(module: nn.Module) -> Box:
    """Describe a module: kind, kernel, stride, groups, channels."""
    unit = convolution_unit(module)
    if unit is not None:
        convolution, then = unit
        return replace(describe(convolution), then=then)
    if isinstance(module, CONVOLUTIONS):
        kind = "convolution" if module.groups == 1 else "grouped"
        window = window_text("conv", module.kernel_size, module.stride)
        many = f", {module.groups} groups" if module.groups > 1 else ""
        return Box(kind, f"{window}, {module.out_channels}{many}")
    if type(module) in POOLS:
        return Box("pool", pool_title(module))
    if isinstance(module, nn.Linear):
        return Box("linear", f"linear, {module.out_features}")
    follows = follower(module)
    if follows is not None:
        return Box("follower", follows)
    return Box("block", type(module).__name__, inside=repr(module))


def pool_title(module: Any) -> str:  # noqa: ANN401 - one of the classes in POOLS
    """Return the title of a pooling layer."""
    name, axes = POOLS[type(module)]
    if hasattr(module, "output_size"):
        size = module.output_size
        return f"global {name}" if size in (1, (1,) * axes) else f"{name} to {size}"
    kernel, stride = (
        value if isinstance(value, tuple) else (value,) * axes for value in (module.kernel_size, module.stride)
    )
    return window_text(name, kernel, stride)


def window_text(name: str, kernel: Sequence[int], stride: Sequence[int]) -> str:
    """Return a layer's name with its kernel and its stride: `3×3 conv /2`, `1×3×3 max pool /1×2×2`."""
    steps = [str(step) for step in (stride[:1] if len(set(stride)) == 1 else stride)]
    return f"{'×'.join(map(str, kernel))} {name}" + (f" /{'×'.join(steps)}" if max(stride) > 1 else "")


def final(number: int, into: dict[int, int]) -> int:
    """Return the box that a box has gone into in the end."""
    while number in into:
        number = into[number]
    return number


def rebuilt(diagram: Diagram, boxes: dict[int, Box], into: dict[int, int]) -> Diagram:
    """Return the diagram in which every box of `into` has gone into another; arrows follow, doubles go."""
    arrows = dict.fromkeys((final(a, into), final(b, into)) for a, b in diagram.arrows)
    kept = {number: box for number, box in boxes.items() if number not in into}
    return replace(diagram, boxes=kept, arrows=tuple(pair for pair in arrows if pair[0] != pair[1]))


def merge_followers(diagram: Diagram) -> Diagram:
    """Let element-wise layers join the box before them, where nothing else reads that box."""
    boxes, into = dict(diagram.boxes), dict[int, int]()
    users = Counter(a for a, _ in diagram.arrows)
    for number, box in diagram.boxes.items():
        before = diagram.before(number)
        if box.kind != "follower" or len(before) != 1 or users[before[0]] > 1:
            continue
        host = final(before[0], into)
        if boxes[host].kind == "input":
            continue
        title = (box.title,) if box.title else ()
        boxes[host] = replace(boxes[host], then=boxes[host].then + title, shape=box.shape)
        into[number] = host
    return rebuilt(diagram, boxes, into)


def merge_additions(diagram: Diagram) -> Diagram:
    """Let a chain of additions be one sum."""
    boxes, into = dict(diagram.boxes), dict[int, int]()
    for number, box in diagram.boxes.items():
        users = diagram.after(number)
        if (box.title, box.then) == ("+", ()) and len(users) == 1 and boxes[users[0]].title == "+":
            into[number] = users[0]
    return rebuilt(diagram, boxes, into)


def fold_neighbours(diagram: Diagram) -> Diagram:
    """Let the first of equal blocks in a row stand for all."""
    boxes, into = dict(diagram.boxes), dict[int, int]()
    for number in sorted(diagram.boxes):
        before = diagram.before(number)
        if boxes[number].kind != "block" or len(before) != 1 or len(diagram.after(before[0])) != 1:
            continue
        host = final(before[0], into)
        first = boxes[host]
        if first.alike(boxes[number]):
            start, end = first.name.partition(" to ")[0], boxes[number].name
            boxes[host] = replace(first, times=first.times + 1, name=start if start == end else f"{start} to {end}")
            into[number] = host
    return rebuilt(diagram, boxes, into)


def fold_branches(diagram: Diagram) -> Diagram:
    """Draw many equal branches between a fork and a join as the first, dots, and the last."""
    chains: defaultdict[tuple[Any, ...], list[list[int]]] = defaultdict(list)
    for fork in diagram.boxes:
        for first in diagram.after(fork):
            chain = [first]
            while len(diagram.before(chain[-1])) == 1 and len(diagram.after(chain[-1])) == 1:
                chain.append(diagram.after(chain[-1])[0])
            join = chain.pop()
            if chain:
                looks = tuple((diagram.boxes[n].title, diagram.boxes[n].shape, diagram.boxes[n].then) for n in chain)
                chains[fork, join, looks].append(chain)
    boxes, into = dict(diagram.boxes), dict[int, int]()
    for equal in chains.values():
        if len(equal) <= MANY_BRANCHES:
            continue
        dots, *others = equal[1:-1]
        for position, number in enumerate(dots):
            text = f"{len(equal) - 2} more" if position == 0 else "⋮"
            boxes[number] = Box("dots", text)
            into |= {chain[position]: number for chain in others}
    return rebuilt(diagram, boxes, into)


def without_lonely_groups(diagram: Diagram) -> Diagram:
    """Drop the frames that would surround a single box, or everything."""
    counts = Counter(path for box in diagram.boxes.values() for path in box.groups)
    kept = {path: kind for path, kind in diagram.groups.items() if counts[path] > 1}
    boxes = {
        number: replace(box, groups=tuple(path for path in box.groups if path in kept))
        for number, box in diagram.boxes.items()
    }
    return replace(diagram, boxes=boxes, groups=kept)
