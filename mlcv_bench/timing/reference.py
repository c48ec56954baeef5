"""A cell's network in eager float32: what every other form of it has to agree with before it is timed."""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mlcv_bench.architectures.inputs import Inputs, drawn, whole_numbers
from mlcv_bench.architectures.outputs import parts_of
from mlcv_bench.architectures.reproducibility import tf32, tf32_rounds, watched
from mlcv_bench.records import shape_text
from mlcv_bench.timing.devices import release_cache
from mlcv_bench.timing.request import Cell
from mlcv_bench.trials import NotApplicableError

# Largest error allowed, as a share of the largest magnitude of the float32 reference: rounding grows with depth.
TOLERANCE = {"float64": 1e-3, "float32": 1e-3, "tf32": 5e-2, "float16": 5e-2, "bfloat16": 2e-1}
# The step from 1 to the next number of each type; TF32 keeps ten bits, as float16 does.
STEP = {name: torch.finfo(getattr(torch, name)).eps for name in ("float32", "float16", "bfloat16")} | {"tf32": 2**-10}
# A deep untrained network magnifies rounding beyond any fixed limit: what one rounding of weights and images does to
# the reference itself, times this, is explained too. Even so a result must not be as wrong as zeros would be.
EXPLAINED = 8.0
NEVER_EXPLAINED = 0.8

_CALIBRATION_IMAGES = 4
# The gradients of a mean are too small for float16, which is why programs that train in it scale their loss.
LOSS_SCALE = 2.0**10
# Where float32 has no memory for a batch that a narrower type may have, it takes so many images at a time.
_FEW_IMAGES = 8

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)

Tensors = dict[str, Tensor]
"""Tensors by their places in an output, or gradients by their parameters' names."""


class WrongResultError(Exception):
    """The converted network does not compute what the float32 reference does, so its time means nothing."""


@dataclass
class EagerReference:
    """A network in eager float32 as its user wrote it, what it takes, and how it behaved there."""

    cell: Cell
    build: Callable[[], nn.Module]
    model: nn.Module
    inputs: Inputs
    """On the processor, so that an accelerator's memory holds nothing but what is timed."""
    expected: Tensors
    writes: bool
    """Whether it writes into its input."""
    draws: bool
    """Whether it draws random numbers, in evaluation."""
    same_activations: bool = False
    """Whether its gradients were compared at the activations of the narrower type."""

    @classmethod
    def of(cls, cell: Cell, build: Callable[[], nn.Module]) -> EagerReference:
        """Build the network and run it once, on a copy of its input."""
        model, inputs = _built(cell, build)
        given = inputs.map(torch.clone)
        expected, draws = watched(lambda: _reference(cell, model, given), cell.seed)
        kept = all(map(torch.equal, given.tensors(), inputs.tensors()))
        return cls(cell, build, model, inputs, expected, writes=not kept, draws=draws)

    @property
    def remark(self) -> str:
        """What a reader of its time must know."""
        return "; ".join(
            words
            for words, true in (
                ("writes into its input: each pass gets a copy, whose time counts", self.writes),
                ("draws random numbers in evaluation: one seed for what is compared", self.draws),
                ("returns no tensor: nothing could be compared with eager float32", not self.expected),
                (
                    (
                        f"has gradients that agree with float32's at {self.cell.number}'s own activations alone: "
                        "rounding decides which of them a rectifier lets pass"
                    ),
                    self.same_activations,
                ),
            )
            if true
        )

    def check(self, found: Tensors) -> tuple[float | None, float | None, float | None]:
        """Return the absolute and relative error against eager float32, and what was allowed; None without a tensor.

        Raises:
            WrongResultError: an output is not finite or differs by more than rounding explains.

        """
        cell, expected, rounding = self.cell, self.expected, rounding_of(self.cell)
        if not expected and not found:
            return None, None, None
        absolute, relative = _errors(cell, found, expected)
        # A gradient also moves where rounding decides which pixel a maximum pooling picks.
        tolerance = TOLERANCE[rounding] if cell.direction == "forward" else min(0.5, 10 * TOLERANCE[rounding])
        narrow = cell.direction == "forward-backward" and cell.number in {"float16", "bfloat16"}
        if narrow and not relative <= tolerance:
            there = _errors(cell, found, self._gradients_at_its_activations())
            self.same_activations = there[1] <= tolerance
            absolute, relative = there if self.same_activations else (absolute, relative)
        if not relative <= tolerance:
            explained = EXPLAINED * _sensitivity(cell, self.build, expected, rounding)
            tolerance = max(tolerance, min(NEVER_EXPLAINED, explained))
        if relative <= tolerance:
            return absolute, relative, tolerance
        if self.draws:
            model, inputs = _built(cell, self.build)
            again, _ = watched(lambda: _reference(cell, model, inputs), cell.seed + 1)
            difference = _errors(cell, again, expected)[1]
            if difference > TOLERANCE["float32"]:
                raise WrongResultError(
                    "is random in evaluation: two passes of eager float32 on the same images differ by "
                    f"{difference:.1e} of the largest value, so that no other form of it can be checked; its dropout "
                    "may ignore eval()"
                )
        raise WrongResultError(
            f"differs from eager float32 by {relative:.1e} of its largest value, "
            f"more than the {tolerance:.0e} that rounding to {rounding} explains"
        )

    def _gradients_at_its_activations(self) -> Tensors:
        """Return the float32 gradients where every layer puts out what it does in the narrower type.

        The forward pass rounds by little, and yet enough to move activations across 0, where a rectifier's derivative
        jumps: of resnet50's fifty layers a float16 gradient differs by 76% for that alone, and at the same activations
        by 0.3%. The float32 gradients themselves where memory is short for that.
        """
        cell = self.cell
        model, inputs = _built(cell, self.build)
        given = inputs if cell.autocast else inputs.real(getattr(torch, cell.number))
        given = given.map(lambda tensor: tensor.to(cell.device, copy=True))
        kept: dict[str, list[Tensor]] = {}

        def keep(name: str, output: Tensor) -> None:
            kept.setdefault(name, []).append(output.clone())

        def replace(name: str, output: Tensor) -> Tensor | None:
            known = kept.get(name)
            if not known or known[0].shape != output.shape:
                return None
            return _Replaced.apply(output, known.pop(0).to(output.dtype))  # type: ignore[no-untyped-call, no-any-return]

        kind, number = cell.device.partition(":")[0], getattr(torch, cell.number)
        try:
            with torch.no_grad(), torch.autocast(kind, number, enabled=cell.autocast), _at_outputs(self.model, keep):
                watched(lambda: given.into(self.model), cell.seed)
            with _at_outputs(model, replace), tf32("off" if kind == "cuda" else "default"):
                return watched(lambda: _in_parts(cell, model, [inputs]), cell.seed)[0]
        except torch.OutOfMemoryError:
            return self.expected


