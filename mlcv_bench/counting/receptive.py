"""Receptive fields: how many input pixels along each axis an activation can see, followed through the operators.

What an index sees repeats: after so many indices it is the same, so many pixels further. So every operator is one rule,
which old indices a new one sees, and a field holds at any place of any image. Edges are not looked at, norms count as
if their statistics were constants, and along an axis that an operator mixes whole, everything is seen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from mlcv_bench.counting.operators import ATTENTIONS, tensors_of
from mlcv_bench.counting.shapes import argument, spread

if TYPE_CHECKING:
    from collections.abc import Iterable


class SeenPixels(NamedTuple):
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


class Reach(NamedTuple):
    """How an operator goes along one axis: new index i sees the old indices `sees(i)`; i + new sees them + old."""

    new: int
    old: int
    sees: Callable[[int], Iterable[int]]

    def after(self, line: SeenPixels) -> SeenPixels:
        """Return what the new indices see."""
        period = len(line.lows)
        times = period // math.gcd(period, self.old)
        ends = [line.over(self.sees(index)) for index in range(self.new * times)]
        lows, highs = tuple(low for low, _ in ends), tuple(high for _, high in ends)
        return SeenPixels(lows, highs, line.shift * self.old * times // period)


class Field(NamedTuple):
    """What a tensor's elements see: a line for every axis of the image, None where it is the whole axis.

    `dims` are the tensor's dimensions, each a product of factors (size, axis of the image or None) without ones.
    """

    dims: tuple[tuple[tuple[int, int | None], ...], ...]
    lines: tuple[SeenPixels | None, ...]

    def blurred(self, places: Iterable[int]) -> Field:
        """Return the field after the elements along these dimensions were mixed."""
        places = {place % len(self.dims) for place in places}
        mixed = {axis for place in places for _, axis in self.dims[place]}
        return Field(
            tuple(tuple((size, None if axis in mixed else axis) for size, axis in dim) for dim in self.dims),
            tuple(None if axis in mixed else line for axis, line in enumerate(self.lines)),
        )

    def stepped(self, steps: dict[int, Reach], shape: Sequence[int]) -> Field:
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


def enlarging(times: int) -> Reach:
    """Repeat every index."""
    return Reach(times, 1, lambda i: (i // times,))


def grouping(times: int) -> Reach:
    """Put so many indices into one."""
    return Reach(1, times, lambda i: range(i * times, (i + 1) * times))


def picking(start: int, step: int = 1) -> Reach:
    """Take every step-th index."""
    return Reach(1, step, lambda i: (start + i * step,))


def sliding(kernel: int, stride: int, padding: int, dilation: int) -> Reach:
    """Slide a window."""
    return Reach(1, stride, lambda i: range(i * stride - padding, i * stride - padding + kernel * dilation, dilation))


def spreading(kernel: int, stride: int, padding: int, dilation: int) -> Reach:
    """Spread a window, as a transposed convolution does."""
    places = range(0, kernel * dilation, dilation)
    return Reach(stride, 1, lambda i: [(i + padding - k) // stride for k in places if (i + padding - k) % stride == 0])


def adapting(old: int, new: int) -> Reach:
    """Pool from one size to another: output i reads from floor(i old / new) to ceil((i + 1) old / new)."""
    return Reach(*ratio(old, new), lambda i: range(i * old // new, -(-(i + 1) * old // new)))


def interpolating(old: int, new: int, reach: int, *, corners: bool) -> Reach:
    """Interpolate: the `reach` nearest indices on each side, or the index itself where it is met exactly."""
    if not reach:
        return Reach(*ratio(old, new), lambda i: (i * old // new,))
    if corners:
        old, new = old - 1, max(new - 1, 1)

    def sees(i: int) -> range:
        place, beyond = divmod(i * old, new) if corners else divmod((2 * i + 1) * old - new, 2 * new)
        return range(place + 1 - reach, place + reach + 1) if beyond else range(place, place + 1)

    return Reach(*ratio(old, new), sees)


def ratio(old: int, new: int) -> tuple[int, int]:
    """Return after how many new indices how many old ones are passed."""
    common = math.gcd(old, new)
    return new // common, old // common


def constant(line: SeenPixels) -> SeenPixels:
    """Return what the only index sees."""
    low, high = line.at(0)
    return SeenPixels((low,), (high,), 0)


def hull(one: SeenPixels | None, other: SeenPixels | None) -> SeenPixels | None:
    """Return what either sees; of two that go at different speeds, the wider one."""
    if one is None or other is None:
        return None
    if one.shift * len(other.lows) != other.shift * len(one.lows):
        return max(one, other, key=lambda line: (line.size, line.shift))
    period = math.lcm(len(one.lows), len(other.lows))
    ends = [(*one.at(i), *other.at(i)) for i in range(period)]
    lows, highs = tuple(min(a, b) for a, _, b, _ in ends), tuple(max(a, b) for _, a, _, b in ends)
    return SeenPixels(lows, highs, one.shift * period // len(one.lows))


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


Rule = Callable[[Sequence[Any], torch.Tensor, int], Field]
"""From an operator's arguments, one of its outputs, and which one that is, to what the output sees."""


