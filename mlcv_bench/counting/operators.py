"""What one operator costs: multiply-accumulates and element-wise work from its arguments and its output alone.

Conventions (docs/counting.md): a MAC is one multiply-accumulate of a convolution, a linear layer or a matrix product,
products with padding included; one of complex numbers is four of real ones. Element-wise work is counted apart, in
operations, with these weights:

- norm: 2 an element for batch norm at inference (scale, shift); 5 for batch norm in training, layer, group and local
  response norm (mean, deviation, square, scale, shift);
- bias: 1 an output element of a convolution or linear layer that has one;
- activation: 1 an element, whatever the function; 5 for softmax (maximum, difference, exponential, sum, quotient);
- pooling: 1 an element of each window, padding included;
- addition: 1 an output element of a sum, difference, product or other pointwise arithmetic.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

Kind = Literal["norm", "bias", "activation", "pooling", "addition"]
KINDS: tuple[Kind, ...] = ("norm", "bias", "activation", "pooling", "addition")

NORM_WEIGHT_INFERENCE = 2
NORM_WEIGHT = 5
SOFTMAX_WEIGHT = 5
COMPLEX = 4
"""Real products in one of two complex numbers."""


class Work(NamedTuple):
    """The work of one call of an operator; `additions` are those beside operations of another kind.

    `macs` are of real numbers: `real` of them for each product, four where both factors are complex.
    """

    macs: int = 0
    kind: Kind = "addition"
    operations: int = 0
    bias: int = 0
    activations: int = 0
    additions: int = 0
    real: int = 1


FREE = Work()


def first(out: Tensor | Sequence[Tensor]) -> Tensor:
    """Return an operator's first output."""
    return out if isinstance(out, torch.Tensor) else out[0]


def convolution(args: Sequence[Any], out: Tensor) -> Work:
    """Count a convolution of 1 to 3 dimensions: strided, padded, dilated, grouped or transposed.

    Every output element (every input element, when transposed) meets the kernel of one group: C_in / G x k values.
    """
    image, weight, bias, transposed = args[0], args[1], args[2], bool(args[6])
    meets = image if transposed else out
    macs = meets.shape[0] * math.prod(meets.shape[2:]) * weight.numel()
    return Work(macs, bias=out.numel() if bias is not None else 0, activations=out.numel())


def convolution_backward(args: Sequence[Any], outs: Sequence[Any]) -> Work:
    """Count the gradients of a convolution: those of the input and of the weight cost as much as going forward, each.

    torch's own counter leaves the groups out of the weight's.
    """
    gradient, image, weight, transposed, wanted = args[0], args[1], args[2], bool(args[7]), args[10]
    del outs
    meets = image if transposed else gradient
    once = meets.shape[0] * math.prod(meets.shape[2:]) * weight.numel()
    return Work(once * (bool(wanted[0]) + bool(wanted[1])))


def attention_backward(args: Sequence[Any], outs: Sequence[Tensor]) -> Work:
    """Count the gradients of a fused attention: scores again, then those of query, key, scores and value."""
    del outs
    query, key, value = args[1], args[2], args[3]
    scores = math.prod(query.shape[:-1]) * key.shape[-2]
    return Work(scores * (3 * query.shape[-1] + 2 * value.shape[-1]))


def matrix_product(args: Sequence[Any], out: Tensor) -> Work:
    """Count mm, bmm, mv, dot: every output element is a sum over the last axis of the first factor."""
    return Work(out.numel() * args[0].shape[-1], activations=out.numel())


def biased_product(args: Sequence[Any], out: Tensor) -> Work:
    """Count addmm, addmv, baddbmm: a matrix product and one addition an output element, of a bias if of a vector."""
    return _with_added(args[0], out.numel() * args[1].shape[-1], out.numel())


def batched_biased_product(args: Sequence[Any], out: Tensor) -> Work:
    """Count addbmm, which sums the products of the batch."""
    return _with_added(args[0], args[1].numel() * args[2].shape[-1], out.numel())


def _with_added(added: Tensor, macs: int, count: int) -> Work:
    if added.dim() <= 1:
        return Work(macs, bias=count, activations=count)
    return Work(macs, operations=count, activations=count)


