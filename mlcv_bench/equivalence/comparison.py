"""Two sides of an equation and the verdict: what a module shows, how far two such showings lie apart."""

from __future__ import annotations

import cmath
import contextlib
import math
import reprlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from mlcv_bench.architectures.outputs import parts_of
from mlcv_bench.equivalence import draws
from mlcv_bench.equivalence.exact import largest
from mlcv_bench.equivalence.subject import Finding, Proof
from mlcv_bench.equivalence.tolerance import FIXED
from mlcv_bench.names import foreign_code
from mlcv_bench.torch_private import DispatchMode

Showing = Tensor | Mapping[str, Any] | float
"""What is compared: a tensor, tensors and whatever else a network returns by name, or a number."""

ROUNDED = FIXED["float64"]
SMALL = 0.01
"""A tensor far smaller than its companions is measured against this share of the largest of them: gradients that
theory says are zero (a bias before batch norm) consist of rounding alone."""


@dataclass(frozen=True, slots=True)
class Difference:
    """How far one side lies from the other; infinite where they cannot be compared at all."""

    absolute: float
    relative: float
    equal: bool
    reason: str = ""


SAME = Difference(0.0, 0.0, equal=True)


def difference(reference: Showing, other: Showing) -> Difference:
    """Return the largest absolute difference and its ratio to the largest magnitude of the reference.

    Of parts by name it is the worst one's; both sides need the same names, shapes and finite values, and what is
    neither tensor nor number must be equal. Complex numbers differ by the magnitude of their difference. Numbers that
    are no tensors are Python's, which always rounds: they are equal up to 1e-12.
    """
    if not isinstance(reference, Mapping) and not isinstance(other, Mapping):
        return _of_one(reference, other, 0.0)
    left, right = (shown if isinstance(shown, Mapping) else {"": shown} for shown in (reference, other))
    return _of_many(left, right)


def _numbers(part: Any) -> Tensor | None:  # noqa: ANN401 - whatever a network returns
    """Return a tensor or a number as a tensor; None for anything else."""
    if isinstance(part, Tensor):
        return part.detach()
    if isinstance(part, complex):
        return torch.tensor(part, dtype=torch.complex128)
    try:
        return torch.tensor(part, dtype=torch.float64) if isinstance(part, int | float) else None
    except OverflowError:  # a whole number beyond every float
        return None


def largest_in(showing: Showing) -> float:
    """Return the largest magnitude among the real and complex numbers of a showing; masks and counts have none."""
    parts = showing.values() if isinstance(showing, Mapping) else [showing]
    tensors = [tensor for tensor in map(_numbers, parts) if tensor is not None and continuous(tensor)]
    return max(map(largest, tensors), default=0.0)


def continuous(tensor: Tensor) -> bool:
    """Tell whether a tensor holds real or complex numbers."""
    return tensor.is_floating_point() or tensor.is_complex()


def _of_many(reference: Mapping[str, Any], other: Mapping[str, Any]) -> Difference:
    if set(reference) != set(other):
        name = min(set(reference) ^ set(other))
        return Difference(math.inf, math.inf, equal=False, reason=f"only one side has {name}")
    floor = SMALL * largest_in(reference)
    worst = SAME
    for name, part in reference.items():
        found = _of_one(part, other[name], floor)
        if not found.equal and not found.relative < worst.relative:
            worst = replace(found, reason=f"{name}: {found.reason}" if found.reason else worst.reason)
    return worst


def _of_one(reference: Any, other: Any, floor: float) -> Difference:  # noqa: ANN401 - parts of what networks return
    left, right = _numbers(reference), _numbers(other)
    if left is None or right is None:
        if left is None and right is None and bool(reference == other):
            return SAME
        shown = f"{reprlib.repr(reference)} against {reprlib.repr(other)}"
        return Difference(math.inf, math.inf, equal=False, reason=shown)
    if left.shape != right.shape:
        shapes = f"{tuple(left.shape)} against {tuple(right.shape)}"
        return Difference(math.inf, math.inf, equal=False, reason=f"shapes differ: {shapes}")
    magnitude = max(largest(left), floor if continuous(left) else 0.0)
    exact = torch.complex128 if left.is_complex() or right.is_complex() else torch.float64
    equal = torch.equal(left, right.to(left.device))
    left, right = left.to(exact), right.to(left.device, exact)
    if not bool(torch.isfinite(left).all() and torch.isfinite(right).all()):
        return Difference(math.inf, math.inf, equal=False, reason="not all values are finite")
    if equal or (isinstance(reference, float | complex) and cmath.isclose(reference, complex(right), rel_tol=ROUNDED)):
        return SAME
    absolute = float((left - right).abs().max())
    return Difference(absolute, absolute / magnitude if magnitude > 0 else math.inf, equal=False)


