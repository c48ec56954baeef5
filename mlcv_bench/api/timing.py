"""`time_forward`: how long a network's forward pass takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from mlcv_bench.api.calls import check_subject, items, public, word
from mlcv_bench.api.results import Reported
from mlcv_bench.architectures.inputs import InputLike, read_inputs
from mlcv_bench.architectures.request import Networks
from mlcv_bench.names import name_of
from mlcv_bench.report.timings import timing_report
from mlcv_bench.timing.machine import wait_policy
from mlcv_bench.timing.request import CellGrid, TimeRequest
from mlcv_bench.timing.single import time_here
from mlcv_bench.timing.study import Timing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mlcv_bench.records import Report


class FinishedTiming(Reported, Timing):
    """How long a pass took: `.row()` has the figures, `.sampling` every block, `.status` how it ended."""

    def report(self) -> Report:
        """Return the timing as a report: the row, and the warnings that a reader must know."""
        return timing_report([self], self.plan)


@public
def time_forward(  # noqa: PLR0913 - a cell has as many settings
    subject: str | nn.Module | Callable[..., nn.Module],
    *,
    input: InputLike | None = None,  # noqa: A002 - the word of the command line
    batch: int = 1,
    tensors: str | Sequence[str] = (),
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "float32",
    memory_format: str | torch.memory_format = "contiguous",
    runtime: str = "eager",
    threads: int | None = None,
    seconds: float = 10.0,
    precision: float = 0.02,
    seed: int = 0,
    throughput: bool = False,
    cold_cache: bool = False,
) -> FinishedTiming:
    """Time a network's forward pass in this process, as `mlcv-bench time` does.

    Threads wait for each other as torch's runtime lets them; `timing.machine.set_wait_policy("passive")` before torch
    is first imported makes them sleep.

    Args:
        subject: an architecture's name, a specification, a function or class that builds a network, or a module, which
            is copied and left as it is.
        input: as in `count`: shape of one image, by default the architecture's own or 3x224x224, or example tensors.
        batch: as in `count`.
        tensors: as in `count`.
        device: cpu, cuda, cuda:1, mps, or auto; torch.device too.
        dtype: float32, bfloat16, float16 or float64, or torch's own.
        memory_format: contiguous or channels_last, or torch's own.
        runtime: eager, compile or onnx.
        threads: by default the physical cores usable.
        seconds: time to spend, the warm-up included.
        precision: stop when the interval's half-width is this share of the median.
        seed: seeds weights and images.
        throughput: also time calls without a wait between them.
        cold_cache: overwrite the last-level cache before every timed call.

    Returns:
        The record: `.frame` has it under the columns of the contract, in seconds and bytes, `.row()` as a dictionary.

    Raises:
        UsageError: an unknown name, device or setting, or an input that the network cannot take.

    """
    check_subject(subject)
    shape, named = read_inputs(input, items(tensors))
    grid = CellGrid(
        Networks(
            (subject if isinstance(subject, str) else name_of(subject),),
            shapes=() if shape is None else (shape,),
            tensors=named,
            built=not isinstance(subject, str),
        ),
        device=(word(device),),
        runtime=(runtime,),
        dtype=(word(dtype),),
        memory_format=(word(memory_format),),
        batch=(batch,),
        wait_policy=wait_policy(),
        threads=() if threads is None else (threads,),
        throughput=throughput,
        cold_cache=cold_cache,
    )
    grid.networks.check_one("time_forward")
    request = TimeRequest(grid, precision, seconds, seed=seed)
    request.check()
    return FinishedTiming.of(time_here(request, subject))
