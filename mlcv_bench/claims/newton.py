"""Section 1.2: second-order methods."""

from __future__ import annotations

import math
import struct
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from mlcv_bench.claims.claim import ExperimentResult, claim
from mlcv_bench.claims.paths import changes, distances, path
from mlcv_bench.claims.quantity import Quantity
from mlcv_bench.claims.scene import Curves, Line, Paths
from mlcv_bench.surfaces import builtin, newton
from mlcv_bench.surfaces.surface import Expressions, Surface

if TYPE_CHECKING:
    from collections.abc import Callable

EPSILON = 2.0**-52


SCALES = (0.25, 0.5, 0.75, 1.25, 1.5, 2.0)
QUARTIC = Surface(
    name="quartic",
    formula="x^4 - 3 x^2 + x",
    expressions=Expressions(("x",), "x**4 - 3 * x**2 + x", ("4 * x**3 - 6 * x + 1",), (("12 * x**2 - 6",),)),
    start=(1.5,),
    box=((-2.0, 2.0),),
)
QUARTIC_BOWL = Surface(
    name="quartic-bowl",
    formula="x^4/4",
    expressions=Expressions(("x",), "0.25 * x**4", ("x**3",), (("3 * x**2",),)),
    start=(1.5,),
    box=((-2.0, 2.0),),
)


@claim(
    "holds_with_limit",
    "In one dimension Newton fits a parabola and goes to its minimum.",
    limit="where the curvature is positive; elsewhere it climbs to the top",
)
def parabola() -> ExperimentResult:
    """Take a Newton step on x^4 - 3 x^2 + x and compare it with the parabola's lowest point, in exact arithmetic."""

    def f(x: Fraction) -> Fraction:
        return x**4 - 3 * x**2 + x

    h = Fraction(1, 4)
    gaps = dict.fromkeys(("value", "slope", "curvature", "step"), 0.0)
    climbed = rise = math.nan
    lines = [Line("f = " + QUARTIC.formula, *plotted(f, -2.1, 1.8))]
    for x in (Fraction(-2), Fraction(3, 2), Fraction(5, 8)):
        slope, curvature = 4 * x**3 - 6 * x + 1, 12 * x**2 - 6
        ((_, reached),) = path("newton", QUARTIC, (float(x),), steps=1).points
        fitted = newton.Parabola(x, f(x), slope, curvature)  # type: ignore[arg-type] # exact numbers instead of floats
        after, before = fitted(x + h), fitted(x - h)  # type: ignore[arg-type] # as above
        wanted = x - slope / curvature
        found = {
            "value": fitted(x) - f(x),  # type: ignore[arg-type] # as above
            "slope": (after - before) / (2 * h) - slope,  # a central difference is exact on a parabola
            "curvature": (after - 2 * f(x) + before) / h**2 - curvature,
            "step": float((Fraction(reached) - wanted) / wanted),
        }
        for name, gap in found.items():
            gaps[name] = max(gaps[name], abs(float(gap)))
        ends = sorted((float(x), reached))
        lines += [
            Line(
                f"parabola at x_t = {float(x):g}, f'' {'>' if curvature > 0 else '<'} 0",
                *plotted(fitted, ends[0] - 0.3, ends[1] + 0.3),
            ),
            Line(
                f"x_t and where the step ends, {reached:.3g}",
                [float(f(x)), float(fitted(reached))],
                [float(x), reached],
                "dots",
            ),
        ]
        if curvature < 0:
            climbed, rise = fitted(reached) - float(f(x)), float(-(slope**2) / (2 * curvature))
    return ExperimentResult(
        (
            # A few operations of float64, on numbers of the size of the result.
            Quantity(
                "where a Newton step ends, less x_t - f'/f'', relative, worst of three points", gaps["step"], 0.0, 1e-14
            ),
            Quantity("the parabola's value at x_t, less f's, worst", gaps["value"], 0.0),
            Quantity("the parabola's slope at x_t, less f's, worst", gaps["slope"], 0.0),
            Quantity("the parabola's curvature at x_t, less f's, worst", gaps["curvature"], 0.0),
            Quantity(
                "rise of the parabola along a step from x = 0.625, where f'' < 0, -f'^2/(2 f'')",
                climbed,
                rise,
                1e-14,
                relative=True,
                role="limit",
            ),
        ),
        "Newton's step ends at the vertex of the parabola that has f's value, slope and curvature at x_t: its lowest "
        "point where the curvature is positive, its highest where it is negative.",
        scene=(Curves("x", "f", lines),),
    )


def plotted(function: Callable[[Any], Any], low: float, high: float) -> tuple[list[float], list[float]]:
    """Return the values of a function of one number, and where they are."""
    x = [low + (high - low) * i / 100 for i in range(101)]
    return [float(function(at)) for at in x], x


