"""What a forward pass is given: one batch of images, or tensors by name or position, bound to what a network takes.

One rule about the batch, everywhere: a shape alone is one image, and the batch comes before it. A named tensor, or one
that Python gave as an example, is whole: its first axis is the batch, and a batch of n repeats it n times.
"""

from __future__ import annotations

import inspect
import math
import re
import sys
import traceback
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from mlcv_bench.architectures.outputs import tensors_in
from mlcv_bench.architectures.request import NamedInput, Request, parse_named, parse_shape
from mlcv_bench.errors import InputMismatchError, UsageError
from mlcv_bench.names import first_line, near_misses
from mlcv_bench.records import shape_text

Example: TypeAlias = Tensor | Sequence[Tensor] | Mapping[str, Tensor | Sequence[Tensor]]
"""What Python may give in place of shapes: a tensor, several by position, or several (and lists of them) by name."""
InputLike: TypeAlias = str | Sequence[int] | Example
"""One image's shape, as 3x224x224 or (3, 224, 224), or example tensors."""


class Inputs(NamedTuple):
    """The arguments of a forward pass: tensors, dictionaries of tensors, lists of tensors."""

    positional: Sequence[Any]
    named: Mapping[str, Any]

    def into(self, network: Callable[..., Any]) -> Any:  # noqa: ANN401 - whatever a network returns
        """Run a network on them."""
        return network(*self.positional, **self.named)

    def tensors(self) -> list[Tensor]:
        """Return every tensor, in order."""
        return tensors_in([list(self.positional), dict(self.named)])

    def map(self, change: Callable[[Tensor], Tensor]) -> Inputs:
        """Return the same arguments with every tensor changed."""
        return Inputs(_mapped(list(self.positional), change), _mapped(dict(self.named), change))

    def real(self, dtype: torch.dtype) -> Inputs:
        """Return the same arguments with real numbers in another type; whole numbers and truths stay what they are."""
        return self.map(lambda tensor: tensor.to(dtype) if tensor.is_floating_point() else tensor)


def _mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:  # noqa: ANN401 - tensors, lists and dictionaries
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, dict):
        return {key: _mapped(part, change) for key, part in value.items()}
    return [_mapped(part, change) for part in value] if isinstance(value, list) else value


class Given(NamedTuple):
    """What Python gave: the shape of one image, None for the network's own, or tensors."""

    input: tuple[int, ...] | None = None
    tensors: tuple[NamedInput, ...] = ()


def read_inputs(given: InputLike | None, tensors: Sequence[str] = ()) -> Given:
    """Read the `input` and the texts in `tensors` of a Python function.

    Raises:
        UsageError: it is no shape and no example, or both are given.

    """
    if tensors:
        if given is not None:
            raise UsageError("input and tensors are two ways to say what a network takes; give one of them")
        return Given(tensors=tuple(map(parse_named, tensors)))
    if given is None:
        return Given()
    if isinstance(given, str):
        return Given(tensors=(parse_named(given),)) if ":" in given else Given(parse_shape(given))
    if not isinstance(given, Tensor | Mapping):
        parts = given if isinstance(given, Collection) else ()  # one number is no shape
        sizes = [size for size in parts if isinstance(size, int) and not isinstance(size, bool) and size > 0]
        if len(sizes) == len(parts) > 0:
            return Given(tuple(sizes))
        if not any(isinstance(part, Tensor) for part in parts):
            raise UsageError(f"input is (channels, height, width), whole numbers from 1 on, not {given!r}")
    return Given(
        tensors=tuple(
            NamedInput(name, str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape), tensor.detach())
            for name, tensor in _example(given)
        )
    )


