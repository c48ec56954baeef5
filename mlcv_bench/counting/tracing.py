"""The counter: one forward pass on the meta device, watched operator by operator, attributed to modules."""

from __future__ import annotations

import contextlib
import weakref
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.modules import module as hooks
from torch.overrides import TorchFunctionMode

from mlcv_bench import torch_private
from mlcv_bench.counting import isolation, operators, receptive, shapes
from mlcv_bench.counting.kernels import as_on_cpu, taken_apart
from mlcv_bench.counting.operators import name_of, tensors_of
from mlcv_bench.torch_private import DispatchMode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

INITIALISERS = ("normal_", "uniform_", "fill_", "zero_", "erfinv_", "mul_", "add_", "clamp_", "copy_")
META = torch.device("meta")
LIFT_FRESH = torch.ops.aten.lift_fresh.default  # what torch.tensor([...]) goes through


class Building(DispatchMode):
    """Builds networks inside on the meta device: no memory, no random numbers drawn, no initialisation."""

    def run(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:  # noqa: ANN401 - operators and what they take and return
        """Return the tensor itself instead of filling it, and make every new tensor without memory."""
        if "device" in kwargs:
            kwargs["device"] = META
        elif func is LIFT_FRESH:
            return torch.empty(args[0].shape, dtype=args[0].dtype, device=META)
        if name_of(func) in INITIALISERS and args[0].device.type == "meta":
            return args[0]
        return func(*args, **kwargs)


@dataclass(frozen=True, slots=True)
class OperatorCall:
    """One call of one operator in a forward pass.

    `function` is the function of torch's Python interface that asked for it, where the trace was asked to note it.
    Recorded operators alone have `arguments`, with shapes for tensors, and know whether the output depends on them:
    `effective`.
    """

    module: str
    operator: str
    input: tuple[int, ...]
    output: tuple[int, ...]
    work: operators.Work
    function: str = ""
    arguments: tuple[Any, ...] = ()
    effective: bool = True


@dataclass
class Trace:
    """What a forward pass showed: every operator call, the modules' outputs, the peak of live bytes.

    `recorded` are the same calls as torch.jit records them, composite operators whole, where the trace was asked to.
    """

    calls: list[OperatorCall] = field(default_factory=list)
    recorded: list[OperatorCall] = field(default_factory=list)
    uncounted: Counter[str] = field(default_factory=Counter)
    outputs: dict[str, tuple[int, ...]] = field(default_factory=dict)
    fields: dict[str, int | None] = field(default_factory=dict)
    visits: Counter[str] = field(default_factory=Counter)
    peak_bytes: int = 0

    @property
    def macs(self) -> int:
        """The exact count: the multiply-accumulates of all calls."""
        return sum(call.work.macs for call in self.calls)

    @property
    def operator_counts(self) -> dict[str, int]:
        """How often each operator was called, by name."""
        return dict(sorted(Counter(call.operator for call in self.calls).items()))


def key_of(tensor: torch.Tensor) -> int:
    """Return the identity of a tensor's storage, which views share: torch keeps one object for it while it lives."""
    return id(tensor.untyped_storage())


class LiveBytes:
    """Follows storages from the operator that makes them to the moment Python lets them go.

    Two tensors on one storage (a view, an in-place result) count once; weights, which no operator made, count nothing.
    """

    def __init__(self) -> None:
        """Start with nothing alive."""
        self.alive = 0
        self.peak = 0
        self._references: dict[int, weakref.ref[Any]] = {}

    @classmethod
    def of(cls, module: nn.Module, given: Any) -> LiveBytes:  # noqa: ANN401 - the arguments of a forward pass
        """Start with what a network is given, its own weights and buffers left out."""
        live = cls()
        for tensor in (*module.parameters(), *module.buffers()):
            live.ignore(tensor)
        for tensor in tensors_of(given):
            live.add(tensor)
        return live

    def add(self, tensor: torch.Tensor) -> None:
        """Count the tensor's storage as alive until it is freed, unless it is known already."""
        storage = tensor.untyped_storage()
        size = storage.nbytes()
        key = key_of(tensor)
        if size == 0 or key in self._references:
            return
        self._references[key] = weakref.ref(storage, self._forgetter(key, size))
        self.alive += size
        self.peak = max(self.peak, self.alive)

    def _forgetter(self, key: int, size: int) -> Callable[[Any], None]:
        def forget(reference: Any) -> None:  # noqa: ANN401 - a weak reference to a storage
            if self._references.get(key) is reference:
                del self._references[key]
                self.alive -= size

        return forget

    def ignore(self, tensor: torch.Tensor) -> None:
        """Never count this tensor's storage: a weight or a buffer."""
        storage = tensor.untyped_storage()
        self._references[key_of(tensor)] = weakref.ref(storage)


class WatchingMode(DispatchMode):
    """Runs every operator (or infers its shape), follows what is alive, and has `note` write down what it cost."""

    def __init__(self, live: LiveBytes) -> None:
        """Add what operators return to `live`."""
        super().__init__()
        self.live = live

    def run(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:  # noqa: ANN401 - operators and what they take and return
        """Run one operator."""
        name = name_of(func)
        out = shapes.run(name, func, args, kwargs)
        for tensor in tensors_of(out):
            self.live.add(tensor)
        self.note(name, args, out, operators.work_of(name, args, out, kwargs))
        return out

    def note(self, name: str, args: Sequence[Any], out: Any, work: operators.Work | None) -> None:  # noqa: ANN401 - as above
        """Write down one operator; no work is known of one that has no rule."""
        raise NotImplementedError


class CountingMode(WatchingMode):
    """Watches every operator below the module that is running."""

    def __init__(self, trace: Trace, live: LiveBytes, *, fields: bool) -> None:
        """Write what is seen into `trace`."""
        super().__init__(live)
        self.trace = trace
        self.fields = fields
        self.stack: list[str] = [""]
        self.inside_norm = 0
        self.function = ""
        self.product: int | None = None

    def note(self, name: str, args: Sequence[Any], out: Any, work: operators.Work | None) -> None:  # noqa: ANN401 - as above
        """Write down where the operator ran, and what it cost and saw."""
        if self.fields:
            receptive.follow(name, args, out)
        if work is None:
            self.trace.uncounted[name] += 1
        elif work is not operators.FREE:
            if self.adds_bias(name, args):
                work = operators.Work(bias=work.operations)
            self.product = key_of(out) if name in {"mm", "bmm", "mv"} else None
            if self.inside_norm and work.operations:
                work = work._replace(kind="norm")
            call = OperatorCall(self.stack[-1], name, shape_of(args), shape_of(out), work, self.function)
            self.trace.calls.append(call)

    def adds_bias(self, name: str, args: Sequence[Any]) -> bool:
        """Tell whether a vector is added to the matrix product just made: how torch runs a linear layer with a bias.

        It does so where the input is not a plain matrix: images with channels last, say.
        """
        if self.product is None or name not in {"add", "add_"}:
            return False
        one, other = args[0], args[1]
        return isinstance(other, torch.Tensor) and other.dim() == 1 and key_of(one) == self.product


NOT_RECORDED = (
    *(f"conv{transposed}{n}d" for transposed in ("", "_transpose") for n in (1, 2, 3)),
    *("lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"),
)
"""Composite operators whose parts torch.jit records instead (DONT_RECORD_TRACE in its gen_trace_type.py)."""


class RecordingMode(CountingMode):
    """Counts, and notes the operators as torch.jit records them: a linear layer whole, not its transpose and addmm."""

    def __init__(self, trace: Trace, live: LiveBytes, *, fields: bool) -> None:
        """Write what is counted into `trace`."""
        super().__init__(trace, live, fields=fields)
        self.inside = False
        self.nodes: list[tuple[OperatorCall, set[int], set[int]]] = []

    def run(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:  # noqa: ANN401 - operators and what they take and return
        """Take a composite operator apart and count its parts; note the outermost with all that they cost."""
        name, start = name_of(func), len(self.trace.calls)
        outermost = not self.inside and name not in NOT_RECORDED
        self.inside = self.inside or outermost
        try:
            if torch_private.is_composite(func):
                with self:
                    out = torch_private.run_composite(func, *args, **kwargs)
            else:
                out = super().run(func, args, kwargs)
        finally:
            self.inside = self.inside and not outermost
        if outermost:
            parts = [call.work for call in self.trace.calls[start:]]
            real = max((part.real for part in parts), default=1)
            work = operators.Work(sum(part.macs for part in parts), real=real)
            where = self.stack[-1]
            call = OperatorCall(where, name, shape_of(args), shape_of(out), work, arguments=described(args))
            self.nodes.append((call, storages_of([args, kwargs]), storages_of(out)))
        return out

    def recorded_for(self, kept: Iterator[torch.Tensor]) -> list[OperatorCall]:
        """Return what was recorded, and mark what has no effect on `kept`, the tensors that outlive the pass."""
        needed = storages_of(list(kept))
        found = []
        for call, read, written in reversed(self.nodes):
            effective = bool(written & needed)
            if effective:
                needed = needed - (written - read) | read  # what it makes anew was another storage before
            found.append(replace(call, effective=effective))
        return found[::-1]


def listed(uncounted: Counter[str]) -> tuple[str, ...]:
    """Return the operators that no rule counts, each with how often it ran."""
    return tuple(f"{name} ({times}x)" for name, times in sorted(uncounted.items()))


def storages_of(value: Any) -> set[int]:  # noqa: ANN401 - operators take and return anything
    """Return the addresses of the storages behind the tensors in a value: views share theirs."""
    return {key_of(tensor) for tensor in tensors_of(value)}


def described(value: Any) -> Any:  # noqa: ANN401 - operators take anything
    """Return arguments with shapes in the place of tensors."""
    if isinstance(value, torch.Tensor):
        return tuple(value.shape)
    return type(value)(map(described, value)) if isinstance(value, tuple | list) else value


def shape_of(value: Any) -> tuple[int, ...]:  # noqa: ANN401 - operators take and return anything
    """Return the shape of the first tensor in a value."""
    tensor = next(tensors_of(value), None)
    return tuple(tensor.shape) if tensor is not None else ()


@contextlib.contextmanager
def attributed(root: nn.Module, mode: CountingMode) -> Iterator[None]:
    """Keep the mode's stack of module names while `root` runs; leaves no hook behind."""
    places: dict[int, list[str]] = {}
    for name, part in root.named_modules(remove_duplicate=False):
        places.setdefault(id(part), []).append(name)

    def place_of(names: list[str]) -> str:
        """Return where a module that stands in several places runs: below what runs now, in turns."""
        if isinstance(mode, RecordingMode):
            return names[0]  # torch.jit knows a module by its first place
        above = mode.stack[-1] + "." if mode.stack[-1] else ""
        inside = [name for name in names if name.startswith(above)]
        return min(inside or names, key=mode.trace.visits.__getitem__)

    def enter(module: nn.Module, _: Any) -> None:  # noqa: ANN401 - a forward's arguments
        names = places.get(id(module))
        if names is not None:
            mode.stack.append(place_of(names))
            mode.trace.visits[mode.stack[-1]] += 1
            mode.inside_norm += isinstance(module, nn.LocalResponseNorm)

    def leave(module: nn.Module, _: Any, output: Any) -> None:  # noqa: ANN401 - a forward's arguments and result
        if id(module) in places:
            name = mode.stack.pop()
            mode.inside_norm -= isinstance(module, nn.LocalResponseNorm)
            mode.trace.outputs[name] = shape_of(output)
            if mode.fields:
                mode.trace.fields[name] = receptive.size_of(next(tensors_of(output), None))

    handles = [
        hooks.register_module_forward_pre_hook(enter),
        hooks.register_module_forward_hook(leave),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


BY_NAME = {torch.add: "torch.add", torch.mul: "torch.mul"}


class FunctionNames(TorchFunctionMode):
    """Tells a counting mode which function of torch's Python interface is running, the outermost one."""

    def __init__(self, mode: CountingMode) -> None:
        """Write the names into `mode`."""
        super().__init__()
        self.mode = mode

    def __torch_function__(
        self,
        func: Any,  # noqa: ANN401 - any function of torch
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - whatever the function returns
        """Run one function under its name."""
        del types
        # x + y and torch.add(x, y) share the name add; some counters see the second alone.
        name = BY_NAME.get(func) or str(getattr(func, "__name__", ""))
        before, self.mode.function = self.mode.function, name
        try:
            return func(*args, **(kwargs or {}))
        finally:
            self.mode.function = before


def trace(
    module: nn.Module,
    inputs: Sequence[Any],
    named: Mapping[str, Any] | None = None,
    *,
    device: str = "meta",
    functions: bool = False,
    makes_tensors: bool = True,
    fields: bool = True,
    gradients: bool = False,
) -> Trace:
    """Run one inference pass of a module and return what it showed.

    Args:
        module: a network whose weights are on `device`; put into evaluation mode here.
        inputs: its positional arguments, tensors on `device` with a batch axis.
        named: its keyword arguments.
        device: "meta", or "cpu" for a network that needs values.
        functions: note the Python function behind every operator, and the operators as torch.jit records them.
        makes_tensors: whether its forward may make tensors, which then have to be made on `device`; a network that
            makes none is traced faster without that.
        fields: follow receptive fields too.
        gradients: keep what derivatives need, for a network that asks for some in its forward pass.

    """
    found = Trace()
    given = [list(inputs), named or {}]
    live = LiveBytes.of(module, given)
    for tensor in tensors_of(given) if fields else ():
        receptive.start(tensor)
    mode = (RecordingMode if functions else CountingMode)(found, live, fields=fields)
    module.eval()
    with torch.set_grad_enabled(gradients), attributed(module, mode), contextlib.ExitStack() as stack:
        if makes_tensors:
            stack.enter_context(torch.device(device))
        stack.enter_context(as_on_cpu() if device == "meta" else taken_apart())
        stack.enter_context(isolation.nothing_compiled())
        if functions:
            stack.enter_context(FunctionNames(mode))
            stack.enter_context(torch_private.below_autograd())
        stack.enter_context(mode)
        out = module(*inputs, **(named or {}))
    if isinstance(mode, RecordingMode):
        kept = tensors_of([out, given, *module.parameters(), *module.buffers()])
        found.recorded = mode.recorded_for(kept)
    found.peak_bytes = live.peak
    return found


def floating_type(module: nn.Module) -> torch.dtype:
    """Return the type of the network's first floating-point weight, float32 if it has none."""
    return next((weight.dtype for weight in module.parameters() if weight.is_floating_point()), torch.float32)
