"""Engines behind one face: floats for a few runs, lanes for many or for one long vector, torch for its classes."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from typing import TYPE_CHECKING

from mlcv_bench.optimizers.rule import Rule
from mlcv_bench.surface_race import metrics
from mlcv_bench.surface_race import program as programs
from mlcv_bench.surface_race.floats import Runner
from mlcv_bench.surface_race.metrics import MISS, Endings
from mlcv_bench.surface_race.program import Starts
from mlcv_bench.surface_race.tuning import Sweep

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import numpy as np
    import numpy.typing as npt

    from mlcv_bench.optimizers.third_party import AnyOptimizer, ThirdPartyOptimizer
    from mlcv_bench.surface_race.floats import Trajectory
    from mlcv_bench.surface_race.lanes import LaneRunner, Population
    from mlcv_bench.surface_race.program import Problem, Start
    from mlcv_bench.surface_race.torch_engine import TorchRunner
    from mlcv_bench.surface_race.vectors import VectorRunner
    from mlcv_bench.surfaces.surface import Surface

FLOATS_SECONDS = 6.0
"""More work than this on floats, by a rough estimate, goes to the lanes, whose numba takes a second to load."""
SECONDS_A_STEP = 0.4e-6  # of one coordinate, on floats
SECONDS_KEPT = 1.2e-6  # besides, where the path is kept and measured
SECONDS_IN_TORCH = 1e-4  # of one run, by a class of torch.optim
SECONDS_A_SAMPLE = 0.5e-6  # of one term of a finite sum, on floats
MOST_AT_ONCE, LEAST_AT_ONCE = 1 << 18, 1 << 9
"""Runs of a population that are in memory at once, a hundred bytes each; and so many for each core at least."""
FLOATS_SECONDS_AT_ONCE = 64.0
"""Work of one core, as floats would take for it, between two words on how far it is: some tenths of a second."""
MOST_TRACED = 50
"""Runs below f* whose paths are walked again."""
Done = Callable[[int], None]
"""What is told how many more runs are over."""


def unheard(runs: int) -> None:
    """Tell nobody how many more runs are over."""


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
        """Take both; the first run compiles the step to Python functions."""
        self.runner = Runner(rule, surface)

    def trace(self, problem: Problem, start: Start) -> Trajectory:
        """Run one start and keep its whole path, for pictures."""
        return self.runner.trace(problem, start)

    def endings(self, problem: Problem, starts: Sequence[Start], done: Done = unheard) -> Endings:
        """Run every start to its end and measure it.

        Raises:
            BelowMinimumError: a run went below f*.

        """
        traces = [self.runner.trace(problem, start) for start in starts]
        done(len(traces))
        refuse_undercut(
            (problem, start)
            for start, trace in zip(starts, traces, strict=True)
            if trace.diverged_at is not None and trace.values[-1] <= problem.limits(trace.values[0])[1]
        )
        return Endings.of(metrics.measure(problem, trace) for trace in traces)

    def sweep(
        self, problem: Problem, label: str, rates: Sequence[float], starts: Sequence[Start], done: Done = unheard
    ) -> Sweep:
        """Run every start at every rate, and keep when the target was met.

        Raises:
            BelowMinimumError: a run went below f*.

        """
        problems, scans = [problem.at_rate(rate) for rate in rates], []
        for at_rate in problems:
            scans.append([self.runner.scan(at_rate, start) for start in starts])
            done(len(starts))
        refuse_undercut(
            (at_rate, start)
            for at_rate, row in zip(problems, scans, strict=True)
            for start, scan in zip(starts, row, strict=True)
            if scan.undercut
        )
        return Sweep(
            label,
            tuple(rates),
            [[MISS if scan.first_hit is None else scan.first_hit for scan in row] for row in scans],
            [[MISS if scan.last_exit is None else scan.last_exit for scan in row] for row in scans],
            tuple(median(scan.final_value for scan in row) for row in scans),
            problem.surface.stochastic,
            problem,
        )


class LaneEngine:
    """Lanes: many runs at once, and a sweep of rates as one more axis."""

    runner: LaneRunner | VectorRunner | TorchRunner

    def __init__(self, rule: Rule, surface: Surface, threads: int = 1) -> None:
        """Load numba, and write the step."""
        from mlcv_bench.surface_race.lanes import LaneRunner  # noqa: PLC0415 - loads numba

        # One kernel serves sweeps too: what it gathers besides costs less than compiling a second one.
        self.runner = LaneRunner(rule, surface)
        self.threads = threads

    def _populations(
        self, problem: Problem, starts: Starts, rates: Sequence[float] | None, done: Done
    ) -> Iterator[tuple[slice, npt.NDArray[np.intp], Population]]:
        """Run every start, at every rate one after the other, and yield some of them at a time.

        With a population come its places among all runs, and the place of each one's start.

        Raises:
            BelowMinimumError: a run went below f*.

        """
        import numpy as np  # noqa: PLC0415 - loaded already, with the runner

        from mlcv_bench.surfaces.many import value_of  # noqa: PLC0415 - as above

        size, surface = len(starts), problem.surface
        values = value_of(surface, starts.points)
        at_once = self._at_once(problem)
        low: list[int] = []
        for piece in metrics.pieces(range(size * (1 if rates is None else len(rates))), at_once):
            rate, start = np.divmod(np.arange(piece.start, piece.stop), size)
            found = self.runner.run(
                problem,
                starts.points[start],
                rates=None if rates is None else np.array(rates)[rate],
                numbers=starts.numbers[start],
                values=values[start],
                threads=self.threads,
            )
            done(len(start))
            low += (piece.start + found.undercut.nonzero()[0]).tolist()
            if len(low) >= MOST_TRACED:
                break
            yield piece, start, found
        refuse_undercut(
            (problem if rates is None else problem.at_rate(rates[i // size]), starts[i % size])
            for i in low[:MOST_TRACED]
        )

    def _at_once(self, problem: Problem) -> int:
        return runs_at_once(problem, self.threads)

    def trace(self, problem: Problem, start: Start) -> Trajectory:
        """Run one start and keep its whole path, for pictures; floats do it in a millisecond."""
        return engine_for(problem, "scalar").trace(problem, start)

    def endings(self, problem: Problem, starts: Sequence[Start], done: Done = unheard) -> Endings:
        """Run every start to its end and measure it; raises as `FloatEngine.endings`."""
        from mlcv_bench.surface_race import endings as ends  # noqa: PLC0415 - numpy, as above

        begun = Starts.of(starts)
        parts = self._populations(problem, begun, None, done)
        return ends.joined([ends.endings(problem, begun.points[start], found) for _, start, found in parts])

    def sweep(
        self, problem: Problem, label: str, rates: Sequence[float], starts: Sequence[Start], done: Done = unheard
    ) -> Sweep:
        """Run every start at every rate, and keep when the target was met; raises as `FloatEngine.sweep`."""
        import numpy as np  # noqa: PLC0415 - as above

        shape = (len(rates), len(starts))
        hits, exits, finals = np.empty(shape, np.int32), np.empty(shape, np.int32), np.empty(shape)
        for piece, _, found in self._populations(problem, Starts.of(starts), rates, done):
            hits.flat[piece], exits.flat[piece] = found.first_hit, found.last_exit
            finals.flat[piece] = np.where(np.isfinite(found.final_value), found.final_value, np.inf)
        medians = tuple(float(np.median(row)) for row in finals)
        return Sweep(label, tuple(rates), hits, exits, medians, problem.surface.stochastic, problem)


def runs_at_once(problem: Problem, threads: int) -> int:
    """Return how many runs of a population are held and shown as done together."""
    alone = estimated_seconds(problem.surface, 0, 1, problem.steps)
    return min(MOST_AT_ONCE, max(LEAST_AT_ONCE, int(FLOATS_SECONDS_AT_ONCE / alone)) * threads)


class VectorEngine(LaneEngine):
    """Lanes that are the coordinates of one run, where a surface has too many to be written out one by one."""

    runner: VectorRunner

    def __init__(self, rule: Rule, surface: Surface, threads: int = 1) -> None:
        """Load numba, and write the step of one coordinate."""
        from mlcv_bench.surface_race.vectors import VectorRunner  # noqa: PLC0415 - loads numba

        self.runner = VectorRunner(rule, surface)
        self.threads = threads

    def _at_once(self, problem: Problem) -> int:  # noqa: ARG002 - every run is long
        return self.threads

    def trace(self, problem: Problem, start: Start) -> Trajectory:
        """Run one start and keep the value and the distance to the minimum at every step."""
        return self.runner.trace(problem, start)


class TorchEngine(LaneEngine):
    """The rows of a tensor, for a class of torch.optim."""

    runner: TorchRunner

    def __init__(self, optimizer: ThirdPartyOptimizer, problem: Problem, threads: int = 1, device: str = "cpu") -> None:
        """Take a first step under the problem's settings.

        Raises:
            UsageError: the class cannot be built with them, or its step fails.

        """
        from mlcv_bench.surface_race.torch_engine import TorchRunner  # noqa: PLC0415 - loads torch, as the class did

        self.runner = TorchRunner(optimizer, problem.surface, problem.settings, device)
        self.threads = threads

    def trace(self, problem: Problem, start: Start) -> Trajectory:
        """Run one start and keep its whole path."""
        return self.runner.trace(problem, start)


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


def engine_for(problem: Problem, name: str, *, threads: int = 1, device: str = "cpu") -> Engine:
    """Return the engine called `scalar` or `lanes` for a rule, or torch's for a class.

    Raises:
        UsageError: the engine cannot run it.

    """
    rule, surface = problem.rule, problem.surface
    if not isinstance(rule, Rule):
        return TorchEngine(rule, problem, threads, device)
    if surface.coordinate_sum is not None:
        return VectorEngine(rule, surface, threads)
    return FloatEngine(rule, surface) if name == "scalar" else LaneEngine(rule, surface, threads)


def choose(name: str, rule: AnyOptimizer, surface: Surface, *, raced: int = 0, tuned: int = 0, steps: int) -> str:
    """Return the engine for so much work: lanes where floats would take long and the step can be written for them."""
    if not isinstance(rule, Rule):
        return "torch"
    if name != "auto":
        return name
    if surface.coordinate_sum is not None:
        return "lanes"
    if estimated_seconds(surface, raced, tuned, steps) <= FLOATS_SECONDS or programs.write(rule, surface).eliminates:
        return "scalar"
    return "lanes"


def retraced(sweep: Sweep, start: Start, seconds: float) -> list[Trajectory]:
    """Walk the runs of a sweep again from one start, a path a rate; none where that would take longer.

    A tuning keeps no path. From a start that it ran from, these are its own runs.
    """
    problem = sweep.problem
    if problem is None:
        return []
    runs = len(sweep.rates)
    step = 0.0 if isinstance(problem.rule, Rule) else runs * SECONDS_IN_TORCH
    if problem.steps * step + estimated_seconds(problem.surface, runs, 0, problem.steps) > seconds:
        return []
    engine = engine_for(problem, "scalar")
    return [engine.trace(problem.at_rate(rate), start) for rate in sweep.rates]
