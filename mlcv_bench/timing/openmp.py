"""Makes waiting OpenMP threads sleep instead of spin; standard library only, as torch must be imported after it."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import MutableMapping

# With as many threads as cores, a spinning barrier fights its own team for a core that a neighbour took: one network
# took 2192 ms with the defaults, 54 ms with GOMP_SPINCOUNT=0. KMP_BLOCKTIME is the same switch of LLVM's runtime.
PASSIVE = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0", "KMP_BLOCKTIME": "0"}

# Without it torch's profiler, which measures memory here, writes two lines of its own to stderr.
QUIET = {"KINETO_LOG_LEVEL": "99"}


def settle(environment: MutableMapping[str, str] | None = None) -> bool:
    """Set the passive wait policy in `environment` (this process's by default) wherever the user has set nothing.

    A user who set any one of the variables decided about waiting, so none of the others is touched.
    Returns False when torch is loaded already, so that the setting reaches only child processes.
    """
    target = os.environ if environment is None else environment
    if not any(name in target for name in PASSIVE):
        target.update(PASSIVE)
    for name, value in QUIET.items():
        target.setdefault(name, value)
    return environment is not None or "torch" not in sys.modules


def wait_policy() -> str:
    """Return the wait policy in force, in words that stand beside a figure."""
    chosen = [f"{name}={os.environ[name]}" for name in PASSIVE if name in os.environ]
    return " ".join(chosen) or "the runtime's default (spinning)"
