"""What decides a figure on this machine: versions, processor, threads, flags. Loads nothing heavy by itself."""

from __future__ import annotations

import datetime as dt
import os
import platform
import re
import shlex
import socket
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mlcv_bench.system import PROC, SYS, allowed_cores, cgroup_folders, cgroup_quota, text_of

CPUS = SYS / "devices/system/cpu"
PACKAGES = ("torch", "numpy", "numba", "fvcore", "pandas", "scikit-learn")
FLAGS = (
    "OMP_NUM_THREADS",
    "OMP_WAIT_POLICY",
    "GOMP_SPINCOUNT",
    "KMP_BLOCKTIME",
    "MKL_NUM_THREADS",
    "OPENBLAS_CORETYPE",
    "NVIDIA_TF32_OVERRIDE",
    "CUDA_LAUNCH_BLOCKING",
    "CUDA_DEVICE_MAX_CONNECTIONS",
    "PYTORCH_CUDA_ALLOC_CONF",
    "PYTORCH_ALLOC_CONF",
    "TORCH_CUDNN_V8_API_DISABLED",
)


@dataclass(frozen=True, slots=True)
class Environment:
    """The circumstances of a measurement; travels with every saved file."""

    python: str
    system: str
    machine: str
    cpu: str
    logical_cores: int
    usable_cores: int
    memory_bytes: int | None
    versions: dict[str, str]
    flags: dict[str, str]
    threads: int | None
    device: str | None
    host: str
    commit: str | None
    dirty: bool | None
    """Whether the checkout differs from its commit; None where that is unknown."""
    time: str
    command: str

    def as_dict(self) -> dict[str, Any]:
        """Return the record as plain values, for JSON."""
        return asdict(self)


def output_of(*command: str, seconds: float = 10) -> str:
    """Return what a program of the system prints; nothing where there is none, it fails or takes too long."""
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=seconds)  # noqa: S603 - fixed programs, found on the user's PATH
    except (OSError, subprocess.SubprocessError):
        return ""
    return answer.stdout.strip()


def cpu_model() -> str:
    """Return the processor's name as the system gives it."""
    for line in text_of(PROC / "cpuinfo").splitlines():
        if line.startswith(("model name", "Model")):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def usable_cores() -> int:
    """Return the cores this process may use: affinity and cgroup quota both counted, at least one."""
    return within_quota(len(allowed_cores()))


def cache_bytes() -> int | None:
    """Return what the processor's last-level caches hold together, of the cores usable; None where Linux tells none."""
    found = {}
    for number in allowed_cores():
        indices = (CPUS / f"cpu{number}" / "cache").glob("index[0-9]")
        levels = [(int(text_of(str(index / "level")) or 0), index) for index in indices]
        _, last = max(levels, default=(0, Path()))
        size = re.fullmatch(r"(\d+)([KM]?)", text_of(str(last / "size")))
        if size:
            shared = text_of(str(last / "shared_cpu_list")) or str(number)
            found[shared] = int(size.group(1)) << {"": 0, "K": 10, "M": 20}[size.group(2)]
    return sum(found.values()) or None


def within_quota(cores: int) -> int:
    """Return so many cores, or as many as a cgroup's quota leaves of them, at least one."""
    quota = cgroup_quota()
    return max(1, cores if quota is None else min(cores, int(quota)))


def memory_limit_bytes() -> int | None:
    """Return the memory in bytes that the cgroups around this process leave it, or None."""
    names = ("memory.max", "memory.limit_in_bytes")
    texts = [text_of(folder / name) for folder in cgroup_folders("memory") for name in names]
    # Version 1 says "no limit" by the largest number of whole pages.
    return min((int(text) for text in texts if text.isdigit() and int(text) < 2**62), default=None)


def memory_bytes() -> int | None:
    """Return the machine's memory in bytes, where the system reports it."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def installed_versions(packages: tuple[str, ...] = PACKAGES) -> dict[str, str]:
    """Return the installed version of each package, without importing any."""
    from importlib import metadata  # noqa: PLC0415 - zipfile, email and more, which no help needs

    found = {}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def commit_of(folder: Path) -> str | None:
    """Return the git commit that `folder` stands at, or None outside a checkout."""
    return output_of("git", "-C", str(folder), "rev-parse", "HEAD", seconds=5) or None


def state_of(file: Path) -> str | None:
    """Return the commit that a file stands at, and whether its checkout was changed; None where git has it not."""
    where = ("git", "-C", str(file.parent))
    if not output_of(*where, "ls-files", "--error-unmatch", file.name, seconds=5):
        return None
    commit = commit_of(file.parent)
    changed = changed_since_commit(file.parent)
    return None if commit is None else f"{commit[:12]} with changes" if changed else commit[:12]


def changed_since_commit(folder: Path) -> bool | None:
    """Return whether a file that git tracks in `folder`'s checkout differs from the commit; None outside a checkout.

    A database that is kept in the checkout is no part of what was measured: a history grows by its own results.
    """
    state = ("status", "--porcelain", "--branch", "--untracked-files=no", "--", ":/", ":(top,exclude)*.sqlite")
    lines = output_of("git", "-C", str(folder), *state, seconds=10).splitlines()
    return len(lines) > 1 if lines else None  # the first line names the branch


def command_line(arguments: list[str] | None = None) -> str:
    """Return the command that reproduces this run."""
    return shlex.join(["mlcv-bench", *(sys.argv[1:] if arguments is None else arguments)])


def capture(*, device: str | None = None, command: str | None = None) -> Environment:
    """Read the environment as it is now; torch's thread count only if torch is loaded already."""
    torch = sys.modules.get("torch")
    return Environment(
        python=platform.python_version(),
        system=platform.platform(),
        machine=platform.machine(),
        cpu=cpu_model(),
        logical_cores=os.cpu_count() or 1,
        usable_cores=usable_cores(),
        memory_bytes=memory_bytes(),
        # The version that runs: an editable installation keeps the one that it was made of.
        versions={"mlcv-bench": sys.modules["mlcv_bench"].__version__, **installed_versions()},
        flags={flag: os.environ[flag] for flag in FLAGS if flag in os.environ},
        threads=torch.get_num_threads() if torch is not None else None,
        device=device,
        host=socket.gethostname(),
        commit=commit_of(Path.cwd()),
        dirty=changed_since_commit(Path.cwd()),
        time=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        command=command if command is not None else command_line(),
    )
