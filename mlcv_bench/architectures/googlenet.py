"""GoogLeNet, or Inception-v1: the paper's (Szegedy et al. 2015, table 1; notes 2.1) and torchvision's.

The names of the layers are torchvision's, so that its weights load into its variant.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from mlcv_bench.architectures.catalog import IMAGENET, Architecture
from mlcv_bench.architectures.layers import ConvolutionUnit, initialise

NETWORKS = [
    Architecture(
        name=name,
        family="inception",
        build=f"{__name__}:{name}",
        config={},
        year=2015,
        paper="Szegedy et al. 2015",
        section="2.1",
        input=IMAGENET,
        smallest=smallest,
        torchvision=torchvision,
        in_family=torchvision is None,
    )
    for name, smallest, torchvision in (("googlenet", 31, None), ("googlenet_torchvision", 15, "googlenet"))
]


class GoogLeNetOutputs(NamedTuple):
    """What a network with auxiliary classifiers gives in training: three tensors of (N, num_classes) logits."""

    logits: Tensor
    aux2: Tensor
    aux1: Tensor


class Filters(NamedTuple):
    """Output channels of an inception module's convolutions: a line of the paper's table 1."""

    one: int
    three_reduce: int
    three: int
    five_reduce: int
    five: int
    pool: int

    def total(self) -> int:
        """Return the channels of the concatenation."""
        return self.one + self.three + self.five + self.pool


FILTERS = {
    "3a": Filters(one=64, three_reduce=96, three=128, five_reduce=16, five=32, pool=32),
    "3b": Filters(one=128, three_reduce=128, three=192, five_reduce=32, five=96, pool=64),
    "4a": Filters(one=192, three_reduce=96, three=208, five_reduce=16, five=48, pool=64),
    "4b": Filters(one=160, three_reduce=112, three=224, five_reduce=24, five=64, pool=64),
    "4c": Filters(one=128, three_reduce=128, three=256, five_reduce=24, five=64, pool=64),
    "4d": Filters(one=112, three_reduce=144, three=288, five_reduce=32, five=64, pool=64),
    "4e": Filters(one=256, three_reduce=160, three=320, five_reduce=32, five=128, pool=128),
    "5a": Filters(one=256, three_reduce=160, three=320, five_reduce=32, five=128, pool=128),
    "5b": Filters(one=384, three_reduce=192, three=384, five_reduce=48, five=128, pool=128),
}


class InceptionModule(nn.Module):
    """Four branches on one input, outputs concatenated (notes 2.1, figure 2.1).

    1x1; 1x1 then 3x3; 1x1 then 5x5; 3x3 max pool then 1x1. All keep height and width:
    (N, in_channels, H, W) -> (N, filters.total(), H, W).
    """

    def __init__(self, in_channels: int, filters: Filters, *, five_kernel: int = 5, batch_norm: bool = False) -> None:
        """Build the module; `five_kernel` is the kernel of the branch called five, which torchvision sets to 3."""
        super().__init__()
        self.branch1 = ConvolutionUnit(in_channels, filters.one, 1, batch_norm=batch_norm)
        self.branch2 = nn.Sequential(
            ConvolutionUnit(in_channels, filters.three_reduce, 1, batch_norm=batch_norm),
            ConvolutionUnit(filters.three_reduce, filters.three, 3, batch_norm=batch_norm),
        )
        self.branch3 = nn.Sequential(
            ConvolutionUnit(in_channels, filters.five_reduce, 1, batch_norm=batch_norm),
            ConvolutionUnit(filters.five_reduce, filters.five, five_kernel, batch_norm=batch_norm),
        )
        self.branch4 = nn.Sequential(
            nn.MaxPool2d(3, 1, padding=1),
            ConvolutionUnit(in_channels, filters.pool, 1, batch_norm=batch_norm),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Concatenate the branches."""
        return torch.cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], dim=1)


