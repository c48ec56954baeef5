"""A user's formula as a surface: parsed under the small grammar, differentiated symbolically, its minima searched."""

from __future__ import annotations

import ast
import dataclasses
import itertools
import keyword
import math
import operator
import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from mlcv_bench.errors import UsageError
from mlcv_bench.expression import CONSTANTS, FUNCTIONS, brief, evaluated, names_in, parse
from mlcv_bench.random_streams import key, uniform
from mlcv_bench.records import counted
from mlcv_bench.surfaces.finite_sum import eigen
from mlcv_bench.surfaces.minima import SAME_VALUE, has_valley, polish, refine, with_minima
from mlcv_bench.surfaces.surface import LARGEST_DIMENSION, Expressions, Point, Quadratic, Surface

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

REACH = 5.0
LONGEST = 2000
SEARCH_POINTS = 1200
MOST_GRIDDED = 7
KEPT_POINTS = 24
SAME_POINT = 1e-6
SMALLEST_SLOPE = 1e-300  # added to |v| it changes no float but zero: v / (|v| + this) is the sign of v, 0 at 0

_TOKEN = re.compile(
    r"(?P<space>\s*)"
    r"(?:(?P<number>(?:\d[\d_]*\.?[\d_]*|\.\d+)(?:[eE][+-]?\d+)?)|(?P<name>[^\W\d]\w*)|(?P<sign>\*\*|\S))"
)


def from_text(text: str) -> Surface:
    """Return the surface of a formula in up to 64 variables, x2 before x10; e and pi are the constants.

    Raises:
        UsageError: the text is not a formula; nothing of it is ever evaluated as Python.

    """
    tree = parse(as_code(text))
    variables = tuple(sorted(names_in(tree) - set(CONSTANTS), key=_in_order))
    if not 1 <= len(variables) <= LARGEST_DIMENSION:
        count = counted(len(variables), "variable")
        raise UsageError(f"'{brief(text)}' has {count}; a surface has one to {LARGEST_DIMENSION}, such as x and y")
    import sympy  # noqa: PLC0415 - half a second, and only a user's own formula needs it

    symbols = {name: sympy.Symbol(name, real=True) for name in variables}
    surface = surface_of(text, variables, symbolic(tree, symbols), symbols)
    if "e" not in names_in(tree):
        return surface
    constant = f"In {brief(text)}, e is the constant 2.71828; the variables are {', '.join(variables)}."
    return dataclasses.replace(surface, notes=(constant, *surface.notes))


def _in_order(name: str) -> tuple[str, int, str]:
    """Return what puts x2 before x10."""
    letters = name.rstrip("0123456789")
    return letters, int(name[len(letters) :] or -1), name


def symbolic(tree: ast.expr, symbols: dict[str, Any]) -> Any:  # noqa: ANN401 - sympy has no types
    """Turn a checked tree into a sympy expression; numbers stay the exact decimals that were typed."""
    import sympy  # noqa: PLC0415 - as above

    names = {"pi": sympy.pi, "e": sympy.E} | symbols
    return sympy.sympify(evaluated(tree, names, lambda number: sympy.Rational(str(number)), operator.pow))


def written(expression: Any) -> str:  # noqa: ANN401 - sympy has no types
    """Return a sympy expression as text of the small grammar."""
    import sympy  # noqa: PLC0415 - as above

    if expression.has(sympy.zoo, sympy.nan, sympy.oo, sympy.I):
        msg = f"the formula has a part without a real value: {expression}"
        raise UsageError(msg)
    from sympy.printing.str import StrPrinter  # noqa: PLC0415 - as above

    class Printer(StrPrinter):  # type: ignore[misc] # sympy has no types
        """Prints in the grammar's names; a variable may be called E."""

        def _print_Abs(self, part: Any) -> str:  # noqa: ANN401, N802 - sympy's name for it
            return f"abs({self._print(part.args[0])})"

        def _print_Max(self, part: Any) -> str:  # noqa: ANN401, N802 - as above
            return f"max({self.stringify(part.args, ', ')})"

        def _print_Min(self, part: Any) -> str:  # noqa: ANN401, N802 - as above
            return f"min({self.stringify(part.args, ', ')})"

        def _print_Exp1(self, _: Any) -> str:  # noqa: ANN401, N802 - as above
            return "e"

    text: str = Printer().doprint(
        sympy.N(expression, 17) if expression.is_number else expression.replace(_is_ratio, _as_float)
    )
    parse(text)
    return text


def _is_ratio(part: Any) -> bool:  # noqa: ANN401 - sympy has no types
    return bool(part.is_Rational and not part.is_Integer and abs(part.q) > 2)  # noqa: PLR2004 - halves stay exponents


