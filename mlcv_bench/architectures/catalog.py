"""The table of built-in networks: names, sources, settings. Loads no torch; the networks load when they are built."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mlcv_bench.errors import UsageError
from mlcv_bench.names import Option, Registry, is_specification, parse_value, static_options, unknown

GROUP = "mlcv_bench.architectures"
"""Entry points of this group add networks: name = package.module:factory."""


@dataclass(frozen=True)
class Architecture:
    """One network: how to build it, where it comes from, what it takes.

    `build` names the builder, `config` the keyword arguments that make this network of it; the builder's other
    keywords are the user's options. `section` is that of the notes that speaks of it, empty where none does. `input`
    is the image it was designed for; `smallest` the least side of a square image it accepts in inference.
    `torchvision` is its name there, None where torchvision does not have it; the state-dict keys are the same.
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


IMAGENET = (3, 224, 224)
INCEPTION = (3, 299, 299)
CIFAR = (3, 32, 32)
RESNEXT_LAYERS = {26: (2, 2, 2, 2), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
CIFAR_RESNEXT_DEPTH = 29
_BOTTLENECK_DEPTHS = (50, 101, 152)
_TORCHVISION_RESNEXT = ("resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d")
_PLACE = "mlcv_bench.architectures"


def _resnet(name: str, depth: int, **config: object) -> Architecture:
    basic = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}
    block = "basic" if depth in basic else "bottleneck"
    stride_in = config.get("stride_in", "1x1")
    settings = {"block": block, "layers": basic.get(depth) or RESNEXT_LAYERS[depth], "stride_in": stride_in}
    settings["width_factor"] = config.get("width_factor", 1)
    wide = settings["width_factor"] != 1
    same_in_torchvision = block == "basic" or stride_in == "3x3"
    return Architecture(
        name=name,
        family="wide_resnet" if wide else "resnet_v1_5" if stride_in == "3x3" else "resnet",
        build=f"{_PLACE}.resnet:resnet",
        config=settings,
        year=2016,
        paper="Zagoruyko and Komodakis 2016" if wide else "He et al. 2016",
        section="2.2.1",
        input=IMAGENET,
        smallest=1,
        torchvision=name.removesuffix("_v1_5") if same_in_torchvision else None,
    )


def _resnext(depth: int, groups: int, width: int) -> Architecture:
    name = f"resnext{depth}_{groups}x{width}d"
    cifar = depth == CIFAR_RESNEXT_DEPTH
    config: dict[str, Any] = {"groups": groups, "width": width}
    config |= {"blocks": 3} if cifar else {"layers": RESNEXT_LAYERS[depth]}
    return Architecture(
        name=name,
        family="resnext_cifar" if cifar else "resnext",
        build=f"{_PLACE}.resnext:resnext_cifar" if cifar else f"{_PLACE}.resnext:resnext",
        config=config,
        year=2017,
        paper="Xie et al. 2017",
        section="2.3.1",
        input=CIFAR if cifar else IMAGENET,
        smallest=1,
        torchvision=name if name in _TORCHVISION_RESNEXT else None,
    )