@claim("holds", "Second-order methods reach a quadratic's minimum in one step.")
def one_step() -> ExperimentResult:
    """Take one Newton step on canyons turned by 30 degrees; rounding alone is left, at most kappa times epsilon."""
    quantities, runs = [], []
    for kappa in (100.0, 1e6):
        runs.append(path("newton", builtin.canyon(kappa).rotated(30), steps=1))
        far = distances(runs[-1])
        quantities.append(
            Quantity(f"|x1|/|x0| after one step, kappa = {kappa:g}", far[1] / far[0], kappa * EPSILON, relation="<=")
        )
    curved = path("newton", builtin.rosenbrock(), steps=1)
    bent = distances(curved, (1.0, 1.0))
    return ExperimentResult(
        (
            *quantities,
            Quantity(
                "|x1 - x*|/|x0 - x*| on Rosenbrock's function, not quadratic", bent[1] / bent[0], EPSILON, relation=">"
            ),
        ),
        "On a quadratic one Newton step arrives, whatever its shape; on other functions it does not.",
        scene=(
            Paths(builtin.canyon(100.0).rotated(30), {"one Newton step": runs[0]}),
            Paths(builtin.rosenbrock(), {"one Newton step": curved}),
        ),
    )


@claim(
    "holds_with_limit",
    "A second-order step may be scaled by a learning rate.",
    limit="below 2; any rate but 1 gives up arriving in one step",
)
def learning_rate() -> ExperimentResult:
    """Scale Newton's step on canyons turned by 30 degrees, and on x^4/4, where its length is not the whole way."""
    steps = 20

    def left(kappa: float, lr: float) -> float:
        far = distances(path("newton", builtin.canyon(kappa).rotated(30), steps=steps, lr=lr))
        return math.pow(far[-1] / far[0], 1 / steps)

    slow = distances(path("newton", QUARTIC_BOWL, steps=1))
    fast = distances(path("newton", QUARTIC_BOWL, steps=1, lr=3.0))
    return ExperimentResult(
        (
            *(
                # The solve is off by kappa times epsilon of the distance at most, a step.
                Quantity(
                    f"share of the distance that a step at lr = {lr:g} leaves, |1 - lr|, kappa = {kappa:g}",
                    left(kappa, lr),
                    abs(1 - lr),
                    10 * kappa * EPSILON,
                )
                for kappa in (1.0, 100.0, 1e6)
                for lr in (0.5, 1.25)
            ),
            Quantity("the same at lr = 2, kappa = 100: an orbit", left(100.0, 2.0), 1.0, 1000 * EPSILON, role="limit"),
            # -f'/f'' is -x/3 on x^4/4.
            Quantity(
                "share that a step at lr = 1 leaves on x^4/4", slow[1] / slow[0], 2 / 3, 4 * EPSILON, role="limit"
            ),
            Quantity("the same at lr = 3", fast[1] / fast[0], 0.0, 4 * EPSILON, role="limit"),
        ),
        "A step scaled by lr leaves |1 - lr| of the way to a quadratic's minimum, whatever its condition: lr = 1 "
        "arrives and lr = 2 circles. Off quadratics another rate may be the better one, on x^4/4 it is 3.",
        scene=(
            Curves(
                "learning rate of a Newton step",
                "share of the distance that a step leaves",
                (
                    Line("canyon, kappa = 100", [left(100.0, lr) for lr in SCALES], SCALES, "dots"),
                    Line("x^4/4", [slow[1] / slow[0], fast[1] / fast[0]], [1.0, 3.0], "dots"),
                    Line("|1 - lr|, quadratics", (1.0, 0.0, 1.25), (0.0, 1.0, 2.25), "theory"),
                    Line("1 - lr/3, x^4/4", (1.0, 0.0), (0.0, 3.0), "theory"),
                ),
            ),
        ),
    )


