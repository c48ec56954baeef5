"""`assert_equivalent`: the machinery of `verify` as one line of somebody's own test."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from mlcv_bench.equivalence.request import DEFAULT_DTYPES, MODES
from mlcv_bench.equivalence.states import Transplant
from mlcv_bench.equivalence.study import Equivalence, Verification, verify

SHOWN = 5


def assert_equivalent(  # noqa: PLR0913 - what `verify` asks of two networks, by its name
    first: nn.Module,
    second: nn.Module,
    input: Sequence[int],  # noqa: A002 - the word of the command line
    *,
    transplant: Transplant | None = None,
    dtypes: Sequence[str] = DEFAULT_DTYPES,
    modes: Sequence[str] = MODES,
    device: str = "cpu",
    seed: int = 0,
    keep_weights: bool = False,
) -> Verification:
    """Fail unless two modules are one function: outputs, gradients, statistics, in training and evaluation.

    Both are copied; the first gets random weights, which the second takes over, unless they are to be kept.

    Args:
        first: the reference.
        second: the reformulation.
        input: shape of one input, without the batch axis.
        transplant: turns a state dict of the first into one of the second; by default they share their keys.
        dtypes: types of the checks to rounding.
        modes: train, eval or both: a batch norm that is folded is the same at inference alone.
        device: where to compute.
        seed: of all random numbers.
        keep_weights: draw none; without a transplant each module is compared with its own.

    Returns:
        All that was compared.

    Raises:
        AssertionError: something differs by more than rounding, or a nudged weight went unnoticed.
        UsageError: the first module does not take the input, or the second not the first's state.

    """
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
        lines = [sentence(record) for record in found.failures] or ["nothing was compared"]
        more = [f"and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
        if found.agreeing_mode is not None:
            more.append(
                f"they agree in mode {found.agreeing_mode}: modes=('{found.agreeing_mode}',) compares that alone"
            )
        msg = "\n".join(["the two modules are not equivalent:", *lines[:SHOWN], *more])
        raise AssertionError(msg)
    return found


def sentence(record: Equivalence) -> str:
    """Say in one line what a failed record found."""
    if record.status == "failed":
        return f"{record.case}: {record.reason}"
    where = " ".join(part for part in (record.dtype, record.mode) if part)
    error = f"{record.max_rel_error:.3g}" if record.max_rel_error is not None else "?"
    limit = f"{record.tolerance:.3g}" if record.tolerance else "equality"
    reason = f" ({record.reason})" if record.reason else ""
    return f"{record.case}: {record.quantity}, {where}: relative difference {error}, allowed {limit}{reason}"
