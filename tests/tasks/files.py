"""Small image files in the published formats, written by independent means."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile

import numpy as np


def idx_bytes(array):
    return struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_idx(folder, *, train=200, test=50, classes=10, zipped=False, side=28):
    rng = np.random.default_rng(0)
    folder.mkdir(exist_ok=True)
    for name, count in (("train", train), ("t10k", test)):
        arrays = {
            f"{name}-images-idx3-ubyte": rng.integers(0, 256, (count, side, side), dtype=np.uint8),
            f"{name}-labels-idx1-ubyte": np.arange(count, dtype=np.uint8) % classes,
        }
        for stem, array in arrays.items():
            raw = idx_bytes(array)
            path = folder / (f"{stem}.gz" if zipped else stem)
            path.write_bytes(gzip.compress(raw) if zipped else raw)
    return folder


def cifar_records(count, seed=0, *, classes=10):
    rng = np.random.default_rng(seed)
    records = rng.integers(0, 256, (count, 3073), dtype=np.uint8)
    records[:, 0] = np.arange(count) % classes
    return records


def write_cifar(folder, count=20):
    folder.mkdir(exist_ok=True)
    for number in range(1, 6):
        (folder / f"data_batch_{number}.bin").write_bytes(cifar_records(count, number).tobytes())
    (folder / "test_batch.bin").write_bytes(cifar_records(count, 9).tobytes())
    return folder


def cifar_archive(path, folder):
    with tarfile.open(path, "w:gz") as archive:
        for file in sorted(folder.iterdir()):
            raw = file.read_bytes()
            info = tarfile.TarInfo(f"cifar-10-batches-bin/{file.name}")
            info.size = len(raw)
            archive.addfile(info, io.BytesIO(raw))
    return path


def write_images(folder, classes=("cat", "dog"), count=10, size=(12, 9)):
    from PIL import Image

    rng = np.random.default_rng(1)
    for position, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            # Each class has a brightness of its own, so that there is something to learn.
            pixels = rng.integers(0, 60, (*size, 3), dtype=np.uint8) + 120 * position
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{number}.png")
    return folder
