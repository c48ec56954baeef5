"""A network written a second time: functions on its own weights, step by step as a paper's figure draws it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional

Figure = Callable[["Reference", Tensor], Tensor]
"""Computes a network's output from its weights and an input of (N, C, H, W)."""


class Reference:
    """Layers as functions; each takes the next weights, in the order in which the network registered them.

    A step names channels and kernel as the figure does, so that it notices weights of another shape.

    Raises:
        ValueError: the next weights have another shape, or there are none left.

    """

    def __init__(self, weights: Iterable[Tensor], *, epsilon: float = 1e-5) -> None:
        """Keep the weights; `epsilon` is what batch norm adds to the variance."""
        self.left = list(weights)
        self.epsilon = epsilon

    def take(self, *shape: int) -> Tensor:
        """Return the next weights, which must have this shape."""
        if not self.left or self.left[0].shape != shape:
            found = tuple(self.left[0].shape) if self.left else "nothing"
            raise ValueError(f"the figure has weights of {shape} where the network has {found}")
        return self.left.pop(0)

    def convolution(
        self,
        x: Tensor,
        channels: int,
        kernel: tuple[int, int],
        *,
        stride: int = 1,
        padding: int | None = None,
        groups: int = 1,
        bias: bool = True,
    ) -> Tensor:
        """Convolve to `channels` channels with a kernel of (height, width); padding is half of it unless given."""
        weight = self.take(channels, x.shape[1] // groups, *kernel)
        offset = self.take(channels) if bias else None
        sides = (kernel[0] // 2, kernel[1] // 2) if padding is None else padding
        return functional.conv2d(x, weight, offset, stride, sides, 1, groups)

    def batch_norm(self, x: Tensor) -> Tensor:
        """Apply a batch norm in evaluation, from its definition."""
        scale, shift, mean, variance = (self.take(x.shape[1]).view(-1, 1, 1) for _ in range(4))
        return (x - mean) / (variance + self.epsilon).sqrt() * scale + shift

    def linear(self, x: Tensor, outputs: int) -> Tensor:
        """Apply a linear layer."""
        return x @ self.take(outputs, x.shape[1]).T + self.take(outputs)


@torch.no_grad()
def miss(network: nn.Module, figure: Figure, x: Tensor, *, epsilon: float = 1e-5) -> float:
    """Return the largest difference between a network and its figure, as a share of the figure's largest output.

    Infinite where the figure does not fit the network's weights, leaves some unused, or puts out another shape.
    """
    state = network.state_dict()
    reference = Reference(
        (tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")), epsilon=epsilon
    )
    try:
        wanted = figure(reference, x)
    except ValueError:
        return math.inf
    found = network(x)
    if reference.left or found.shape != wanted.shape:
        return math.inf
    return float((found - wanted).abs().max() / wanted.abs().max())