def judge(
    comparison: str,
    quantity: str,
    reference: Showing,
    other: Showing,
    *,
    tolerance: float,
    dtype: str,
    mode: str | None = None,
    largest_sum: float | None = None,
) -> Finding:
    """Compare two showings: a tolerance of 0 asks for the same bits (`torch.equal`).

    Args:
        comparison: the two sides in words, `branches = grouped`.
        quantity: what is compared: output, input gradient, weight gradients, batch-norm statistics.
        reference: the side whose magnitude measures the difference.
        other: the other side, brought into the reference's layout.
        tolerance: the largest relative difference that passes.
        dtype: the type that both sides were computed in.
        mode: train or eval, where it matters.
        largest_sum: what bounds the partial sums of an exact check.

    """
    found = difference(reference, other)
    proof: Proof = "rounding" if tolerance > 0 else "exact"
    passed = found.relative <= tolerance if tolerance > 0 else found.equal
    return Finding(
        comparison,
        quantity,
        proof,
        dtype=dtype,
        mode=mode,
        max_abs_error=found.absolute,
        max_rel_error=found.relative,
        tolerance=tolerance,
        passed=passed,
        reason=found.reason,
        largest_sum=largest_sum,
    )


def judge_counts(comparison: str, quantity: str, reference: int, other: int) -> Finding:
    """Compare two whole numbers that must be equal, such as parameters or MACs."""
    gap = abs(reference - other)
    relative = gap / abs(reference) if reference else (0.0 if gap == 0 else math.inf)
    reason = "" if gap == 0 else f"{reference:,} against {other:,}"
    return Finding(
        comparison,
        quantity,
        "count",
        max_abs_error=float(gap),
        max_rel_error=relative,
        tolerance=0.0,
        passed=gap == 0,
        reason=reason,
    )


@dataclass(frozen=True)
class Evidence:
    """What one module showed in one pass: outputs by name, gradients, and its buffers after the pass."""

    output: Mapping[str, Any]
    input_gradient: Tensor | None = None
    weight_gradients: Mapping[str, Tensor] = field(default_factory=dict)
    statistics: Mapping[str, Tensor] = field(default_factory=dict)


KINKS: dict[str, Callable[[Sequence[Any]], Sequence[Any]]] = {
    **dict.fromkeys(("relu", "leaky_relu", "_prelu_kernel", "abs"), lambda _args: (0.0,)),
    **dict.fromkeys(("clamp", "clamp_min", "clamp_max"), lambda args: args[1:3]),
    "threshold": lambda args: args[1:2],
    "hardtanh": lambda args: args[1:3] or (-1.0, 1.0),
    **dict.fromkeys(("hardswish", "hardsigmoid"), lambda _args: (-3.0, 3.0)),
}
"""Where the gradients of these operators jump, from their arguments: rounding decides on which side an input lies."""


