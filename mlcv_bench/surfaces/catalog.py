"""The table of surfaces, and the way from `canyon:condition=1000` or a formula to a surface."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import math
from typing import TYPE_CHECKING, Any

from mlcv_bench.errors import UsageError
from mlcv_bench.names import Registry, first_line, name_of, refuse_settings, split_settings
from mlcv_bench.surfaces import builtin, finite_sum  # noqa: F401 - their surfaces register themselves
from mlcv_bench.surfaces.formula import from_text
from mlcv_bench.surfaces.surface import SURFACES, Surface
from mlcv_bench.surfaces.tracing import from_function

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

REGISTRY: Registry[Callable[..., Surface]] = Registry("surface", "surfaces", SURFACES, "mlcv_bench.surfaces")


def find(
    given: str | Surface | Callable[..., Any],
    *,
    condition: float | None = None,
    dim: int | None = None,
    batch_size: int | None = None,
    rotate: float = 0.0,
    noise: float = 0.0,
) -> Surface:
    """Return the surface that a text names, or that is given itself.

    Args:
        given: a built-in name, with settings as in `washboard:force=0.3`; a formula as in "0.5*(x^2 + 100 y^2)";
            `package.module:attribute` or `file.py:attribute`, a Surface, a function that returns one, or a function
            of coordinates written with arithmetic; an entry point in the group `mlcv_bench.surfaces`; or what a
            specification may name, itself.
        condition: largest over smallest curvature, of the surfaces that take one.
        dim: how many coordinates, of the surfaces that take it.
        batch_size: samples in a batch, of the finite sums.
        rotate: degrees to turn the surface by.
        noise: standard deviation of the noise on each coordinate of the gradient.

    Raises:
        UsageError: nothing has this name, or a setting does not fit.

    """
    own = {"condition": condition, "dim": dim, "batch": batch_size}
    extra = {name: float(value) for name, value in own.items() if value is not None}
    if batch_size is not None and batch_size < 1:
        msg = f"a batch has at least 1 sample, not {batch_size}"
        raise UsageError(msg)
    if not 0 <= noise < math.inf:
        msg = f"the gradient's noise must be at least 0 and finite, not {noise:g}"
        raise UsageError(msg)
    surface = (named(given, extra) if isinstance(given, str) else build(name_of(given), extra, given)).rotated(rotate)
    return dataclasses.replace(surface, noise=noise) if noise else surface


def named(text: str, extra: Mapping[str, float]) -> Surface:
    """Return the surface of a formula, or of a name with settings, to which `extra` ones are added."""
    name, settings = split_settings(text, example="condition=10")
    for key, value in settings.items():
        if not math.isfinite(value):
            msg = f"'{text}': {key} must be finite"
            raise UsageError(msg)
    if name not in SURFACES and looks_like_formula(name):
        refuse_settings("a formula", extra, ())
        return from_text(text)
    return build(name, {**settings, **extra}, REGISTRY.get(name))


def build(name: str, settings: Mapping[str, float], found: Any) -> Surface:  # noqa: ANN401 - whatever a user named
    """Return a surface from what has this name, under some settings."""
    if isinstance(found, Surface):
        refuse_settings(name, settings, ())
        return found
    if not callable(found):
        msg = f"'{name}' is no surface; it has to be a Surface, or a function of coordinates such as def f(x, y)"
        raise UsageError(msg)
    parameters = inspect.signature(found).parameters
    if any(p.default is p.empty for p in parameters.values()):
        return from_function(name, found, settings)
    refuse_settings(name, settings, parameters)
    try:
        surface = found(**settings)
    except UsageError:
        raise
    except Exception as error:
        msg = f"{name} raised {type(error).__name__}: {first_line(error)}"
        raise UsageError(msg) from error
    if not isinstance(surface, Surface):
        msg = f"{name} returned {type(surface).__name__}; with defaults for all its arguments it returns a Surface"
        raise UsageError(msg)
    return surface


def looks_like_formula(text: str) -> bool:
    """Tell a formula from a name: it begins with a number, is more than a name, or is the one name x or y."""
    if ":" in text:
        return False
    if any(sign in text for sign in "+*/()^= ") or text in {"x", "y"} or text[:1].isdigit():
        return True
    try:
        tree = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError):
        return False
    except (RecursionError, MemoryError):
        return True  # no name is nested so deep
    # A hyphenated name such as local-minima parses as a difference; what holds a number is a formula.
    return any(isinstance(node, ast.Constant | ast.Call) for node in ast.walk(tree))


def summary(name: str) -> str:
    """Return the first line of a built-in surface's docstring."""
    return (inspect.getdoc(SURFACES[name]) or "").partition("\n")[0]
