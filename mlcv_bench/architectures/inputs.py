"""What a network is fed: one image by its shape, or named tensors with a type each; read without loading torch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlcv_bench.errors import UsageError
from mlcv_bench.records import shape_text

if TYPE_CHECKING:
    from collections.abc import Sequence

DTYPES = ("float16", "bfloat16", "float32", "float64", "int8", "uint8", "int16", "int32", "int64", "bool")
SHAPE = re.compile(r"\d{1,18}(x\d{1,18})*", re.ASCII)


@dataclass(frozen=True, slots=True)
class NamedInput:
    """One tensor of a network that takes others than one image.

    `name` is the parameter of `forward`, or the key where `forward` takes one dictionary; `shape` is the whole tensor,
    the batch axis first.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        """Write it as `--input` reads it."""
        return f"{self.name}:{self.dtype}:{shape_text(self.shape)}"


def parse_shape(text: str) -> tuple[int, ...]:
    """Read a shape as 3x224x224.

    Raises:
        UsageError: the text is no shape, or a size is zero.

    """
    if not SHAPE.fullmatch(text):
        msg = f"--input {text} is no shape; write channels x height x width, for example --input 3x224x224"
        raise UsageError(msg)
    shape = tuple(int(size) for size in text.split("x"))
    if 0 in shape:
        msg = f"--input {text} has a size of zero; every size is at least 1, for example --input 3x224x224"
        raise UsageError(msg)
    return shape


def parse_named(text: str) -> NamedInput:
    """Read a named input as tokens:int64:1x128.

    Raises:
        UsageError: a part is missing, or the type is none that torch has.

    """
    name, _, rest = text.partition(":")
    dtype, colon, shape = rest.partition(":")
    if not colon or not name.isidentifier():
        msg = f"--input {text} is no named input; write name:type:shape, for example --input tokens:int64:1x128"
        raise UsageError(msg)
    if dtype not in DTYPES:
        msg = f"--input {text}: '{dtype}' is no type; use one of {', '.join(DTYPES)}"
        raise UsageError(msg)
    if not SHAPE.fullmatch(shape) or "0" in shape.split("x"):
        msg = f"--input {text}: '{shape}' is no shape; write sizes from 1 on, for example {name}:{dtype}:1x128"
        raise UsageError(msg)
    return NamedInput(name, dtype, tuple(int(size) for size in shape.split("x")))


def parse_inputs(texts: Sequence[str]) -> tuple[list[tuple[int, ...]], tuple[NamedInput, ...]]:
    """Read every --input: image shapes to sweep, or the named tensors of one network.

    Raises:
        UsageError: one is neither, a name or a shape comes twice, or both kinds are mixed.

    """
    shapes = [parse_shape(text) for text in texts if ":" not in text]
    named = tuple(parse_named(text) for text in texts if ":" in text)
    if shapes and named:
        raise UsageError("--input takes shapes to sweep, or named tensors of one network, not both; keep one kind")
    if len({item.name for item in named}) < len(named):
        raise UsageError("--input names one tensor twice; give each name once")
    if len(set(shapes)) < len(shapes):
        raise UsageError("--input gives one shape twice; give each once")
    return shapes, named
