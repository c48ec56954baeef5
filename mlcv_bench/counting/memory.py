"""The memory of activations: how many bytes of tensors are alive at once while a network runs."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable


def key_of(tensor: torch.Tensor) -> int:
    """Return the identity of a tensor's storage, which views share: torch keeps one object for it while it lives."""
    return id(tensor.untyped_storage())


class LiveBytes:
    """Follows storages from the operator that makes them to the moment Python lets them go.

    Two tensors on one storage (a view, an in-place result) count once; weights, which no operator made, count nothing.
    """

    def __init__(self) -> None:
        """Start with nothing alive."""
        self.alive = 0
        self.peak = 0
        self._references: dict[int, weakref.ref[Any]] = {}

    def add(self, tensor: torch.Tensor) -> None:
        """Count the tensor's storage as alive until it is freed, unless it is known already."""
        storage = tensor.untyped_storage()
        size = storage.nbytes()
        key = key_of(tensor)
        if size == 0 or key in self._references:
            return
        self._references[key] = weakref.ref(storage, self._forgetter(key, size))
        self.alive += size
        self.peak = max(self.peak, self.alive)

    def _forgetter(self, key: int, size: int) -> Callable[[Any], None]:
        def forget(reference: Any) -> None:  # noqa: ANN401 - a weak reference to a storage
            if self._references.get(key) is reference:
                del self._references[key]
                self.alive -= size

        return forget

    def ignore(self, tensor: torch.Tensor) -> None:
        """Never count this tensor's storage: a weight or a buffer."""
        storage = tensor.untyped_storage()
        self._references[key_of(tensor)] = weakref.ref(storage)
