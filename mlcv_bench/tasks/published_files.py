"""Published files of images: IDX, as MNIST and Fashion-MNIST have it, and the binary version of CIFAR-10.

Every claim of a header is checked, and every checksum.
"""

from __future__ import annotations

import gzip
import hashlib
import math
import struct
import tarfile
import warnings
import zlib
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mlcv_bench.errors import UsageError
from mlcv_bench.tasks.catalog import IDX_FILES, Task

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

Bytes = npt.NDArray[np.uint8]

UNSIGNED_BYTE = 8
RECORD = 1 + 3 * 32 * 32
"""Bytes of an image of CIFAR-10: a label, and the pixels."""
TRAIN_FILES = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
TEST_FILE = "test_batch.bin"


class DataWarning(UserWarning):
    """The files are usable, but are not the published ones."""


def find_file(folder: Path, stem: str, where: str) -> Path:
    """Return the file `stem` or `stem`.gz in `folder` or below it.

    Raises:
        UsageError: there is none.

    """
    for pattern in (stem, f"{stem}.gz", f"**/{stem}", f"**/{stem}.gz"):
        for path in sorted(folder.glob(pattern)):
            if path.is_file():
                return path
    hint = f"; {where}" if where else ""
    raise UsageError(f"--data {folder} has no {stem} or {stem}.gz{hint}")


def warn_of_another(path: Path, checksums: Mapping[str, str]) -> None:
    """Warn where a file is not the published one of its name."""
    published = checksums.get(path.name)
    if published is None:
        return
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False))
    if digest.hexdigest() != published:
        warnings.warn(f"{path} is not the published {path.name}: its MD5 sum differs", DataWarning, stacklevel=4)


def read_bytes(path: Path, checksums: Mapping[str, str]) -> bytes:
    """Return what a file holds, unzipped.

    Raises:
        UsageError: it cannot be read, or is not a whole gzip file.

    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}; check --data") from error
    warn_of_another(path, checksums)
    if path.suffix != ".gz":
        return raw
    try:
        return gzip.decompress(raw)
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(f"{path} is no whole gzip file; fetch it again") from error


def read_idx(path: Path, dimensions: int, checksums: Mapping[str, str]) -> Bytes:
    """Return the array of unsigned bytes that an IDX file holds.

    Args:
        path: the file; .gz is unzipped.
        dimensions: how many the array has to have: 3 for images, 1 for labels.
        checksums: MD5 sums of published files, by name.

    Raises:
        UsageError: not IDX, another type or number of dimensions, or not as long as its header says.

    """
    raw = read_bytes(path, checksums)
    header = 4 + 4 * dimensions
    if len(raw) < header or raw[:2] != b"\0\0":
        raise UsageError(f"{path} is no IDX file: it does not begin with the magic number; fetch it again")
    if raw[2] != UNSIGNED_BYTE or raw[3] != dimensions:
        raise UsageError(
            f"{path} holds IDX type {raw[2]} in {raw[3]} dimensions, not unsigned bytes in {dimensions}; "
            "images and labels may be swapped"
        )
    shape = struct.unpack(f">{dimensions}I", raw[4:header])
    expected = header + math.prod(shape)
    if len(raw) != expected:
        raise UsageError(f"{path} has {len(raw)} bytes where its header promises {expected}; fetch it again")
    return np.frombuffer(raw, np.uint8, offset=header).reshape(shape)


def read_idx_files(folder: Path, task: Task) -> tuple[Bytes, Bytes, Bytes, Bytes]:
    """Return training images (N, 1, 28, 28) and labels (N,), then test images and labels, of a task of MNIST's kind.

    Raises:
        UsageError: a file is missing, or not what it should be.

    """
    if not folder.is_dir():
        raise UsageError(f"--data {folder} is not a folder; give the one that holds the four files of {task.name}")
    parts = []
    for stem in IDX_FILES:
        dimensions = 3 if "images" in stem else 1
        array = read_idx(find_file(folder, stem, task.where), dimensions, task.checksums)
        parts.append(array[:, None] if dimensions == 3 else array)  # noqa: PLR2004 - images get their one channel
    for images, labels, which in ((parts[0], parts[1], "train"), (parts[2], parts[3], "t10k")):
        if len(images) != len(labels):
            raise UsageError(f"{folder}: {which} has {len(images)} images and {len(labels)} labels; fetch them again")
        if task.input is not None and images.shape[1:] != task.input:
            shape = "x".join(map(str, images.shape[2:]))
            raise UsageError(f"{folder}: {which} has images of {shape}, {task.name} has 28x28; check --task and --data")
    return parts[0], parts[1], parts[2], parts[3]


def read_records(raw: bytes, place: str) -> tuple[Bytes, Bytes]:
    """Return the images (N, 3, 32, 32) and labels (N,) of one batch file.

    Raises:
        UsageError: the bytes are no whole number of records.

    """
    if not raw or len(raw) % RECORD:
        raise UsageError(f"{place} has {len(raw)} bytes, no multiple of {RECORD}: it is no CIFAR-10 batch, or cut off")
    records = np.frombuffer(raw, np.uint8).reshape(-1, RECORD)
    return records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0]


def read_cifar(data: Path, task: Task) -> tuple[Bytes, Bytes, Bytes, Bytes]:
    """Return training images and labels, then test images and labels.

    Args:
        data: the folder with the .bin files (or above it), or the archive cifar-10-binary.tar.gz itself.
        task: where to get them, for the message, and their checksums.

    Raises:
        UsageError: a file is missing, or not what it should be.

    """
    if data.is_file():
        found = _from_archive(data, task.checksums)
    else:
        found = {
            name: read_bytes(find_file(data, name, task.where), task.checksums) for name in (*TRAIN_FILES, TEST_FILE)
        }
    parts = [read_records(found[name], f"{data}: {name}") for name in TRAIN_FILES]
    test_images, test_labels = read_records(found[TEST_FILE], f"{data}: {TEST_FILE}")
    images = np.concatenate([images for images, _ in parts])
    labels = np.concatenate([labels for _, labels in parts])
    return images, labels, test_images, test_labels


def _from_archive(path: Path, checksums: Mapping[str, str]) -> dict[str, bytes]:
    warn_of_another(path, checksums)
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                name = member.name.rpartition("/")[2]
                batch = archive.extractfile(member) if name in (*TRAIN_FILES, TEST_FILE) else None
                if batch is not None:
                    found[name] = batch.read()
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise UsageError(f"{path} is no whole tar archive; give cifar-10-binary.tar.gz, or fetch it again") from error
    missing = [name for name in (*TRAIN_FILES, TEST_FILE) if name not in found]
    if missing:
        raise UsageError(f"{path} holds no {missing[0]}; give the binary version of CIFAR-10, not the pickled one")
    return found
