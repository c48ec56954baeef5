"""The engines behind one face: floats for a few runs, numba lanes for many."""

from __future__ import annotations

import math
from statistics import median
from typing import TYPE_CHECKING, Literal, Protocol

from mlcv_bench.surface_race import metrics
from mlcv_bench.surface_race import program as programs
from mlcv_bench.surface_race.correction import refuse_undercut
from mlcv_bench.surface_race.floats import Runner, Start
from mlcv_bench.surface_race.metrics import Ending
from mlcv_bench.surface_race.tuning import Sweep

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlcv_bench.optimizers.rule import Rule
    from mlcv_bench.surface_race.population import Population
    from mlcv_bench.surface_race.program import Problem
    from mlcv_bench.surfaces.surface import Surface

EngineName = Literal["auto", "scalar", "lanes"]

SCALAR_SECONDS = 6.0
"""More work than this on floats, by a rough estimate, goes to the lanes, whose numba takes a second to load."""
SECONDS_A_STEP = 0.4e-6  # of one coordinate, on floats
SECONDS_KEPT = 1.2e-6  # besides, where the path is kept and measured
SECONDS_A_SAMPLE = 0.5e-6  # of one term of a finite sum, on floats


class Engine(Protocol):
    """One rule on one surface, run from many starts."""

    def endings(self, problem: Problem, starts: Sequence[Start], first_values: Mapping[Start, float]) -> list[Ending]:
        """Run every start to its end and measure it.

        Raises:
            BelowMinimumError: a run went below f*.

        """

    def sweep(
        self,
        problem: Problem,
        label: str,
        rates: Sequence[float],
        starts: Sequence[Start],
        first_values: Mapping[Start, float],
    ) -> Sweep:
        """Run every start at every rate, and keep when the target was met.

        Raises:
            BelowMinimumError: a run went below f*.

        """


class FloatEngine:
    """Plain floats, one run after another."""

    def __init__(self, rule: Rule, surface: Surface) -> None:
        """Compile the step to Python functions."""
        self.runner = Runner(rule, surface)

    def endings(self, problem: Problem, starts: Sequence[Start], first_values: Mapping[Start, float]) -> list[Ending]:
        """Run every start to its end and measure it."""
        traces = [self.runner.trace(problem, start, first_values[start]) for start in starts]
        refuse_undercut(
            (problem, start)
            for start, trace in zip(starts, traces, strict=True)
            if trace.diverged_at is not None and trace.values[-1] <= problem.limits(first_values[start])[1]
        )
        return [metrics.measure(problem, trace) for trace in traces]

    def sweep(
        self,
        problem: Problem,
        label: str,
        rates: Sequence[float],
        starts: Sequence[Start],
        first_values: Mapping[Start, float],
    ) -> Sweep:
        """Run every start at every rate, and keep when the target was met."""
        hits: list[tuple[int | None, ...]] = []
        holds: list[tuple[int | None, ...]] = []
        finals: list[float] = []
        undercut: list[tuple[Problem, Start]] = []
        for rate in rates:
            at_rate = problem.at_rate(rate)
            scans = [self.runner.scan(at_rate, start, first_values[start]) for start in starts]
            hits.append(tuple(scan.first_hit for scan in scans))
            holds.append(tuple(scan.last_exit for scan in scans))
            finals.append(median([scan.final_value for scan in scans]))
            undercut += [(at_rate, start) for start, scan in zip(starts, scans, strict=True) if scan.undercut]
        refuse_undercut(undercut)
        return Sweep(label, tuple(rates), tuple(hits), tuple(holds), tuple(finals), problem.surface.stochastic)


