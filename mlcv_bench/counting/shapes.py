"""Output shapes of common operators on the meta device, by rule.

torch's own meta kernels import sympy and torch._dynamo when first called, which costs a second and 79 MiB; these rules
cost nothing. A rule returns None where it is not sure, and torch then computes, or refuses, the call itself. A test
holds every rule against torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor


def empty(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Return a tensor without memory."""
    return torch.empty(tuple(shape), dtype=dtype, device="meta")


def like(tensor: Tensor) -> Tensor:
    """Return a tensor of the same layout; torch.empty_like would import sympy here."""
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")


def spread(values: Sequence[int], dimensions: int) -> list[int]:
    """Return one value a dimension: torch allows one for all."""
    return list(values) * dimensions if len(values) == 1 else list(values)


def argument(args: Sequence[Any], position: int, default: Any) -> Any:  # noqa: ANN401 - operators take anything
    """Return a positional argument, or its default where the call left it out."""
    return args[position] if len(args) > position else default


def convolution(args: Sequence[Any]) -> Tensor | None:
    """Return the output of aten::convolution.

    Shapes: input (N, C_in, *S); weight (C_out, C_in/G, *K), or (C_in, C_out/G, *K) when transposed.
    """
    image, weight, _, stride, padding, dilation, transposed, output_padding, groups = args
    dimensions = weight.dim() - 2
    if image.dim() != weight.dim() or image.dtype != weight.dtype:
        return None
    stride, padding, dilation = (spread(values, dimensions) for values in (stride, padding, dilation))
    sizes = []
    for axis in range(dimensions):
        size, reach = image.shape[2 + axis], dilation[axis] * (weight.shape[2 + axis] - 1)
        if transposed:
            extra = spread(output_padding, dimensions)[axis]
            sizes.append((size - 1) * stride[axis] - 2 * padding[axis] + reach + extra + 1)
        else:
            sizes.append((size + 2 * padding[axis] - reach - 1) // stride[axis] + 1)
    channels = weight.shape[0] if transposed else weight.shape[1] * groups
    if image.shape[1] != channels or min(sizes) < 1:
        return None
    out_channels = weight.shape[1] * groups if transposed else weight.shape[0]
    return empty((image.shape[0], out_channels, *sizes), image.dtype)


def batch_norm(args: Sequence[Any]) -> tuple[Tensor, Tensor, Tensor] | None:
    """Return the outputs of aten::native_batch_norm: the result, and in training a mean and deviation a channel."""
    image, weight, mean, training = args[0], args[1], args[3], args[5]
    statistics = weight if weight is not None else mean
    if statistics is None or statistics.shape[0] != image.shape[1]:
        return None
    if training:
        return like(image), empty(statistics.shape, statistics.dtype), empty(statistics.shape, statistics.dtype)
    nothing = empty((0,), image.dtype)
    return like(image), nothing, nothing


def layer_norm(args: Sequence[Any]) -> tuple[Tensor, Tensor, Tensor] | None:
    """Return the outputs of aten::native_layer_norm: the result, and a mean and deviation for each row."""
    image, normalized = args[0], args[1]
    if list(image.shape[image.dim() - len(normalized) :]) != list(normalized):
        return None
    statistics = (*image.shape[: image.dim() - len(normalized)], *(1 for _ in normalized))
    return empty(image.shape, image.dtype), empty(statistics, image.dtype), empty(statistics, image.dtype)


def group_norm(args: Sequence[Any]) -> tuple[Tensor, Tensor, Tensor] | None:
    """Return the outputs of aten::native_group_norm: the result, and a mean and deviation for each group."""
    image, batch, groups = args[0], args[3], args[6]
    return like(image), empty((batch, groups), image.dtype), empty((batch, groups), image.dtype)


def unchanged(args: Sequence[Any]) -> Tensor:
    """Return the output of an activation that keeps the shape."""
    return like(args[0])


def softmax(args: Sequence[Any]) -> Tensor | None:
    """Return the output of aten::_softmax, which may convert half precision."""
    return None if args[2] else like(args[0])


def itself(args: Sequence[Any]) -> Tensor | None:
    """Return the first argument: an operator in place."""
    other = argument(args, 1, None)
    if isinstance(other, torch.Tensor) and other.shape != args[0].shape and other.dim() > 0:
        return None
    return args[0]  # type: ignore[no-any-return] # the first argument of an operator in place is a tensor


def pointwise(args: Sequence[Any]) -> Tensor | None:
    """Return the output of a sum, difference, product, quotient or power of floating-point tensors and numbers."""
    one, other = args[0], args[1]
    if not isinstance(one, torch.Tensor) or not one.is_floating_point():
        return None
    if isinstance(other, int | float):
        return like(one)
    if not isinstance(other, torch.Tensor) or other.dtype != one.dtype:
        return None
    if one.shape == other.shape:
        return like(one)
    sizes = []
    for mine, theirs in zip(reversed(padded(one, other.dim())), reversed(padded(other, one.dim())), strict=True):
        if mine != theirs and 1 not in (mine, theirs):
            return None
        sizes.append(theirs if mine == 1 else mine)
    return empty(sizes[::-1], one.dtype)


def padded(tensor: Tensor, dimensions: int) -> list[int]:
    """Return a shape with ones in front, up to so many dimensions."""
    return [1] * (dimensions - tensor.dim()) + list(tensor.shape)


def cat(args: Sequence[Any]) -> Tensor | None:
    """Return the output of aten::cat."""
    tensors, axis = args[0], argument(args, 1, 0)
    first = tensors[0]
    axis %= first.dim()
    for tensor in tensors:
        if tensor.dtype != first.dtype or tensor.dim() != first.dim():
            return None
        if any(
            i != axis and mine != theirs for i, (mine, theirs) in enumerate(zip(tensor.shape, first.shape, strict=True))
        ):
            return None
    shape = list(first.shape)
    shape[axis] = sum(tensor.shape[axis] for tensor in tensors)
    return empty(shape, first.dtype)


def addmm(args: Sequence[Any]) -> Tensor | None:
    """Return the output of aten::addmm: bias + (n, k) x (k, m)."""
    bias, one, other = args[0], args[1], args[2]
    if one.dim() != 2 or other.dim() != 2 or one.shape[1] != other.shape[0] or one.dtype != other.dtype:  # noqa: PLR2004 - matrices
        return None
    if bias.shape[-1] not in (1, other.shape[1]):
        return None
    return empty((one.shape[0], other.shape[1]), one.dtype)


def matrix_product(args: Sequence[Any]) -> Tensor | None:
    """Return the output of aten::mm and aten::bmm."""
    one, other = args[0], args[1]
    if one.shape[-1] != other.shape[-2] or one.shape[:-2] != other.shape[:-2] or one.dtype != other.dtype:
        return None
    return empty((*one.shape[:-1], other.shape[-1]), one.dtype)


def mean(args: Sequence[Any]) -> Tensor | None:
    """Return the output of aten::mean over axes."""
    image, axes, keep = args[0], argument(args, 1, None), argument(args, 2, default=False)
    if not axes or not image.is_floating_point():
        return None
    gone = {axis % image.dim() for axis in axes}
    shape = [1 if axis in gone else size for axis, size in enumerate(image.shape) if keep or axis not in gone]
    return empty(shape, image.dtype)


def windows(args: Sequence[Any], dimensions: int, dilation: Sequence[int], *, ceil_mode: bool) -> list[int] | None:
    """Return the output sizes of a pooling, or None where torch would refuse it."""
    image = args[0]
    kernel = spread(args[1], dimensions)
    stride = spread(argument(args, 2, None) or kernel, dimensions)
    padding = spread(argument(args, 3, (0,)), dimensions)
    sizes = []
    for axis in range(dimensions):
        size = image.shape[image.dim() - dimensions + axis]
        room = size + 2 * padding[axis] - dilation[axis] * (kernel[axis] - 1) - 1
        count = (room + (stride[axis] - 1 if ceil_mode else 0)) // stride[axis] + 1
        if ceil_mode and (count - 1) * stride[axis] >= size + padding[axis]:
            count -= 1  # the last window must start inside the image or its left padding
        if count < 1 or room < 0 or padding[axis] > kernel[axis] // 2:
            return None
        sizes.append(count)
    return sizes


def max_pool2d(args: Sequence[Any]) -> tuple[Tensor, Tensor] | None:
    """Return the outputs of aten::max_pool2d_with_indices."""
    dilation = spread(argument(args, 4, (1,)), 2)
    sizes = windows(args, 2, dilation, ceil_mode=argument(args, 5, default=False))
    if sizes is None:
        return None
    shape = (*args[0].shape[:-2], *sizes)
    return empty(shape, args[0].dtype), empty(shape, torch.int64)


def avg_pool(dimensions: int) -> Callable[[Sequence[Any]], Tensor | None]:
    """Return the rule of aten::avg_pool2d or aten::avg_pool3d."""

    def rule(args: Sequence[Any]) -> Tensor | None:
        sizes = windows(args, dimensions, [1] * dimensions, ceil_mode=argument(args, 4, default=False))
        return None if sizes is None else empty((*args[0].shape[:-dimensions], *sizes), args[0].dtype)

    return rule


def adaptive_pool2d(args: Sequence[Any]) -> Tensor:
    """Return the output of aten::_adaptive_avg_pool2d."""
    return empty((*args[0].shape[:-2], *args[1]), args[0].dtype)


def constant_pad(args: Sequence[Any]) -> Tensor | None:
    """Return the output of aten::constant_pad_nd; amounts come in pairs, the last axis first."""
    image, amounts = args[0], args[1]
    shape = list(image.shape)
    for position in range(len(amounts) // 2):
        shape[-1 - position] += amounts[2 * position] + amounts[2 * position + 1]
    return empty(shape, image.dtype) if min(shape) > 0 else None


def convolution_backward(args: Sequence[Any]) -> tuple[Tensor | None, ...]:
    """Return the gradients of a convolution's input, weight and bias, those that are wanted."""
    image, weight, bias, wanted = args[1], args[2], args[3], args[10]
    return (
        empty(image.shape, image.dtype) if wanted[0] else None,
        empty(weight.shape, weight.dtype) if wanted[1] else None,
        empty(bias, weight.dtype) if wanted[2] else None,
    )


def batch_norm_backward(args: Sequence[Any]) -> tuple[Tensor | None, ...] | None:
    """Return the gradients of a batch norm's input, weight and bias, those that are wanted."""
    image, weight, wanted = args[1], args[2], args[9]
    if weight is None:
        return None
    return (
        like(image) if wanted[0] else None,
        like(weight) if wanted[1] else None,
        like(weight) if wanted[2] else None,
    )


def like_second(args: Sequence[Any]) -> Tensor:
    """Return the gradient of an operator's input, its second argument here: a pool's."""
    return like(args[1])


UNARY = ("relu", "gelu", "silu", "sigmoid", "tanh", "hardtanh", "hardswish", "leaky_relu", "exp", "neg", "sqrt")
BINARY = ("add", "sub", "mul", "div", "pow")
SHAPES: dict[str, Callable[[Sequence[Any]], Any]] = {
    "aten::convolution": convolution,
    "aten::native_batch_norm": batch_norm,
    "aten::native_layer_norm": layer_norm,
    "aten::native_group_norm": group_norm,
    "aten::_softmax": softmax,
    "aten::cat": cat,
    "aten::addmm": addmm,
    "aten::mm": matrix_product,
    "aten::bmm": matrix_product,
    "aten::mean": mean,
    "aten::max_pool2d_with_indices": max_pool2d,
    "aten::avg_pool2d": avg_pool(2),
    "aten::avg_pool3d": avg_pool(3),
    "aten::_adaptive_avg_pool2d": adaptive_pool2d,
    "aten::constant_pad_nd": constant_pad,
    "aten::convolution_backward": convolution_backward,
    "aten::native_batch_norm_backward": batch_norm_backward,
    "aten::max_pool2d_with_indices_backward": like_second,
    "aten::threshold_backward": unchanged,
    **dict.fromkeys((f"aten::{name}" for name in UNARY), unchanged),
    **dict.fromkeys((f"aten::{name}" for name in BINARY), pointwise),
    **dict.fromkeys((f"aten::{name}_" for name in (*UNARY, *BINARY)), itself),
}


def outputs_of(name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:  # noqa: ANN401 - what operators return
    """Return the outputs of a call on the meta device by our own rule, or None to let torch compute them."""
    rule = SHAPES.get(name)
    if rule is None or "dtype" in kwargs or "out" in kwargs:
        return None
    first = args[0][0] if isinstance(args[0], list | tuple) and args[0] else args[0]
    if not isinstance(first, torch.Tensor) or first.device.type != "meta":
        return None
    return rule(args)
