"""From a name to a network: built-in, from a library or a file of the user's, or an entry point."""

from __future__ import annotations

import ast
import contextlib
import importlib
import inspect
from collections.abc import Callable, Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any

from torch import nn

from mlcv_bench.architectures import catalog
from mlcv_bench.errors import UsageError
from mlcv_bench.names import (
    Option,
    did_you_mean,
    first_line,
    is_specification,
    label_of,
    load_specification,
    module_of,
    name_of,
    parse_value,
    parts_of,
    user_code,
)
from mlcv_bench.worlds import own_folder

DOWNLOADED = ("weights", "weights_backbone", "pretrained", "pretrained_backbone", "backbone_weights")
"""What the parameters are called that name weights to be downloaded."""


def build(name: str | Callable[..., Any], **options: Any) -> nn.Module:  # noqa: ANN401 - the options are the builder's own
    """Build the network that `name` stands for, with random weights, in training mode as torch leaves it.

    Args:
        name: a built-in network (`mlcv-bench list architectures`), a ResNeXt of any G and d (`resnext50_16x8d`),
            `torchvision:NAME`, `timm:NAME`, `package.module:attribute`, `path/to/file.py:attribute`, or an entry point
            of the group `mlcv_bench.architectures`. The attribute is a function, a class, or a network, which may also
            be given itself.
        options: keywords of the builder, for example num_classes=10 or form="branches".

    Raises:
        UsageError: one sentence: the name or an option is unknown, the factory raised, or gave no network.

    Under `with torch.device("meta")` no weight is allocated.

    """
    if not isinstance(name, str):
        return _built_by(name, name_of(name), options)
    name = catalog.proper(name)
    if not catalog.is_built_in(name):
        return _built_by(load(name), name, options)
    architecture = catalog.find(name)
    catalog.check(name, options)
    module, _, attribute = architecture.build.partition(":")
    builder: Callable[..., nn.Module] = getattr(importlib.import_module(module), attribute)
    try:
        return builder(**architecture.config, **options)
    except (ValueError, RuntimeError, TypeError) as error:
        # What the catalogue cannot know: too large for the memory, say.
        raise UsageError(f"{name} cannot be built: {first_line(error)}") from error


def load(specification: str) -> Callable[..., Any] | nn.Module:
    """Return the factory or the network that a specification or an entry point names.

    Raises:
        UsageError: it cannot be imported, or is neither a network nor something that can be called for one.

    """
    library, _, name = specification.partition(":")
    found: Any
    if library in catalog.LIBRARIES:
        found = _from_library(library, name)
    elif is_specification(specification):
        found = load_specification(specification)
    else:
        found = catalog.REGISTRY.get(specification)
    if not callable(found):  # a Module is callable too
        kind = type(found).__name__
        raise UsageError(f"'{specification}' is a {kind}; name a function that returns a torch.nn.Module, or a Module")
    network_or_factory: nn.Module | Callable[..., Any] = found
    return network_or_factory


def source_of(name: str) -> Path | None:
    """Return the file of the code that builds a network, or that is it; None where none can be told.

    Raises:
        UsageError: the name stands for nothing.

    """
    if catalog.is_built_in(name):
        return Path(importlib.import_module(catalog.find(name).build.partition(":")[0]).__file__ or "")
    thing, _ = parts_of(load(name))
    thing = type(thing) if isinstance(thing, nn.Module) else inspect.unwrap(thing)
    # A class's own file is asked of its module, which may be of another world; its functions know theirs.
    functions = [vars(thing).get(key) for key in ("__init__", "forward")] if isinstance(thing, type) else [thing]
    codes = [getattr(function, "__code__", None) for function in functions]
    file = next((code.co_filename for code in codes if code is not None), None)
    if file is None and is_specification(name) and name.partition(":")[0] not in catalog.LIBRARIES:
        file = module_of(name).__file__
    return None if file is None else Path(file).resolve()


def _library(name: str) -> Any:  # noqa: ANN401 - a module that may not be there
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = "is not installed" if error.name == name else f"needs {error.name}, which is not installed"
        msg = f"{name} {missing}; install the {name} that matches your build of torch (pytorch.org lists which does)"
        raise UsageError(msg) from error
    except Exception as error:
        # A CUDA torchvision beside a CPU torch ends here: RuntimeError, operator torchvision::nms does not exist.
        msg = (
            f"importing {name} raised {type(error).__name__} ({first_line(error)}); "
            "install the torchvision that matches your build of torch, CPU beside CPU or CUDA beside CUDA"
        )
        raise UsageError(msg) from error


def _from_library(library: str, name: str) -> Any:  # noqa: ANN401 - a builder of a library without annotations
    if library == "timm":
        models = _library(library)
        known, builder = models.is_model(name), models.model_entrypoint
    else:
        models = _library(library).models
        known, builder = name in models.list_models(), models.get_model_builder
    if not known:
        hint = did_you_mean(name, models.list_models(), f"{library}'s list_models() shows what it has")
        raise UsageError(f"{library} has no model '{name}'; {hint}")
    return builder(name)


