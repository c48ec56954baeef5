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
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

ATTENTIONS = (
    *("flash_attention", "flash_attention_for_cpu", "efficient_attention", "cudnn_attention"),
    "fused_attention_overrideable",
)
"""torch's attentions in one operator, after `_scaled_dot_product_`."""
Kind = Literal["norm", "bias", "activation", "pooling", "addition"]
KINDS: tuple[Kind, ...] = ("norm", "bias", "activation", "pooling", "addition")

NORM_WEIGHT_INFERENCE = 2
NORM_WEIGHT = 5
SOFTMAX_WEIGHT = 5
COMPLEX = 4
"""Real products in one of two complex numbers."""


class Work(NamedTuple):
    """The work of one call of an operator; `additions` come on top of operations of another kind.

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
Rule = Callable[[Sequence[Any], Any], Work]
"""From an operator's arguments and what it returned to its work."""


def name_of(func: Any) -> str:  # noqa: ANN401 - an operator overload
    """Return an operator's name without its overload, and without `aten::`."""
    name: str = func.name()
    return name.partition(".")[0].removeprefix("aten::")


def tensors_of(value: Any) -> Iterator[Tensor]:  # noqa: ANN401 - operators and modules return anything
    """Yield every tensor in nested tuples, lists and mappings."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict | tuple | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from tensors_of(item)


def size(out: Any) -> int:  # noqa: ANN401 - operators return anything
    """Return the elements of an operator's first output."""
    return next(tensors_of(out)).numel()


def convolution(args: Sequence[Any], out: Tensor) -> Work:
    """Count a convolution of 1 to 3 dimensions: strided, padded, dilated, grouped or transposed.

    Every output element (every input element, when transposed) meets the kernel of one group: C_in / G x k values.
    """
    image, weight, bias, transposed = args[0], args[1], args[2], args[6]
    return Work(
        meetings(image if transposed else out) * weight.numel(),
        bias=out.numel() if bias is not None else 0,
        activations=out.numel(),
    )


def meetings(image: Tensor) -> int:
    """Return how often a kernel is laid on an image, batch included."""
    return image.shape[0] * math.prod(image.shape[2:])


def convolution_backward(args: Sequence[Any], out: Any) -> Work:  # noqa: ANN401 - gradients, some of them None
    """Count the gradients of a convolution: those of the input and of the weight cost as much as going forward, each.

    torch's own counter leaves the groups out of the weight's.
    """
    gradient, image, weight, transposed, wanted = args[0], args[1], args[2], args[7], args[10]
    return Work(meetings(image if transposed else gradient) * weight.numel() * sum(wanted[:2]))


def matrix_product(args: Sequence[Any], out: Tensor) -> Work:
    """Count mm, bmm, mv, dot: every output element is a sum over the last axis of the first factor."""
    return Work(out.numel() * args[0].shape[-1], activations=out.numel())


def biased_product(args: Sequence[Any], out: Tensor) -> Work:
    """Count addmm, addmv, baddbmm, and addbmm, which sums over the batch: a product, and an addition an output element.

    A vector that is added is a bias.
    """
    added, one, other = args[:3]
    columns = other.shape[-1] if other.dim() > 1 else 1
    work = Work(one.numel() * columns, activations=out.numel())
    return work._replace(bias=out.numel()) if added.dim() <= 1 else work._replace(operations=out.numel())


def linear(args: Sequence[Any], out: Tensor) -> Work:
    """Count aten::linear where it is not taken apart."""
    biased = len(args) > 2 and args[2] is not None  # noqa: PLR2004 - input, weight, bias
    return matrix_product(args, out)._replace(bias=out.numel() if biased else 0)


def attention(args: Sequence[Any], out: Any) -> Work:  # noqa: ANN401 - a tensor, and what only gradients need
    """Count a fused scaled dot-product attention: query x key, softmax, scores x value.

    Shapes: query (..., L, E), key (..., S, E), value (..., S, V).
    """
    query, key, value = args[:3]
    scores = math.prod(query.shape[:-1]) * key.shape[-2]
    macs = scores * (query.shape[-1] + value.shape[-1])
    return Work(macs, "activation", SOFTMAX_WEIGHT * scores, activations=scores + size(out))


def attention_backward(args: Sequence[Any], out: Any) -> Work:  # noqa: ANN401 - as above
    """Count the gradients of a fused attention: scores again, then those of query, key, scores and value."""
    query, key, value = args[1:4]
    scores = math.prod(query.shape[:-1]) * key.shape[-2]
    return Work(scores * (3 * query.shape[-1] + 2 * value.shape[-1]))


