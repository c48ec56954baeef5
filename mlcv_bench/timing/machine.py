"""This machine: its cores, how waiting threads wait, what else decides a time, and what it reaches at best."""

from __future__ import annotations

import os
import platform
import re
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlcv_bench import environment
from mlcv_bench.errors import UsageError
from mlcv_bench.system import PROC, allowed_cores, cgroup_quota, text_of
from mlcv_bench.timing.clock import Basis, clock_for, idle_ns, read
from mlcv_bench.timing.contention import Ledger, judge
from mlcv_bench.timing.gpu import gpu_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import torch

# With as many threads as cores, a spinning barrier fights its own team for a core that a neighbour took: one network
# took 2192 ms with the defaults, 54 ms with GOMP_SPINCOUNT=0. KMP_BLOCKTIME is the same switch of LLVM's runtime.
WAIT_POLICIES = {
    "default": {},
    "passive": {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0", "KMP_BLOCKTIME": "0"},
    "active": {"OMP_WAIT_POLICY": "active", "GOMP_SPINCOUNT": "infinity", "KMP_BLOCKTIME": "infinite"},
}
"""How OpenMP's threads wait for each other: the variables of each policy; `default` leaves it to torch's runtime."""

DRIVER = ("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
GPU_FLAGS = ("CUDA_VISIBLE_DEVICES", "CUBLAS_WORKSPACE_CONFIG")
"""Told, and not compared as `environment.FLAGS` are: the GPU's name is, and `--deterministic` itself sets the other."""
FREQUENCY = r"^cpu MHz\s*:\s*([\d.]+)"

_MATRIX = {"cpu": 1024, "cuda": 8192}
_COPY_BYTES = {"cpu": 256 * 2**20, "cuda": 2**30}


def physical_cores() -> int:
    """Return the physical cores usable: affinity and quota counted, hyper-threads not, at least one."""
    cores = set()
    for number in allowed_cores():
        siblings = environment.CPUS / f"cpu{number}" / "topology/thread_siblings_list"
        cores.add(text_of(siblings) or str(number))
    return environment.within_quota(len(cores))


def cache_of(device: str, machine: Mapping[str, Any]) -> int | None:
    """Return the bytes of a device's last-level cache, as `describe` knows them; None is unknown."""
    if device == "cpu":
        return machine.get("cache_bytes")
    gpus, index = machine.get("gpus") or [], int(device.partition(":")[2] or 0)
    return gpus[index]["l2_bytes"] if device.startswith("cuda") and index < len(gpus) else None


def set_wait_policy(policy: str = "default") -> bool:
    """Let this process's OpenMP threads wait so, and its children's, whatever the user's environment says.

    Returns False when torch is loaded already, so that the policy reaches only child processes.
    """
    for name in WAIT_POLICIES["passive"]:
        os.environ.pop(name, None)
    os.environ.update(WAIT_POLICIES[policy])
    return "torch" not in sys.modules


def wait_policy() -> str:
    """Return the policy that the variables of this process ask for, in the words of `WAIT_POLICIES`."""
    spin = [os.environ[name].lower() for name in WAIT_POLICIES["passive"] if name in os.environ]
    if not spin:
        return "default"
    return "passive" if spin[0] in {"passive", "0"} else "active"


def describe(device: str | None = None) -> dict[str, Any]:
    """Return the environment with what only a timing needs; asks torch what it was built with and sees."""
    import torch  # noqa: PLC0415 - the wait policy must be set before torch loads

    from mlcv_bench.timing.devices import settings_in_force  # noqa: PLC0415 - as above

    cpus = text_of(PROC / "cpuinfo")
    backend = re.search(r"^ATen parallel backend: *(.+)", torch.__config__.parallel_info(), re.MULTILINE)
    blas = re.search(r"BLAS_INFO=(\S+?),", torch.__config__.show())
    return {
        **environment.capture(device=device).as_dict(),
        "physical_cores": physical_cores(),
        "cache_bytes": environment.cache_bytes(),
        "quota_cores": cgroup_quota(),
        "memory_limit_bytes": environment.memory_limit_bytes(),
        "governor": text_of(environment.CPUS / "cpu0/cpufreq/scaling_governor") or None,
        "frequency_mhz": max((float(found) for found in re.findall(FREQUENCY, cpus, re.MULTILINE)), default=None),
        "turbo_disabled": text_of(environment.CPUS / "intel_pstate/no_turbo") or None,
        "load_average": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        "pressure_readable": (PROC / "pressure/cpu").exists(),
        "kernel": platform.release(),
        "wait_policy": wait_policy(),
        "compiler": sys.version.partition("[")[2].rstrip("]") or None,
        "blas": blas.group(1) if blas else None,
        "openmp": backend.group(1).strip() if backend else None,
        "vector_instructions": torch.backends.cpu.get_cpu_capability(),
        "torch_settings": settings_in_force(),
        "gpus": _gpus(torch),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version() if torch.cuda.is_available() else None,  # type: ignore[no-untyped-call]
        "driver": environment.output_of(*DRIVER).partition("\n")[0] or None if torch.cuda.is_available() else None,
        "gpu_flags": {name: os.environ[name] for name in GPU_FLAGS if name in os.environ},
    }


def accelerators_in(devices: set[str], machine: Mapping[str, Any]) -> str | None:
    """Return what the used devices are, since `cuda:0` is another one on another machine; None for processors.

    With the driver, and what TF32 may round: another one of these gives other times.
    """
    gpus, found = machine.get("gpus") or [], []
    for device in sorted(devices - {"cpu"}):
        index = int(device.partition(":")[2] or 0)
        found.append(gpus[index]["name"] if index < len(gpus) else device)
    if not found:
        return None
    switches = {
        name.removesuffix(".fp32_precision"): value
        for name, value in (machine.get("torch_settings") or {}).items()
        if name.endswith(".fp32_precision")
    }
    rounding = [name for name, value in switches.items() if value == "tf32"]
    driver = f", driver {machine['driver']}" if machine.get("driver") else ""
    tf32 = f", TF32 in {' '.join(rounding) or 'nothing'}" if switches and any(gpus) else ""
    return ", ".join(dict.fromkeys(found)) + driver + tf32


def _gpus(torch: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - the module, already imported by the caller
    return [
        {
            "name": (known := torch.cuda.get_device_properties(index)).name,
            "memory_bytes": known.total_memory,
            "capability": f"{known.major}.{known.minor}",
            "uuid": str(getattr(known, "uuid", None)),
            "multiprocessors": known.multi_processor_count,
            "l2_bytes": getattr(known, "L2_cache_size", None),
            **(gpu.facts() if (gpu := gpu_of(f"cuda:{index}")) else {}),
        }
        for index in range(torch.cuda.device_count())
    ]


@dataclass(frozen=True, slots=True)
class Peaks:
    """What this machine reaches at best: floating point operations and bytes moved, both a second of one clock."""

    device: str
    dtype: str
    threads: int
    flops_per_s: float
    bytes_per_s: float
    basis: Basis = "wall"
    tf32: str = "default"
    """What --tf32 said: the matrix product rounds float32 as convolutions then do."""
    contention: tuple[str, ...] = ()
    """What else the machine did meanwhile, in the ledger's words: the peaks may be too low."""

    def attainable(self, intensity: float) -> float:
        """Return the roof in FLOP/s over work of `intensity` FLOP a byte."""
        return min(self.flops_per_s, intensity * self.bytes_per_s)


def measure_peaks(device: str, dtype: str, threads: int, tf32: str = "default", *, seconds: float = 1.0) -> list[Peaks]:
    """Measure both peaks, each for about `seconds`, and return the best seen: a limit is a maximum.

    Args:
        device: where.
        dtype: the type of the numbers.
        threads: the processor's threads.
        tf32: what --tf32 says of convolutions, whose arithmetic the matrix product then has.
        seconds: how long.

    One thread of the processor has its peaks by the processor's clock too, for rows whose figure rests on that.

    Raises:
        UsageError: too little memory is free.

    """
    import torch  # noqa: PLC0415 - so that reading `Peaks` back needs no torch

    from mlcv_bench.architectures.reproducibility import tf32_as_in_convolutions  # noqa: PLC0415 - as above

    torch.set_num_threads(threads)
    kind = device.partition(":")[0]
    size, number = _MATRIX.get(kind, 2048), getattr(torch, dtype)
    copied = _COPY_BYTES.get(kind, 256 * 2**20)
    # Three matrices, one of them in float32 meanwhile, and both ends of the copy.
    _require_room_for_peaks(device, size**2 * (3 * number.itemsize + 4) + 2 * copied)
    ledger = Ledger(device)
    before, clock = ledger.open(), clock_for(device)
    opened, cpu, begun = clock.wall_ns(), clock.cpu_ns(), read(clock)
    with tf32_as_in_convolutions(tf32), torch.inference_mode():
        left = torch.randn(size, size, device=device).to(number)
        right = torch.randn(size, size, device=device).to(number)
        out = torch.empty_like(left)
        product = _best_seconds(lambda: torch.matmul(left, right, out=out), device, seconds)
        count = copied // left.element_size()
        source, target = torch.ones(count, dtype=number, device=device), torch.empty(count, dtype=number, device=device)
        copy = _best_seconds(lambda: target.copy_(source), device, seconds)
    wall, cpu = clock.wall_ns() - opened, clock.cpu_ns() - cpu
    found = judge(
        before,
        ledger.close(),
        window_s=wall * 1e-9,
        utilisation=cpu / max(wall, 1) / threads,
        idle=max(0, idle_ns(begun, read(clock)) or 0) / max(wall, 1),
        threads=threads,
        on_cpu=device == "cpu",
    )
    clocks: tuple[Basis, ...] = ("wall", "cpu") if device == "cpu" and threads == 1 else ("wall",)
    moved = 2 * count * source.element_size()
    return [
        Peaks(device, dtype, threads, 2 * size**3 / product[by], moved / copy[by], by, tf32, found.flags)
        for by in clocks
    ]


def _require_room_for_peaks(device: str, needed: int) -> None:
    from mlcv_bench.timing.devices import free_bytes  # noqa: PLC0415 - loads torch

    free = free_bytes(device)
    if free is not None and needed > free:
        raise UsageError(
            f"--roofline needs {needed / 2**30:.1f} GiB on {device} to measure its peaks, and {free / 2**30:.1f} are "
            "free; end what else uses its memory, or leave --roofline out"
        )


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