class AuxiliaryClassifier(nn.Module):
    """A softmax classifier on hidden features, for training alone: (N, in_channels, H, W) -> (N, num_classes)."""

    def __init__(self, in_channels: int, num_classes: int, pool: nn.Module, *, batch_norm: bool = False) -> None:
        """Build the classifier; `pool` must give 4x4."""
        super().__init__()
        self.pool = pool
        self.conv = ConvolutionUnit(in_channels, 128, 1, batch_norm=batch_norm)
        self.flatten = nn.Flatten()
        self.fc1 = nn.Linear(128 * 4 * 4, 1024)
        self.relu = nn.ReLU(inplace=True)
        self.dropout = nn.Dropout(0.7)
        self.fc2 = nn.Linear(1024, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        # N x 512 x 14 x 14 (aux2: 528 channels)
        x = self.conv(self.pool(x))
        # N x 128 x 4 x 4
        x = self.relu(self.fc1(self.flatten(x)))
        # N x 1024
        x = self.fc2(self.dropout(x))
        # N x num_classes
        return x


class GoogLeNet(nn.Module):
    """Stem of 5 layers, nine inception modules, global average pooling, one linear layer.

    (N, in_channels, H, W) -> (N, num_classes) logits; in training with auxiliary classifiers, `GoogLeNetOutputs`.
    """

    def __init__(
        self,
        *,
        like_torchvision: bool = False,
        auxiliary: bool = False,
        num_classes: int = 1000,
        in_channels: int = 3,
        dropout: float = 0.4,
    ) -> None:
        """Build the paper's network, or torchvision's: batch norm, 3x3 for 5x5, 2x2 for the last max pool."""
        super().__init__()
        norm = like_torchvision

        def module(name: str, in_channels: int) -> InceptionModule:
            # torchvision has 3x3 where the paper and the notes have 5x5, and keeps it for its published weights.
            kernel = 3 if like_torchvision else 5
            return InceptionModule(in_channels, FILTERS[name], five_kernel=kernel, batch_norm=norm)

        def response_norm() -> nn.Module:
            # Batch norm takes the place of the paper's local response normalisation in torchvision's.
            return nn.Identity() if like_torchvision else nn.LocalResponseNorm(5)

        self.conv1 = ConvolutionUnit(in_channels, 64, 7, stride=2, batch_norm=norm)
        self.maxpool1 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.norm1 = response_norm()
        self.conv2 = ConvolutionUnit(64, 64, 1, batch_norm=norm)
        self.conv3 = ConvolutionUnit(64, 192, 3, batch_norm=norm)
        self.norm2 = response_norm()
        self.maxpool2 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.inception3a = module("3a", 192)
        self.inception3b = module("3b", FILTERS["3a"].total())
        self.maxpool3 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.inception4a = module("4a", FILTERS["3b"].total())
        self.inception4b = module("4b", FILTERS["4a"].total())
        self.inception4c = module("4c", FILTERS["4b"].total())
        self.inception4d = module("4d", FILTERS["4c"].total())
        self.inception4e = module("4e", FILTERS["4d"].total())
        self.maxpool4 = nn.MaxPool2d(2 if like_torchvision else 3, 2, ceil_mode=True)
        self.inception5a = module("5a", FILTERS["4e"].total())
        self.inception5b = module("5b", FILTERS["5a"].total())
        self.auxiliary = auxiliary
        if auxiliary:
            self.aux1 = self._head("4a", num_classes, like_torchvision=like_torchvision)
            self.aux2 = self._head("4d", num_classes, like_torchvision=like_torchvision)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(FILTERS["5b"].total(), num_classes)
        initialise(self, fan="in")

    @staticmethod
    def _head(after: str, num_classes: int, *, like_torchvision: bool) -> AuxiliaryClassifier:
        # The paper's 5x5 pool with stride 3 takes 14x14 to 4x4, and no other size; torchvision's takes any.
        pool: nn.Module = nn.AdaptiveAvgPool2d(4) if like_torchvision else nn.AvgPool2d(5, 3)
        return AuxiliaryClassifier(FILTERS[after].total(), num_classes, pool, batch_norm=like_torchvision)

    def forward(self, x: Tensor) -> Tensor | GoogLeNetOutputs:
        """Return the logits, in training with those of the auxiliary classifiers; inference does not run these."""
        heads = self.auxiliary and self.training
        # N x 3 x 224 x 224
        x = self.conv1(x)
        # N x 64 x 112 x 112
        x = self.norm1(self.maxpool1(x))
        # N x 64 x 56 x 56
        x = self.conv2(x)
        # N x 64 x 56 x 56
        x = self.norm2(self.conv3(x))
        # N x 192 x 56 x 56
        x = self.maxpool2(x)
        # N x 192 x 28 x 28
        x = self.inception3a(x)
        # N x 256 x 28 x 28
        x = self.inception3b(x)
        # N x 480 x 28 x 28
        x = self.maxpool3(x)
        # N x 480 x 14 x 14
        x = self.inception4a(x)
        # N x 512 x 14 x 14
        aux1 = self.aux1(x) if heads else None
        x = self.inception4b(x)
        # N x 512 x 14 x 14
        x = self.inception4c(x)
        # N x 512 x 14 x 14
        x = self.inception4d(x)
        # N x 528 x 14 x 14
        aux2 = self.aux2(x) if heads else None
        x = self.inception4e(x)
        # N x 832 x 14 x 14
        x = self.maxpool4(x)
        # N x 832 x 7 x 7
        x = self.inception5a(x)
        # N x 832 x 7 x 7
        x = self.inception5b(x)
        # N x 1024 x 7 x 7
        x = self.flatten(self.avgpool(x))
        # N x 1024
        x = self.fc(self.dropout(x))
        # N x num_classes
        if aux1 is None or aux2 is None:
            return x
        return GoogLeNetOutputs(x, aux2, aux1)


def googlenet(
    *, auxiliary: bool = False, num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.4
) -> GoogLeNet:
    """Build the paper's GoogLeNet: biases, no batch norm, real 5x5, response normalisation in the stem.

    Args:
        auxiliary: with both auxiliary classifiers, which run in training alone (input 224x224).
        num_classes: length of the output.
        in_channels: channels of the image.
        dropout: share of the last features that training drops.

    """
    return GoogLeNet(auxiliary=auxiliary, num_classes=num_classes, in_channels=in_channels, dropout=dropout)


def googlenet_torchvision(
    *, auxiliary: bool = False, num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.2
) -> GoogLeNet:
    """Build torchvision's GoogLeNet: batch norm, and 3x3 where the paper has 5x5.

    Args:
        auxiliary: with both auxiliary classifiers, which run in training alone.
        num_classes: length of the output.
        in_channels: channels of the image.
        dropout: share of the last features that training drops.

    """
    return GoogLeNet(
        like_torchvision=True,
        auxiliary=auxiliary,
        num_classes=num_classes,
        in_channels=in_channels,
        dropout=dropout,
    )
