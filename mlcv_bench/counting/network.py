"""A network to be counted: built or copied to the meta device, fed with what it takes, watched while it runs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from mlcv_bench.architectures import catalog
from mlcv_bench.architectures.build import build, load
from mlcv_bench.architectures.inputs import Inputs, cannot_take, drawn
from mlcv_bench.architectures.request import DEFAULT_INPUT, NamedInput, Request
from mlcv_bench.counting import isolation, tracing
from mlcv_bench.errors import UsageError
from mlcv_bench.names import first_line, name_of, user_code
from mlcv_bench.torch_private import uncompiled

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass
class Network:
    """One network of one request.

    `module` is the caller's own, if it was given built, and is never touched; `factory` is a function or a class that
    was given itself.
    """

    request: Request
    module: nn.Module | None = None
    factory: Callable[..., Any] | None = None

    @classmethod
    def of(
        cls,
        subject: str | Request | nn.Module | Callable[..., Any],
        *,
        input: tuple[int, ...] | None = None,  # noqa: A002 - the word of the command line
        tensors: tuple[NamedInput, ...] = (),
        options: Mapping[str, Any] | None = None,
    ) -> Network:
        """Take a name, a specification, a request, a module, or a function or class that builds one.

        Raises:
            UsageError: unknown name or option, an impossible input, or a network that cannot be counted.

        """
        shape = () if tensors else input or DEFAULT_INPUT
        if isinstance(subject, nn.Module):
            if options:
                raise UsageError(f"{type(subject).__name__} is built already and takes no options")
            module = uncompiled(subject)
            return cls(Request(type(module).__name__, input=shape, tensors=tensors, built=True), module)
        if isinstance(subject, Request):
            return cls(subject)
        if isinstance(subject, str):
            return cls(Request.of(subject, input=input, tensors=tensors, options=options))
        pairs = tuple(sorted((options or {}).items()))
        return cls(Request(name_of(subject), pairs, shape, tensors, built=True), factory=subject)

    @property
    def built_in(self) -> bool:
        """Whether it is one of the catalogue's networks, none of which makes tensors in its forward pass."""
        return self.module is None and self.factory is None and catalog.is_built_in(self.request.name)

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
        if not self.built_in and self.factory is None:
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
        name_or_factory = self.request.name if self.factory is None else self.factory
        return uncompiled(build(name_or_factory, **dict(self.request.options)))

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
        found = drawn(self.request, module, batch, partial(filled, device), real=tracing.floating_type(module))
        return found.map(lambda tensor: tensor.to(device))


def filled(device: str, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """Return a tensor of random numbers (zeros for integers), the same at every call; without values on meta."""
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
    inputs = network.inputs(module, batch, device)
    if functions:
        # torch's own counter, which an audit runs on the same copy, fails on expanded weights that want a gradient.
        module.requires_grad_(requires_grad=False)
    try:
        with user_code():
            give_shapes(module, inputs, device)
            trace = tracing.trace(
                module,
                *inputs,
                device=device,
                functions=functions,
                makes_tensors=not network.built_in,
                fields=fields,
                gradients=gradients,
            )
    except Exception as error:
        raise why_not(network.request, inputs, error) from error
    return Observation(module, trace)


def give_shapes(module: nn.Module, inputs: Inputs, device: str) -> None:
    """Run a network with lazy weights once, which gives them their shapes."""
    if isolation.is_lazy(module):
        with torch.no_grad(), tracing.Building() if device == "meta" else torch.device(device):
            inputs.into(module.eval())


HIGHER_ORDER = re.compile(r"HigherOrderOperator (\w+)")


def why_not(request: Request, inputs: Inputs, error: Exception) -> UsageError:
    """Return what says why a forward pass was not counted, and what to type next."""
    higher = HIGHER_ORDER.search(first_line(error))
    if higher:
        return UsageError(
            f"{request.name} calls torch's higher-order operator {higher[1]}, into which no counter sees; count it "
            "with the plain operators that it stands for (scaled_dot_product_attention, one of the branches)"
        )
    return cannot_take(request, error, dictionary=any(isinstance(given, dict) for given in inputs.positional))
