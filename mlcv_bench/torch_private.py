"""Every private name of torch that this package uses, each with the reason why no public one serves.

`tests/test_torch_private.py` says in one sentence which of them a new torch has taken away or changed.
"""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend
from torch.nn.modules import module as module_hooks
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor

aten = torch.ops.aten
COMPOSITE = torch._C.DispatchKey.CompositeImplicitAutograd
FLASH = SDPBackend.FLASH_ATTENTION.value

without_modes = _disable_current_modes
"""A context whose operators no mode sees. Torch has no public way to leave a mode that is on."""

below_autograd = torch._C._AutoDispatchBelowAutograd
"""A context below autograd, where a mode sees composite operators before torch takes them apart."""

copy_each: Callable[[list[Tensor], list[Tensor]], None] = torch._foreach_copy_
"""Copy every tensor of the second list into its place in the first, in one call: a call each takes longer."""

flash_attention = aten._scaled_dot_product_flash_attention_for_cpu
"""The CPU's attention in one kernel. The public function chooses by the device, which is meta where we count."""


class DispatchMode(TorchDispatchMode):
    """Sees every operator that runs inside; torch has such modes in a private module alone."""

    def __init__(self) -> None:
        """Start with nothing seen."""
        super().__init__()  # type: ignore[no-untyped-call] # torch leaves it without types

    def __init_subclass__(cls) -> None:
        """Let a subclass be."""
        super().__init_subclass__()  # type: ignore[no-untyped-call] # as above

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Say no: torch would import torch._dynamo with the first mode, which costs a second."""
        return False

    def __torch_dispatch__(
        self,
        func: Any,  # noqa: ANN401 - an operator overload
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - whatever the operator returns
        """Hand an operator to `run`."""
        del types
        return self.run(func, args, kwargs or {})

    def run(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:  # noqa: ANN401 - operators and what they take and return
        """Run one operator and return what it returns."""
        raise NotImplementedError


def is_composite(func: Any) -> bool:  # noqa: ANN401 - an operator overload
    """Tell whether torch runs an operator as others, for which it has no public question."""
    found: bool = torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd")
    return found


def run_composite(func: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as above
    """Run a composite operator by its own kernel; the public decompose() prefers ways written for exports."""
    return func._op_dk(COMPOSITE, *args, **kwargs)


@contextlib.contextmanager
def replaced(key: str, **kernels: Callable[..., Any]) -> Iterator[None]:
    """Let operators of ATen run other kernels inside, under one dispatch key, such as AutogradMeta.

    A public Library takes its kernels back only once nothing refers to it any more.
    """
    with torch.library._scoped_library("aten", "IMPL", key) as library:
        for name, kernel in kernels.items():
            library.impl(name, kernel)
        yield


def attends_at_once(*args: Any, **kwargs: Any) -> bool:  # noqa: ANN401 - tensors and settings of an attention
    """Tell whether torch would run this attention in one kernel: its own rule, which no public function gives."""
    found: bool = aten._fused_sdp_choice(*args, **kwargs) == FLASH
    return found


def global_hooks() -> list[dict[int, Any]]:
    """Return the tables of hooks on all modules, which only their handles could empty."""
    return [
        module_hooks._global_forward_pre_hooks,
        module_hooks._global_forward_hooks,
        module_hooks._global_forward_hooks_always_called,
    ]


def forward_hooks(module: nn.Module) -> list[dict[int, Callable[..., Any]]]:
    """Return a module's tables of hooks, which it does not list."""
    return [module._forward_pre_hooks, module._forward_hooks]


def uncompiled(module: nn.Module) -> nn.Module:
    """Return the network behind torch.compile, which keeps it under a private name."""
    inner = getattr(module, "_orig_mod", None)
    return inner if isinstance(inner, nn.Module) else module


def dynamo_is_loaded() -> bool:
    """Tell whether something may have been compiled; to ask torch.compiler would load its compiler."""
    return "torch._dynamo" in sys.modules


CYCLES_A_SECOND = 2e9
"""No GPU's multiprocessors run at a clock above this by much: so many cycles take a second or longer."""


def hold_cuda(device: torch.device, seconds: float) -> None:
    """Let the current stream of a CUDA device do nothing for at least so long. Torch's own tests hold a queue so."""
    with torch.cuda.device(device):
        torch.cuda._sleep(round(seconds * CYCLES_A_SECOND))  # type: ignore[no-untyped-call]


def compiled(module: nn.Module, mode: str = "default") -> tuple[Callable[..., Any], Callable[[], int]]:
    """Return a network compiled for every shape anew, and a function that counts its graph breaks so far.

    torch.compiler neither counts them nor sets after how many shapes of one class torch silently runs eager.
    """
    import torch._dynamo  # noqa: PLC0415 - seconds of import, for compiled networks alone
    from torch._dynamo.utils import counters  # noqa: PLC0415 - as above

    torch._dynamo.config.recompile_limit = 1024
    torch._dynamo.config.accumulated_recompile_limit = 1024
    before = sum(counters["graph_break"].values())
    run = torch.compile(module, dynamic=False, mode=None if mode == "default" else mode)
    return run, lambda: sum(counters["graph_break"].values()) - before
