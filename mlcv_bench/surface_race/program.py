"""One step of a rule on a surface, written out as lines of arithmetic that every engine of rules runs.

The engines differ in what stands round the lines: a Python loop (floats.py), or a loop compiled by numba over 64 runs
(lanes.py) or over the coordinates of one (vectors.py). The arithmetic and its order are the same.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, overload

from mlcv_bench.optimizers import compiled_rule
from mlcv_bench.optimizers.schedule import CONSTANT, Schedule
from mlcv_bench.surfaces.surface import Samples, listed, write_gradient, write_hessian, write_value

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy as np
    import numpy.typing as npt

    from mlcv_bench.optimizers.rule import Rule
    from mlcv_bench.optimizers.third_party import AnyOptimizer
    from mlcv_bench.surfaces.surface import Point, Surface

DIVERGED_FACTOR = 1e20
"""A run has diverged when its loss is no number or this many times the gap it started with."""

UNDERCUT = 1e-9
"""A run lower than f* by this share of |f*| or of the first loss, and by more than rounding, shows that f* is none."""

RATE = re.compile(r"\bh_lr\b")
"""The learning rate, as the lines of a rule read it."""

CRAMER = 2
"""Up to this many coordinates Newton's direction is written out; above, elimination does it."""


@dataclass(frozen=True)
class Start:
    """Where a run begins; its number decides its noise and the order of its data."""

    number: int
    point: Point


class Changes(NamedTuple):
    """What a step does besides its rule: whether its rate moves with the step, whether its gradient is clipped."""

    scheduled: bool = False
    clipped: bool = False


PLAIN = Changes()


class Starts(Sequence[Start]):
    """Many starts as columns, a Start where one is looked at."""

    def __init__(self, numbers: npt.NDArray[np.uint64], points: npt.NDArray[np.float64]) -> None:
        """Keep the numbers, shape [starts], and the points, shape [starts, coordinates]."""
        self.numbers = numbers
        self.points = points

    @classmethod
    def of(cls, starts: Sequence[Start]) -> Starts:
        """Return any starts as columns."""
        if isinstance(starts, Starts):
            return starts
        import numpy as np  # noqa: PLC0415 - a race from one start needs none

        numbers = np.array([start.number for start in starts], dtype=np.uint64)
        return cls(numbers, np.array([start.point for start in starts], dtype=np.float64))

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.numbers)

    def __iter__(self) -> Iterator[Start]:
        """Return them one after another."""
        # Row by row: as Python's numbers, all points of long vectors would take four times their memory.
        for number, point in zip(self.numbers.tolist(), self.points, strict=True):
            yield Start(number, tuple(point.tolist()))

    @overload
    def __getitem__(self, place: int) -> Start: ...
    @overload
    def __getitem__(self, place: slice) -> Starts: ...
    def __getitem__(self, place: int | slice) -> Start | Starts:
        """Return one start, or some."""
        if isinstance(place, slice):
            return Starts(self.numbers[place], self.points[place])
        return Start(int(self.numbers[place]), tuple(self.points[place].tolist()))


@dataclass(frozen=True)
class Problem:
    """What is run: an optimizer under its settings on a surface, for some steps, towards a target.

    `target` is relative: it holds where f - f* <= target (f0 - f*), without noise. `schedule` moves the rate,
    `clip_norm` bounds the gradient: optimizers/schedule.py says what an engine does with them.
    """

    rule: AnyOptimizer
    settings: Mapping[str, Any]
    surface: Surface
    steps: int = 1000
    target: float = 1e-6
    seed: int = 0
    schedule: Schedule = CONSTANT
    clip_norm: float | None = None

    def at_rate(self, lr: float) -> Problem:
        """Return the same problem at another learning rate."""
        return dataclasses.replace(self, settings={**self.settings, "lr": lr})

    @property
    def changes(self) -> Changes:
        """What is written into a step besides the rule."""
        return Changes(scheduled=not self.schedule.constant, clipped=self.clip_norm is not None)

    def limits(self, first_value: float) -> tuple[float, float, float]:
        """Return the target, and the bounds outside which a run ends, for a start's value.

        Above the higher it has diverged; below the lower too, or it has found a lower point than f*.
        """
        minimum = self.surface.minimum
        gap = abs(first_value - minimum) if minimum is not None else max(1.0, abs(first_value))
        reach = DIVERGED_FACTOR * (gap or 1.0)
        if minimum is None:
            return -math.inf, first_value - reach, first_value + reach
        slack = max(UNDERCUT * max(abs(minimum), abs(first_value)), self.surface.rounding)
        return minimum + self.target * gap, minimum - slack, minimum + reach


@dataclass(frozen=True)
class Program:
    """The written step. `arguments` are the numbers it reads besides its state, in order.

    Where the lines are those of one coordinate, a gradient is clipped by the norm over all, of `unclipped` lines.
    """

    lines: compiled_rule.RuleLines
    gradient: tuple[str, ...]
    update: tuple[str, ...]
    value: tuple[str, ...]
    state: tuple[str, ...]
    hyper: tuple[str, ...]
    constants: tuple[str, ...]
    coefficients: tuple[str, ...]
    surface_constants: tuple[str, ...]
    written: bool
    eliminates: bool
    batched: bool
    noisy: bool
    namespace: Mapping[str, Any]
    unclipped: tuple[str, ...] = ()

    @property
    def arguments(self) -> tuple[str, ...]:
        """The names of hyperparameters, constants of the run and constants of the surface."""
        return (*self.hyper, *self.constants, *self.surface_constants)

    def values(self, problem: Problem) -> tuple[float, ...]:
        """Return the numbers for `arguments`."""
        return (
            *(problem.settings[name.removeprefix("h_")] for name in self.hyper),
            *self.lines.constants_of(problem.settings),
            *problem.surface.constants.values(),
            *((problem.surface.noise,) if self.noisy else ()),
            *(() if problem.clip_norm is None else (problem.clip_norm,)),
        )

    def coefficients_of(self, problem: Problem, t: int) -> tuple[float, ...]:
        """Return the numbers for `coefficients` at step `t`."""
        own = self.lines.coefficients_of(t, problem.settings)
        return (*own, problem.schedule.factor(t, problem.steps)) if "factor" in self.coefficients else own


