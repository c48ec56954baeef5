"""resnet20 with a known amount of work added: convolutions of its first stage's size whose result is thrown away."""

from __future__ import annotations

import torch
from torch import nn

from mlcv_bench import build


class Slowed(nn.Module):
    """resnet20 followed by `extra` 3x3 convolutions on a (16, size, size) map."""

    def __init__(self, extra: int, size: int):
        """Build both."""
        super().__init__()
        self.network = build("resnet20")
        self.extra = extra
        self.convolution = nn.Conv2d(16, 16, 3, padding=1, bias=False)
        self.register_buffer("image", torch.randn(1, 16, size, size), persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Classify (N, 3, 32, 32) into (N, 10), and work on."""
        logits = self.network(images)
        for _ in range(self.extra):
            self.convolution(self.image)
        return logits


def none() -> nn.Module:
    """Add nothing: the base of every comparison, and the other side of A/A."""
    return Slowed(0, 32)


def slower_5() -> nn.Module:
    """Add about 5% of time; the benchmark measures how much it really is."""
    return Slowed(2, 20)


def slower_10() -> nn.Module:
    """Add about 10% of time; the benchmark measures how much it really is."""
    return Slowed(4, 21)
