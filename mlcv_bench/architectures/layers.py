"""Parts that several families share: initialisation, linear layers, the convolution unit, chunks, a shortcut."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional


def normal_(weight: Tensor, std: float) -> None:
    """Fill `weight` from the normal distribution of mean 0 and deviation `std`."""
    # On the meta device there is nothing to fill, and torch would import its compiler (1.5 s) to do so.
    if not weight.is_meta:
        nn.init.normal_(weight, std=std)


def he_normal_(weight: Tensor, fan: int) -> None:
    """Fill `weight` as He et al. 2015 do: normal, mean 0, variance 2 / `fan`."""
    normal_(weight, math.sqrt(2.0 / fan))


def initialise(network: nn.Module, *, fan: Literal["in", "out"] = "out") -> None:
    """Initialise every convolution of `network` as He et al. 2015 do, its bias with 0.

    `fan` says what keeps its size from layer to layer: activations (in) or gradients (out, as torchvision's residual
    networks and VGG). Narrow 1x1 reductions of wide inputs let activations explode under the latter.
    Norms start as the identity and linear layers as torch leaves them.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            channels = module.out_channels if fan == "out" else module.in_channels // module.groups
            he_normal_(module.weight, channels * module.kernel_size[0] * module.kernel_size[1])
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def linear_layers(features: int, num_classes: int, dropout: float) -> nn.Sequential:
    """Return the three linear layers that end ZFNet and VGG: (N, features) -> (N, num_classes)."""
    return nn.Sequential(
        nn.Linear(features, 4096),
        nn.ReLU(inplace=True),
        nn.Dropout(dropout),
        nn.Linear(4096, 4096),
        nn.ReLU(inplace=True),
        nn.Dropout(dropout),
        nn.Linear(4096, num_classes),
    )


class ConvolutionUnit(nn.Module):
    """Convolution, batch norm, ReLU; or convolution with a bias, and ReLU, where there is no batch norm.

    (N, in_channels, H, W) -> (N, out_channels, H', W'). H' = H / stride, rounded up, for the odd kernels used here;
    `valid` adds no padding, as the letter V says in the figures of Szegedy et al. 2016.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        *,
        stride: int = 1,
        valid: bool = False,
        batch_norm: bool = True,
    ) -> None:
        """Build the unit; the kernel may be a pair (height, width), for the factorised convolutions."""
        super().__init__()
        height, width = (kernel_size, kernel_size) if isinstance(kernel_size, int) else kernel_size
        padding = (0, 0) if valid else (height // 2, width // 2)
        self.conv = nn.Conv2d(in_channels, out_channels, (height, width), stride, padding, bias=not batch_norm)
        # 0.001 is TensorFlow's epsilon, which the published weights of these families were trained with.
        self.bn = nn.BatchNorm2d(out_channels, eps=0.001) if batch_norm else None
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the convolution, the norm if there is one, and the ReLU."""
        x = self.conv(x)
        if self.bn is not None:
            x = self.bn(x)
        x = self.relu(x)
        return x


class ChunkedConv2d(nn.Module):
    """A grouped convolution written as the notes define it (2.3): one convolution on each chunk, outputs stacked.

    (N, in_channels, H, W) -> (N, out_channels, H', W'); the same function as `nn.Conv2d(groups=groups)`, whose weight
    is the chunks' weights stacked along the output channels.

    Raises:
        ValueError: the groups do not divide the channels.

    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: int = 0,
        groups: int = 1,
        bias: bool = True,
    ) -> None:
        """Build one convolution of in_channels / groups to out_channels / groups channels for each group."""
        super().__init__()
        if in_channels % groups or out_channels % groups:
            msg = f"{groups} groups must divide {in_channels} input channels and {out_channels} output channels"
            raise ValueError(msg)
        self.groups = groups
        self.chunks = nn.ModuleList(
            nn.Conv2d(in_channels // groups, out_channels // groups, kernel_size, stride, padding, bias=bias)
            for _ in range(groups)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Convolve each chunk of channels and stack the results."""
        parts = x.chunk(self.groups, dim=1)
        return torch.cat([convolution(parts[index]) for index, convolution in enumerate(self.chunks)], dim=1)


class PaddedShortcut(nn.Module):
    """Shortcut A of He et al. 2016, section 4.2: every stride-th pixel, missing channels filled with zeros.

    (N, C, H, W) -> (N, C + extra_channels, ceil(H / stride), ceil(W / stride)), no parameters.
    """

    def __init__(self, extra_channels: int, stride: int) -> None:
        """Keep how many channels to add and how many pixels to skip."""
        super().__init__()
        self.extra_channels = extra_channels
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """Subsample and pad."""
        return functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.extra_channels))

    def extra_repr(self) -> str:
        """Show both settings when the network is printed."""
        return f"extra_channels={self.extra_channels}, stride={self.stride}"
