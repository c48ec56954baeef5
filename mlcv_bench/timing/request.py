"""What is asked of `time`: cells, each one network under everything that decides its time, and how to measure them.

Also what is known of a cell before it is timed. Plain data, checked without torch.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

from mlcv_bench.architectures.catalog import expand
from mlcv_bench.architectures.request import NamedInput, Networks, Request, check_weights, parse_named
from mlcv_bench.errors import UsageError
from mlcv_bench.extras import require
from mlcv_bench.names import DEVICES, check_choices, check_device
from mlcv_bench.statistics import fewest_for_percentile
from mlcv_bench.timing.machine import WAIT_POLICIES, physical_cores

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mlcv_bench.counting.cost import Cost

RUNTIMES = ("eager", "compile", "onnx", "cuda-graph")
AUTOCAST = "autocast-"
DTYPES = ("float32", "bfloat16", "float16", "float64", f"{AUTOCAST}bfloat16", f"{AUTOCAST}float16")
COMPILE_MODES = ("default", "reduce-overhead", "max-autotune")
TF32 = ("default", "on", "off")
MEMORY_FORMATS = ("contiguous", "channels_last")
PASSES = ("forward", "forward-backward")

LEAST_SECONDS = 0.1
WARM_UP_SHARE = 0.3
"""The warm-up's most, as a share of a cell's time."""
LARGEST_SEED = 2**32 - 1
"""Of numpy's generator, which is seeded too."""
_ITEM_BYTES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}


def _one_of(known: Sequence[str]) -> Any:  # noqa: ANN401 - a field, whose type is that of its default
    """Return a setting that has one of some values, the first by default."""
    return field(default=known[0], metadata={"known": known})


@dataclass(frozen=True, slots=True)
class Cell:
    """What is timed.

    `input` is one image's shape (channels, height, width), or the tensors that the network takes instead; `settings` go
    to the network's builder.
    """

    architecture: str
    input: tuple[int, ...] | tuple[NamedInput, ...]
    device: str = "cpu"
    runtime: str = _one_of(RUNTIMES)
    dtype: str = _one_of(DTYPES)
    memory_format: str = _one_of(MEMORY_FORMATS)
    batch: int = 1
    threads: int = 1
    direction: str = _one_of(PASSES)
    fold_batch_norm: bool = False
    wait_policy: str = _one_of(tuple(WAIT_POLICIES))
    settings: tuple[tuple[str, Any], ...] = ()
    weights: str | None = None
    seed: int = 0
    compile_mode: str = _one_of(COMPILE_MODES)
    tf32: str = _one_of(TF32)
    cudnn_benchmark: bool = False
    deterministic: bool = False
    throughput: bool = False
    """Whether calls are also asked for one after the other, with one wait at their end."""
    cold_cache: bool = False
    """Whether the last-level cache is overwritten before every timed call."""

    @property
    def autocast(self) -> bool:
        """Whether the network stays in float32 and torch's autocast chooses what computes in the narrower type."""
        return self.dtype.startswith(AUTOCAST)

    @property
    def number(self) -> str:
        """The name of the torch type that is computed in."""
        return self.dtype.removeprefix(AUTOCAST)

    @property
    def on_cpu(self) -> bool:
        """Whether the processor computes."""
        return self.device == "cpu"

    @property
    def one_thread(self) -> bool:
        """Whether one thread of the processor is asked to do all the work."""
        return self.on_cpu and self.threads == 1

    @property
    def request(self) -> Request:
        """The network with its input, as the other studies take them."""
        tensors = tuple(item for item in self.input if isinstance(item, NamedInput))
        shape = tuple(size for size in self.input if isinstance(size, int))
        return Request(self.architecture, self.settings, shape, tensors)

    @property
    def images(self) -> int:
        """How many images, or rows of the first tensor, one pass takes."""
        return self.batch * next(
            (item.shape[0] for item in self.input if isinstance(item, NamedInput) and item.shape), 1
        )

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        sizes = [size if isinstance(size, int) else str(size) for size in self.input]
        plain = {one.name: getattr(self, one.name) for one in fields(self)}
        return {**plain, "input": sizes, "settings": dict(sorted(self.settings))}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Cell:
        """Read back what `as_dict` wrote."""
        sizes = tuple(size if isinstance(size, int) else parse_named(size) for size in values["input"])
        return cls(**{**values, "input": sizes, "settings": tuple(sorted(values["settings"].items()))})

    def columns(self) -> dict[str, Any]:
        """Return every setting under its column's name, which is the field's but for `pass`."""
        values = self.as_dict()
        values["input"] = self.request.input_text
        values["settings"] = _settings_text(self.settings)
        return dict(zip(CELL_COLUMNS, values.values(), strict=True))

    def key(self) -> str:
        """Return a short hash of the whole configuration: equal cells share it, in every process and run."""
        return hashlib.sha256(json.dumps(self.as_dict(), sort_keys=True).encode()).hexdigest()[:16]

    def label(self, others: tuple[Cell, ...] = ()) -> str:
        """Name the cell by its architecture and whatever sets it apart from `others`."""
        parts = []
        for name in (one.name for one in fields(self)):
            value = getattr(self, name)
            varies = any(getattr(other, name) != value for other in others)
            if name != "architecture" and varies:
                parts.append(_words(name, value))
        return ", ".join([self.architecture, *parts])


