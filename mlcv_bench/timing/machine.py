"""Everything about this machine that decides a time, beyond what every saved file says anyway."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from mlcv_bench import environment
from mlcv_bench.timing.cores import physical_cores
from mlcv_bench.timing.openmp import wait_policy


def describe(device: str | None = None) -> dict[str, Any]:
    """Return the environment with what only a timing needs; asks torch what it was built with and sees."""
    import torch  # noqa: PLC0415 - the wait policy must be set before torch loads

    from mlcv_bench.timing.forward import settings_in_force  # noqa: PLC0415 - as above

    values = environment.capture(device=device).as_dict()
    return {
        **values,
        "physical_cores": physical_cores(),
        "quota_cores": environment.cgroup_quota(),
        "governor": _first_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "frequency_mhz": _frequency(),
        "turbo_disabled": _first_line("/sys/devices/system/cpu/intel_pstate/no_turbo"),
        "load_average": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        "pressure_readable": Path("/proc/pressure/cpu").exists(),
        "kernel": platform.release(),
        "wait_policy": wait_policy(),
        "compiler": sys.version.partition("[")[2].rstrip("]") or None,
        "blas": _build_setting(torch.__config__.show(), "BLAS_INFO"),
        "openmp": _build_setting(torch.__config__.parallel_info(), "omp"),
        "vector_instructions": torch.backends.cpu.get_cpu_capability(),
        "torch_settings": settings_in_force(),
        "gpus": _gpus(torch),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version() if torch.cuda.is_available() else None,  # type: ignore[no-untyped-call]
        "driver": _driver() if torch.cuda.is_available() else None,
    }


def _first_line(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None


def _frequency() -> float | None:
    try:
        found = re.findall(r"^cpu MHz\s*:\s*([\d.]+)", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        return None
    return max(map(float, found)) if found else None


def _build_setting(text: str, what: str) -> str | None:
    if what == "omp":
        line = next((line for line in text.splitlines() if line.startswith("ATen parallel backend")), None)
        return line.partition(":")[2].strip() if line else None
    found = re.search(rf"{what}=(\S+?),", text)
    return found.group(1) if found else None


def _gpus(torch: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - the module, already imported by the caller
    return [
        {
            "name": (known := torch.cuda.get_device_properties(index)).name,
            "memory_bytes": known.total_memory,
            "capability": f"{known.major}.{known.minor}",
        }
        for index in range(torch.cuda.device_count())
    ]


def _driver() -> str | None:
    try:
        answer = subprocess.run(
            ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"],  # noqa: S607 - found on PATH
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.splitlines()[0].strip()
