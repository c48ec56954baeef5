"""Devices: the one that a name means, the switches that decide a figure there, and what a call takes of its memory."""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from mlcv_bench.architectures.reproducibility import tf32_switches
from mlcv_bench.environment import cache_bytes
from mlcv_bench.errors import UsageError
from mlcv_bench.system import PROC, text_of

T = TypeVar("T")

LEAST_CLEARED = 256 * 2**20


def resolve_device(name: str) -> str:
    """Return the device that `name` means here: `auto` is a GPU where there is one, `cuda` the first.

    Raises:
        UsageError: no such device is here; the message names those that are.

    """
    here = ["cpu", *accelerators()]
    if name == "auto":
        return here[min(1, len(here) - 1)]
    wanted = name if name in {"cpu", "mps"} or ":" in name else f"{name}:0"
    if wanted not in here:
        raise UsageError(f"--device {name} is not here; this machine has {', '.join(here)}")
    return wanted


def accelerators() -> list[str]:
    """Return the names of the accelerators that torch sees here: cuda:0, cuda:1 and so on, xpu:0, or mps."""
    if not torch.accelerator.is_available():
        return []
    kind = torch.accelerator.current_accelerator()
    if kind is None or kind.type == "mps":
        return [] if kind is None else [kind.type]
    return [f"{kind.type}:{index}" for index in range(torch.accelerator.device_count())]


def settings_in_force() -> dict[str, Any]:
    """Return torch's global switches that decide a figure; None for one that can no longer be read."""
    return {
        "cudnn.benchmark": torch.backends.cudnn.benchmark,
        "cudnn.allow_tf32": _if_readable(lambda: torch.backends.cudnn.allow_tf32),
        "cuda.matmul.allow_tf32": _if_readable(lambda: torch.backends.cuda.matmul.allow_tf32),
        "float32_matmul_precision": _if_readable(torch.get_float32_matmul_precision),
        **{f"{name}.fp32_precision": switch.fp32_precision for name, switch in tf32_switches().items()},
        "mkldnn": bool(torch.backends.mkldnn.enabled),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "interop_threads": torch.get_num_interop_threads(),
    }


def _if_readable(switch: Callable[[], T]) -> T | None:
    """Return an older switch of TF32; None where the program has set one of the newer ones alone."""
    try:
        return switch()
    except RuntimeError:
        return None


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of one cell. `allocated` counts its weights, its input and everything alive at the worst moment of a call.

    `reserved` is what an accelerator's allocator took from the device for it, and no less than `allocated`; `resident`
    the whole process's peak. None is unknown.
    """

    allocated: int | None
    reserved: int | None
    resident: int | None


@dataclass(frozen=True, slots=True)
class HeldMemory:
    """What an accelerator's allocator has given to others, in bytes, before a cell is prepared."""

    allocated: int = 0
    reserved: int = 0

    @classmethod
    def now(cls, device: str) -> HeldMemory:
        """Read it, with whatever nobody uses given back.

        The workspace of cuBLAS, 32 MiB on an H100, is the process's: it is taken first, so that no cell pays for it.
        """
        if not _counts_memory(device):
            return cls()
        nn.functional.linear(*(torch.ones(shape, device=device) for shape in ((1, 1), (1, 1), (1,))))
        release_cache(device)
        allocator: Any = torch.get_device_module(device)
        return cls(allocator.memory_allocated(device), allocator.memory_reserved(device))


def _counts_memory(device: str) -> bool:
    """Tell whether torch's allocator for a device keeps counts; Apple's has none of a peak."""
    return device != "cpu" and not device.startswith("mps")


def release_cache(device: str) -> None:
    """Give an accelerator's memory back that nobody uses; nothing where an earlier error has cost us the device."""
    if device != "cpu":
        # Networks that torch.fx or torch.compile made refer to themselves.
        gc.collect()
        allocator: Any = torch.get_device_module(device)
        with contextlib.suppress(RuntimeError):
            allocator.empty_cache()


