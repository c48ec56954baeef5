"""What the claims that train networks share: short runs on real images, drawn by a seed from beginning to end.

A seed draws the split into training, validation and test images, the first weights, the order of every epoch and, where
settings are drawn, what is tried: alike for both sides of a comparison. Both sides tune inside every seed, on equal
budgets, so that the seeds are independent replicas and Student's interval over them covers everything that was drawn.

Everything runs in double precision on one thread. Processors differ by rounding, some 1e-16, which a run of a hundred
steps magnifies ten thousand times: in single precision that changes which digits are misread, here nothing that is
printed.
"""

from __future__ import annotations

import functools
import math
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from mlcv_bench.architectures.resnet import BasicBlock, CifarResNet
from mlcv_bench.architectures.resnext import ResNeXtBlock
from mlcv_bench.claims.quantity import Quantity
from mlcv_bench.claims.scene import Bars, Curves, Line, Panel
from mlcv_bench.optimizers.schedule import Schedule, ScheduleName
from mlcv_bench.random_streams import key, uniform
from mlcv_bench.statistics import CONFIDENCE, paired_difference
from mlcv_bench.task_race.training import OUT_OF_BOUNDS
from mlcv_bench.tasks.datasets import SPLIT, WEIGHTS, epoch_batches, generator, load, steps_per_epoch

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

REPLICAS = 10
"""Seeds of a comparison; Student's t at 9 degrees of freedom is 2.26, at 4 it would be 2.78."""
BATCH = 32
TRIALS_STREAM = 14
"""Stream of a seed: the settings that are tried (11 to 13 are the split, the order and the weights)."""

OptimizerName = Literal["momentum", "nesterov", "adam"]
Build = Callable[[], nn.Module]


@dataclass(frozen=True)
class TrainingSettings:
    """Settings of one run: an optimizer of torch.optim, the same four things of each.

    Attributes:
        optimizer: SGD with momentum or Nesterov's, or Adam.
        rate: the learning rate at the start.
        momentum: of Adam, beta1.
        decay: weight decay, added to the gradient.
        schedule: how the rate moves.

    """

    optimizer: OptimizerName
    rate: float
    momentum: float = 0.9
    decay: float = 0.0
    schedule: ScheduleName = "cosine"

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Return the optimizer of these parameters."""
        if self.optimizer == "adam":
            return torch.optim.Adam(parameters, self.rate, betas=(self.momentum, 0.999), weight_decay=self.decay)
        return torch.optim.SGD(
            parameters, self.rate, self.momentum, nesterov=self.optimizer == "nesterov", weight_decay=self.decay
        )


def drawn_trials(optimizer: OptimizerName, lowest: float, seed: int, count: int) -> list[TrainingSettings]:
    """Draw what is tried under a seed: the same points of the unit cube for every optimizer.

    The rate is log-uniform over the three decades from `lowest`, one trial in each of `count` equal parts; 1 - momentum
    over 0.03 to 0.3, weight decay over 1e-6 to 1e-2, and one schedule in two is constant, the other cosine.
    """
    found = []
    for number in range(count):
        place = [uniform(key(seed, TRIALS_STREAM, number), i) for i in range(4)]
        found.append(
            TrainingSettings(
                optimizer,
                rate=lowest * 10 ** (3 * (number + place[0]) / count),
                momentum=1 - 0.03 * 10 ** place[1],
                decay=10 ** (4 * place[2] - 6),
                schedule="cosine" if place[3] < 0.5 else "constant",  # noqa: PLR2004 - one in two
            )
        )
    return found


@dataclass(frozen=True)
class Sample:
    """The images of a run: of a task's so many train and so many validate, and all others test."""

    task: str
    training: int
    validating: int


DIGITS = Sample("digits", 384, 256)
MNIST = Sample("mnist-5k", 1024, 512)


@functools.cache
def images_of(task: str) -> tuple[Tensor, Tensor]:
    """Return all images of a task, (N, C, H, W) float64, and their labels; a race's test part is among them."""
    data = load(task)
    return torch.cat([data.images, data.test_images]).double(), torch.cat([data.labels, data.test_labels])


@dataclass(frozen=True)
class TrainedNetwork:
    """A network after training; `train_loss` is the mean over the last epoch's steps, infinite if it diverged."""

    network: nn.Module
    train_loss: float
    validation: Tensor
    test: Tensor
    sample: Sample = DIGITS

    @torch.no_grad()
    def _logits(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        images, labels = images_of(self.sample.task)
        logits: Tensor = self.network.eval()(images[chosen])
        return logits, labels[chosen]

    @property
    def validation_loss(self) -> float:
        """The loss on the images that tuning alone looks at; infinite if the run diverged."""
        if not math.isfinite(self.train_loss):
            return math.inf
        loss = float(functional.cross_entropy(*self._logits(self.validation)))
        return loss if math.isfinite(loss) else math.inf

    @property
    def test_error(self) -> float:
        """Percent of the test images that are misread."""
        logits, labels = self._logits(self.test)
        return 100 * float((logits.argmax(dim=1) != labels).double().mean())


def initial(build: Build, seed: int) -> nn.Module:
    """Build a network with the first weights of a seed, drawn in double precision, in training mode."""
    before = torch.get_default_dtype()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key(seed, WEIGHTS) >> 1)
        torch.set_default_dtype(torch.float64)
        try:
            return build().train()
        finally:
            torch.set_default_dtype(before)


