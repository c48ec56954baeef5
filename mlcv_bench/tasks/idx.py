"""The IDX format of MNIST and Fashion-MNIST, plain or gzipped: read with every claim of its header checked."""

from __future__ import annotations

import gzip
import hashlib
import math
import struct
import warnings
import zlib
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mlcv_bench.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

UNSIGNED_BYTE = 8


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


def read_bytes(path: Path, checksums: Mapping[str, str]) -> bytes:
    """Return what a file holds, unzipped; warn where it is not the published file of its name.

    Raises:
        UsageError: it cannot be read, or is no whole gzip file.

    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}; check --data") from error
    known = checksums.get(path.name)
    if known is not None and hashlib.md5(raw, usedforsecurity=False).hexdigest() != known:
        warnings.warn(f"{path} is not the published {path.name}: its MD5 sum differs", DataWarning, stacklevel=2)
    if path.suffix != ".gz":
        return raw
    try:
        return gzip.decompress(raw)
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(f"{path} is no whole gzip file; fetch it again") from error


def read_idx(path: Path, dimensions: int, checksums: Mapping[str, str]) -> npt.NDArray[np.uint8]:
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
