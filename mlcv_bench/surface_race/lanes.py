"""The engine for many runs side by side: a rule on a surface as a kernel that numba compiles and keeps on disk."""

from __future__ import annotations

import concurrent.futures
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mlcv_bench.errors import UsageError
from mlcv_bench.optimizers.compiled_rule import constant_settings
from mlcv_bench.optimizers.kernels import in_memory, load
from mlcv_bench.random_streams import key
from mlcv_bench.surface_race import kernel as kernels
from mlcv_bench.surface_race import program as programs
from mlcv_bench.surface_race.kernel import GATHERED, LANES
from mlcv_bench.surface_race.metrics import MISS
from mlcv_bench.surface_race.program import DIVERGED_FACTOR, PLAIN, UNDERCUT, Changes
from mlcv_bench.surfaces.many import value_of

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from mlcv_bench.optimizers.rule import Rule
    from mlcv_bench.surface_race.program import Problem, Program
    from mlcv_bench.surfaces.surface import Surface
FEWEST_BLOCKS = 4  # a piece of work given to a thread


@dataclass(frozen=True)
class Population:
    """Many runs side by side, one element each; a step that never came is -1, a number that is not there NaN."""

    first_hit: npt.NDArray[np.int64]
    last_exit: npt.NDArray[np.int64]
    diverged_at: npt.NDArray[np.int64]
    undercut: npt.NDArray[np.bool_]
    first_value: npt.NDArray[np.float64]
    final_value: npt.NDArray[np.float64]
    points: npt.NDArray[np.float64]
    lowest_before: npt.NDArray[np.float64]
    lowest_after: npt.NDArray[np.float64]
    highest_before: npt.NDArray[np.float64]
    highest_after: npt.NDArray[np.float64]
    path_length: npt.NDArray[np.float64]
    flips: npt.NDArray[np.int64]
    evaluations: npt.NDArray[np.int64] | None = None
    """Of the gradient; None where each step takes one."""