def linear(args: Sequence[Any], out: Tensor) -> Work:
    """Count aten::linear where it is not taken apart."""
    bias = len(args) > 2 and args[2] is not None  # noqa: PLR2004 - input, weight, bias
    return Work(out.numel() * args[1].shape[-1], bias=out.numel() if bias else 0, activations=out.numel())


def attention(args: Sequence[Any], outs: Sequence[Tensor]) -> Work:
    """Count a fused scaled dot-product attention: query x key, softmax, scores x value.

    Shapes: query (..., L, E), key (..., S, E), value (..., S, V).
    """
    query, key, value = args[0], args[1], args[2]
    scores = math.prod(query.shape[:-1]) * key.shape[-2]
    macs = scores * query.shape[-1] + scores * value.shape[-1]
    out = first(outs)
    return Work(macs, "activation", SOFTMAX_WEIGHT * scores, activations=scores + out.numel())


def rnn_layer(args: Sequence[Any], outs: Sequence[Tensor]) -> Work:
    """Count oneDNN's LSTM layer: both products with their biases, then 5 activations and 8 additions a step and unit.

    Activations: three sigmoids, two hyperbolic tangents. Additions: the sum of both products for four gates, then
    c' = f c + i g and h = o tanh(c'). Shapes: input (T, N, I), weights (4 H, I) and (4 H, H).
    """
    del outs
    sequence, into, across, has_biases = args[0], args[1], args[2], bool(args[12])
    steps, units = sequence.shape[0] * sequence.shape[1], across.shape[1]
    put_out = 2 * steps * into.shape[0]
    return Work(
        steps * (into.numel() + across.numel()),
        "activation",
        5 * steps * units,
        bias=put_out * has_biases,
        activations=put_out,
        additions=8 * steps * units,
    )


def batch_norm(args: Sequence[Any], outs: Sequence[Tensor]) -> Work:
    """Count native_batch_norm, whose sixth argument says whether it trains."""
    weight = NORM_WEIGHT if bool(args[5]) else NORM_WEIGHT_INFERENCE
    return Work(kind="norm", operations=weight * outs[0].numel())


def inference_norm(args: Sequence[Any], outs: Sequence[Tensor]) -> Work:
    """Count a batch norm that cannot train."""
    del args
    return Work(kind="norm", operations=NORM_WEIGHT_INFERENCE * outs[0].numel())


def statistics_norm(args: Sequence[Any], outs: Sequence[Tensor]) -> Work:
    """Count a norm that computes its own statistics: layer, group, batch norm in training."""
    del args
    out = first(outs)
    return Work(kind="norm", operations=NORM_WEIGHT * out.numel())


def activation(args: Sequence[Any], out: Tensor | Sequence[Tensor]) -> Work:
    """Count one operation an element."""
    del args
    result = first(out)
    return Work(kind="activation", operations=result.numel())


def softmax(args: Sequence[Any], out: Tensor) -> Work:
    """Count maximum, difference, exponential, sum and quotient."""
    del args
    return Work(kind="activation", operations=SOFTMAX_WEIGHT * out.numel())


def window_pooling(dimensions: int) -> Callable[[Sequence[Any], Any], Work]:
    """Return the rule of a pooling over windows in so many dimensions."""

    def rule(args: Sequence[Any], out: Tensor | Sequence[Tensor]) -> Work:
        result = first(out)
        kernel = list(args[1])
        window = math.prod(kernel if len(kernel) > 1 else kernel * dimensions)
        return Work(kind="pooling", operations=result.numel() * window)

    return rule