class LaneEngine:
    """Lanes: all runs at once, and a sweep of rates as one more axis."""

    def __init__(self, rule: Rule, surface: Surface, threads: int = 1) -> None:
        """Load numba, and write the step."""
        from mlcv_bench.surface_race.lanes import LaneRunner  # noqa: PLC0415 - loads numba

        # One kernel serves sweeps too: what it gathers besides costs less than compiling a second one.
        self.runner = LaneRunner(rule, surface, "full")
        self.threads = threads

    def _runs(self, problem: Problem, starts: Sequence[Start], rates: Sequence[float] | None = None) -> Population:
        import numpy as np  # noqa: PLC0415 - loaded already, with the runner

        points = np.array([start.point for start in starts])
        lr = None if rates is None else np.array(rates)
        return self.runner.run(
            problem, points, rates=lr, numbers=[start.number for start in starts], threads=self.threads
        )

    def endings(self, problem: Problem, starts: Sequence[Start], first_values: Mapping[Start, float]) -> list[Ending]:
        """Run every start to its end and measure it."""
        found = self._runs(problem, starts)
        refuse_undercut((problem, starts[i]) for i in found.undercut.nonzero()[0].tolist())
        return [ending_of(problem, found, i, start, first_values[start]) for i, start in enumerate(starts)]

    def sweep(
        self,
        problem: Problem,
        label: str,
        rates: Sequence[float],
        starts: Sequence[Start],
        first_values: Mapping[Start, float],
    ) -> Sweep:
        """Run every start at every rate, and keep when the target was met."""
        del first_values
        size = len(starts)
        found = self._runs(problem, [*starts] * len(rates), [rate for rate in rates for _ in starts])
        refuse_undercut(
            (problem.at_rate(rates[i // size]), starts[i % size]) for i in found.undercut.nonzero()[0].tolist()
        )
        hits, holds = found.first_hit.tolist(), found.last_exit.tolist()
        finals = [value if math.isfinite(value) else math.inf for value in found.final_value.tolist()]
        rows = [slice(i * size, (i + 1) * size) for i in range(len(rates))]
        return Sweep(
            label,
            tuple(rates),
            tuple(tuple(map(step_or_none, hits[row])) for row in rows),
            tuple(tuple(map(step_or_none, holds[row])) for row in rows),
            tuple(median(finals[row]) for row in rows),
            problem.surface.stochastic,
        )


def step_or_none(step: int) -> int | None:
    """Return a step of a population, None for one that never came."""
    return None if step < 0 else int(step)


def ending_of(problem: Problem, found: Population, i: int, start: Start, first_value: float) -> Ending:
    """Return run `i` of a population, measured as a whole trajectory would be."""
    surface = problem.surface
    diverged_at = step_or_none(int(found.diverged_at[i]))
    last = step_or_none(int(found.last_exit[i]))
    point = tuple(map(float, found.points[i]))
    straight = math.dist(start.point, point)
    diverged = diverged_at is not None
    flips_known = surface.quadratic is not None and bool(surface.minima)
    steps = problem.steps if diverged_at is None else diverged_at
    course = metrics.Course(
        steps=steps,
        first=first_value,
        lowest_before=float(found.lowest_before[i]),
        highest_before=float(found.highest_before[i]),
        lowest=float(found.lowest_after[i]),
        highest=float(found.highest_after[i]),
        last_exit=last,
        diverged_at=diverged_at,
        point=point,
    )
    return Ending(
        steps=steps,
        first_hit=step_or_none(int(found.first_hit[i])),
        last_exit=last,
        final_loss=None if diverged else float(found.final_value[i]),
        point=point,
        outcome=metrics.outcome(problem, course),
        diverged_at=diverged_at,
        path_ratio=float(found.path_length[i]) / straight if straight > 0 and not diverged else None,
        sign_flips=int(found.flips[i]) / problem.steps if flips_known and not diverged else None,
    )


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


def engine_for(rule: Rule, surface: Surface, name: EngineName, *, threads: int = 1) -> Engine:
    """Return the engine of this name, for one rule on one surface."""
    if name == "scalar":
        return FloatEngine(rule, surface)
    return LaneEngine(rule, surface, threads)


def choose(name: EngineName, rule: Rule, surface: Surface, *, raced: int = 0, tuned: int = 0, steps: int) -> EngineName:
    """Return the engine for so much work: lanes where floats would take long and the step can be written for them."""
    if name != "auto":
        return name
    if estimated_seconds(surface, raced, tuned, steps) <= SCALAR_SECONDS or programs.write(rule, surface).eliminates:
        return "scalar"
    return "lanes"
