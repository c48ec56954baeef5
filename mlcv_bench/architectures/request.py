"""What a user asked for: an architecture's name, its options and its input, checked without loading torch."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from mlcv_bench.architectures import catalog
from mlcv_bench.errors import UsageError
from mlcv_bench.extras import require
from mlcv_bench.names import check_specification, is_specification
from mlcv_bench.records import plain_text, shape_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

DEFAULT_INPUT = (3, 224, 224)
WEIGHTS_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
HARMLESS = ("form", "zero_init_residual")
"""Options that change neither parameters nor MACs, so that published figures still apply."""

DTYPES = ("float16", "bfloat16", "float32", "float64", "int8", "uint8", "int16", "int32", "int64", "bool")
SHAPE = re.compile(r"\d{1,18}(x\d{1,18})*", re.ASCII)


@dataclass(frozen=True, slots=True)
class NamedInput:
    """One tensor of a network that takes others than one image.

    `name` is the parameter of `forward`, or the key where `forward` takes one dictionary; several of one name are a
    list. One that Python gave by position has none. `shape` is the whole tensor, the batch axis first; `value` is the
    tensor itself where Python gave one as an example.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    value: Any = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        """Write it as `--input` reads it."""
        return ":".join(filter(None, (self.name, self.dtype, shape_text(self.shape))))


