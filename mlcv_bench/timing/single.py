"""Timing from Python: one network's forward pass, and the assertion that one is not slower than another."""

from __future__ import annotations

import contextlib
import copy
import functools
from collections.abc import Iterator, Sequence

import torch
from torch import nn

from mlcv_bench.architectures.reproducibility import generators_kept
from mlcv_bench.architectures.request import Networks
from mlcv_bench.errors import in_python
from mlcv_bench.timing.blocks import Workload
from mlcv_bench.timing.compare import ComparePlan, Comparison, Sides, compare
from mlcv_bench.timing.forward import build_network, prepare
from mlcv_bench.timing.machine import wait_policy
from mlcv_bench.timing.request import Cell, CellCost, CellGrid, TimeRequest, cost_of
from mlcv_bench.timing.sampling import Plan
from mlcv_bench.timing.study import Timing, time_cells

CLOCK_WORDS = {"cpu": "time, waiting for a core left out", "wall": "wall time"}


def time_forward(  # noqa: PLR0913 - a cell has as many settings
    subject: str | nn.Module,
    *,
    input: Sequence[int] | None = None,  # noqa: A002 - the word of the command line
    batch: int = 1,
    device: str = "auto",
    dtype: str = "float32",
    memory_format: str = "contiguous",
    runtime: str = "eager",
    threads: int | None = None,
    seconds: float = 10.0,
    precision: float = 0.02,
    seed: int = 0,
) -> Timing:
    """Time a network's forward pass in this process, as `mlcv-bench time` does.

    Threads wait for each other as torch's runtime lets them; `timing.machine.set_wait_policy("passive")` before torch
    is first imported makes them sleep.

    Args:
        subject: an architecture's name, a specification, or any module, which is copied and left as it is.
        input: shape of one image, as (channels, height, width); by default the architecture's own, or 3x224x224.
        batch: images in the batch.
        device: cpu, cuda, cuda:1, mps, or auto.
        dtype: float32, bfloat16, float16 or float64.
        memory_format: contiguous or channels_last.
        runtime: eager, compile or onnx.
        threads: by default the physical cores usable.
        seconds: time to spend, the warm-up included.
        precision: stop when the interval's half-width is this share of the median.
        seed: seeds weights and images.

    Returns:
        The record; `.row()` has it under the columns of the contract, in seconds and bytes.

    Raises:
        UsageError: an unknown name, device or setting, or an input that the network cannot take.

    """
    named = isinstance(subject, str)
    grid = CellGrid(
        Networks(
            (subject if isinstance(subject, str) else type(subject).__name__,),
            shapes=() if input is None else (tuple(input),),
            built=not named,
        ),
        device=(device,),
        runtime=(runtime,),
        dtype=(dtype,),
        memory_format=(memory_format,),
        batch=(batch,),
        wait_policy=wait_policy(),
        threads=() if threads is None else (threads,),
    )
    with in_python():
        grid.networks.check_one("time_forward")
        TimeRequest(grid, precision, seconds, seed=seed).check()
        (cell,) = grid.cells(seed)
    plan = Plan(seconds=seconds, precision=precision, seed=seed)
    timing = Timing(cell, cost_of(cell) if named else CellCost(), plan)
    build = functools.partial(build_network, cell) if isinstance(subject, str) else lambda: copy.deepcopy(subject)
    with _process_kept():
        time_cells([timing], plan, open_cell=lambda one: prepare(one, build))
    return timing


def assert_not_slower(
    base: nn.Module,
    head: nn.Module,
    input: Sequence[int],  # noqa: A002 - the word of the command line
    *,
    margin: float = 0.05,
    batch: int = 1,
    seconds: float = 10.0,
    strict: bool = False,
    seed: int = 0,
) -> Comparison:
    """Fail when `head` is slower than `base` by more than `margin`, with one thread.

    Time spent waiting for a core is left out, unless one of them sleeps or waits for something else. It works as
    `mlcv-bench ab` does, in this process: both are copied, four times or more, and take turns with a second copy of
    `base`, whose difference from it widens the margin, so that noise does not fail the test. When nothing can be
    decided, it passes unless `strict`.

    Args:
        base: what it must not be slower than.
        head: what is judged.
        input: shape of one image, as (channels, height, width).
        margin: the share it may be slower by, 0.01 or more.
        batch: images in the batch.
        seconds: time to spend on all sides.
        strict: fail when the comparison is inconclusive, too.
        seed: seeds the images and the order of turns.

    Returns:
        The comparison, with its ratio and interval.

    Raises:
        AssertionError: it is slower.
        UsageError: a margin below 0.01.

    """
    shape = tuple(input)
    cell = Cell("module", shape, batch=batch, seed=seed)

    @contextlib.contextmanager
    def open_sides() -> Iterator[Sides]:
        with contextlib.ExitStack() as stack:

            def side(module: nn.Module) -> Workload:
                workload, _ = prepare(cell, functools.partial(copy.deepcopy, module), comparing=True)
                stack.callback(workload.close)
                return workload

            yield side(base), side(head), side(base)

    with _process_kept():
        found = compare(open_sides, ComparePlan(seconds=seconds, margin=margin, seed=seed))
    if found.verdict == "slower" or (strict and found.verdict == "inconclusive"):
        ratio = f"{found.ratio.middle:.3f} ({found.ratio.low:.3f} .. {found.ratio.high:.3f})"
        raise AssertionError(
            f"{found.verdict}: {ratio} times the base's {CLOCK_WORDS[found.clock]}, margin {found.margin:.1%}"
        )
    return found


@contextlib.contextmanager
def _process_kept() -> Iterator[None]:
    """Leave torch's number of threads and all random generators as they were: they belong to whoever called."""
    before = torch.get_num_threads()
    with generators_kept():
        try:
            yield
        finally:
            torch.set_num_threads(before)
