"""From a cell to a workload: the network built, converted and proved right, before any clock starts."""

from __future__ import annotations

import contextlib
import copy
import functools
import io
import logging
import random
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mlcv_bench import torch_private
from mlcv_bench.architectures.inputs import Inputs
from mlcv_bench.architectures.reproducibility import deterministic, seed_all, tf32
from mlcv_bench.architectures.weights import load_weights
from mlcv_bench.counting.network import Network
from mlcv_bench.extras import require
from mlcv_bench.names import first_line
from mlcv_bench.timing.blocks import LocalWorkload
from mlcv_bench.timing.clock import clock_for
from mlcv_bench.timing.contention import Ledger
from mlcv_bench.timing.devices import HeldMemory, Memory, cache_clearer, peak_memory, release_cache, require_room
from mlcv_bench.timing.reference import (
    BATCH_NORMS,
    EagerReference,
    WrongResultError,
    gradients_of,
    require_finite,
    tensors_of,
    training_step,
)
from mlcv_bench.timing.request import Cell, Facts, input_bytes
from mlcv_bench.trials import NotApplicableError

# Weights below this are few enough pages for their places to decide a time. Above it the pages average themselves out,
# while fresh copies of resnet18 lie worse than the first ones and would add 2% to every call.
RENEW_BELOW_BYTES = 8 * 2**20
IMAGES_DIM = 4

# Before a graph is captured, libraries choose their algorithms and take their workspaces.
CALLS_BEFORE_CAPTURE = 3


def open_here(cell: Cell, *, comparing: bool = False) -> tuple[LocalWorkload, Facts]:
    """Prepare a cell in this process, as `prepare` does, from its network's name."""
    return prepare(cell, functools.partial(build_network, cell), comparing=comparing)


def build_network(cell: Cell) -> nn.Module:
    """Build a cell's network in float32 on the processor, with trained weights where the user has some."""
    # A network that its file has built already is copied, as it will be converted.
    model = Network(cell.request).on_cpu()
    if cell.weights is not None:
        load_weights(model, Path(cell.weights))
    return model


def prepare(cell: Cell, build: Callable[[], nn.Module], *, comparing: bool = False) -> tuple[LocalWorkload, Facts]:
    """Build the cell's network, convert it, and check it against its own eager float32 form.

    Where it is built for `comparing`, the peak of its memory is not measured, which saves a second or two, and a
    network of any size is moved between blocks: what one process's memory is like must not pass for a difference.

    Raises:
        WrongResultError: an output is not finite or differs by more than rounding explains.
        NotApplicableError: this runtime cannot do what the cell asks.
        torch.OutOfMemoryError: the device's memory does not suffice.

    """
    _refuse_impossible(cell)
    torch.set_num_threads(cell.threads)
    others = HeldMemory.now(cell.device)
    require_room(cell.device, input_bytes(cell))
    with switches(cell):
        reference = EagerReference.of(cell, build)
    try:
        return _prepared(cell, reference, others, comparing=comparing)
    except NotImplementedError as error:
        # Such as local response normalisation in half precision on a processor.
        raise NotApplicableError(
            f"torch cannot do this in {cell.dtype} on {cell.device}: {first_line(error)}"
        ) from error


def _prepared(
    cell: Cell, reference: EagerReference, others: HeldMemory, *, comparing: bool
) -> tuple[LocalWorkload, Facts]:
    model, inputs = _converted(cell, reference.model, reference.inputs)
    # A folded network is another one, beside which the first would count as its memory.
    reference.model = model
    call, compile_counters = _call(cell, model, inputs, writes=reference.writes)
    clock = clock_for(cell.device)
    if cell.runtime == "onnx":
        # It computes on a stream of its own, of which torch's events know nothing.
        clock.events = False
    seed_all(cell.seed)
    context = block_context(cell, model)
    with context():
        clock.synchronise()
        start = time.perf_counter()
        result = call()
        clock.synchronise()
        first_call_s = time.perf_counter() - start
        found = tensors_of(result) if cell.direction == "forward" else gradients_of(cell, model)
        absolute, relative, tolerance = reference.check(found)
    remark = reference.remark
    del result, found
    reference.expected = {}
    if cell.direction == "forward-backward":
        model.train()
    with context():
        call()
        if cell.direction == "forward-backward":
            require_finite(cell, gradients_of(cell, model))
        model.zero_grad(set_to_none=True)
        standing = [*model.parameters(), *model.buffers(), *inputs.tensors()]
        peak = peak_memory(cell.device, call, standing, others) if not comparing else Memory(None, None, None)
    workload = LocalWorkload(
        call,
        clock=clock,
        ledger=Ledger(cell.device),
        threads=cell.threads,
        on_cpu=cell.on_cpu,
        context=context,
        renew=_elsewhere(cell, model, inputs, writes=reference.writes)
        if _is_moved(cell, model, comparing=comparing)
        else None,
        clear_cache=cache_clearer(cell.device) if cell.cold_cache else None,
        throughput=cell.throughput,
        on_close=functools.partial(release_cache, cell.device),
    )
    compiled = cell.runtime == "compile"
    return workload, Facts(
        max_abs_error=absolute,
        max_rel_error=relative,
        tolerance=tolerance,
        first_call_s=first_call_s,
        compile_s=first_call_s if compiled else None,
        graph_breaks=compile_counters() if compiled else None,
        allocated_bytes=peak.allocated if cell.runtime != "onnx" else None,
        reserved_bytes=peak.reserved,
        resident_bytes=peak.resident,
        remark=remark,
    )


