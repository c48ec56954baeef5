"""Random numbers by seed: weights, statistics and inputs, normally distributed or whole; and calibration."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from mlcv_bench.names import user_code

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
SCALED_NORMS = (
    *NORMS,
    *(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm),
)
"""Layers whose weights are scales and shifts."""
WEIGHT_RANGE = 2
INPUT_RANGE = 3
COTANGENT_RANGE = 2


def generator(*seeds: int | str) -> torch.Generator:
    """Return a generator whose numbers depend on all of the seeds."""
    mixed = 0
    for seed in seeds:
        for byte in f"{seed}/".encode():
            mixed = (mixed * 1_000_003 + byte) % (2**63 - 1)
    return torch.Generator().manual_seed(mixed)


def normal(shape: Sequence[int], source: torch.Generator, dtype: torch.dtype = torch.float64) -> Tensor:
    """Draw from the standard normal distribution, on the CPU."""
    return torch.randn(tuple(shape), generator=source, dtype=dtype)


def whole(shape: Sequence[int], largest: int, source: torch.Generator) -> Tensor:
    """Draw whole numbers from -largest to largest, each as likely, in float64 on the CPU."""
    return torch.randint(-largest, largest + 1, tuple(shape), generator=source).to(torch.float64)


def materialised(build: Callable[[], nn.Module], dtype: torch.dtype) -> nn.Module:
    """Build a module without drawing from torch's global generator; its weights are to be filled."""
    with torch.device("meta"):
        module = build()
    module = module.to(dtype).to_empty(device="cpu")
    for layer in module.modules():
        for weight in () if is_torchs(layer) else layer.parameters(recurse=False):
            # `fill_normal` leaves it as it is, which would be whatever the memory held.
            nn.init.constant_(weight, 0.5)
    return module


def is_torchs(layer: nn.Module) -> bool:
    """Tell whether torch defines a layer; of another only its author knows which values make sense."""
    return type(layer).__module__.startswith("torch.nn")


def filled(
    build: Callable[[], nn.Module], *seeds: int | str, exact: bool = False, dtype: torch.dtype = torch.float64
) -> nn.Module:
    """Build a module on the CPU with normal weights, or with whole ones for an exact check."""
    module = materialised(build, dtype)
    if exact:
        fill_whole(module, generator(*seeds, "whole weights"))
    else:
        fill_normal(module, generator(*seeds, "weights"))
    return module


@torch.no_grad()
def fill_normal(module: nn.Module, source: torch.Generator) -> None:
    """Give every weight a random value, batch norm's statistics included, so that no error hides behind a 0 or a 1.

    Kernels have variance 2 / fan-in, so that magnitudes stay; batch norm's scales and variances lie in 1/2 .. 3/2.
    The module is on the CPU in float32 or float64. Parameters of layers that torch does not define stay as they
    are, since only their author knows which values make sense.
    """
    for layer in module.modules():
        if isinstance(layer, SCALED_NORMS):
            _fill_norm(layer, source)
            continue
        if not is_torchs(layer):
            continue
        for weight in layer.parameters(recurse=False):
            spread = math.sqrt(2 / max(weight[0].numel(), 1)) if weight.dim() > 1 else 0.1
            weight.normal_(0, spread, generator=source)


def _fill_norm(layer: nn.Module, source: torch.Generator) -> None:
    for name, value in (*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)):
        if name in {"weight", "running_var"}:
            value.uniform_(0.5, 1.5, generator=source)
        elif name in {"bias", "running_mean"}:
            value.normal_(0, 1, generator=source)
        else:
            value.zero_()


@torch.no_grad()
def fill_whole(module: nn.Module, source: torch.Generator) -> None:
    """Give every parameter whole numbers from -2 to 2."""
    for weight in module.parameters():
        weight.copy_(whole(weight.shape, WEIGHT_RANGE, source))


@torch.no_grad()
def scale(module: nn.Module, factor: float) -> None:
    """Multiply biases and norms' scales and shifts: with inputs multiplied too, all activations are.

    As in `fill_normal`, parameters of layers that torch does not define stay as they are.
    """
    for layer in module.modules():
        norm = isinstance(layer, SCALED_NORMS)
        if norm or is_torchs(layer):
            for name, weight in layer.named_parameters(recurse=False):
                if norm or "bias" in name:
                    weight.mul_(factor)


@torch.no_grad()
def cast(module: nn.Module, device: str, dtype: torch.dtype) -> None:
    """Move a module, its real numbers into this type and its complex ones into that of the same precision.

    `Module.to` would drop the imaginary parts.
    """
    for tensor in (*module.parameters(), *module.buffers()):
        wanted = dtype if tensor.is_floating_point() else dtype.to_complex() if tensor.is_complex() else tensor.dtype
        tensor.data = tensor.data.to(device, wanted)


@contextlib.contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Let a module that draws numbers itself, as dropout does, draw the same ones each time; then go on as before.

    `torch.manual_seed` seeds every kind of device, in more time than a small pass takes.
    """
    cuda = device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if cuda else []):
        torch.default_generator.manual_seed(seed)
        if cuda:
            torch.cuda.manual_seed_all(seed)
        yield


@torch.no_grad()
def calibrate(network: nn.Module, image: Tensor) -> None:
    """Set batch norm's statistics to those of one batch: an untrained deep network overflows float16 without.

    A network with batch norm is left in evaluation mode; one without is not run at all.
    """
    norms = [layer for layer in network.modules() if isinstance(layer, NORMS)]
    if not norms:
        return
    momenta = [layer.momentum for layer in norms]
    for layer in norms:
        layer.reset_running_stats()
        layer.momentum = None  # the plain average over batches, here of one
    network.train()
    with seeded(0, image.device), user_code():
        network(image.clone())
    network.eval()
    for layer, momentum in zip(norms, momenta, strict=True):
        layer.momentum = momentum