def _as_float(part: Any) -> Any:  # noqa: ANN401 - sympy has no types
    import sympy  # noqa: PLC0415 - as above

    return sympy.Float(part, 17)


class Derived(Expressions):
    """A value as text, with the gradient and Hessian that sympy finds once they are asked for."""

    @cached_property
    def _found(self) -> Expressions:
        import sympy  # noqa: PLC0415 - as above

        symbols = {name: sympy.Symbol(name, real=True) for name in names_in(self.value_tree) - set(CONSTANTS)}
        return differentiated(self.variables, symbolic(self.value_tree, symbols), symbols)

    @property
    def gradient_trees(self) -> tuple[ast.expr, ...]:
        """The checked trees of the gradient."""
        return self._found.gradient_trees

    @property
    def hessian_trees(self) -> tuple[tuple[ast.expr, ...], ...]:
        """The checked trees of the Hessian."""
        return self._found.hessian_trees


def differentiated(variables: tuple[str, ...], function: Any, symbols: dict[str, Any]) -> Expressions:  # noqa: ANN401 - sympy has no types
    """Return a sympy expression with its gradient and Hessian, as text of the small grammar."""
    import sympy  # noqa: PLC0415 - as above

    gradient, hessian = _derivatives(function, [symbols[name] for name in variables])
    if any(part.has(sympy.Derivative, sympy.DiracDelta) for row in hessian for part in row):
        # sign(x) has the derivative 2 DiracDelta(x): zero wherever an optimizer ever is.
        hessian = [[part.replace(sympy.DiracDelta, lambda *_: sympy.S.Zero) for part in row] for row in hessian]
    gradient = [_at_kinks(slope) for slope in gradient]
    hessian = [[_at_kinks(part) for part in row] for row in hessian]
    return Expressions(
        variables,
        written(function),
        tuple(written(slope) for slope in gradient),
        tuple(tuple(written(part) for part in row) for row in hessian),
    )


def _derivatives(function: Any, order: Sequence[Any]) -> tuple[list[Any], list[list[Any]]]:  # noqa: ANN401 - sympy has no types
    """Return gradient and Hessian; a sum's terms without the variable are passed over, which sympy.diff is slow at."""
    import sympy  # noqa: PLC0415 - as above

    def slope(function: Any, symbol: Any) -> Any:  # noqa: ANN401 - as above
        terms = [part for part in sympy.Add.make_args(function) if symbol in part.free_symbols]
        return sympy.Add(*(sympy.diff(part, symbol) for part in terms))

    gradient = [slope(function, symbol) for symbol in order]
    upper = {(i, j): slope(gradient[i], order[j]) for i in range(len(order)) for j in range(i, len(order))}
    return gradient, [[upper[min(i, j), max(i, j)] for j in range(len(order))] for i in range(len(order))]


def surface_of(text: str, variables: tuple[str, ...], function: Any, symbols: dict[str, Any]) -> Surface:  # noqa: ANN401 - sympy has no types
    """Return the surface of a sympy expression, with its minima."""
    import sympy  # noqa: PLC0415 - as above

    size = len(variables)
    expressions = differentiated(variables, function, symbols)
    surface = Surface(
        name=text,
        formula=text,
        expressions=expressions,
        start=tuple(0.9 * REACH - 0.7 * REACH * i / max(1, size - 1) for i in range(size)),
        box=((-REACH, REACH),) * size,
    )
    order = list(symbols.values())
    # A constant Hessian alone says little: that of |x| is zero on both sides of its kink.
    if function.is_polynomial(*order) and not any(names_in(part) for row in expressions.hessian_trees for part in row):
        return _quadratic(surface, function, order)
    return _searched(surface, smooth=not function.has(sympy.Abs, sympy.sign, sympy.Max, sympy.Min))


def _at_kinks(slope: Any) -> Any:  # noqa: ANN401 - sympy has no types
    """Write signs and steps by arithmetic: at a kink the slope is the mean of those on both sides."""
    import sympy  # noqa: PLC0415 - as above

    def sign(argument: Any) -> Any:  # noqa: ANN401 - as above
        return argument / (sympy.Abs(argument) + sympy.Float(SMALLEST_SLOPE, 17))

    return slope.replace(sympy.Heaviside, lambda part, *_: (1 + sign(part)) / 2).replace(sympy.sign, sign)