class KinkWatch(DispatchMode):
    """Sees how close inputs come to a kink, where an operator's gradient jumps, and whether one lies there."""

    def __init__(self) -> None:
        """Start with nothing seen."""
        super().__init__()
        self.nearest = math.inf
        self.hit = False

    def run(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:  # noqa: ANN401 - operators and what they take and return
        """Look at an operator's input before it runs."""
        name = func.name().removeprefix("aten::").partition(".")[0].removesuffix("_")
        for kink in KINKS[name](args) if name in KINKS else ():
            if kink is not None:
                distances = (args[0].detach() - kink).abs()
                self.hit = self.hit or bool((distances == 0).any())
                distances = distances[distances > 0]
                if distances.numel():
                    self.nearest = min(self.nearest, float(distances.min() / largest(args[0])))
        return func(*args, **kwargs)


def observe(
    module: nn.Module,
    image: Tensor,
    cotangent: Callable[[Sequence[int]], Tensor] | None = None,
    *,
    train: bool,
    watch: DispatchMode | None = None,
    seed: int = 0,
) -> Evidence:
    """Run a module once on a copy of the input and return what it showed; its buffers are put back afterwards.

    Args:
        module: takes `image`, returns a tensor, or several and other things by name or position.
        image: the input, on the module's device and in its type.
        cotangent: the gradient of a loss with respect to an output of this shape; None asks for no gradients.
        train: in training mode, or in evaluation mode.
        watch: sees every operator of both passes.
        seed: of the random numbers that the module draws itself, as dropout does.

    """
    watching = watch if watch is not None else contextlib.nullcontext()
    before = _copies(module.named_buffers())
    was_training = module.training
    module.train(train)
    try:
        # Dropout, if there is any, must drop the same on both sides.
        with draws.seeded(seed, image.device), foreign_code():
            return _shown(module, image, cotangent, watching)
    finally:
        module.train(was_training)
        with torch.no_grad():
            for name, buffer in module.named_buffers():
                if name in before:  # a cache that the pass made is new, and stays
                    buffer.copy_(before[name])


def _shown(
    module: nn.Module,
    image: Tensor,
    cotangent: Callable[[Sequence[int]], Tensor] | None,
    watching: AbstractContextManager[Any],
) -> Evidence:
    if cotangent is None:
        with torch.no_grad(), watching:
            outputs = parts_of(module(image.clone()))
        return Evidence(_kept(outputs), statistics=_copies(module.named_buffers()))
    return _with_gradients(module, image, cotangent, watching)


def _with_gradients(
    module: nn.Module,
    image: Tensor,
    cotangent: Callable[[Sequence[int]], Tensor],
    watching: AbstractContextManager[Any],
) -> Evidence:
    leaf = image.detach().clone().requires_grad_()
    names = [name for name, weight in module.named_parameters() if weight.requires_grad]
    weights = [weight for weight in module.parameters() if weight.requires_grad]
    with watching:
        # No leaf itself: a network whose first operator works in place may not write into one.
        outputs = parts_of(module(leaf.clone()))
    differentiable, upstream = [], []
    for rank, name in enumerate(sorted(outputs), start=1):
        if isinstance(outputs[name], Tensor) and outputs[name].requires_grad:
            differentiable.append(outputs[name])
            # Each output pulls by a weight of its own, so that none is taken for another of its shape.
            upstream.append(rank * _cotangent_of(outputs[name], cotangent))
    gradients: Sequence[Tensor | None]
    with watching:
        gradients = torch.autograd.grad(differentiable, [leaf, *weights], upstream, allow_unused=True)
    filled = [
        torch.zeros_like(value) if gradient is None else gradient
        for gradient, value in zip(gradients, [leaf, *weights], strict=True)
    ]
    return Evidence(
        _kept(outputs), filled[0], dict(zip(names, filled[1:], strict=True)), _copies(module.named_buffers())
    )


def _cotangent_of(output: Tensor, cotangent: Callable[[Sequence[int]], Tensor]) -> Tensor:
    if output.is_complex():
        return torch.view_as_complex(cotangent((*output.shape, 2))).to(output)
    return cotangent(output.shape).to(output)


def _kept(outputs: Mapping[str, Any]) -> dict[str, Any]:
    """Copy the tensors: an output may be a buffer, which is put back, or a weight, which is nudged later."""
    return {name: part.detach().clone() if isinstance(part, Tensor) else part for name, part in outputs.items()}


def _copies(named: Iterator[tuple[str, Tensor]]) -> dict[str, Tensor]:
    return {name: buffer.clone() for name, buffer in named}


ATTEMPTS = 8
KINK_ROUNDINGS = 4
"""How many roundings of an operator's largest input any input must be away from where the gradient jumps."""


def clear_of_kinks(
    module: nn.Module, draw: Callable[[int], Tensor], *, train: bool, exact: bool = False
) -> tuple[Tensor, bool]:
    """Return an input at which nothing is within rounding of a kink (a ReLU's 0), and whether one was found.

    Where one is, the two formulations may round it to different sides, and gradients differ by far more than rounding
    though both are right: the function has none there. The inputs are chosen by the reference alone, before the two
    are compared. Of exact numbers none may be at a kink itself; numbers to rounding may be, as zeros from a ReLU are.
    """
    for attempt in range(ATTEMPTS):
        image = draw(attempt)
        watch = KinkWatch()
        observe(module, image, train=train, watch=watch)
        if not watch.hit if exact else watch.nearest > KINK_ROUNDINGS * torch.finfo(image.dtype).eps:
            return image, True
    return draw(0), False


KINK_REASON = (
    "an input of a ReLU or the like lies within rounding of where its gradient jumps, for every input drawn: "
    "outputs are compared, gradients are not"
)


def compare(  # noqa: PLR0913 - two sides, what maps them, and what judges them
    comparison: str,
    reference: Evidence,
    other: Evidence,
    *,
    tolerance: float,
    dtype: str,
    mode: str | None,
    gradients: bool = True,
    map_gradients: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]] | None = None,
    map_statistics: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]] | None = None,
    largest_sum: float | None = None,
) -> Iterator[Finding]:
    """Compare all that two modules showed, the other's gradients and statistics brought into the reference's layout.

    Gradients map as weights do wherever the transplant only rearranges them; `map_gradients` None leaves them out.
    """
    common: dict[str, Any] = {"tolerance": tolerance, "dtype": dtype, "mode": mode, "largest_sum": largest_sum}
    yield judge(comparison, "output", reference.output, other.output, **common)
    if gradients and reference.input_gradient is not None and other.input_gradient is not None:
        yield judge(comparison, "input gradient", reference.input_gradient, other.input_gradient, **common)
        if map_gradients is not None and reference.weight_gradients:
            mapped = map_gradients(other.weight_gradients)
            yield judge(comparison, "weight gradients", reference.weight_gradients, mapped, **common)
    if mode == "train" and map_statistics is not None and reference.statistics:
        mapped = map_statistics(other.statistics)
        yield judge(comparison, "batch-norm statistics", reference.statistics, mapped, **common)