def _example(given: Any) -> list[tuple[str, Tensor]]:  # noqa: ANN401 - whatever a caller gave
    """Return an example's tensors, each under its name; those by position have none."""
    if isinstance(given, Tensor):
        return [("", given)]
    parts = given.items() if isinstance(given, Mapping) else [("", tensor) for tensor in given]
    found = [
        (str(name), tensor)
        for name, part in parts
        for tensor in (part if name and isinstance(part, list | tuple) else [part])
    ]
    for name, tensor in found:
        if not isinstance(tensor, Tensor):
            what = f"{type(tensor).__name__}{f' under {name}' if name else ''}"
            raise UsageError(
                "input is the shape of one image, a tensor, several in a list, or a dictionary of tensors and lists of "
                f"tensors by their names in forward; not a {what}"
            )
    if not found:
        raise UsageError("input holds no tensor; give one, or the shape of one image")
    return found


def bound(request: Request, network: nn.Module, tensors: Sequence[Tensor]) -> Inputs:
    """Hand tensors, in the order of `request.tensors`, to the parameters of a network's forward by their names.

    Several of one name are a list. Names that `forward` does not have are the keys of the one dictionary that it takes,
    or go by position into its `*args`; so do tensors without a name.

    Raises:
        UsageError: `forward` takes no tensor of such a name, or another one too.

    """
    parameters = parameters_of(network)
    named: dict[str, Any] = {}
    for item, tensor in zip(request.tensors, tensors, strict=True):
        named.setdefault(item.name, []).append(tensor)
    if "" in named:
        return Inputs(tensors, {})
    named = {name: several if len(several) > 1 else several[0] for name, several in named.items()}
    kinds = {parameter.kind for parameter in parameters.values()}
    required = required_of(parameters)
    strange = [name for name in named if name not in parameters]
    if strange and inspect.Parameter.VAR_KEYWORD not in kinds:
        unlike = len(strange) == len(named) and not any(near_misses(name, parameters) for name in named)
        if unlike and len(required) == 1:
            return Inputs([named], {})
        if unlike and inspect.Parameter.VAR_POSITIONAL in kinds:
            return Inputs(list(named.values()), {})
        raise UsageError(f"{request.name} takes {', '.join(parameters)}, not '{strange[0]}'; rename that --input")
    if missing := [name for name in required if name not in named]:
        example = NamedInput(missing[0], request.tensors[0].dtype, request.tensors[0].shape)
        raise UsageError(
            f"{request.name} takes {' and '.join(missing)} too; name each with type and shape, as in --input {example}"
        )
    leading = [
        parameter.name
        for parameter in takewhile(
            lambda one: one.name in named and one.kind is not one.KEYWORD_ONLY, parameters.values()
        )
    ]
    return Inputs([named.pop(name) for name in leading], named)


def in_order(inputs: Inputs, network: nn.Module) -> list[Any]:
    """Return the arguments by position alone, for tools that know no names; what lies between has its default."""
    parameters = parameters_of(network)
    last = max((place for place, name in enumerate(parameters) if name in inputs.named), default=-1)
    between = list(parameters.items())[len(inputs.positional) : last + 1]
    return [*inputs.positional, *(inputs.named.get(name, parameter.default) for name, parameter in between)]


def parameters_of(network: nn.Module) -> Mapping[str, inspect.Parameter]:
    """Return what a network's forward takes; TorchScript has a schema in place of a signature."""
    if not isinstance(network, torch.jit.ScriptModule):
        return inspect.signature(network.forward).parameters
    forward: Any = network.forward  # a ScriptMethod, which torch leaves without types
    return {
        argument.name: inspect.Parameter(
            argument.name,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            default=argument.default_value if argument.has_default_value() else inspect.Parameter.empty,
        )
        for argument in forward.schema.arguments[1:]
    }


def required_of(parameters: Mapping[str, inspect.Parameter]) -> list[str]:
    """Return the names of the parameters that a call has to give."""
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [
        name
        for name, parameter in parameters.items()
        if parameter.default is parameter.empty and parameter.kind not in variable
    ]


