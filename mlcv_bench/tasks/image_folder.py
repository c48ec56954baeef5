"""Any folder of images, one folder a class, or such folders in train, val and test: decoded by Pillow, of one size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from mlcv_bench.errors import UsageError
from mlcv_bench.names import first_line
from mlcv_bench.records import counted
from mlcv_bench.tasks.published_files import Bytes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from PIL.Image import Image

Part = Literal["training", "validation", "test"]
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})
FEWEST = 5  # images of a class that a split into three parts needs
PARTS: dict[str, Part] = {
    "train": "training",
    "training": "training",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
"""Names of folders that are parts of the data, not classes, where one of them is a training part."""


def read_folder(data: Path, size: int) -> tuple[dict[Part, tuple[Bytes, Bytes]], tuple[str, ...]]:
    """Return each part's images (N, 3, size, size) and labels (N,), and the classes' names, in alphabetic order.

    Folders of classes alone are one part, `training`, to be split; folders called train, val, test are the split.
    Hidden folders and files are left out.

    Raises:
        UsageError: fewer than two classes, a class without images, one in another part alone, or a file that is not
            an image.

    """
    if not data.is_dir():
        raise UsageError(f"--data {data} is not a folder; give one that has a folder of images for each class")
    folders = _folders(data)
    split = all(name.lower() in PARTS for name in folders) and "training" in {PARTS[name.lower()] for name in folders}
    places: dict[Part, Path] = (
        {PARTS[name.lower()]: path for name, path in folders.items()} if split else {"training": data}
    )
    found = {part: _images(place) for part, place in places.items()}
    classes = found["training"]
    if len(classes) < 2:  # noqa: PLR2004 - there is nothing to tell apart below two
        only = f"one class, {next(iter(classes))}" if classes else "no folder with images"
        raise UsageError(
            f"--data {places['training']} has {only}; it takes at least two folders of images, one for each class"
        )
    if len(classes) > 256:  # noqa: PLR2004 - labels are bytes
        raise UsageError(f"--data {data} has {len(classes)} classes; a race takes at most 256")
    for part, own in found.items():
        if not own:
            raise UsageError(f"{places[part]} has no folders of classes; fill it or remove it")
        for name in own:
            if name not in classes:
                raise UsageError(
                    f"{places[part]} has the class {name}, which {places['training']} lacks; add it or remove it"
                )
    for name, paths in classes.items():
        if len(found) < len(set(PARTS.values())) and len(paths) < FEWEST:
            raise UsageError(
                f"the class {name} has {counted(len(paths), 'image')}; "
                f"training, validation and test take at least {FEWEST}"
            )
    names = tuple(classes)
    return {part: _read(own, names, size) for part, own in found.items()}, names


def _folders(place: Path) -> dict[str, Path]:
    return {path.name: path for path in sorted(place.iterdir()) if path.is_dir() and not path.name.startswith(".")}


def _images(place: Path) -> dict[str, list[Path]]:
    """Return the images of each class.

    Raises:
        UsageError: a class has none.

    """
    found = {}
    for name, folder in _folders(place).items():
        paths = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in SUFFIXES]
        found[name] = [
            path for path in paths if not any(part.startswith(".") for part in path.relative_to(folder).parts)
        ]
        if not found[name]:
            raise UsageError(f"{folder} has no images; fill it, or remove it if it is no class")
    return found


def _read(classes: Mapping[str, list[Path]], names: tuple[str, ...], size: int) -> tuple[Bytes, Bytes]:
    images, labels = [], []
    for label, name in enumerate(names):
        for path in classes.get(name, []):
            images.append(_pixels(path, size).transpose(2, 0, 1))
            labels.append(label)
    return np.stack(images), np.asarray(labels, np.uint8)


def _pixels(path: Path, size: int) -> Bytes:
    """Return one image's pixels, (size, size, 3).

    Raises:
        UsageError: the file is not an image, or its mode does not say in which range its pixels are.

    """
    from PIL import Image  # noqa: PLC0415 - only this task decodes images

    try:
        with Image.open(path) as image:
            shown = _of_eight_bits(image).convert("RGB")
            return np.asarray(shown.resize((size, size), Image.Resampling.BILINEAR), dtype=np.uint8)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UsageError(f"{path} is no readable image ({first_line(error)}); remove or replace it") from error


def _of_eight_bits(image: Image) -> Image:
    """Scale 16-bit grey to 8 bits, which Pillow's own conversion cuts off at 255; refuse pixels without a range."""
    from PIL import Image as pillow  # noqa: N813, PLC0415 - as above

    # Older Pillow opens a 16-bit PNG as 32-bit integers.
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        return pillow.fromarray((np.asarray(image).astype(np.uint32) // 257).astype(np.uint8))
    if image.mode in {"I", "F"}:
        kind = "float" if image.mode == "F" else "32-bit integer"
        raise ValueError(f"its {kind} pixels have no known range: save it with 8 or 16 bits")
    return image
