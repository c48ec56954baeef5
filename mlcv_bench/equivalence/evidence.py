"""What a module shows in one pass: outputs, gradients, statistics; and inputs that are clear of kinks."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from mlcv_bench.architectures.outputs import parts_of
from mlcv_bench.counting.operators import name_of
from mlcv_bench.equivalence.comparison import Result, largest
from mlcv_bench.equivalence.randomness import seeded
from mlcv_bench.names import user_code
from mlcv_bench.torch_private import DispatchMode

State = Mapping[str, Tensor]
"""Weights, gradients or buffers by their names."""
Cotangent = Callable[[Sequence[int]], Tensor]
"""Gives the gradient of a loss with respect to an output of a shape."""


@dataclass(frozen=True)
class Evidence:
    """What a module showed in one pass: outputs by name, gradients, and its buffers after the pass."""

    output: Mapping[str, Any]
    input_gradient: Tensor | None = None
    weight_gradients: State = field(default_factory=dict)
    statistics: State = field(default_factory=dict)

    def quantities(self, *, train: bool) -> dict[str, Result]:
        """Return what there is to compare, by its name; statistics change in training alone."""
        found: dict[str, Result] = {"output": self.output}
        if self.input_gradient is not None:
            found["input gradient"] = self.input_gradient
        if self.weight_gradients:
            found["weight gradients"] = self.weight_gradients
        if train and self.statistics:
            found["batch-norm statistics"] = self.statistics
        return found


def observe(
    module: nn.Module,
    image: Tensor,
    cotangent: Cotangent | None = None,
    *,
    train: bool,
    watch: DispatchMode | None = None,
    seed: int = 0,
) -> Evidence:
    """Run a module once on a copy of the input and return what it showed; its buffers are put back afterwards.

    Args:
        module: takes `image`, returns a tensor, or several and other things by name or position.
        image: the input, on the module's device and in its type.
        cotangent: the gradient of a loss with respect to an output of this shape; None asks for no gradients.
        train: in training mode, or in evaluation mode.
        watch: sees every operator of both passes.
        seed: of the random numbers that the module draws itself, as dropout does.

    """
    watching: AbstractContextManager[Any] = watch if watch is not None else contextlib.nullcontext()
    before = _copies(module.named_buffers())
    was_training = module.training
    module.train(train)
    try:
        # Dropout, if there is any, must drop the same in every formulation.
        with seeded(seed, image.device), user_code():
            if cotangent is not None:
                return _with_gradients(module, image, cotangent, watching)
            with torch.no_grad(), watching:
                outputs = parts_of(module(image.clone()))
            return Evidence(_kept(outputs), statistics=_copies(module.named_buffers()))
    finally:
        module.train(was_training)
        with torch.no_grad():
            for name, buffer in module.named_buffers():
                if name in before:  # a cache that the pass made is new, and stays
                    buffer.copy_(before[name])


def _with_gradients(
    module: nn.Module,
    image: Tensor,
    cotangent: Cotangent,
    watching: AbstractContextManager[Any],
) -> Evidence:
    leaf = image.detach().clone().requires_grad_()
    names = [name for name, weight in module.named_parameters() if weight.requires_grad]
    weights = [weight for weight in module.parameters() if weight.requires_grad]
    with watching:
        # No leaf itself: a network whose first operator works in place may not write into one.
        outputs = parts_of(module(leaf.clone()))
    differentiable, upstream = [], []
    for rank, name in enumerate(sorted(outputs), start=1):
        if isinstance(outputs[name], Tensor) and outputs[name].requires_grad:
            differentiable.append(outputs[name])
            # Each output pulls by a weight of its own, so that none is taken for another of its shape.
            upstream.append(rank * _cotangent_of(outputs[name], cotangent))
    gradients: Sequence[Tensor | None]
    with watching:
        gradients = torch.autograd.grad(differentiable, [leaf, *weights], upstream, allow_unused=True)
    filled = [
        torch.zeros_like(value) if gradient is None else gradient
        for gradient, value in zip(gradients, [leaf, *weights], strict=True)
    ]
    return Evidence(
        _kept(outputs),
        filled[0] if leaf.numel() else None,
        dict(zip(names, filled[1:], strict=True)),
        _copies(module.named_buffers()),
    )


def _cotangent_of(output: Tensor, cotangent: Cotangent) -> Tensor:
    if output.is_complex():
        return torch.view_as_complex(cotangent((*output.shape, 2))).to(output)
    return cotangent(output.shape).to(output)


def _kept(outputs: Mapping[str, Any]) -> dict[str, Any]:
    """Copy the tensors: an output may be a buffer, which is put back, or a weight, which is nudged later."""
    return {name: part.detach().clone() if isinstance(part, Tensor) else part for name, part in outputs.items()}


def _copies(named: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
    return {name: buffer.clone() for name, buffer in named}


KINKS: dict[str, Callable[[Sequence[Any]], Sequence[Any]]] = {
    **dict.fromkeys(("relu", "leaky_relu", "_prelu_kernel", "abs"), lambda _args: (0.0,)),
    **dict.fromkeys(("clamp", "clamp_min", "clamp_max"), lambda args: args[1:3]),
    "threshold": lambda args: args[1:2],
    "hardtanh": lambda args: args[1:3] or (-1.0, 1.0),
    **dict.fromkeys(("hardswish", "hardsigmoid"), lambda _args: (-3.0, 3.0)),
}
"""Where the gradients of these operators jump, from their arguments: rounding decides which of the two is taken."""


class KinkWatch(DispatchMode):
    """Sees how close inputs come to a kink, where an operator's gradient jumps, and whether one lies there."""

    def __init__(self) -> None:
        """Start with nothing seen."""
        super().__init__()
        self.nearest = math.inf
        self.hit = False

    def run(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:  # noqa: ANN401 - operators and what they take and return
        """Look at an operator's input before it runs."""
        name = name_of(func).removesuffix("_")
        for kink in KINKS[name](args) if name in KINKS else ():
            if kink is not None:
                distances = (args[0].detach() - kink).abs()
                self.hit = self.hit or bool((distances == 0).any())
                distances = distances[distances > 0]
                if distances.numel():
                    self.nearest = min(self.nearest, float(distances.min() / largest(args[0])))
        return func(*args, **kwargs)


ATTEMPTS = 8
KINK_ROUNDINGS = 4
"""How many roundings of an operator's largest input any input must be away from where the gradient jumps."""


def clear_of_kinks(
    module: nn.Module, draw: Callable[[int], Tensor], *, train: bool, exact: bool = False
) -> tuple[Tensor, bool]:
    """Return an input at which nothing is within rounding of a kink (a ReLU's 0), and whether one was found.

    Where one is, one formulation may round it up and another down, and gradients differ by far more than rounding
    though both are right: the function has none there. The inputs are chosen by the reference alone, before the two
    are compared. Of exact numbers none may be at a kink itself; numbers to rounding may be, as zeros from a ReLU are.
    """
    for attempt in range(ATTEMPTS):
        image = draw(attempt)
        watch = KinkWatch()
        observe(module, image, train=train, watch=watch)
        if not watch.hit if exact else watch.nearest > KINK_ROUNDINGS * torch.finfo(image.dtype).eps:
            return image, True
    return draw(0), False


KINK_REASON = (
    "an input of a ReLU or the like lies within rounding of where its gradient jumps, for every input drawn: "
    "outputs are compared, gradients are not"
)