def _quadratic(surface: Surface, function: Any, order: list[Any]) -> Surface:  # noqa: ANN401 - sympy has no types
    """Return the surface of a polynomial of degree two with its minima, a point or a valley, and its curvatures.

    Rank, consistency and the value in a valley are exact; curvatures and axes are rounded.
    """
    import sympy  # noqa: PLC0415 - as above
    from sympy.polys.matrices import DomainMatrix  # noqa: PLC0415 - as above

    size = surface.dimension
    gradient, hessian = _derivatives(function, order)
    origin = dict.fromkeys(order, sympy.S.Zero)
    slope = [-part.xreplace(origin) for part in gradient]
    solved, pivots = DomainMatrix.from_Matrix(sympy.Matrix(hessian).row_join(sympy.Matrix(slope))).to_field().rref()
    rank = len([column for column in pivots if column < size])
    if not pivots:
        return surface  # a constant
    curvatures, axes = _eigen([[float(part) for part in row] for row in hessian], rank)
    if min(curvatures, default=0) <= 0 or size in pivots:
        return dataclasses.replace(surface, notes=("It falls without end: it has no lowest point.",))
    shape = Quadratic(curvatures, axes)
    if rank == size:
        centre = polish(surface, (0.0,) * size)
        lowest = surface.value(*centre)
    else:
        ends = solved.to_Matrix()[:, size]
        lowest = float(function.xreplace(origin | {order[column]: ends[row] for row, column in enumerate(pivots)}))
        parts = [
            sum(float(g) * a for g, a in zip(slope, axis, strict=True)) / h
            for h, axis in zip(curvatures, axes, strict=True)
        ]
        centre = tuple(sum(part * axis[i] for part, axis in zip(parts, axes, strict=True)) for i in range(size))
    return dataclasses.replace(
        surface,
        quadratic=shape,
        minima=(centre,),
        minimum=lowest,
        box=_box_round(surface, centre),
        valley=rank < size,
    )


def _eigen(hessian: list[list[float]], rank: int) -> tuple[tuple[float, ...], tuple[Point, ...]]:
    """Return the curvatures of a symmetric matrix that are not zero, and their axes."""
    size = len(hessian)
    if size == rank == 1:
        return (hessian[0][0],), ((1.0,),)
    if size == rank == 2 and hessian[0][0] * hessian[1][1] > hessian[0][1] ** 2:  # noqa: PLR2004 - the plane has a closed form
        shape = eigen(hessian[0][0], hessian[0][1], hessian[1][1])
        return tuple(shape.curvatures), shape.axes
    import numpy as np  # noqa: PLC0415 - only a formula in three variables or more, or with a valley, needs it

    values, vectors = np.linalg.eigh(np.array(hessian))
    kept = sorted(np.argsort(-np.abs(values), kind="stable")[:rank].tolist())
    return tuple(float(values[i]) for i in kept), tuple(tuple(map(float, vectors[:, i])) for i in kept)


def _box_round(surface: Surface, point: Point) -> tuple[tuple[float, float], ...]:
    return tuple(
        (min(low, part - REACH / 2), max(high, part + REACH / 2))
        for (low, high), part in zip(surface.box, point, strict=True)
    )


def _searched(surface: Surface, *, smooth: bool) -> Surface:
    """Return the surface with the lowest minima that a grid over its box, refined by Newton's method, finds."""
    points = _scattered(surface.dimension)
    ranked = sorted((value, point) for point in points if (value := surface.safe_value(point)) is not None)
    if ranked and surface.dimension > MOST_GRIDDED:
        ranked.insert(0, _descended(surface, *ranked[0]))
    found: list[tuple[float, Point]] = []
    for value, point in ranked[:KEPT_POINTS]:
        refined = refine(surface, point)
        lower = refined is not None and refined[0] <= value + 1e-12 * max(1.0, abs(value))
        if refined and lower and all(math.dist(refined[1], other) > SAME_POINT for _, other in found):
            found.append(refined)
    if not found:
        return surface
    lowest = min(value for value, _ in found)
    edge = ranked[0][0] if smooth else _descended(surface, *ranked[0])[0]
    if edge < lowest - SAME_VALUE * max(1.0, abs(lowest)):
        # The box's edge, or a kink, lies lower than every minimum inside: nothing can be called the lowest point.
        return dataclasses.replace(surface, local_minima=tuple(point for _, point in found))
    surface = with_minima(surface, found)
    inside = any(all(low <= x <= high for (low, high), x in zip(surface.box, p, strict=True)) for p in surface.minima)
    surface = dataclasses.replace(
        surface,
        # Newton's method sees no kink: next to one, the minima that were found are all that can be.
        listed_within=(surface.box if len(found) < KEPT_POINTS else ()) if smooth else None,
        box=surface.box if inside else _box_round(surface, surface.minima[0]),
    )
    return dataclasses.replace(surface, valley=smooth and any(has_valley(surface, point) for point in surface.minima))


