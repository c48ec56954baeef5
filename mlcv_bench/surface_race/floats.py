"""The engine of plain floats: one trajectory at a time, nothing to import, nothing to compile.

About 0.3 microseconds a coordinate and step: the right engine for a race of eight optimizers from a few starts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlcv_bench.expression import function_from
from mlcv_bench.functions import FLOATS
from mlcv_bench.optimizers.compiled_rule import constant_settings
from mlcv_bench.random_streams import gaussian_pair, key
from mlcv_bench.surface_race import program as programs
from mlcv_bench.surfaces.finite_sum import batches
from mlcv_bench.surfaces.newton import direction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from mlcv_bench.optimizers.rule import Rule
    from mlcv_bench.surface_race.program import Changes, Problem, Program, Start
    from mlcv_bench.surfaces.surface import Point, Surface


@dataclass(frozen=True)
class Trajectory:
    """A whole trajectory: the points of steps 0, 1, ..., their noise-free values, and the step it diverged at.

    Where a point is too long to be kept at every step there are none, but its distances to the minimum.
    """

    points: tuple[list[float], ...]
    values: list[float]
    diverged_at: int | None
    steps: int
    distances: list[float] | None = None

    def point(self, step: int) -> Point:
        """Return where the run stood after `step` steps."""
        return tuple(axis[step] for axis in self.points)


@dataclass(frozen=True)
class Scan:
    """A run of which no point is kept: when it met the target, from when it held, how it ended, whether below f*."""

    first_hit: int | None
    last_exit: int | None
    diverged_at: int | None
    final_value: float
    undercut: bool = False


class Runner:
    """A rule on a surface, compiled to Python functions once and run many times."""

    def __init__(self, rule: Rule, surface: Surface) -> None:
        """Take both; a step is written and compiled, in a millisecond, for what its problem changes of it."""
        self.rule = rule
        self.surface = surface
        self._rows: dict[Any, list[tuple[Any, ...]]] = {}
        self._compiled: dict[tuple[Changes, _Loop], tuple[Program, Callable[..., Any]]] = {}

    def scan(self, problem: Problem, start: Start) -> Scan:
        """Run all steps, or to divergence, and keep only when the target was met and from when it held."""
        first_value = float(self.surface.value(*start.point))
        target, low, high = problem.limits(first_value)
        hit, missed, t, value = self._call(_SCAN, problem, start, (low, high), (target,))
        if first_value <= target:
            hit = 0
        elif missed < 0:
            missed = 0
        if t:
            return Scan(hit if hit >= 0 else None, None, t, math.inf, isinstance(value, float) and value <= low)
        return Scan(hit if hit >= 0 else None, missed + 1 if missed < problem.steps else None, None, value)

    def trace(self, problem: Problem, start: Start) -> Trajectory:
        """Run all steps, or to divergence, and keep every point."""
        first_value = float(self.surface.value(*start.point))
        _, low, high = problem.limits(first_value)
        points: tuple[list[float], ...] = tuple([part] for part in start.point)
        values = [first_value]
        appends = (*(axis.append for axis in points), values.append)
        t = self._call(_keeping(self.surface.dimension), problem, start, (low, high), appends)
        if isinstance(values[-1], complex):
            # A user's rule took a root of a negative number: the run diverged, and has no such point.
            for kept in (*points, values):
                kept.pop()
        return Trajectory(points, values, t or None, t or problem.steps)

    def _call(
        self,
        loop: _Loop,
        problem: Problem,
        start: Start,
        bounds: tuple[float, float],
        rest: tuple[Any, ...],
    ) -> Any:  # noqa: ANN401 - what the generated function returns
        written = (problem.changes, loop)
        if written not in self._compiled:
            program = programs.write(self.rule, self.surface, problem.changes)
            self._compiled[written] = program, _compile(program, self.surface, loop)
        program, function = self._compiled[written]
        rows = self._steps(program, problem, start)
        stream = key(problem.seed, start.number, 3) if program.noisy else 0
        return function(*start.point, rows, *bounds, stream, *program.values(problem), *rest)

    def _steps(self, program: Program, problem: Problem, start: Start) -> Iterable[Any]:
        """Return what changes from step to step: its number, its batch, its coefficients."""
        if not program.batched and not program.coefficients:
            return range(1, problem.steps + 1)
        settings = constant_settings(problem.settings)
        order = (problem.seed, start.number) if program.batched else None
        name = (problem.steps, problem.schedule, settings, order)
        if name not in self._rows:
            counted = range(1, problem.steps + 1)
            batched: Sequence[tuple[Any, ...]] = [()] * problem.steps
            if program.batched and self.surface.finite_sum is not None:
                samples = self.surface.finite_sum.samples
                drawn = batches(self.surface, problem.seed, start.number, problem.steps)
                batched = [([samples[i] for i in batch],) for batch in drawn]
            self._rows[name] = [
                (t, *batch, *program.coefficients_of(problem, t)) for t, batch in zip(counted, batched, strict=True)
            ]
        return self._rows[name]


@dataclass(frozen=True)
class _Loop:
    """What stands round the step: before the loop, after each step, after the last one, and on a numeric error."""

    arguments: tuple[str, ...]
    before: tuple[str, ...]
    after: tuple[str, ...]
    finished: str
    broken: str


_SCAN = _Loop(
    arguments=("target",),
    before=("hit = missed = -1", "f = nan"),
    after=(
        "if low < f <= target:",
        "    if hit < 0:",
        "        hit = t",
        "elif low < f <= high:",
        "    missed = t",
        "else:",
        "    return hit, missed, t, f",
    ),
    finished="return hit, missed, 0, f",
    broken="return hit, missed, t, f",
)


def _keeping(size: int) -> _Loop:
    """Return what keeps every point."""
    names = [*(f"x{i}" for i in range(size)), "f"]
    return _Loop(
        arguments=tuple(f"append_{name}" for name in names),
        before=(),
        after=(*(f"append_{name}({name})" for name in names), "if low < f <= high:", "    continue", "return t"),
        finished="return 0",
        broken="return t",
    )


def _compile(program: Program, surface: Surface, loop: _Loop) -> Callable[..., Any]:
    """Write the loop round the step, and compile it."""
    row = ["t", *(["batch"] if program.batched else []), *program.coefficients]
    lines = [
        *(f"{slot} = 0.0" for slot in program.state),
        "t = 0",
        *loop.before,
        "try:",
        f"    for {', '.join(row)} in rows:",
        *(f"        {line}" for line in (*program.gradient, *program.update, *program.value, *loop.after)),
        # Complex numbers have no order: comparing one is a TypeError.
        "except (OverflowError, ZeroDivisionError, ValueError, TypeError):",
        f"    {loop.broken}",
        loop.finished,
    ]
    arguments = [
        *(f"x{i}" for i in range(surface.dimension)),
        *("rows", "low", "high", "stream"),
        *program.arguments,
        *loop.arguments,
    ]
    samples = surface.finite_sum.samples if surface.finite_sum else ()
    names = {"nan": math.nan, "samples": samples, "gaussian_pair": gaussian_pair, "direction": direction}
    return function_from("run", arguments, lines, {**FLOATS, **names, **program.namespace})
