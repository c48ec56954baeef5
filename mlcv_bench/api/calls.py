"""How a public function is called: plain values of the types that its signature names, errors in Python's words."""

from __future__ import annotations

import functools
import inspect
import numbers
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from mlcv_bench.architectures.request import Request
from mlcv_bench.errors import BenchError, UsageError

if TYPE_CHECKING:
    from collections.abc import Container, Mapping

P = ParamSpec("P")
R = TypeVar("R")

PLAIN: dict[str, tuple[type, str]] = {
    "int": (numbers.Integral, "a whole number"),
    "float": (numbers.Real, "a number"),
    "bool": (bool, "True or False"),
    "str": (str, "text"),
    "None": (NoneType, "None"),
}
"""The types that a command line's texts are read as, and what a sentence calls them."""


def public(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function refuse plain values of another type than its signature's, and let its errors name arguments.

    What the studies refuse is worded for the command line: `--memory-format` becomes `memory_format`.
    """
    signature = inspect.signature(function)

    @functools.wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> R:
        __tracebackhide__ = True  # pytest shows the line that calls
        given = signature.bind(*args, **kwargs).arguments
        try:
            for name, value in given.items():
                check_type(name, value, str(signature.parameters[name].annotation))
            return function(*args, **kwargs)
        except BenchError as error:
            error.args = (in_python(str(error), signature.parameters),)
            # Its frames are ours; what the user's code raised is its cause, whole.
            raise error.with_traceback(None)  # noqa: B904 - it keeps its own cause

    return called


def check_type(name: str, value: object, annotation: str) -> None:
    """Refuse a value of no type that an annotation names; one that names more than plain types says nothing.

    Raises:
        UsageError: the message says what the argument takes.

    """
    kinds = [kind.strip() for kind in annotation.split("|")]
    if not all(kind in PLAIN for kind in kinds):
        return
    # To Python, True is a whole number.
    fits = any(isinstance(value, PLAIN[kind][0]) and (kind == "bool") == isinstance(value, bool) for kind in kinds)
    if not fits:
        raise UsageError(f"{name} is {' or '.join(PLAIN[kind][1] for kind in kinds)}, not {value!r:.60}")


def in_python(text: str, parameters: Container[str]) -> str:
    """Return an error's sentence with arguments in the place of options, in the plural where that is the argument."""

    def argument(option: re.Match[str]) -> str:
        name = option[1].replace("-", "_")
        return f"{name}s" if name not in parameters and f"{name}s" in parameters else name

    return re.sub(r"--([a-z][a-z-]*)", argument, text.replace("--set ", "").removeprefix("-o "))


def check_subject(subject: object) -> None:
    """Refuse what is neither a name nor a network, and builds none.

    Raises:
        UsageError: the message says what it is instead.

    """
    if not (isinstance(subject, str | Request) or callable(subject)):
        raise UsageError(
            f"a network is a name, a torch.nn.Module, or a function or class that builds one, not {subject!r:.60}"
        )


def word(given: object) -> str:
    """Return the command's word for a device, type or memory format, which Python may give as torch's own object."""
    return str(given).removeprefix("torch.").removesuffix("_format")


def items(given: Any) -> tuple[Any, ...]:  # noqa: ANN401 - one thing or several, of any type
    """Return the items of a list or another series; a text, a path, a number or what can be called is one item."""
    one = isinstance(given, str | Path) or callable(given) or not isinstance(given, Iterable)
    return (given,) if one else tuple(given)


def texts_of(settings: Mapping[str, Any] | None) -> tuple[tuple[str, str], ...]:
    """Return settings as a request keeps them: the pairs of `--set`, as texts, by name."""
    return tuple(sorted((name, str(value)) for name, value in (settings or {}).items()))