def _refuse_impossible(cell: Cell) -> None:
    if cell.runtime == "onnx" and cell.direction != "forward":
        raise NotApplicableError("onnxruntime has no backward pass")
    if cell.runtime == "onnx" and cell.dtype not in {"float32", "float16"}:
        raise NotApplicableError(f"onnxruntime has no {cell.dtype} convolution")
    if cell.runtime == "onnx" and not cell.on_cpu and not cell.device.startswith("cuda"):
        raise NotApplicableError(f"onnxruntime is not run on {cell.device} here")
    if cell.runtime == "onnx" and cell.memory_format != "contiguous":
        raise NotApplicableError("onnxruntime chooses the memory format itself")
    if cell.runtime == "cuda-graph" and not cell.device.startswith("cuda"):
        raise NotApplicableError("CUDA graphs need a CUDA device: --device cuda")
    if cell.autocast and cell.runtime == "onnx":
        raise NotApplicableError("onnxruntime has no autocast")
    if cell.compile_mode != "default" and cell.runtime != "compile":
        raise NotApplicableError(f"--compile-mode {cell.compile_mode} needs --runtime compile")
    if cell.number == "float64" and cell.device.startswith("mps"):
        raise NotApplicableError("Apple's MPS has no float64")
    if cell.fold_batch_norm and cell.direction != "forward":
        raise NotApplicableError("batch norm can be folded for inference only")


def _converted(cell: Cell, model: nn.Module, inputs: Inputs) -> tuple[nn.Module, Inputs]:
    if cell.fold_batch_norm:
        model = fold_batch_norm(model)
    if not cell.autocast:
        dtype = getattr(torch, cell.dtype)
        model, inputs = model.to(dtype), inputs.real(dtype)
    inputs = inputs.map(lambda tensor: tensor.to(cell.device))
    if cell.memory_format == "channels_last":
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        inputs = inputs.map(
            lambda tensor: tensor.to(memory_format=torch.channels_last) if tensor.dim() == IMAGES_DIM else tensor
        )
    return model, inputs


def fold_batch_norm(model: nn.Module) -> nn.Module:
    """Return an evaluation-mode copy with every batch norm folded into the convolution before it.

    Raises:
        NotApplicableError: torch.fx cannot trace the network, or it has no convolution followed by a batch norm.

    """
    from torch.fx.experimental.optimization import fuse  # noqa: PLC0415 - imports much, and few cells fold

    before = sum(isinstance(module, BATCH_NORMS) for module in model.modules())
    try:
        folded: nn.Module = fuse(model)
    except (TypeError, torch.fx.proxy.TraceError) as error:
        raise NotApplicableError(f"torch.fx cannot trace the network to fold it: {error}") from error
    if sum(isinstance(module, BATCH_NORMS) for module in folded.modules()) == before:
        raise NotApplicableError("the network has no batch norm right after a convolution")
    return folded.eval()


def _call(
    cell: Cell, model: nn.Module, inputs: Inputs, *, writes: bool = False
) -> tuple[Callable[[], Any], Callable[[], int]]:
    """Return the call that is timed, and a function that counts the graph breaks so far.

    A network that writes into its input gets a copy each time: it would soon compute with other numbers.
    """
    if cell.runtime == "onnx":
        return _onnx_call(cell, model, inputs), lambda: 0
    run, breaks = torch_private.compiled(model, cell.compile_mode) if cell.runtime == "compile" else (model, lambda: 0)
    if cell.autocast:
        run = torch.autocast(cell.device.partition(":")[0], getattr(torch, cell.number))(run)

    def call_on(given: Inputs) -> Callable[[], Any]:
        if cell.direction == "forward-backward":
            return functools.partial(training_step, cell, model, given, run=run)
        return functools.partial(run, *given.positional, **given.named)

    def call_on_copy() -> Any:  # noqa: ANN401 - whatever the network returns
        return call_on(inputs.map(torch.clone))()

    call = call_on_copy if writes else call_on(inputs)
    return (_graph_call(cell, model, call) if cell.runtime == "cuda-graph" else call), breaks


def _graph_call(cell: Cell, model: nn.Module, call: Callable[[], Any]) -> Callable[[], Any]:
    """Return a call that replays what `call` asked of the device once, as one CUDA graph, into the same tensors."""
    device = torch.device(cell.device)
    kept: list[Any] = []

    def replay() -> Any:  # noqa: ANN401 - whatever the network returns
        if not kept:
            side = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            with torch.cuda.device(device), torch.cuda.stream(side):
                for _ in range(CALLS_BEFORE_CAPTURE):
                    call()
            torch.cuda.synchronize(device)
            model.zero_grad(set_to_none=True)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.device(device), torch.cuda.graph(graph):
                kept[:] = [graph, call()]
        graph, result = kept
        graph.replay()
        return result

    return replay


