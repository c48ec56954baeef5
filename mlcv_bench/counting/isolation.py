"""Working on somebody's network and leaving it, its hooks and torch's global state as they were found."""

from __future__ import annotations

import contextlib
import copy
import gc
import types
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from mlcv_bench import torch_private
from mlcv_bench.errors import UsageError
from mlcv_bench.names import first_line
from mlcv_bench.torch_private import uncompiled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

QUANTISED = ("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized", "torch.nn.quantized")
FLOAT = "torch.ao.nn.quantized.reference"
"""Modules that compute with rounded weights in floating point."""
WEIGHTLESS = ("FloatFunctional", "FXFloatFunctional")
LAZY = (UninitializedParameter, UninitializedBuffer)
CONTAINERS = (list, dict, set, torch.Tensor, nn.Module)


@contextlib.contextmanager
def left_alone() -> Iterator[None]:
    """Put torch's global state back afterwards: random numbers, default type and device, gradients, global hooks.

    Hooks on all modules are taken off meanwhile, so that nobody's profiler sees what runs inside. Garbage is not looked
    for either: a pass over all that torch has loaded took 66 of the 176 ms of a first count of resnet50.
    """
    mha, cudnn = torch.backends.mha, torch.backends.cudnn
    with contextlib.ExitStack() as stack:
        stack.callback(torch.random.set_rng_state, torch.random.get_rng_state())
        stack.callback(torch.set_default_dtype, torch.get_default_dtype())
        stack.callback(put_back, torch.get_default_device, torch.set_default_device, torch.get_default_device())
        stack.callback(put_back, torch.get_num_threads, torch.set_num_threads, torch.get_num_threads())
        stack.callback(torch.set_grad_enabled, torch.is_grad_enabled())
        for flag in ("benchmark", "deterministic"):
            stack.callback(setattr, cudnn, flag, getattr(cudnn, flag))
        # One operator for a whole encoder layer, in which nothing can be seen.
        stack.callback(mha.set_fastpath_enabled, mha.get_fastpath_enabled())
        mha.set_fastpath_enabled(value=False)
        for table in torch_private.global_hooks():
            stack.callback(table.update, dict(table))
            stack.callback(table.clear)
            table.clear()
        if gc.isenabled():
            stack.callback(gc.enable)
            gc.disable()
        yield


def put_back(read: Callable[[], Any], write: Callable[[Any], None], found: Any) -> None:  # noqa: ANN401 - any setting
    """Set what was found where it has changed: to set it again is not free of effects."""
    if read() != found:
        write(found)


def nothing_compiled() -> contextlib.AbstractContextManager[None]:
    """Run what torch.compile would compile as it is written; only a network that asked for it has loaded dynamo."""
    if not torch_private.dynamo_is_loaded():
        return contextlib.nullcontext()
    stance: contextlib.AbstractContextManager[None] = torch.compiler.set_stance("force_eager")
    return stance


def refuse_quantised(module: nn.Module) -> None:
    """Refuse a network whose weights are packed away where no counter can see them.

    Raises:
        UsageError: some module is quantised.

    """
    for name, part in module.named_modules():
        where = type(part).__module__
        if where.startswith(QUANTISED) and not where.startswith(FLOAT) and type(part).__name__ not in WEIGHTLESS:
            raise UsageError(
                f"{type(part).__name__} at '{name}' is quantised: its packed weights cannot be counted; count the "
                "network before it is quantised, which has the same MACs"
            )


def is_lazy(module: nn.Module) -> bool:
    """Tell whether some weight still waits for the first input to get its shape."""
    return any(isinstance(tensor, LAZY) for tensor in (*module.parameters(), *module.buffers()))


def is_script(module: nn.Module) -> bool:
    """Tell whether a part of the network is TorchScript, which runs where torch's meta copies cannot follow."""
    return any(isinstance(part, torch.jit.ScriptModule) for part in module.modules())


def has_compiled(module: nn.Module) -> bool:
    """Tell whether a part of the network, not the whole, is one that torch.compile gave."""
    return any(part is not uncompiled(part) for part in module.modules())


def meta_copy(module: nn.Module) -> nn.Module:
    """Return a copy of `module` whose weights are on the meta device: no memory, and the original is never touched."""
    memo: dict[int, Any] = {}
    for tensor in (*module.parameters(), *module.buffers()):
        if isinstance(tensor, LAZY):
            kind: Any = type(tensor)  # torch types both classes as plain tensors
            copied = kind(tensor.requires_grad, device="meta", dtype=tensor.dtype)
        elif isinstance(tensor, nn.Parameter):
            copied = nn.Parameter(tensor.detach().to("meta"), requires_grad=tensor.requires_grad)
        else:
            copied = tensor.detach().to("meta")
        memo[id(tensor)] = copied
    return deep_copy(module, memo).to("meta")


def value_copy(module: nn.Module) -> nn.Module:
    """Return a copy of `module` on the CPU, with its values, which the original shares nothing with."""
    twin = deep_copy(module, {})
    elsewhere = any(tensor.device.type != "cpu" for tensor in (*twin.parameters(), *twin.buffers()))
    return twin.to("cpu") if elsewhere else twin


def deep_copy(module: nn.Module, memo: dict[int, Any]) -> nn.Module:
    """Copy a network and what its hooks remember; parts that torch.compile gave are those it was made of.

    Raises:
        UsageError: it holds something that cannot be copied.

    """
    try:
        twin: nn.Module = copy.deepcopy(module, memo)
        if not is_script(twin):
            for path, part in reversed(list(twin.named_modules(remove_duplicate=False))):
                for hooks in torch_private.forward_hooks(part):
                    for key, hook in hooks.items():
                        hooks[key] = without_memory(hook, memo)
                if path and uncompiled(part) is not part:
                    twin.set_submodule(path, uncompiled(part))
    except Exception as error:
        raise UsageError(
            f"{type(module).__name__} cannot be copied, so it could not be left as it is "
            f"({type(error).__name__}: {first_line(error)}); give a function that builds it instead"
        ) from error
    return twin


def without_memory(hook: Callable[..., Any], memo: dict[int, Any]) -> Callable[..., Any]:
    """Return a hook that does the same to copies of what it remembers: its closure, defaults and global containers.

    deepcopy hands functions over as they are; a hook that appends to a list would then change the caller's list, and
    one that calls a part of the network would call the caller's.
    """
    if not isinstance(hook, types.FunctionType) or hook.__module__.startswith("torch."):
        return hook
    shared = {
        name: copy.deepcopy(value, memo)
        for name in hook.__code__.co_names
        if isinstance(value := hook.__globals__.get(name), CONTAINERS)
    }
    twin = types.FunctionType(
        hook.__code__,
        {**hook.__globals__, **shared} if shared else hook.__globals__,
        hook.__name__,
        copy.deepcopy(hook.__defaults__, memo),
        tuple(copied_cell(cell, memo) for cell in hook.__closure__ or ()) or None,
    )
    twin.__kwdefaults__ = copy.deepcopy(hook.__kwdefaults__, memo)
    return twin


def copied_cell(cell: types.CellType, memo: dict[int, Any]) -> types.CellType:
    """Copy one variable of a closure, functions in it included."""
    try:
        value = cell.cell_contents
    except ValueError:  # a variable that was never set
        return types.CellType()
    if isinstance(value, types.FunctionType):
        return types.CellType(without_memory(value, memo))
    return types.CellType(copy.deepcopy(value, memo))
