"""Several modules that should be one function: the same evidence for each, held against the first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mlcv_bench.equivalence import draws
from mlcv_bench.equivalence.comparison import Evidence, Showing, compare, observe
from mlcv_bench.equivalence.controls import control
from mlcv_bench.equivalence.exact import Ledger, check_draws, proved_exactly
from mlcv_bench.equivalence.request import VerifyRequest
from mlcv_bench.equivalence.subject import Finding
from mlcv_bench.equivalence.tolerance import longest_reduction, tolerance_of, type_of

Mapper = Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]
Fill = Callable[[nn.Module, torch.Generator], None]


@dataclass(frozen=True, slots=True)
class Side:
    """One formulation; `to_reference` brings its weights (so its gradients) into the first side's layout."""

    name: str
    module: nn.Module
    to_reference: Mapper | None = None


@dataclass(frozen=True, slots=True)
class Fault:
    """A deliberate mistake in side number `side`, made inside `with make(module, dtype, exact)`."""

    name: str
    quantity: str
    side: int
    make: Callable[[Any, str, bool], AbstractContextManager[None]]


def examine(
    make: Callable[[Fill, torch.Generator], Sequence[Side]],
    image: Sequence[int],
    request: VerifyRequest,
    key: str,
    *,
    faults: Sequence[Fault] = (),
    mode: str | None = None,
    fill_whole: Fill = draws.fill_whole,
) -> Iterator[Finding]:
    """Hold every side against the first, exactly and in each type; then make the mistakes. For modules without ReLU.

    Args:
        make: builds the sides in float64 on the CPU from the weights that the fill gives to the first one.
        image: shape of the input batch.
        request: the user's choice of device, types and seed.
        key: what the random numbers depend on besides the seed.
        faults: the deliberate mistakes.
        mode: eval where batch norm's statistics are used; None where modes do not matter.
        fill_whole: gives the first side whole numbers.

    """
    source = partial(draws.generator, request.seed, key)
    whole = make(fill_whole, source("whole weights"))
    drawn = make(draws.fill_normal, source("weights"))
    yield from proved_exactly(_checked("exact", whole, image, request, key, faults, mode))
    for dtype in request.dtypes:
        yield from _checked(dtype, drawn, image, request, key, faults, mode)


def _checked(
    check: str,
    sides: Sequence[Side],
    image: Sequence[int],
    request: VerifyRequest,
    key: str,
    faults: Sequence[Fault],
    mode: str | None,
) -> Iterator[Finding]:
    exact = check == "exact"
    dtype = "float64" if exact else check
    for side in sides:
        side.module.to(request.device, type_of(dtype))
    taken = _image(image, request, key, dtype, exact=exact)
    look = partial(observe, image=taken, cotangent=partial(_cotangent, request, key, exact=exact), train=False)
    ledger = Ledger() if exact else None
    if exact:
        check_draws(taken, sides[0].module.parameters())
    evidence = [look(side.module, watch=ledger) for side in sides]
    tolerance = 0.0 if exact else tolerance_of(dtype, longest_reduction(sides[0].module))
    bound = ledger.certify() if ledger is not None else None
    for side, shown in zip(sides[1:], evidence[1:], strict=True):
        yield from compare(
            f"{sides[0].name} = {side.name}",
            evidence[0],
            shown,
            tolerance=tolerance,
            dtype=dtype,
            mode=mode,
            map_gradients=side.to_reference,
            largest_sum=bound,
        )
    for fault in faults:
        side = sides[fault.side]
        with fault.make(side.module, dtype, exact):
            wrong = look(side.module)
        right, mistaken = quantity_of(fault.quantity, evidence[0], wrong, side.to_reference)
        yield control(fault.name, fault.quantity, right, mistaken, tolerance=tolerance, dtype=dtype, mode=mode)


def quantity_of(
    quantity: str, right: Evidence, wrong: Evidence, to_reference: Mapper | None
) -> tuple[Showing, Showing]:
    """Return the two showings of one quantity, the second in the first's layout."""
    if quantity == "output":
        return right.output, wrong.output
    if quantity == "weight gradients" and to_reference is not None:
        return right.weight_gradients, to_reference(wrong.weight_gradients)
    msg = f"{quantity} cannot be compared here"
    raise ValueError(msg)


def _image(shape: Sequence[int], request: VerifyRequest, key: str, dtype: str, *, exact: bool) -> Tensor:
    source = draws.generator(request.seed, key, "image")
    values = draws.whole(shape, draws.INPUT_RANGE, source) if exact else draws.normal(shape, source)
    return values.to(request.device, type_of(dtype))


def _cotangent(request: VerifyRequest, key: str, shape: Sequence[int], *, exact: bool) -> Tensor:
    source = draws.generator(request.seed, key, "cotangent")
    return draws.whole(shape, draws.COTANGENT_RANGE, source) if exact else draws.normal(shape, source)
