"""What is optional: every extra of this project, what needs it, and whether it is installed. Imports none of them."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

from mlcv_bench.errors import MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Extra:
    """What an extra is for, and its packages: each distribution's name, as pip has it, with that of its module."""

    purpose: str
    packages: Mapping[str, str]

    @property
    def missing(self) -> list[str]:
        """The distributions that are not installed."""
        return [name for name, module in self.packages.items() if find_spec(module) is None]


EXTRAS: Mapping[str, Extra] = {
    "plots": Extra("pictures: -o NAME.png, .svg, .pdf, .gif and .mp4; figures; .plot()", {"matplotlib": "matplotlib"}),
    "races": Extra("basins; races and sweeps of many runs or coordinates", {"numba": "numba"}),
    "tasks": Extra(
        "claims, landscape and optim-race --task",
        {"mlxtend": "mlxtend", "numba": "numba", "scikit-learn": "sklearn", "scipy": "scipy"},
    ),
    "page": Extra(
        "pages: -o NAME.html; .plot(interactive=True)",
        {"matplotlib": "matplotlib", "plotly": "plotly"},
    ),
    "history": Extra(
        "history check of times; -o NAME.parquet", {"pyarrow": "pyarrow", "ruptures": "ruptures", "scipy": "scipy"}
    ),
    "onnx": Extra("time --runtime onnx", {"onnx": "onnx", "onnxruntime": "onnxruntime", "onnxscript": "onnxscript"}),
    "cluster": Extra("optim-race --task ... --scheduler", {"dask": "dask", "distributed": "distributed"}),
    "weights": Extra("--weights NAME.safetensors", {"safetensors": "safetensors"}),
    "gpu": Extra("time on an NVIDIA GPU: its clocks, energy and neighbours", {"nvidia-ml-py": "pynvml"}),
}
"""Every extra of users' by its name; `all` brings them together."""


def require(extra: str, feature: str) -> None:
    """Refuse a feature whose extra is not installed.

    Raises:
        MissingExtraError: the feature and the extra, in a sentence.

    """
    if EXTRAS[extra].missing:
        raise MissingExtraError(feature, extra)
