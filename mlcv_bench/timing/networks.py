"""From a cell to the function that builds its network, with trained weights where the user has some."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import nn

from mlcv_bench.architectures.request import Request
from mlcv_bench.architectures.weights import load_weights
from mlcv_bench.counting.network import Network
from mlcv_bench.timing.cells import Cell


def builder(cell: Cell) -> Callable[[], nn.Module]:
    """Return what builds the cell's network, in float32 on the processor."""

    def construct() -> nn.Module:
        # A network that its file has built already is copied, as it will be converted.
        model = Network(Request(cell.architecture, cell.settings, cell.input)).on_cpu()
        if cell.weights is not None:
            load_weights(model, Path(cell.weights))
        return model

    return construct
