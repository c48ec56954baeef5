"""`verify`: whether formulations are one function."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from mlcv_bench.api.calls import check_subject, items, public, word
from mlcv_bench.api.results import Reported
from mlcv_bench.architectures.inputs import InputLike, read_inputs
from mlcv_bench.equivalence.request import DEFAULT_CHANNELS, DEFAULT_DTYPES, DEFAULT_GROUPS, MODES, VerifyRequest
from mlcv_bench.equivalence.study import Verification, examine
from mlcv_bench.report.equivalences import verification_report

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mlcv_bench.equivalence.transplants import Transplant
    from mlcv_bench.records import Report


class FinishedVerification(Reported, Verification):
    """What was compared: `.records`, `.passed`, `.failures`, `.controls`."""

    def report(self) -> Report:
        """Return the comparisons as a report: equivalences, negative controls, what failed, costs."""
        return verification_report(self)


@public
def verify(  # noqa: PLR0913 - every option of the command, by its name
    *subjects: str | nn.Module | Callable[..., nn.Module],
    groups: int | Sequence[int] = DEFAULT_GROUPS,
    widths: int | Sequence[int] = (),
    channels: int | Sequence[int] = DEFAULT_CHANNELS,
    dtypes: str | torch.dtype | Sequence[str | torch.dtype] = DEFAULT_DTYPES,
    modes: str | Sequence[str] = MODES,
    device: str | torch.device = "cpu",
    seed: int = 0,
    trials: int = 1,
    input: InputLike | None = None,  # noqa: A002 - the word of the command line
    tensors: str | Sequence[str] = (),
    transplant: str | Transplant | None = None,
    weights: str | Path | Sequence[str | Path] = (),
    keep_weights: bool = False,
    costs: bool = True,
    progress: Callable[[str], None] = lambda _line: None,
) -> FinishedVerification:
    """Prove numerically that formulations are one function.

    Args:
        subjects: names of `SUBJECTS`, `all`, or two networks to compare with each other: modules, functions or classes
            that build them, names.
        groups: the notes' G, for the subjects that have one.
        widths: the notes' d; by default the paper's for each G.
        channels: the block's channels.
        dtypes: types of the checks to rounding, in any order; the exact checks are always in float64.
        modes: train, eval or both, for the subjects that have modes.
        device: where to compute.
        seed: of all random numbers; the same seed gives the same records.
        trials: how many seeds, counted up from `seed`.
        input: what two modules take: shape of one input, without the batch axis, or example tensors as in `count`:
            whole numbers are used as they are, real ones drawn.
        tensors: as in `count`.
        transplant: for two modules: turns a state dict of the first into one of the second.
        weights: for two modules: files of weights, the first module's or both's; with one, the second takes them over.
        keep_weights: for two modules: none is drawn, and without a transplant each is compared with its own.
        costs: measure what the three forms cost, where `resnext` is among the subjects.
        progress: is given a line before every case.

    Returns:
        All records, and the costs of the forms.

    Raises:
        UsageError: an unknown subject or type, a number out of range, modules that do not fit each other or the input.

    """
    shape, named = read_inputs(input, items(tensors))
    request = VerifyRequest(
        subjects,
        word(device),
        tuple(map(word, items(dtypes))),
        seed,
        items(groups),
        items(widths),
        items(channels),
        items(modes),
        trials,
        shape,
        transplant,
        tuple(map(Path, items(weights))),
        keep_weights,
        named,
    )
    for subject in subjects:
        check_subject(subject)
    request.check()
    request.check_used()
    return FinishedVerification.of(examine(request, costs=costs, progress=progress))
