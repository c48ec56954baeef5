"""Two sides of an equation and the verdict: what a module shows, how far two such showings lie apart."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from mlcv_bench.equivalence.exact import Watch, tensors_of
from mlcv_bench.equivalence.subject import Finding, Proof
from mlcv_bench.names import foreign_code

Showing = Tensor | Mapping[str, Tensor] | float
"""What is compared: a tensor, tensors by name, or a number."""

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


def difference(reference: Showing, other: Showing) -> Difference:
    """Return the largest absolute difference and its ratio to the largest magnitude of the reference.

    Of tensors by name it is the worst one's; both sides need the same names, shapes and finite values.
    """
    if isinstance(reference, Mapping) or isinstance(other, Mapping):
        return _of_many(_named(reference), _named(other))
    left, right = _tensor(reference), _tensor(other)
    return _of_one(left, right, _largest(left))


def _named(showing: Showing) -> Mapping[str, Tensor]:
    return showing if isinstance(showing, Mapping) else {"": _tensor(showing)}


def _tensor(showing: Any) -> Tensor:  # noqa: ANN401 - a tensor, an array or a number
    return showing.detach() if isinstance(showing, Tensor) else torch.as_tensor(showing, dtype=torch.float64)


def _largest(tensor: Tensor) -> float:
    if tensor.dtype == torch.bool:  # a mask, which has no magnitude of its own
        return float(tensor.any())
    return float(tensor.abs().max()) if tensor.numel() else 0.0


def _of_many(reference: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> Difference:
    if set(reference) != set(other):
        name = min(set(reference) ^ set(other))
        return Difference(math.inf, math.inf, equal=False, reason=f"only one side has {name}")
    floor = SMALL * max((_largest(tensor) for tensor in reference.values()), default=0.0)
    worst = Difference(0.0, 0.0, equal=True)
    for name, tensor in reference.items():
        found = _of_one(tensor, other[name], max(_largest(tensor), floor if tensor.is_floating_point() else 0.0))
        if not found.equal:
            reason = f"{name}: {found.reason}" if found.reason else worst.reason
            worst = (
                Difference(found.absolute, found.relative, equal=False, reason=reason)
                if found.relative >= worst.relative
                else Difference(worst.absolute, worst.relative, equal=False, reason=worst.reason)
            )
    return worst


def _of_one(reference: Tensor, other: Tensor, magnitude: float) -> Difference:
    if reference.shape != other.shape:
        shapes = f"{tuple(reference.shape)} against {tuple(other.shape)}"
        return Difference(math.inf, math.inf, equal=False, reason=f"shapes differ: {shapes}")
    if torch.equal(reference, other) and bool(torch.isfinite(reference).all()):
        return Difference(0.0, 0.0, equal=True)
    left, right = reference.to(torch.float64), other.to(torch.float64)
    if not bool(torch.isfinite(left).all() and torch.isfinite(right).all()):
        return Difference(math.inf, math.inf, equal=False, reason="not all values are finite")
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
    """What one module showed in one pass: outputs, gradients, and its buffers after the pass."""

    output: Mapping[str, Tensor]
    input_gradient: Tensor | None = None
    weight_gradients: Mapping[str, Tensor] = field(default_factory=dict)
    statistics: Mapping[str, Tensor] = field(default_factory=dict)


class KinkWatch(Watch):  # type: ignore[no-untyped-call] # torch leaves __init_subclass__ without types
    """Sees how close the inputs of ReLUs come to 0, where the gradient jumps and rounding decides its side."""

    def __init__(self) -> None:
        """Start with nothing seen."""
        super().__init__()  # type: ignore[no-untyped-call] # as above
        self.nearest = math.inf

    def __torch_dispatch__(
        self,
        func: Any,  # noqa: ANN401 - an operator overload
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - whatever the operator returns
        """Look at a ReLU's input before it runs."""
        del types
        if func.name().partition(".")[0] in {"aten::relu", "aten::relu_", "aten::clamp_min", "aten::clamp_min_"}:
            magnitudes = args[0].detach().abs()
            magnitudes = magnitudes[magnitudes > 0]
            if magnitudes.numel():
                self.nearest = min(self.nearest, float(magnitudes.min() / magnitudes.max()))
        return func(*args, **(kwargs or {}))