def rnn_layer(args: Sequence[Any], out: Any) -> Work:  # noqa: ANN401 - as above
    """Count oneDNN's LSTM layer: both products with their biases, then 5 activations and 8 additions a step and unit.

    Activations: three sigmoids, two hyperbolic tangents. Additions: the sum of both products for four gates, then
    c' = f c + i g and h = o tanh(c'). Shapes: input (T, N, I), weights (4 H, I) and (4 H, H).
    """
    sequence, into, across, has_biases = args[0], args[1], args[2], bool(args[12])
    steps, units = sequence.shape[0] * sequence.shape[1], across.shape[1]
    gates = 2 * steps * into.shape[0]
    return Work(
        steps * (into.numel() + across.numel()),
        "activation",
        5 * steps * units,
        bias=gates * has_biases,
        activations=gates,
        additions=8 * steps * units,
    )


def batch_norm(args: Sequence[Any], out: Any) -> Work:  # noqa: ANN401 - as above
    """Count native_batch_norm, whose sixth argument says whether it trains."""
    return Work(kind="norm", operations=(NORM_WEIGHT if args[5] else NORM_WEIGHT_INFERENCE) * size(out))


def elementwise(kind: Kind, weight: int = 1) -> Rule:
    """Return the rule of so many operations an output element."""
    return lambda args, out: Work(kind=kind, operations=weight * size(out))


def reduction(kind: Kind) -> Rule:
    """Return the rule of one operation an element read: a mean or maximum is pooling, a sum is addition."""
    return lambda args, out: Work(kind=kind, operations=args[0].numel())


def window_pooling(dimensions: int) -> Rule:
    """Return the rule of a pooling over windows in so many dimensions."""

    def rule(args: Sequence[Any], out: Any) -> Work:  # noqa: ANN401 - a tensor, and indices
        kernel = list(args[1])
        return Work(
            kind="pooling", operations=size(out) * math.prod(kernel if len(kernel) > 1 else kernel * dimensions)
        )

    return rule


