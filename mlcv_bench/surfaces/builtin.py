"""The built-in surfaces: each a function of its settings, with value, gradient and Hessian written out."""

from __future__ import annotations

import dataclasses
import itertools
import math
from array import array
from typing import TYPE_CHECKING

from mlcv_bench.errors import UsageError
from mlcv_bench.surfaces.formula import Derived
from mlcv_bench.surfaces.minima import with_minima_near
from mlcv_bench.surfaces.surface import (
    LARGEST_DIMENSION,
    LONGEST_DIMENSION,
    Box,
    CoordinateSum,
    Expressions,
    Point,
    Quadratic,
    Surface,
    built_in,
)

if TYPE_CHECKING:
    from collections.abc import Sequence


def quadratic_surface(name: str, formula: str, curvatures: Sequence[float], start: Point, box: Box) -> Surface:
    """Return 1/2 sum_i h_i x_i^2 with its curvatures as parameters h0, h1, ... or, of many, as one column."""
    size = len(curvatures)
    if size > LARGEST_DIMENSION:
        return long_quadratic(name, formula, curvatures, start, box)
    variables = variables_of(size)
    terms = [f"h{i} * {variable}**2" for i, variable in enumerate(variables)]
    return Surface(
        name=name,
        formula=formula,
        expressions=Expressions(
            variables,
            f"0.5 * ({' + '.join(terms)})",
            tuple(f"h{i} * {variable}" for i, variable in enumerate(variables)),
            tuple(tuple(f"h{i}" if i == j else "0" for j in range(size)) for i in range(size)),
        ),
        parameters={f"h{i}": value for i, value in enumerate(curvatures)},
        start=start,
        box=box,
        minima=((0.0,) * size,),
        minimum=0.0,
        quadratic=Quadratic(curvatures, tuple(tuple(float(i == j) for j in range(size)) for i in range(size))),
    )


def long_quadratic(name: str, formula: str, curvatures: Sequence[float], start: Point, box: Box) -> Surface:
    """Return 1/2 sum_i h_i x_i^2 of any number of coordinates, none of which is written out."""
    column = array("d", curvatures)
    return Surface(
        name=name,
        formula=formula,
        expressions=None,
        coordinate_sum=CoordinateSum(Expressions(("x",), "0.5 * h * x**2", ("h * x",), (("h",),)), {"h": column}),
        start=start,
        box=box,
        minima=((0.0,) * len(column),),
        minimum=0.0,
        quadratic=Quadratic(column),
    )


def variables_of(size: int) -> tuple[str, ...]:
    """Return the names of so many coordinates."""
    return ("x", "y", "z")[:size] if size <= 3 else tuple(f"x{i}" for i in range(size))  # noqa: PLR2004 - x, y, z


def _checked_condition(condition: float) -> float:
    if not 1 <= condition < math.inf:
        msg = f"the condition number must be at least 1 and finite, not {condition:g}"
        raise UsageError(msg)
    return float(condition)


def _checked_dimension(dim: float, least: int = 1, most: int = LARGEST_DIMENSION) -> int:
    if not (float(dim).is_integer() and least <= dim <= most):
        further = f"; sphere and quadratic go up to {LONGEST_DIMENSION}" if most < dim <= LONGEST_DIMENSION else ""
        msg = f"dim must be a whole number from {least} to {most}, not {dim:.10g}{further}"
        raise UsageError(msg)
    return int(dim)


@built_in
def sphere(dim: float = 2) -> Surface:
    """Every direction alike: 1/2 (x^2 + y^2)."""
    size = _checked_dimension(dim, most=LONGEST_DIMENSION)
    start = (5.0, 3.0) if size == 2 else (5.0,) * size  # noqa: PLR2004 - the plane
    formula = f"0.5*({' + '.join(f'{v}^2' for v in variables_of(size))})" if size <= 3 else f"0.5*sum x_i^2, {size} x"  # noqa: PLR2004 - x, y, z
    return quadratic_surface("sphere", formula, (1.0,) * size, start, ((-6.0, 6.0),) * size)


@built_in
def canyon(condition: float = 100.0) -> Surface:
    """Steep across, flat along: 1/2 (x^2 + condition y^2)."""
    condition = _checked_condition(condition)
    box = ((-6.0, 6.0), (-2.0, 2.0))
    return quadratic_surface("canyon", f"0.5*(x^2 + {condition:g} y^2)", (1.0, condition), (5.0, 1.0), box)