CELL_COLUMNS = tuple("pass" if one.name == "direction" else one.name for one in fields(Cell))


def _settings_text(settings: tuple[tuple[str, Any], ...]) -> str:
    return " ".join(f"{key}={value}" for key, value in settings)


MOST_THREADS = 1024
"""Far more than torch gains by; with 100,000 its process crashes."""
_BEFORE = {"batch": "batch", "threads": "threads", "seed": "seed", "tf32": "TF32", "compile_mode": "mode"}
_WHERE_TRUE = {
    "fold_batch_norm": "folded",
    "cudnn_benchmark": "cuDNN benchmark",
    "deterministic": "deterministic",
    "throughput": "throughput",
    "cold_cache": "cold cache",
}


def _words(name: str, value: Any) -> str:  # noqa: ANN401 - any value of a cell
    if name in _BEFORE:
        return f"{_BEFORE[name]} {value}"
    if name in _WHERE_TRUE:
        return _WHERE_TRUE[name] if value else f"not {_WHERE_TRUE[name]}"
    if name == "input":
        return Cell("", value).request.input_text
    if name == "settings":
        return _settings_text(value) or "defaults"
    return str(value)


@dataclass(frozen=True)
class CellGrid:
    """Networks times everything that decides their time: every combination is a cell, whose fields these are.

    Without a `device` it is the best one here, without `threads` the physical cores.
    """

    networks: Networks
    device: tuple[str, ...] = ()
    runtime: tuple[str, ...] = RUNTIMES[:1]
    dtype: tuple[str, ...] = DTYPES[:1]
    memory_format: tuple[str, ...] = MEMORY_FORMATS[:1]
    batch: tuple[int, ...] = (1,)
    threads: tuple[int, ...] = ()
    direction: tuple[str, ...] = PASSES[:1]
    fold_batch_norm: bool = False
    wait_policy: str = "default"
    weights: Path | None = None
    compile_mode: tuple[str, ...] = COMPILE_MODES[:1]
    tf32: tuple[str, ...] = TF32[:1]
    cudnn_benchmark: bool = False
    deterministic: bool = False
    throughput: bool = False
    cold_cache: bool = False

    def check(self) -> None:
        """Refuse what no cell can be made of; whether a device is here is known once torch is loaded.

        Raises:
            UsageError: an unknown network or value, a missing file or package.

        """
        self.networks.check()
        if self.weights is not None:
            check_weights(self.weights)
        for name in self.device:
            check_device(name, ("auto", *DEVICES))
        values = self._values()
        for one, column in zip(fields(Cell), CELL_COLUMNS, strict=True):
            if known := one.metadata.get("known"):
                check_choices(f"--{column.replace('_', '-')}", values[one.name], known)
        for option, numbers in (("--batch", self.batch), ("--threads", self.threads)):
            if (smallest := min(numbers, default=1)) < 1:
                raise UsageError(f"{option} takes whole numbers from 1 on, not {smallest}")
        if (most := max(self.threads, default=1)) > MOST_THREADS:
            raise UsageError(f"--threads takes at most {MOST_THREADS}, not {most}")
        if self.throughput and self.cold_cache:
            raise UsageError(
                "--throughput and --cold-cache cannot be had at once: calls without a pause leave no moment to "
                "overwrite the cache in; give one of them"
            )
        if "onnx" in self.runtime:
            require("onnx", "--runtime onnx")

    def count(self) -> int:
        """Return how many cells there are, opening and building nothing."""
        networks = len(expand(self.networks.names)) * max(1, len(self.networks.shapes))
        return networks * math.prod(max(1, len(values)) for values in self._values().values())

    def _values(self) -> dict[str, tuple[Any, ...]]:
        """Return the values that each field of a cell takes."""
        values = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "networks"}
        return {name: value if isinstance(value, tuple) else (value,) for name, value in values.items()}

    def cells(self, seed: int, *, elsewhere: bool = False) -> list[Cell]:
        """Return every combination once, networks outermost; torch is loaded for the devices.

        Args:
            seed: of weights and images.
            elsewhere: specifications are opened where the cells run alone, as `Networks.requests` says.

        Raises:
            UsageError: a device that is not here, or a specification that names nothing.

        """
        requests = self.networks.requests(elsewhere=elsewhere)
        from mlcv_bench.timing.devices import resolve_device  # noqa: PLC0415 - loads torch

        values = self._values() | {
            "device": tuple(resolve_device(name) for name in self.device or ("auto",)),
            "threads": self.threads or (physical_cores(),),
            "weights": (str(self.weights) if self.weights else None,),
            "seed": (seed,),
        }
        cells = [
            Cell(
                request.name,
                request.tensors or request.input,
                settings=request.options,
                **dict(zip(values, combination, strict=True)),
            )
            for request in requests
            for combination in itertools.product(*values.values())
        ]
        return list(dict.fromkeys(cells))