@claim("holds", "(Not in the notes.) Newton is drawn to saddles as to minima.")
def saddle() -> ExperimentResult:
    """Start Newton near a saddle, where the saddle attracts it, where it does not, and where that changes."""
    surface = builtin.saddle()
    attracted = path("newton", surface, (1.0, 0.1), steps=50)
    descending = path("sgd", surface, (1.0, 0.1), steps=1000, lr=0.1)
    drawn, away = distances(attracted), distances(descending, (0.0, 1.0))
    begin = (0.1, 0.46)
    run = path("newton", surface, begin, steps=50)
    to_minima = [distances(run, place) for place in ((0.0, 1.0), (0.0, -1.0))]
    ends = changes(0.1, 0.49, lambda y: distances(path("newton", surface, (1.0, y), steps=100))[-1] <= EPSILON)
    return ExperimentResult(
        (
            Quantity("Newton's distance from the saddle after 50 steps from (1, 0.1)", drawn[-1], 0.0, EPSILON),
            Quantity("gradient descent's distance from the minimum, same start", away[-1], 0.0, 1e-9),
            # Newton on y^3 - y maps y to 2 y^3/(3 y^2 - 1), and 1/sqrt 5 to -1/sqrt 5 and back.
            Quantity("the y up to which the saddle attracts Newton, 1/sqrt 5", ends, 1 / math.sqrt(5), 1e-9),
            Quantity(
                "way to the saddle from (0.1, 0.46), over that to the nearest minimum",
                math.hypot(*begin) / min(far[0] for far in to_minima),
                1.0,
                relation="<",
            ),
            Quantity(
                "Newton's distance from a minimum after 50 steps from there",
                min(far[-1] for far in to_minima),
                0.0,
                EPSILON,
            ),
        ),
        "Newton goes to a critical point of any kind, and not always to the nearest: from (1, 0.1) to the saddle, from "
        "(0.1, 0.46), where the saddle is nearer too, to a minimum. Descent from (1, 0.1) finds a minimum.",
        scene=(
            Paths(
                surface,
                {"gradient descent": descending, "Newton, to the saddle": attracted, "Newton, to a minimum": run},
            ),
        ),
    )


class CountedNumber:
    """A number that counts the arithmetic done with it."""

    operations = 0

    def __init__(self, value: float) -> None:
        """Hold a value."""
        self.value = value

    def _result(self, value: float) -> CountedNumber:
        CountedNumber.operations += 1
        return CountedNumber(value)

    def __mul__(self, other: CountedNumber | float) -> CountedNumber:
        """Count a product."""
        return self._result(self.value * plain(other))

    def __truediv__(self, other: CountedNumber | float) -> CountedNumber:
        """Count a quotient."""
        return self._result(self.value / plain(other))

    def __sub__(self, other: CountedNumber | float) -> CountedNumber:
        """Count a difference."""
        return self._result(self.value - plain(other))

    def __add__(self, other: CountedNumber | float) -> CountedNumber:
        """Adding nothing costs nothing: damping of 0, the start of a sum."""
        return self if plain(other) == 0 else self._result(self.value + plain(other))

    __radd__ = __add__

    def __abs__(self) -> float:
        """Comparing pivots is no arithmetic."""
        return abs(self.value)

    def __bool__(self) -> bool:
        """Tell zero from other numbers."""
        return self.value != 0


def plain(number: CountedNumber | float) -> float:
    """Return the value of a number, counted or not."""
    return number.value if isinstance(number, CountedNumber) else number


def operations(size: int) -> int:
    """Count the arithmetic of solving H d = g in `size` dimensions."""
    matrix = [[CountedNumber(1.0 / (i + j + 1) + (i == j) * 2.0) for j in range(size)] for i in range(size)]
    CountedNumber.operations = 0
    newton.direction(matrix, [CountedNumber(1.0) for _ in range(size)])  # type: ignore[arg-type,misc] # counted numbers
    return CountedNumber.operations


def numbers(size: int) -> int:
    """Count the numbers that the Hessian of a quadratic in `size` dimensions holds."""
    surface = builtin.quadratic(size)
    return sum(map(len, surface.hessian(*surface.start)))


@claim("holds", "The Hessian needs O(k^2) memory and the solve O(k^3) time.")
def cost() -> ExperimentResult:
    """Count the operations of the solve and the numbers of the Hessian in 24 and 48 dimensions."""
    sizes = (6, 12, 24, 48)
    work, kept = [[count(size) for size in sizes] for count in (operations, numbers)]
    large, solve, held = sizes[-1], math.log2(work[-1] / work[-2]), math.log2(kept[-1] / kept[-2])
    million = kept[-1] * (1e6 / large) ** held * struct.calcsize("f")
    return ExperimentResult(
        (
            # The lower-order terms of a cubic a k^3 + b k^2 with b/a <= 2 move the exponent by at most
            # log2((1 + 2/48)/(1 + 2/24)) = -0.06.
            Quantity("exponent of k in the operations of the solve, k = 24 to 48", solve, 3.0, 0.06),
            Quantity("exponent of k in the numbers of the Hessian, k = 24 to 48", held, 2.0),
            Quantity(
                "the same in float32, carried on to 1e6 parameters", million, 4e12, 1e-12, unit="bytes", relative=True
            ),
        ),
        "The Hessian takes k^2 numbers and the solve k^3 operations: a million parameters would need 4 TB.",
        scene=(
            Curves(
                "parameters k",
                "counted",
                (
                    Line("operations of the solve", work, sizes, "dots"),
                    Line("numbers of the Hessian", kept, sizes, "dots"),
                    Line("2/3 k^3", [2 / 3 * k**3 for k in sizes], sizes, "theory"),
                    Line("k^2", [k**2 for k in sizes], sizes, "theory"),
                ),
                log="xy",
            ),
        ),
    )