@dataclass(frozen=True)
class Request:
    """One network to measure: hashable, and nothing of it is built yet.

    `input` is the shape of one image, empty where `tensors` name what the network takes instead; `options` are keyword
    arguments for the builder, as sorted pairs. `built` says that somebody gave the network itself, and the name is its
    class's.
    """

    name: str
    options: tuple[tuple[str, Any], ...] = ()
    input: tuple[int, ...] = DEFAULT_INPUT
    tensors: tuple[NamedInput, ...] = ()
    built: bool = False

    @classmethod
    def of(
        cls,
        name: str,
        *,
        input: tuple[int, ...] | None = None,  # noqa: A002 - the word of the command line
        options: Mapping[str, Any] | None = None,
        tensors: tuple[NamedInput, ...] = (),
    ) -> Request:
        """Check a name and an input against the catalogue; options are typed values here, checked by the builder.

        Raises:
            UsageError: unknown name, or an input that the network cannot take.

        """
        name = catalog.proper(name)
        pairs = tuple(sorted((options or {}).items()))
        if not catalog.is_built_in(name):
            return cls(name, pairs, () if tensors else input or DEFAULT_INPUT, tensors)
        architecture = catalog.find(name)
        if tensors:
            raise UsageError(
                f"{name} takes one image, no named tensors; write --input {shape_text(architecture.input)}"
            )
        shape = input or architecture.input
        check_input(architecture, shape, dict(pairs))
        return cls(name, pairs, shape)

    def opened(self) -> Request:
        """Return the request with its settings of the types that the builder asks for, where texts were left.

        Raises:
            UsageError: what is named is not here, or takes no such setting.

        """
        check_places([self.name])
        texts = {key: value for key, value in self.options if isinstance(value, str)}
        typed = dict(self.options) | (parse_settings(self.name, texts) if is_specification(self.name) else {})
        return replace(self, options=tuple(sorted(typed.items())))

    @property
    def built_in(self) -> bool:
        """Whether the name is the catalogue's; that of a network that was handed over is its class's, and never is."""
        if self.built:
            return False
        try:
            return catalog.is_built_in(self.name)
        except UsageError:
            return False

    @property
    def family(self) -> str:
        """The family of the catalogue, or what kind of specification the name is."""
        if self.built_in:
            return catalog.find(self.name).family
        kind = self.name.partition(":")[0]
        return kind if kind in catalog.LIBRARIES else "external"

    @property
    def plain(self) -> bool:
        """Whether published figures apply: no option that changes the cost."""
        return self.built_in and all(key in HARMLESS for key, _ in self.options)

    @property
    def input_text(self) -> str:
        """The input as `--input` reads it."""
        return " ".join(map(str, self.tensors)) if self.tensors else shape_text(self.input)

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shapes of one image, or of the tensors as they are named."""
        return tuple(item.shape for item in self.tensors) or (self.input,)

    @property
    def label(self) -> str:
        """The name with its options, as a table shows it and `--set` reads them."""
        return f"{self.name} {self.options_text}".rstrip()

    @property
    def options_text(self) -> str:
        """The options as `--set` reads them, separated by spaces; empty without any."""
        return " ".join(f"{key}={plain_text(value) or 'none'}" for key, value in self.options)


@dataclass(frozen=True)
class Networks:
    """The networks that a command line names: its names, `--set` texts and inputs, before anything is opened.

    `settings` are sorted pairs of texts; of several `shapes` each is measured; `tensors` name other inputs than an
    image. `built` says that somebody gave the network itself, and the one name is its class's.
    """

    names: tuple[str, ...]
    settings: tuple[tuple[str, str], ...] = ()
    shapes: tuple[tuple[int, ...], ...] = ()
    tensors: tuple[NamedInput, ...] = ()
    built: bool = False

    def check(self) -> None:
        """Refuse what is wrong with the catalogue's networks; what a specification names is opened by `requests`.

        Raises:
            UsageError: no name, an unknown one, a setting that some name does not accept, an impossible input.

        """
        known = tuple(name for name in self.names if not is_specification(name))
        if (known or not self.names) and not self.built:
            replace(self, names=known).requests()

    def check_one(self, command: str) -> None:
        """Refuse several networks and several inputs too.

        Raises:
            UsageError: a family, several shapes, or what `check` refuses.

        """
        if len(self.shapes) > 1:
            raise UsageError(f"{command} takes one input; give one shape, or named tensors")
        self.check()
        for name in () if self.built else self.names:
            if not is_specification(name) and len(catalog.expand([name])) > 1:
                raise UsageError(f"{command} takes one network: {several_of(name)}")

    def requests(self, *, elsewhere: bool = False) -> list[Request]:
        """Return one request a name and shape, names outermost; a specification with settings is imported.

        Args:
            elsewhere: specifications are opened by another process alone, which has their code: here their settings
                stay texts, for `Request.opened` there.

        Raises:
            UsageError: as `check`, for every name.

        """
        if self.built:
            shapes = self.shapes or (() if self.tensors else DEFAULT_INPUT,)
            return [Request(self.names[0], (), shape, self.tensors, built=True) for shape in shapes]
        if not self.names:
            raise UsageError("no architecture is named; try resnext, or `mlcv-bench list architectures`")
        names = catalog.expand(self.names)
        if not elsewhere:
            check_places(names)
        typed = {
            name: dict(self.settings)
            if elsewhere and is_specification(name)
            else parse_settings(name, dict(self.settings))
            for name in names
        }
        return [
            Request.of(name, input=shape, options=typed[name], tensors=self.tensors)
            for name in names
            for shape in self.shapes or (None,)
        ]


def several_of(name: str) -> str:
    """Say what a name that stands for several networks is, and what to name instead."""
    try:
        catalog.find(name)
    except UsageError as error:
        return str(error)
    return name


def check_input(architecture: catalog.Architecture, shape: tuple[int, ...], options: Mapping[str, Any]) -> None:
    """Refuse an input of the wrong rank, channels or size, before anything is built."""
    own = shape_text(architecture.input)
    if len(shape) != len(architecture.input):
        raise UsageError(f"--input {shape_text(shape)} has {len(shape)} sizes; {architecture.name} takes {own}")
    channels = options.get("in_channels", architecture.input[0])
    if shape[0] != channels:
        raise UsageError(
            f"--input {shape_text(shape)} has {shape[0]} channels; {architecture.name} takes {channels}"
            f" (--set in_channels={shape[0]} changes that)"
        )
    if min(shape[1:]) < architecture.smallest:
        raise UsageError(
            f"--input {shape_text(shape)} is too small for {architecture.name}, which needs at least "
            f"{channels}x{architecture.smallest}x{architecture.smallest}; its own is {own}"
        )


def check_places(names: Iterable[str]) -> None:
    """Refuse a specification whose file or package is not there, importing nothing."""
    for name in names:
        if is_specification(name) and name.partition(":")[0] not in catalog.LIBRARIES:
            check_specification(name)


def check_weights(path: Path) -> None:
    """Refuse a file of weights that is not there or of no known kind, reading nothing.

    Raises:
        UsageError: one sentence that says which kinds there are.

    """
    if not path.is_file():
        raise UsageError(f"--weights {path}: there is no such file; give a .safetensors or .pth file")
    if path.suffix.lower() not in WEIGHTS_SUFFIXES:
        raise UsageError(
            f"--weights {path}: '{path.suffix or 'no suffix'}' is no kind of weights; use .safetensors, .pth or .pt"
        )
    if path.suffix.lower() == ".safetensors":
        require("weights", f"--weights {path}")


def parse_settings(name: str, settings: Mapping[str, str]) -> dict[str, Any]:
    """Type the --set texts by the builder's signature; an external builder must be imported for that."""
    if not settings:
        return {}
    if catalog.is_built_in(name):
        return catalog.parse_set(name, settings)
    from mlcv_bench.architectures.build import parse_set  # noqa: PLC0415 - imports torch, as the user's own module will

    return parse_set(name, settings)