_RULES: dict[tuple[Any, Any, int], compiled_rule.RuleLines] = {}


def rule_lines(rule: Rule, dimension: int) -> compiled_rule.RuleLines:
    """Return a rule written out: its own arithmetic, or calls of its function where it is more than arithmetic."""
    name = (rule.update, rule.lookahead, dimension)
    if name not in _RULES:
        _RULES[name] = compiled_rule.write(rule, dimension) or compiled_rule.write_calls(rule, dimension)
    return _RULES[name]


def write(
    rule: Rule,
    surface: Surface,
    changes: Changes = PLAIN,
    *,
    batch: Samples | None = None,
    everything: Samples | None = None,
) -> Program:
    """Write one step of a rule on a surface; on a sum over coordinates, one coordinate's part of it.

    Args:
        rule: the update.
        surface: what it runs on.
        changes: what is written besides, as `Problem.changes` has it.
        batch: how the lines walk over a mini-batch; by default a list of tuples called `batch`.
        everything: how they walk over all samples; by default a list called `samples`.

    """
    size = surface.written
    lines = rule_lines(rule, size)
    total = surface.finite_sum
    batched = total is not None and not total.full
    samples = (batch or listed(surface, "batch")) if batched else None
    point = "q" if rule.lookahead else "x"
    scheduled = changes.scheduled and "lr" in lines.hyper
    lookahead, update = lines.lookahead_lines, lines.lines
    if scheduled:
        # Nothing that reads the rate is taken out of the loop, so that these lines have every reading of it.
        lookahead, update = (tuple(RATE.sub("rate", line) for line in part) for part in (lookahead, update))
        lookahead = ("rate = h_lr * factor", *lookahead)
    gradient = [*lookahead, *write_gradient(surface, point, "g", samples=samples, everything=everything)]
    noisy = surface.noise > 0
    if noisy and surface.coordinate_sum is not None:
        gradient.append("g0 = g0 + p_noise * noise[lane]")
    elif noisy:
        for pair in range(-(-size // 2)):
            first, second = 2 * pair, 2 * pair + 1
            gradient.append(f"n{first}, n{second} = gaussian_pair(stream, t * {-(-size // 2)} + {pair})")
        gradient += [f"g{i} = g{i} + p_noise * n{i}" for i in range(size)]
    unclipped: tuple[str, ...] = ()
    if changes.clipped and surface.coordinate_sum is not None:
        unclipped = tuple(gradient)
        gradient.append("g0 = g0 * clip")
    elif changes.clipped:
        squares = " + ".join(f"g{i} * g{i}" for i in range(size))
        gradient.append(f"clip = clip_norm / maximum(sqrt({squares}), clip_norm)")
        gradient += [f"g{i} = g{i} * clip" for i in range(size)]
    eliminates = False
    if rule.needs == "hessian":
        gradient += write_hessian(surface, point, "h", samples=samples, everything=everything)
        damping = "h_damping" if "damping" in rule.defaults else "0.0"
        diagonal = surface.coordinate_sum is not None or (
            surface.expressions is not None and surface.expressions.diagonal and not surface.degrees and not batched
        )
        eliminates = not diagonal and size > CRAMER
        gradient += _direction(size, damping, diagonal=diagonal)
    hyper = lines.hyper
    if rule.needs == "hessian" and "damping" in rule.defaults:
        hyper = tuple(dict.fromkeys([*hyper, "damping"]))
    constants = list(surface.constants)
    called = {"rule_update": rule.update} | ({"rule_lookahead": rule.lookahead} if rule.lookahead else {})
    return Program(
        lines=lines,
        gradient=tuple(gradient),
        update=update,
        value=tuple(write_value(surface, "x", "f", everything=everything)),
        state=tuple(f"s_{slot}_{i}" for slot in rule.slots for i in range(size)),
        hyper=tuple(f"h_{name}" for name in hyper),
        constants=lines.constants,
        coefficients=(*lines.coefficients, *(("factor",) if scheduled else ())),
        surface_constants=(
            *constants,
            *(("p_noise",) if noisy else ()),
            *(("clip_norm",) if changes.clipped else ()),
        ),
        written=lines.written,
        eliminates=eliminates,
        batched=batched,
        noisy=noisy,
        namespace={} if lines.written else called,
        unclipped=unclipped,
    )


def _direction(size: int, damping: str, *, diagonal: bool) -> list[str]:
    """Return the lines that turn the gradient g into (H + damping I)^-1 g."""
    if diagonal:
        return [f"g{i} = g{i} / (h{i}{i} + {damping})" for i in range(size)]
    if size > CRAMER:
        rows = ", ".join(f"({', '.join(f'h{min(i, j)}{max(i, j)}' for j in range(size))},)" for i in range(size))
        names = ", ".join(f"g{i}" for i in range(size))
        return [f"{names} = direction(({rows},), ({names}), {damping})"]
    return [
        f"d00 = h00 + {damping}",
        f"d11 = h11 + {damping}",
        "determinant = d00 * d11 - h01 * h01",
        "first = (d11 * g0 - h01 * g1) / determinant",
        "g1 = (d00 * g1 - h01 * g0) / determinant",
        "g0 = first",
    ]