def start(image: torch.Tensor) -> None:
    """Let every element of the input see itself alone; what follows batch and channels are its axes."""
    axes = max(image.dim() - 2, 1)
    dims = tuple(
        ((size, place - image.dim() + axes if place >= image.dim() - axes else None),) if size > 1 else ()
        for place, size in enumerate(image.shape)
    )
    remember(image, Field(dims, (SeenPixels((0,), (0,), 1),) * axes))


def size_of(tensor: torch.Tensor | None) -> int | None:
    """Return the longest side of the field in input pixels, None when it is the whole image or unknown."""
    field = recall(tensor)
    if field is None:
        return 0 if tensor is not None else None
    sizes = [line.size for line in field.lines if line is not None]
    return max(sizes) if len(sizes) == len(field.lines) else None


def follow(name: str, args: Sequence[Any], out: Any) -> None:  # noqa: ANN401 - operators return anything
    """Give an operator's outputs the field that its inputs and its window make."""
    if not any(recall(tensor) for tensor in tensors_of(args)):
        return
    rule = RULES.get(name, pointwise)
    outs = (out,) if isinstance(out, torch.Tensor) else out if isinstance(out, tuple | list) else ()
    for position, tensor in enumerate(outs):
        if isinstance(tensor, torch.Tensor):
            remember(tensor, rule(args, tensor, position))


def remember(tensor: torch.Tensor, field: Field) -> None:
    """Write the field on the tensor."""
    tensor.mlcv_receptive_field = field  # type: ignore[attr-defined] # a tensor takes attributes


def recall(tensor: torch.Tensor | None) -> Field | None:
    """Read the field of a tensor; one that came from no image has none."""
    field: Field | None = getattr(tensor, "mlcv_receptive_field", None)
    return field


def of(tensor: torch.Tensor) -> Field:
    """Return the field of a tensor; one that came from no image sees nothing of it, and is not asked for."""
    field = recall(tensor)
    assert field is not None  # noqa: S101 - rules of one tensor are called for tensors of the image alone
    return field


def all_mixed(args: Sequence[Any], out: torch.Tensor) -> Field:
    """Let every element see the whole image that some argument came from."""
    return everything(next(field for tensor in tensors_of(args) if (field := recall(tensor))), out.shape)


def pointwise(args: Sequence[Any], out: torch.Tensor, position: int) -> Field:
    """Combine the elements of like places; where shapes do not fit together, everything may be mixed."""
    fields = []
    for tensor in tensors_of(args):
        field = recall(tensor)
        if field is None:
            continue
        missing = out.dim() - tensor.dim()
        if missing < 0 or any(size not in {1, out.shape[missing + i]} for i, size in enumerate(tensor.shape)):
            return everything(field, out.shape)
        fields.append(Field(((),) * missing + field.dims, field.lines))
    return merged(fields)


def along_last(image: torch.Tensor, out: torch.Tensor, steps: Sequence[Reach]) -> Field:
    """Go along the last dimensions."""
    first = image.dim() - len(steps)
    return of(image).stepped(dict(enumerate(steps, first)), out.shape)


def convolution(args: Sequence[Any], out: torch.Tensor, position: int) -> Field:
    """Mix the channels, and slide or spread a window."""
    image, weight, transposed = args[0], args[1], bool(args[6])
    if recall(image) is None:
        return all_mixed(args, out)
    kernel = weight.shape[2:]
    windows = zip(kernel, *(spread(values, len(kernel)) for values in (args[3], args[4], args[5])), strict=True)
    step = spreading if transposed else sliding
    steps = {place: step(*window) for place, window in enumerate(windows, 2) if window[:3] != (1, 1, 0)}
    return of(image).blurred([1]).with_dim(1, ((out.shape[1], None),)).stepped(steps, out.shape)


def pooling(axes: int, dilation_at: int | None) -> Rule:
    """Return the rule of a pooling with windows."""

    def rule(args: Sequence[Any], out: torch.Tensor, position: int) -> Field:
        kernel = spread(args[1], axes)
        stride = spread(argument(args, 2, []) or kernel, axes)
        padding = spread(argument(args, 3, [0]), axes)
        dilation = spread(argument(args, dilation_at, [1]) if dilation_at else [1], axes)
        return along_last(args[0], out, [*map(sliding, kernel, stride, padding, dilation)])

    return rule


