"""A cell: one network under one combination of everything that decides its time. Plain data, no torch."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from mlcv_bench.architectures.request import Request

Dtype = Literal["float32", "bfloat16", "float16", "float64"]
MemoryFormat = Literal["contiguous", "channels_last"]
Runtime = Literal["eager", "compile", "onnx"]
Pass = Literal["forward", "forward-backward"]

DTYPES: tuple[str, ...] = get_args(Dtype)
MEMORY_FORMATS: tuple[str, ...] = get_args(MemoryFormat)
RUNTIMES: tuple[str, ...] = get_args(Runtime)
PASSES: tuple[str, ...] = get_args(Pass)

_ITEM_BYTES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}


@dataclass(frozen=True, slots=True)
class Cell:
    """What is timed. `input` is one image's shape (channels, height, width); `settings` go to the network's builder."""

    architecture: str
    input: tuple[int, ...]
    device: str = "cpu"
    runtime: str = "eager"
    dtype: str = "float32"
    memory_format: str = "contiguous"
    batch: int = 1
    threads: int = 1
    direction: str = "forward"
    fold_batch_norm: bool = False
    settings: tuple[tuple[str, Any], ...] = ()
    weights: str | None = None
    seed: int = 0

    @property
    def on_cpu(self) -> bool:
        """Whether the processor computes."""
        return self.device == "cpu"

    @property
    def one_thread(self) -> bool:
        """Whether one thread of the processor is asked to do all the work."""
        return self.on_cpu and self.threads == 1

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return {
            **asdict(self),
            "input": list(self.input),
            "settings": dict(sorted(self.settings)),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Cell:
        """Read back what `as_dict` wrote."""
        return cls(**{**values, "input": tuple(values["input"]), "settings": tuple(sorted(values["settings"].items()))})

    def key(self) -> str:
        """Return a short hash of the whole configuration: equal cells share it, in every process and run."""
        return hashlib.sha256(json.dumps(self.as_dict(), sort_keys=True).encode()).hexdigest()[:16]

    def label(self, others: tuple[Cell, ...] = ()) -> str:
        """Name the cell by its architecture and whatever sets it apart from `others`."""
        parts = []
        for name, value in self.as_dict().items():
            varies = any(other.as_dict()[name] != value for other in others)
            if name != "architecture" and varies:
                parts.append(_words(name, value))
        return ", ".join([self.architecture, *parts])


@dataclass(frozen=True, slots=True)
class Facts:
    """What preparing a cell found out before any timing. Errors against eager float32; seconds; bytes; None is unknown.

    `allocated_bytes` counts weights, input and every tensor alive at the worst moment of a call; `reserved_bytes` is
    what CUDA's allocator holds; `resident_bytes` is the whole process's peak during a call. `remark` says what is odd
    about the network, in words that follow its name.
    """

    max_abs_error: float | None
    max_rel_error: float | None
    first_call_s: float
    compile_s: float | None = None
    graph_breaks: int | None = None
    tolerance: float | None = None
    allocated_bytes: int | None = None
    reserved_bytes: int | None = None
    resident_bytes: int | None = None
    remark: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class CellCost:
    """What the counter says about a cell: parameters, and MACs of the whole batch; None where it cannot tell."""

    params: int | None = None
    macs: int | None = None
    moved_bytes: int | None = None
    """Weights once and every counted activation once, in the cell's type: the least traffic."""


def cost_of(cell: Cell) -> CellCost:
    """Count the cell's network on the meta device.

    Raises:
        UsageError: the network cannot take this input.

    """
    from mlcv_bench.counting.cost import count  # noqa: PLC0415 - loads torch

    cost = count(Request(cell.architecture, cell.settings, cell.input), batch=cell.batch)
    pixels = cell.batch * math.prod(cell.input)
    item = _ITEM_BYTES[cell.dtype]
    return CellCost(cost.params, cost.macs, cost.weight_bytes * item // 4 + (cost.activations + pixels) * item)


def _words(name: str, value: Any) -> str:  # noqa: ANN401 - any plain value of a cell
    if name in {"batch", "threads", "seed"}:
        return f"{name} {value}"
    if name == "input":
        return "x".join(str(size) for size in value)
    if name == "fold_batch_norm":
        return "folded" if value else "not folded"
    if name == "settings":
        return " ".join(f"{key}={setting}" for key, setting in value.items()) or "defaults"
    return str(value)
