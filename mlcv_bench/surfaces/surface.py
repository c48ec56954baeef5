"""What a surface is: a function to minimize with its gradient, Hessian, start and minima, as checked arithmetic."""

from __future__ import annotations

import dataclasses
import itertools
import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from mlcv_bench.errors import UsageError
from mlcv_bench.expression import Writer, function_from, is_zero, parse
from mlcv_bench.functions import FLOATS
from mlcv_bench.surfaces.newton import direction

if TYPE_CHECKING:
    import ast
    from array import array
    from collections.abc import Callable, Iterator, Mapping, Sequence

Point = tuple[float, ...]
Box = tuple[tuple[float, float], ...]
Build = TypeVar("Build", bound="Callable[..., Surface]")

LARGEST_DIMENSION = 64  # every coordinate has lines of its own in the code that runs
LONGEST_DIMENSION = 1_000_000  # of a sum of one term a coordinate, whose lines are written once
LONGEST_SHOWN = 10  # coordinates of a point that people read

SURFACES: dict[str, Callable[..., Surface]] = {}
"""Every built-in surface, a function of its settings."""


def built_in(build: Build) -> Build:
    """Register a surface under its function's name; `list surfaces` shows its docstring's first line."""
    SURFACES[build.__name__.replace("_", "-")] = build
    return build


def kept(point: Point) -> Point | None:
    """Return a point as results carry it: None where it has more coordinates than belong in every row."""
    return point if len(point) <= LARGEST_DIMENSION else None


def shown(point: Sequence[float]) -> str:
    """Return a point as people write it, of many coordinates the first two and how many there are."""
    if len(point) > LONGEST_SHOWN:
        return f"{point[0]:g} {point[1]:g} ... {len(point)} coordinates"
    return " ".join(f"{part:g}" for part in point)


@dataclass(frozen=True)
class Expressions:
    """A function of several variables as text: its value, gradient and Hessian."""

    variables: tuple[str, ...]
    value: str
    gradient: tuple[str, ...] = ()
    hessian: tuple[tuple[str, ...], ...] = ()

    @cached_property
    def value_tree(self) -> ast.expr:
        """The checked tree of the value."""
        return parse(self.value)

    @cached_property
    def gradient_trees(self) -> tuple[ast.expr, ...]:
        """The checked trees of the gradient."""
        return tuple(parse(text) for text in self.gradient)

    @cached_property
    def hessian_trees(self) -> tuple[tuple[ast.expr, ...], ...]:
        """The checked trees of the Hessian."""
        return tuple(tuple(parse(text) for text in row) for row in self.hessian)

    @property
    def diagonal(self) -> bool:
        """Whether the Hessian is zero off its diagonal everywhere."""
        size = len(self.variables)
        return all(is_zero(self.hessian_trees[i][j]) for i in range(size) for j in range(size) if i != j)


@dataclass(frozen=True)
class Quadratic:
    """The shape of f = f* + 1/2 sum_i h_i (axis_i . (x - centre))^2, for the theory that needs it.

    Where there are fewer axes than coordinates, the function is constant along all others: its minima are a valley.
    Without any, the axes are those of the coordinates.
    """

    curvatures: Sequence[float]
    axes: tuple[Point, ...] = ()

    @property
    def mu(self) -> float:
        """The smallest curvature."""
        return min(self.curvatures)

    @property
    def L(self) -> float:  # noqa: N802 - the field's name for the largest curvature
        """The largest curvature."""
        return max(self.curvatures)

    @property
    def steep_axis(self) -> Point:
        """The direction of the largest curvature."""
        steepest = self.curvatures.index(self.L)
        return self.axes[steepest] if self.axes else tuple(float(i == steepest) for i in range(len(self.curvatures)))


@dataclass(frozen=True)
class CoordinateSum:
    """A sum of one term a coordinate: `term` is a function of one, and reads that coordinate's number of each column.

    It is written once for all of them, so that there may be a million.
    """

    term: Expressions
    columns: Mapping[str, array[float]]