def adaptive(args: Sequence[Any], out: torch.Tensor, position: int) -> Field:
    """Pool to a size; to size 1 all is pooled."""
    axes = len(args[1])
    sizes = list(zip(args[0].shape[-axes:], out.shape[-axes:], strict=True))
    whole = [place - axes for place, (old, new) in enumerate(sizes) if new == 1 < old]
    field = of(args[0]).blurred(whole)
    return field.stepped(dict(enumerate((adapting(*size) for size in sizes), out.dim() - axes)), out.shape)


def resampling(reach: int) -> Rule:
    """Return the rule of an interpolation with so many neighbours on each side, 0 for the nearest index alone."""

    def rule(args: Sequence[Any], out: torch.Tensor, position: int) -> Field:
        sizes = zip(args[0].shape[2:], out.shape[2:], strict=True)
        corners = bool(reach and args[2])
        return along_last(args[0], out, [interpolating(*size, reach, corners=corners) for size in sizes])

    return rule


def reduction(args: Sequence[Any], out: torch.Tensor, position: int) -> Field:
    """Mix whole dimensions, which go, or stay with size 1."""
    image = args[0]
    places = listed(argument(args, 1, None)) or range(image.dim())
    return dropped(of(image).blurred(places), {place % image.dim() for place in places}, out)


def dropped(field: Field, places: set[int], out: torch.Tensor) -> Field:
    """Take dimensions away, or leave them empty where the output keeps them."""
    keeps = out.dim() == len(field.dims)
    dims = (() if place in places else dim for place, dim in enumerate(field.dims) if keeps or place not in places)
    return Field(tuple(dims), field.lines)


def mixing(args: Sequence[Any], out: torch.Tensor, position: int) -> Field:
    """Mix one dimension without an end of it: softmax, a running sum, turned or flipped images."""
    return of(args[0]).blurred(listed(args[-1] if isinstance(args[-1], list | tuple) else args[1]))


def listed(places: int | Sequence[int] | None) -> Sequence[int]:
    """Return dimensions as a list: one of them, several, or none."""
    return [places] if isinstance(places, int) else places or []


def product(left: int) -> Rule:
    """Return the rule of a matrix product whose factors are arguments `left` and the next."""

    def rule(args: Sequence[Any], out: torch.Tensor, position: int) -> Field:
        one, other = recall(args[left]), recall(args[left + 1])
        fields = []
        if one is not None:
            dims = one.blurred([-1])
            fields.append(Field((*dims.dims[:-1], ()), dims.lines))
        if other is not None and args[left + 1].dim() > 1:
            dims = other.blurred([-2])
            fields.append(Field((*dims.dims[:-2], (), dims.dims[-1]), dims.lines))
        if not fields or any(len(field.dims) != out.dim() for field in fields):
            return all_mixed(args, out)
        return merged(fields)

    return rule


def attention(args: Sequence[Any], out: torch.Tensor, position: int) -> Field:
    """Let every query see all keys and values: shapes (..., tokens, features)."""
    if position:
        return all_mixed(args, out)
    mixed = ((-1,), (-1, -2), (-2,))
    fields = [field.blurred(places) for tensor, places in zip(args, mixed, strict=False) if (field := recall(tensor))]
    return merged(fields)


def view(args: Sequence[Any], out: torch.Tensor, position: int) -> Field:
    """Show the same elements under another shape."""
    return of(args[0]).viewed(out.shape)


def reorder(args: Sequence[Any], out: torch.Tensor, position: int) -> Field:
    """Change the order of dimensions: permute, transpose, t."""
    order = list(range(args[0].dim()))
    if len(args) == 2:  # noqa: PLR2004 - permute has the whole order, transpose two places, t none
        order = [place % len(order) for place in args[1]]
    elif len(order) > 1:
        one, other = args[1:3] if len(args) > 1 else (0, 1)
        order[one], order[other] = order[other], order[one]
    field = of(args[0])
    return Field(tuple(field.dims[place] for place in order), field.lines)


def cut(args: Sequence[Any], out: torch.Tensor, position: int) -> Field:
    """Take a slice: input, dimension, start, end, step."""
    place = argument(args, 1, 0) % out.dim()
    start = slice(argument(args, 2, None), None).indices(args[0].shape[place])[0]
    return of(args[0]).stepped({place: picking(start, argument(args, 4, 1))}, out.shape)


def parts(args: Sequence[Any], out: torch.Tensor, position: int) -> Field:
    """Split: input, size or sizes, dimension."""
    place = argument(args, 2, 0) % out.dim()
    start = position * args[1] if isinstance(args[1], int) else sum(args[1][:position])
    return of(args[0]).stepped({place: picking(start)}, out.shape)


