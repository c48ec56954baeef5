"""From a cell to the function that builds its network, with trained weights where the user has some."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mlcv_bench.architectures.build import build
from mlcv_bench.errors import MissingExtraError, UsageError
from mlcv_bench.names import first_line
from mlcv_bench.timing.cells import Cell


def builder(cell: Cell) -> Callable[[], nn.Module]:
    """Return what builds the cell's network, in float32 on the processor."""

    def construct() -> nn.Module:
        model: nn.Module = build(cell.architecture, **dict(cell.settings))
        if cell.weights is not None:
            load_weights(model, Path(cell.weights))
        return model

    return construct


def load_weights(model: nn.Module, path: Path) -> None:
    """Load a state dict saved by torch.save or as .safetensors; every name must match.

    Raises:
        UsageError: the file cannot be read, or belongs to another network.

    """
    try:
        model.load_state_dict(_read(path))
    except MissingExtraError:
        raise
    except Exception as error:
        msg = f"--weights {path} cannot be loaded into this network: {first_line(error)}; give its own state dict"
        raise UsageError(msg) from error


def _read(path: Path) -> dict[str, Any]:
    if path.suffix == ".safetensors":
        try:
            from safetensors.torch import load_file  # noqa: PLC0415 - from an extra
        except ImportError as error:
            feature = "reading .safetensors"
            raise MissingExtraError(feature, "dev") from error
        return dict(load_file(path))
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state
