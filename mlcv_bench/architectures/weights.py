"""Weights from a file: read without running anything in it, fitted to a network, naming what is missing."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mlcv_bench.architectures.request import check_weights
from mlcv_bench.errors import UsageError
from mlcv_bench.names import first_line
from mlcv_bench.records import shape_text

WRAPPERS = ("state_dict", "model_state_dict", "model", "net")
"""Keys under which training scripts put the weights among other things."""

PREFIXES = ("module.", "_orig_mod.")
"""What DataParallel and torch.compile put before every name."""

SHOWN = 5


@dataclass(frozen=True)
class Fit:
    """How a file's weights fit a network: names only one of them has, and names whose shapes differ."""

    path: str
    loaded: int
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether every weight of the network is in the file, and nothing else."""
        return not (self.missing or self.unexpected or self.mismatched)

    @property
    def sentence(self) -> str:
        """Say it in one sentence."""
        if self.complete:
            return f"{self.path}: all {self.loaded} tensors fit"
        parts = [
            f"{len(names)} {kind} ({', '.join(names[:SHOWN])}{', ...' if len(names) > SHOWN else ''})"
            for kind, names in (
                ("missing", self.missing),
                ("unexpected", self.unexpected),
                ("of another shape", self.mismatched),
            )
            if names
        ]
        return f"{self.path}: {self.loaded} tensors fit; {'; '.join(parts)}"


def read_state(path: Path, *, device: str = "cpu") -> dict[str, Tensor]:
    """Read the named tensors of a file; nothing in it is executed.

    Args:
        path: .safetensors, or a .pth, .pt or .bin that torch.save wrote; a checkpoint may hold the weights under
            "state_dict" or "model".
        device: where the tensors go; "meta" reads names and shapes alone.

    Raises:
        UsageError: no such file, an unknown kind, more than tensors in it, or damage; one sentence.

    """
    check_weights(path)
    read = _read_safetensors if path.suffix.lower() == ".safetensors" else _read_torch
    found: Any = read(path, device)
    for key in WRAPPERS:
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    if not isinstance(found, Mapping) or not all(isinstance(value, Tensor) for value in found.values()) or not found:
        raise UsageError(f"--weights {path} holds no table of named tensors; save the network's state_dict()")
    state = {str(name): value for name, value in found.items()}
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state


def _read_safetensors(path: Path, device: str) -> dict[str, Tensor]:
    from safetensors import SafetensorError, safe_open  # noqa: PLC0415 - from an extra

    try:
        with safe_open(path, framework="pt") as file:
            if device == "meta":
                return {
                    name: torch.empty(file.get_slice(name).get_shape(), device="meta") for name in list(file.keys())
                }
            return {name: file.get_tensor(name).to(device) for name in list(file.keys())}
    except (SafetensorError, OSError) as error:
        raise UsageError(f"--weights {path} is damaged or no safetensors file: {first_line(error)}") from error


def _read_torch(path: Path, device: str) -> Any:  # noqa: ANN401 - whatever was saved
    _refuse_compressed(path)
    try:
        with warnings.catch_warnings():
            # What follows says it better: an odd pickle protocol comes with a refusal, or does no harm.
            warnings.filterwarnings("ignore", message="Detected pickle protocol")
            return torch.load(path, map_location=device, weights_only=True)
    except pickle.UnpicklingError as error:
        raise UsageError(
            f"--weights {path} holds more than tensors, or is damaged, and loading it could run code; "
            "save the network's state_dict() alone"
        ) from error
    except Exception as error:
        # Torch's reader stumbles over damage in any way: AssertionError, IndexError, TypeError and more.
        raise UsageError(f"--weights {path} is damaged or no file of torch.save: {first_line(error)}") from error


def _refuse_compressed(path: Path) -> None:
    """Refuse an archive that announces more than the file holds, before it is read: torch.save never compresses."""
    try:
        # It raises where a damaged archive claims to go on in another file.
        if not zipfile.is_zipfile(path):
            return
        with zipfile.ZipFile(path) as archive:
            announced = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise UsageError(f"--weights {path} is damaged or no file of torch.save: {first_line(error)}") from error
    size = path.stat().st_size
    if announced > size:
        raise UsageError(
            f"--weights {path} announces {announced:,} bytes in a file of {size:,}, which torch.save never does; "
            "save the network's state_dict() anew"
        )


def fit(network: nn.Module, state: Mapping[str, Tensor], path: Path) -> Fit:
    """Compare a file's names and shapes with a network's; changes nothing."""
    own = network.state_dict()
    # A counter of batches is no weight: old files lack it.
    missing = [name for name in own if name not in state and not name.endswith("num_batches_tracked")]
    both = [name for name in own if name in state]
    mismatched = [
        f"{name} {shape_text(state[name].shape)}, not {shape_text(own[name].shape)}"
        for name in both
        if state[name].shape != own[name].shape
    ]
    unexpected = [name for name in state if name not in own]
    return Fit(str(path), len(both) - len(mismatched), tuple(missing), tuple(unexpected), tuple(mismatched))


def load_weights(network: nn.Module, path: Path) -> Fit:
    """Put a file's weights into a network, in place.

    Args:
        network: takes the values; on the meta device it is only compared.
        path: see `read_state`.

    Returns:
        How they fit.

    Raises:
        UsageError: the file cannot be read, or does not fit.

    """
    meta = any(tensor.is_meta for tensor in network.state_dict().values())
    state = read_state(path, device="meta" if meta else "cpu")
    found = fit(network, state, path)
    if not found.complete:
        raise UsageError(f"--weights {found.sentence}")
    if not meta:
        network.load_state_dict(state, strict=False)
    return found
