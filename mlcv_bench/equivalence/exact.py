"""Proof without tolerance: whole numbers in float64, and a ledger that bounds every partial sum by 2^53.

A float64 holds every whole number up to 2^53. If all operands are whole and the *absolute values* of all products of a
sum add up to less, every partial sum is a whole number below 2^53 whatever the order, so that nothing is ever rounded:
two formulations of one function must then give the same bits, and any difference is a difference of functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from mlcv_bench.equivalence.draws import NORMS
from mlcv_bench.equivalence.subject import Finding
from mlcv_bench.trials import NotApplicableError

LIMIT = 2.0**53


class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call] # torch leaves __init_subclass__ without types
    """A dispatch mode that does not import torch._dynamo, which would cost a second."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False


def without_norms(module: nn.Module) -> nn.Module:
    """Replace every batch norm of `module` by the identity, in place: it divides, so nothing stays whole."""
    for name, child in module.named_children():
        if isinstance(child, NORMS):
            setattr(module, name, nn.Identity())
        else:
            without_norms(child)
    return module


def largest(tensor: Tensor) -> float:
    """Return the largest magnitude in a tensor."""
    return float(tensor.detach().abs().max()) if tensor.numel() else 0.0


def _convolution(args: Sequence[Any], out: Any) -> float:  # noqa: ANN401 - an operator's arguments
    del out
    bias = args[2].abs() if args[2] is not None else None
    return largest(torch.ops.aten.convolution(args[0].abs(), args[1].abs(), bias, *args[3:]))


def _convolution_backward(args: Sequence[Any], out: Any) -> float:  # noqa: ANN401 - an operator's arguments
    del out
    sums = torch.ops.aten.convolution_backward(args[0].abs(), args[1].abs(), args[2].abs(), *args[3:])
    return max(largest(tensor) for tensor in sums if tensor is not None)


def _product(args: Sequence[Any], out: Any) -> float:  # noqa: ANN401 - an operator's arguments
    del out
    return largest(args[0].abs() @ args[1].abs())


def _biased_product(args: Sequence[Any], out: Any) -> float:  # noqa: ANN401 - an operator's arguments
    del out
    return largest(args[0].abs() + args[1].abs() @ args[2].abs())


def _total(args: Sequence[Any], out: Any) -> float:  # noqa: ANN401 - an operator's arguments
    del out
    return float(args[0].abs().sum())


def _scales(weight: Tensor | None, variance: Tensor, eps: float, *, train: bool) -> tuple[Tensor, Tensor]:
    """Return 1 / sqrt(var + eps) and gamma times it; whole where var + eps is 1 or 1/4, as in `folding`."""
    if train:
        raise NotApplicableError("batch norm in training divides by a square root, so nothing stays whole")
    inverse = (variance + eps).rsqrt()
    if not torch.equal(inverse, inverse.round()):
        raise NotApplicableError("batch norm divides by numbers whose inverse is not whole")
    return inverse, inverse * (1 if weight is None else weight.abs())


def _per_channel(values: Tensor, like: Tensor) -> Tensor:
    return values.view(1, -1, *[1] * (like.dim() - 2))


def _norm(args: Sequence[Any], out: Any) -> float:  # noqa: ANN401 - an operator's arguments
    """Bound (x - mean) scale + beta."""
    del out
    image, weight, bias, mean, variance = args[:5]
    _, scale = _scales(weight, variance, float(args[7]), train=bool(args[5]))
    shift = mean.abs() * scale + (0 if bias is None else bias.abs())
    return largest(image.abs() * _per_channel(scale, image) + _per_channel(shift, image))


def _norm_backward(args: Sequence[Any], out: Any) -> float:  # noqa: ANN401 - an operator's arguments
    """Bound the gradients of the input, of gamma (a sum of g (x - mean) / deviation), and of beta (a sum of g)."""
    del out
    gradient, image, weight, mean, variance = args[:5]
    inverse, scale = _scales(weight, variance, float(args[8]), train=bool(args[7]))
    magnitudes = gradient.abs()
    axes = [axis for axis in range(image.dim()) if axis != 1]
    centred = image.abs() + _per_channel(mean.abs(), image)
    of_scale = largest((magnitudes * centred).sum(axes) * inverse)
    return max(of_scale, largest(magnitudes.sum(axes)), largest(magnitudes * _per_channel(scale, image)))


