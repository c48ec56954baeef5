"""What NVIDIA's driver tells of a GPU while a block is timed: clock, slow-downs, energy, and who else computes there.

Through NVML, from the package nvidia-ml-py (the extra `gpu`); without it all of this is unknown.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field
from functools import cache
from typing import Any

SLOWED = {"power": 0, "thermal": 1, "board_limit": 3, "reliability": 5}
"""NVML's performance policies, by what they mean: each has a counter of the time in which it slowed the GPU."""


@dataclass(frozen=True, slots=True)
class GpuCounters:
    """A GPU at one moment: its clock in MHz, and counters that only grow; None is unknown.

    `slowed_s` are the seconds that each of `SLOWED` held it back, `energy_j` the joules since the driver was loaded,
    `others_busy` the largest share of the multiprocessors that another process used since the reading before: None, and
    not 0, where this GPU or its driver does not tell.
    """

    mhz: float | None = None
    slowed_s: dict[str, float] = field(default_factory=dict)
    energy_j: float | None = None
    others_busy: float | None = None


class Gpu:
    """One GPU as NVML knows it; the handle is kept, since finding it takes longer than a question."""

    def __init__(self, nvml: Any, handle: Any) -> None:  # noqa: ANN401 - the package's module and its handle
        """Ask `nvml` about the GPU behind `handle`."""
        self._nvml, self._handle = nvml, handle
        self._last_sample = 0

    def read(self) -> GpuCounters:
        """Read everything now."""
        ask, handle = self._ask, self._handle
        slowed = {
            name: status.violationTime * 1e-9
            for name, policy in SLOWED.items()
            if (status := ask("nvmlDeviceGetViolationStatus", handle, policy)) is not None
        }
        mhz = ask("nvmlDeviceGetClockInfo", handle, self._nvml.NVML_CLOCK_SM)
        energy = ask("nvmlDeviceGetTotalEnergyConsumption", handle)
        return GpuCounters(
            None if mhz is None else float(mhz), slowed, None if energy is None else energy * 1e-3, self._others_busy()
        )

    def facts(self) -> dict[str, Any]:
        """Return what of its settings decides a figure; None is unknown."""
        ask, handle, nvml = self._ask, self._handle, self._nvml
        limit = ask("nvmlDeviceGetPowerManagementLimit", handle)
        mode = ask("nvmlDeviceGetMigMode", handle)
        return {
            "persistence_mode": ask("nvmlDeviceGetPersistenceMode", handle),
            "power_limit_w": None if limit is None else limit / 1e3,
            "max_clock_mhz": ask("nvmlDeviceGetMaxClockInfo", handle, nvml.NVML_CLOCK_SM),
            "compute_mode": ask("nvmlDeviceGetComputeMode", handle),
            "mig_mode": None if mode is None else mode[0],
            "tells_other_processes": self._utilisation() is not None,
        }

    def _ask(self, name: str, *arguments: Any) -> Any:  # noqa: ANN401 - whatever NVML returns
        """Return one of NVML's answers; None where this GPU or its driver gives none."""
        with contextlib.suppress(self._nvml.NVMLError):
            return getattr(self._nvml, name)(*arguments)
        return None

    def _others_busy(self) -> float | None:
        own = os.getpid()
        running = self._ask("nvmlDeviceGetComputeRunningProcesses", self._handle)
        if running is None or own not in {process.pid for process in running}:
            # In a container the driver may know this process by another number.
            return None
        samples = self._utilisation()
        if samples is None:
            return None
        self._last_sample = max([sample.timeStamp for sample in samples], default=self._last_sample)
        return max([sample.smUtil / 100 for sample in samples if sample.pid != own], default=0.0)

    def _utilisation(self) -> list[Any] | None:
        """Return what processes used of the GPU since the last sample seen; None where nobody tells, as under MIG."""
        try:
            return list(self._nvml.nvmlDeviceGetProcessUtilization(self._handle, self._last_sample))
        except self._nvml.NVMLError as error:
            # It says "not found" where no process used the GPU since.
            return [] if getattr(error, "value", None) == self._nvml.NVML_ERROR_NOT_FOUND else None


@cache
def gpu_of(device: str) -> Gpu | None:
    """Return the GPU that torch calls `device`, by its UUID, whatever CUDA_VISIBLE_DEVICES says; None without NVML."""
    if not device.startswith("cuda"):
        return None
    import torch  # noqa: PLC0415 - a ledger for the processor needs no torch

    try:
        import pynvml  # type: ignore[import-untyped, import-not-found, unused-ignore]  # noqa: PLC0415 - from an extra
    except ImportError:
        return None
    with contextlib.suppress(pynvml.NVMLError):
        pynvml.nvmlInit()
        uuid = str(torch.cuda.get_device_properties(device).uuid)
        for prefix in ("GPU-", "MIG-"):
            with contextlib.suppress(pynvml.NVMLError):
                return Gpu(pynvml, pynvml.nvmlDeviceGetHandleByUUID(prefix + uuid))
    return None
