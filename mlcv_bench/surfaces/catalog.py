"""The table of surfaces, and the way from `canyon:condition=1000` or a formula to a surface."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import math
from typing import TYPE_CHECKING, Any

from mlcv_bench.errors import UsageError
from mlcv_bench.names import Registry, first_line, refuse_settings, split_settings
from mlcv_bench.surfaces import builtin, finite_sum  # noqa: F401 - their surfaces register themselves
from mlcv_bench.surfaces.formula import from_function, from_text
from mlcv_bench.surfaces.surface import SURFACES, Surface

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

REGISTRY: Registry[Callable[..., Surface]] = Registry("surface", "surfaces", SURFACES, "mlcv_bench.surfaces")


def find(
    text: str,
    *,
    condition: float | None = None,
    dim: int | None = None,
    batch_size: int | None = None,
    rotate: float = 0.0,
    noise: float = 0.0,
) -> Surface:
    """Return the surface that `text` names.

    Args:
        text: a built-in name, with settings as in `washboard:force=0.3`; a formula as in "0.5*(x^2 + 100 y^2)";
            `package.module:attribute` or `file.py:attribute`, a Surface, a function that returns one, or a function
            of coordinates written with arithmetic; or an entry point in the group `mlcv_bench.surfaces`.
        condition: largest over smallest curvature, of the surfaces that take one.
        dim: how many coordinates, of the surfaces that take it.
        batch_size: samples in a batch, of the finite sums.
        rotate: degrees to turn the surface by.
        noise: standard deviation of the noise on each coordinate of the gradient.

    Raises:
        UsageError: nothing has this name, or a setting does not fit.

    """
    given = {"condition": condition, "dim": dim, "batch": batch_size}
    extra = {name: float(value) for name, value in given.items() if value is not None}
    if batch_size is not None and batch_size < 1:
        msg = f"a batch has at least 1 sample, not {batch_size}"
        raise UsageError(msg)
    if not 0 <= noise < math.inf:
        msg = f"the gradient's noise must be at least 0 and finite, not {noise:g}"
        raise UsageError(msg)
    name, settings = split_settings(text, example="condition=10")
    for key, value in settings.items():
        if not math.isfinite(value):
            msg = f"'{text}': {key} must be finite"
            raise UsageError(msg)
    if name not in SURFACES and looks_like_formula(name):
        refuse_settings("a formula", extra, ())
        surface = from_text(text)
    else:
        surface = build(name, {**settings, **extra})
    surface = surface.rotated(rotate)
    return dataclasses.replace(surface, noise=noise) if noise else surface


def build(name: str, settings: Mapping[str, float]) -> Surface:
    """Return a surface by its name, under some settings."""
    found: Any = REGISTRY.get(name)
    if isinstance(found, Surface):
        refuse_settings(name, settings, ())
        return found
    if not callable(found):
        msg = f"'{name}' is no surface; it has to be a Surface, or a function of coordinates such as def f(x, y)"
        raise UsageError(msg)
    parameters = inspect.signature(found).parameters
    if any(p.default is p.empty for p in parameters.values()):
        refuse_settings(name, settings, ())
        return from_function(name, found)
    refuse_settings(name, settings, parameters)
    try:
        surface = found(**settings)
    except UsageError:
        raise
    except Exception as error:
        msg = f"{name} raised {type(error).__name__}: {first_line(error)}"
        raise UsageError(msg) from error
    if not isinstance(surface, Surface):
        msg = f"{name} returned {type(surface).__name__}; it has to return a mlcv_bench.surfaces.surface.Surface"
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
    # A hyphenated name such as local-minima parses as a difference; what holds a number is a formula.
    return any(isinstance(node, ast.Constant | ast.Call) for node in ast.walk(tree))


def summary(name: str) -> str:
    """Return the first line of a built-in surface's docstring."""
    return (inspect.getdoc(SURFACES[name]) or "").partition("\n")[0]
