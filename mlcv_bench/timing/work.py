"""What a cell computes, from the counter: the MACs that turn a time into a rate."""

from __future__ import annotations

from mlcv_bench.architectures.request import Request
from mlcv_bench.counting.cost import count
from mlcv_bench.timing.cells import Cell
from mlcv_bench.timing.study import Work

_ITEM_BYTES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}


def work_of(cell: Cell) -> Work:
    """Count the cell's network on the meta device.

    Raises:
        UsageError: the network cannot take this input; said before anything is measured.

    """
    cost = count(Request(cell.architecture, cell.settings, cell.input), batch=cell.batch)
    pixels = cell.batch
    for size in cell.input:
        pixels *= size
    item = _ITEM_BYTES[cell.dtype]
    return Work(cost.params, cost.macs, cost.weight_bytes * item // 4 + (cost.activations + pixels) * item)
