"""What the claims that train networks share: runs on real images with paired seeds, and the interval of a difference.

Seed s means the same split, order of images and generator of first weights for both sides of a pair.
"""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING

from mlcv_bench.architectures.resnet_cifar import resnext_cifar
from mlcv_bench.racing.jobs import Job, Setup
from mlcv_bench.racing.training import run_job
from mlcv_bench.surfaces.randomness import HELD_OUT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import nn

    from mlcv_bench.racing.jobs import Epoch

TASK, BATCH = "digits", 64
STUDENT = {2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 7: 2.365, 9: 2.262}
"""The 97.5% quantile of Student's t by degrees of freedom."""


def last_epochs(model: str, optimizer: str, rate: float, *, epochs: int, seeds: Sequence[int]) -> list[Epoch]:
    """Train a model on the digits, once a seed, and return the last epoch of each run."""
    setup = Setup(TASK, model, BATCH, epochs, target=1.0)
    job = Job(setup, optimizer, (), (rate,), tuple(seeds), "race", batched=False)
    return [run.epochs[-1] for run in run_job(job)]


def tuned_rate(
    model: str, optimizer: str, rates: Sequence[float], value: Callable[[Epoch], float], *, epochs: int, seeds: int
) -> float:
    """Return the rate whose mean value is the smallest, on seeds that no comparison uses."""
    held_out = [HELD_OUT + seed for seed in range(seeds)]
    means = {
        rate: statistics.fmean(
            value(epoch) for epoch in last_epochs(model, optimizer, rate, epochs=epochs, seeds=held_out)
        )
        for rate in rates
    }
    return min(means, key=lambda rate: means[rate])


def train_loss(epoch: Epoch) -> float:
    """Return the mean loss of the epoch's steps; one that is not finite counts as infinite."""
    return epoch.train_loss if epoch.train_loss is not None else math.inf


def validation_loss(epoch: Epoch) -> float:
    """Return the loss on the images that only tuning looks at; one that is not finite counts as infinite."""
    return epoch.val_loss if epoch.val_loss is not None else math.inf


def test_error(epoch: Epoch) -> float:
    """Return the share of test images that are classified wrongly."""
    return 1.0 - (epoch.test_accuracy or 0.0)


def paired(first: Sequence[float], second: Sequence[float]) -> tuple[float, tuple[float, float]]:
    """Return the mean of first - second over pairs, and its 95% interval by Student's t."""
    gaps = [a - b for a, b in zip(first, second, strict=True)]
    mean = statistics.fmean(gaps)
    half = STUDENT[len(gaps) - 1] * statistics.stdev(gaps) / math.sqrt(len(gaps))
    return mean, (mean - half, mean + half)


def resnext_1x64d(num_classes: int = 10) -> nn.Module:
    """Build one block a stage with one branch: a bottleneck network, on one channel of 8x8."""
    return resnext_cifar(groups=1, width=64, blocks=1, num_classes=num_classes, in_channels=1)


def resnext_16x7d(num_classes: int = 10) -> nn.Module:
    """Build the same with 16 branches, as wide as the cost of the whole network allows.

    The notes' equation matches a block within a stage; here every block begins one, so that d is 7 and not its root.
    """
    return resnext_cifar(groups=16, width=7, blocks=1, num_classes=num_classes, in_channels=1)