def adaptive_pooling(args: Sequence[Any], out: Any) -> Work:  # noqa: ANN401 - a tensor, and indices
    """Count the elements of all windows; output i of n reads from floor(i s / n) to ceil((i + 1) s / n)."""
    image, axes = args[0], len(args[1])
    result = next(tensors_of(out))
    reads = [
        sum(-(-(i + 1) * old // new) - i * old // new for i in range(new))
        for old, new in zip(image.shape[-axes:], result.shape[-axes:], strict=True)
    ]
    return Work(kind="pooling", operations=math.prod(result.shape[:-axes]) * math.prod(reads))


def free(args: Sequence[Any], out: Any) -> Work:  # noqa: ANN401 - whatever a view or a copy returns
    """Count nothing: views, copies, padding, look-ups and other moves of data."""
    return FREE


ACTIVATIONS = (
    *("relu", "relu6", "leaky_relu", "_prelu_kernel", "elu", "celu", "selu", "gelu", "silu", "mish", "sigmoid"),
    *("tanh", "hardtanh", "hardswish", "hardsigmoid", "softplus", "threshold", "log_sigmoid"),
    *("log_sigmoid_forward", "exp", "erf", "glu", "softshrink", "hardshrink", "clamp", "clamp_min"),
    *("rrelu_with_noise", "log", "log1p", "log2", "log10", "exp2", "expm1", "sin", "cos", "tan", "atan", "logit"),
    *("sinc", "erfinv", "asin", "acos", "sinh", "cosh"),
)
ARITHMETIC = (
    *("add", "sub", "rsub", "mul", "div", "neg", "pow", "sqrt", "rsqrt", "reciprocal", "abs", "square", "addcmul"),
    *("addcdiv", "maximum", "minimum", "lerp", "where", "sign", "floor", "ceil", "round", "remainder", "fmod"),
    *("masked_fill", "eq", "ne", "lt", "le", "gt", "ge", "logical_not", "logical_and", "logical_or", "bitwise_not"),
    *("bitwise_and", "upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d", "_upsample_nearest_exact1d"),
    *("_upsample_nearest_exact2d", "_upsample_nearest_exact3d", "atan2", "hypot", "isnan", "nan_to_num", "trunc"),
    *("bitwise_or", "bitwise_xor", "logical_xor", "logaddexp", "xlogy", "polar"),
)
MOVES = (
    *("view", "_unsafe_view", "reshape", "t", "transpose", "permute", "expand", "squeeze", "unsqueeze", "slice"),
    *("select", "split", "split_with_sizes", "chunk", "unbind", "cat", "stack", "clone", "contiguous", "detach"),
    *("alias", "_to_copy", "constant_pad_nd", "reflection_pad2d", "as_strided", "replication_pad2d", "unfold"),
    *("roll", "flip", "gather", "index", "index_select", "embedding", "empty", "empty_like", "empty_strided"),
    *("zeros", "zeros_like", "ones", "ones_like", "full", "eye", "full_like", "new_zeros", "new_ones", "new_empty"),
    *("new_full", "arange", "scalar_tensor", "fill_", "zero_", "lift_fresh", "channel_shuffle"),
    *("native_channel_shuffle", "pixel_shuffle", "repeat", "_reshape_alias", "diagonal", "tril", "triu", "movedim"),
    *("narrow", "resize_", "set_", "linspace", "native_dropout", "bernoulli_", "normal_", "uniform_", "rand"),
    *("randn", "randint", "pixel_unshuffle", "im2col", "index_put", "scatter", "_unsafe_index", "argmax"),
    *("diag_embed", "lift", "_local_scalar_dense", "equal", "unsafe_split", "unsafe_split_with_sizes"),
    *("unsafe_chunk", "swapaxes", "view_as_complex", "view_as_real", "_conj", "resolve_conj", "resolve_neg"),
    *("_neg_view", "complex", "col2im", "unfold_copy", "rot90", "take", "masked_select", "nonzero"),
    *("masked_scatter", "new_empty_strided", "rand_like", "randn_like", "randint_like", "randperm", "tril_indices"),
    *("triu_indices", "select_scatter", "slice_scatter", "diagonal_scatter", "copy", "replication_pad1d"),
    *("replication_pad3d", "reflection_pad1d", "reflection_pad3d", "lift_fresh_copy", "repeat_interleave"),
    *("scatter_add", "index_fill", "index_copy", "_pin_memory", "pin_memory", "is_pinned"),
    *("_nested_view_from_buffer", "random_", "_assert_async", "bernoulli", "exponential_", "multinomial"),
    *("scatter_reduce", "index_add", "max_unpool2d", "max_unpool3d", "_linalg_check_errors", "argmin"),
)
"""Views, copies, padding, look-ups and other moves of data, new tensors, random numbers: nothing is counted."""

RULES: dict[str, Rule] = {
    **dict.fromkeys(MOVES, free),
    **dict.fromkeys(ARITHMETIC, elementwise("addition")),
    **dict.fromkeys(ACTIVATIONS, elementwise("activation")),
    **dict.fromkeys(("_softmax", "_safe_softmax", "_log_softmax"), elementwise("activation", SOFTMAX_WEIGHT)),
    **dict.fromkeys(("convolution", "_convolution"), convolution),
    "convolution_backward": convolution_backward,
    **dict.fromkeys(("mm", "bmm", "mv", "dot", "vdot"), matrix_product),
    **dict.fromkeys(("addmm", "addmv", "baddbmm", "addbmm"), biased_product),
    "linear": linear,
    "mkldnn_rnn_layer": rnn_layer,
    **dict.fromkeys((f"_scaled_dot_product_{kind}" for kind in ATTENTIONS), attention),
    **dict.fromkeys((f"_scaled_dot_product_{kind}_backward" for kind in ATTENTIONS), attention_backward),
    **dict.fromkeys(("native_batch_norm", "_native_batch_norm_legit", "cudnn_batch_norm"), batch_norm),
    "_native_batch_norm_legit_no_training": elementwise("norm", NORM_WEIGHT_INFERENCE),
    **dict.fromkeys(("native_layer_norm", "native_group_norm", "_fused_rms_norm"), elementwise("norm", NORM_WEIGHT)),
    **dict.fromkeys(("mean", "amax", "max", "amin", "min", "any", "all"), reduction("pooling")),
    **dict.fromkeys(
        ("sum", "var_mean", "var", "std", "linalg_vector_norm", "cumsum", "prod", "cumprod"), reduction("addition")
    ),
    **{f"max_pool{axes}d_with_indices": window_pooling(axes) for axes in (1, 2, 3)},
    **{f"avg_pool{axes}d": window_pooling(axes) for axes in (1, 2, 3)},
    **dict.fromkeys(
        (f"{kind}_pool{n}d" for kind in ("_adaptive_avg", "adaptive_avg", "adaptive_max") for n in (1, 2, 3)),
        adaptive_pooling,
    ),
    "prim::device": free,
}
"""Every operator with a known cost, by its name in ATen; anything else is listed as not counted."""


def work_of(name: str, args: Sequence[Any], out: Any, kwargs: Mapping[str, Any]) -> Work | None:  # noqa: ANN401 - operators return anything
    """Return the work of one call, or None when no rule knows the operator; in place it costs the same."""
    if name.startswith("profiler::"):
        return FREE
    rule = RULES.get(name) or RULES.get(name.removesuffix("_"))
    if rule is None:
        return None
    if rule is biased_product and kwargs.get("beta") == 0:
        rule, args = matrix_product, args[1:]
    work = rule(args, out)
    if work.macs and any(tensor.is_complex() for tensor in tensors_of(out)):
        return work._replace(macs=COMPLEX * work.macs, real=COMPLEX)
    return work