def observe(
    module: nn.Module,
    image: Tensor,
    cotangent: Callable[[Sequence[int]], Tensor] | None = None,
    *,
    train: bool,
    watch: Watch | None = None,
) -> Evidence:
    """Run a module once and return what it showed; its buffers are put back afterwards.

    Args:
        module: takes `image`, returns a tensor or several.
        image: the input, on the module's device and in its type.
        cotangent: the gradient of a loss with respect to an output of this shape; None asks for no gradients.
        train: in training mode, or in evaluation mode.
        watch: sees every operator of both passes.

    """
    watching = watch if watch is not None else contextlib.nullcontext()
    before = {name: buffer.clone() for name, buffer in module.named_buffers()}
    was_training = module.training
    module.train(train)
    devices = [image.device] if image.device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=devices), foreign_code():
            # Dropout, if there is any, must drop the same on both sides.
            torch.random.manual_seed(0)
            return _shown(module, image, cotangent, watching)
    finally:
        module.train(was_training)
        with torch.no_grad():
            for name, buffer in module.named_buffers():
                buffer.copy_(before[name])


def _shown(
    module: nn.Module,
    image: Tensor,
    cotangent: Callable[[Sequence[int]], Tensor] | None,
    watching: AbstractContextManager[Any],
) -> Evidence:
    if cotangent is None:
        with torch.no_grad(), watching:
            outputs = dict(_outputs(module(image)))
        return Evidence(outputs, statistics=_copies(module.named_buffers()))
    return _with_gradients(module, image, cotangent, watching)


def _with_gradients(
    module: nn.Module,
    image: Tensor,
    cotangent: Callable[[Sequence[int]], Tensor],
    watching: AbstractContextManager[Any],
) -> Evidence:
    # A copy that is no leaf's view, so that a network whose first operator works in place cannot touch the caller's.
    leaf = image.detach().clone().requires_grad_()
    names = [name for name, weight in module.named_parameters() if weight.requires_grad]
    weights = [weight for weight in module.parameters() if weight.requires_grad]
    with watching:
        outputs = dict(_outputs(module(leaf)))
    differentiable = [tensor for tensor in outputs.values() if tensor.requires_grad]
    upstream = [cotangent(tensor.shape).to(tensor) for tensor in differentiable]
    gradients: Sequence[Tensor | None]
    with watching:
        gradients = torch.autograd.grad(differentiable, [leaf, *weights], upstream, allow_unused=True)
    filled = [
        torch.zeros_like(value) if gradient is None else gradient
        for gradient, value in zip(gradients, [leaf, *weights], strict=True)
    ]
    return Evidence(
        {name: tensor.detach() for name, tensor in outputs.items()},
        filled[0],
        dict(zip(names, filled[1:], strict=True)),
        _copies(module.named_buffers()),
    )


def _outputs(value: Any) -> Iterator[tuple[str, Tensor]]:  # noqa: ANN401 - whatever a network returns
    for index, tensor in enumerate(tensors_of(value)):
        yield f"output {index}", tensor


def _copies(named: Iterator[tuple[str, Tensor]]) -> dict[str, Tensor]:
    return {name: buffer.clone() for name, buffer in named}


ATTEMPTS = 8
KINK_ROUNDINGS = 4
"""How many roundings of the largest input of a ReLU an input must be away from 0."""


def clear_of_kinks(module: nn.Module, draw: Callable[[int], Tensor], *, train: bool) -> tuple[Tensor, bool]:
    """Return an input at which no ReLU's input is within rounding of 0, and whether one was found.

    Where one is, the two formulations may round it to different sides, and gradients differ by far more than rounding
    though both are right: the function has none there. The inputs are chosen by the reference alone, before the two
    are compared.
    """
    image = draw(0)
    for attempt in range(ATTEMPTS):
        image = draw(attempt)
        watch = KinkWatch()
        observe(module, image, train=train, watch=watch)
        if watch.nearest > KINK_ROUNDINGS * torch.finfo(image.dtype).eps:
            return image, True
    return draw(0), False


KINK_REASON = (
    "a ReLU's input lies within rounding of 0 at every input drawn, and the gradient jumps there: "
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
