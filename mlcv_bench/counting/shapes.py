"""Output shapes of the operators whose own meta kernels start cold in seconds, because they import sympy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor


def spread(values: Sequence[int], dimensions: int) -> list[int]:
    """Return one value a dimension: torch allows one for all."""
    return list(values) * dimensions if len(values) == 1 else list(values)


def convolution(args: Sequence[Any]) -> Tensor | None:
    """Return the output of aten::convolution without a kernel, or None to let torch refuse it.

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
    return torch.empty((image.shape[0], out_channels, *sizes), dtype=image.dtype, device="meta")


def batch_norm(args: Sequence[Any]) -> tuple[Tensor, Tensor, Tensor] | None:
    """Return the outputs of aten::native_batch_norm at inference; training keeps torch's own kernel."""
    image, weight, mean, training = args[0], args[1], args[3], args[5]
    statistics = weight if weight is not None else mean
    if training or statistics is None or statistics.shape[0] != image.shape[1]:
        return None
    out = torch.empty(image.shape, dtype=image.dtype, device="meta")
    nothing = torch.empty(0, device="meta")
    return out, nothing, nothing


SHAPES: dict[str, Callable[[Sequence[Any]], Any]] = {
    "aten::convolution": convolution,
    "aten::native_batch_norm": batch_norm,
}


def outputs_of(name: str, args: Sequence[Any]) -> Any:  # noqa: ANN401 - what the operator returns
    """Return the outputs of a call on the meta device by our own rule, or None to let torch compute them."""
    rule = SHAPES.get(name)
    if rule is None or not isinstance(args[0], torch.Tensor) or args[0].device.type != "meta":
        return None
    return rule(args)
