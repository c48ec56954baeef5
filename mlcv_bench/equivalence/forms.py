"""What the three forms of one block cost: the same function and nearly the same MACs, at very different speeds."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from mlcv_bench.architectures.resnext import Form, ResNeXtBlock
from mlcv_bench.counting.cost import count
from mlcv_bench.equivalence.exact import one_thread
from mlcv_bench.equivalence.request import VerifyRequest
from mlcv_bench.equivalence.resnext import FORMS
from mlcv_bench.timing.clock import Clock, clock_for

SIDE = 56
"""Of the map: that of the first stage at 224x224."""
ROUNDS = 7
FLOAT32_BYTES = 4


@dataclass(frozen=True, slots=True)
class FormCost:
    """What one form of a block without projection costs for one image, in float32 at inference.

    `activation_bytes` are those of its convolutions' outputs, `peak_activation_bytes` the most alive at once.
    `samples_s` are the seconds of each forward pass, taken in turn with the other forms; the median is theirs.
    """

    groups: int
    width: int
    channels: int
    form: Form
    params: int
    macs: int
    operators: int
    activation_bytes: int
    peak_activation_bytes: int
    median_s: float
    min_s: float
    samples_s: tuple[float, ...]


def form_costs(request: VerifyRequest, *, rounds: int = ROUNDS, clock: Clock | None = None) -> Iterator[FormCost]:
    """Yield the cost of every form for each C, G and d; all forms of one block are timed in turn.

    Args:
        request: the user's G, d, channels and device.
        rounds: forward passes of each form, after one to warm up.
        clock: by default the device's.

    """
    clock = clock or clock_for(request.device)
    for channels in request.channels:
        for groups, width in request.branchings():
            yield from _of_one_block(groups, width, channels, request.device, rounds, clock)


def _of_one_block(groups: int, width: int, channels: int, device: str, rounds: int, clock: Clock) -> Iterator[FormCost]:
    blocks = {
        form: ResNeXtBlock(channels, channels, groups=groups, width=width, form=form).eval().to(device)
        for form in FORMS
    }
    image = torch.randn(1, channels, SIDE, SIDE, generator=torch.Generator().manual_seed(0)).to(device)
    samples: dict[Form, list[float]] = {form: [] for form in FORMS}
    with one_thread(), torch.inference_mode():
        for form in FORMS:
            _seconds(blocks[form], image, clock)
        for turn in range(rounds):
            # There and back again, so that whatever slows down or speeds up over time hits all forms alike.
            for form in FORMS if turn % 2 == 0 else FORMS[::-1]:
                samples[form].append(_seconds(blocks[form], image, clock))
    for form in FORMS:
        cost = count(blocks[form], input=(channels, SIDE, SIDE))
        yield FormCost(
            groups,
            width,
            channels,
            form,
            params=cost.params,
            macs=cost.macs,
            operators=cost.operators,
            activation_bytes=FLOAT32_BYTES * cost.activations,
            peak_activation_bytes=cost.peak_activation_bytes,
            median_s=statistics.median(samples[form]),
            min_s=min(samples[form]),
            samples_s=tuple(samples[form]),
        )


def _seconds(block: nn.Module, image: torch.Tensor, clock: Clock) -> float:
    clock.synchronise()
    start = clock.wall_ns()
    block(image)
    clock.synchronise()
    return (clock.wall_ns() - start) / 1e9