def _resnet_cifar(depth: int, *, skip: bool) -> Architecture:
    config: dict[str, Any] = {"blocks": (depth - 2) // 6}
    if not skip:
        # Settings of a skip connection that is not there are no options of the plain twin.
        config |= {"skip": False, "shortcut": "padding", "skip_after_relu": False}
    return Architecture(
        name=f"resnet{depth}" if skip else f"plain{depth}",
        family="resnet_cifar" if skip else "plain_cifar",
        build=f"{_PLACE}.resnet:resnet_cifar",
        config=config,
        year=2016,
        paper="He et al. 2016",
        section="2.2",
        input=CIFAR,
        smallest=1,
    )


def _vgg(depth: int, *, batch_norm: bool) -> Architecture:
    name = f"vgg{depth}_bn" if batch_norm else f"vgg{depth}"
    return Architecture(
        name=name,
        family="vgg",
        build=f"{_PLACE}.vgg:vgg",
        config={"depth": depth, "batch_norm": batch_norm},
        year=2015,
        paper="Simonyan and Zisserman 2015",
        section="2.2.1",
        input=IMAGENET,
        smallest=32,
        torchvision=name,
    )


def _inception(name: str) -> Architecture:
    return Architecture(
        name=name,
        family="inception",
        build=f"{_PLACE}.inception:{name}",
        config={},
        year=2016,
        paper="Szegedy et al. 2016",
        section="2.2.2",
        input=INCEPTION,
        smallest=75,
    )


def _googlenet(name: str, smallest: int, torchvision: str | None) -> Architecture:
    return Architecture(
        name=name,
        family="inception",
        build=f"{_PLACE}.googlenet:{name}",
        config={},
        year=2015,
        paper="Szegedy et al. 2015",
        section="2.1",
        input=IMAGENET,
        smallest=smallest,
        torchvision=torchvision,
    )


def _table() -> dict[str, Architecture]:
    rows = [
        Architecture(
            name="alexnet",
            family="alexnet",
            build=f"{_PLACE}.alexnet:alexnet",
            config={},
            year=2014,
            paper="Krizhevsky 2014",
            section="",
            input=IMAGENET,
            smallest=63,
            torchvision="alexnet",
        ),
        Architecture(
            name="zfnet",
            family="zfnet",
            build=f"{_PLACE}.alexnet:zfnet",
            config={},
            year=2014,
            paper="Zeiler and Fergus 2014",
            section="2.1",
            input=IMAGENET,
            smallest=63,
        ),
        *(_vgg(depth, batch_norm=norm) for norm in (False, True) for depth in (11, 13, 16, 19)),
        _googlenet("googlenet", 31, None),
        _googlenet("googlenet_torchvision", 15, "googlenet"),
        _inception("inception_v4"),
        _inception("inception_resnet_v1"),
        _inception("inception_resnet_v2"),
        _inception("inception_resnet_v2_paper"),
        *(_resnet(f"resnet{depth}", depth) for depth in (18, 34, 50, 101, 152)),
        *(_resnet(f"resnet{depth}_v1_5", depth, stride_in="3x3") for depth in _BOTTLENECK_DEPTHS),
        _resnet("wide_resnet50_2", 50, stride_in="3x3", width_factor=2),
        _resnext(26, 32, 4),
        *(_resnext(50, groups, width) for groups, width in ((32, 4), (1, 64), (2, 40), (4, 24), (8, 14))),
        *(_resnext(101, groups, width) for groups, width in ((32, 4), (32, 8), (64, 4))),
        _resnext(152, 32, 4),
        # 8 is the paper's rule with one block a stage: small enough to train in seconds.
        *(_resnet_cifar(depth, skip=True) for depth in (8, 20, 32, 44, 56, 110)),
        *(_resnet_cifar(depth, skip=False) for depth in (8, 20, 32, 44, 56, 110)),
        _resnext(CIFAR_RESNEXT_DEPTH, 8, 64),
        _resnext(CIFAR_RESNEXT_DEPTH, 16, 64),
    ]
    return {row.name: row for row in rows}


ARCHITECTURES: dict[str, Architecture] = _table()
"""Every built-in network by its name, in the order in which they are listed; `find` knows more ResNeXts."""

FAMILIES: dict[str, tuple[str, ...]] = {
    "resnext": ("resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d"),
    "resnet": ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
    "resnet_v1_5": ("resnet50_v1_5", "resnet101_v1_5", "resnet152_v1_5"),
    "resnet_cifar": ("resnet20", "resnet32", "resnet44", "resnet56", "resnet110"),
    "vgg": tuple(f"vgg{depth}{norm}" for norm in ("", "_bn") for depth in (11, 13, 16, 19)),
    "inception": ("googlenet", "inception_v4", "inception_resnet_v1", "inception_resnet_v2"),
}
"""What a family's name stands for on the command line."""

REGISTRY: Registry[Architecture] = Registry("architecture", "architectures", ARCHITECTURES, GROUP)

_RESNEXT = re.compile(r"resnext(\d{1,9})_(\d{1,9})x(\d{1,9})d", re.ASCII)


def find(name: str) -> Architecture:
    """Return the built-in network of this name, or the ResNeXt of any G and d that it spells.

    Raises:
        UsageError: no built-in network has this name; the message lists near misses.

    """
    if name in ARCHITECTURES:
        return ARCHITECTURES[name]
    spelled = _RESNEXT.fullmatch(name)
    if spelled:
        return _spelled_resnext(name, *spelled.groups())
    if name in FAMILIES:
        msg = f"'{name}' is a family; name one of {', '.join(FAMILIES[name])}"
        raise UsageError(msg)
    known = [*ARCHITECTURES, *FAMILIES, *REGISTRY.entry_points()]
    raise unknown(REGISTRY.kind, name, known, listing=REGISTRY.listing)


def _spelled_resnext(name: str, depth: str, groups: str, width: str) -> Architecture:
    known = (*RESNEXT_LAYERS, CIFAR_RESNEXT_DEPTH)
    if int(depth) not in known:
        msg = f"'{name}': a ResNeXt has {', '.join(map(str, known[:-1]))} layers, or 29 for 32x32 images, not {depth}"
        raise UsageError(msg)
    if groups.startswith("0") or width.startswith("0") or depth.startswith("0"):
        msg = f"'{name}': G and d are whole numbers from 1 on, without leading zeros, as in resnext50_32x4d"
        raise UsageError(msg)
    return _resnext(int(depth), int(groups), int(width))


def expand(names: Iterable[str]) -> list[str]:
    """Return `names` with each family replaced by its members, in order, each once.

    Specifications (with a colon) and entry points pass through.

    Raises:
        UsageError: a name stands for nothing.

    """
    found: dict[str, None] = {}
    for name in names:
        if name in FAMILIES:
            found.update(dict.fromkeys(FAMILIES[name]))
        else:
            if not is_specification(name) and name not in ARCHITECTURES and name not in REGISTRY.entry_points():
                find(name)
            found[name] = None
    return list(found)


def is_built_in(name: str) -> bool:
    """Tell whether `find` knows this name: false for a specification or an entry point.

    Raises:
        UsageError: the name stands for nothing at all.

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
                msg = f"{name}: {key} is one of {', '.join(choices)}, not '{value}'"
                raise UsageError(msg)
        elif annotation == "int" and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            msg = f"{name}: {key} is a whole number from 1 on, not {value!r}"
            raise UsageError(msg)
        elif annotation == "bool" and not isinstance(value, bool):
            msg = f"{name}: {key} is true or false, not {value!r}"
            raise UsageError(msg)
        elif annotation == "float":
            # Dropout rates and residual scales, the only numbers of this kind, are shares.
            number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
            if not number or not 0 <= value <= 1:
                msg = f"{name}: {key} is a number between 0 and 1, not {value!r}"
                raise UsageError(msg)


def _refuse_unknown(name: str, given: Iterable[str], known: Mapping[str, Option]) -> None:
    for key in given:
        if key not in known:
            msg = f"{name} has no option {key}; it takes {', '.join(known)}"
            raise UsageError(msg)
