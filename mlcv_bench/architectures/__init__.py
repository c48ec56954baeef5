"""Floor 1: the networks of the notes, and the way to any other.

The blocks are public and usable alone; they load on first use (PEP 562), so that listing names loads no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlcv_bench.architectures.googlenet import Filters, GoogLeNetOutputs, InceptionModule
    from mlcv_bench.architectures.inception import (
        InceptionA,
        InceptionB,
        InceptionC,
        InceptionResNetA,
        InceptionResNetB,
        InceptionResNetC,
        InceptionResNetReduction,
        InceptionV4Stem,
        ReductionA,
        ReductionB,
    )
    from mlcv_bench.architectures.layers import ChunkedConv2d, ConvolutionUnit, PaddedShortcut
    from mlcv_bench.architectures.resnet import BasicBlock, Bottleneck
    from mlcv_bench.architectures.resnext import ResNeXtBlock

__all__ = [
    "BasicBlock",
    "Bottleneck",
    "ChunkedConv2d",
    "ConvolutionUnit",
    "Filters",
    "GoogLeNetOutputs",
    "InceptionA",
    "InceptionB",
    "InceptionC",
    "InceptionModule",
    "InceptionResNetA",
    "InceptionResNetB",
    "InceptionResNetC",
    "InceptionResNetReduction",
    "InceptionV4Stem",
    "PaddedShortcut",
    "ReductionA",
    "ReductionB",
    "ResNeXtBlock",
]

_FILES = ("layers", "resnet", "resnext", "googlenet", "inception")


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever class the public name stands for
    """Load a public block from the file that defines it."""
    if name in __all__:
        modules = (importlib.import_module(f"{__name__}.{file}") for file in _FILES)
        return next(getattr(module, name) for module in modules if hasattr(module, name))
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted(__all__)
