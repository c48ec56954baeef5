"""A network to be counted: built or copied to the meta device, fed with what it takes, watched while it runs."""

from __future__ import annotations

import inspect
import math
import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from mlcv_bench.architectures import catalog
from mlcv_bench.architectures.build import build, load
from mlcv_bench.architectures.request import DEFAULT_INPUT, NamedInput, Request
from mlcv_bench.counting import isolation, tracing
from mlcv_bench.errors import UsageError
from mlcv_bench.names import first_line, near_misses, user_code
from mlcv_bench.records import shape_text
from mlcv_bench.torch_private import uncompiled

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Inputs = tuple[list[torch.Tensor | dict[str, torch.Tensor]], dict[str, torch.Tensor]]
"""Positional and keyword arguments of a forward pass."""


@dataclass
class Network:
    """One network of one request; `module` is the caller's own, if it was given built, and is never touched."""

    request: Request
    module: nn.Module | None = None

    @classmethod
    def of(
        cls,
        subject: str | Request | nn.Module,
        *,
        input: tuple[int, ...] | None = None,  # noqa: A002 - the word of the command line
        tensors: tuple[NamedInput, ...] = (),
        options: Mapping[str, Any] | None = None,
    ) -> Network:
        """Take a name, a specification, a request or a module.

        Raises:
            UsageError: unknown name or option, an impossible input, or a network that cannot be counted.

        """
        if isinstance(subject, nn.Module):
            if options:
                raise UsageError(f"{type(subject).__name__} is built already and takes no options")
            module = uncompiled(subject)
            shape = () if tensors else input or DEFAULT_INPUT
            return cls(Request(type(module).__name__, input=shape, tensors=tensors, built=True), module)
        if isinstance(subject, Request):
            return cls(subject)
        return cls(Request.of(subject, input=input, tensors=tensors, options=options))

    @property
    def built_in(self) -> bool:
        """Whether it is one of the catalogue's networks, none of which makes tensors in its forward pass."""
        return self.module is None and catalog.is_built_in(self.request.name)

    def on_meta(self) -> nn.Module:
        """Return a fresh copy without values, on the meta device; TorchScript, which cannot be there, as it is."""
        module = self.built_without_values() if self.module is None else self.module
        isolation.refuse_quantised(module)
        without_values = all(tensor.is_meta for tensor in (*module.parameters(), *module.buffers()))
        if isolation.is_script(module):
            self.module = self.module if without_values else module
            return module
        own = self.module is None and without_values and not isolation.has_compiled(module)
        return module if own else isolation.meta_copy(module)

    def on_cpu(self) -> nn.Module:
        """Return a fresh copy with values, on the CPU."""
        module = self.built() if self.module is None else self.module
        isolation.refuse_quantised(module)
        own = self.module is None and not isolation.has_compiled(module) and (self.built_in or self.is_fresh(module))
        return module if own else isolation.value_copy(module)

    def built_without_values(self) -> nn.Module:
        """Return what the factory builds on the meta device, or with values where it computes with them itself."""
        if not self.built_in:
            # Only the factory is called without values: what its file computes when imported is for everybody.
            load(self.request.name)
        try:
            with tracing.Building():
                return self.built()
        except UsageError:
            if self.built_in:
                raise
            # As in [x.item() for x in torch.linspace(...)].
            return self.built()

    def built(self) -> nn.Module:
        """Return what the factory builds, looking through torch.compile."""
        return uncompiled(build(self.request.name, **dict(self.request.options)))

    def is_fresh(self, module: nn.Module) -> bool:
        """Tell whether the factory shares nothing with what it built before: not so of a network that is built already.

        Some networks cannot be copied, so one that nobody else holds is used itself.
        """
        try:
            with tracing.Building():
                another = self.built()
        except UsageError:
            return False
        return {id(part) for part in module.modules()}.isdisjoint(id(part) for part in another.modules())

    def inputs(self, module: nn.Module, batch: int, device: str) -> Inputs:
        """Return the arguments of a forward pass: one batch of images, or the named tensors.

        Random values where there are values; integers are zero, which every table of embeddings has.

        Raises:
            UsageError: `forward` takes no tensor of such a name.

        """
        request = self.request
        if not request.tensors:
            return [filled((batch, *request.input), tracing.floating_type(module), device)], {}
        tensors = {
            item.name: filled((item.shape[0] * batch, *item.shape[1:]), getattr(torch, item.dtype), device)
            for item in request.tensors
        }
        parameters = parameters_of(module)
        takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
        if takes_any or all(name in parameters for name in tensors):
            return [], tensors
        required = [name for name, parameter in parameters.items() if parameter.default is parameter.empty]
        strange = next(name for name in tensors if name not in parameters)
        misspelt = any(near_misses(name, parameters) for name in tensors)
        if len(required) == 1 and not misspelt and not any(name in parameters for name in tensors):
            return [tensors], {}
        raise UsageError(f"{request.name} takes {', '.join(parameters)}, not '{strange}'; rename that --input")

    def in_order(self, module: nn.Module, batch: int, device: str) -> list[Any]:
        """Return the arguments of a forward pass by position alone, for tools that know no names."""
        inputs, named = self.inputs(module, batch, device)
        parameters = parameters_of(module)
        last = max((place for place, name in enumerate(parameters) if name in named), default=-1)
        return [
            *inputs,
            *(named.get(name, parameter.default) for name, parameter in list(parameters.items())[: last + 1]),
        ]


