"""The cost of a network: parameters, MACs, element-wise work, activations and memory, as one record."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from torch import nn

from mlcv_bench.architectures.request import NamedInput, Request
from mlcv_bench.counting import isolation, operators, tracing
from mlcv_bench.counting.network import Network, Observation, observe
from mlcv_bench.counting.published import Known, known
from mlcv_bench.counting.tree import own_costs
from mlcv_bench.errors import UsageError
from mlcv_bench.records import row_of

if TYPE_CHECKING:
    from collections.abc import Callable

FORWARD = (
    *("macs", "flops", "activations", "peak_activation_bytes", "operators", "operator_calls"),
    *(f"{kind}_ops" for kind in operators.KINDS),
)
"""What a forward pass alone shows."""


@dataclass(frozen=True)
class Cost:
    """What one network costs for one inference batch.

    `macs` are those of convolutions, linear layers and matrix products, of the whole batch; `flops` twice as many.
    `*_ops` are element-wise operations with the weights of `counting.operators`. `activations` are elements that
    convolutions, linear layers and matrix products compute. `peak_activation_bytes` is the largest sum of tensors
    alive at once, the input included. `operator_calls` names every operator and how often it is called. Published
    figures are printed somewhere, recounted ones are our own count of a definition; both MACs are per image. Bytes are
    bytes, never KiB. `options` are those of the builder, as `--set` reads them. The first thirteen are the contract's
    columns.
    """

    architecture: str
    family: str
    input: str
    batch: int
    params: int
    macs: int
    flops: int
    activations: int
    weight_bytes: int
    peak_activation_bytes: int
    published_params: int | None
    published_macs: int | None
    published_source: str | None
    norm_ops: int
    bias_ops: int
    activation_ops: int
    pooling_ops: int
    addition_ops: int
    trainable_params: int
    buffers: int
    buffer_bytes: int
    operators: int
    options: str = ""
    recounted_params: int | None = None
    recounted_macs: int | None = None
    operator_calls: str = ""
    printed: Known = field(default=Known(), metadata={"hidden": True})
    uncounted: tuple[str, ...] = field(default=(), metadata={"hidden": True})
    notes: tuple[str, ...] = field(default=(), metadata={"hidden": True})
    ran: bool = field(default=True, metadata={"hidden": True})
    modules: tuple[tuple[str, str, int, int], ...] = field(
        default=(), repr=False, compare=False, metadata={"hidden": True}
    )
    """Path, class, own parameters and own MACs of every module that has some."""
    trace: tracing.Trace | None = field(default=None, repr=False, compare=False, metadata={"hidden": True})

    def row(self) -> dict[str, Any]:
        """Return the record under the columns of the contract; what a forward pass shows is missing without one."""
        return row_of(self) | ({} if self.ran else dict.fromkeys(FORWARD))


def count(
    subject: str | Request | nn.Module | Callable[..., nn.Module],
    *,
    input: tuple[int, ...] | None = None,  # noqa: A002 - the word of the command line
    batch: int = 1,
    tensors: tuple[NamedInput, ...] = (),
    **options: Any,  # noqa: ANN401 - the builder's own options
) -> Cost:
    """Count what a network costs, without allocating its weights.

    Args:
        subject: an architecture's name, a specification, a request, a function or class that builds a network, or any
            module (left exactly as it is).
        input: shape of one image, as (channels, height, width); by default the architecture's own.
        batch: images in the batch; it multiplies the first axis of named tensors.
        tensors: what the network takes, where that is not one image.
        **options: keyword options of the architecture's builder, such as form="branches".

    Returns:
        The cost, with its operator trace.

    Raises:
        UsageError: unknown name or option, a factory that fails, or an input that the network cannot take.

    """
    network = Network.of(subject, input=input, tensors=tensors, options=options)
    seen = observe(network, batch)
    return cost_of(seen, network.request, batch)


def count_parameters(request: Request, *, batch: int = 1) -> Cost:
    """Count as `count` does; where the input does not fit, the parameters alone, with a note that says so.

    Raises:
        UsageError: unknown name or option, a factory that fails, or weights that get their shapes from the input.

    """
    try:
        return count(request, batch=batch)
    except UsageError as error:
        if error.__cause__ is None:
            raise
        with isolation.left_alone():
            module = Network.of(request).on_meta()
        if isolation.is_lazy(module):
            raise
        seen = Observation(module, tracing.Trace(), (f"{error}; the parameters need none",))
        return replace(cost_of(seen, request, batch), ran=False)


def cost_of(seen: Observation, request: Request, batch: int) -> Cost:
    """Add up what a network showed."""
    module, trace = seen.module, seen.trace
    sums = [call.work for call in trace.calls]
    by_kind: Counter[str] = Counter()
    for work in sums:
        by_kind[work.kind] += work.operations
    by_kind["bias"] += sum(work.bias for work in sums)
    by_kind["addition"] += sum(work.additions for work in sums)
    parameters, buffers = list(module.parameters()), list(module.buffers())
    macs = trace.macs
    printed, recounted = (
        known(request.name, request.input, kind) if request.plain else Known() for kind in ("printed", "recount")
    )
    return Cost(
        architecture=request.name,
        family=request.family,
        input=request.input_text,
        batch=batch,
        params=sum(parameter.numel() for parameter in parameters),
        macs=macs,
        flops=2 * macs,
        activations=sum(work.activations for work in sums),
        weight_bytes=sum(parameter.nbytes for parameter in parameters),
        peak_activation_bytes=trace.peak_bytes,
        published_params=printed.params and printed.params.value,
        published_macs=printed.macs and printed.macs.value,
        published_source=printed.source,
        norm_ops=by_kind["norm"],
        bias_ops=by_kind["bias"],
        activation_ops=by_kind["activation"],
        pooling_ops=by_kind["pooling"],
        addition_ops=by_kind["addition"],
        trainable_params=sum(parameter.numel() for parameter in parameters if parameter.requires_grad),
        buffers=sum(buffer.numel() for buffer in buffers),
        buffer_bytes=sum(buffer.nbytes for buffer in buffers),
        operators=len(trace.calls),
        options=request.options_text,
        recounted_params=recounted.params and recounted.params.value,
        recounted_macs=recounted.macs and recounted.macs.value,
        operator_calls=", ".join(f"{name} {times}" for name, times in trace.operator_counts.items()),
        printed=printed,
        uncounted=tracing.listed(trace.uncounted),
        notes=seen.notes,
        modules=tuple((path, *own) for path, own in own_costs(module, trace).items() if any(own[1:])),
        trace=trace,
    )
