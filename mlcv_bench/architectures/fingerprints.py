"""Fingerprints of tensors: shape, norm and projections on seeded directions, by which two are held against each other.

Numbers come by counting (`random_streams`), so that neither torch's version nor the machine is part of a fingerprint.
"""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING

from mlcv_bench import random_streams

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from torch import Tensor

Fingerprint = tuple[list[int], float, list[float]]
"""Shape, norm and projections, as JSON keeps them."""
PROJECTIONS = 16
PIECE = 2**18
"""Elements at a time, so that a fingerprint takes little memory beside its tensor's."""
SIGNS = random_streams.key(0, 1)


def fingerprint_of(*tensors: Tensor) -> Fingerprint | None:
    """Return the fingerprint of a tensor, or of several one after the other; None where a value is not finite.

    Each direction is of random signs on every sixteenth element: the sum of what the projections of two tensors differ
    by, squared, has the square of the norm of their difference as its mean (Charikar, Chen and Farach-Colton 2002).
    """
    import numpy as np  # noqa: PLC0415 - `comparing` reads fingerprints without
    import torch  # noqa: PLC0415 - likewise

    start, square = 0, 0.0
    projections = np.zeros(PROJECTIONS)
    for tensor in tensors:
        real = torch.view_as_real(tensor.detach()) if tensor.is_complex() else tensor.detach()
        flat = real.to("cpu", torch.float64).flatten().numpy()
        for place in range(0, flat.size, PIECE):
            piece = flat[place : place + PIECE]
            if not np.isfinite(piece).all():
                return None
            places = np.arange(start + place, start + place + piece.size, dtype=np.uint64)
            signed = piece * np.where(_scrambled(SIGNS, places) >> np.uint64(63), 1.0, -1.0)
            projections += np.bincount((places % PROJECTIONS).astype(np.int64), signed, PROJECTIONS)
            square += float(piece @ piece)
        start += flat.size
    shape = [*tensors[0].shape] if len(tensors) == 1 else [start]
    return shape, math.sqrt(square), projections.tolist()


def distance(one: Fingerprint, other: Fingerprint) -> float:
    """Return by how much two tensors differ, about, as a share of the norm of the first; infinite for other shapes."""
    if list(one[0]) != list(other[0]) or len(one[2]) != len(other[2]):
        return math.inf
    apart = max(math.dist(one[2], other[2]), abs(one[1] - other[1]))
    return apart / one[1] if one[1] else math.inf if apart else 0.0


def counted(shape: Sequence[int], seed: int, name: str) -> Tensor:
    """Return numbers of mean 0 and variance 1, evenly distributed, that the seed and the name alone decide."""
    import numpy as np  # noqa: PLC0415 - as above
    import torch  # noqa: PLC0415 - as above

    word = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big")
    numbers = np.empty(math.prod(shape))
    for place in range(0, numbers.size, PIECE):
        places = np.arange(place, min(place + PIECE, numbers.size), dtype=np.uint64)
        bits = _scrambled(random_streams.key(seed, word), places)
        numbers[place : place + PIECE] = ((bits >> np.uint64(11)) * 2.0**-53 - 0.5) * math.sqrt(12.0)
    return torch.from_numpy(numbers).reshape(tuple(shape))


def _scrambled(stream: int, places: np.ndarray) -> np.ndarray:
    """Return the numbers of a stream, 64 bits each, at these places."""
    import numpy as np  # noqa: PLC0415 - as above

    found: np.ndarray = random_streams.mix(np.uint64(stream) + places * np.uint64(random_streams.GOLDEN))
    return found
