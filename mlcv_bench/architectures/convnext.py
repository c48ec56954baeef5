"""ConvNeXt: a ResNet with the choices of a transformer, depthwise 7x7 convolutions among them (Liu et al. 2022).

The names of the layers are torchvision's, so that its weights load.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from mlcv_bench.architectures.catalog import IMAGENET, Architecture

NETWORKS = [
    Architecture(
        name="convnext_tiny",
        family="convnext",
        build=f"{__name__}:ConvNeXt",
        config={"layers": (3, 3, 9, 3), "widths": (96, 192, 384, 768)},
        year=2022,
        paper="Liu et al. 2022",
        section="",
        input=IMAGENET,
        smallest=32,
        torchvision="convnext_tiny",
    ),
]

EPSILON = 1e-6


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of each pixel: (N, C, H, W) -> (N, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise with the channels last."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Permute(nn.Module):
    """Another order of the dimensions."""

    def __init__(self, *order: int) -> None:
        """Keep the order."""
        super().__init__()
        self.order = order

    def forward(self, x: Tensor) -> Tensor:
        """Return a view of `x`."""
        return x.permute(self.order)


class ConvNeXtBlock(nn.Module):
    """x + scale * F(x) with F: depthwise 7x7, norm, 1x1 to 4 times the channels, GELU, 1x1 back (figure 4).

    The 1x1 convolutions are linear layers on pixels with the channels last. (N, C, H, W) -> (N, C, H, W).
    """

    def __init__(self, channels: int, *, layer_scale: float, stochastic_depth: float) -> None:
        """Build the block; training leaves F out for a share `stochastic_depth` of the images."""
        super().__init__()
        self.layer_scale = nn.Parameter(torch.full((channels, 1, 1), layer_scale))
        self.block = nn.Sequential(
            nn.Conv2d(channels, channels, 7, padding=3, groups=channels),
            Permute(0, 2, 3, 1),
            # N x H x W x C
            nn.LayerNorm(channels, eps=EPSILON),
            nn.Linear(channels, 4 * channels),
            nn.GELU(),
            nn.Linear(4 * channels, channels),
            Permute(0, 3, 1, 2),
        )
        self.stochastic_depth = stochastic_depth

    def forward(self, x: Tensor) -> Tensor:
        """Add F(x), which is left out for some images in training (Huang et al. 2016)."""
        out: Tensor = self.layer_scale * self.block(x)
        if self.training and self.stochastic_depth:
            kept = functional.dropout(out.new_ones(len(out), 1, 1, 1), self.stochastic_depth)
            out = out * kept
        return x + out


class ConvNeXt(nn.Module):
    """Stem, four stages with a 2x2 convolution between them, global average pooling, norm, one linear layer.

    (N, in_channels, H, W) -> (N, num_classes) logits.
    """

    def __init__(
        self,
        *,
        layers: tuple[int, ...],
        widths: tuple[int, ...],
        num_classes: int = 1000,
        in_channels: int = 3,
        layer_scale: float = 1e-6,
        stochastic_depth: float = 0.1,
    ) -> None:
        """Build the network.

        Args:
            layers: blocks in each stage (table 9).
            widths: channels of each stage.
            num_classes: length of the output.
            in_channels: channels of the image.
            layer_scale: what the branch of every block is scaled by at first.
            stochastic_depth: share of the images that skip the last block in training; it falls to 0 at the first.

        """
        super().__init__()
        self.features = nn.Sequential(
            nn.Sequential(nn.Conv2d(in_channels, widths[0], 4, 4), ChannelNorm(widths[0], eps=EPSILON))
        )
        position = 0
        for number, (blocks, width) in enumerate(zip(layers, widths, strict=True)):
            if number > 0:
                before = widths[number - 1]
                self.features.append(nn.Sequential(ChannelNorm(before, eps=EPSILON), nn.Conv2d(before, width, 2, 2)))
            stage = nn.Sequential()
            for _ in range(blocks):
                share = stochastic_depth * position / (sum(layers) - 1)
                stage.append(ConvNeXtBlock(width, layer_scale=layer_scale, stochastic_depth=share))
                position += 1
            self.features.append(stage)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(
            ChannelNorm(widths[-1], eps=EPSILON), nn.Flatten(), nn.Linear(widths[-1], num_classes)
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
                # On the meta device torch would import its compiler to fill nothing.
                if not module.weight.is_meta:
                    nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        # N x 3 x 224 x 224; the stages of ConvNeXt-T end at 56, 28, 14 and 7 pixels
        x = self.features(x)
        # N x 768 x 7 x 7
        x = self.avgpool(x)
        # N x 768 x 1 x 1
        x = self.classifier(x)
        # N x num_classes
        return x