@dataclass(frozen=True)
class FiniteSum:
    """The mean of one term a sample: `terms` is a function of the weights that also reads a sample's `columns`."""

    terms: Expressions
    columns: tuple[str, ...]
    samples: tuple[Point, ...]
    batch_size: int

    @property
    def batches(self) -> int:
        """U = ceil(N / B), the steps of an epoch."""
        return -(-len(self.samples) // self.batch_size)

    @property
    def full(self) -> bool:
        """Whether every batch is the whole set, so that the gradient has no noise."""
        return self.batch_size >= len(self.samples)


@dataclass(frozen=True)
class Surface:
    """A function to minimize.

    Attributes:
        name: what the tables show.
        formula: the function as people write it.
        expressions: value, gradient and Hessian in the unrotated coordinates; None where only a sum knows them.
        parameters: the numbers that `expressions` reads by name.
        start: where races begin.
        minima: every global minimum; empty where unknown or where there is none.
        minimum: the value there, or None.
        listed_within: the box within which all global minima are listed, an empty one where some may be missing
            anywhere; None where `minima` has all there are.
        valley: whether the global minima are a valley, of which `minima` lists some points.
        local_minima: other minima worth naming.
        box: the range of every coordinate that pictures and random starts use.
        quadratic: curvatures and axes, where the function is quadratic.
        degrees: how far the surface is rotated, in the plane of its first and last coordinate.
        finite_sum: the samples, where the function is a mean over them.
        coordinate_sum: the terms, where the function has more coordinates than can be written out one by one.
        noise: standard deviation of the noise added to each coordinate of the gradient.
        notes: sentences about the surface.

    """

    name: str
    formula: str
    expressions: Expressions | None
    start: Point
    box: Box
    parameters: Mapping[str, float] = dataclasses.field(default_factory=dict)
    minima: tuple[Point, ...] = ()
    minimum: float | None = None
    listed_within: Box | None = None
    valley: bool = False
    local_minima: tuple[Point, ...] = ()
    quadratic: Quadratic | None = None
    degrees: float = 0.0
    finite_sum: FiniteSum | None = None
    coordinate_sum: CoordinateSum | None = None
    noise: float = 0.0
    notes: tuple[str, ...] = ()

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the functions that were written and kept here: another process writes its own."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    @property
    def dimension(self) -> int:
        """How many coordinates a point has."""
        return len(self.start)

    @property
    def written(self) -> int:
        """How many coordinates have lines of their own in the code that runs."""
        return 1 if self.coordinate_sum is not None else self.dimension

    @property
    def box_diagonal(self) -> float:
        """The length of the box's diagonal."""
        return math.hypot(*(high - low for low, high in self.box))

    @property
    def mu(self) -> float | None:
        """The smallest curvature, where it is the same everywhere."""
        return self.quadratic.mu if self.quadratic else None

    @property
    def L(self) -> float | None:  # noqa: N802 - the field's name for the largest curvature
        """The largest curvature, where it is the same everywhere."""
        return self.quadratic.L if self.quadratic else None

    @property
    def stochastic(self) -> bool:
        """Whether the gradient that optimizers see is random."""
        return self.noise > 0 or (self.finite_sum is not None and not self.finite_sum.full)

    @property
    def listed(self) -> bool:
        """Whether `minima` has all there are; else the nearest to a point has to be searched for."""
        return self.listed_within is None and not self.valley

    @cached_property
    def rounding(self) -> float:
        """How far rounding alone moves the value near a global minimum: 8 times the spread among its neighbours."""
        found: list[float] = []
        # A sum of one term a coordinate has its lowest point where every term is zero, and rounds by nothing there.
        for point in self.minima[:1] if self.coordinate_sum is None else ():
            for steps in range(-8, 9):
                near = tuple(part + steps * 2.0**-52 * max(abs(part), 2.0**-52) for part in point)
                value = self.safe_value(near)
                found += [] if value is None else [value]
        return 8 * (max(found) - min(found)) if found else 0.0

    @property
    def remarks(self) -> tuple[str, ...]:
        """The sentences on the surface that stand below every table."""
        valley = "Its lowest points are a valley: the distance is to the nearest of them."
        return (*self.notes, valley) if self.valley else self.notes

    @property
    def constants(self) -> dict[str, float]:
        """Every number that the written lines read, by the name they read it under."""
        rotation = {"rotation_cos": _cosine(self.degrees), "rotation_sin": _cosine(self.degrees - 90.0)}
        return {f"p_{name}": float(value) for name, value in self.parameters.items()} | (
            rotation if self.degrees else {}
        )

    @cached_property
    def value(self) -> Callable[..., float]:
        """The function itself, of as many floats as there are coordinates."""
        terms = self.value_by(FLOATS)
        return terms if self.coordinate_sum is None else lambda *point: sum(self._each(terms, point))

    def value_by(self, functions: Mapping[str, Callable[..., Any]]) -> Callable[..., Any]:
        """Return the function computed by these functions: those of numpy take arrays, those of torch tensors.

        Of a sum over coordinates it is one term, of a coordinate and its columns. It is written and compiled once.
        """
        return self._function("value", functions, lambda: [*write_value(self, "x", "f"), "return f"])

    @cached_property
    def gradient(self) -> Callable[..., Point]:
        """The gradient of the whole function, without noise, as a tuple of floats."""
        slopes = self.gradient_by(FLOATS)
        if self.coordinate_sum is None:
            return slopes
        return lambda *point: tuple(itertools.chain.from_iterable(self._each(slopes, point)))

    def gradient_by(self, functions: Mapping[str, Callable[..., Any]]) -> Callable[..., Any]:
        """Return the gradient computed by these functions, as `value_by` does the value."""

        def write() -> list[str]:
            slopes = ", ".join(f"g{i}" for i in range(self.written))
            return [*write_gradient(self, "x", "g"), f"return ({slopes},)"]

        return self._function("gradient", functions, write)

    @cached_property
    def hessian(self) -> Callable[..., tuple[Point, ...]]:
        """The Hessian of the whole function, as a tuple of rows.

        Raises:
            UsageError: the function is a sum over coordinates, which may be too many.

        """
        if self.coordinate_sum is not None:
            msg = f"the Hessian of {self.name} has {self.dimension} x {self.dimension} entries"
            raise UsageError(msg)
        return self.hessian_by(FLOATS)

    def hessian_by(self, functions: Mapping[str, Callable[..., Any]]) -> Callable[..., Any]:
        """Return the Hessian computed by these functions, as `value_by` does the value."""

        def write() -> list[str]:
            size = self.written
            rows = ", ".join(f"({', '.join(f'h{min(i, j)}{max(i, j)}' for j in range(size))},)" for i in range(size))
            return [*write_hessian(self, "x", "h"), f"return ({rows},)"]

        return self._function("hessian", functions, write)

    def _each(self, function: Callable[..., Any], point: Sequence[float]) -> Iterator[Any]:
        """Yield a function of one coordinate and its columns, coordinate by coordinate."""
        columns = self.coordinate_sum.columns.values() if self.coordinate_sum is not None else ()
        return map(function, point, *columns)

    @cached_property
    def _compiled(self) -> dict[tuple[str, int], tuple[Mapping[str, Callable[..., Any]], Callable[..., Any]]]:
        """What is compiled already, by name and the identity of its table of functions, which is kept beside it."""
        return {}

    def _function(
        self, name: str, functions: Mapping[str, Callable[..., Any]], write: Callable[[], Sequence[str]]
    ) -> Callable[..., Any]:
        key = name, id(functions)
        if key not in self._compiled:
            self._compiled[key] = functions, self._compile(name, functions, write())
        return self._compiled[key][1]

    def _compile(
        self, name: str, functions: Mapping[str, Callable[..., Any]], lines: Sequence[str]
    ) -> Callable[..., Any]:
        namespace = {**functions, **self.constants}
        if self.finite_sum is not None:
            namespace["samples"] = self.finite_sum.samples
        columns = self.coordinate_sum.columns if self.coordinate_sum is not None else ()
        arguments = [*(f"x{i}" for i in range(self.written)), *(f"d_{column}" for column in columns)]
        return function_from(name, arguments, lines, namespace)

    def newton_direction(self, point: Point, damping: float = 0.0) -> Point:
        """Solve (H + damping I) d = g at a point.

        Raises:
            UsageError: the Hessian is singular there.

        """
        try:
            if self.coordinate_sum is not None:
                pairs = zip(self.gradient(*point), self._each(self.hessian_by(FLOATS), point), strict=True)
                return tuple(slope / (curvature + damping) for slope, ((curvature,),) in pairs)
            return direction(self.hessian(*point), self.gradient(*point), damping)
        except ZeroDivisionError:
            raise UsageError(
                f"newton: the Hessian of {self.name} is singular at {shown(point)}; "
                "give it damping, as newton:damping=0.1"
            ) from None

    def safe_value(self, point: Point) -> float | None:
        """Return the value at a point, or None where there is no finite one."""
        try:
            value = self.value(*point)
        except (OverflowError, ValueError, ZeroDivisionError):
            return None
        return value if math.isfinite(value) else None

    def rotated(self, degrees: float) -> Surface:
        """Return this surface turned counter-clockwise about the origin, with its start and its minima.

        Raises:
            UsageError: the angle is not finite, or the surface has one coordinate or more than can be written out.

        """
        if not math.isfinite(degrees):
            msg = f"a surface is rotated by a finite number of degrees, not {degrees:g}"
            raise UsageError(msg)
        if degrees % 360 == 0:
            return self
        if self.dimension < 2:  # noqa: PLR2004 - a line cannot turn
            msg = f"{self.name} has one coordinate and cannot be rotated"
            raise UsageError(msg)
        if self.coordinate_sum is not None:
            msg = f"a surface is rotated in up to {LARGEST_DIMENSION} coordinates, and {self.name} has {self.dimension}"
            raise UsageError(msg)

        def turn(point: Point) -> Point:
            return rotate(point, degrees)

        quadratic = self.quadratic
        if quadratic is not None:
            quadratic = Quadratic(quadratic.curvatures, tuple(turn(axis) for axis in quadratic.axes))
        return dataclasses.replace(
            self,
            name=f"{self.name}@{self.degrees + degrees:g}",
            start=turn(self.start),
            minima=tuple(turn(point) for point in self.minima),
            local_minima=tuple(turn(point) for point in self.local_minima),
            quadratic=quadratic,
            listed_within=self.listed_within and (),
            degrees=self.degrees + degrees,
        )


def _cosine(degrees: float) -> float:
    """Return the cosine, exact at quarter turns."""
    quarter = degrees % 360.0
    exact = {0.0: 1.0, 90.0: 0.0, 180.0: -1.0, 270.0: 0.0}
    return exact.get(quarter, math.cos(math.radians(degrees)))


def rotate(point: Point, degrees: float) -> Point:
    """Turn a point counter-clockwise about the origin, in the plane of its first and last coordinate."""
    cosine, sine = _cosine(degrees), _cosine(degrees - 90.0)
    first, *middle, last = point
    return (cosine * first - sine * last, *middle, sine * first + cosine * last)


def _names(surface: Surface, expressions: Expressions, point: str) -> tuple[list[str], dict[str, str]]:
    """Return the lines that turn a point back where the surface is rotated, and what each name is written as."""
    size = surface.dimension
    names = {name: f"p_{name}" for name in surface.parameters}
    if not surface.degrees:
        return [], names | {variable: f"{point}{i}" for i, variable in enumerate(expressions.variables)}
    last = size - 1
    turned = {0: f"u{point}0", last: f"u{point}{last}"}
    lines = [
        f"u{point}0 = rotation_cos * {point}0 + rotation_sin * {point}{last}",
        f"u{point}{last} = rotation_cos * {point}{last} - rotation_sin * {point}0",
    ]
    return lines, names | {v: turned.get(i, f"{point}{i}") for i, v in enumerate(expressions.variables)}


@dataclass(frozen=True)
class Samples:
    """How the written lines walk over samples: the loop's head, what reads the columns inside it, and the count."""

    head: str
    inside: tuple[str, ...]
    count: str


def listed(surface: Surface, name: str) -> Samples:
    """Return the walk over a list of tuples called `name`."""
    columns = surface.finite_sum.columns if surface.finite_sum else ()
    return Samples(f"for {', '.join(columns)} in {name}:", (), f"len({name})")


def write_value(surface: Surface, point: str, target: str, *, everything: Samples | None = None) -> list[str]:
    """Write the lines that compute the value at point0, point1, ... into `target`.

    Args:
        surface: the function.
        point: the prefix of the coordinates.
        target: the name of the result.
        everything: how to walk over all samples; by default a list called `samples`.

    """
    return _written(surface, point, [target], lambda of: [of.value_tree], None, everything)


def write_gradient(
    surface: Surface, point: str, target: str, *, samples: Samples | None = None, everything: Samples | None = None
) -> list[str]:
    """Write the lines that compute the gradient into target0, target1, ...; arguments as of `write_value`.

    `samples` is how to walk over the batch to average over; without it the whole function's gradient is written.
    """
    targets = [f"{target}{i}" for i in range(surface.written)]
    lines = _written(surface, point, targets, lambda of: of.gradient_trees, samples, everything)
    return [*lines, *_turned(targets[0], targets[-1])] if surface.degrees else lines


def write_hessian(
    surface: Surface, point: str, target: str, *, samples: Samples | None = None, everything: Samples | None = None
) -> list[str]:
    """Write the lines that compute the upper triangle of the Hessian into target00, target01, ..."""
    size = surface.written
    places = [(i, j) for i in range(size) for j in range(i, size)]
    targets = [f"{target}{i}{j}" for i, j in places]
    lines = _written(
        surface, point, targets, lambda of: [of.hessian_trees[i][j] for i, j in places], samples, everything
    )
    return [*lines, *_turn_hessian(size, target)] if surface.degrees else lines


def _written(
    surface: Surface,
    point: str,
    targets: list[str],
    trees_of: Callable[[Expressions], Sequence[ast.expr]],
    samples: Samples | None,
    everything: Samples | None,
) -> list[str]:
    """Return the lines of some trees: of the function's own, or of one term's, averaged over samples."""
    writer = Writer()
    if surface.coordinate_sum is not None:
        _, names = _names(surface, surface.coordinate_sum.term, point)
        names.update({column: f"d_{column}" for column in surface.coordinate_sum.columns})
        writer.assign_all(targets, trees_of(surface.coordinate_sum.term), names)
        return writer.lines
    if surface.expressions is not None and samples is None:
        lines, names = _names(surface, surface.expressions, point)
        writer.assign_all(targets, trees_of(surface.expressions), names)
        return [*lines, *writer.lines]
    total = surface.finite_sum
    if total is None:
        msg = f"{surface.name} has neither expressions nor samples"
        raise UsageError(msg)
    lines, names = _names(surface, total.terms, point)
    names.update({column: column for column in total.columns})
    writer.assign_all([f"term_{target}" for target in targets], trees_of(total.terms), names)
    walk = samples or everything or listed(surface, "samples")
    return [
        *lines,
        *(f"{target} = 0.0" for target in targets),
        walk.head,
        *(f"    {line}" for line in (*walk.inside, *writer.lines)),
        *(f"    {target} = {target} + term_{target}" for target in targets),
        *(f"{target} = {target} / {walk.count}" for target in targets),
    ]


def _turned(first: str, last: str) -> list[str]:
    """Return the lines that turn two components of a vector with the surface."""
    return [
        f"turned = rotation_cos * {first} - rotation_sin * {last}",
        f"{last} = rotation_sin * {first} + rotation_cos * {last}",
        f"{first} = turned",
    ]


def _turn_hessian(size: int, target: str) -> list[str]:
    """Return the lines of R H R^T for a rotation in the plane of the first and the last coordinate."""
    last = size - 1
    a, b, d = f"{target}00", f"{target}0{last}", f"{target}{last}{last}"
    cc, cs, ss = "rotation_cos * rotation_cos", "rotation_cos * rotation_sin", "rotation_sin * rotation_sin"
    lines = [
        f"turned_a = {cc} * {a} - 2.0 * {cs} * {b} + {ss} * {d}",
        f"turned_b = {cs} * {a} + ({cc} - {ss}) * {b} - {cs} * {d}",
        f"turned_d = {ss} * {a} + 2.0 * {cs} * {b} + {cc} * {d}",
        f"{a} = turned_a",
        f"{b} = turned_b",
        f"{d} = turned_d",
    ]
    for i in range(1, last):
        lines += _turned(f"{target}0{i}", f"{target}{i}{last}")
    return lines
