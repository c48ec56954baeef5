"""What systems offer differently: files of Linux, affinity, locks, usage, process groups, signals; here alone.

Each has a plain fallback: where a system lacks it, less is known, or a child is ended without what it started, and
everything else works. Linux is tested; the tests also run with all of it absent.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import subprocess


def module_of(name: str) -> Any:  # noqa: ANN401 - a module of the standard library
    """Return a module that Python has on some systems alone, or None."""
    try:
        return importlib.import_module(name)
    except ImportError:  # Windows
        return None


LOCKS, USAGE = module_of("fcntl"), module_of("resource")
PROC = Path("/proc")
SYS = Path("/sys")
"""Files in which Linux tells what it does; elsewhere there are none."""
INTERRUPTIONS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
"""The signals that end a command from outside; Windows knows no closed terminal."""
KILLING = getattr(signal, "SIGKILL", signal.SIGTERM)
DEATH_SIGNAL = 1
"""The option of Linux's prctl that sets a signal for the parent's end."""


def text_of(path: str | Path) -> str:
    """Return what a file of the system holds; nothing where there is none, or it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def cgroup_folders(controller: str) -> list[Path]:
    """Return the folders of the cgroups that limit this process in one thing, say "cpu": its own, then those around it.

    Version 2 has one tree for everything, version 1 a tree for each. A container sees its own group as the root,
    whatever path the process is said to be at.
    """
    folders = []
    for line in text_of(PROC / "self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers or controller in controllers.split(","):
            root = SYS / "fs/cgroup" / (controller if controllers else "")
            own = root / path.lstrip("/")
            folders += [own, *(folder for folder in own.parents if folder.is_relative_to(root))]
    return folders


def cgroup_quota() -> float | None:
    """Return the processor quota in cores that the cgroups around this process impose, or None."""
    found = []
    for folder in cgroup_folders("cpu"):
        # One file in version 2, where "max" is no limit; two in version 1, where -1 is none.
        in_two = [text_of(folder / f"cpu.cfs_{name}_us") for name in ("quota", "period")]
        limit, _, period = (text_of(folder / "cpu.max") or " ".join(in_two)).partition(" ")
        if limit.isdigit() and period.isdigit():
            found.append(int(limit) / int(period))
    return min(found, default=None)


def allowed_cores() -> list[int]:
    """Return the numbers of the cores that affinity lets this process run on; all where a system knows none."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [*range(os.cpu_count() or 1)]


def locked(file: IO[bytes]) -> bool:
    """Lock a file until it is closed; False where another process holds it. True unlocked where there are no locks."""
    if LOCKS is None:
        return True
    try:
        LOCKS.flock(file, LOCKS.LOCK_EX | LOCKS.LOCK_NB)
    except OSError:
        return False
    return True


class Usage(NamedTuple):
    """Processor seconds of this process, and how often it had to give up its core; None is unknown."""

    own_s: float
    switches: int | None


def usage() -> Usage:
    """Read what this process has used."""
    if USAGE is None:
        times = os.times()
        return Usage(times.user + times.system, None)
    found = USAGE.getrusage(USAGE.RUSAGE_SELF)
    return Usage(found.ru_utime + found.ru_stime, found.ru_nivcsw)


def own_group() -> dict[str, Any]:
    """Return Popen's keywords for a child that leads a process group, where there are such."""
    return {"process_group": 0} if hasattr(os, "killpg") else {}


def end_group(process: subprocess.Popen[bytes], number: int) -> None:
    """Send a signal to a child with its process group; where there are none, end the child alone."""
    if hasattr(os, "killpg"):
        os.killpg(process.pid, number)
    else:
        process.terminate()


def with_parent() -> dict[str, Any]:
    """Return Popen's keywords for a child that is interrupted when its starting thread is gone; Linux alone can."""
    if not sys.platform.startswith("linux"):
        return {}
    import ctypes  # noqa: PLC0415 - every command loads this module, and a suite's alone need it

    libc = ctypes.CDLL(None)
    return {"preexec_fn": lambda: libc.prctl(DEATH_SIGNAL, signal.SIGTERM)}


def ignore_interrupts() -> None:
    """Leave Ctrl-C and a closed terminal to the main process."""
    for number in INTERRUPTIONS:
        if number != signal.SIGTERM:
            with contextlib.suppress(ValueError):
                signal.signal(number, signal.SIG_IGN)
