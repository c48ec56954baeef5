"""Checks for other people's test suites: a network's budget, two networks as one function, none slower than before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlcv_bench.api.calls import public
from mlcv_bench.api.costs import CountedCost, count
from mlcv_bench.api.verification import FinishedVerification, verify
from mlcv_bench.equivalence.request import DEFAULT_DTYPES, MODES
from mlcv_bench.timing import single

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import torch
    from torch import nn

    from mlcv_bench.architectures.inputs import InputLike
    from mlcv_bench.equivalence.study import Equivalence
    from mlcv_bench.equivalence.transplants import Transplant

__all__ = ["assert_cost", "assert_equivalent", "assert_not_slower"]

assert_not_slower = public(single.assert_not_slower)


@public
def assert_cost(
    model: str | nn.Module | Callable[..., nn.Module],
    *,
    max_params: float | None = None,
    max_macs: float | None = None,
    max_activations: float | None = None,
    max_peak_activation_bytes: float | None = None,
    input: InputLike | None = None,  # noqa: A002 - the word of the command line
    batch: int = 1,
) -> CountedCost:
    """Fail a test when a network costs more than it may.

    Args:
        model: a network, which is left exactly as it is, the name of one, or a function or class that builds it.
        max_params: parameters, at most; 25.6e6 reads well.
        max_macs: multiply-accumulates of convolutions, linear layers and matrix products of the batch, at most.
        max_activations: elements in the outputs of those, at most.
        max_peak_activation_bytes: bytes of tensors alive at once in inference, at most.
        input: as in `count`; by default the architecture's own, 3x224x224 for a module.
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


SHOWN = 5
"""Differences that the message of a failed check shows."""


@public
def assert_equivalent(  # noqa: PLR0913 - what `verify` asks of two networks, by its name
    first: str | nn.Module | Callable[..., nn.Module],
    second: str | nn.Module | Callable[..., nn.Module],
    input: InputLike | None = None,  # noqa: A002 - the word of the command line
    *,
    transplant: str | Transplant | None = None,
    dtypes: str | torch.dtype | Sequence[str | torch.dtype] = DEFAULT_DTYPES,
    modes: str | Sequence[str] = MODES,
    device: str | torch.device = "cpu",
    seed: int = 0,
    keep_weights: bool = False,
) -> FinishedVerification:
    """Fail unless two modules are one function: outputs, gradients, statistics, in training and evaluation.

    Modules are copied; the first gets random weights, which the second takes over, unless they are to be kept.

    Args:
        first: the reference.
        second: the reformulation.
        input: shape of one input, without the batch axis, or example tensors: whole numbers are used as they are, real
            ones drawn; by default that of the network with a name, or 3x224x224.
        transplant: turns a state dict of the first into one of the second; by default they share their keys.
        dtypes: types of the checks to rounding.
        modes: train, eval or both: a batch norm that is folded is the same at inference alone.
        device: where to compute.
        seed: of all random numbers.
        keep_weights: draw none; without a transplant each module is compared with its own.

    Returns:
        All that was compared.

    Raises:
        AssertionError: something differs by more than rounding, or a nudged weight was not detected.
        UsageError: the first module does not take the input, or the second not the first's state.

    """
    __tracebackhide__ = True
    found = verify(
        first,
        second,
        input=input,
        transplant=transplant,
        dtypes=dtypes,
        modes=modes,
        device=device,
        seed=seed,
        keep_weights=keep_weights,
        costs=False,
    )
    if not found.passed:
        lines = [difference(record) for record in found.failures] or ["nothing was compared"]
        more = [f"and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
        if found.agreeing_mode is not None:
            more.append(
                f"they agree in mode {found.agreeing_mode}: modes=('{found.agreeing_mode}',) compares that alone"
            )
        msg = "\n".join(["the two modules are not equivalent:", *lines[:SHOWN], *more])
        raise AssertionError(msg)
    return found


def difference(record: Equivalence) -> str:
    """Say in one line what a failed record found."""
    if record.status == "failed":
        return f"{record.case}: {record.reason}"
    where = " ".join(part for part in (record.dtype, record.mode) if part)
    error = f"{record.max_rel_error:.3g}" if record.max_rel_error is not None else "?"
    limit = f"{record.tolerance:.3g}" if record.tolerance else "equality"
    reason = f" ({record.reason})" if record.reason else ""
    return f"{record.case}: {record.quantity}, {where}: relative difference {error}, allowed {limit}{reason}"