class _Replaced(torch.autograd.Function):
    """One tensor in the place of another, whose gradient it takes."""

    @staticmethod
    def forward(_context: Any, _output: Tensor, other: Tensor) -> Tensor:  # noqa: ANN401 - torch's own
        """Return the other tensor."""
        return other.clone()

    @staticmethod
    def backward(_context: Any, *gradients: Any) -> Any:  # noqa: ANN401 - torch's own
        """Hand the gradient to the tensor that was replaced."""
        return *gradients, None


@contextlib.contextmanager
def _at_outputs(model: nn.Module, hook: Callable[[str, Tensor], Tensor | None]) -> Iterator[None]:
    """Call `hook` inside with what every module without parts puts out; a tensor that it returns takes its place."""
    with contextlib.ExitStack() as stack:
        for name, module in model.named_modules():
            if not [*module.children()]:
                handle = module.register_forward_hook(
                    lambda _module, _given, output, name=name: (
                        hook(name, output) if isinstance(output, Tensor) and output.is_floating_point() else None
                    )
                )
                stack.callback(handle.remove)
        yield


def rounding_of(cell: Cell) -> str:
    """Return what the cell's numbers are rounded to, torch's switches being as they are now."""
    return "tf32" if cell.number == "float32" and cell.device.startswith("cuda") and tf32_rounds() else cell.number


def _built(cell: Cell, build: Callable[[], nn.Module]) -> tuple[nn.Module, Inputs]:
    """Build the network in float32 on the cell's device, and its input on the processor; the same ones every time."""
    torch.manual_seed(cell.seed)
    model = build().float().eval()
    if is_calibrated(cell):
        calibrate(model, inputs_of(cell, model, _CALIBRATION_IMAGES))
    inputs = inputs_of(cell, model, cell.batch)
    return model.to(cell.device), inputs


def is_calibrated(cell: Cell) -> bool:
    """Tell whether the cell's network gets the statistics of a batch: an untrained one in half precision."""
    return cell.number in {"float16", "bfloat16"} and cell.weights is None


