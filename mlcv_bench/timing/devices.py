"""From the name of a device to one that is there."""

from __future__ import annotations

import torch

from mlcv_bench.errors import UsageError


def resolve_device(name: str) -> str:
    """Return the device that `name` means here: `auto` is a GPU where there is one, `cuda` the first.

    Raises:
        UsageError: no such device is here; the message names those that are.

    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    here = ["cpu", *(f"cuda:{index}" for index in range(count))]
    if torch.backends.mps.is_available():
        here.append("mps")
    if name == "auto":
        return next((device for device in ("cuda:0", "mps") if device in here), "cpu")
    wanted = "cuda:0" if name == "cuda" else name
    if wanted not in here:
        msg = f"--device {name} is not here; this machine has {', '.join(here)}"
        raise UsageError(msg)
    return wanted
