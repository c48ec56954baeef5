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
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mlcv_bench import torch_private
from mlcv_bench.architectures.outputs import parts_of
from mlcv_bench.architectures.reproducibility import seed_all, watched, without_tf32
from mlcv_bench.architectures.request import Request
from mlcv_bench.architectures.weights import load_weights
from mlcv_bench.counting.network import Network
from mlcv_bench.errors import MissingExtraError
from mlcv_bench.names import first_line
from mlcv_bench.records import shape_text
from mlcv_bench.timing.blocks import LocalWorkload
from mlcv_bench.timing.clock import clock_for
from mlcv_bench.timing.contention import SystemLedger
from mlcv_bench.timing.devices import Memory, peak_memory
from mlcv_bench.timing.request import Cell, Facts
from mlcv_bench.trials import NotApplicableError

# Largest error allowed, as a share of the largest magnitude of the float32 reference: rounding grows with depth.
TOLERANCE = {"float64": 1e-3, "float32": 1e-3, "float16": 5e-2, "bfloat16": 2e-1}
# A deep untrained network magnifies rounding beyond any fixed limit: what one rounding of weights and images does to
# the reference itself, times this, is explained too. Even so a result must not be as wrong as zeros would be.
EXPLAINED = 8.0
NEVER_EXPLAINED = 0.8

_CALIBRATION_IMAGES = 4

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)

# Weights below this are few enough pages for their places to decide a time. Above it the pages average themselves out,
# while fresh copies of resnet18 lie worse than the first ones and would add 2% to every call.
RENEW_BELOW_BYTES = 8 * 2**20


Tensors = dict[str, Tensor]
"""Tensors by their places in an output, or gradients by their parameters' names."""


class WrongResultError(Exception):
    """The converted network does not compute what the float32 reference does, so its time means nothing."""


def open_here(cell: Cell, *, comparing: bool = False) -> tuple[LocalWorkload, Facts]:
    """Prepare a cell in this process, as `prepare` does, from its network's name."""
    return prepare(cell, functools.partial(build_network, cell), comparing=comparing)


def build_network(cell: Cell) -> nn.Module:
    """Build a cell's network in float32 on the processor, with trained weights where the user has some."""
    # A network that its file has built already is copied, as it will be converted.
    model = Network(Request(cell.architecture, cell.settings, cell.input)).on_cpu()
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
    subject = _Subject.of(cell, build)
    try:
        return _prepared(cell, subject, comparing=comparing)
    except NotImplementedError as error:
        # Such as local response normalisation in half precision on a processor.
        raise NotApplicableError(
            f"torch cannot do this in {cell.dtype} on {cell.device}: {first_line(error)}"
        ) from error


@dataclass
class _Subject:
    """A network in eager float32 as its user wrote it, what it takes, and how it behaved there."""

    build: Callable[[], nn.Module]
    model: nn.Module
    images: Tensor
    expected: Tensors
    writes: bool
    """Whether it writes into its input."""
    draws: bool
    """Whether it draws random numbers, in evaluation."""

    @classmethod
    def of(cls, cell: Cell, build: Callable[[], nn.Module]) -> _Subject:
        """Build the network and run it once, on a copy of its images."""
        model, images = _built(cell, build)
        given = images.clone()
        expected, draws = watched(lambda: _reference(cell, model, given), cell.seed)
        return cls(build, model, images, expected, writes=not torch.equal(given, images), draws=draws)

    @property
    def remark(self) -> str:
        """What a reader of its time must know."""
        return "; ".join(
            words
            for words, true in (
                ("writes into its input: each pass gets a copy, whose time counts", self.writes),
                ("draws random numbers in evaluation: one seed for what is compared", self.draws),
                ("returns no tensor: nothing could be compared with eager float32", not self.expected),
            )
            if true
        )


