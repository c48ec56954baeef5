"""Networks that take several tensors, seen as functions of one table of real numbers, as all others are."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from mlcv_bench.architectures.inputs import drawn, tables_of, whole_numbers
from mlcv_bench.architectures.request import NamedInput, Request
from mlcv_bench.equivalence.randomness import generator
from mlcv_bench.torch_private import without_modes


def pack(networks: Sequence[nn.Module], given: Request, seed: int) -> tuple[int, ...]:
    """Let networks take one table (batch, n), a row for each time that the named tensors are repeated.

    A row holds the real numbers of all tensors, one after the other. Whole numbers are those of the example, or drawn
    by the seed, the same for all networks. All are bound by the names that the first network has.

    Returns:
        The shape of one row.

    """
    widths = [math.prod(item.shape) if is_real(item) else 0 for item in given.tensors]
    # The real numbers are the table's, also where Python gave an example.
    wanted = replace(
        given, tensors=tuple(replace(item, value=None) if is_real(item) else item for item in given.tensors)
    )

    def unpack(network: nn.Module, args: tuple[Tensor], _: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        del network
        (table,) = args
        ends = list(itertools.accumulate(widths))
        parts = iter([table[:, end - width : end] for end, width in zip(ends, widths, strict=True) if width])
        source = generator(seed, "whole numbers")

        def draw(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
            if not dtype.is_floating_point:
                return whole_numbers(networks[0], shape, dtype, source)
            part = next(parts)
            return part.reshape(shape) if shape else part[0, 0]

        with without_modes():  # which watch what the networks compute
            inputs = drawn(wanted, networks[0], len(table), draw).map(lambda tensor: tensor.to(table.device))
        return tuple(inputs.positional), dict(inputs.named)

    for network in networks:
        network.register_forward_pre_hook(unpack, prepend=True, with_kwargs=True)
    return (sum(widths),)


def is_real(item: NamedInput) -> bool:
    """Tell whether a tensor holds real numbers."""
    found: bool = getattr(torch, item.dtype).is_floating_point
    return found


def constants(network: nn.Module, given: Request) -> list[str]:
    """Return the tensors of whole numbers that are 0 throughout, as nothing says which numbers a network takes."""
    unknown = not tables_of(network)
    return [
        item.name
        for item in given.tensors
        if item.value is None and not is_real(item) and (unknown or item.dtype == "bool")
    ]