def drawn(
    request: Request,
    network: nn.Module,
    batch: int,
    draw: Callable[[tuple[int, ...], torch.dtype], Tensor],
    *,
    real: torch.dtype = torch.float32,
) -> Inputs:
    """Return the arguments of a forward pass: a batch of images of type `real`, or the tensors that the request names.

    Args:
        request: what is given; the examples that Python gave are taken as they are.
        network: whose forward names the tensors.
        batch: images, or how often each tensor is repeated along its first axis.
        draw: makes a tensor of a shape and a type.
        real: the type of images.

    Raises:
        UsageError: `forward` takes other tensors, or no tensor can be so large.

    """
    items = request.tensors
    if not items:
        required = required_of(parameters_of(network))
        if len(required) > 1:
            names = " ".join(f"--input {name}:float32:1x{request.input_text}" for name in required)
            raise UsageError(
                f"{request.name} takes {', '.join(required)}, not one image; name each with its type and whole shape, "
                f"as in {names}"
            )
        items = (NamedInput("", str(real).removeprefix("torch."), (1, *request.input)),)
    tensors = []
    for item in items:
        shape, dtype = (*(size * batch for size in item.shape[:1]), *item.shape[1:]), getattr(torch, item.dtype)
        if math.prod(shape) * dtype.itemsize > sys.maxsize:
            raise UsageError(
                f"an input of {shape_text(shape)}, batch included, is larger than any tensor; ask for less"
            )
        tensors.append(draw(shape, dtype) if item.value is None else repeated(item.value, batch))
    return bound(replace(request, tensors=items), network, tensors)


def repeated(tensor: Tensor, times: int) -> Tensor:
    """Copy a tensor so many times along its first axis; one without an axis is copied once."""
    return tensor.repeat(times, *(1 for _ in tensor.shape[1:])) if tensor.dim() else tensor.clone()


def whole_numbers(network: nn.Module, shape: tuple[int, ...], dtype: torch.dtype, source: torch.Generator) -> Tensor:
    """Draw whole numbers for which every table of embeddings in a network has a row; zeros where there is no table.

    Truths are all false: a mask that hides nothing.
    """
    tables = tables_of(network)
    rows = 1 if dtype == torch.bool or not tables else min(*tables, torch.iinfo(dtype).max)
    return torch.randint(rows, shape, generator=source).to(dtype)


def tables_of(network: nn.Module) -> list[int]:
    """Return how many rows each table of embeddings in a network has."""
    return [part.num_embeddings for part in network.modules() if isinstance(part, nn.Embedding | nn.EmbeddingBag)]


CHANNELS = re.compile(r"to have (\d+) channels, but got (\d+) channels")
OWN_FAULTS = (NameError, AttributeError, ImportError, NotImplementedError)
"""Errors that lie in what a network's code says, not in the shape that it was given."""


def cannot_take(request: Request, error: BaseException, *, dictionary: bool = False) -> UsageError:
    """Return what says why a forward pass failed, and what to type next; `dictionary` says that it was given one."""
    text = first_line(error)
    channels = CHANNELS.search(text)
    if channels and channels[2] == str(request.input[0] if request.input else None):
        right = shape_text((int(channels[1]), *request.input[1:]))
        return InputMismatchError(
            f"{request.name} takes images of {channels[1]} channels, not {channels[2]}; try --input {right}"
        )
    why = f"{request.name} cannot take an input of {request.input_text}: {type(error).__name__}: {text}"
    if dictionary or (request.tensors and isinstance(error, KeyError)):
        return UsageError(
            f"{why}; it was given one dictionary, as its forward names no such parameter: check the names"
        )
    frame = traceback.extract_tb(error.__traceback__)[-1:]
    own = [one for one in frame if not Path(one.filename).is_relative_to(Path(torch.__file__).parent)]
    if own and (isinstance(error, OWN_FAULTS) or (own[0].line or "").startswith("raise")):
        where = f"{Path(own[0].filename).name}, line {own[0].lineno}"
        return UsageError(f"{request.name} raises {type(error).__name__} in its forward pass ({where}): {text}")
    return UsageError(f"{why}; try another --input")
