"""The cost of training steps as people read it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlcv_bench.counting.training import TrainingCost
from mlcv_bench.records import Column, Report, Table, columns_of, fitted
from mlcv_bench.report.costs import MEBI, circumstances, leading, told_apart

if TYPE_CHECKING:
    from collections.abc import Sequence

STEP = (
    Column("forward_macs", "forward", "G MACs", ",.3f", 1e9),
    Column("backward_macs", "backward", "G MACs", ",.3f", 1e9),
    Column("training_macs", "step", "G MACs", ",.3f", 1e9),
    Column("weight_bytes", "weights", "MiB", ",.1f", MEBI),
    Column("gradient_bytes", "grads", "MiB", ",.1f", MEBI),
    Column("optimizer_bytes", "state", "MiB", ",.1f", MEBI),
    Column("saved_bytes", "saved", "MiB", ",.1f", MEBI),
    Column("peak_bytes", "peak", "MiB", ",.1f", MEBI),
)
LARGEST = (
    Column("largest_batch", "largest", "batch", ",d"),
    Column("largest_batch_bytes", "its peak", "GiB", ",.2f", 2.0**30),
)


def training_report(costs: Sequence[TrainingCost]) -> Report:
    """Return what `flops --training` shows: MACs of a step, what takes memory, and the largest batch that fits."""
    names = [cost.architecture for cost in costs]
    rows = [cost.row() | {"label": label} for cost, label in zip(costs, told_apart(costs, names), strict=True)]
    limited = costs[0].memory_bytes is not None
    caption = (
        f"State: what {costs[0].optimizer} keeps. Saved: kept between forward and backward, input and loss included. "
        "Peak: the most alive at once, with weights, buffers, state and gradients; what kernels take for themselves is "
        "not in it. The gradient of the image is not computed."
    )
    if limited and costs[0].memory_bytes is not None:
        caption += f" Largest batch: its peak fits into {costs[0].memory_bytes / 2**30:,.2f} GiB."
    columns = (*leading(costs, names), *fitted((*STEP, *(LARGEST if limited else ())), rows))
    warnings = [
        f"{cost.architecture}: not counted: {', '.join(cost.uncounted)}; the MACs leave these operators out"
        for cost in costs
        if cost.uncounted
    ]
    table = Table(f"A training step{circumstances(costs)}", columns, rows, caption)
    runs = [cost.row() for cost in costs]
    return Report("training", columns_of(TrainingCost), runs, [table], warnings=warnings)
