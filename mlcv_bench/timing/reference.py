"""A cell's network in eager float32: what every other form of it has to agree with before it is timed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mlcv_bench.architectures.inputs import Inputs, drawn, whole_numbers
from mlcv_bench.architectures.outputs import parts_of
from mlcv_bench.architectures.reproducibility import watched, without_tf32
from mlcv_bench.records import shape_text
from mlcv_bench.timing.request import Cell
from mlcv_bench.trials import NotApplicableError

# Largest error allowed, as a share of the largest magnitude of the float32 reference: rounding grows with depth.
TOLERANCE = {"float64": 1e-3, "float32": 1e-3, "float16": 5e-2, "bfloat16": 2e-1}
# A deep untrained network magnifies rounding beyond any fixed limit: what one rounding of weights and images does to
# the reference itself, times this, is explained too. Even so a result must not be as wrong as zeros would be.
EXPLAINED = 8.0
NEVER_EXPLAINED = 0.8

_CALIBRATION_IMAGES = 4

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
    expected: Tensors
    writes: bool
    """Whether it writes into its input."""
    draws: bool
    """Whether it draws random numbers, in evaluation."""

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
            )
            if true
        )

    def check(self, found: Tensors) -> tuple[float | None, float | None, float | None]:
        """Return the absolute and relative error against eager float32, and what was allowed; None without a tensor.

        Raises:
            WrongResultError: an output is not finite or differs by more than rounding explains.

        """
        cell, expected = self.cell, self.expected
        if not expected and not found:
            return None, None, None
        absolute, relative = _errors(cell, found, expected)
        # A gradient also moves where rounding decides which pixel a maximum pooling picks.
        tolerance = TOLERANCE[cell.dtype] if cell.direction == "forward" else min(0.5, 10 * TOLERANCE[cell.dtype])
        if not relative <= tolerance:
            tolerance = max(tolerance, min(NEVER_EXPLAINED, EXPLAINED * _sensitivity(cell, self.build, expected)))
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
            f"more than the {tolerance:.0e} that rounding to {cell.dtype} explains"
        )


def _built(cell: Cell, build: Callable[[], nn.Module]) -> tuple[nn.Module, Inputs]:
    """Build the network in float32 and its input on the cell's device; the same ones every time."""
    torch.manual_seed(cell.seed)
    model = build().float().eval()
    if cell.dtype in {"float16", "bfloat16"} and cell.weights is None:
        calibrate(model, inputs_of(cell, model, _CALIBRATION_IMAGES))
    inputs = inputs_of(cell, model, cell.batch)
    return model.to(cell.device), inputs.map(lambda tensor: tensor.to(cell.device))


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
    """Return the eager, contiguous float32 outputs, or for a backward pass the gradients, TF32 off."""
    with without_tf32() if cell.device.startswith("cuda") else contextlib.nullcontext():
        if cell.direction == "forward":
            with torch.inference_mode():
                return {name: output.clone() for name, output in tensors_of(inputs.into(model)).items()}
        training_step(model, inputs)
        gradients = {name: gradient.clone() for name, gradient in gradients_of(model).items()}
        model.zero_grad(set_to_none=True)
        return gradients


def training_step(model: nn.Module, inputs: Inputs, run: Callable[..., Any] | None = None) -> None:
    """Run forward and backward, from the mean of every output; gradients start from nothing each time.

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
    torch.stack(means).sum().backward()  # type: ignore[no-untyped-call]


def gradients_of(model: nn.Module) -> Tensors:
    """Return the gradients of the first and the last parameter: the whole backward pass lies between them."""
    found = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    return {name: found[name] for name in list(found)[:: max(1, len(found) - 1)]}


def tensors_of(output: Any) -> Tensors:  # noqa: ANN401 - whatever a network returns
    """Return every tensor of a network's output by its place there; numbers and words have no rounding to check."""
    return {name: part for name, part in parts_of(output).items() if isinstance(part, Tensor)}


def _sensitivity(cell: Cell, build: Callable[[], nn.Module], expected: Tensors) -> float:
    """Return the relative error that rounding every weight and pixel once to the cell's type causes in float32."""
    model, inputs = _built(cell, build)
    # Rounding float32 to float64 changes nothing, while computing in it still does.
    step = max(torch.finfo(getattr(torch, cell.dtype)).eps, torch.finfo(torch.float32).eps)
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
        hint = "try bfloat16 or trained weights" if cell.dtype == "float16" else "try trained weights"
        raise WrongResultError(f"{cell.dtype} gives values that are not finite; {hint}")
