"""From a name to a network: built-in, specification or entry point."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from mlcv_bench.architectures import catalog, external
from mlcv_bench.architectures.external import options_of
from mlcv_bench.errors import UsageError
from mlcv_bench.names import first_line

__all__ = ["build", "options_of", "parse_set"]


def build(name: str, **options: Any) -> nn.Module:  # noqa: ANN401 - the options are the builder's own
    """Build the network that `name` stands for, with random weights, in training mode as torch leaves it.

    Args:
        name: a built-in network (`mlcv-bench list architectures`), a ResNeXt of any G and d (`resnext50_16x8d`),
            `torchvision:NAME`, `timm:NAME`, `package.module:attribute`, `path/to/file.py:attribute`, or an entry point
            of the group `mlcv_bench.architectures`. The attribute is a function, a class, or a network.
        options: keywords of the builder, for example num_classes=10 or form="branches".

    Raises:
        UsageError: one sentence: the name or an option is unknown, the factory raised, or gave no network.

    Under `with torch.device("meta")` no weight is allocated.

    """
    if not catalog.is_built_in(name):
        return external.build_external(name, options)
    architecture = catalog.find(name)
    catalog.check(name, options)
    module, _, attribute = architecture.build.partition(":")
    builder: Callable[..., nn.Module] = getattr(importlib.import_module(module), attribute)
    try:
        return builder(**architecture.config, **options)
    except (ValueError, RuntimeError, TypeError) as error:
        # What the catalogue cannot know: too large for the memory, say.
        msg = f"{name} cannot be built: {first_line(error)}"
        raise UsageError(msg) from error


def parse_set(name: str, settings: Mapping[str, str]) -> dict[str, Any]:
    """Return the typed values of `--set key=value` for any name that `build` takes.

    Raises:
        UsageError: there is no such option, or the text is no value of its type.

    """
    if catalog.is_built_in(name):
        return catalog.parse_set(name, settings)
    return external.parse_set(name, settings)
