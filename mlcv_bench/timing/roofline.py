"""The machine's own limits, measured: the best matrix product and the best memory traffic it manages."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlcv_bench.timing.clock import Basis, clock_for

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

_MATRIX = {"cpu": 1024, "cuda": 8192}
_COPY_BYTES = {"cpu": 256 * 2**20, "cuda": 2**30}


@dataclass(frozen=True, slots=True)
class Peaks:
    """What this machine reaches at best: floating point operations and bytes moved, both a second of one clock."""

    device: str
    dtype: str
    threads: int
    flops_per_s: float
    bytes_per_s: float
    basis: Basis = "wall"

    def attainable(self, intensity: float) -> float:
        """Return the roof in FLOP/s over work of `intensity` FLOP a byte."""
        return min(self.flops_per_s, intensity * self.bytes_per_s)


def measure_peaks(device: str, dtype: str, threads: int, seconds: float = 1.0) -> list[Peaks]:
    """Measure both peaks, each for about `seconds`, and return the best seen: a limit is a maximum.

    One thread of the processor has its peaks by the processor's clock too, for rows whose figure rests on that.
    """
    import torch  # noqa: PLC0415 - so that reading `Peaks` back needs no torch

    torch.set_num_threads(threads)
    kind = device.partition(":")[0]
    size, number = _MATRIX.get(kind, 2048), getattr(torch, dtype)
    with torch.inference_mode():
        left = torch.randn(size, size, device=device).to(number)
        right = torch.randn(size, size, device=device).to(number)
        out = torch.empty_like(left)
        product = _best_seconds(lambda: torch.matmul(left, right, out=out), device, seconds)
        count = _COPY_BYTES.get(kind, 256 * 2**20) // left.element_size()
        source, target = torch.ones(count, dtype=number, device=device), torch.empty(count, dtype=number, device=device)
        copy = _best_seconds(lambda: target.copy_(source), device, seconds)
    clocks: tuple[Basis, ...] = ("wall", "cpu") if device == "cpu" and threads == 1 else ("wall",)
    moved = 2 * count * source.element_size()
    return [Peaks(device, dtype, threads, 2 * size**3 / product[by], moved / copy[by], by) for by in clocks]


def _best_seconds(call: Callable[[], torch.Tensor], device: str, seconds: float) -> dict[Basis, float]:
    """Return the shortest call by each clock."""
    clock = clock_for(device)
    walls: list[float] = []
    cpus: list[float] = []
    end = time.perf_counter() + seconds
    call()
    clock.synchronise()
    while not walls or time.perf_counter() < end:
        wall, cpu = clock.wall_ns(), clock.cpu_ns()
        call()
        clock.synchronise()
        walls.append((clock.wall_ns() - wall) * 1e-9)
        cpus.append((clock.cpu_ns() - cpu) * 1e-9)
    return {"wall": min(walls), "cpu": min(cpus)}
