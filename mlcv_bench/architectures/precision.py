"""TF32, by the switch that each operator has."""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Iterator
from typing import Any

import torch


def tf32_switches() -> dict[str, Any]:
    """Return what holds `fp32_precision` for convolutions, recurrent layers and matrix products on CUDA.

    The older switches, `allow_tf32` and the matmul precision, can no longer be read once a program has set one of these
    alone: torch raises.
    """
    backends: Any = torch.backends
    names = ("cudnn.conv", "cudnn.rnn", "cuda.matmul")
    return {name: operator.attrgetter(name)(backends) for name in names}


@contextlib.contextmanager
def without_tf32() -> Iterator[None]:
    """Multiply float32 as float32 inside, also on CUDA."""
    before = {switch: switch.fp32_precision for switch in tf32_switches().values()}
    try:
        for switch in before:
            switch.fp32_precision = "ieee"
        yield
    finally:
        for switch, precision in before.items():
            switch.fp32_precision = precision