def train(build: Build, trial: TrainingSettings, seed: int, epochs: int, sample: Sample = DIGITS) -> TrainedNetwork:
    """Train a network once."""
    torch.set_num_threads(1)
    images, labels = images_of(sample.task)
    order = torch.randperm(len(labels), generator=generator(seed, SPLIT))
    training, validation, test = torch.tensor_split(order, (sample.training, sample.training + sample.validating))
    network = initial(build, seed)
    optimizer = trial.build(network.parameters())
    steps = epochs * steps_per_epoch(sample.training, BATCH)
    schedule = Schedule(trial.schedule)
    losses: list[float] = []
    for epoch in range(epochs):
        for part in epoch_batches(sample.training, BATCH, seed, epoch):
            for group in optimizer.param_groups:
                group["lr"] = trial.rate * schedule.factor(len(losses) + 1, steps)
            optimizer.zero_grad()
            loss = functional.cross_entropy(network(images[training[part]]), labels[training[part]])
            loss.backward()  # type: ignore[no-untyped-call] # torch leaves it without types
            optimizer.step()
            losses.append(loss.item())
            if not losses[-1] <= OUT_OF_BOUNDS:
                return TrainedNetwork(network, math.inf, validation, test, sample)
    last = losses[-steps_per_epoch(sample.training, BATCH) :]
    return TrainedNetwork(network, math.fsum(last) / len(last), validation, test, sample)


def best(
    build: Build,
    trials: Sequence[TrainingSettings],
    seed: int,
    epochs: int,
    value: Callable[[TrainedNetwork], float],
    sample: Sample = DIGITS,
) -> TrainedNetwork:
    """Train every trial under one seed and return the run of the smallest value."""
    return min((train(build, trial, seed, epochs, sample) for trial in trials), key=value)


def gap(name: str, unit: str, one: Sequence[float], other: Sequence[float]) -> Quantity:
    """Return the mean of one - other over seeds as a quantity that a remark expects above 0, with its interval."""
    found = paired_difference(one, other)
    return Quantity.estimated(f"{name}, {len(one)} seeds", found, 0.0, relation=">", unit=unit)


def paired(unit: str, sides: Mapping[str, Sequence[float]], *gaps: Quantity) -> tuple[Panel, ...]:
    """Return the scene of a comparison: every seed's figures, and the mean differences with their intervals."""
    seeds = Curves("seed", unit, [Line(name, values, look="dots") for name, values in sides.items()])
    return seeds, Bars("mean difference, with its interval", {textwrap.fill(one.name, 28): one for one in gaps})


def in_words(difference: Quantity) -> str:
    """Say what the interval of a difference lets one say."""
    assert difference.interval is not None  # noqa: S101 - `gap` gives it one
    low, high = difference.interval
    words = {True: "is above 0", False: "is not above 0", None: "is not decided: 0 lies inside"}[difference.met]
    return f"{words} (mean {difference.measured:.2g}, {CONFIDENCE:.0%} interval {low:.2g} to {high:.2g})"


def small_residual(*, blocks: int, width: int, skip: bool = True, in_channels: int = 1) -> nn.Module:
    """Build a residual network of 6 x `blocks` + 2 layers for small images, or its plain twin."""
    block = partial(BasicBlock, shortcut_kind="padding", skip=skip)
    return CifarResNet(block, blocks, width, (width, 2 * width, 4 * width), in_channels=in_channels)


def small_resnext(*, groups: int, width: int) -> nn.Module:
    """Build a ResNeXt of one block a stage on 24, 48 and 96 channels; `width` is the notes' d in the first stage."""

    def block(in_channels: int, out_channels: int, stride: int) -> ResNeXtBlock:
        return ResNeXtBlock(in_channels, out_channels, stride, groups=groups, width=width * out_channels // 24)

    return CifarResNet(block, 1, 16, (24, 48, 96), in_channels=1)


def on_patches(build: Callable[..., nn.Module], **settings: Any) -> nn.Module:  # noqa: ANN401 - the builder's own
    """Build a network that sees MNIST's 28x28 pixels as 7x7 patches of 16 channels: all pixels, at 1/16 of the cost."""
    return nn.Sequential(nn.PixelUnshuffle(4), build(in_channels=16, **settings))
