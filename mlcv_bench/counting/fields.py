"""What the elements of a tensor see of an image, as numbers that hold at any place of any image.

What an index sees repeats: after so many indices it is the same, so many pixels further. So every step of a network is
one rule, which old indices a new one sees. Edges are not looked at.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence


class Line(NamedTuple):
    """What index i sees along one axis of the image: pixels lows[i] to highs[i], for one period of indices.

    len(lows) indices further it is the same, `shift` pixels on. Nothing is seen where the low end is above the high.
    """

    lows: tuple[float, ...]
    highs: tuple[float, ...]
    shift: int

    def at(self, index: int) -> tuple[float, float]:
        """Return the first and the last pixel that an index sees."""
        turns, place = divmod(index, len(self.lows))
        return self.lows[place] + turns * self.shift, self.highs[place] + turns * self.shift

    def over(self, indices: Iterable[int]) -> tuple[float, float]:
        """Return the first and the last pixel that some of these indices see."""
        ends = [self.at(index) for index in indices]
        return min((low for low, _ in ends), default=math.inf), max((high for _, high in ends), default=-math.inf)

    @property
    def size(self) -> int:
        """The most pixels that an index sees."""
        return int(max(0, *(high - low + 1 for low, high in zip(self.lows, self.highs, strict=True))))


class Step(NamedTuple):
    """How an operator goes along one axis: new index i sees the old indices `sees(i)`; i + new sees them + old."""

    new: int
    old: int
    sees: Callable[[int], Iterable[int]]

    def after(self, line: Line) -> Line:
        """Return what the new indices see."""
        period = len(line.lows)
        times = period // math.gcd(period, self.old)
        ends = [line.over(self.sees(index)) for index in range(self.new * times)]
        lows, highs = tuple(low for low, _ in ends), tuple(high for _, high in ends)
        return Line(lows, highs, line.shift * self.old * times // period)


class Field(NamedTuple):
    """What a tensor's elements see: a line for every axis of the image, None where it is the whole axis.

    `dims` are the tensor's dimensions, each a product of factors (size, axis of the image or None) without ones.
    """

    dims: tuple[tuple[tuple[int, int | None], ...], ...]
    lines: tuple[Line | None, ...]

    def blurred(self, places: Iterable[int]) -> Field:
        """Return the field after the elements along these dimensions were mixed."""
        places = {place % len(self.dims) for place in places}
        mixed = {axis for place in places for _, axis in self.dims[place]}
        return Field(
            tuple(tuple((size, None if axis in mixed else axis) for size, axis in dim) for dim in self.dims),
            tuple(None if axis in mixed else line for axis, line in enumerate(self.lines)),
        )

    def stepped(self, steps: dict[int, Step], shape: Sequence[int]) -> Field:
        """Return the field after steps along some dimensions, which gave the tensor this shape."""
        field = self
        for place, step in steps.items():
            factors = field.dims[place]
            axes = [axis for _, axis in factors if axis is not None]
            if len(axes) != 1 or factors[0][1] is None:
                # An axis below another factor comes back again and again: no line any more.
                field = field.blurred([place])
                field = field.with_dim(place, ((shape[place], None),))
                continue
            line = field.lines[axes[0]]
            finer = math.prod(size for size, axis in factors if axis is None)
            if line is not None:
                line = step.after(enlarging(finer).after(line))
                line = line if shape[place] > 1 else constant(line)
            lines = tuple(line if axis == axes[0] else other for axis, other in enumerate(field.lines))
            field = Field(field.dims, lines).with_dim(place, ((shape[place], axes[0]),))
        return field

    def with_dim(self, place: int, factors: tuple[tuple[int, int | None], ...]) -> Field:
        """Return the field with other factors of one dimension."""
        dims = list(self.dims)
        dims[place] = tuple(factor for factor in factors if factor[0] > 1)
        return Field(tuple(dims), self.lines)

    def viewed(self, shape: Sequence[int]) -> Field:
        """Return the field of the same elements under another shape; a split axis is followed by its coarse part."""
        left = [factor for dim in self.dims for factor in dim]
        lines = list(self.lines)
        dims = []
        for size in shape:
            dim = []
            while size > 1 and left:
                have, axis = left.pop(0)
                rest = have // math.gcd(have, size)
                if rest > 1:
                    if have % size:
                        return everything(self, shape)
                    line = lines[axis] if axis is not None else None
                    if axis is not None and line is not None:
                        lines[axis] = grouping(rest).after(line)
                    left.insert(0, (rest, None))
                dim.append((have // rest, axis))
                size //= have // rest  # noqa: PLW2901 - what is still to be found
            dims.append(tuple(dim))
        return Field(tuple(dims), tuple(lines))


def enlarging(times: int) -> Step:
    """Repeat every index."""
    return Step(times, 1, lambda i: (i // times,))


def grouping(times: int) -> Step:
    """Put so many indices into one."""
    return Step(1, times, lambda i: range(i * times, (i + 1) * times))


def picking(start: int, step: int = 1) -> Step:
    """Take every step-th index."""
    return Step(1, step, lambda i: (start + i * step,))


def sliding(kernel: int, stride: int, padding: int, dilation: int) -> Step:
    """Slide a window."""
    return Step(1, stride, lambda i: range(i * stride - padding, i * stride - padding + kernel * dilation, dilation))


def spreading(kernel: int, stride: int, padding: int, dilation: int) -> Step:
    """Spread a window, as a transposed convolution does."""
    places = range(0, kernel * dilation, dilation)
    return Step(stride, 1, lambda i: [(i + padding - k) // stride for k in places if (i + padding - k) % stride == 0])


def adapting(old: int, new: int) -> Step:
    """Pool from one size to another: output i reads from floor(i old / new) to ceil((i + 1) old / new)."""
    return Step(*ratio(old, new), lambda i: range(i * old // new, -(-(i + 1) * old // new)))


def interpolating(old: int, new: int, reach: int, *, corners: bool) -> Step:
    """Interpolate: the `reach` nearest indices on each side, or the index itself where it is met exactly."""
    if not reach:
        return Step(*ratio(old, new), lambda i: (i * old // new,))
    if corners:
        old, new = old - 1, max(new - 1, 1)

    def sees(i: int) -> range:
        place, beyond = divmod(i * old, new) if corners else divmod((2 * i + 1) * old - new, 2 * new)
        return range(place + 1 - reach, place + reach + 1) if beyond else range(place, place + 1)

    return Step(*ratio(old, new), sees)


def ratio(old: int, new: int) -> tuple[int, int]:
    """Return after how many new indices how many old ones are passed."""
    common = math.gcd(old, new)
    return new // common, old // common


def constant(line: Line) -> Line:
    """Return what the only index sees."""
    low, high = line.at(0)
    return Line((low,), (high,), 0)


def hull(one: Line | None, other: Line | None) -> Line | None:
    """Return what either sees; of two that go at different speeds the wider stands for both."""
    if one is None or other is None:
        return None
    if one.shift * len(other.lows) != other.shift * len(one.lows):
        return max(one, other, key=lambda line: (line.size, line.shift))
    period = math.lcm(len(one.lows), len(other.lows))
    ends = [(*one.at(i), *other.at(i)) for i in range(period)]
    lows, highs = tuple(min(a, b) for a, _, b, _ in ends), tuple(max(a, b) for _, a, _, b in ends)
    return Line(lows, highs, one.shift * period // len(one.lows))


def everything(field: Field, shape: Sequence[int]) -> Field:
    """Return a field that sees the whole image."""
    return Field(tuple(((size, None),) if size > 1 else () for size in shape), (None,) * len(field.lines))


def merged(fields: Sequence[Field]) -> Field:
    """Return the field of tensors that were combined element by element, dimension by dimension."""
    dims = []
    blurred = set()
    places: dict[int, int] = {}
    for place, found in enumerate(zip(*(field.dims for field in fields), strict=True)):
        bearing = list(dict.fromkeys(dim for dim in found if any(axis is not None for _, axis in dim)))
        axes = {axis for dim in bearing for _, axis in dim if axis is not None}
        if len(bearing) > 1:
            blurred |= axes
        blurred |= {axis for axis in axes if places.setdefault(axis, place) != place}
        dims.append(bearing[0] if bearing else max(found, key=lambda dim: math.prod(size for size, _ in dim)))
    lines = list(fields[0].lines)
    for field in fields[1:]:
        lines = [hull(one, other) for one, other in zip(lines, field.lines, strict=True)]
    dims = [tuple((size, None if axis in blurred else axis) for size, axis in dim) for dim in dims]
    return Field(tuple(dims), tuple(None if axis in blurred else line for axis, line in enumerate(lines)))