@built_in
def saddle() -> Surface:
    """A saddle between two minima: x^2/2 - y^2/2 + y^4/4."""
    return Surface(
        name="saddle",
        formula="x^2/2 - y^2/2 + y^4/4",
        expressions=Expressions(
            ("x", "y"),
            "0.5 * x**2 - 0.5 * y**2 + 0.25 * y**4",
            ("x", "y**3 - y"),
            (("1", "0"), ("0", "3 * y**2 - 1")),
        ),
        start=(1.0, 1e-3),
        box=((-1.5, 1.5), (-1.5, 1.5)),
        minima=((0.0, 1.0), (0.0, -1.0)),
        minimum=-0.25,
    )


@built_in
def local_minima(depth: float = 3.0, width: float = 0.4) -> Surface:
    """One large basin and one small: a bowl with a dent of this depth and width at (2.5, 1.5)."""
    if not (0 < depth < math.inf and 0 < width < math.inf):
        msg = f"local-minima: depth and width must be above 0 and finite, not {depth:g} and {width:g}"
        raise UsageError(msg)
    dent = "depth * exp(-((x - 2.5)**2 + (y - 1.5)**2) / (2 * width**2))"
    pull = f"{dent} / width**2"
    surface = Surface(
        name="local-minima",
        formula=f"0.5*(x^2 + y^2) - {depth:g} exp(-((x - 2.5)^2 + (y - 1.5)^2)/(2*{width:g}^2))",
        expressions=Expressions(
            ("x", "y"),
            f"0.5 * (x**2 + y**2) - {dent}",
            (f"x + (x - 2.5) * {pull}", f"y + (y - 1.5) * {pull}"),
            (
                (f"1 + (1 - (x - 2.5)**2 / width**2) * {pull}", f"-(x - 2.5) * (y - 1.5) * {pull} / width**2"),
                (f"-(x - 2.5) * (y - 1.5) * {pull} / width**2", f"1 + (1 - (y - 1.5)**2 / width**2) * {pull}"),
            ),
        ),
        parameters={"depth": depth, "width": width},
        start=(4.0, 2.4),
        box=((-5.0, 5.0), (-5.0, 5.0)),
    )
    return with_minima_near(surface, [(0.0, 0.0), (2.5, 1.5)])


@built_in
def washboard(force: float = 0.2, amplitude: float = 1.0) -> Surface:
    """Endless small basins on a slope: -force x - amplitude cos x + y^2/2; with a force it has no lowest point."""
    if not (0 <= force < math.inf and 0 < amplitude < math.inf):
        msg = f"washboard: force must be at least 0 and amplitude above 0, not {force:g} and {amplitude:g}"
        raise UsageError(msg)
    wells: tuple[Point, ...] = ()
    start = 0.0
    if force < amplitude:
        # Just past the barrier's top, so that an optimizer falls into the first well with some speed.
        start = -math.pi - math.asin(force / amplitude) + 1e-3
        wells = tuple((math.asin(force / amplitude) + 2 * math.pi * i, 0.0) for i in range(-1, 3))
    surface = Surface(
        name="washboard",
        formula=f"-{force:g} x - {amplitude:g} cos(x) + y^2/2",
        expressions=Expressions(
            ("x", "y"),
            "-force * x - amplitude * cos(x) + 0.5 * y**2",
            ("amplitude * sin(x) - force", "y"),
            (("amplitude * cos(x)", "0"), ("0", "1")),
        ),
        parameters={"force": force, "amplitude": amplitude},
        start=(start, 1.0),
        box=((-7.0, 14.0), (-3.0, 3.0)),
        local_minima=wells,
    )
    if force:
        return surface
    # On a level washboard all wells, without end, are the lowest.
    return dataclasses.replace(surface, minima=wells, local_minima=(), minimum=-amplitude, listed_within=surface.box)


