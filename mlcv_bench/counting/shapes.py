"""Outputs of common operators on the meta device, by rule: shape, type, and the layout that the CPU gives them.

torch's own meta kernels import sympy and torch._dynamo when first called, which costs a second and 79 MiB; these rules
cost nothing. A rule returns None where it is not sure, and torch then computes, or refuses, the call itself. A test
holds the rules against the CPU, byte by byte. The layout matters: a result that is dense in another order than the next
operator wants is copied there.
"""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor


def empty(shape: Sequence[int], dtype: torch.dtype, layout: torch.memory_format = torch.contiguous_format) -> Tensor:
    """Return a tensor without memory."""
    return torch.empty(tuple(shape), dtype=dtype, device="meta", memory_format=layout)


def layout_of(tensor: Tensor) -> torch.memory_format:
    """Return the layout that results inherit: channels last where the strides grow so, whether dense or not.

    torch's suggest_memory_format (c10/core/TensorImpl.h), which Python cannot call.
    """
    axes = {4: (1, 3, 2, 0), 5: (1, 4, 3, 2, 0)}.get(tensor.dim())
    if axes is None or tensor.is_contiguous() or tensor.stride(1) == 0:
        return torch.contiguous_format
    smallest = 0
    for axis in axes:
        size, stride = tensor.shape[axis], tensor.stride(axis)
        if size == 0 or stride < smallest or (axis == 0 and smallest == tensor.stride(1)):
            return torch.contiguous_format
        smallest = stride * size
    return torch.channels_last if tensor.dim() == 4 else torch.channels_last_3d  # noqa: PLR2004 - images


def like(tensor: Tensor, shape: Sequence[int] | None = None) -> Tensor:
    """Return a dense tensor of the same shape or another, in the layout that results inherit."""
    return empty(tensor.shape if shape is None else shape, tensor.dtype, layout_of(tensor))


def pointwise(*tensors: Tensor) -> Tensor | None:
    """Return the result of an element-wise operator, or None where the shapes do not fit each other.

    It is dense, and full where arguments were expanded. Its axes are ordered as the arguments' strides are, the first
    argument's before the second's (torch's TensorIterator, aten/src/ATen/TensorIterator.cpp, reorder_dimensions).
    """
    shape = broadcast(tensors)
    if shape is None:
        return None
    if all(tensor.shape == shape and tensor.is_contiguous() for tensor in tensors):
        return empty(shape, tensors[0].dtype)
    strides = [tensor.expand(shape).stride() for tensor in tensors]
    order = list(range(len(shape)))[::-1]  # the innermost axis first
    for start in range(1, len(order)):
        place = start
        for before in range(start - 1, -1, -1):
            found = compared(shape, strides, order[before], order[place])
            if found > 0:
                order[before], order[place] = order[place], order[before]
                place = before
            elif found < 0:
                break
    steps, reach = [0] * len(shape), 1
    for axis in order:
        steps[axis], reach = reach, reach * shape[axis]
    return torch.empty_strided(shape, steps, dtype=tensors[0].dtype, device="meta")


def compared(shape: Sequence[int], strides: Sequence[Sequence[int]], one: int, other: int) -> int:
    """Return whether axis `one` lies inside axis `other` (-1), outside (1), or no argument tells (0)."""
    for steps in strides:
        if steps[one] and steps[other] and (steps[one] != steps[other] or shape[one] > shape[other]):
            return -1 if steps[one] < steps[other] else 1
    return 0


def broadcast(tensors: Sequence[Tensor]) -> tuple[int, ...] | None:
    """Return the shape that all tensors expand to, or None where there is none."""
    shape = [1] * max(tensor.dim() for tensor in tensors)
    for tensor in tensors:
        for axis, size in enumerate(reversed(tensor.shape), start=1):
            if size != 1 and shape[-axis] not in (1, size):
                return None
            shape[-axis] = size if size != 1 else shape[-axis]
    return tuple(shape)


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
    last = layout_of(weight) if layout_of(image) is torch.contiguous_format else layout_of(image)
    return empty((image.shape[0], out_channels, *sizes), image.dtype, last)


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


