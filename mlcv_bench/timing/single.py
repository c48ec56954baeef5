"""Timing from Python: one network's forward pass, and the assertion that one is not slower than another."""

from __future__ import annotations

import contextlib
import copy
import functools
from collections.abc import Callable, Iterator

from torch import nn

from mlcv_bench.architectures.build import build
from mlcv_bench.architectures.inputs import InputLike, read_inputs
from mlcv_bench.architectures.reproducibility import process_kept
from mlcv_bench.architectures.request import DEFAULT_INPUT
from mlcv_bench.timing.blocks import Workload
from mlcv_bench.timing.compare import ComparePlan, Comparison, Sides, compare
from mlcv_bench.timing.forward import build_network, prepare
from mlcv_bench.timing.request import Cell, CellCost, TimeRequest, cost_of
from mlcv_bench.timing.sampling import Plan
from mlcv_bench.timing.study import Timing, time_cells

CLOCK_WORDS = {"cpu": "time, waiting for a core left out", "wall": "wall time", "device": "device time"}


def time_here(request: TimeRequest, subject: str | nn.Module | Callable[..., nn.Module]) -> Timing:
    """Time the one cell of a request in this process.

    Args:
        request: names the subject, or what is given itself.
        subject: the name, a function or class that builds the network, or a module, which is copied and left as it is.

    Raises:
        UsageError: a device that is not here, or an input that the network cannot take.

    """
    (cell,) = request.grid.cells(request.seed)
    plan = Plan(seconds=request.seconds, precision=request.precision, seed=request.seed)
    timing = Timing(cell, cost_of(cell) if isinstance(subject, str) else CellCost(), plan)

    def make() -> nn.Module:
        if isinstance(subject, str):
            return build_network(cell)
        return copy.deepcopy(subject) if isinstance(subject, nn.Module) else build(subject)

    with process_kept():
        time_cells([timing], plan, open_cell=lambda one: prepare(one, make))
    return timing


def assert_not_slower(
    base: nn.Module,
    head: nn.Module,
    input: InputLike,  # noqa: A002 - the word of the command line
    *,
    margin: float = 0.05,
    batch: int = 1,
    seconds: float = 10.0,
    strict: bool = False,
    seed: int = 0,
) -> Comparison:
    """Fail when `head` is slower than `base` by more than `margin`, with one thread.

    Time spent waiting for a core is left out, unless one of them sleeps or waits for something else. It works as
    `mlcv-bench ab` does, in this process: both are copied, anew for every session, and take turns with a second copy of
    `base`, whose difference from it widens the margin, so that noise does not fail the test. When nothing can be
    decided, it passes unless `strict`.

    Args:
        base: what it must not be slower than.
        head: what is judged.
        input: shape of one image, as (channels, height, width), or example tensors.
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
    __tracebackhide__ = True  # pytest shows the line that calls
    shape, tensors = read_inputs(input)
    cell = Cell(type(base).__name__, tensors or shape or DEFAULT_INPUT, batch=batch, seed=seed)

    @contextlib.contextmanager
    def open_sides() -> Iterator[Sides]:
        with contextlib.ExitStack() as stack:

            def side(module: nn.Module) -> Workload:
                workload, _ = prepare(cell, functools.partial(copy.deepcopy, module), comparing=True)
                stack.callback(workload.close)
                return workload

            yield side(base), side(head), side(base)

    with process_kept():
        found = compare(open_sides, ComparePlan(seconds=seconds, margin=margin, seed=seed))
    if found.verdict == "slower" or (strict and found.verdict == "inconclusive"):
        ratio = f"{found.ratio.middle:.3f} ({found.ratio.low:.3f} .. {found.ratio.high:.3f})"
        raise AssertionError(
            f"{found.verdict}: {ratio} times the base's {CLOCK_WORDS[found.clock]}, margin {found.margin:.1%}"
        )
    return found
