"""From a name on the command line to a thing: built-in tables, specifications, entry points, near misses."""

from __future__ import annotations

import ast
import contextlib
import difflib
import hashlib
import importlib
import importlib.util
import math
import os
import re
import sys
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from mlcv_bench.errors import UsageError
from mlcv_bench.worlds import imports_relatively, own_folder, package_of, remember

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

T = TypeVar("T")


def near_misses(name: str, known: Iterable[str]) -> list[str]:
    """Return up to three known names that look like `name`, the closest first."""
    return difflib.get_close_matches(name, list(known), n=3, cutoff=0.6)


def spelled(name: str, known: Iterable[str]) -> str:
    """Return the known name that `name` is but for its case; `name` itself where there is none."""
    known = list(known)
    return name if name in known else next((one for one in known if one.casefold() == name.casefold()), name)


def did_you_mean(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """Return the question whether a near miss was meant; `otherwise` where no known name looks like it."""
    close = near_misses(name, known)
    return f"did you mean {' or '.join(close)}?" if close else otherwise


def check_choices(option: str, values: Iterable[str], known: Sequence[str]) -> None:
    """Refuse what an option does not know.

    Raises:
        UsageError: another value; the message names a near miss, or the values there are.

    """
    for value in values:
        if value not in known:
            hint = did_you_mean(value, known, f"choose from {', '.join(known)}")
            raise UsageError(f"{option} has no {value}; {hint}")


DEVICES = ("cpu", "cuda", "cuda:1", "xpu", "mps")


def check_device(name: str, known: Sequence[str] = DEVICES) -> None:
    """Refuse what is no name of a device; whether it is here is known once torch is loaded.

    Raises:
        UsageError: no such device.

    """
    if name not in known and not re.fullmatch(r"(cuda|xpu)(:\d+)?", name, re.ASCII):
        raise UsageError(f"--device has no {name}; choose from {', '.join(known)}")


def share_of(text: str, *, whole: bool = False) -> float | None:
    """Read 2% or 0.02 as a share above 0 and below 1, with `whole` 150% too; None for anything else."""
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        return None
    # A bare 5 may be meant as 5%.
    return share if 0 < share < (math.inf if whole and text.endswith("%") else 1) else None


def seconds_of(text: str) -> float | None:
    """Read 20ms, 500us or 0.02s as seconds; None for anything else."""
    for unit, scale in (("us", 1e-6), ("ms", 1e-3), ("s", 1.0)):
        if text.endswith(unit):
            try:
                seconds = float(text.removesuffix(unit)) * scale
            except ValueError:
                return None
            return seconds if 0 < seconds < math.inf else None
    return None


def unknown(kind: str, name: str, known: Iterable[str], *, listing: str) -> UsageError:
    """Return the error for a `name` that no table holds, with near misses and the command that lists all."""
    hint = did_you_mean(name, known, "no known name looks like it;")
    return UsageError(f"unknown {kind} '{name}': {hint} `mlcv-bench list {listing}` shows all")


def split_settings(
    text: str, read: Callable[[str], Any] = float, *, example: str = "lr=0.1"
) -> tuple[str, dict[str, Any]]:
    """Split `name:key=value,key=value` into name and settings; the name may hold colons, a value in brackets commas.

    Raises:
        UsageError: nothing is set after the colon, a key comes twice, or `read` does not take a value.

    """
    head, colon, tail = text.rpartition(":")
    if not tail and head.isidentifier():
        raise UsageError(f"'{text}' sets nothing after the colon; write {head}:{example}")
    if not colon or "=" not in tail:
        return text, {}
    settings: dict[str, Any] = {}
    for pair in re.split(r",(?![^(]*\))", tail):
        key, _, value = pair.partition("=")
        key = key.strip()
        if key in settings:
            raise UsageError(f"'{text}' gives {key} twice; keep one")
        try:
            settings[key] = read(value)
        except ValueError:
            name = key or "a setting"
            raise UsageError(f"'{text}': {name} takes a number, not '{value}'; write {head}:{example}") from None
    return head, settings


def refuse_settings(owner: str, given: Iterable[str], known: Iterable[str], nothing: str = "no setting") -> None:
    """Refuse a setting that its owner does not take.

    Raises:
        UsageError: the message says what was meant, and what it takes.

    """
    known = list(known)
    for key in given:
        if key not in known:
            close = near_misses(key, known)
            hint = f" (did you mean {close[0]}?)" if close else ""
            raise UsageError(f"{owner} has no {key}{hint}; it takes {', '.join(known) or nothing}")


def is_specification(text: str) -> bool:
    """Tell whether `text` names code outside the built-in tables: anything with a colon does."""
    return ":" in text


def names_code(text: str, built_in: Iterable[str]) -> bool:
    """Tell whether a text names code outside a built-in table, whose names may take settings after a colon."""
    return is_specification(text) and spelled(text.partition(":")[0].strip(), built_in) not in built_in


def check_specification(text: str) -> tuple[str, str]:
    """Split a specification into place and attribute, importing nothing.

    Raises:
        UsageError: it is none, or its file or its package is not there.

    """
    place, _, attribute = text.rpartition(":")
    if not place or not attribute:
        raise UsageError(
            f"'{text}' is not a specification; write package.module:attribute or path/to/file.py:attribute"
        )
    if place.endswith(".py"):
        if not Path(place).is_file():
            raise UsageError(
                f"'{text}' names the file {place}, which does not exist; give a path from the current folder"
            )
        return place, attribute
    package = place.partition(".")[0]
    with current_folder():
        there = package in sys.modules or (package and importlib.util.find_spec(package) is not None)
    if not there:
        raise _not_installed(text, package or place)
    return place, attribute


def load_specification(text: str) -> Any:  # noqa: ANN401 - whatever object the user's module holds
    """Import what `package.module:attribute` or `path/to/file.py:attribute` names.

    Raises:
        UsageError: the file, the module or the attribute does not exist, or importing it raised.

    """
    place, attribute = check_specification(text)
    found: Any = module_of(text)
    for part in attribute.split("."):
        if not hasattr(found, part):
            public = [name for name in dir(found) if not name.startswith("_")]
            hint = did_you_mean(part, public, "it has none that looks like it")
            raise UsageError(f"'{place}' has no attribute '{part}'; {hint}")
        found = getattr(found, part)
    return found


def module_of(text: str) -> Any:  # noqa: ANN401 - a module, searched for any attribute
    """Import the module or the file that a specification names.

    Raises:
        UsageError: it is not there, or importing it raised.

    """
    place, _ = check_specification(text)
    return _load_file(Path(place)) if place.endswith(".py") else _load_module(place, text)


def _not_installed(text: str, module: str) -> UsageError:
    return UsageError(f"'{text}' names the module {module}, which is not installed here; check the spelling")


@contextlib.contextmanager
def current_folder() -> Iterator[None]:
    """Make the current folder's modules importable inside: a console script does not search it, `python -m` does.

    Not where PYTHONSAFEPATH asks for none, as for the workers of a side of `ab` with an interpreter or a path.
    """
    folder = str(Path.cwd())
    if folder in sys.path or os.environ.get("PYTHONSAFEPATH"):
        yield
        return
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(folder)


def _load_file(path: Path) -> Any:  # noqa: ANN401 - a module, searched for any attribute
    # One file keeps one module, so that two attributes of it share classes, and pickling finds it again.
    start, inside = path.resolve(), ""
    package = package_of(start)
    if package is not None and imports_relatively(start):
        below = [part for part in start.relative_to(package).with_suffix("").parts if part != "__init__"]
        start, inside = package / "__init__.py", "".join(f".{part}" for part in below)
    digest = hashlib.sha256(str(start).encode()).hexdigest()[:12]
    name = f"mlcv_bench_user_{start.stem}_{digest}"
    if name + inside in sys.modules:
        return sys.modules[name + inside]
    try:
        loading = _prepared(name, start)  # before its folder is, whose other modules are not kept
        with user_code(), own_folder(path):
            remember(path, [sys.modules[name]])
            loading()
            module = importlib.import_module(name + inside)
            remember(path, [module])
            return module
    except Exception as error:
        for loaded in [one for one in sys.modules if one == name or one.startswith(f"{name}.")]:
            del sys.modules[loaded]
        if isinstance(error, UsageError):
            raise
        raise UsageError(f"importing '{path}' raised {type(error).__name__}: {first_line(error)}") from error


def _prepared(name: str, path: Path) -> Callable[[], None]:
    """Make a file the module of this name, a package where it is an `__init__.py`; return what then executes it."""
    if name in sys.modules:
        return lambda: None
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError("it is no file of Python")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    return partial(spec.loader.exec_module, module)


def _load_module(place: str, text: str) -> Any:  # noqa: ANN401 - a module, searched for any attribute
    try:
        with user_code():
            return importlib.import_module(place)
    except ModuleNotFoundError as error:
        if error.name is not None and (place == error.name or place.startswith(error.name + ".")):
            raise _not_installed(text, error.name) from error
        raise UsageError(f"importing '{place}' needs the module {error.name}, which is not installed here") from error
    except Exception as error:
        raise UsageError(f"importing '{place}' raised {type(error).__name__}: {first_line(error)}") from error


class ExitError(Exception):
    """A user's code asked to end the process."""


@contextlib.contextmanager
def user_code() -> Iterator[None]:
    """Run a user's code: what it prints goes to stderr, as stdout carries the result; it cannot end the command.

    It finds modules of the current folder.

    Raises:
        ExitError: it called sys.exit.

    """
    try:
        with contextlib.redirect_stdout(sys.stderr), current_folder():
            yield
    except SystemExit as error:
        raise ExitError(f"it calls sys.exit({'' if error.code is None else repr(error.code)})") from error


def name_of(thing: Any) -> str:  # noqa: ANN401 - a function, a class, a network, a surface ...
    """Return what a thing of a user's is called: a function's or a class's own name, or that of its class."""
    return getattr(thing, "__name__", None) or type(thing).__name__


def parts_of(thing: Any) -> tuple[Any, dict[str, Any]]:  # noqa: ANN401 - a function or a class
    """Return a function or class and its settings: functools.partial(adam, lr=0.1) is what `adam:lr=0.1` is as text."""
    if isinstance(thing, partial) and not thing.args:
        return thing.func, thing.keywords
    return thing, {}


def label_of(given: Any) -> str:  # noqa: ANN401 - a text, a function or a class
    """Return what is shown of a thing that a text names, or that is given itself: `adam`, `adam:lr=0.1`."""
    if isinstance(given, str):
        return given.strip()
    thing, settings = parts_of(given)
    pairs = ",".join(f"{key}={value}" for key, value in settings.items())
    return f"{name_of(thing)}:{pairs}" if pairs else name_of(thing)


def bounded_text(path: Path, most: int) -> str:
    """Return a user's text file of at most so many bytes; of a longer one, or one without end, no more is read.

    Raises:
        OSError: it cannot be read.
        ValueError: it is larger, or no UTF-8.

    """
    with path.open("rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        msg = f"it is larger than {most:,} bytes"
        raise ValueError(msg)
    return content.decode("utf-8")


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, for a message of one sentence."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else "(no message)"


@dataclass(frozen=True)
class Registry(Generic[T]):
    """A table of built-in things of one kind, open to specifications and entry points."""

    kind: str
    listing: str
    builtin: Mapping[str, T] = field(default_factory=dict)
    group: str = ""

    def __iter__(self) -> Iterator[str]:
        """Iterate over the built-in names, in table order."""
        return iter(self.builtin)

    def entry_points(self) -> dict[str, str]:
        """Return the installed entry points of this registry's group: name to specification."""
        if not self.group:
            return {}
        from importlib.metadata import entry_points  # noqa: PLC0415 - costs 15 ms, and few commands get here

        return {point.name: point.value for point in entry_points(group=self.group)}

    def get(self, name: str) -> T | Any:  # noqa: ANN401 - a specification may name any object
        """Return what `name` means: built-in first, then a specification, then an entry point.

        Raises:
            UsageError: nothing has this name; the message lists near misses.

        """
        if is_specification(name):
            return load_specification(name)
        name = spelled(name, self.builtin)
        if name in self.builtin:
            return self.builtin[name]
        installed = self.entry_points()
        if name in installed:
            return load_specification(installed[name])
        raise unknown(self.kind, name, [*self.builtin, *installed], listing=self.listing)


@dataclass(frozen=True)
class Option:
    """One keyword parameter of a builder: its name, its annotation as text, its default, whether it must be given."""

    name: str
    annotation: str
    default: Any
    required: bool = False


def static_options(specification: str) -> dict[str, Option]:
    """Read the keyword parameters of a function or a class of this package from its source, importing nothing.

    The builder's signature stays the only list of its options, and a wrong `--set` is refused without torch.
    """
    module, _, attribute = specification.partition(":")
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise UsageError(f"no source for {specification}")
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    named = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    function = named.get(attribute)
    if isinstance(function, ast.ClassDef):
        methods = {node.name: node for node in function.body if isinstance(node, ast.FunctionDef)}
        function = methods.get("__init__")
    if function is not None:
        return {
            argument.arg: Option(
                argument.arg,
                ast.unparse(argument.annotation) if argument.annotation else "str",
                ast.literal_eval(default) if default is not None else None,
            )
            for argument, default in zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True)
        }
    raise UsageError(f"{module} has no function {attribute}")


def parse_value(text: str, option: Option, owner: str) -> Any:  # noqa: ANN401 - the type is the option's own
    """Turn the text of `--set key=value` into the type that the builder's signature asks for.

    Raises:
        UsageError: the text is no such value; the message names one that is.

    """
    kinds = [kind.strip() for kind in option.annotation.split("|")]
    if "None" in kinds and text.lower() in {"none", "null"}:
        return None
    if option.annotation.startswith("Literal["):
        choices = ast.literal_eval(option.annotation.removeprefix("Literal"))
        if text in choices:
            return text
        raise UsageError(f"{owner}: {option.name} is one of {', '.join(choices)}, not '{text}'")
    for kind in kinds:
        try:
            if kind == "bool":
                return {"true": True, "false": False, "1": True, "0": False}[text.lower()]
            if kind == "int":
                return int(text)
            if kind == "float":
                return float(text)
            if kind == "str":
                return text
        except (KeyError, ValueError):
            continue
    wanted = {"bool": "true or false", "int": "a whole number", "float": "a number"}
    names = " or ".join(wanted.get(kind, kind) for kind in kinds if kind != "None")
    raise UsageError(f"{owner}: {option.name} takes {names}, not '{text}'")


def parse_settings(pairs: Iterable[str]) -> dict[str, str]:
    """Split every `key=value`, or several with commas; refuse a text without an equals sign and a key given twice."""
    settings: dict[str, str] = {}
    for pair in (part for text in pairs for part in re.split(r",(?=\s*[A-Za-z_]\w*\s*=)", text)):
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"--set takes key=value, not '{pair}'; for example --set num_classes=10")
        key = key.strip()
        if key in settings:
            raise UsageError(f"--set gives {key} twice; keep one")
        settings[key] = value.strip()
    return settings