def _prepared(cell: Cell, subject: _Subject, *, comparing: bool) -> tuple[LocalWorkload, Facts]:
    model, images = _converted(cell, subject.model, subject.images)
    call, compile_counters = _call(cell, model, images, writes=subject.writes)
    clock = clock_for(cell.device)
    seed_all(cell.seed)
    context = block_context(cell, model)
    with context():
        clock.synchronise()
        start = time.perf_counter()
        result = call()
        clock.synchronise()
        first_call_s = time.perf_counter() - start
    found = _tensors(result) if cell.direction == "forward" else _gradients(model)
    absolute, relative, tolerance = _checked(cell, subject, found)
    remark = subject.remark
    del result, found
    subject.expected = {}
    if cell.direction == "forward-backward":
        model.train()
    with context():
        call()
        if cell.direction == "forward-backward":
            _require_finite(cell, _gradients(model))
        model.zero_grad(set_to_none=True)
        standing = [*model.parameters(), *model.buffers(), images]
        peak = peak_memory(cell.device, call, standing) if not comparing else Memory(None, None, None)
    workload = LocalWorkload(
        call,
        clock=clock,
        ledger=SystemLedger(cell.device),
        threads=cell.threads,
        on_cpu=cell.on_cpu,
        context=context,
        renew=_elsewhere(cell, model, images, writes=subject.writes)
        if _is_moved(cell, model, comparing=comparing)
        else None,
        on_close=torch.cuda.empty_cache,
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


def _checked(cell: Cell, subject: _Subject, found: Tensors) -> tuple[float | None, float | None, float | None]:
    """Return the absolute and relative error against eager float32, and what was allowed; None without a tensor."""
    expected = subject.expected
    if not expected and not found:
        return None, None, None
    absolute, relative = _errors(cell, found, expected)
    # A gradient also moves where rounding decides which pixel a maximum pooling picks.
    tolerance = TOLERANCE[cell.dtype] if cell.direction == "forward" else min(0.5, 10 * TOLERANCE[cell.dtype])
    if not relative <= tolerance:
        tolerance = max(tolerance, min(NEVER_EXPLAINED, EXPLAINED * _sensitivity(cell, subject.build, expected)))
    if relative <= tolerance:
        return absolute, relative, tolerance
    if subject.draws:
        model, images = _built(cell, subject.build)
        again, _ = watched(lambda: _reference(cell, model, images), cell.seed + 1)
        difference = _errors(cell, again, expected)[1]
        if difference > TOLERANCE["float32"]:
            raise WrongResultError(
                f"is random in evaluation: two passes of eager float32 on the same images differ by {difference:.1e} "
                "of the largest value, so that no other form of it can be checked; its dropout may ignore eval()"
            )
    raise WrongResultError(
        f"differs from eager float32 by {relative:.1e} of its largest value, "
        f"more than the {tolerance:.0e} that rounding to {cell.dtype} explains"
    )


def _built(cell: Cell, build: Callable[[], nn.Module]) -> tuple[nn.Module, Tensor]:
    """Build the network in float32 and its images, (batch, C, H, W), on the cell's device; the same ones every time."""
    torch.manual_seed(cell.seed)
    model = build().float().eval()
    if cell.dtype in {"float16", "bfloat16"} and cell.weights is None:
        calibrate(model, _images(cell, _CALIBRATION_IMAGES))
    return model.to(cell.device), _images(cell, cell.batch).to(cell.device)


def _sensitivity(cell: Cell, build: Callable[[], nn.Module], expected: Tensors) -> float:
    """Return the relative error that rounding every weight and pixel once to the cell's type causes in float32."""
    model, images = _built(cell, build)
    # Rounding float32 to float64 changes nothing, while computing in it still does.
    step = max(torch.finfo(getattr(torch, cell.dtype)).eps, torch.finfo(torch.float32).eps)
    generator = torch.Generator().manual_seed(cell.seed)
    with torch.no_grad():
        for tensor in (*model.parameters(), images):
            noise = torch.rand(tensor.shape, generator=generator) - 0.5
            tensor.mul_((1 + step * noise).to(tensor.device))
    return _errors(cell, watched(lambda: _reference(cell, model, images), cell.seed)[0], expected)[1]


def _refuse_impossible(cell: Cell) -> None:
    if cell.runtime == "onnx" and cell.direction != "forward":
        raise NotApplicableError("onnxruntime has no backward pass")
    if cell.runtime == "onnx" and cell.dtype not in {"float32", "float16"}:
        raise NotApplicableError(f"onnxruntime has no {cell.dtype} convolution")
    if cell.runtime == "onnx" and not cell.on_cpu and not cell.device.startswith("cuda"):
        raise NotApplicableError(f"onnxruntime is not run on {cell.device} here")
    if cell.runtime == "onnx" and cell.memory_format != "contiguous":
        raise NotApplicableError("onnxruntime chooses the memory format itself")
    if cell.fold_batch_norm and cell.direction != "forward":
        raise NotApplicableError("batch norm can be folded for inference only")


def _images(cell: Cell, count: int) -> Tensor:
    """Return `count` seeded normal images, (count, C, H, W) in float32: zeros and constants would be faster."""
    generator = torch.Generator().manual_seed(cell.seed)
    return torch.randn(count, *cell.input, generator=generator)


def calibrate(model: nn.Module, images: Tensor) -> None:
    """Give every batch norm the statistics of `images`: untrained ones let float16 overflow in deep networks."""
    norms = [module for module in model.modules() if isinstance(module, BATCH_NORMS)]
    momenta = [norm.momentum for norm in norms]
    try:
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None
            norm.train()
        if norms:
            with torch.no_grad():
                model(images)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            norm.eval()


def _reference(cell: Cell, model: nn.Module, images: Tensor) -> Tensors:
    """Return the eager, contiguous float32 outputs, or for a backward pass the gradients, TF32 off."""
    with without_tf32() if cell.device.startswith("cuda") else contextlib.nullcontext():
        if cell.direction == "forward":
            with torch.inference_mode():
                return {name: output.clone() for name, output in _tensors(model(images)).items()}
        _training_step(model, images)
        gradients = {name: gradient.clone() for name, gradient in _gradients(model).items()}
        model.zero_grad(set_to_none=True)
        return gradients


def _converted(cell: Cell, model: nn.Module, images: Tensor) -> tuple[nn.Module, Tensor]:
    if cell.fold_batch_norm:
        model = fold_batch_norm(model)
    dtype = getattr(torch, cell.dtype)
    model, images = model.to(dtype), images.to(dtype)
    if cell.memory_format == "channels_last":
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        images = images.to(memory_format=torch.channels_last)
    return model, images


def fold_batch_norm(model: nn.Module) -> nn.Module:
    """Return an evaluation-mode copy with every batch norm folded into the convolution before it.

    Raises:
        NotApplicableError: torch.fx cannot trace the network, or it has no convolution followed by a batch norm.

    """
    from torch.fx.experimental.optimization import fuse  # noqa: PLC0415 - imports much, and few cells fold

    before = sum(isinstance(module, BATCH_NORMS) for module in model.modules())
    try:
        folded: nn.Module = fuse(copy.deepcopy(model))
    except (TypeError, torch.fx.proxy.TraceError) as error:
        raise NotApplicableError(f"torch.fx cannot trace the network to fold it: {error}") from error
    if sum(isinstance(module, BATCH_NORMS) for module in folded.modules()) == before:
        raise NotApplicableError("the network has no batch norm right after a convolution")
    return folded.eval()


def _call(
    cell: Cell, model: nn.Module, images: Tensor, *, writes: bool = False
) -> tuple[Callable[[], Any], Callable[[], int]]:
    """Return the call that is timed, and a function that counts the graph breaks so far.

    A network that writes into its input gets a copy each time: it would soon compute with other numbers.
    """
    if cell.runtime == "onnx":
        return _onnx_call(cell, model, images), lambda: 0
    run, breaks = torch_private.compiled(model) if cell.runtime == "compile" else (model, lambda: 0)
    step = functools.partial(_training_step, model, run=run) if cell.direction == "forward-backward" else run
    return (lambda: step(images.clone())) if writes else functools.partial(step, images), breaks


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
    cell: Cell, model: nn.Module, images: Tensor, *, writes: bool = False
) -> Callable[[], Callable[[], Any]]:
    """Return a function that copies the network and its images to other memory and returns the call on the copies."""
    chance = random.Random(cell.seed)  # noqa: S311 - sizes of padding
    kept: list[Any] = [model, images]

    def renewed() -> Callable[[], Any]:
        # Old copies live until the new ones are made, and padding of random size lies between them.
        padding = [torch.ones(chance.randrange(1, 2**16)) for _ in range(chance.randrange(1, 8))]
        fresh = copy.deepcopy(kept[0]), images.clone()
        call, _ = _call(cell, *fresh, writes=writes)
        kept[:] = [fresh[0], padding]
        return call

    return renewed


