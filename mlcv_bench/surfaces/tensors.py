"""A surface's value and gradient on many points at once, as float64 tensors on any device."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mlcv_bench.expression import function_from
from mlcv_bench.functions import TABLE
from mlcv_bench.surfaces.surface import write_gradient, write_value

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlcv_bench.surfaces.surface import Surface


class SurfaceTensors:
    """The functions of a surface, their arithmetic in the order in which floats do it.

    Points have the shape [runs, coordinates]. A batch holds, for each run, the numbers of its samples, [runs, samples];
    without one, a finite sum is the mean over all of its samples.
    """

    def __init__(self, surface: Surface, device: str) -> None:
        """Write and compile the functions; a millisecond."""
        total = surface.finite_sum
        self._columns: list[Tensor] = []
        self._of_one = self._of_all = _written(surface) if surface.expressions is not None else None
        if total is not None:
            columns = zip(*total.samples, strict=True)
            self._columns = [torch.tensor(column, dtype=torch.float64, device=device) for column in columns]
            # One sample's term is a surface of its own, whose columns are parameters that change.
            parameters = {**surface.parameters, **dict.fromkeys(total.columns, 0.0)}
            term = dataclasses.replace(surface, expressions=total.terms, parameters=parameters, finite_sum=None)
            self._of_one = _written(term, total.columns)

    def value(self, points: Tensor, batch: Tensor | None = None) -> Tensor:
        """Return the value at every point, [runs]."""
        (value,) = self._evaluated(points, batch, 0)
        return value

    def gradient(self, points: Tensor, batch: Tensor | None = None) -> Tensor:
        """Return the gradient at every point, [runs, coordinates]."""
        return torch.stack(self._evaluated(points, batch, 1), dim=1)

    def _evaluated(self, points: Tensor, batch: Tensor | None, which: int) -> list[Tensor]:
        """Return the value, or each coordinate of the gradient, [runs] each."""
        if batch is None and self._of_all is not None:
            found = self._of_all[which](*points.unbind(1))
            return [_filled(part, points[:, 0]) for part in found]
        columns = [column[None] if batch is None else column[batch] for column in self._columns]
        size = columns[0].shape[1]
        spread = points[:, :, None].expand(-1, -1, size).unbind(1)
        assert self._of_one is not None  # noqa: S101 - a surface has expressions or samples
        # Summed one after the other, as floats are.
        return [_filled(part, spread[0]).cumsum(dim=1)[:, -1] / size for part in self._of_one[which](*spread, *columns)]


def _written(surface: Surface, columns: tuple[str, ...] = ()) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return functions of coordinates and columns: the value, as a tuple of one, and the gradient."""
    arguments = [*(f"x{i}" for i in range(surface.dimension)), *(f"p_{column}" for column in columns)]
    slopes = ", ".join(f"g{i}" for i in range(surface.dimension))
    namespace = {**TABLE, **surface.constants}
    value = [*write_value(surface, "x", "f"), "return (f,)"]
    gradient = [*write_gradient(surface, "x", "g"), f"return ({slopes},)"]
    return function_from("value", arguments, value, namespace), function_from(
        "gradient", arguments, gradient, namespace
    )


def _filled(part: Any, like: Tensor) -> Tensor:  # noqa: ANN401 - a tensor, or a number where it is the same everywhere
    return part if isinstance(part, Tensor) else torch.full_like(like, part)
