"""The binary version of CIFAR-10: records of a label and 3 x 32 x 32 bytes, from a folder or the published archive."""

from __future__ import annotations

import hashlib
import tarfile
import warnings
import zlib
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mlcv_bench.errors import UsageError
from mlcv_bench.tasks.idx import DataWarning, find_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

RECORD = 1 + 3 * 32 * 32
TRAIN_FILES = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
TEST_FILE = "test_batch.bin"

Bytes = npt.NDArray[np.uint8]


def read_records(raw: bytes, place: str) -> tuple[Bytes, Bytes]:
    """Return the images (N, 3, 32, 32) and labels (N,) of one batch file.

    Raises:
        UsageError: the bytes are no whole number of records.

    """
    if not raw or len(raw) % RECORD:
        raise UsageError(f"{place} has {len(raw)} bytes, no multiple of {RECORD}: it is no CIFAR-10 batch, or cut off")
    records = np.frombuffer(raw, np.uint8).reshape(-1, RECORD)
    return records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0]


def read_cifar(data: Path, where: str, checksums: Mapping[str, str]) -> tuple[Bytes, Bytes, Bytes, Bytes]:
    """Return training images and labels, then test images and labels.

    Args:
        data: the folder with the .bin files (or above it), or the archive cifar-10-binary.tar.gz itself.
        where: where to get them, for the message.
        checksums: MD5 sums of published files, by name.

    Raises:
        UsageError: a file is missing, or not what it should be.

    """
    if data.is_file():
        found = _from_archive(data, checksums)
    else:
        found = {name: find_file(data, name, where).read_bytes() for name in (*TRAIN_FILES, TEST_FILE)}
    parts = [read_records(found[name], f"{data}: {name}") for name in TRAIN_FILES]
    test_images, test_labels = read_records(found[TEST_FILE], f"{data}: {TEST_FILE}")
    images = np.concatenate([images for images, _ in parts])
    labels = np.concatenate([labels for _, labels in parts])
    return images, labels, test_images, test_labels


def _from_archive(path: Path, checksums: Mapping[str, str]) -> dict[str, bytes]:
    published = checksums.get(path.name)
    if published is not None:
        digest = hashlib.md5(usedforsecurity=False)
        with path.open("rb") as file:
            while part := file.read(1 << 20):
                digest.update(part)
        if digest.hexdigest() != published:
            warnings.warn(f"{path} is not the published archive: its MD5 sum differs", DataWarning, stacklevel=3)
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