def unary(args: Sequence[Any]) -> Tensor | None:
    """Return the output of an activation."""
    return pointwise(args[0]) if args[0].is_floating_point() else None


def itself(args: Sequence[Any]) -> Tensor | None:
    """Return the first argument: an operator in place."""
    other = argument(args, 1, None)
    if isinstance(other, torch.Tensor) and other.shape != args[0].shape and other.dim() > 0:
        return None
    return args[0]  # type: ignore[no-any-return] # the first argument of an operator in place is a tensor


def binary(args: Sequence[Any]) -> Tensor | None:
    """Return the output of a sum, difference, product, quotient or power of floating-point tensors and numbers."""
    one, other = args[0], args[1]
    if not isinstance(one, torch.Tensor) or not one.is_floating_point():
        return None
    if isinstance(other, int | float):
        return pointwise(one)
    if not isinstance(other, torch.Tensor) or other.dtype != one.dtype or not other.is_meta:
        return None
    return pointwise(one, other)


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
    layouts = {layout_of(tensor) for tensor in tensors}
    return empty(shape, first.dtype, layouts.pop() if len(layouts) == 1 else torch.contiguous_format)


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
    shape, layout = (*args[0].shape[:-2], *sizes), layout_of(args[0])
    return empty(shape, args[0].dtype, layout), empty(shape, torch.int64, layout)


def avg_pool(dimensions: int) -> Callable[[Sequence[Any]], Tensor | None]:
    """Return the rule of aten::avg_pool2d or aten::avg_pool3d."""

    def rule(args: Sequence[Any]) -> Tensor | None:
        sizes = windows(args, dimensions, [1] * dimensions, ceil_mode=argument(args, 4, default=False))
        layout = layout_of(args[0]) if dimensions == 2 else torch.contiguous_format  # noqa: PLR2004 - as torch does
        return None if sizes is None else empty((*args[0].shape[:-dimensions], *sizes), args[0].dtype, layout)

    return rule


