"""The contention ledger: what else the machine did while a block was timed, and whether that contaminates it."""

from __future__ import annotations

import os
import re
import resource
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from mlcv_bench.environment import output_of, text_of

# A block is set apart when one of these is exceeded; each is several times what an idle machine shows.
LEAST_UTILISATION = 0.95
MOST_PRESSURE = 0.10
MOST_STEAL = 0.02
MOST_CROWDING = 0.25
MOST_SWITCHES_PER_S = 100.0

# NVML's clock event reasons: software power cap, hardware slowdown, software and hardware thermal, power brake.
GPU_SLOWED = {
    0x4: "power_cap",
    0x8: "hardware_slowdown",
    0x20: "thermal",
    0x40: "hardware_thermal",
    0x80: "power_brake",
}


@dataclass(frozen=True, slots=True)
class Counters:
    """Counters that only grow, read before and after a block. Seconds, except for the switches; None where unknown."""

    switches: int = 0
    steal_s: float | None = None
    busy_s: float | None = None
    own_s: float = 0.0
    throttled_s: float | None = None
    pressure_s: float | None = None
    gpu: tuple[float, int] | None = None
    """The GPU's clock in MHz and its bit field of reasons for running slower."""


@dataclass(frozen=True, slots=True)
class Contention:
    """What a block went through: `pressure` and `steal` as shares of its time, `others` in cores; None is unknown."""

    utilisation: float
    switches_per_s: float
    steal: float | None = None
    throttled_s: float | None = None
    pressure: float | None = None
    others: float | None = None
    gpu_mhz: float | None = None
    flags: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Contention:
        """Read back what `as_dict` wrote."""
        return cls(**{**values, "flags": tuple(values["flags"])})


class Ledger:
    """Reads Linux's and the GPU's counters; elsewhere what getrusage knows."""

    def __init__(self, device: str = "cpu") -> None:
        """Watch the processor, and the GPU too when `device` is one."""
        self._device = device

    def read(self) -> Counters:
        """Read all counters now, in less than a millisecond on the processor."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
        busy, steal = _processor_seconds()
        return Counters(
            switches=usage.ru_nivcsw,
            steal_s=steal,
            busy_s=busy,
            own_s=usage.ru_utime + usage.ru_stime,
            throttled_s=_throttled_seconds(),
            pressure_s=_pressure_seconds(),
            gpu=_gpu_state(self._device) if self._device.startswith("cuda") else None,
        )


def judge(
    before: Counters,
    after: Counters,
    *,
    window_s: float,
    utilisation: float,
    threads: int,
    on_cpu: bool,
    idle: float = 0.0,
) -> Contention:
    """Return what happened between two readings `window_s` apart around a block that used a share of its threads.

    `idle` is the share of its time in which the block is known to have needed no core.
    """
    wall_s = max(window_s, 1e-9)
    cores = os.cpu_count() or 1
    steal = _difference(before.steal_s, after.steal_s)
    throttled = _difference(before.throttled_s, after.throttled_s)
    pressure = _difference(before.pressure_s, after.pressure_s)
    busy = _difference(before.busy_s, after.busy_s)
    others = None if busy is None else max(0.0, (busy - (after.own_s - before.own_s)) / wall_s)
    switches = (after.switches - before.switches) / wall_s
    flags = []
    # One thread that computes keeps its core busy; several wait for each other, and on a GPU the host waits.
    if on_cpu and threads == 1 and utilisation + idle < LEAST_UTILISATION:
        flags.append("preempted")
    # The kernel counts time in ticks of 10 ms: one tick alone proves nothing.
    if steal is not None and steal > 0.015 and steal / wall_s / cores > MOST_STEAL:  # noqa: PLR2004 - see above
        flags.append("steal")
    if throttled:
        flags.append("throttled")
    if pressure is not None and pressure / wall_s > MOST_PRESSURE:
        flags.append("pressure")
    if on_cpu and others is not None and busy is not None and busy > 0.05 and others + threads > cores + MOST_CROWDING:  # noqa: PLR2004 - five ticks
        flags.append("crowded")
    if switches > MOST_SWITCHES_PER_S and after.switches - before.switches > 10:  # noqa: PLR2004 - a few are normal
        flags.append("switched")
    if after.gpu is not None:
        flags += [f"gpu_{name}" for bit, name in GPU_SLOWED.items() if after.gpu[1] & bit]
    return Contention(
        utilisation=utilisation,
        switches_per_s=switches,
        steal=None if steal is None else steal / wall_s / cores,
        throttled_s=throttled,
        pressure=None if pressure is None else pressure / wall_s,
        others=others,
        gpu_mhz=after.gpu[0] if after.gpu else None,
        flags=tuple(flags),
    )


def _difference(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else max(0.0, after - before)


def _processor_seconds() -> tuple[float | None, float | None]:
    """Return the seconds that all cores were busy, and that the hypervisor took, since the machine started."""
    try:
        # One line alone: the whole file takes long on a machine with many cores.
        with Path("/proc/stat").open(encoding="ascii") as file:
            fields = [int(field) for field in file.readline().split()[1:9]]
        user, nice, system, _idle, _wait, interrupts, soft, steal = fields
    except (OSError, ValueError):
        return None, None
    tick = os.sysconf("SC_CLK_TCK")
    return (user + nice + system + interrupts + soft) / tick, steal / tick


@cache
def _throttle_file() -> tuple[Path, str, float] | None:
    for path, key, unit in (
        ("/sys/fs/cgroup/cpu.stat", "throttled_usec", 1e-6),
        ("/sys/fs/cgroup/cpu/cpu.stat", "throttled_time", 1e-9),
    ):
        if Path(path).is_file():
            return Path(path), key, unit
    return None


def _throttled_seconds() -> float | None:
    found = _throttle_file()
    if found is None:
        return None
    path, key, unit = found
    values = re.search(rf"^{key} (\d+)$", text_of(path), re.MULTILINE)
    return int(values.group(1)) * unit if values else None


def _pressure_seconds() -> float | None:
    """Return the seconds that some runnable task waited for a core (pressure stall information)."""
    some = re.match(r"some .*total=(\d+)", text_of("/proc/pressure/cpu"))
    return int(some.group(1)) * 1e-6 if some else None


def _gpu_state(device: str) -> tuple[float, int] | None:
    """Return the GPU's clock in MHz and its slow-down reasons, from NVML or nvidia-smi, whichever is there."""
    index = int(device.partition(":")[2] or 0)
    try:
        import pynvml  # type: ignore[import-untyped, import-not-found, unused-ignore]  # noqa: PLC0415 - optional

        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(_physical_index(index))
        return (
            float(pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM)),
            int(pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)),
        )
    except Exception:  # noqa: BLE001 - no NVML of any kind is no error; nvidia-smi may still answer
        return _gpu_state_by_tool(_physical_index(index))


def _physical_index(index: int) -> int:
    visible = [part for part in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if part.strip().isdigit()]
    return int(visible[index]) if index < len(visible) else index


def _gpu_state_by_tool(index: int) -> tuple[float, int] | None:
    query = "--query-gpu=clocks.sm,clocks_throttle_reasons.active"
    try:
        clock, reasons = output_of("nvidia-smi", f"--id={index}", query, "--format=csv,noheader,nounits").split(",")
        return float(clock), int(reasons.strip(), 16)
    except ValueError:
        return None
