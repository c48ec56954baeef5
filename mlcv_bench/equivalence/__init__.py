"""Floor 2: whether two formulations are one function.

The public functions load on first use (PEP 562), so that listing subjects loads no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlcv_bench.equivalence.convolution import from_block_diagonal, to_block_diagonal, to_chunks
    from mlcv_bench.equivalence.folding import fold
    from mlcv_bench.equivalence.study import Equivalence, Verification
    from mlcv_bench.equivalence.transplants import convert, join, split, transplant

__all__ = [
    "Equivalence",
    "Verification",
    "convert",
    "fold",
    "from_block_diagonal",
    "join",
    "split",
    "to_block_diagonal",
    "to_chunks",
    "transplant",
]

_MODULES = {
    "convolution": ("from_block_diagonal", "to_block_diagonal", "to_chunks"),
    "folding": ("fold",),
    "study": ("Equivalence", "Verification"),
    "transplants": ("convert", "join", "split", "transplant"),
}
_PLACES = {name: f"{__name__}.{module}" for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever the public name stands for
    """Load a public name from the module that defines it."""
    if name in _PLACES:
        return getattr(importlib.import_module(_PLACES[name]), name)
    msg = f"module '{__name__}' has no attribute '{name}'"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted(__all__)
