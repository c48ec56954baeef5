"""mlcv-bench: what vision architectures cost, whether formulations agree, how fast they run, which optimizer wins.

The public functions load on first use (PEP 562), so that `import mlcv_bench` costs nothing.
"""

from __future__ import annotations

import importlib
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlcv_bench.api.claims import check_claims
    from mlcv_bench.api.costs import count, count_training
    from mlcv_bench.api.landscapes import landscape
    from mlcv_bench.api.pictures import draw, figure
    from mlcv_bench.api.races import race
    from mlcv_bench.api.task_races import race_on_tasks
    from mlcv_bench.api.timing import time_forward
    from mlcv_bench.api.verification import verify
    from mlcv_bench.architectures.build import build

__version__ = "0.2.0"

__all__ = [
    "__version__",
    "build",
    "check_claims",
    "count",
    "count_training",
    "draw",
    "figure",
    "landscape",
    "race",
    "race_on_tasks",
    "time_forward",
    "verify",
]

_PLACES = {
    "build": "mlcv_bench.architectures.build",
    "check_claims": "mlcv_bench.api.claims",
    "count": "mlcv_bench.api.costs",
    "count_training": "mlcv_bench.api.costs",
    "draw": "mlcv_bench.api.pictures",
    "figure": "mlcv_bench.api.pictures",
    "landscape": "mlcv_bench.api.landscapes",
    "race": "mlcv_bench.api.races",
    "race_on_tasks": "mlcv_bench.api.task_races",
    "time_forward": "mlcv_bench.api.timing",
    "verify": "mlcv_bench.api.verification",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - any public object
    """Load a public name from the module that defines it."""
    if name in _PLACES:
        return getattr(importlib.import_module(_PLACES[name]), name)
    from mlcv_bench.deprecations import PUBLIC  # noqa: PLC0415 - importing this package costs nothing

    if renamed := PUBLIC.get(name):
        warnings.warn(renamed.sentence(f"mlcv_bench.{name}"), DeprecationWarning, stacklevel=2)
        return __getattr__(renamed.new)
    msg = f"module 'mlcv_bench' has no attribute '{name}'"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted(__all__)
