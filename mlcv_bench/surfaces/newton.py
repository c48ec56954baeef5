"""Newton's method seen from close: the parabola it fits in one dimension, and the direction it takes in several."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlcv_bench.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Parabola:
    """The parabola with the value, slope and curvature of a function at `x`."""

    x: float
    value: float
    slope: float
    curvature: float

    def __call__(self, place: float) -> float:
        """Return the parabola's value at `place`."""
        step = place - self.x
        return self.value + self.slope * step + 0.5 * self.curvature * step * step

    @property
    def step(self) -> float:
        """The way from `x` to the parabola's vertex, -f'/f''.

        Raises:
            UsageError: the curvature is zero, so there is no vertex.

        """
        if self.curvature == 0:
            msg = f"the curvature at {self.x:g} is zero, so the parabola has no vertex; start elsewhere"
            raise UsageError(msg)
        return -self.slope / self.curvature


def direction(hessian: Sequence[Sequence[float]], gradient: Sequence[float], damping: float = 0.0) -> tuple[float, ...]:
    """Solve (H + damping I) d = g by elimination with partial pivoting, O(k^3) in k dimensions.

    Raises:
        ZeroDivisionError: the matrix is singular.

    """
    size = len(gradient)
    rows = [
        [*(entry + (damping if i == j else 0.0) for j, entry in enumerate(hessian[i])), gradient[i]]
        for i in range(size)
    ]
    for column in range(size):
        pivot = max(range(column, size), key=lambda row: abs(rows[row][column]))
        rows[column], rows[pivot] = rows[pivot], rows[column]
        for row in range(column + 1, size):
            factor = rows[row][column] / rows[column][column]
            if factor:
                rows[row] = [a - factor * b for a, b in zip(rows[row], rows[column], strict=True)]
    result = [0.0] * size
    for i in reversed(range(size)):
        rest = sum(rows[i][j] * result[j] for j in range(i + 1, size))
        result[i] = (rows[i][size] - rest) / rows[i][i]
    return tuple(result)


def positive_definite(matrix: Sequence[Sequence[float]], shift: float = 0.0) -> bool:
    """Tell whether a symmetric matrix plus `shift` times the identity is positive definite: every pivot is positive."""
    rows = [[entry + (shift if i == j else 0.0) for j, entry in enumerate(row)] for i, row in enumerate(matrix)]
    for column in range(len(rows)):
        if not rows[column][column] > 0:
            return False
        for row in range(column + 1, len(rows)):
            factor = rows[row][column] / rows[column][column]
            if factor:
                rest = zip(rows[row][column:], rows[column][column:], strict=True)
                rows[row][column:] = [a - factor * b for a, b in rest]
    return True