class LaneRunner:
    """A rule on a surface as a compiled kernel; loading one that is on disk takes milliseconds."""

    def __init__(self, rule: Rule, surface: Surface, *, full: bool = True) -> None:
        """Take both; a kernel is loaded or compiled at the first run of a problem that wants it.

        A `full` one also gathers what measures a path and names its end.

        Raises:
            UsageError: the step needs elimination, which runs on floats only.

        """
        self.rule = rule
        self.surface = surface
        self.full = full
        total = surface.finite_sum
        if self.program().eliminates:
            msg = f"{rule.name} in {surface.dimension} coordinates solves a system a step; use --engine scalar"
            raise UsageError(msg)
        self._data = np.array(total.samples, dtype=np.float64) if total else np.zeros((1, 1))
        self._kernels: dict[Changes, tuple[Program, Callable[..., None]]] = {}
        self._tabled: tuple[Any, npt.NDArray[np.float64]] | None = None

    def program(self, changes: Changes = PLAIN) -> Program:
        """Return the step as a lane takes it."""
        batch, everything = kernels.sample_loops(self.surface)
        return programs.write(self.rule, self.surface, changes, batch=batch, everything=everything)

    def source(self, changes: Changes = PLAIN) -> str:
        """Return the text of the kernel."""
        return kernels.write(self.program(changes), self.surface, full=self.full)

    def kernel(self, changes: Changes) -> tuple[Program, Callable[..., None]]:
        """Return a step with its compiled function."""
        if changes not in self._kernels:
            program = self.program(changes)
            source = self.source(changes)
            compiled = load(source) if program.written else in_memory(source, **program.namespace)
            self._kernels[changes] = program, compiled
        return self._kernels[changes]

    def run(
        self,
        problem: Problem,
        starts: npt.NDArray[np.float64],
        *,
        rates: npt.NDArray[np.float64] | None = None,
        targets: npt.NDArray[np.float64] | None = None,
        numbers: npt.NDArray[np.uint64] | None = None,
        values: npt.NDArray[np.float64] | None = None,
        threads: int = 1,
    ) -> Population:
        """Run every start.

        Args:
            problem: rule, settings, surface, steps, target.
            starts: points, shape [runs, coordinates].
            rates: a learning rate for each run; by default the problem's own.
            targets: a value for each run to reach; by default the problem's target.
            numbers: each start's number, which decides its noise and data; by default its position.
            values: the surface's values at the starts, where they are known.
            threads: how many cores share the blocks; the result does not depend on it.

        """
        count, size = starts.shape
        program, kernel = self.kernel(problem.changes)
        lr, target, low, high, values, streams = self._columns(
            problem, program, starts, rates=rates, targets=targets, numbers=numbers, values=values
        )
        out = np.empty((len(GATHERED) + size, count))
        points = np.ascontiguousarray(starts.T)
        table = self._table(problem, program)
        arguments = (
            *(problem.steps, points, lr, target, low, high, values, table, out, streams, self._data),
            *program.values(problem),
        )
        launch(kernel, -(-count // LANES), arguments, threads)
        return population_of(out[: len(GATHERED)], out[len(GATHERED) :].T, values, target, problem.steps)

    def _columns(
        self,
        problem: Problem,
        program: Program,
        starts: npt.NDArray[np.float64],
        *,
        rates: npt.NDArray[np.float64] | None,
        targets: npt.NDArray[np.float64] | None,
        numbers: npt.NDArray[np.uint64] | None,
        values: npt.NDArray[np.float64] | None,
    ) -> tuple[npt.NDArray[Any], ...]:
        """Return each run's rate, target, bounds, first value and stream; a step without chance reads no stream."""
        count = len(starts)
        if values is None:
            values = value_of(self.surface, starts)
        target, low, high = limits(problem, values)
        if targets is not None:
            target = np.ascontiguousarray(targets, np.float64)
        lr = (
            np.full(count, problem.settings.get("lr", 0.0))
            if rates is None
            else np.ascontiguousarray(rates, np.float64)
        )
        streams = np.zeros(1, np.uint64)
        if program.noisy or program.batched:
            streams = key(problem.seed, np.arange(count, dtype=np.uint64) if numbers is None else numbers)
        return lr, target, low, high, values, streams

    def _table(self, problem: Problem, program: Program) -> npt.NDArray[np.float64]:
        """Return what depends on the step alone, shape [steps, coefficients]; that of the last problem is kept."""
        name = (problem.steps, problem.schedule, constant_settings(problem.settings), program.coefficients)
        if self._tabled is None or self._tabled[0] != name:
            table = np.zeros((problem.steps, max(1, len(program.coefficients))))
            for t in range(1, problem.steps + 1 if program.coefficients else 0):
                table[t - 1] = program.coefficients_of(problem, t)
            self._tabled = (name, table)
        return self._tabled[1]


def launch(
    kernel: Callable[..., None], blocks: int, arguments: tuple[Any, ...], threads: int, fewest: int = FEWEST_BLOCKS
) -> None:
    """Run a kernel on all blocks, which the threads share, `fewest` or more to a piece of work."""
    if threads <= 1 or blocks <= fewest:
        kernel(0, blocks, *arguments)
        return
    piece = max(fewest, -(-blocks // (8 * threads)))
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        jobs = [pool.submit(kernel, first, min(first + piece, blocks), *arguments) for first in range(0, blocks, piece)]
        for job in jobs:
            job.result()


def population_of(
    gathered: npt.NDArray[np.float64],
    points: npt.NDArray[np.float64],
    values: npt.NDArray[np.float64],
    target: npt.NDArray[np.float64],
    steps: int,
    evaluations: npt.NDArray[np.int64] | None = None,
) -> Population:
    """Return what a kernel gathered, the rows of GATHERED, and where the runs ended, shape [runs, coordinates]."""
    hit, missed, broken, undercut, value, lowest_before, lowest, highest_before, highest, length, flips = gathered
    at_start = values <= target
    diverged = np.isfinite(broken)
    first = np.where(at_start, 0.0, np.where(hit < broken, hit, np.inf))
    # A run that never missed holds from its start, if its start holds.
    held = np.where((missed == 0) & at_start, 0.0, missed + 1)
    held = np.where(diverged | (missed >= steps), np.inf, held)
    return Population(
        first_hit=_whole(first),
        last_exit=_whole(held),
        diverged_at=_whole(broken),
        undercut=diverged & (undercut <= broken),
        first_value=values,
        final_value=np.where(diverged, np.nan, value),
        points=points,
        lowest_before=lowest_before.copy(),
        lowest_after=lowest.copy(),
        highest_before=highest_before.copy(),
        highest_after=highest.copy(),
        path_length=np.where(diverged, np.nan, length),
        flips=flips.astype(np.int64),
        evaluations=evaluations,
    )


def _whole(values: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    return np.where(np.isfinite(values), values, MISS).astype(np.int64)


def limits(
    problem: Problem, values: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return target and bounds for every run, as `Problem.limits` does for one."""
    minimum = problem.surface.minimum
    if minimum is None:
        reach = DIVERGED_FACTOR * np.maximum(1.0, np.abs(values))
        return np.full_like(values, -np.inf), values - reach, values + reach
    gap = np.abs(values - minimum)
    reach = DIVERGED_FACTOR * np.where(gap == 0, 1.0, gap)
    slack = np.maximum(UNDERCUT * np.maximum(abs(minimum), np.abs(values)), problem.surface.rounding)
    return minimum + problem.target * gap, minimum - slack, minimum + reach
