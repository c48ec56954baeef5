"""Receptive fields: how many input pixels along one axis an activation can see, followed through the operators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence


class Field(NamedTuple):
    """Receptive field along the taller axis, in input pixels; `size` None is the whole image."""

    size: int | None
    jump: int


EVERYTHING = Field(None, 1)
GLOBAL = ("mm", "bmm", "addmm", "linear", "mean", "sum", "amax", "_softmax", "_safe_softmax", "flip", "roll")
ADAPTIVE = ("_adaptive_avg_pool2d", "adaptive_max_pool2d", "_adaptive_avg_pool1d", "_adaptive_avg_pool3d")
POOLS = ("max_pool2d_with_indices", "avg_pool2d")


class ReceptiveFields:
    """Remembers each tensor's field on the tensor itself."""

    def start(self, image: torch.Tensor) -> None:
        """Let every element of the input see itself alone."""
        remember(image, Field(1, 1))

    def size_of(self, tensor: torch.Tensor | None) -> int | None:
        """Return the side of the field in input pixels, None when it is the whole image or unknown."""
        return recall(tensor).size if tensor is not None else None

    def follow(self, name: str, args: Sequence[Any], out: Any) -> None:  # noqa: ANN401 - operators return anything
        """Give an operator's outputs the field that its inputs and its window make."""
        operator = name.removeprefix("aten::")
        field = widest(args)
        if operator == "convolution":
            field = EVERYTHING if args[6] else windowed(field, args[1].shape[2:], args[3], args[5])
        elif operator in POOLS:
            kernel = args[1]
            stride = args[2] if len(args) > 2 and args[2] else kernel  # noqa: PLR2004 - input, kernel, stride
            field = windowed(field, kernel, stride, (1,))
        elif operator in GLOBAL:
            field = EVERYTHING
        elif operator in ADAPTIVE:
            field = field if tuple(args[0].shape) == tuple(shape(out)) else EVERYTHING
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
    return getattr(tensor, "mlcv_receptive_field", Field(0, 1))


def widest(args: Sequence[Any]) -> Field:
    """Return the widest field among the arguments, with the coarsest jump."""
    found = [recall(tensor) for tensor in flat(args)]
    jump = max((field.jump for field in found), default=1)
    if any(field.size is None for field in found):
        return Field(None, jump)
    return Field(max((field.size or 0 for field in found), default=0), jump)


def flat(args: Sequence[Any]) -> list[torch.Tensor]:
    """Return the tensors among the arguments and one level of lists in them."""
    tensors = []
    for value in args:
        if isinstance(value, torch.Tensor):
            tensors.append(value)
        elif isinstance(value, tuple | list):
            tensors += [item for item in value if isinstance(item, torch.Tensor)]
    return tensors


def windowed(field: Field, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]) -> Field:
    """Widen a field by a window: r + (k - 1) d j, and the jump grows by the stride; the larger axis counts."""
    reach = max(size - 1 for size in kernel) * max(dilation)
    size = None if field.size is None else field.size + reach * field.jump
    return Field(size, field.jump * max(stride))
