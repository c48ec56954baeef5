"""One table of the functions that formulas and rules may call: what each name means wherever it is computed.

`from mlcv_bench.functions import sign` serves a rule or a surface of your own: called, a function takes floats, torch
tensors and sympy's symbols alike; generated code knows it by its name. No library is imported before it is needed.
"""

from __future__ import annotations

import builtins
import math
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def _float_exp(x: float) -> float:
    """Return e^x, infinite where it overflows, as every other engine has it."""
    try:
        return math.exp(x)
    except OverflowError:
        return math.inf


def _float_sign(x: float) -> float:
    return x if math.isnan(x) else float((x > 0) - (x < 0))


def _float_maximum(a: float, b: float) -> float:
    return a if a >= b or math.isnan(a) else b


def _float_minimum(a: float, b: float) -> float:
    return a if a <= b or math.isnan(a) else b


@dataclass(frozen=True, eq=False)
class Function:
    """One function: what computes it on floats, and its name in numba's sources, in torch and in sympy."""

    name: str
    floats: Callable[..., float]
    numba: str
    torch: str
    sympy: str
    arguments: int = 1

    def __call__(self, *values: Any) -> Any:  # noqa: ANN401 - floats, tensors or symbols
        """Return the function of floats, torch tensors or sympy's symbols."""
        # A tensor or a symbol can only come from a library that is loaded.
        torch, sympy = sys.modules.get("torch"), sys.modules.get("sympy")
        if torch is not None and any(isinstance(value, torch.Tensor) for value in values):
            if self in {maximum, minimum} and not isinstance(values[0], torch.Tensor):
                values = values[::-1]  # torch wants the tensor first
            return getattr(torch, self.torch)(*values)
        if sympy is not None and any(isinstance(value, sympy.Basic) for value in values):
            return getattr(sympy, self.sympy)(*values)
        return self.floats(*values)


sqrt = Function("sqrt", math.sqrt, "math.sqrt", "sqrt", "sqrt")
exp = Function("exp", _float_exp, "math.exp", "exp", "exp")
log = Function("log", math.log, "math.log", "log", "log")
sin = Function("sin", math.sin, "math.sin", "sin", "sin")
cos = Function("cos", math.cos, "math.cos", "cos", "cos")
tan = Function("tan", math.tan, "math.tan", "tan", "tan")
tanh = Function("tanh", math.tanh, "math.tanh", "tanh", "tanh")
absolute = Function("abs", builtins.abs, "builtins.abs", "abs", "Abs")
sign = Function("sign", _float_sign, "numpy.sign", "sign", "sign")
maximum = Function("maximum", _float_maximum, "numpy.maximum", "clamp_min", "Max", 2)
minimum = Function("minimum", _float_minimum, "numpy.minimum", "clamp_max", "Min", 2)
power = Function("power", math.pow, "math.pow", "pow", "Pow", 2)

TABLE = {f.name: f for f in (sqrt, exp, log, sin, cos, tan, tanh, absolute, sign, maximum, minimum, power)}
"""Every function by the name that formulas, rules and generated code have for it; powers are written `**`."""

FLOATS: dict[str, Callable[..., float]] = {name: function.floats for name, function in TABLE.items()}
"""What the names in generated code mean on plain floats."""

NUMBA = "".join(
    "from {} import {} as {}\n".format(*function.numba.split("."), name) for name, function in TABLE.items()
)
"""The lines that give a compiled module every name."""


def name_of(called: object) -> str | None:
    """Return the table's name of what a rule calls: one of the table, or of Python, math, numpy or torch."""
    for name, function in TABLE.items():
        homes = (sys.modules.get(home) for home in ("builtins", "math", "numpy", "torch"))
        if called is function or any(called is getattr(home, name, None) for home in homes if home is not None):
            return name
    return None