@dataclass(frozen=True)
class TimeRequest:
    """Everything that `time` is asked."""

    grid: CellGrid
    precision: float = 0.02
    seconds: float = 10.0
    isolate: bool = False
    store: Path | None = None
    resume: bool = False
    roofline: bool = False
    dry_run: bool = False
    strict: bool = False
    seed: int = 0
    latency_budget_s: float | None = None
    """Find the largest batch whose p95 stays below: among those asked for, or where one is given, from it on."""

    def check(self) -> None:
        """Refuse what cannot be measured.

        Raises:
            UsageError: one sentence.

        """
        self.grid.check()
        if not LEAST_SECONDS <= self.seconds < math.inf:
            raise UsageError(
                f"--seconds takes a finite number from {LEAST_SECONDS} on, not {self.seconds:g}; for example 30"
            )
        if not 0 < self.precision < 1:
            raise UsageError(f"--precision is a share between 0 and 1, not {self.precision:g}; for example 0.02")
        if not 0 <= self.seed <= LARGEST_SEED:
            raise UsageError(f"--seed takes whole numbers from 0 to 2^32 - 1, not {self.seed}")
        if self.latency_budget_s is not None:
            _check_budget(self.latency_budget_s, self.seconds)


def _check_budget(budget_s: float, seconds: float) -> None:
    """Refuse a latency budget of which too few passes fit into the time to bound their p95."""
    if not 0 < budget_s < math.inf:
        raise UsageError(f"a latency budget is a finite time above 0, not {budget_s:g} s; for example 0.02")
    passes = fewest_for_percentile(0.95)
    needed = passes * budget_s / (1 - WARM_UP_SHARE)
    if needed > seconds:
        raise UsageError(
            f"--latency-budget {budget_s:g}s: p95 takes {passes} passes to bound, which do not fit into --seconds "
            f"{seconds:g} beside the warm-up; give --seconds {math.ceil(needed)}"
        )


@dataclass(frozen=True, slots=True)
class Facts:
    """What preparing a cell showed before any timing. Errors against eager float32; seconds; bytes; None is unknown.

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
    """What the counter gives for a cell: parameters, and MACs of the whole batch; None where it cannot count."""

    params: int | None = None
    macs: int | None = None
    moved_bytes: int | None = None


def input_bytes(cell: Cell) -> int:
    """Return the bytes of the whole batch, every number in the cell's type."""
    return cell.batch * sum(math.prod(shape) for shape in cell.request.shapes) * _ITEM_BYTES[cell.number]


def cost_of(cell: Cell) -> CellCost:
    """Count the cell's network on the meta device.

    Raises:
        UsageError: the network cannot take this input.

    """
    from mlcv_bench.counting.cost import count  # noqa: PLC0415 - loads torch

    cost = count(cell.request, batch=cell.batch)
    return CellCost(cost.params, cost.macs, moved_bytes(cell, cost))


def moved_bytes(cell: Cell, cost: Cost) -> int:
    """Return the least traffic of a pass: weights, input and every counted activation once, in the cell's type."""
    return (cost.weight_bytes // 4 + cost.activations) * _ITEM_BYTES[cell.number] + input_bytes(cell)
