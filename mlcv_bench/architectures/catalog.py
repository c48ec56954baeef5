"""The built-in networks by their names, each registered in its family's file: sources, settings. Loads no torch."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mlcv_bench.errors import UsageError
from mlcv_bench.names import Option, Registry, is_specification, parse_value, spelled, static_options, unknown

GROUP = "mlcv_bench.architectures"
"""Entry points of this group add networks: name = package.module:factory."""
LIBRARIES = ("torchvision", "timm")
"""What stands before the colon of a library's network."""


@dataclass(frozen=True)
class Architecture:
    """One network: how to build it, where it comes from, what it takes.

    `build` names the builder, `config` the keyword arguments that make this network of it; the builder's other
    keywords are the user's options. `section` is that of the notes that speaks of it, empty where none does. `input`
    is the image it was designed for; `smallest` the smallest side of a square image that it accepts in inference.
    `torchvision` is its name there, None where torchvision does not have it; the state-dict keys are the same.
    `in_family` says whether the family's name stands for it on the command line.
    """

    name: str
    family: str
    build: str
    config: Mapping[str, Any] = field(hash=False)
    year: int
    paper: str
    section: str
    input: tuple[int, int, int]
    smallest: int
    torchvision: str | None = None
    in_family: bool = False


IMAGENET = (3, 224, 224)
CIFAR = (3, 32, 32)


def _networks() -> Iterator[Architecture]:
    """Yield every built-in network, in the order of the files.

    A family's file lists its networks in the statement `NETWORKS = [...]`. The file itself imports torch; so this one
    statement of its text is evaluated here, with the names that stand in this file.
    """
    for path in sorted(Path(__file__).parent.glob("*.py")):
        _, assigned, after = path.read_text(encoding="utf-8").partition("\nNETWORKS = [")
        rows, _, _ = after.partition("\n]\n")
        if assigned:
            yield from eval(f"[{rows}]", {**globals(), "__name__": f"{__package__}.{path.stem}"})  # noqa: S307 - our own


ARCHITECTURES: dict[str, Architecture] = {row.name: row for row in sorted(_networks(), key=lambda row: row.year)}
"""Every built-in network by its name, in the order of the years; `find` knows more ResNeXts."""

FAMILIES: dict[str, tuple[str, ...]] = {
    family: tuple(row.name for row in ARCHITECTURES.values() if row.family == family and row.in_family)
    for family in dict.fromkeys(row.family for row in ARCHITECTURES.values() if row.in_family)
}
"""What a family's name stands for on the command line."""

ALL = "all"
"""What stands for every built-in network on the command line."""

REGISTRY: Registry[Architecture] = Registry("architecture", "architectures", ARCHITECTURES, GROUP)

_RESNEXT = re.compile(r"(resnext\d{1,9})_(\d{1,9})x(\d{1,9})d", re.ASCII)


def proper(name: str) -> str:
    """Return a name as it is spelled here, whatever its case; a specification, and what nothing is named, as it is."""
    if is_specification(name):
        return name
    if _RESNEXT.fullmatch(name.lower()):
        return name.lower()
    return spelled(name, [*ARCHITECTURES, *FAMILIES, ALL])


def find(name: str) -> Architecture:
    """Return the built-in network of this name, or the ResNeXt of any G and d that it spells.

    Raises:
        UsageError: no built-in network has this name; the message lists near misses.

    """
    name = proper(name)
    if name in ARCHITECTURES:
        return ARCHITECTURES[name]
    if match := _RESNEXT.fullmatch(name):
        return _spelled_resnext(name, *match.groups())
    if name == ALL:
        raise UsageError("'all' is every network; name one, or see `mlcv-bench list architectures`")
    if name in FAMILIES:
        raise UsageError(f"'{name}' is a family; name one of {', '.join(FAMILIES[name])}")
    known = [*ARCHITECTURES, *FAMILIES, ALL, *REGISTRY.entry_points()]
    raise unknown(REGISTRY.kind, name, known, listing=REGISTRY.listing)


