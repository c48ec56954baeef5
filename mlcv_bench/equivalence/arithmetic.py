"""The arithmetic of a proof: no TF32, no Winograd, no FFT, deterministic algorithms, one thread; and what was set."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import torch

from mlcv_bench.architectures.reproducibility import without_tf32
from mlcv_bench.errors import UsageError
from mlcv_bench.names import first_line


def device_of(name: str) -> torch.device:
    """Return the device of this name, after one tensor was put there.

    Raises:
        UsageError: torch knows no such device, or cannot use it here.

    """
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        msg = f"--device {name} cannot be used here ({first_line(error)}); try --device cpu"
        raise UsageError(msg) from error
    if device.type == "meta":
        raise UsageError("--device meta holds no numbers to compare; try --device cpu")
    return device


@contextlib.contextmanager
def without_cudnn() -> Iterator[None]:
    """Switch cuDNN off inside; torch's own context reads older switches, which fail once the newer ones are set."""
    before = torch.backends.cudnn.enabled
    torch.backends.cudnn.enabled = False
    try:
        yield
    finally:
        torch.backends.cudnn.enabled = before


@contextlib.contextmanager
def plain_arithmetic(device: torch.device) -> Iterator[dict[str, Any]]:
    """Switch off inside whatever trades exactness for speed; yields what was set, for the record.

    cuDNN is off altogether, since it may choose Winograd or FFT for any convolution, whose products are of transformed
    numbers; NNPACK is off for the same reason. What remains multiplies and adds the numbers themselves.
    One thread: the maps are small, and threads that wait for each other on a busy machine cost more than they give.
    """
    threads = torch.get_num_threads()
    deterministic = torch.are_deterministic_algorithms_enabled()
    cuda = device.type == "cuda"
    torch.set_num_threads(1)
    try:
        with (
            without_cudnn() if cuda else contextlib.nullcontext(),
            without_tf32() if cuda else contextlib.nullcontext(),
            torch.backends.nnpack.flags(enabled=False),
        ):
            if cuda:
                os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
                torch.use_deterministic_algorithms(True)  # noqa: FBT003 - torch names it `mode`, and takes it so
            yield {
                "tf32": False,
                "cudnn": False,
                "nnpack": False,
                "deterministic_algorithms": cuda,
                "threads": 1,
                "device": torch.cuda.get_device_name(device) if cuda else str(device),
            }
    finally:
        torch.set_num_threads(threads)
        if cuda:
            torch.use_deterministic_algorithms(deterministic)
