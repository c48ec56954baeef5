"""The physical cores that this process may use; standard library only."""

from __future__ import annotations

import os
from pathlib import Path

from mlcv_bench.environment import cgroup_quota


def physical_cores() -> int:
    """Return the physical cores usable: affinity and quota counted, hyper-threads not, at least one."""
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    cores = set()
    for number in allowed:
        siblings = Path(f"/sys/devices/system/cpu/cpu{number}/topology/thread_siblings_list")
        try:
            cores.add(siblings.read_text(encoding="ascii").strip())
        except OSError:
            cores.add(str(number))
    quota = cgroup_quota()
    return max(1, min(len(cores), int(quota)) if quota is not None else len(cores))