def _spelled_resnext(name: str, stem: str, groups: str, width: str) -> Architecture:
    """Return the network that differs from a listed one of as many layers in its G and d."""
    depth = stem.removeprefix("resnext")
    if groups.startswith("0") or width.startswith("0") or depth.startswith("0"):
        raise UsageError(f"'{name}': G and d are whole numbers from 1 on, without leading zeros, as in resnext50_32x4d")
    listed = next((row for row in ARCHITECTURES.values() if row.name.startswith(f"{stem}_")), None)
    if listed is None:
        raise UsageError(f"'{name}': a ResNeXt has 26, 50, 101, 152 layers, or 11 or 29 for 32x32 images, not {depth}")
    config = {**listed.config, "groups": int(groups), "width": int(width)}
    return replace(listed, name=name, config=config, torchvision=None, in_family=False)


def expand(names: Iterable[str]) -> list[str]:
    """Return `names` with each family replaced by its members and `all` by every network, in order, each once.

    Case does not matter. Specifications (with a colon) and entry points pass through.

    Raises:
        UsageError: nothing has one of the names.

    """
    found: dict[str, None] = {}
    for name in map(proper, names):
        if name == ALL:
            found.update(dict.fromkeys(ARCHITECTURES))
        elif name in FAMILIES:
            found.update(dict.fromkeys(FAMILIES[name]))
        else:
            is_built_in(name)  # raises where nothing has this name
            found[name] = None
    return list(found)


def is_built_in(name: str) -> bool:
    """Tell whether `find` knows this name: false for a specification or an entry point.

    Raises:
        UsageError: nothing has this name.

    """
    if name in ARCHITECTURES:
        return True
    if is_specification(name) or name in REGISTRY.entry_points():
        return False
    find(name)
    return True


def options(name: str) -> dict[str, Option]:
    """Return what `--set` may change of a built-in network: its builder's keywords, less those its name fixes.

    Raises:
        UsageError: no built-in network has this name.

    """
    architecture = find(name)
    declared = static_options(architecture.build)
    return {key: option for key, option in declared.items() if key not in architecture.config}


def parse_set(name: str, settings: Mapping[str, str]) -> dict[str, Any]:
    """Return the typed values of `--set key=value` for a built-in network.

    Raises:
        UsageError: the network has no such option, or the text is no value of its type.

    """
    known = options(name)
    _refuse_unknown(name, settings, known)
    values = {key: parse_value(text, known[key], name) for key, text in settings.items()}
    check(name, values)
    return values


def check(name: str, values: Mapping[str, Any]) -> None:
    """Refuse options that a built-in network does not have, and values that no network can have.

    Raises:
        UsageError: one sentence on the first thing that is wrong.

    """
    known = options(name)
    _refuse_unknown(name, values, known)
    for key, value in values.items():
        annotation = known[key].annotation
        if annotation.startswith("Literal["):
            choices = ast.literal_eval(annotation.removeprefix("Literal"))
            if value not in choices:
                raise UsageError(f"{name}: {key} is one of {', '.join(choices)}, not '{value}'")
        elif annotation == "int" and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise UsageError(f"{name}: {key} is a whole number from 1 on, not {value!r}")
        elif annotation == "bool" and not isinstance(value, bool):
            raise UsageError(f"{name}: {key} is true or false, not {value!r}")
        elif annotation == "float":
            # Dropout rates and residual scales, the only numbers of this kind, are shares.
            number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
            if not number or not 0 <= value <= 1:
                raise UsageError(f"{name}: {key} is a number between 0 and 1, not {value!r}")


def _refuse_unknown(name: str, given: Iterable[str], known: Mapping[str, Option]) -> None:
    for key in given:
        if key not in known:
            raise UsageError(f"{name} has no option {key}; it takes {', '.join(known)}")
