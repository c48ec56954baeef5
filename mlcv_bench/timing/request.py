"""What is asked of `time`: the grid of cells, and how they are measured. Checked without torch."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlcv_bench.architectures.request import Networks, check_weights
from mlcv_bench.errors import MissingExtraError, UsageError
from mlcv_bench.names import near_misses
from mlcv_bench.timing.cells import DTYPES, MEMORY_FORMATS, PASSES, RUNTIMES, Cell
from mlcv_bench.timing.machine import physical_cores

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

ONNX_PACKAGES = ("onnx", "onnxruntime", "onnxscript")


@dataclass(frozen=True)
class CellGrid:
    """Networks times everything that decides their time: every combination is a cell.

    Without `devices` it is the best one here, without `threads` the physical cores.
    """

    networks: Networks
    devices: tuple[str, ...] = ()
    runtimes: tuple[str, ...] = ("eager",)
    dtypes: tuple[str, ...] = ("float32",)
    memory_formats: tuple[str, ...] = ("contiguous",)
    batches: tuple[int, ...] = (1,)
    threads: tuple[int, ...] = ()
    directions: tuple[str, ...] = ("forward",)
    fold_batch_norm: bool = False
    weights: Path | None = None

    def check(self) -> None:
        """Refuse what no cell can be made of; whether a device is here is known once torch is loaded.

        Raises:
            UsageError: an unknown network or value, a missing file or package.

        """
        self.networks.check()
        if self.weights is not None:
            check_weights(self.weights)
        for option, values, known in (
            ("--runtime", self.runtimes, RUNTIMES),
            ("--dtype", self.dtypes, DTYPES),
            ("--memory-format", self.memory_formats, MEMORY_FORMATS),
            ("--pass", self.directions, PASSES),
        ):
            check_choices(option, values, known)
        for option, numbers in (("--batch", self.batches), ("--threads", self.threads)):
            for number in numbers:
                if number < 1:
                    raise UsageError(f"{option} takes whole numbers from 1 on, not {number}")
        if "onnx" in self.runtimes:
            from importlib.util import find_spec  # noqa: PLC0415 - for the few who ask for it

            if any(find_spec(package) is None for package in ONNX_PACKAGES):
                raise MissingExtraError("--runtime onnx", "onnx")

    def cells(self, seed: int) -> list[Cell]:
        """Return every combination once, networks outermost; torch is loaded for the devices.

        Raises:
            UsageError: a device that is not here, or a specification that names nothing.

        """
        requests = self.networks.requests()
        from mlcv_bench.timing.devices import resolve_device  # noqa: PLC0415 - loads torch

        devices = dict.fromkeys(resolve_device(name) for name in self.devices or ("auto",))
        cells = [
            Cell(
                request.name,
                request.input,
                settings=request.options,
                device=device,
                runtime=runtime,
                dtype=dtype,
                memory_format=memory_format,
                batch=batch,
                threads=threads,
                direction=direction,
                fold_batch_norm=self.fold_batch_norm,
                weights=str(self.weights) if self.weights else None,
                seed=seed,
            )
            for request in requests
            for device, runtime, dtype, memory_format, batch, threads, direction in itertools.product(
                devices,
                self.runtimes,
                self.dtypes,
                self.memory_formats,
                self.batches,
                self.threads or (physical_cores(),),
                self.directions,
            )
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

    def check(self) -> None:
        """Refuse what cannot be measured.

        Raises:
            UsageError: one sentence.

        """
        self.grid.check()
        if not math.isfinite(self.seconds):
            raise UsageError(f"--seconds takes a finite number, not {self.seconds:g}; for example --seconds 30")


def check_choices(option: str, values: Sequence[str], known: Sequence[str]) -> None:
    """Refuse what an option does not know.

    Raises:
        UsageError: the message says what was meant, or which values there are.

    """
    for value in values:
        if value not in known:
            close = near_misses(value, known)
            hint = f"did you mean {close[0]}?" if close else f"choose from {', '.join(known)}"
            raise UsageError(f"{option} has no {value}; {hint}")
