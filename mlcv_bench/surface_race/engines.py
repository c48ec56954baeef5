"""Two engines behind one face: floats for a few runs, numba lanes for many side by side."""

from __future__ import annotations

import math
from statistics import median
from typing import TYPE_CHECKING

from mlcv_bench.surface_race import metrics
from mlcv_bench.surface_race import program as programs
from mlcv_bench.surface_race.floats import Runner
from mlcv_bench.surface_race.tuning import Sweep

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mlcv_bench.optimizers.rule import Rule
    from mlcv_bench.surface_race.lanes import Population
    from mlcv_bench.surface_race.metrics import Ending
    from mlcv_bench.surface_race.program import Problem, Start
    from mlcv_bench.surfaces.surface import Surface

FLOATS_SECONDS = 6.0
"""More work than this on floats, by a rough estimate, goes to the lanes, whose numba takes a second to load."""
SECONDS_A_STEP = 0.4e-6  # of one coordinate, on floats
SECONDS_KEPT = 1.2e-6  # besides, where the path is kept and measured
SECONDS_A_SAMPLE = 0.5e-6  # of one term of a finite sum, on floats


class BelowMinimumError(Exception):
    """Runs went below the value that was taken for the lowest, so that no target of this race means anything."""

    def __init__(self, runs: list[tuple[Problem, Start]]) -> None:
        """Keep the runs."""
        super().__init__("a run went below f*")
        self.runs = runs


def refuse_undercut(runs: Iterable[tuple[Problem, Start]]) -> None:
    """Raise BelowMinimumError if any run went below what its surface claims as the lowest value."""
    found = [(problem, start) for problem, start in runs if problem.surface.minimum is not None]
    if found:
        raise BelowMinimumError(found)


class FloatEngine:
    """Plain floats, one run after another."""

    def __init__(self, rule: Rule, surface: Surface) -> None:
        """Compile the step to Python functions."""
        self.runner = Runner(rule, surface)

    def endings(self, problem: Problem, starts: Sequence[Start]) -> list[Ending]:
        """Run every start to its end and measure it.

        Raises:
            BelowMinimumError: a run went below f*.

        """
        traces = [self.runner.trace(problem, start) for start in starts]
        refuse_undercut(
            (problem, start)
            for start, trace in zip(starts, traces, strict=True)
            if trace.diverged_at is not None and trace.values[-1] <= problem.limits(trace.values[0])[1]
        )
        return [metrics.measure(problem, trace) for trace in traces]

    def sweep(self, problem: Problem, label: str, rates: Sequence[float], starts: Sequence[Start]) -> Sweep:
        """Run every start at every rate, and keep when the target was met.

        Raises:
            BelowMinimumError: a run went below f*.

        """
        problems = [problem.at_rate(rate) for rate in rates]
        scans = [[self.runner.scan(at_rate, start) for start in starts] for at_rate in problems]
        refuse_undercut(
            (at_rate, start)
            for at_rate, row in zip(problems, scans, strict=True)
            for start, scan in zip(starts, row, strict=True)
            if scan.undercut
        )
        return Sweep(
            label,
            tuple(rates),
            tuple(tuple(scan.first_hit for scan in row) for row in scans),
            tuple(tuple(scan.last_exit for scan in row) for row in scans),
            tuple(median(scan.final_value for scan in row) for row in scans),
            problem.surface.stochastic,
        )


class LaneEngine:
    """Lanes: all runs at once, and a sweep of rates as one more axis."""

    def __init__(self, rule: Rule, surface: Surface, threads: int = 1) -> None:
        """Load numba, and write the step."""
        from mlcv_bench.surface_race.lanes import LaneRunner  # noqa: PLC0415 - loads numba

        # One kernel serves sweeps too: what it gathers besides costs less than compiling a second one.
        self.runner = LaneRunner(rule, surface)
        self.threads = threads

    def _runs(self, problem: Problem, starts: Sequence[Start], rates: Sequence[float] | None = None) -> Population:
        import numpy as np  # noqa: PLC0415 - loaded already, with the runner

        points = np.array([start.point for start in starts])
        lr = None if rates is None else np.array(rates)
        numbers = [start.number for start in starts]
        return self.runner.run(problem, points, rates=lr, numbers=numbers, threads=self.threads)

    def endings(self, problem: Problem, starts: Sequence[Start]) -> list[Ending]:
        """Run every start to its end and measure it; raises as `FloatEngine.endings`."""
        found = self._runs(problem, starts)
        refuse_undercut((problem, starts[i]) for i in found.undercut.nonzero()[0].tolist())
        return [metrics.ending(problem, start.point, found.summary(problem, i)) for i, start in enumerate(starts)]

    def sweep(self, problem: Problem, label: str, rates: Sequence[float], starts: Sequence[Start]) -> Sweep:
        """Run every start at every rate, and keep when the target was met; raises as `FloatEngine.sweep`."""
        size = len(starts)
        found = self._runs(problem, [*starts] * len(rates), [rate for rate in rates for _ in starts])
        refuse_undercut(
            (problem.at_rate(rates[i // size]), starts[i % size]) for i in found.undercut.nonzero()[0].tolist()
        )
        hits, exits = found.first_hit.tolist(), found.last_exit.tolist()
        finals = [value if math.isfinite(value) else math.inf for value in found.final_value.tolist()]
        rows = [slice(i * size, (i + 1) * size) for i in range(len(rates))]
        return Sweep(
            label,
            tuple(rates),
            tuple(tuple(map(metrics.step_or_none, hits[row])) for row in rows),
            tuple(tuple(map(metrics.step_or_none, exits[row])) for row in rows),
            tuple(median(finals[row]) for row in rows),
            problem.surface.stochastic,
        )


Engine = FloatEngine | LaneEngine
"""One rule on one surface, run from many starts."""


def estimated_seconds(surface: Surface, raced: int, tuned: int, steps: int) -> float:
    """Return roughly how long floats take for so many runs of a race, whose paths are measured, and of its tuning."""
    step = SECONDS_A_STEP * surface.dimension
    total = surface.finite_sum
    if total is not None:
        # The loss is a sum over all samples where it has no closed form, the gradient one over the batch.
        terms = (0 if surface.expressions is not None else len(total.samples)) + (0 if total.full else total.batch_size)
        if surface.expressions is None and total.full:
            terms *= 2
        step += SECONDS_A_SAMPLE * terms
    return steps * ((raced + tuned) * step + raced * SECONDS_KEPT * surface.dimension)


def engine_for(rule: Rule, surface: Surface, name: str, *, threads: int = 1) -> Engine:
    """Return the engine called `scalar` or `lanes`, for one rule on one surface."""
    return FloatEngine(rule, surface) if name == "scalar" else LaneEngine(rule, surface, threads)


def choose(name: str, rule: Rule, surface: Surface, *, raced: int = 0, tuned: int = 0, steps: int) -> str:
    """Return the engine for so much work: lanes where floats would take long and the step can be written for them."""
    if name != "auto":
        return name
    if estimated_seconds(surface, raced, tuned, steps) <= FLOATS_SECONDS or programs.write(rule, surface).eliminates:
        return "scalar"
    return "lanes"