def _magnitude(args: Sequence[Any], out: Any) -> float:  # noqa: ANN401 - an operator's arguments
    """Bound an operator that adds at most two numbers, or only moves them."""
    tensors = [*tensors_of(args), *tensors_of(out)]
    return max((largest(tensor) for tensor in tensors if tensor.is_floating_point()), default=0.0)


RULES: dict[str, Callable[[Sequence[Any], Any], float]] = {
    "aten::convolution": _convolution,
    "aten::convolution_backward": _convolution_backward,
    "aten::mm": _product,
    "aten::bmm": _product,
    "aten::mv": _product,
    "aten::addmm": _biased_product,
    "aten::baddbmm": _biased_product,
    "aten::sum": _total,
    "aten::native_batch_norm": _norm,
    "aten::native_batch_norm_backward": _norm_backward,
    **dict.fromkeys(
        (
            f"aten::{name}{suffix}"
            for name in ("add", "sub", "mul", "neg", "relu", "clamp_min", "clamp", "abs")
            for suffix in ("", "_")
        ),
        _magnitude,
    ),
    **dict.fromkeys(
        (
            f"aten::{name}"
            for name in (
                *(
                    "threshold_backward",
                    "maximum",
                    "minimum",
                    "cat",
                    "stack",
                    "slice",
                    "slice_backward",
                    "split",
                    "split_with_sizes",
                ),
                *("chunk", "select", "select_backward", "view", "_unsafe_view", "reshape", "expand", "permute"),
                *("transpose", "t", "clone", "contiguous", "detach", "copy_", "zeros", "zeros_like", "ones_like"),
                *("new_zeros", "empty", "empty_like", "new_empty", "fill_", "zero_", "constant_pad_nd", "alias"),
                *("squeeze", "unsqueeze", "flip", "index_select", "narrow", "unbind", "as_strided", "where"),
                *("max_pool2d_with_indices", "max_pool2d_with_indices_backward", "empty_strided", "view_as"),
                *("new_empty_strided", "_to_copy", "diagonal", "diag_embed", "roll", "movedim", "ones", "full"),
            )
        ),
        _magnitude,
    ),
}
"""For every operator that keeps whole numbers whole: a bound of its partial sums."""


class Ledger(Watch):  # type: ignore[no-untyped-call] # torch leaves __init_subclass__ without types
    """Bounds every partial sum of every operator that runs inside, forwards and backwards."""

    def __init__(self) -> None:
        """Start with nothing seen."""
        super().__init__()  # type: ignore[no-untyped-call] # as above
        self.largest_sum = 0.0

    def __torch_dispatch__(
        self,
        func: Any,  # noqa: ANN401 - an operator overload
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - whatever the operator returns
        """Run one operator and raise the bound to its largest possible partial sum.

        Raises:
            NotApplicableError: no rule says that the operator keeps whole numbers whole.

        """
        del types
        name = func.name().partition(".")[0]
        rule = RULES.get(name)
        if rule is None:
            raise NotApplicableError(f"no rule bounds the operator {name.removeprefix('aten::')}, so nothing is exact")
        # An in-place operator overwrites what the bound needs, so a bound over inputs alone is taken before it.
        before = _magnitude(args, None)
        out = func(*args, **(kwargs or {}))
        self.largest_sum = max(self.largest_sum, before, rule(args, out))
        return out

    def certify(self) -> float:
        """Return the bound.

        Raises:
            NotApplicableError: sums may reach 2^53, where float64 begins to round.

        """
        if not self.largest_sum < LIMIT:
            raise NotApplicableError(
                f"partial sums may reach {self.largest_sum:.3g}, past 2^53, so whole numbers are no longer exact"
            )
        return self.largest_sum


def proved_exactly(findings: Iterator[Finding]) -> Iterator[Finding]:
    """Turn an exact check that cannot be made into one that failed: these formulations are made to be exact."""
    try:
        yield from findings
    except NotApplicableError as error:
        yield Finding("", "output", "exact", dtype="float64", passed=False, reason=str(error))


def check_whole(tensors: Iterator[Tensor] | Sequence[Tensor]) -> None:
    """Refuse tensors that hold anything but whole numbers."""
    for tensor in tensors:
        if tensor.is_floating_point() and not torch.equal(tensor, tensor.round()):
            raise NotApplicableError("not all weights and inputs are whole numbers")


def tensors_of(value: Any) -> Iterator[Tensor]:  # noqa: ANN401 - operators take and return anything
    """Yield every tensor in nested tuples, lists and mappings."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from tensors_of(item)
    elif isinstance(value, tuple | list):
        for item in value:
            yield from tensors_of(item)