def _onnx_call(cell: Cell, model: nn.Module, images: Tensor) -> Callable[[], Any]:
    try:
        import onnxruntime  # noqa: PLC0415 - from an extra
        import onnxscript  # type: ignore[import-untyped, unused-ignore]  # noqa: F401, PLC0415 - the exporter needs it
    except ImportError as error:
        raise MissingExtraError("--runtime onnx", "onnx") from error
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        # The exporter warns about its own internals.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(model, (images,), dynamo=True, verbose=False)
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
    feed = {session.get_inputs()[0].name: images.cpu().numpy()}
    return lambda: [torch.from_numpy(output) for output in session.run(None, feed)]


def _training_step(model: nn.Module, images: Tensor, run: Callable[[Tensor], Any] | None = None) -> None:
    """Run forward and backward, from the mean of every output; gradients start from nothing each time.

    Raises:
        NotApplicableError: nothing is trained in this network.

    """
    model.zero_grad(set_to_none=True)
    outputs = [output for output in _tensors((run or model)(images)).values() if output.requires_grad]
    if not outputs:
        raise NotApplicableError(
            "no output depends on a parameter that requires a gradient, so that there is no backward pass"
        )
    means = [(output.abs() if output.is_complex() else output).float().mean() for output in outputs]
    torch.stack(means).sum().backward()  # type: ignore[no-untyped-call]


