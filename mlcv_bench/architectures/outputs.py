"""What a network returns, part by part: tensors, numbers, texts, each under the name or the position it has."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor


def parts_of(value: Any) -> dict[str, Any]:  # noqa: ANN401 - whatever a network returns
    """Return every part of a network's output by where it stands: `output`, `output['logits']`, `output[0][1]`.

    Values of mappings stand under their keys, those of named tuples, dataclasses and plain objects under their names,
    those of tuples and lists under their positions; so neither the order of names nor the kind of container is part of
    the output. Sparse, quantised and nested tensors come as ordinary ones, arrays as tensors. What holds nothing is a
    part itself: an empty tuple.
    """
    return dict(_parts(value, "output", ()))


def tensors_in(value: Any) -> list[Tensor]:  # noqa: ANN401 - as above
    """Return the tensors among the parts of a network's output, in their order there."""
    return [part for part in parts_of(value).values() if isinstance(part, Tensor)]


def _parts(value: Any, where: str, above: tuple[int, ...]) -> Iterator[tuple[str, Any]]:  # noqa: ANN401 - as above
    if isinstance(value, Tensor) and not value.is_nested:
        yield where, _ordinary(value)
        return
    if isinstance(value, np.ndarray | np.generic):
        value = torch.tensor(value) if value.dtype.kind in "biufc" else value.tolist()
        yield from _parts(value, where, above)
        return
    inner = _inner(value)
    if inner is None or id(value) in above:
        yield where, value
    elif not inner:
        yield where, ()
    else:
        for name, part in inner.items():
            yield from _parts(part, f"{where}[{name!r}]", (*above, id(value)))


def _ordinary(tensor: Tensor) -> Tensor:
    if tensor.is_quantized:
        return tensor.dequantize()
    return tensor if tensor.layout == torch.strided else tensor.to_dense()


def _inner(value: Any) -> Mapping[Any, Any] | None:  # noqa: ANN401 - as above
    """Return what a container holds by name or position; None for what is compared as a whole."""
    if isinstance(value, Mapping):
        return value
    if isinstance(value, Tensor):  # a nested one
        return dict(enumerate(value.unbind()))
    if isinstance(value, tuple | list):
        return dict(zip(getattr(value, "_fields", range(len(value))), value, strict=True))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    # An object's own equality would ask for the truth of a tensor of truths.
    is_code = isinstance(value, type) or callable(value)
    return None if is_code else getattr(value, "__dict__", None) or None
