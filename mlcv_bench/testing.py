"""Checks for other people's test suites: a network's budget, two networks as one function, none slower than before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlcv_bench.api.costs import CountedCost, count
from mlcv_bench.equivalence.study import assert_equivalent
from mlcv_bench.timing.single import assert_not_slower

if TYPE_CHECKING:
    from torch import nn

__all__ = ["assert_cost", "assert_equivalent", "assert_not_slower"]


def assert_cost(
    model: str | nn.Module,
    *,
    max_params: float | None = None,
    max_macs: float | None = None,
    max_activations: float | None = None,
    max_peak_activation_bytes: float | None = None,
    input: tuple[int, ...] | None = None,  # noqa: A002 - the word of the command line
    batch: int = 1,
) -> CountedCost:
    """Fail a test when a network costs more than it may.

    Args:
        model: a network, which is left exactly as it is, or the name of one.
        max_params: parameters, at most; 25.6e6 reads well.
        max_macs: multiply-accumulates of convolutions, linear layers and matrix products of the batch, at most.
        max_activations: elements in the outputs of those, at most.
        max_peak_activation_bytes: bytes of tensors alive at once in inference, at most.
        input: shape of one image; by default the architecture's own, 3x224x224 for a module.
        batch: images in the batch.

    Returns:
        The cost, for further checks.

    Raises:
        AssertionError: a limit is exceeded; the message gives the excess of every one.
        ValueError: no limit is given, so that the check could not fail.
        UsageError: the network cannot take the input.

    """
    __tracebackhide__ = True
    limits = {
        "params": max_params,
        "macs": max_macs,
        "activations": max_activations,
        "peak_activation_bytes": max_peak_activation_bytes,
    }
    if all(limit is None for limit in limits.values()):
        msg = f"assert_cost checks nothing without a limit; give one of {', '.join(f'max_{name}' for name in limits)}"
        raise ValueError(msg)
    cost = count(model, input=input, batch=batch)
    over = [
        f"{getattr(cost, name):,} {name}, max_{name} is {limit:,.0f} ({getattr(cost, name) / limit - 1:+.2%})"
        if limit
        else f"{getattr(cost, name):,} {name}, max_{name} is {limit}"
        for name, limit in limits.items()
        if limit is not None and getattr(cost, name) > limit
    ]
    if over:
        msg = f"{cost.architecture} costs too much at {cost.input}, batch {batch}: {'; '.join(over)}"
        raise AssertionError(msg)
    return cost