def options_of(specification: str | Callable[..., Any]) -> dict[str, Option]:
    """Return what `--set` may give a factory, named or given itself; nothing for a network that is built.

    A parameter without annotation is typed by its default; where that names weights, it may be None too. A factory that
    takes any keyword (`**kwargs`) shows the option `**`, typed by how the value reads.

    Raises:
        UsageError: the specification cannot be loaded.

    """
    factory = load(specification) if isinstance(specification, str) else specification
    if isinstance(factory, nn.Module):
        return {}
    try:
        parameters = inspect.signature(factory).parameters.values()
    except ValueError:  # a callable written in C tells no signature
        return {}
    options: dict[str, Option] = {}
    for parameter in parameters:
        if parameter.kind is parameter.VAR_KEYWORD:
            options["**"] = Option("**", "Any", None)
        elif parameter.kind not in (parameter.VAR_POSITIONAL, parameter.POSITIONAL_ONLY):
            default = None if parameter.default is parameter.empty else parameter.default
            required = parameter.default is parameter.empty
            options[parameter.name] = Option(parameter.name, _annotation(parameter), default, required)
    return options


def _annotation(parameter: inspect.Parameter) -> str:
    if parameter.annotation is not parameter.empty:
        annotation = parameter.annotation
        text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
        return text.removeprefix("typing.")
    if isinstance(parameter.default, str) and parameter.name in DOWNLOADED:
        return "str | None"
    if isinstance(parameter.default, bool | int | float | str):
        return type(parameter.default).__name__
    return "Any"


_TYPED = {"bool", "int", "float", "str", "None"}


def parse_set(named: str | Callable[..., Any], settings: Mapping[str, str]) -> dict[str, Any]:
    """Return the typed values of `--set key=value` for anything that `build` takes.

    Raises:
        UsageError: there is no such option, or the text is no value of its type.

    """
    if isinstance(named, str) and catalog.is_built_in(named):
        return catalog.parse_set(named, settings)
    return _typed(label_of(named), options_of(named) if settings else {}, settings)


def _typed(name: str, known: Mapping[str, Option], settings: Mapping[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, text in settings.items():
        option = known.get(key) or known.get("**")
        if option is None:
            takes = f"it takes {', '.join(known)}" if known else "it takes none"
            raise UsageError(f"{name} has no option {key}; {takes}")
        kinds = {kind.strip() for kind in option.annotation.split("|")}
        typed = kinds <= _TYPED or option.annotation.startswith("Literal[")
        values[key] = parse_value(text, option, name) if typed else _as_it_reads(text)
    return values


def _as_it_reads(text: str) -> Any:  # noqa: ANN401 - the factory alone knows the type
    words = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _beside(specification: str) -> contextlib.AbstractContextManager[None]:
    """Let the code of a specification import its neighbours, as Python does for a script."""
    place = specification.rpartition(":")[0]
    return own_folder(Path(place)) if place.endswith(".py") else contextlib.nullcontext()


def _without_weights(name: str, known: Mapping[str, Option], error: Exception) -> str:
    """Say how to build a network without the weights that it could not download; nothing where it failed otherwise.

    Nor where `--set` cannot ask for that.
    """
    if not isinstance(error, OSError | HTTPException):
        return ""
    wanted = {
        key: False if option.default is True else None
        for key, option in known.items()
        if key in DOWNLOADED and option.default not in (None, False)
    }
    settings = {key: str(value).lower() for key, value in wanted.items()}
    try:
        works = _typed(name, known, settings) == wanted
    except UsageError:
        works = False
    if not wanted or not works:
        return ""
    given = " ".join(f"--set {key}={text}" for key, text in settings.items())
    return f"; its weights are not needed: {given} builds it without"


def _built_by(factory: Callable[..., Any] | nn.Module, name: str, options: Mapping[str, Any]) -> nn.Module:
    """Build a network of a user's, of this name in errors; one that is built already is returned as it is.

    Raises:
        UsageError: it takes no such option, raises, or returns something that is not a network.

    """
    if isinstance(factory, nn.Module):
        if options:
            raise UsageError(f"'{name}' is a network that is built already; it takes no options")
        return factory
    known = options_of(factory)
    for key in options:
        if known and key not in known and "**" not in known:
            raise UsageError(f"{name} has no option {key}; it takes {', '.join(known)}")
    if missing := [key for key, option in known.items() if option.required and key not in options]:
        given = " ".join(f"--set {key}=..." for key in missing)
        raise UsageError(f"'{name}' needs {' and '.join(missing)}, without a default; add {given}")
    try:
        with user_code(), _beside(name):
            network = factory(**options)
    except Exception as error:
        msg = f"'{name}' raised {type(error).__name__} when called: {first_line(error)}"
        raise UsageError(msg + _without_weights(name, known, error)) from error
    if not isinstance(network, nn.Module):
        raise UsageError(f"'{name}' returned a {type(network).__name__}; it must return a torch.nn.Module")
    return network