def inputs_of(cell: Cell, model: nn.Module, batch: int) -> Inputs:
    """Return a batch of seeded normal images, (batch, C, H, W) in float32, or the cell's tensors, drawn likewise.

    Zeros and constants would be faster.
    """
    source = torch.Generator().manual_seed(cell.seed)

    def draw(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        if dtype.is_floating_point:
            return torch.randn(shape, generator=source)
        return whole_numbers(model, shape, dtype, source)

    return drawn(cell.request, model, batch, draw).real(torch.float32)


def calibrate(model: nn.Module, inputs: Inputs) -> None:
    """Give every batch norm the statistics of a batch: untrained ones let float16 overflow in deep networks."""
    norms = [module for module in model.modules() if isinstance(module, BATCH_NORMS)]
    momenta = [norm.momentum for norm in norms]
    try:
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None
            norm.train()
        if norms:
            with torch.no_grad():
                inputs.into(model)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            norm.eval()


def _reference(cell: Cell, model: nn.Module, inputs: Inputs) -> Tensors:
    """Return the eager, contiguous float32 outputs, or for a backward pass the gradients, TF32 off, on the processor.

    What the network writes into its input is written into `inputs` too.
    """
    with tf32("off" if cell.device.startswith("cuda") else "default"):
        with contextlib.suppress(torch.OutOfMemoryError):
            return _in_parts(cell, model, [inputs])
        release_cache(cell.device)
        return _in_parts(cell, model, _few_at_a_time(cell, inputs))


def _few_at_a_time(cell: Cell, inputs: Inputs) -> list[Inputs]:
    if any(not tensor.dim() or len(tensor) != cell.batch for tensor in inputs.tensors()):
        return [inputs]
    starts = range(0, cell.batch, _FEW_IMAGES)
    return [inputs.map(operator.itemgetter(slice(start, start + _FEW_IMAGES))) for start in starts]


def _in_parts(cell: Cell, model: nn.Module, parts: list[Inputs]) -> Tensors:
    """Return the outputs one after the other, or the sum of the gradients, each by its share of the images."""
    found: list[Tensors] = []
    for part in parts:
        given = part.map(lambda tensor: tensor.to(cell.device))
        if cell.direction == "forward":
            with torch.inference_mode():
                outputs = tensors_of(given.into(model))
            found.append({name: output.to("cpu", copy=True) for name, output in outputs.items()})
        else:
            training_step(cell, model, given)
            share = 1.0 if len(parts) == 1 else len(part.tensors()[0]) / cell.batch
            found.append({name: share * gradient.cpu() for name, gradient in gradients_of(cell, model).items()})
            model.zero_grad(set_to_none=True)
        for kept, written in zip(part.tensors(), given.tensors(), strict=True):
            if written is not kept:
                kept.copy_(written)
    if len(found) == 1:
        return found[0]
    if cell.direction == "forward":
        return {name: torch.cat([one[name] for one in found]) for name in found[0]}
    return {name: torch.stack([one[name] for one in found]).sum(0) for name in found[0]}


def training_step(cell: Cell, model: nn.Module, inputs: Inputs, run: Callable[..., Any] | None = None) -> None:
    """Run forward and backward, from the scaled mean of every output; gradients start from nothing each time.

    Raises:
        NotApplicableError: nothing is trained in this network.

    """
    model.zero_grad(set_to_none=True)
    outputs = [output for output in tensors_of(inputs.into(run or model)).values() if output.requires_grad]
    if not outputs:
        raise NotApplicableError(
            "no output depends on a parameter that requires a gradient, so that there is no backward pass"
        )
    means = [(output.abs() if output.is_complex() else output).float().mean() for output in outputs]
    scale = LOSS_SCALE if cell.number == "float16" else 1.0
    (scale * torch.stack(means).sum()).backward()  # type: ignore[no-untyped-call]


def gradients_of(cell: Cell, model: nn.Module) -> Tensors:
    """Return the gradients of the first and the last parameter: the whole backward pass lies between them."""
    found = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    ends = {name: found[name] for name in list(found)[:: max(1, len(found) - 1)]}
    if cell.number != "float16":
        return ends
    return {name: gradient.float() / LOSS_SCALE for name, gradient in ends.items()}


def tensors_of(output: Any) -> Tensors:  # noqa: ANN401 - whatever a network returns
    """Return every tensor of a network's output by its place there; numbers and words have no rounding to check."""
    return {name: part for name, part in parts_of(output).items() if isinstance(part, Tensor)}


def _sensitivity(cell: Cell, build: Callable[[], nn.Module], expected: Tensors, rounding: str) -> float:
    """Return the relative error that rounding every weight and pixel once to such numbers causes in float32."""
    model, inputs = _built(cell, build)
    # Rounding float32 to float64 changes nothing, while computing in it still does.
    step = STEP.get(rounding, STEP["float32"])
    generator = torch.Generator().manual_seed(cell.seed)
    with torch.no_grad():
        for tensor in (*model.parameters(), *(one for one in inputs.tensors() if one.is_floating_point())):
            noise = torch.rand(tensor.shape, generator=generator) - 0.5
            tensor.mul_((1 + step * noise).to(tensor.device))
    return _errors(cell, watched(lambda: _reference(cell, model, inputs), cell.seed)[0], expected)[1]


def _errors(cell: Cell, found: Tensors, expected: Tensors) -> tuple[float, float]:
    """Return the largest absolute error, and the largest as a share of its tensor's largest magnitude."""
    require_finite(cell, found)
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


def require_finite(cell: Cell, tensors: Tensors) -> None:
    """Refuse a network whose results are not numbers.

    Raises:
        WrongResultError: some value is infinite or NaN.

    """
    if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values()):
        hint = "try bfloat16 or trained weights" if cell.number == "float16" else "try trained weights"
        raise WrongResultError(f"{cell.dtype} gives values that are not finite; {hint}")