@built_in
def rosenbrock(dim: float = 2) -> Surface:
    """A curved valley: (1 - x)^2 + 100 (y - x^2)^2 (Rosenbrock 1960), with more coordinates a chain of such terms."""
    size = _checked_dimension(dim, least=2)
    names = variables_of(size)
    links = tuple(itertools.pairwise(names))
    # Each coordinate but the last pulls the next one; each but the first is pulled.
    pulls = {x: f"-2 * (1 - {x}) - 400 * {x} * ({y} - {x}**2)" for x, y in links}
    pulled = {y: f"200 * ({y} - {x}**2)" for x, y in links}
    bends = {x: f"2 - 400 * ({y} - 3 * {x}**2)" for x, y in links}
    entries = {(v, v): _sum_of(bends.get(v), "200" if v in pulled else None) for v in names}
    entries |= {pair: f"-400 * {x}" for x, y in links for pair in ((x, y), (y, x))}
    terms = [f"(1 - {x})**2 + 100 * ({y} - {x}**2)**2" for x, y in links]
    return Surface(
        name="rosenbrock",
        formula="(1 - x)^2 + 100 (y - x^2)^2"
        if size == 2  # noqa: PLR2004 - the plane
        else f"sum (1 - x_i)^2 + 100 (x_i+1 - x_i^2)^2, {size} x",
        expressions=Expressions(
            names,
            terms[0] if len(terms) == 1 else " + ".join(f"({term})" for term in terms),
            tuple(_sum_of(pulls.get(v), pulled.get(v)) for v in names),
            tuple(tuple(entries.get((u, v), "0") for v in names) for u in names),
        ),
        start=tuple(1.0 if i % 2 else -1.2 for i in range(size)),
        box=(*((-2.0, 2.0),) * (size - 1), (-1.0, 3.0)),
        minima=((1.0,) * size,),
        minimum=0.0,
    )


def _sum_of(*parts: str | None) -> str:
    return " + ".join(part for part in parts if part is not None)


@built_in
def himmelblau() -> Surface:
    """Four equal minima: (x^2 + y - 11)^2 + (x + y^2 - 7)^2 (Himmelblau 1972)."""
    surface = Surface(
        name="himmelblau",
        formula="(x^2 + y - 11)^2 + (x + y^2 - 7)^2",
        expressions=Expressions(
            ("x", "y"),
            "(x**2 + y - 11)**2 + (x + y**2 - 7)**2",
            (
                "4 * x * (x**2 + y - 11) + 2 * (x + y**2 - 7)",
                "2 * (x**2 + y - 11) + 4 * y * (x + y**2 - 7)",
            ),
            (
                ("4 * (3 * x**2 + y - 11) + 2", "4 * x + 4 * y"),
                ("4 * x + 4 * y", "2 + 4 * (x + 3 * y**2 - 7)"),
            ),
        ),
        start=(0.0, 0.0),
        box=((-6.0, 6.0), (-6.0, 6.0)),
    )
    return with_minima_near(surface, [(3.0, 2.0), (-2.8, 3.13), (-3.78, -3.28), (3.58, -1.85)], lowest=0.0)


@built_in
def beale() -> Surface:
    """Flat plateaus and sharp corners: sum of (c_i - x + x y^i)^2, c = 1.5, 2.25, 2.625 (Beale 1958)."""
    r1, r2, r3 = "(1.5 - x + x * y)", "(2.25 - x + x * y**2)", "(2.625 - x + x * y**3)"
    mixed = (
        f"2 * (y - 1) * x + 2 * {r1} + 4 * x * y * (y**2 - 1) + 4 * y * {r2} "
        f"+ 6 * x * y**2 * (y**3 - 1) + 6 * y**2 * {r3}"
    )
    return Surface(
        name="beale",
        formula="(1.5 - x + x y)^2 + (2.25 - x + x y^2)^2 + (2.625 - x + x y^3)^2",
        expressions=Expressions(
            ("x", "y"),
            f"{r1}**2 + {r2}**2 + {r3}**2",
            (
                f"2 * (y - 1) * {r1} + 2 * (y**2 - 1) * {r2} + 2 * (y**3 - 1) * {r3}",
                f"2 * x * {r1} + 4 * x * y * {r2} + 6 * x * y**2 * {r3}",
            ),
            (
                ("2 * (y - 1)**2 + 2 * (y**2 - 1)**2 + 2 * (y**3 - 1)**2", mixed),
                (mixed, f"2 * x**2 + 8 * x**2 * y**2 + 4 * x * {r2} + 18 * x**2 * y**4 + 12 * x * y * {r3}"),
            ),
        ),
        start=(1.0, 1.0),
        box=((-4.5, 4.5), (-4.5, 4.5)),
        minima=((3.0, 0.5),),
        minimum=0.0,
    )


