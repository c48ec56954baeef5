"""The clocks: wall time, processor time and device events behind one protocol, so that a test can bring its own."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch


class Clock(Protocol):
    """Everything a measurement reads from the outside world. Times are nanoseconds from an arbitrary origin."""

    events: bool
    """Whether `mark` and `between_ns` measure time on the device itself."""

    def wall_ns(self) -> int:
        """Return the monotonic wall time."""
        ...

    def cpu_ns(self, threads: int) -> int:
        """Return the processor time: of this thread when it computes alone, of the whole process otherwise."""
        ...

    def synchronise(self) -> None:
        """Wait until the device has done everything asked of it."""
        ...

    def mark(self) -> Any:  # noqa: ANN401 - a device event, whose type belongs to the device
        """Record an event on the device's queue."""
        ...

    def between_ns(self, start: Any, end: Any) -> int:  # noqa: ANN401 - as returned by `mark`
        """Return the device time between two marks, both completed."""
        ...


class ProcessorClock:
    """The clock for work on the processor: every call has finished when it returns."""

    events = False
    wall_ns = staticmethod(time.perf_counter_ns)

    @staticmethod
    def cpu_ns(threads: int) -> int:
        """Return this thread's processor time for one thread, the process's for more."""
        return time.thread_time_ns() if threads == 1 else time.process_time_ns()

    def synchronise(self) -> None:
        """Return at once: nothing is pending on a processor."""

    def mark(self) -> None:
        """Return nothing: the wall clock is the device's clock."""

    def between_ns(self, start: Any, end: Any) -> int:  # noqa: ANN401 - the protocol's signature
        """Refuse: a processor has no events."""
        msg = "a processor has no device events"
        raise NotImplementedError(msg)


class CudaClock(ProcessorClock):
    """The clock for work on a CUDA device: events on its stream beside synchronised wall time."""

    events = True

    def __init__(self, device: torch.device) -> None:
        """Time the current stream of `device`."""
        import torch  # noqa: PLC0415 - a processor clock needs no torch

        self._cuda = torch.cuda
        self._device = device

    def synchronise(self) -> None:
        """Wait for every stream of the device."""
        self._cuda.synchronize(self._device)

    def mark(self) -> Any:  # noqa: ANN401 - torch.cuda.Event
        """Record a timing event on the current stream."""
        event = self._cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record(self._cuda.current_stream(self._device))
        return event

    def between_ns(self, start: Any, end: Any) -> int:  # noqa: ANN401 - torch.cuda.Event
        """Return the device time between two completed events (torch gives milliseconds, resolved to 0.5 µs)."""
        return int(start.elapsed_time(end) * 1e6 + 0.5)


class MetalClock(ProcessorClock):
    """The clock for Apple's MPS, which has a queue of its own to wait for."""

    def synchronise(self) -> None:
        """Wait for the Metal queue."""
        import torch  # noqa: PLC0415 - a processor clock needs no torch

        torch.mps.synchronize()


def clock_for(device: str) -> Clock:
    """Return the clock of a device name such as `cpu`, `cuda`, `cuda:1` or `mps`."""
    if device.startswith("cuda"):
        import torch  # noqa: PLC0415 - a processor clock needs no torch

        return CudaClock(torch.device(device))
    return MetalClock() if device.startswith("mps") else ProcessorClock()