def _gradients(model: nn.Module) -> Tensors:
    """Return the gradients of the first and the last parameter: the whole backward pass lies between them."""
    found = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    return {name: found[name] for name in list(found)[:: max(1, len(found) - 1)]}


def _tensors(output: Any) -> Tensors:  # noqa: ANN401 - whatever a network returns
    """Return every tensor of a network's output by its place there; numbers and words have no rounding to check."""
    return {name: part for name, part in parts_of(output).items() if isinstance(part, Tensor)}


def _require_finite(cell: Cell, tensors: Tensors) -> None:
    if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values()):
        hint = "try bfloat16 or trained weights" if cell.dtype == "float16" else "try trained weights"
        raise WrongResultError(f"{cell.dtype} gives values that are not finite; {hint}")


def _errors(cell: Cell, found: Tensors, expected: Tensors) -> tuple[float, float]:
    """Return the largest absolute error, and the largest as a share of its tensor's largest magnitude."""
    _require_finite(cell, found)
    if cell.runtime == "onnx" and len(found) == len(expected):
        # A session returns its outputs in a list.
        found = dict(zip(expected, found.values(), strict=True))
    if found.keys() != expected.keys():
        names = ", ".join(sorted(found.keys() ^ expected.keys()))
        raise WrongResultError(f"{len(found)} outputs where the float32 reference has {len(expected)}: {names}")
    absolute, relative = 0.0, 0.0
    for name, other in expected.items():
        if found[name].shape != other.shape:
            shapes = f"{shape_text(found[name].shape)} where the float32 reference has {shape_text(other.shape)}"
            raise WrongResultError(f"{name} is {shapes}")
        if not other.numel():
            continue
        # On the processor: Apple's MPS has no float64.
        exact = torch.complex128 if other.is_complex() else torch.float64
        reference = other.cpu().to(exact)
        error = float((found[name].cpu().to(exact) - reference).abs().max())
        absolute = max(absolute, error)
        relative = max(relative, error / max(float(reference.abs().max()), 1e-30))
    return absolute, relative


def block_context(cell: Cell, model: nn.Module) -> Callable[[], contextlib.AbstractContextManager[None]]:
    """Return the context each block runs in: the cell's threads, and evaluation without autograd unless it trains."""

    @contextlib.contextmanager
    def context() -> Iterator[None]:
        if torch.get_num_threads() != cell.threads:
            torch.set_num_threads(cell.threads)
        trains = cell.direction == "forward-backward"
        if model.training and not trains:
            raise WrongResultError("the network is in training mode, so its forward pass is not inference")
        with torch.enable_grad() if trains else torch.inference_mode():
            yield

    return context