def selection(args: Sequence[Any], out: torch.Tensor, position: int) -> Field:
    """Take one index of a dimension away from the others: select (input, dimension, index), unbind."""
    image = args[0]
    place, index = argument(args, 1, 0) % image.dim(), argument(args, 2, position)
    shape = [1 if i == place else size for i, size in enumerate(image.shape)]
    return dropped(of(image).stepped({place: picking(index % image.shape[place])}, shape), {place}, out)


def padding(args: Sequence[Any], out: torch.Tensor, position: int) -> Field:
    """Pad from the last dimension on: input, (left, right, top, bottom ...)."""
    image, sizes = args[0], args[1]
    steps = {image.dim() - 1 - i: picking(-before) for i, before in enumerate(sizes[::2]) if sizes[2 * i : 2 * i + 2]}
    return of(image).stepped(steps, out.shape)


def joined(args: Sequence[Any], out: torch.Tensor, position: int) -> Field:
    """Concatenate along a dimension; along an axis of the image places are no places any more."""
    place = argument(args, 1, 0) % out.dim()
    fields = [
        field.blurred([place]).with_dim(place, ((out.shape[place], None),))
        for tensor in args[0]
        if (field := recall(tensor)) is not None and len(field.dims) == out.dim()
    ]
    return merged(fields) if fields else pointwise(args, out, 0)


def stacked(args: Sequence[Any], out: torch.Tensor, position: int) -> Field:
    """Stack along a new dimension."""
    place = argument(args, 1, 0) % out.dim()
    fields = [field for tensor in args[0] if (field := recall(tensor)) is not None]
    new = ((len(args[0]), None),)
    return merged([Field((*dims[:place], new, *dims[place:]), lines) for dims, lines in fields])


def shuffled(*, into_channels: bool) -> Rule:
    """Return the rule of pixels that become channels, or come back from them."""

    def rule(args: Sequence[Any], out: torch.Tensor, position: int) -> Field:
        step = (grouping if into_channels else enlarging)(args[1])
        field = of(args[0]).blurred([-3])
        place = len(field.dims) - 3
        return field.with_dim(place, ((out.shape[-3], None),)).stepped({place + 1: step, place + 2: step}, out.shape)

    return rule


def embedding(args: Sequence[Any], out: torch.Tensor, position: int) -> Field:
    """Look every index up in a table: weight, indices."""
    field = recall(args[1])
    if field is None:
        return everything(of(args[0]), out.shape)
    return Field((*field.dims, ((out.shape[-1], None),)), field.lines)


RULES: dict[str, Rule] = {
    "convolution": convolution,
    **{f"max_pool{axes}d_with_indices": pooling(axes, 4) for axes in (2, 3)},
    **{f"avg_pool{axes}d": pooling(axes, None) for axes in (2, 3)},
    **{f"_adaptive_avg_pool{axes}d": adaptive for axes in (1, 2, 3)},
    **{f"adaptive_max_pool{axes}d": adaptive for axes in (1, 2, 3)},
    **{f"upsample_nearest{axes}d": resampling(0) for axes in (1, 2, 3)},
    **dict.fromkeys(("upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d"), resampling(1)),
    "upsample_bicubic2d": resampling(2),
    **dict.fromkeys(("mean", "sum", "amax", "amin", "max", "min", "var", "var_mean", "std", "prod"), reduction),
    # The order of the norm stands before the dimensions.
    "linalg_vector_norm": lambda args, out, position: reduction((args[0], *args[2:]), out, position),
    **dict.fromkeys(("_softmax", "_safe_softmax", "_log_softmax", "cumsum", "flip", "roll"), mixing),
    "mm": product(0),
    "bmm": product(0),
    "linear": product(0),
    "addmm": product(1),
    "baddbmm": product(1),
    **dict.fromkeys((f"_scaled_dot_product_{kind}" for kind in ATTENTIONS), attention),
    **dict.fromkeys(("view", "_unsafe_view", "reshape", "_reshape_alias", "unsqueeze", "squeeze"), view),
    **dict.fromkeys(("permute", "transpose", "t"), reorder),
    "slice": cut,
    "split": parts,
    "split_with_sizes": parts,
    "select": selection,
    "unbind": selection,
    **dict.fromkeys(
        ("constant_pad_nd", *(f"{kind}_pad{axes}d" for kind in ("reflection", "replication") for axes in (1, 2, 3))),
        padding,
    ),
    "cat": joined,
    "stack": stacked,
    "embedding": embedding,
    "pixel_shuffle": shuffled(into_channels=False),
    "pixel_unshuffle": shuffled(into_channels=True),
}
"""What each operator that is not element by element does to the fields."""