def parse_shape(text: str) -> tuple[int, ...]:
    """Read a shape as 3x224x224.

    Raises:
        UsageError: the text is no shape, or a size is zero.

    """
    if not SHAPE.fullmatch(text):
        raise UsageError(f"--input {text} is no shape; write channels x height x width, for example --input 3x224x224")
    shape = tuple(int(size) for size in text.split("x"))
    if 0 in shape:
        raise UsageError(f"--input {text} has a size of zero; every size is at least 1, for example --input 3x224x224")
    return shape


def parse_named(text: str) -> NamedInput:
    """Read a named input as tokens:int64:1x128, or mask:1x128 for float32.

    Raises:
        UsageError: a part is missing, or the type is none that torch has.

    """
    name, _, rest = text.partition(":")
    dtype, colon, shape = rest.rpartition(":")
    dtype = dtype if colon else "float32"
    if not name.isidentifier() or rest in ("", *DTYPES):
        msg = f"--input {text} is no named input; write name:type:shape, for example --input tokens:int64:1x128"
        raise UsageError(msg)
    if dtype not in DTYPES:
        raise UsageError(f"--input {text}: '{dtype}' is no type; use one of {', '.join(DTYPES)}")
    if not SHAPE.fullmatch(shape) or "0" in shape.split("x"):
        msg = f"--input {text}: '{shape}' is no shape; write sizes from 1 on, for example {name}:{dtype}:1x128"
        raise UsageError(msg)
    return NamedInput(name, dtype, tuple(int(size) for size in shape.split("x")))


def parse_inputs(texts: Sequence[str]) -> tuple[list[tuple[int, ...]], tuple[NamedInput, ...]]:
    """Read every --input: image shapes to sweep, or the named tensors of one network.

    Raises:
        UsageError: one is neither, a shape comes twice, or both kinds are mixed.

    """
    shapes = [parse_shape(text) for text in texts if ":" not in text]
    named = tuple(parse_named(text) for text in texts if ":" in text)
    if shapes and named:
        raise UsageError("--input takes shapes to sweep, or named tensors of one network, not both; keep one kind")
    if len(set(shapes)) < len(shapes):
        raise UsageError("--input gives one shape twice; give each once")
    return shapes, named
