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
CONTAINERS = (list, dict, set, torch.Tensor, nn.Module)


@contextlib.contextmanager
def left_alone() -> Iterator[None]:
    """Put torch's global state back afterwards: random numbers, default type and device, gradients, global hooks.

    Hooks on all modules are taken off meanwhile, so that nobody's profiler sees what runs inside. Garbage is not looked
    for either: going through all that torch has loaded would take as long as the count.
    """
    collecting = gc.isenabled()
    gc.disable()
    generator = torch.random.get_rng_state()
    dtype, device = torch.get_default_dtype(), torch.get_default_device()
    threads, gradients = torch.get_num_threads(), torch.is_grad_enabled()
    flags = torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic
    fast = torch.backends.mha.get_fastpath_enabled()
    # One operator for a whole encoder layer, in which nothing can be seen.
    torch.backends.mha.set_fastpath_enabled(value=False)
    tables = torch_private.global_hooks()
    found = [dict(table) for table in tables]
    for table in tables:
        table.clear()
    try:
        yield
    finally:
        if collecting:
            gc.enable()
        for table, hooks in zip(tables, found, strict=True):
            table.clear()
            table.update(hooks)
        torch.random.set_rng_state(generator)
        torch.set_default_dtype(dtype)
        if torch.get_default_device() != device:
            torch.set_default_device(device)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        torch.set_grad_enabled(gradients)
        torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = flags
        torch.backends.mha.set_fastpath_enabled(fast)


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
    return any(
        isinstance(tensor, UninitializedParameter | UninitializedBuffer)
        for tensor in (*module.parameters(), *module.buffers())
    )


def is_script(module: nn.Module) -> bool:
    """Tell whether a part of the network is TorchScript, which runs where torch's meta copies cannot follow."""
    return any(isinstance(part, torch.jit.ScriptModule) for part in module.modules())


def is_recurrent(module: nn.Module) -> bool:
    """Tell whether a part is an LSTM, GRU or RNN, which the CPU runs in other operators than the meta device."""
    return any(isinstance(part, nn.RNNBase) for part in module.modules())


def has_compiled(module: nn.Module) -> bool:
    """Tell whether a part of the network, not the whole, is one that torch.compile gave."""
    return any(part is not uncompiled(part) for part in module.modules())


def meta_twin(module: nn.Module) -> nn.Module:
    """Return a copy of `module` whose weights are on the meta device: no memory, and the original is never touched."""
    memo: dict[int, Any] = {}
    for parameter in module.parameters():
        if isinstance(parameter, UninitializedParameter):
            memo[id(parameter)] = lazy(UninitializedParameter, parameter)
        else:
            memo[id(parameter)] = nn.Parameter(parameter.detach().to("meta"), requires_grad=parameter.requires_grad)
    for buffer in module.buffers():
        if isinstance(buffer, UninitializedBuffer):
            memo[id(buffer)] = lazy(UninitializedBuffer, buffer)
        else:
            memo[id(buffer)] = buffer.detach().to("meta")
    return copied(module, memo).to("meta")


def lazy(kind: Any, tensor: torch.Tensor) -> torch.Tensor:  # noqa: ANN401 - torch types both classes as plain tensors
    """Return a weight or buffer that waits for its shape, on the meta device."""
    found: torch.Tensor = kind(tensor.requires_grad, device="meta", dtype=tensor.dtype)
    return found


def value_twin(module: nn.Module) -> nn.Module:
    """Return a copy of `module` on the CPU, with its values, which the original shares nothing with."""
    twin = copied(module, {})
    elsewhere = any(tensor.device.type != "cpu" for tensor in (*twin.parameters(), *twin.buffers()))
    return twin.to("cpu") if elsewhere else twin


def copied(module: nn.Module, memo: dict[int, Any]) -> nn.Module:
    """Copy a network and what its hooks remember.

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

    deepcopy hands functions over as they are; a hook that appends to a list would then change the caller's list.
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
