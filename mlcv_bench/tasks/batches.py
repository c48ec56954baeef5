"""An epoch as the notes define it: shuffle, then U = ceil(N / B) mini-batches, the last one short."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from mlcv_bench.tasks.datasets import ORDER, generator


def steps_per_epoch(count: int, batch_size: int) -> int:
    """Return the notes' U = ceil(N / B) of section 1.1.

    The notes' loop runs u = 0, ..., U, one step too many: its last batch would be empty. Here u = 0, ..., U - 1.
    """
    return math.ceil(count / batch_size)


def epoch_batches(count: int, batch_size: int, seed: int, epoch: int) -> Iterator[Tensor]:
    """Yield the samples of each step of one epoch: int64 indices below `count`, each exactly once.

    Args:
        count: training samples, the notes' N.
        batch_size: the notes' B; the last batch has N - B (U - 1) samples.
        seed: with the epoch's number, decides the order, alike for every optimizer.
        epoch: number of the epoch, from 0 on.

    """
    order = torch.randperm(count, generator=generator(seed, ORDER, epoch))
    for u in range(steps_per_epoch(count, batch_size)):
        yield order[batch_size * u : batch_size * (u + 1)]
