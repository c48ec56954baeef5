"""What decides whether a network computes the same again: its random numbers in evaluation, and TF32."""

from __future__ import annotations

import contextlib
import operator
import os
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


def tf32_rounds() -> bool:
    """Tell whether CUDA may now round float32 to the ten bits of TF32 in some kind of operator.

    It is torch's default for convolutions, on every NVIDIA GPU since Ampere.
    """
    return any(switch.fp32_precision == "tf32" for switch in tf32_switches().values())


def tf32_as_in_convolutions(setting: str) -> contextlib.AbstractContextManager[None]:
    """Let every operator round as convolutions do under this setting, which by torch's default differ from products."""
    with tf32(setting):
        rounds = tf32_switches()["cudnn.conv"].fp32_precision == "tf32"
    return tf32("on" if rounds else "off")


@contextlib.contextmanager
def deterministic(*, warn_only: bool = False) -> Iterator[None]:
    """Let torch use deterministic algorithms inside; where an operator has none it raises, or warns if that is all."""
    # Read by cuBLAS when it is first used.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=warn_only)  # noqa: FBT003 - torch names it `mode`, and takes it so
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])


@contextlib.contextmanager
def tf32(setting: str) -> Iterator[None]:
    """Let CUDA round float32 to TF32 inside, everywhere (`on`) or nowhere (`off`); `default` leaves the switches."""
    before = {switch: switch.fp32_precision for switch in tf32_switches().values()}
    try:
        for switch in before if setting != "default" else ():
            switch.fp32_precision = "tf32" if setting == "on" else "ieee"
        yield
    finally:
        for switch, precision in before.items():
            switch.fp32_precision = precision
