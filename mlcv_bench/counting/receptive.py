"""Receptive fields: how many input pixels along each axis an activation can see, followed through the operators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence


class Field(NamedTuple):
    """Receptive field of one activation, in input pixels along each axis; `sizes` None is the whole image."""

    sizes: tuple[int, ...] | None
    jumps: tuple[int, ...]

    def along(self, axes: int) -> Field:
        """Return the field with so many axes; where their number changes, the largest of them counts for all."""
        if len(self.jumps) == axes:
            return self
        jumps = (max(self.jumps, default=1),) * axes
        return Field(None if self.sizes is None else (max(self.sizes, default=0),) * axes, jumps)


EVERYTHING = Field(None, (1,))
NOTHING = Field((0,), (1,))
GLOBAL = ("mm", "bmm", "addmm", "linear", "mean", "sum", "amax", "_softmax", "_safe_softmax", "flip", "roll")
ADAPTIVE = ("_adaptive_avg_pool2d", "adaptive_max_pool2d", "_adaptive_avg_pool1d", "_adaptive_avg_pool3d")
POOLS = {
    **{f"max_pool{axes}d_with_indices": (axes, 4) for axes in (2, 3)},
    **{f"avg_pool{axes}d": (axes, None) for axes in (2, 3)},
}
"""Axes of each pooling, and the position of its dilation."""
MIXING = ("transpose", "permute", "t", "view", "_unsafe_view", "reshape", "unfold", "pixel_shuffle", "im2col")
"""Operators after which an axis of the tensor is no longer that axis of the image."""


class ReceptiveFields:
    """Remembers each tensor's field on the tensor itself."""

    def start(self, image: torch.Tensor) -> None:
        """Let every element of the input see itself alone."""
        axes = max(image.dim() - 2, 1)
        remember(image, Field((1,) * axes, (1,) * axes))

    def size_of(self, tensor: torch.Tensor | None) -> int | None:
        """Return the longest side of the field in input pixels, None when it is the whole image or unknown."""
        sizes = recall(tensor).sizes if tensor is not None else None
        return max(sizes) if sizes is not None else None

    def follow(self, name: str, args: Sequence[Any], out: Any) -> None:  # noqa: ANN401 - operators return anything
        """Give an operator's outputs the field that its inputs and its window make."""
        operator = name.removeprefix("aten::")
        field = widest(args)
        if operator == "convolution":
            field = EVERYTHING if args[6] else windowed(field, args[1].shape[2:], args[3], args[5])
        elif operator in POOLS:
            axes, place = POOLS[operator]
            kernel = spread(args[1], axes)
            stride = spread(args[2], axes) if len(args) > 2 and args[2] else kernel  # noqa: PLR2004 - input, kernel, stride
            dilation = args[place] if place is not None and len(args) > place else (1,)
            field = windowed(field, kernel, stride, dilation)
        elif operator in GLOBAL:
            field = EVERYTHING
        elif operator in ADAPTIVE:
            field = field if tuple(args[0].shape) == tuple(shape(out)) else EVERYTHING
        elif operator in MIXING:
            field = field.along(1).along(len(field.jumps))
        for tensor in (out,) if isinstance(out, torch.Tensor) else out if isinstance(out, tuple | list) else ():
            if isinstance(tensor, torch.Tensor):
                remember(tensor, field)


def shape(out: Any) -> Sequence[int]:  # noqa: ANN401 - operators return anything
    """Return the shape of the first output."""
    return out.shape if isinstance(out, torch.Tensor) else out[0].shape


def remember(tensor: torch.Tensor, field: Field) -> None:
    """Write the field on the tensor."""
    tensor.mlcv_receptive_field = field  # type: ignore[attr-defined] # a tensor takes attributes


def recall(tensor: torch.Tensor) -> Field:
    """Read the field of a tensor; one that came from no image sees nothing."""
    return getattr(tensor, "mlcv_receptive_field", NOTHING)


def widest(args: Sequence[Any]) -> Field:
    """Return the widest field among the arguments along each axis, with the coarsest jump."""
    found = [recall(tensor) for tensor in flat(args)]
    axes = max((len(field.jumps) for field in found), default=1)
    found = [field.along(axes) for field in found] or [NOTHING]
    jumps = tuple(map(max, zip(*(field.jumps for field in found), strict=True)))
    sizes = [field.sizes for field in found if field.sizes is not None]
    return Field(tuple(map(max, zip(*sizes, strict=True))) if len(sizes) == len(found) else None, jumps)


def flat(args: Sequence[Any]) -> list[torch.Tensor]:
    """Return the tensors among the arguments and one level of lists in them."""
    tensors = []
    for value in args:
        if isinstance(value, torch.Tensor):
            tensors.append(value)
        elif isinstance(value, tuple | list):
            tensors += [item for item in value if isinstance(item, torch.Tensor)]
    return tensors


def spread(values: Sequence[int], axes: int) -> tuple[int, ...]:
    """Return one value an axis: torch allows one for all."""
    return tuple(values) * axes if len(values) == 1 else tuple(values)


def windowed(field: Field, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]) -> Field:
    """Widen a field by a window along each axis: r + (k - 1) d j, and the jump grows by the stride.

    Windows and images meet at their last axis: a window of more axes begins with channels (local response norm).
    """
    axes = len(kernel)
    kernel, stride, dilation = tuple(kernel), spread(stride, axes), spread(dilation, axes)
    if axes > len(field.jumps):
        kernel, stride, dilation = (values[axes - len(field.jumps) :] for values in (kernel, stride, dilation))
    field = field.along(len(kernel))
    sizes = field.sizes and tuple(
        size + (side - 1) * step * jump
        for size, side, step, jump in zip(field.sizes, kernel, dilation, field.jumps, strict=True)
    )
    return Field(sizes, tuple(jump * step for jump, step in zip(field.jumps, stride, strict=True)))
