"""A user's function of coordinates as a surface: called once on symbols, with math, numpy and torch standing aside."""

from __future__ import annotations

import contextlib
import functools
import inspect
from types import ModuleType
from typing import TYPE_CHECKING, Any

from mlcv_bench.errors import UsageError
from mlcv_bench.functions import TABLE, maximum, minimum, name_of, sqrt
from mlcv_bench.names import first_line, refuse_settings, user_code
from mlcv_bench.surfaces.formula import surface_of
from mlcv_bench.surfaces.surface import LARGEST_DIMENSION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from mlcv_bench.surfaces.surface import Surface

LIBRARIES = ("math", "numpy", "torch")
OTHER_NAMES: dict[str, Callable[..., Any]] = {
    "fabs": TABLE["abs"],
    "hypot": lambda *values: sqrt(sum(value * value for value in values)),
    "pow": TABLE["power"],
    "square": lambda value: value * value,
}
"""What libraries have besides the table's names."""

HOW = (
    f"write it with one argument a coordinate, + - * / **, abs, max, min and {', '.join(list(TABLE)[:7])} of math, "
    "numpy, torch or mlcv_bench.functions, without if"
)


def from_function(name: str, function: Callable[..., Any], settings: Mapping[str, float]) -> Surface:
    """Return the surface of a function whose arguments without a default are coordinates, traced once on symbols.

    Arguments with a default are settings; `*x` takes as many coordinates as the setting `dim` says, two by default.

    Raises:
        UsageError: the function is more than arithmetic, or a setting does not fit.

    """
    import sympy  # noqa: PLC0415 - half a second, and only a user's own function needs it

    parameters = inspect.signature(function).parameters.values()
    variables = [one.name for one in parameters if one.default is one.empty and one.kind is not one.VAR_POSITIONAL]
    many = [one.name for one in parameters if one.kind is one.VAR_POSITIONAL]
    known = [one.name for one in parameters if one.default is not one.empty]
    refuse_settings(name, settings, [*known, *(["dim"] if many else [])])
    if many:
        count, least = settings.get("dim", 2), len(variables) + 1
        if not (float(count).is_integer() and least <= count <= LARGEST_DIMENSION):
            raise UsageError(
                f"{name}: dim must be a whole number from {least} up to {LARGEST_DIMENSION}, not {count:g}"
            )
        variables += [f"{many[0]}{i}" for i in range(int(count) - len(variables))]
    if len(variables) > LARGEST_DIMENSION:
        raise UsageError(f"{name} has {len(variables)} coordinates; at most {LARGEST_DIMENSION} are traced")
    symbols = {variable: sympy.Symbol(variable, real=True) for variable in variables}
    given = {key: value for key, value in settings.items() if key in known}
    try:
        with user_code(), traced(function):
            found = function(*symbols.values(), **given)
    except Exception as error:
        raise UsageError(f"{name} is not arithmetic ({first_line(error)}); {HOW}") from error
    if not isinstance(found, int | float | sympy.Expr):
        raise UsageError(f"{name} returns {type(found).__name__}, where a surface has one number; {HOW}")
    title = name + (":" + ",".join(f"{key}={value:g}" for key, value in settings.items()) if settings else "")
    return surface_of(title, tuple(variables), sympy.sympify(found), symbols)


@contextlib.contextmanager
def traced(function: Callable[..., Any]) -> Iterator[None]:
    """Put what takes symbols in the place of math, numpy and torch in the module of a function, for one call."""
    home: dict[str, Any] = getattr(inspect.unwrap(function), "__globals__", {})
    instead: dict[str, Any] = {"max": _either(max, _folding(maximum)), "min": _either(min, _folding(minimum))}
    instead = {name: found for name, found in instead.items() if name not in home}
    for name, value in home.items():
        if isinstance(value, ModuleType) and value.__name__ in LIBRARIES:
            instead[name] = _Library(value)
        elif callable(value) and getattr(value, "__module__", None) in {*LIBRARIES, None}:
            instead[name] = _on_symbols(value, getattr(value, "__name__", ""))
    before = {name: home[name] for name in instead if name in home}
    home.update(instead)
    try:
        yield
    finally:
        for name in instead:
            del home[name]
        home.update(before)


class _Library:
    """A library whose functions take symbols too, where the table has them."""

    def __init__(self, module: ModuleType) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the library has
        return _on_symbols(getattr(self._module, name), name)


def _on_symbols(own: Any, name: str) -> Any:  # noqa: ANN401 - whatever a library has
    """Return a library's function such that it takes symbols too, where the table has it; all else as it is."""
    known = name_of(own)
    instead = TABLE[known] if known else OTHER_NAMES.get(name)
    return own if instead is None else _either(own, instead)


def _either(own: Callable[..., Any], instead: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that leaves all but symbols to the library's own."""
    import sympy  # noqa: PLC0415 - as above

    def called(*values: Any, **named: Any) -> Any:  # noqa: ANN401 - numbers, arrays or symbols
        symbolic = any(isinstance(value, sympy.Basic) for value in values)
        return instead(*values) if symbolic and not named else own(*values, **named)

    return called


def _folding(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *values: functools.reduce(function, values)