def _is_moved(cell: Cell, model: nn.Module, *, comparing: bool) -> bool:
    held = sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))
    if not cell.on_cpu or cell.runtime != "eager" or not (comparing or held < RENEW_BELOW_BYTES):
        return False
    try:
        copy.deepcopy(model)
    except Exception:  # noqa: BLE001 - one that keeps what it computed, say, may refuse in its own way
        return False
    return True


def _elsewhere(
    cell: Cell, model: nn.Module, inputs: Inputs, *, writes: bool = False
) -> Callable[[], Callable[[], Any]]:
    """Return a function that copies the network and its input to other memory and returns the call on the copies."""
    # Drawn otherwise in every process, also in those that are forked from one.
    chance = random.Random()  # noqa: S311 - sizes of padding
    kept: list[Any] = [model, inputs]

    def renewed() -> Callable[[], Any]:
        # Old copies live until the new ones are made, and padding of random size lies between them.
        padding = [torch.ones(chance.randrange(1, 2**16)) for _ in range(chance.randrange(1, 8))]
        fresh = copy.deepcopy(kept[0]), inputs.map(torch.clone)
        call, _ = _call(cell, *fresh, writes=writes)
        kept[:] = [fresh[0], padding]
        return call

    return renewed


def _onnx_call(cell: Cell, model: nn.Module, inputs: Inputs) -> Callable[[], Any]:
    require("onnx", "--runtime onnx")
    import onnxruntime  # noqa: PLC0415 - from an extra

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        # The exporter warns about its own internals.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            model, tuple(inputs.positional), kwargs=dict(inputs.named), dynamo=True, verbose=False
        )
    if program is None:
        raise RuntimeError("the ONNX exporter returned nothing")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = cell.threads
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0" if cell.wait_policy == "passive" else "1")
    provider = "CPUExecutionProvider" if cell.on_cpu else "CUDAExecutionProvider"
    settings = [{} if cell.on_cpu else {"device_id": int(cell.device.partition(":")[2] or 0)}]
    model_bytes = program.model_proto.SerializeToString()
    session = onnxruntime.InferenceSession(model_bytes, options, providers=[provider], provider_options=settings)
    if session.get_providers()[0] != provider:
        raise NotApplicableError(f"this onnxruntime has no {provider}")
    with torch.inference_mode():
        shown = tensors_of(inputs.map(torch.clone).into(model)).values()
        outputs = [torch.zeros(one.shape, dtype=one.dtype, device=cell.device) for one in shown]
    return _bound_call(session, cell.device, [tensor.contiguous() for tensor in inputs.tensors()], outputs)


def _bound_call(session: Any, device: str, tensors: Sequence[Tensor], outputs: Sequence[Tensor]) -> Callable[[], Any]:  # noqa: ANN401 - onnxruntime has no types
    """Return a call of a session that reads `tensors` and writes `outputs`, where they lie: nothing is copied."""
    kind, _, index = device.partition(":")
    binding = session.io_binding()
    for what, known, given, bind in (
        ("inputs", session.get_inputs(), tensors, binding.bind_input),
        ("outputs", session.get_outputs(), outputs, binding.bind_output),
    ):
        if len(known) != len(given):
            raise NotApplicableError(f"the ONNX exporter kept {len(known)} of the network's {len(given)} {what}")
        for one, tensor in zip(known, given, strict=True):
            number = torch.empty(0, dtype=tensor.dtype).numpy().dtype
            bind(one.name, kind, int(index or 0), number, tuple(tensor.shape), tensor.data_ptr())

    def call() -> Sequence[Tensor]:
        session.run_with_iobinding(binding)
        # The session knows addresses alone: whoever holds the call holds what lies there.
        return kept[1]

    kept = tensors, outputs
    return call


def block_context(cell: Cell, model: nn.Module) -> Callable[[], contextlib.AbstractContextManager[None]]:
    """Return the context each block runs in: the cell's threads, and evaluation without autograd unless it trains."""

    @contextlib.contextmanager
    def context() -> Iterator[None]:
        if torch.get_num_threads() != cell.threads:
            torch.set_num_threads(cell.threads)
        trains = cell.direction == "forward-backward"
        if model.training and not trains:
            raise WrongResultError("the network is in training mode, so its forward pass is not inference")
        with switches(cell), torch.enable_grad() if trains else torch.inference_mode():
            yield

    return context


@contextlib.contextmanager
def switches(cell: Cell) -> Iterator[None]:
    """Set torch's switches as the cell asks inside: TF32, cuDNN's search for the fastest algorithm, determinism."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(tf32(cell.tf32))
        if cell.cudnn_benchmark:
            stack.callback(setattr, torch.backends.cudnn, "benchmark", torch.backends.cudnn.benchmark)
            torch.backends.cudnn.benchmark = True
        if cell.deterministic:
            stack.enter_context(deterministic())
        yield
