"""The clocks: wall time, processor time and device events behind one class, in whose place a test puts its own."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from mlcv_bench.system import PROC

if TYPE_CHECKING:
    from collections.abc import Mapping

Basis = Literal["wall", "cpu"]
"""Which clock a figure rests on: `cpu` is the wall clock less what was spent waiting for a core."""

ComparedClock = Literal[Basis, "device"]
"""Which clock a comparison rests on: on an accelerator it is the device's own."""

TASKS = PROC / "self/task"
# A reading during which the process waited for a core is taken again, a few times.
MOST_READINGS = 5


class Clock:
    """Everything a measurement reads from the outside world, here for work on the processor.

    Times are nanoseconds from an arbitrary origin.
    """

    events = False
    """Whether `mark` and `between_ns` measure time on the device itself."""

    wall_ns = staticmethod(time.perf_counter_ns)
    """The monotonic wall time."""

    cpu_ns = staticmethod(time.process_time_ns)
    """The processor time of the whole process, every thread's."""

    @staticmethod
    def waited_ns() -> Mapping[str, int] | None:
        """Return how long each thread alive was ready to run and had no core; None if the kernel does not report it.

        It is the run delay, the second field of Linux's schedstat.
        """
        found = {}
        with contextlib.suppress(OSError):
            for task in TASKS.iterdir():
                # A thread may end while the others are read.
                with contextlib.suppress(OSError, ValueError):
                    ran, waited, _ = map(int, (task / "schedstat").read_bytes().split())
                    # A kernel built without these statistics writes three zeros.
                    if ran:
                        found[task.name] = waited
        return found or None

    def synchronise(self) -> None:
        """Wait until the device has done everything asked of it; on a processor a call has finished when it returns."""

    def hold(self, seconds: float) -> None:
        """Keep the device's queue from starting what is asked of it next for at least so long, where it can be held."""

    def mark(self) -> Any:  # noqa: ANN401 - a device event, whose type belongs to the device
        """Record an event on the device's queue."""
        raise NotImplementedError("a processor has no device events")

    def between_ns(self, start: Any, end: Any) -> int:  # noqa: ANN401 - as returned by `mark`
        """Return the device time between two marks, both completed."""
        raise NotImplementedError("a processor has no device events")


class AcceleratorClock(Clock):
    """The clock for work on any accelerator that torch knows: events on its stream, and synchronised wall time."""

    events = True

    def __init__(self, device: str) -> None:
        """Time the current stream of `device`."""
        import torch  # noqa: PLC0415 - a processor clock needs no torch

        self._torch = torch
        self._device = torch.device(device)

    def synchronise(self) -> None:
        """Wait for every stream of the device."""
        self._torch.accelerator.synchronize(self._device)

    def hold(self, seconds: float) -> None:
        """Let a CUDA device wait first, so that a call's kernels stand in its queue before the first one starts."""
        if self._device.type == "cuda":
            from mlcv_bench.torch_private import hold_cuda  # noqa: PLC0415 - as above

            hold_cuda(self._device, seconds)

    def mark(self) -> Any:  # noqa: ANN401 - torch.Event
        """Record a timing event on the current stream."""
        event = self._torch.Event(self._device, enable_timing=True)
        event.record(self._torch.accelerator.current_stream(self._device))
        return event

    def between_ns(self, start: Any, end: Any) -> int:  # noqa: ANN401 - torch.Event
        """Return the device time between two completed events (torch gives milliseconds, resolved to 0.5 µs)."""
        return int(start.elapsed_time(end) * 1e6 + 0.5)


@dataclass(frozen=True, slots=True)
class Reading:
    """The processor's clocks at one moment, in nanoseconds."""

    wall: int
    cpu: int
    waited: Mapping[str, int] | None


def read(clock: Clock) -> Reading:
    """Read the clocks so that no waiting for a core falls between them."""
    for _ in range(MOST_READINGS):
        waited = clock.waited_ns()
        reading = Reading(clock.wall_ns(), clock.cpu_ns(), waited)
        if waited is None or waited == clock.waited_ns():
            break
    return reading


def idle_ns(before: Reading, after: Reading) -> int | None:
    """Return the time between two readings in which the process neither computed nor waited for a core.

    It slept, or waited for a file or another process, or waited for a core in a thread that has ended since. Negative
    where several threads computed or waited at once; None where the kernel does not report how long they waited.
    """
    if before.waited is None or after.waited is None:
        return None
    waited = sum(value - before.waited.get(task, 0) for task, value in after.waited.items())
    return (after.wall - before.wall) - (after.cpu - before.cpu) - waited


def clock_for(device: str) -> Clock:
    """Return the clock of a device name such as `cpu`, `cuda`, `cuda:1`, `xpu` or `mps`."""
    return Clock() if device == "cpu" else AcceleratorClock(device)
