"""What decides whether a network computes the same again: its random numbers in evaluation, and TF32."""

from __future__ import annotations

import contextlib
import operator
import random
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np
import torch

T = TypeVar("T")


def watched(run: Callable[[], T], seed: int = 0) -> tuple[T, bool]:
    """Run with every generator seeded; return the result, and whether any random number was drawn.

    So two passes of a network that is random in evaluation draw the same, as long as they compute in the same type.
    """
    seed_all(seed)
    # Asking CUDA for its generators would start it, for a network on the processor too.
    cuda = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    before = _states(cuda=cuda)
    result = run()
    return result, before != _states(cuda=cuda)


def seed_all(seed: int) -> None:
    """Seed the generators of torch, on every device, of Python and of NumPy."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - the generator that users' networks share


@contextlib.contextmanager
def generators_kept() -> Iterator[None]:
    """Put all generators back afterwards."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - as above
    # Named, as torch warns of several devices that it chose itself.
    devices = range(torch.cuda.device_count()) or None
    with torch.random.fork_rng(devices):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002 - as above


@contextlib.contextmanager
def process_kept() -> Iterator[None]:
    """Put torch's number of threads and all generators back afterwards: they belong to whoever calls from Python."""
    threads = torch.get_num_threads()
    with generators_kept():
        try:
            yield
        finally:
            torch.set_num_threads(threads)


def _states(*, cuda: bool) -> list[Any]:
    """Return what every generator would draw next, as values that compare."""
    devices = torch.cuda.get_rng_state_all() if cuda else []
    name, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002 - as above
    return [[state.tolist() for state in (torch.get_rng_state(), *devices)], random.getstate(), name, [*keys], rest]


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
