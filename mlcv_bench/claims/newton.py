"""Section 1.2: second-order methods."""

from __future__ import annotations

import math
from fractions import Fraction

from mlcv_bench.claims.claim import Finding, Quantity
from mlcv_bench.claims.paths import distances, path
from mlcv_bench.optimizers import newton
from mlcv_bench.surfaces import builtin

EPSILON = 2.0**-52


def parabola() -> Finding:
    """Fit the parabola to x^4 - 3 x^2 + x in exact arithmetic and read its value, slope and curvature back."""

    def f(x: Fraction) -> Fraction:
        return x**4 - 3 * x**2 + x

    gaps = {"value": Fraction(0), "slope": Fraction(0), "curvature": Fraction(0), "step": Fraction(0)}
    for x in (Fraction(-2), Fraction(3, 2), Fraction(5, 8)):
        slope, curvature = 4 * x**3 - 6 * x + 1, 12 * x**2 - 6
        fitted = newton.Parabola(x, f(x), slope, curvature)  # type: ignore[arg-type] # exact numbers instead of floats
        h = Fraction(1, 4)
        after, before = fitted(x + h), fitted(x - h)  # type: ignore[arg-type] # as above
        found = {
            "value": fitted(x) - f(x),  # type: ignore[arg-type] # as above
            "slope": (after - before) / (2 * h) - slope,  # a central difference is exact on a parabola
            "curvature": (after - 2 * f(x) + before) / h**2 - curvature,
            "step": fitted.step + slope / curvature,
        }
        for name, gap in found.items():
            gaps[name] = max(gaps[name], abs(Fraction(gap)))
    words = {
        "value": "value at x_t, less f's",
        "slope": "slope at x_t, less f's",
        "curvature": "curvature at x_t, less f's",
        "step": "way to the vertex, less -f'/f''",
    }
    return Finding(
        tuple(Quantity(f"{words[name]}, worst of three points", float(gap), 0.0) for name, gap in gaps.items()),
        "Newton's step goes to the vertex of the parabola that has f's value, slope and curvature at x_t: exactly.",
    )


def one_step() -> Finding:
    """Take one Newton step on canyons turned by 30 degrees; rounding alone is left, at most kappa times epsilon."""
    quantities = []
    for kappa in (100.0, 1e6):
        far = distances(path("newton", builtin.canyon(kappa).rotated(30), steps=1))
        quantities.append(
            Quantity(f"|x1|/|x0| after one step, kappa = {kappa:g}", far[1] / far[0], kappa * EPSILON, relation="<=")
        )
    bent = distances(path("newton", builtin.rosenbrock(), steps=1), (1.0, 1.0))
    return Finding(
        (
            *quantities,
            Quantity(
                "|x1 - x*|/|x0 - x*| on Rosenbrock's function, not quadratic", bent[1] / bent[0], EPSILON, relation=">"
            ),
        ),
        "On a quadratic one Newton step arrives, whatever its shape; on other functions it does not.",
    )


def saddle() -> Finding:
    """Start Newton and gradient descent at the same point beside a saddle."""
    surface = builtin.saddle()
    drawn = distances(path("newton", surface, (1.0, 0.1), steps=50))
    away = distances(path("sgd", surface, (1.0, 0.1), steps=1000, lr=0.1), (0.0, 1.0))
    return Finding(
        (
            Quantity("Newton's distance from the saddle after 50 steps", drawn[-1], 0.0, EPSILON),
            Quantity("gradient descent's distance from the minimum, same start", away[-1], 0.0, 1e-9),
        ),
        "Newton goes to the nearest critical point, a saddle as gladly as a minimum; descent from there "
        "finds a minimum.",
    )


class Counted:
    """A number that counts the arithmetic done with it."""

    operations = 0

    def __init__(self, value: float) -> None:
        """Hold a value."""
        self.value = value

    def _result(self, value: float) -> Counted:
        Counted.operations += 1
        return Counted(value)

    def __mul__(self, other: Counted | float) -> Counted:
        """Count a product."""
        return self._result(self.value * plain(other))

    def __truediv__(self, other: Counted | float) -> Counted:
        """Count a quotient."""
        return self._result(self.value / plain(other))

    def __sub__(self, other: Counted | float) -> Counted:
        """Count a difference."""
        return self._result(self.value - plain(other))

    def __add__(self, other: Counted | float) -> Counted:
        """Adding nothing costs nothing: damping of 0, the start of a sum."""
        return self if plain(other) == 0 else self._result(self.value + plain(other))

    __radd__ = __add__

    def __abs__(self) -> float:
        """Comparing pivots is no arithmetic."""
        return abs(self.value)

    def __bool__(self) -> bool:
        """Tell zero from other numbers."""
        return self.value != 0


def plain(number: Counted | float) -> float:
    """Return the value of a number, counted or not."""
    return number.value if isinstance(number, Counted) else number


def operations(size: int) -> int:
    """Count the arithmetic of solving H d = g in `size` dimensions."""
    matrix = [[Counted(1.0 / (i + j + 1) + (i == j) * 2.0) for j in range(size)] for i in range(size)]
    Counted.operations = 0
    newton.direction(matrix, [Counted(1.0) for _ in range(size)])  # type: ignore[arg-type,misc] # counted numbers
    return Counted.operations


def cost() -> Finding:
    """Count the operations of the solve in 24 and 48 dimensions, and the bytes of the Hessian."""
    small, large = operations(24), operations(48)
    exponent = math.log2(large / small)
    return Finding(
        (
            # The lower-order terms of a cubic a k^3 + b k^2 with b/a <= 2 move the exponent by at most
            # log2((1 + 2/48)/(1 + 2/24)) = -0.06.
            Quantity("exponent of k in the operations of the solve, k = 24 to 48", exponent, 3.0, 0.06),
            Quantity("exponent of k in the Hessian's bytes", math.log2((4 * 48**2) / (4 * 24**2)), 2.0),
            Quantity("Hessian of 1e6 float32 parameters", 4.0 * 1e6**2, 4e12, unit="bytes"),
        ),
        "The Hessian takes k^2 numbers and the solve k^3 operations: a million parameters would need 4 TB.",
    )
