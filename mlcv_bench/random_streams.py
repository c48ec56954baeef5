"""Random numbers by counting: the same on every engine, for any order of work and any number of workers.

SplitMix64 (Steele, Lea and Flood 2014): number `counter` of the stream `key` is a function of the two alone, in 64-bit
integer arithmetic that Python, numpy, numba and torch all do exactly. What takes a stream or a start's number takes an
array of uint64 too, and then returns an array.
"""

from __future__ import annotations

import math
from typing import Any

MASK = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15
FIRST = 0xBF58476D1CE4E5B9
SECOND = 0x94D049BB133111EB
HELD_OUT = 1 << 32
"""Added to a start's number for the fresh starts that a tuned rate is tried on."""


def mix(z: Any) -> Any:  # noqa: ANN401 - a whole number gives one, an array of uint64 an array
    """Scramble 64 bits."""
    z = z & MASK
    z = ((z ^ (z >> 30)) * FIRST) & MASK
    z = ((z ^ (z >> 27)) * SECOND) & MASK
    return z ^ (z >> 31)


def key(seed: int, *parts: Any) -> Any:  # noqa: ANN401 - as above
    """Return the stream of a seed and some numbers (a start, an epoch)."""
    state: Any = mix(seed + GOLDEN)
    for part in parts:
        state = mix(state ^ mix(part * GOLDEN + SECOND))
    return state


def uniform(stream: Any, counter: Any) -> Any:  # noqa: ANN401 - as above
    """Return number `counter` of a stream, in (0, 1)."""
    return (mix(stream + (counter * GOLDEN & MASK)) >> 11) * 2.0**-53 + 2.0**-54


def gaussian_pair(stream: int, counter: int) -> tuple[float, float]:
    """Return two independent standard normal numbers (Box and Muller 1958)."""
    radius = math.sqrt(-2.0 * math.log(uniform(stream, 2 * counter)))
    angle = 2.0 * math.pi * uniform(stream, 2 * counter + 1)
    return radius * math.cos(angle), radius * math.sin(angle)


def shuffled(stream: int, size: int) -> list[int]:
    """Return 0..size-1 in random order (Fisher and Yates, as Durstenfeld 1964)."""
    order = list(range(size))
    for i in range(size - 1, 0, -1):
        j = mix(stream + i * GOLDEN) % (i + 1)
        order[i], order[j] = order[j], order[i]
    return order