def padding(args: Sequence[Any]) -> Tensor | None:
    """Return the output of aten::constant_pad_nd; amounts come in pairs, the last axis first."""
    image, amounts = args[0], args[1]
    shape = list(image.shape)
    for position in range(len(amounts) // 2):
        shape[-1 - position] += amounts[2 * position] + amounts[2 * position + 1]
    return like(image, shape) if min(shape) > 0 else None


def mirrored(args: Sequence[Any]) -> Tensor | None:
    """Return the output of aten::reflection_pad2d and replication_pad2d, which reach less far than the image does."""
    return padding(args) if max(args[1]) < min(args[0].shape[-2:]) else None


def pixel_shuffle(args: Sequence[Any]) -> Tensor | None:
    """Return the output of aten::pixel_shuffle: (..., C r^2, H, W) to (..., C, H r, W r)."""
    (*lead, channels, height, width), factor = args[0].shape, args[1]
    if channels % factor**2:
        return None
    return like(args[0], (*lead, channels // factor**2, height * factor, width * factor))


def pixel_unshuffle(args: Sequence[Any]) -> Tensor | None:
    """Return the output of aten::pixel_unshuffle: (..., C, H r, W r) to (..., C r^2, H, W)."""
    (*lead, channels, height, width), factor = args[0].shape, args[1]
    if height % factor or width % factor:
        return None
    return like(args[0], (*lead, channels * factor**2, height // factor, width // factor))


def convolution_backward(args: Sequence[Any]) -> tuple[Tensor | None, ...]:
    """Return the gradients of a convolution's input, weight and bias, those that are wanted."""
    image, weight, bias = args[1:4]
    gradients = empty(image.shape, image.dtype), empty(weight.shape, weight.dtype), empty(bias or (), weight.dtype)
    return those(gradients, args[10])


def batch_norm_backward(args: Sequence[Any]) -> tuple[Tensor | None, ...] | None:
    """Return the gradients of a batch norm's input, weight and bias, those that are wanted."""
    image, weight = args[1:3]
    return None if weight is None else those((like(image), like(weight), like(weight)), args[9])


def those(gradients: Sequence[Tensor], wanted: Sequence[bool]) -> tuple[Tensor | None, ...]:
    """Return the gradients that are wanted, None for the others."""
    return tuple(gradient if asked else None for gradient, asked in zip(gradients, wanted, strict=True))


def attention(args: Sequence[Any]) -> tuple[Tensor | None, Tensor]:
    """Return the outputs of the CPU's fused attention: the result, and a number for each row of scores."""
    query = args[0]
    batch, heads, length, _ = query.shape
    return pointwise(query), empty((batch, length, heads), query.dtype).transpose(1, 2)


def group_norm(args: Sequence[Any]) -> tuple[Tensor, Tensor, Tensor]:
    """Return the outputs of aten::native_group_norm: the result, and a mean and deviation for each group."""
    image, batch, groups = args[0], args[3], args[6]
    return like(image), empty((batch, groups), image.dtype), empty((batch, groups), image.dtype)


UNARY = ("relu", "gelu", "silu", "sigmoid", "tanh", "hardtanh", "hardswish", "leaky_relu", "exp", "neg", "sqrt")
BINARY = ("add", "sub", "mul", "div", "pow")
SHAPES: dict[str, Callable[[Sequence[Any]], Any]] = {
    **dict.fromkeys(("threshold_backward", *UNARY), unary),
    **dict.fromkeys(BINARY, binary),
    **dict.fromkeys((f"{name}_" for name in (*UNARY, *BINARY)), itself),
    **dict.fromkeys(("mm", "bmm"), matrix_product),
    **dict.fromkeys(("reflection_pad2d", "replication_pad2d"), mirrored),
    **dict.fromkeys(("channel_shuffle", "native_channel_shuffle", "roll"), lambda args: like(args[0])),
    "convolution": convolution,
    "convolution_backward": convolution_backward,
    "native_batch_norm": batch_norm,
    "native_batch_norm_backward": batch_norm_backward,
    "native_layer_norm": layer_norm,
    "native_group_norm": group_norm,
    "_softmax": lambda args: None if args[2] else empty(args[0].shape, args[0].dtype),  # it may convert half precision
    "cat": cat,
    "addmm": addmm,
    "mean": mean,
    "max_pool2d_with_indices": max_pool2d,
    "max_pool2d_with_indices_backward": lambda args: like(args[1]),
    "avg_pool2d": avg_pool(2),
    "avg_pool3d": avg_pool(3),
    "_adaptive_avg_pool2d": lambda args: like(args[0], (*args[0].shape[:-2], *args[1])),
    "constant_pad_nd": padding,
    "pixel_shuffle": pixel_shuffle,
    "pixel_unshuffle": pixel_unshuffle,
    "_scaled_dot_product_flash_attention_for_cpu": attention,
}


def run(name: str, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:  # noqa: ANN401 - operators and what they return
    """Run an operator, on the meta device by our own rule where there is one."""
    rule = SHAPES.get(name)
    first = args[0][0] if args and isinstance(args[0], list | tuple) and args[0] else args[0] if args else None
    if isinstance(first, torch.Tensor) and first.is_meta and rule is not None and not {"dtype", "out"} & set(kwargs):
        out = rule(args)
        if out is not None:
            return out
    loaded = len(sys.modules)
    out = func(*args, **kwargs)
    if len(sys.modules) > loaded:
        # Importing torch's kernels in Python leaves frames in cycles, in which this call's tensors would stay alive.
        gc.collect(0)
    return out
