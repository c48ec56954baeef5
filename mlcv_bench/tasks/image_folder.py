"""Any folder of images, one folder a class: decoded by Pillow, brought to one size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mlcv_bench.errors import UsageError
from mlcv_bench.names import first_line

if TYPE_CHECKING:
    from pathlib import Path

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})
FEWEST = 5  # images of a class that a split into three parts needs


def read_folder(data: Path, size: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], tuple[str, ...]]:
    """Return the images (N, 3, size, size), their labels (N,) and the classes' names, in alphabetic order.

    Raises:
        UsageError: no two folders with images, a class with too few, or a file that is no image.

    """
    from PIL import Image  # noqa: PLC0415 - only this task decodes images

    if not data.is_dir():
        raise UsageError(f"--data {data} is no folder; give one that has a folder of images for each class")
    folders = {
        folder.name: sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
        for folder in sorted(data.iterdir())
        if folder.is_dir() and not folder.name.startswith(".")
    }
    folders = {name: paths for name, paths in folders.items() if paths}
    if len(folders) < 2:  # noqa: PLR2004 - there is nothing to tell apart below two
        only = f"one class, {next(iter(folders))}" if folders else "no folder with images"
        raise UsageError(f"--data {data} has {only}; it takes at least two folders of images, one for each class")
    if len(folders) > 256:  # noqa: PLR2004 - labels are bytes
        raise UsageError(f"--data {data} has {len(folders)} classes; a race takes at most 256")
    images, labels = [], []
    for label, (name, paths) in enumerate(folders.items()):
        if len(paths) < FEWEST:
            raise UsageError(
                f"the class {name} has {len(paths)} images; training, validation and test take at least {FEWEST}"
            )
        for path in paths:
            try:
                with Image.open(path) as image:
                    picture = image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR)
            except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
                raise UsageError(f"{path} is no readable image ({first_line(error)}); remove or replace it") from error
            images.append(np.asarray(picture, dtype=np.uint8).transpose(2, 0, 1))
            labels.append(label)
    return np.stack(images), np.asarray(labels, np.uint8), tuple(folders)