def adaptive_pooling(args: Sequence[Any], out: Tensor | Sequence[Tensor]) -> Work:
    """Count the elements of all windows; output i of n reads from floor(i s / n) to ceil((i + 1) s / n)."""
    image = args[0]
    sizes = [size for size in args[1] if size is not None]
    result = first(out)
    lead = result.shape[: result.dim() - len(sizes)]
    reads = [
        sum(-(-(i + 1) * size // count) - i * size // count for i in range(count))
        for size, count in zip(image.shape[-len(sizes) :], sizes, strict=True)
    ]
    return Work(kind="pooling", operations=math.prod(lead) * math.prod(reads))


def reduction(args: Sequence[Any], out: Tensor) -> Work:
    """Count a mean or maximum over axes as pooling: one operation an element read."""
    del out
    return Work(kind="pooling", operations=args[0].numel())


def total(args: Sequence[Any], out: Tensor) -> Work:
    """Count a sum over axes: one addition an element read."""
    del out
    return Work(operations=args[0].numel())


def pointwise(args: Sequence[Any], out: Tensor) -> Work:
    """Count one operation an output element."""
    del args
    return Work(operations=out.numel())


def free(args: Sequence[Any], out: Any) -> Work:  # noqa: ANN401 - whatever a view or a copy returns
    """Count nothing: views, copies, padding, look-ups and other moves of data."""
    del args, out
    return FREE


RULES: dict[str, Callable[[Sequence[Any], Any], Work]] = {
    "aten::convolution": convolution,
    "aten::_convolution": convolution,
    "aten::convolution_backward": convolution_backward,
    "aten::mm": matrix_product,
    "aten::bmm": matrix_product,
    "aten::mv": matrix_product,
    "aten::dot": matrix_product,
    "aten::vdot": matrix_product,
    "aten::addmm": biased_product,
    "aten::addmv": biased_product,
    "aten::baddbmm": biased_product,
    "aten::addbmm": batched_biased_product,
    "aten::linear": linear,
    "aten::mkldnn_rnn_layer": rnn_layer,
    "aten::_scaled_dot_product_flash_attention": attention,
    "aten::_scaled_dot_product_flash_attention_for_cpu": attention,
    "aten::_scaled_dot_product_efficient_attention": attention,
    "aten::_scaled_dot_product_cudnn_attention": attention,
    "aten::_scaled_dot_product_fused_attention_overrideable": attention,
    **dict.fromkeys(
        (
            f"aten::_scaled_dot_product_{name}_attention{where}_backward"
            for name, where in (("flash", ""), ("flash", "_for_cpu"), ("efficient", ""), ("cudnn", ""))
        ),
        attention_backward,
    ),
    "aten::native_batch_norm": batch_norm,
    "aten::_native_batch_norm_legit": batch_norm,
    "aten::_native_batch_norm_legit_no_training": inference_norm,
    "aten::cudnn_batch_norm": batch_norm,
    "aten::native_layer_norm": statistics_norm,
    "aten::native_group_norm": statistics_norm,
    "aten::_fused_rms_norm": statistics_norm,
    "aten::_softmax": softmax,
    "aten::_safe_softmax": softmax,
    "aten::_log_softmax": softmax,
    "aten::mean": reduction,
    "aten::amax": reduction,
    "aten::max": reduction,
    "aten::amin": reduction,
    "aten::sum": total,
    "aten::var_mean": total,
    "aten::linalg_vector_norm": total,
    "aten::cumsum": total,
    **{f"aten::max_pool{n}d_with_indices": window_pooling(n) for n in (1, 2, 3)},
    **{f"aten::avg_pool{n}d": window_pooling(n) for n in (1, 2, 3)},
    **{f"aten::_adaptive_avg_pool{n}d": adaptive_pooling for n in (1, 2, 3)},
    **{f"aten::adaptive_avg_pool{n}d": adaptive_pooling for n in (1, 2, 3)},
    **{f"aten::adaptive_max_pool{n}d": adaptive_pooling for n in (1, 2, 3)},
    **dict.fromkeys(
        (
            f"aten::{name}{suffix}"
            for name in (
                *("relu", "relu6", "leaky_relu", "_prelu_kernel", "elu", "celu", "selu", "gelu", "silu", "mish"),
                *("sigmoid", "tanh", "hardtanh", "hardswish", "hardsigmoid", "softplus", "threshold", "log_sigmoid"),
                *("log_sigmoid_forward", "exp", "erf", "glu", "softshrink", "hardshrink", "clamp", "clamp_min"),
                *("rrelu_with_noise", "log", "log1p", "expm1", "sin", "cos"),
            )
            for suffix in ("", "_")
        ),
        activation,
    ),
    **dict.fromkeys(
        (
            f"aten::{name}{suffix}"
            for name in (
                *("add", "sub", "rsub", "mul", "div", "neg", "pow", "sqrt", "rsqrt", "reciprocal", "abs", "square"),
                *("addcmul", "addcdiv", "maximum", "minimum", "lerp", "where", "sign", "floor", "ceil", "round"),
                *("remainder", "fmod", "masked_fill", "eq", "ne", "lt", "le", "gt", "ge", "logical_not"),
                *("logical_and", "logical_or", "bitwise_not", "bitwise_and", "upsample_nearest2d"),
            )
            for suffix in ("", "_")
        ),
        pointwise,
    ),
    **dict.fromkeys(
        (
            f"aten::{name}"
            for name in (
                *("view", "_unsafe_view", "reshape", "t", "transpose", "permute", "expand", "squeeze", "unsqueeze"),
                *("slice", "select", "split", "split_with_sizes", "chunk", "unbind", "cat", "stack", "clone", "copy_"),
                *("contiguous", "detach", "alias", "_to_copy", "constant_pad_nd", "reflection_pad2d", "as_strided"),
                *("replication_pad2d", "unfold", "roll", "flip", "gather", "index", "index_select", "embedding"),
                *("empty", "empty_like", "empty_strided", "zeros", "zeros_like", "ones", "ones_like", "full", "eye"),
                *("full_like", "new_zeros", "new_ones", "new_empty", "new_full", "arange", "scalar_tensor", "fill_"),
                *("zero_", "lift_fresh", "channel_shuffle", "native_channel_shuffle", "pixel_shuffle", "repeat"),
                *("_reshape_alias", "diagonal", "tril", "triu", "movedim", "narrow", "resize_", "set_", "linspace"),
                *("native_dropout", "bernoulli_", "normal_", "uniform_", "rand", "randn", "randint", "pixel_unshuffle"),
                *("im2col", "index_put_", "index_put", "scatter", "scatter_", "squeeze_", "unsqueeze_", "t_"),
                *(
                    "transpose_",
                    "_unsafe_index",
                    "argmax",
                    "diag_embed",
                    "lift",
                    "_local_scalar_dense",
                    "detach_",
                    "equal",
                ),
                *("unsafe_split", "unsafe_split_with_sizes", "unsafe_chunk", "as_strided_", "swapaxes", "swapaxes_"),
                *("view_as_complex", "view_as_real", "_conj", "resolve_conj", "resolve_neg", "_neg_view", "complex"),
                *("col2im", "unfold_copy", "rot90", "take", "masked_select", "nonzero", "masked_scatter"),
                *("new_empty_strided", "rand_like", "randn_like", "randint_like", "randperm", "tril_indices"),
                *("triu_indices", "tril_", "triu_", "select_scatter", "slice_scatter", "diagonal_scatter", "copy"),
                *("replication_pad1d", "replication_pad3d", "reflection_pad1d", "reflection_pad3d", "lift_fresh_copy"),
                *("repeat_interleave", "scatter_add", "index_fill", "index_fill_", "index_copy", "index_copy_"),
                *("_pin_memory", "pin_memory", "is_pinned", "_nested_view_from_buffer", "random_", "_assert_async"),
            )
        ),
        free,
    ),
    "prim::device": free,
}
"""Every operator with a known cost, by name; anything else is listed as not counted."""


PRODUCTS = frozenset(f"aten::{name}" for name in ("mm", "bmm", "mv"))
"""Operators to whose result torch adds the bias of a linear layer where it cannot do both at once."""


def work_of(name: str, args: Sequence[Any], out: Any, kwargs: Mapping[str, Any]) -> Work | None:  # noqa: ANN401 - operators return anything
    """Return the work of one call, or None when no rule knows the operator."""
    if name.startswith("profiler::"):
        return FREE
    rule = RULES.get(name)
    if rule is biased_product and kwargs.get("beta") == 0:
        return matrix_product(args[1:], out)
    work = rule(args, out) if rule is not None else None
    if work is not None and work.macs and is_complex(out):
        return work._replace(macs=COMPLEX * work.macs, real=COMPLEX)
    return work


def is_complex(value: Any) -> bool:  # noqa: ANN401 - operators return anything
    """Tell whether an operator put out complex numbers."""
    tensor = first_tensor(value)
    return tensor is not None and tensor.is_complex()


def first_tensor(value: Any) -> torch.Tensor | None:  # noqa: ANN401 - operators return anything
    """Return the first tensor of an operator's output."""
    if isinstance(value, torch.Tensor):
        return value
    if isinstance(value, tuple | list):
        for item in value:
            found = first_tensor(item)
            if found is not None:
                return found
    return None
