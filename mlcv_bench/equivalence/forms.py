"""What the three forms of one block cost: the same function and nearly the same MACs, at very different speeds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import nn

from mlcv_bench.architectures.resnext import Form, ResNeXtBlock
from mlcv_bench.counting.cost import count
from mlcv_bench.counting.published import paper_width
from mlcv_bench.equivalence.request import VerifyRequest

FORMS: tuple[Form, ...] = ("branches", "concat", "grouped")
SIDE = 56
"""Of the map: that of the first stage at 224x224."""
ROUNDS = 7
FLOAT32_BYTES = 4


@dataclass(frozen=True, slots=True)
class FormCost:
    """What one form of a block without projection costs for one image, in float32 at inference.

    `activation_bytes` are those that its convolutions put out, `peak_activation_bytes` the most alive at once.
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


def form_costs(
    request: VerifyRequest, *, rounds: int = ROUNDS, clock: Callable[[], int] = time.perf_counter_ns
) -> Iterator[FormCost]:
    """Yield the cost of every form for each G, d and C, G by G; all forms of one G are timed in turn.

    Args:
        request: the user's G, d, channels and device.
        rounds: forward passes of each form, after one to warm up.
        clock: nanoseconds, from any start.

    """
    for channels in request.channels:
        for groups in request.groups:
            for width in request.widths or (paper_width(groups),):
                yield from _of_one_block(groups, width, channels, request.device, rounds, clock)


def _of_one_block(
    groups: int, width: int, channels: int, device: str, rounds: int, clock: Callable[[], int]
) -> Iterator[FormCost]:
    blocks = {
        form: ResNeXtBlock(channels, channels, groups=groups, width=width, form=form).eval().to(device)
        for form in FORMS
    }
    image = torch.randn(1, channels, SIDE, SIDE, generator=torch.Generator().manual_seed(0)).to(device)
    samples: dict[Form, list[float]] = {form: [] for form in FORMS}
    with torch.inference_mode():
        for form in FORMS:
            _seconds(blocks[form], image, clock)
        for turn in range(rounds):
            # There and back again, so that whatever slows down or speeds up over time hits all forms alike.
            for form in FORMS if turn % 2 == 0 else FORMS[::-1]:
                samples[form].append(_seconds(blocks[form], image, clock))
    for form in FORMS:
        cost = count(blocks[form], input=(channels, SIDE, SIDE))
        ordered = sorted(samples[form])
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
            median_s=(ordered[(rounds - 1) // 2] + ordered[rounds // 2]) / 2,
            min_s=ordered[0],
            samples_s=tuple(samples[form]),
        )


def _seconds(block: nn.Module, image: torch.Tensor, clock: Callable[[], int]) -> float:
    if image.device.type == "cuda":
        torch.cuda.synchronize(image.device)
    start = clock()
    block(image)
    if image.device.type == "cuda":
        torch.cuda.synchronize(image.device)
    return (clock() - start) / 1e9
