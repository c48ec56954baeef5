"""Proof without tolerance: plain arithmetic, whole numbers in float64, and a ledger that bounds every partial sum.

A float64 holds every whole number up to 2^53. If all operands are whole and the *absolute values* of all products of a
sum add up to less, every partial sum is a whole number below 2^53 whatever the order, so that nothing is ever rounded:
two formulations of one function must then give the same bits, and any difference is a difference of functions.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mlcv_bench.architectures.reproducibility import deterministic, tf32
from mlcv_bench.counting.operators import name_of, tensors_of
from mlcv_bench.equivalence.comparison import largest
from mlcv_bench.equivalence.randomness import NORMS
from mlcv_bench.equivalence.subject import Finding
from mlcv_bench.errors import UsageError
from mlcv_bench.names import first_line
from mlcv_bench.torch_private import DispatchMode
from mlcv_bench.trials import NotApplicableError

LIMIT = 2.0**53


def device_of(name: str) -> torch.device:
    """Return the device of this name, after one tensor was put there.

    Raises:
        UsageError: torch knows no such device, or cannot use it here.

    """
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        msg = f"--device {name} cannot be used here ({first_line(error)}); try --device cpu"
        raise UsageError(msg) from error
    if device.type == "meta":
        raise UsageError("--device meta holds no numbers to compare; try --device cpu")
    return device


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Compute in one thread inside: maps are small, and threads that wait for each other cost more than they give."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def plain_arithmetic(device: torch.device) -> Iterator[dict[str, Any]]:
    """Switch off inside whatever trades exactness for speed; yields what was set, for the record.

    cuDNN is off altogether, since it may choose Winograd or FFT for any convolution, whose products are of transformed
    numbers; NNPACK is off for the same reason. What remains multiplies and adds the numbers themselves.
    An operator without a deterministic algorithm on CUDA, such as the gradient of adaptive pooling, may sum in any
    order, which the exact draws and the rounding allowed both bear.
    """
    cuda = device.type == "cuda"
    with contextlib.ExitStack() as stack:
        stack.enter_context(one_thread())
        stack.enter_context(torch.backends.nnpack.flags(enabled=False))
        if cuda:
            stack.enter_context(tf32("off"))
            # Torch's own context for cuDNN reads older switches, which fail once the newer ones are set.
            stack.callback(setattr, torch.backends.cudnn, "enabled", torch.backends.cudnn.enabled)
            torch.backends.cudnn.enabled = False
            stack.enter_context(deterministic(warn_only=True))
            stack.enter_context(warnings.catch_warnings())
            warnings.filterwarnings("ignore", message=".*does not have a deterministic implementation")
        yield {
            "tf32": False,
            "cudnn": False,
            "nnpack": False,
            "deterministic_algorithms": cuda,
            "threads": 1,
            "device": torch.cuda.get_device_name(device) if cuda else str(device),
        }


def without_norms(module: nn.Module) -> nn.Module:
    """Replace every batch norm of `module` by the identity, in place: it divides, so nothing stays whole."""
    for name, child in module.named_children():
        if isinstance(child, NORMS):
            setattr(module, name, nn.Identity())
        else:
            without_norms(child)
    return module


def _convolution(args: Sequence[Any]) -> float:
    bias = args[2].abs() if args[2] is not None else None
    return largest(torch.ops.aten.convolution(args[0].abs(), args[1].abs(), bias, *args[3:]))


def _convolution_backward(args: Sequence[Any]) -> float:
    sums = torch.ops.aten.convolution_backward(args[0].abs(), args[1].abs(), args[2].abs(), *args[3:])
    return max(largest(tensor) for tensor in sums if tensor is not None)


def _product(args: Sequence[Any]) -> float:
    return largest(args[0].abs() @ args[1].abs())


def _biased_product(args: Sequence[Any]) -> float:
    return largest(args[0].abs() + args[1].abs() @ args[2].abs())


def _total(args: Sequence[Any]) -> float:
    """Bound an operator whose results are sums of its numbers, each at most once in a sum."""
    return sum(float(tensor.abs().sum()) for tensor in tensors_of(args) if tensor.is_floating_point())


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


def _norm(args: Sequence[Any]) -> float:
    """Bound (x - mean) scale + beta."""
    image, weight, bias, mean, variance = args[:5]
    _, scale = _scales(weight, variance, float(args[7]), train=bool(args[5]))
    shift = mean.abs() * scale + (0 if bias is None else bias.abs())
    return largest(image.abs() * _per_channel(scale, image) + _per_channel(shift, image))


def _norm_backward(args: Sequence[Any]) -> float:
    """Bound the gradients of the input, of gamma (a sum of g (x - mean) / deviation), and of beta (a sum of g)."""
    gradient, image, weight, mean, variance = args[:5]
    inverse, scale = _scales(weight, variance, float(args[8]), train=bool(args[7]))
    magnitudes = gradient.abs()
    axes = [axis for axis in range(image.dim()) if axis != 1]
    centred = image.abs() + _per_channel(mean.abs(), image)
    of_scale = largest((magnitudes * centred).sum(axes) * inverse)
    return max(of_scale, largest(magnitudes.sum(axes)), largest(magnitudes * _per_channel(scale, image)))


def _nothing_added(_args: Sequence[Any]) -> float:
    """Return 0: what goes in and comes out bounds an operator that adds at most two numbers, or only moves them."""
    return 0.0


def _magnitude(value: Any) -> float:  # noqa: ANN401 - an operator's arguments or results
    return max((largest(tensor) for tensor in tensors_of(value) if tensor.is_floating_point()), default=0.0)


MAKERS = ("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided")
"""Operators that leave memory as it was: what is in there are no numbers yet."""
OVERWRITING = ("copy_", "fill_", "zero_")
SUMMING = (
    *("sum", "cumsum", "index_add", "index_put", "_index_put_impl_", "scatter_add", "_unsafe_index_put"),
    *("max_pool2d_with_indices_backward", "max_pool3d_with_indices_backward", "adaptive_max_pool2d_backward"),
    *("upsample_nearest1d_backward", "upsample_nearest2d_backward", "_upsample_nearest_exact2d_backward"),
    *("reflection_pad1d_backward", "reflection_pad2d_backward", "replication_pad2d_backward"),
    *("im2col", "col2im", "unfold_backward", "trace", "embedding_dense_backward"),
)
ELEMENTWISE = (
    *("add", "sub", "mul", "neg", "relu", "clamp_min", "clamp_max", "clamp", "abs", "hardtanh", "threshold", "pow"),
    *("leaky_relu", "masked_fill", "fill", "zero", "sign", "sgn", "floor", "ceil", "round", "trunc", "tril", "triu"),
    *("eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or", "logical_not"),
)
"""Operators of at most two numbers each; all have a form that works in place too."""
MOVING = (
    *("threshold_backward", "hardtanh_backward", "leaky_relu_backward", "maximum", "minimum", "where", "rsub"),
    *("max", "min", "amax", "amin", "argmax", "argmin", "sort", "topk", "isfinite", "bitwise_and", "bitwise_not"),
    *("cat", "stack", "slice", "slice_backward", "select", "select_backward", "split", "unsafe_split", "chunk"),
    *("split_with_sizes", "unbind", "narrow", "index_select", "index", "_unsafe_index", "gather", "scatter"),
    *("view", "_unsafe_view", "_reshape_alias", "reshape", "view_as", "alias", "as_strided", "unfold"),
    *("expand", "repeat", "permute", "transpose", "t", "squeeze", "unsqueeze", "flip", "roll", "rot90", "movedim"),
    *("pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "native_channel_shuffle", "diagonal", "diag_embed"),
    *("clone", "contiguous", "detach", "copy", "copy_", "_to_copy", "lift_fresh", "_local_scalar_dense"),
    *("zeros", "zeros_like", "new_zeros", "ones", "ones_like", "new_ones", "full", "full_like", "new_full", "arange"),
    *("scalar_tensor", "eye", "constant_pad_nd", "reflection_pad1d", "reflection_pad2d", "replication_pad2d"),
    *("max_pool2d_with_indices", "max_pool3d_with_indices", "adaptive_max_pool2d"),
    *("upsample_nearest1d", "upsample_nearest2d", "_upsample_nearest_exact2d", "embedding"),
)
"""Operators whose results are some of the numbers that went in, or none that add anything."""
RULES: dict[str, Callable[[Sequence[Any]], float]] = {
    "convolution": _convolution,
    "convolution_backward": _convolution_backward,
    **dict.fromkeys(("mm", "bmm", "mv", "dot"), _product),
    **dict.fromkeys(("addmm", "baddbmm", "addmv"), _biased_product),
    "native_batch_norm": _norm,
    "native_batch_norm_backward": _norm_backward,
    **dict.fromkeys(SUMMING, _total),
    **dict.fromkeys((*ELEMENTWISE, *(f"{name}_" for name in ELEMENTWISE), *MOVING, *MAKERS), _nothing_added),
}
"""For every operator that can keep whole numbers whole: a bound of its partial sums, besides what goes in and out."""


class SumLedger(DispatchMode):
    """Bounds every partial sum of every operator that runs inside, forwards and backwards."""

    def __init__(self) -> None:
        """Start with nothing seen."""
        super().__init__()
        self.largest_sum = 0.0

    def run(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:  # noqa: ANN401 - operators and what they take and return
        """Run one operator and raise the bound to its largest possible partial sum.

        Raises:
            NotApplicableError: no rule says that the operator keeps whole numbers whole.

        """
        name = name_of(func)
        rule = RULES.get(name)
        if rule is None:
            raise NotApplicableError(f"no rule bounds the operator {name}, so nothing is exact")
        # An in-place operator overwrites what the bound needs, so a bound over inputs alone is taken before it.
        before = 0.0 if name in OVERWRITING else _magnitude(args)
        out = func(*args, **kwargs)
        if name in MAKERS:
            return out
        bound = max(before, rule(args), _magnitude(out))
        results = list(tensors_of(out))
        check_whole(results, f"the operator {name} gives")
        for tensor in results:
            if tensor.is_floating_point() and bound >= 2 / torch.finfo(tensor.dtype).eps < LIMIT:
                kind = str(tensor.dtype).removeprefix("torch.")
                raise NotApplicableError(f"the operator {name} adds up to {bound:.3g} in {kind}, which rounds")
        self.largest_sum = max(self.largest_sum, bound)
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
    """Turn an exact check that cannot be made into one that failed: these formulations are built to be exact."""
    try:
        yield from findings
    except NotApplicableError as error:
        yield Finding("", "output", "exact", dtype="float64", passed=False, reason=str(error))


def check_whole(tensors: Iterable[Tensor], where: str = "weights and inputs hold") -> None:
    """Refuse tensors that hold anything but whole numbers.

    Raises:
        NotApplicableError: the sentence begins with `where`.

    """
    for tensor in tensors:
        if tensor.is_floating_point() and not torch.equal(tensor, tensor.round()):
            raise NotApplicableError(f"{where} numbers that are not whole")


def check_whole_inputs(image: Tensor, weights: Iterable[Tensor]) -> None:
    """Refuse inputs and weights that are not whole, and weights that are 0 throughout: with those everything is equal.

    Raises:
        NotApplicableError: one sentence.

    """
    given = list(weights)
    check_whole([image, *given])
    if given and not any(bool(weight.any()) for weight in given):
        raise NotApplicableError("all weights are 0, with which any two networks are equal")
