"""The contention ledger: what else the machine did while a block was timed, and whether that contaminates it."""

from __future__ import annotations

import os
import re
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from mlcv_bench.system import PROC, SYS, cgroup_folders, text_of, usage
from mlcv_bench.timing.gpu import GpuCounters, gpu_of

# A block is set apart when one of these is exceeded; each is several times what an idle machine shows.
LEAST_UTILISATION = 0.95
MOST_PRESSURE = 0.10
MOST_STEAL = 0.02
MOST_CROWDING = 0.25
MOST_SWITCHES_PER_S = 100.0

# A GPU's clock moves by steps of 15 MHz of two thousand.
MOST_CLOCK_CHANGE = 0.05
MOST_SLOWED = 0.05
MOST_OTHERS_ON_GPU = 0.05


@dataclass(frozen=True, slots=True)
class Counters:
    """Counters that only grow, read before and after a block. Seconds, except for the switches; None where unknown."""

    switches: int = 0
    steal_s: float | None = None
    busy_s: float | None = None
    own_s: float = 0.0
    throttled_s: float | None = None
    pressure_s: float | None = None
    gpu: GpuCounters | None = None
    cpu_energy_j: float | None = None


@dataclass(frozen=True, slots=True)
class Contention:
    """What a block went through: `pressure` and `steal` as shares of its time, `others` in cores; None is unknown.

    `power_w` is what the GPU took meanwhile, or where the processor computes its packages, in watts; `gpu_others` the
    share of the GPU's multiprocessors that another process used.
    """

    utilisation: float
    switches_per_s: float
    steal: float | None = None
    throttled_s: float | None = None
    pressure: float | None = None
    others: float | None = None
    gpu_mhz: float | None = None
    power_w: float | None = None
    flags: tuple[str, ...] = ()
    gpu_others: float | None = None

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
        self._gpu = gpu_of(device)

    def open(self) -> Counters:
        """Read all counters before a block, the GPU's first, so that asking for them is no part of it."""
        gpu = self._gpu.read() if self._gpu else None
        return replace(self._processor(), gpu=gpu)

    def close(self) -> Counters:
        """Read all counters after a block, the GPU's last."""
        processor = self._processor()
        return replace(processor, gpu=self._gpu.read() if self._gpu else None)

    @staticmethod
    def _processor() -> Counters:
        """Read the processor's counters now, in less than a millisecond."""
        used = usage()
        busy, steal = _processor_seconds()
        return Counters(
            switches=used.switches or 0,
            steal_s=steal,
            busy_s=busy,
            own_s=used.own_s,
            throttled_s=_throttled_seconds(),
            pressure_s=_pressure_seconds(),
            cpu_energy_j=_package_joules(),
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
    if before.gpu is not None and after.gpu is not None:
        flags += _gpu_flags(before.gpu, after.gpu, wall_s)
    return Contention(
        utilisation=utilisation,
        switches_per_s=switches,
        steal=None if steal is None else steal / wall_s / cores,
        throttled_s=throttled,
        pressure=None if pressure is None else pressure / wall_s,
        others=others,
        gpu_mhz=after.gpu.mhz if after.gpu else None,
        power_w=_watts(before, after, wall_s, on_cpu=on_cpu),
        flags=tuple(flags),
        gpu_others=after.gpu.others_busy if after.gpu else None,
    )


def _gpu_flags(before: GpuCounters, after: GpuCounters, wall_s: float) -> list[str]:
    """Return what troubled a GPU: a clock that moved, something that slowed it down, or another process at work.

    A cap on its power is no other load: where it lowers the clock, the clock says so.
    """
    flags = []
    if before.mhz and after.mhz and abs(after.mhz - before.mhz) > MOST_CLOCK_CHANGE * before.mhz:
        flags.append("gpu_clock")
    for name, seconds in after.slowed_s.items():
        if name != "power" and (seconds - before.slowed_s.get(name, seconds)) / wall_s > MOST_SLOWED:
            flags.append(f"gpu_{name}")
    if after.others_busy is not None and after.others_busy > MOST_OTHERS_ON_GPU:
        flags.append("gpu_shared")
    return flags


def _watts(before: Counters, after: Counters, wall_s: float, *, on_cpu: bool) -> float | None:
    first, last = before.cpu_energy_j, after.cpu_energy_j
    if not on_cpu:
        first, last = (one.gpu.energy_j if one.gpu else None for one in (before, after))
    # A counter that started anew tells nothing.
    return None if first is None or last is None or last < first else (last - first) / wall_s


def _difference(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else max(0.0, after - before)


def _processor_seconds() -> tuple[float | None, float | None]:
    """Return the seconds that all cores were busy, and that the hypervisor took, since the machine started."""
    try:
        # One line alone: the whole file takes long on a machine with many cores.
        with (PROC / "stat").open(encoding="ascii") as file:
            fields = [int(field) for field in file.readline().split()[1:9]]
        user, nice, system, _idle, _wait, interrupts, soft, steal = fields
    except (OSError, ValueError):
        return None, None
    tick = os.sysconf("SC_CLK_TCK")
    return (user + nice + system + interrupts + soft) / tick, steal / tick


THROTTLED = {"throttled_usec": 1e-6, "throttled_time": 1e-9}
"""What versions 2 and 1 of cgroups call the time that a quota took, with its unit in seconds."""


@cache
def _throttle_files() -> tuple[Path, ...]:
    return tuple(file for folder in cgroup_folders("cpu") if (file := folder / "cpu.stat").is_file())


def _throttled_seconds() -> float | None:
    """Return the seconds that quotas took from this process's cgroup and those around it, each from its own threads."""
    lines = [line.split() for file in _throttle_files() for line in text_of(file).splitlines()]
    found = [int(line[1]) * THROTTLED[line[0]] for line in lines if line[0] in THROTTLED]
    return sum(found) if found else None


def _package_joules() -> float | None:
    """Return what the processor's packages took since some moment, where RAPL may be read: mostly by root alone."""
    found = [text_of(file) for file in _package_files()]
    return sum(map(int, found)) * 1e-6 if found and all(text.isdigit() for text in found) else None


@cache
def _package_files() -> tuple[Path, ...]:
    zones = (SYS / "class/powercap").glob("intel-rapl:*/energy_uj")
    # A package is a zone; its cores and its memory are zones within, whose names have another colon.
    return tuple(file for file in zones if file.parent.name.count(":") == 1)


def _pressure_seconds() -> float | None:
    """Return the seconds that some runnable task waited for a core (pressure stall information)."""
    some = re.match(r"some .*total=(\d+)", text_of(PROC / "pressure/cpu"))
    return int(some.group(1)) * 1e-6 if some else None