def parameters_of(module: nn.Module) -> Mapping[str, inspect.Parameter]:
    """Return what a network's forward takes; TorchScript has a schema in place of a signature."""
    if not isinstance(module, torch.jit.ScriptModule):
        return inspect.signature(module.forward).parameters
    forward: Any = module.forward  # a ScriptMethod, which torch leaves without types
    return {
        argument.name: inspect.Parameter(
            argument.name,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            default=argument.default_value if argument.has_default_value() else inspect.Parameter.empty,
        )
        for argument in forward.schema.arguments[1:]
    }


def filled(shape: tuple[int, ...], dtype: torch.dtype, device: str) -> torch.Tensor:
    """Return a tensor of random numbers (zeros for integers), the same at every call; without values on meta.

    Raises:
        UsageError: no tensor can be so large, with values or without.

    """
    if math.prod(shape) * dtype.itemsize > sys.maxsize:
        raise UsageError(f"an input of {shape_text(shape)}, batch included, is larger than any tensor; ask for less")
    if device == "meta" or not dtype.is_floating_point:
        return torch.zeros(shape, dtype=dtype, device=device)
    generator = torch.Generator(device).manual_seed(0)
    return torch.randn(shape, generator=generator, device=device).to(dtype)


@dataclass
class Observation:
    """A network as it ran once: the copy that ran, its trace, and what a reader must know about it."""

    module: nn.Module
    trace: tracing.Trace
    notes: tuple[str, ...] = ()


def observe(network: Network, batch: int = 1, *, functions: bool = False, fields: bool = False) -> Observation:
    """Run a network once in inference and return what it showed; on the meta device, or where it needs values, the CPU.

    Args:
        network: what to run; left as it is.
        batch: images in the batch.
        functions: note for every operator which function of torch's Python interface asked for it, and the operators
            as torch.jit records them.
        fields: follow receptive fields too.

    Raises:
        UsageError: it cannot take the input, or cannot be counted; one sentence why.

    """
    with isolation.left_alone():
        module = network.on_meta()
        failed: BaseException | None = None
        # torch's own counter, which an audit compares, sees nothing in the CPU's recurrent layers.
        recurrent = not functions and any(isinstance(part, nn.RNNBase) for part in module.modules())
        if not recurrent and not isolation.is_script(module):
            try:
                return watched(network, module, batch, "meta", functions=functions, fields=fields)
            except UsageError as error:
                if network.built_in or error.__cause__ is None:
                    raise
                failed = error.__cause__
        gradients = "not require grad" in str(failed)  # a forward pass that asks for derivatives
        seen = watched(network, network.on_cpu(), batch, "cpu", functions=functions, fields=fields, gradients=gradients)
        if failed is not None:
            note = (
                f"{network.request.name}: cannot run without values ({first_line(failed)[:80]}); counted on the CPU "
                "for one random input: where operators depend on values, another may cost more or less"
            )
            seen.notes = (*seen.notes, note)
        return seen


def watched(
    network: Network,
    module: nn.Module,
    batch: int,
    device: str,
    *,
    functions: bool,
    fields: bool,
    gradients: bool = False,
) -> Observation:
    """Trace one inference pass, and say in one sentence why the network cannot take the input, if so."""
    inputs, named = network.inputs(module, batch, device)
    if functions:
        # torch's own counter, which an audit runs on the same copy, fails on expanded weights that want a gradient.
        module.requires_grad_(requires_grad=False)
    try:
        with user_code():
            give_shapes(module, inputs, named, device)
            trace = tracing.trace(
                *(module, inputs, named),
                device=device,
                functions=functions,
                makes_tensors=not network.built_in,
                fields=fields,
                gradients=gradients,
            )
    except Exception as error:
        raise UsageError(cannot_take(network.request, inputs, error)) from error
    return Observation(module, trace)


def give_shapes(module: nn.Module, inputs: Sequence[Any], named: Mapping[str, Any], device: str) -> None:
    """Run a network with lazy weights once, which gives them their shapes."""
    if isolation.is_lazy(module):
        with torch.no_grad(), tracing.Building() if device == "meta" else torch.device(device):
            module.eval()(*inputs, **named)


CHANNELS = re.compile(r"to have (\d+) channels, but got (\d+) channels")
HIGHER_ORDER = re.compile(r"HigherOrderOperator (\w+)")


def cannot_take(request: Request, inputs: Sequence[Any], error: Exception) -> str:
    """Say in one sentence why a forward pass failed, and what to type next."""
    text = first_line(error)
    higher = HIGHER_ORDER.search(text)
    if higher:
        return (
            f"{request.name} calls torch's higher-order operator {higher[1]}, into which no counter sees; count it "
            "with the plain operators that it stands for (scaled_dot_product_attention, one of the branches)"
        )
    why = f"{request.name} cannot take an input of {request.input_text}: {type(error).__name__}: {text}"
    channels = CHANNELS.search(text)
    if channels and channels[2] == str(request.input[0] if request.input else None):
        right = shape_text((int(channels[1]), *request.input[1:]))
        return f"{request.name} takes images of {channels[1]} channels, not {channels[2]}; try --input {right}"
    if request.tensors and inputs:
        return f"{why}; it was given one dictionary, as its forward names no such parameter: check the names"
    return f"{why}; try another --input"