@built_in
def rastrigin(amplitude: float = 10.0, dim: float = 2) -> Surface:
    """A bowl full of equal dents: x^2 + y^2 + amplitude (2 - cos 2 pi x - cos 2 pi y) (Rastrigin 1974)."""
    if not 0 <= amplitude < math.inf:
        msg = f"rastrigin: amplitude must be at least 0 and finite, not {amplitude:g}"
        raise UsageError(msg)
    size = _checked_dimension(dim)
    names = variables_of(size)
    squares, waves = (" + ".join(f"{v}**2" for v in names), " - ".join(f"cos(2 * pi * {v})" for v in names))
    bends = {v: f"2 + 4 * pi**2 * amplitude * cos(2 * pi * {v})" for v in names}
    return Surface(
        name="rastrigin",
        formula=f"x^2 + y^2 + {amplitude:g} (2 - cos(2 pi x) - cos(2 pi y))"
        if size == 2  # noqa: PLR2004 - the plane
        else f"sum x_i^2 + {amplitude:g} (1 - cos(2 pi x_i)), {size} x",
        expressions=Expressions(
            names,
            f"{squares} + amplitude * ({size} - {waves})",
            tuple(f"2 * {v} + 2 * pi * amplitude * sin(2 * pi * {v})" for v in names),
            tuple(tuple(bends[v] if u == v else "0" for v in names) for u in names),
        ),
        parameters={"amplitude": amplitude},
        start=tuple(-1.7 if i % 2 else 2.3 for i in range(size)),
        box=((-5.12, 5.12),) * size,
        minima=((0.0,) * size,),
        minimum=0.0,
    )


@built_in
def ackley() -> Surface:
    """A nearly flat plain of dents round one deep funnel (Ackley 1987), its tip rounded by 1e-30 inside the root."""
    r = "sqrt(0.5 * (x**2 + y**2) + 1e-30)"
    waves = "exp(0.5 * (cos(2 * pi * x) + cos(2 * pi * y)))"
    funnel = f"exp(-0.2 * {r})"

    def slope(v: str) -> str:
        return f"2 * {v} * {funnel} / {r} + pi * sin(2 * pi * {v}) * {waves}"

    def curvature(v: str) -> str:
        return (
            f"2 * {funnel} / {r} * (1 - 0.1 * {v}**2 / {r} - 0.5 * {v}**2 / {r}**2) "
            f"+ pi**2 * {waves} * (2 * cos(2 * pi * {v}) - sin(2 * pi * {v})**2)"
        )

    mixed = f"-{funnel} * x * y / {r}**2 * (0.2 + 1 / {r}) - pi**2 * sin(2 * pi * x) * sin(2 * pi * y) * {waves}"
    return Surface(
        name="ackley",
        formula="-20 exp(-0.2 sqrt((x^2 + y^2)/2)) - exp((cos(2 pi x) + cos(2 pi y))/2) + e + 20",
        expressions=Expressions(
            ("x", "y"),
            f"-20 * {funnel} - {waves} + e + 20",
            (slope("x"), slope("y")),
            ((curvature("x"), mixed), (mixed, curvature("y"))),
        ),
        start=(2.7, -3.1),
        box=((-5.0, 5.0), (-5.0, 5.0)),
        minima=((0.0, 0.0),),
        minimum=0.0,
    )


@built_in
def quadratic(dim: float = 10, condition: float = 100.0) -> Surface:
    """Many directions: 1/2 sum h_i x_i^2, curvatures from 1 to condition, equally spaced in their logarithm."""
    size, condition = _checked_dimension(dim, most=LONGEST_DIMENSION), _checked_condition(condition)
    curvatures = tuple(condition ** (i / (size - 1)) if size > 1 else condition for i in range(size))
    formula = f"0.5*sum h_i x_i^2, {size} h from 1 to {condition:g}"
    return quadratic_surface("quadratic", formula, curvatures, (1.0,) * size, ((-2.0, 2.0),) * size)


@built_in
def three_hump_camel() -> Surface:
    """Three basins in a row, the middle one the deepest: 2 x^2 - 1.05 x^4 + x^6/6 + x y + y^2 (Jamil and Yang 2013)."""
    # The slope along y is zero at y = -x/2, that along x then at x^4 - 4.2 x^2 + 3.5 = 0.
    x = math.sqrt(2.1 + math.sqrt(2.1**2 - 3.5))
    return Surface(
        name="three-hump-camel",
        formula="2 x^2 - 1.05 x^4 + x^6/6 + x y + y^2",
        expressions=Derived(("x", "y"), "2 * x**2 - 1.05 * x**4 + x**6 / 6 + x * y + y**2"),
        start=(-2.0, 1.8),
        box=((-2.5, 2.5), (-2.5, 2.5)),
        minima=((0.0, 0.0),),
        minimum=0.0,
        local_minima=((x, -x / 2), (-x, x / 2)),
    )