def peak_memory(device: str, call: Callable[[], object], resident_of: Iterable[Tensor], others: HeldMemory) -> Memory:
    """Return the peak of one `call`, made after a warm-up, less what `others` had before the cell was prepared.

    `resident_of` are the cell's tensors alive before the call.
    """
    _forget_resident_peak()
    if _counts_memory(device):
        allocator: Any = torch.get_device_module(device)
        release_cache(device)
        allocator.reset_peak_memory_stats(device)
        call()
        allocated = allocator.max_memory_allocated(device) - others.allocated
        reserved = allocator.max_memory_reserved(device) - others.reserved
        return Memory(allocated, max(allocated, reserved), _resident_peak())
    if device != "cpu":
        call()
        return Memory(None, None, _resident_peak())
    # Tensors that share a storage have one object of it.
    standing = sum(storage.nbytes() for storage in {tensor.untyped_storage() for tensor in resident_of})
    return Memory(standing + _allocated_during(call), None, _resident_peak())


def _allocated_during(call: Callable[[], object]) -> int:
    """Return the largest sum of bytes that torch's processor allocator handed out at once during the call."""
    from torch.profiler import ProfilerActivity, profile  # noqa: PLC0415 - a second of import

    # Read when the process first profiles: without it the profiler writes two lines of its own to stderr.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        call()
    results = profiler.profiler.kineto_results if profiler.profiler is not None else None
    events = [] if results is None else [event for event in results.events() if event.name() == "[memory]"]
    now, peak = 0, 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak


def cache_clearer(device: str) -> Callable[[], object]:
    """Return a function that overwrites more memory than the device's last-level cache holds.

    Twice what it holds, and 256 MiB at the least on an accelerator, as triton's do_bench does, and where nobody tells.
    """
    if device == "cpu":
        held = cache_bytes()
    else:
        held = getattr(torch.get_device_module(device).get_device_properties(device), "L2_cache_size", None)
    least = 0 if held and device == "cpu" else LEAST_CLEARED
    buffer = torch.zeros(max(least, 2 * (held or 0)) // 4, dtype=torch.int32, device=device)
    # Read and written, since a plain fill may pass a processor's caches by.
    return functools.partial(buffer.add_, 1)


def fits_in_memory(devices: Sequence[str]) -> Callable[[], bool]:
    """Return a function that tells whether another cell may join those alive: half of what was free must stay free."""
    free = {device: free_bytes(device) for device in set(devices)}

    def fits() -> bool:
        return all(before is None or (free_bytes(device) or 0) >= before / 2 for device, before in free.items())

    return fits


def require_room(device: str, needed: int) -> None:
    """Refuse at once what can never fit, before anything is made of it.

    Raises:
        torch.OutOfMemoryError: less than `needed` bytes are free on the device.

    """
    free = free_bytes(device)
    if free is not None and needed > free:
        raise torch.OutOfMemoryError(f"the images alone take {needed} bytes, and {free} are free on {device}")


def free_bytes(device: str) -> int | None:
    """Return what is free; None where nobody tells, 0 where an earlier error has cost us the device."""
    if _counts_memory(device):
        try:
            return int(torch.get_device_module(device).mem_get_info(device)[0])
        except RuntimeError:
            return 0
    return _bytes_in(PROC / "meminfo", "MemAvailable")


def _forget_resident_peak() -> None:
    """Lower Linux's high-water mark of this process to what is resident now."""
    try:
        (PROC / "self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return


def _resident_peak() -> int | None:
    return _bytes_in(PROC / "self/status", "VmHWM")


def _bytes_in(file: Path, name: str) -> int | None:
    """Return one of the figures, in kB, of a file of Linux."""
    found = re.search(rf"^{name}:\s*(\d+) kB", text_of(file), re.MULTILINE)
    return int(found.group(1)) * 1024 if found else None