def _scattered(dimension: int) -> Iterable[Point]:
    """Return the points of a grid over the box, or, where a grid would have too many, random ones."""
    if dimension > MOST_GRIDDED:
        stream = key(dimension)
        return (
            tuple(REACH * (2 * uniform(stream, dimension * number + i) - 1) for i in range(dimension))
            for number in range(SEARCH_POINTS)
        )
    side = max(3, round(SEARCH_POINTS ** (1 / dimension)))
    axis = [-REACH + 2 * REACH * (i + 0.5) / side for i in range(side)]
    return itertools.product(axis, repeat=dimension)


def _descended(surface: Surface, value: float, point: Point) -> tuple[float, Point]:
    """Return what lies below a point by steps along the axes: over hills, as the first are long, and into kinks."""
    step = REACH
    for _ in range(SEARCH_POINTS):
        ahead = [
            (*point[:axis], point[axis] + move, *point[axis + 1 :])
            for axis in range(surface.dimension)
            for move in (-step, step)
        ]
        known = [(found, other) for other in ahead if (found := surface.safe_value(other)) is not None]
        lower, place = min(known, default=(value, point))
        inside = all(low <= part <= high for (low, high), part in zip(surface.box, place, strict=True))
        if lower < value and inside:
            value, point = lower, place
        else:
            step /= 2
    return value, point


@dataclass(frozen=True)
class _Token:
    text: str
    kind: str
    spaced: bool

    @property
    def begins(self) -> bool:
        """Whether a factor may begin here without a sign: not a number, as `x 2` has no clear meaning."""
        return self.kind == "name" or self.text == "("

    @property
    def ends(self) -> bool:
        return self.text == ")" or self.kind == "number" or (self.kind == "name" and self.text not in FUNCTIONS)

    @property
    def single(self) -> bool:
        """Whether this is a name such as x or x1: before a bracket, a longer one is a misspelt function."""
        return self.kind == "name" and (len(self.text) == 1 or self.text[1:].isdigit())


def as_code(text: str) -> str:
    """Return a formula with every power written `**` and every product `*`.

    `^` is a power. A product may go without its sign: `2x`, `100 y`, `x y`, `2(x + 1)`, `(x + 1)(x - 1)`, `3 exp(-x)`,
    and `x (y + 1)` with a space. Names stay whole: `xy` is one variable. A power takes the next number or name alone.

    Raises:
        UsageError: it is too long, a function stands without brackets, or a product without its sign after a division,
            where people read it in two ways (a fraction of two numbers and a space, as in `1/2 x`, is read in one).

    """
    if len(text) > LONGEST:
        raise UsageError(f"the formula has {len(text)} characters; at most {LONGEST} are read")
    tokens = [
        _Token(found["number"] or found["name"] or found["sign"], str(found.lastgroup), bool(found["space"]))
        for found in _TOKEN.finditer(text)
    ]
    if any(keyword.iskeyword(token.text) for token in tokens):
        return text
    written: list[str] = []
    divided = [False]  # whether a product without a sign would stand after a division, for every open bracket
    for i, token in enumerate(tokens):
        before = tokens[i - 1] if i else _Token("", "sign", spaced=False)
        if before.text in FUNCTIONS and token.text != "(":
            raise UsageError(f"'{brief(text)}': {before.text} takes brackets; write {before.text}({token.text})")
        if before.ends and token.begins and _is_product(before, token):
            if divided[-1] and not _is_fraction(tokens[:i], token):
                raise UsageError(
                    f"'{brief(text)}': a product without its sign after a division can be read in two ways; "
                    "write it with * and brackets, as 1/(2*x) or (1/2)*x"
                )
            divided[-1] = False
            written.append("*")
        if token.text == "(":
            divided.append(False)
        elif token.text == ")" and len(divided) > 1:
            divided.pop()
        elif token.text == "/" or (token.text in {"+", "-", "*"} and before.ends):
            divided[-1] = token.text == "/"
        written.append(" " * token.spaced + ("**" if token.text == "^" else token.text))
    return "".join(written)


def _is_product(before: _Token, token: _Token) -> bool:
    return before.kind != "name" or token.text != "(" or (token.spaced and before.single)


def _is_fraction(tokens: list[_Token], token: _Token) -> bool:
    """Tell whether the last tokens are a fraction of two numbers, not part of a power or another division."""
    *earlier, over, line, under = [_Token("", "sign", spaced=False)] * 4 + tokens
    whole = (over.kind, line.text, under.kind) == ("number", "/", "number")
    return whole and token.spaced and earlier[-1].text not in {"/", "^", "**"}
