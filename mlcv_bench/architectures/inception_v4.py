"""Inception-v4 (Szegedy et al. 2016, figures 3 to 9): the inception modules with factorised convolutions, no skips."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mlcv_bench.architectures.layers import ConvolutionUnit as Unit
from mlcv_bench.architectures.layers import initialise


class Branches(nn.Module):
    """Branches on one input, outputs concatenated along the channels."""

    def __init__(self, *branches: nn.Module) -> None:
        """Keep the branches, in the order of their outputs."""
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        """Concatenate the branches."""
        return torch.cat([branch(x) for branch in self.branches], dim=1)


def average_pool() -> nn.Module:
    """Return the 3x3 average pooling of the modules, which keeps height and width and leaves the padding out."""
    return nn.AvgPool2d(3, 1, padding=1, count_include_pad=False)


class InceptionV4Stem(nn.Sequential):
    """(N, in_channels, 299, 299) -> (N, 384, 35, 35) (figure 3); Inception-ResNet-v2 of the paper has the same."""

    def __init__(self, in_channels: int = 3) -> None:
        """Build the stem."""
        super().__init__(
            # N x 3 x 299 x 299
            Unit(in_channels, 32, 3, stride=2, valid=True),
            # N x 32 x 149 x 149
            Unit(32, 32, 3, valid=True),
            # N x 32 x 147 x 147
            Unit(32, 64, 3),
            # N x 64 x 147 x 147
            Branches(nn.MaxPool2d(3, 2), Unit(64, 96, 3, stride=2, valid=True)),
            # N x 160 x 73 x 73
            Branches(
                nn.Sequential(Unit(160, 64, 1), Unit(64, 96, 3, valid=True)),
                nn.Sequential(
                    Unit(160, 64, 1), Unit(64, 64, (7, 1)), Unit(64, 64, (1, 7)), Unit(64, 96, 3, valid=True)
                ),
            ),
            # N x 192 x 71 x 71
            Branches(Unit(192, 192, 3, stride=2, valid=True), nn.MaxPool2d(3, 2)),
            # N x 384 x 35 x 35
        )


class InceptionA(Branches):
    """35x35 module (figure 4): (N, in_channels, H, W) -> (N, 384, H, W)."""

    def __init__(self, in_channels: int = 384) -> None:
        """Build the module."""
        super().__init__(
            nn.Sequential(average_pool(), Unit(in_channels, 96, 1)),
            Unit(in_channels, 96, 1),
            nn.Sequential(Unit(in_channels, 64, 1), Unit(64, 96, 3)),
            nn.Sequential(Unit(in_channels, 64, 1), Unit(64, 96, 3), Unit(96, 96, 3)),
        )


class InceptionB(Branches):
    """17x17 module (figure 5): (N, in_channels, H, W) -> (N, 1024, H, W)."""

    def __init__(self, in_channels: int = 1024) -> None:
        """Build the module."""
        super().__init__(
            nn.Sequential(average_pool(), Unit(in_channels, 128, 1)),
            Unit(in_channels, 384, 1),
            nn.Sequential(Unit(in_channels, 192, 1), Unit(192, 224, (1, 7)), Unit(224, 256, (7, 1))),
            nn.Sequential(
                Unit(in_channels, 192, 1),
                Unit(192, 192, (1, 7)),
                Unit(192, 224, (7, 1)),
                Unit(224, 224, (1, 7)),
                Unit(224, 256, (7, 1)),
            ),
        )


class InceptionC(Branches):
    """8x8 module (figure 6): (N, in_channels, H, W) -> (N, 1536, H, W)."""

    def __init__(self, in_channels: int = 1536) -> None:
        """Build the module."""
        super().__init__(
            nn.Sequential(average_pool(), Unit(in_channels, 256, 1)),
            Unit(in_channels, 256, 1),
            nn.Sequential(Unit(in_channels, 384, 1), Branches(Unit(384, 256, (1, 3)), Unit(384, 256, (3, 1)))),
            nn.Sequential(
                Unit(in_channels, 384, 1),
                Unit(384, 448, (1, 3)),
                Unit(448, 512, (3, 1)),
                Branches(Unit(512, 256, (3, 1)), Unit(512, 256, (1, 3))),
            ),
        )


class ReductionA(Branches):
    """35x35 to 17x17 (figure 7): (N, in_channels, H, W) -> (N, n + m + in_channels, (H-1)//2, (W-1)//2).

    k, l, m and n are the paper's (table 1). Inception-v4: 192, 224, 256, 384; Inception-ResNet-v1: 192, 192, 256, 384;
    v2: 256, 256, 384, 384.
    """

    def __init__(self, in_channels: int = 384, *, k: int = 192, l: int = 224, m: int = 256, n: int = 384) -> None:  # noqa: E741 - the paper's letter
        """Build the reduction."""
        super().__init__(
            nn.MaxPool2d(3, 2),
            Unit(in_channels, n, 3, stride=2, valid=True),
            nn.Sequential(Unit(in_channels, k, 1), Unit(k, l, 3), Unit(l, m, 3, stride=2, valid=True)),
        )


class ReductionB(Branches):
    """17x17 to 8x8 of Inception-v4 (figure 8): (N, 1024, H, W) -> (N, 1536, (H-1)//2, (W-1)//2)."""

    def __init__(self, in_channels: int = 1024) -> None:
        """Build the reduction."""
        super().__init__(
            nn.MaxPool2d(3, 2),
            nn.Sequential(Unit(in_channels, 192, 1), Unit(192, 192, 3, stride=2, valid=True)),
            nn.Sequential(
                Unit(in_channels, 256, 1),
                Unit(256, 256, (1, 7)),
                Unit(256, 320, (7, 1)),
                Unit(320, 320, 3, stride=2, valid=True),
            ),
        )


class InceptionV4(nn.Module):
    """Stem, 4 x A, reduction, 7 x B, reduction, 3 x C, global average pooling, one linear layer (figure 9).

    (N, in_channels, H, W) -> (N, num_classes) logits.
    """

    def __init__(self, *, num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.2) -> None:
        """Build the network."""
        super().__init__()
        self.stem = InceptionV4Stem(in_channels)
        self.inception_a = nn.Sequential(*(InceptionA() for _ in range(4)))
        self.reduction_a = ReductionA()
        self.inception_b = nn.Sequential(*(InceptionB() for _ in range(7)))
        self.reduction_b = ReductionB()
        self.inception_c = nn.Sequential(*(InceptionC() for _ in range(3)))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(1536, num_classes)
        initialise(self, fan="in")

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        # N x 3 x 299 x 299
        x = self.stem(x)
        # N x 384 x 35 x 35
        x = self.inception_a(x)
        # N x 384 x 35 x 35
        x = self.reduction_a(x)
        # N x 1024 x 17 x 17
        x = self.inception_b(x)
        # N x 1024 x 17 x 17
        x = self.reduction_b(x)
        # N x 1536 x 8 x 8
        x = self.inception_c(x)
        # N x 1536 x 8 x 8
        x = self.flatten(self.avgpool(x))
        # N x 1536
        x = self.fc(self.dropout(x))
        # N x num_classes
        return x


def inception_v4(*, num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.2) -> InceptionV4:
    """Build Inception-v4.

    Args:
        num_classes: length of the output.
        in_channels: channels of the image.
        dropout: share of the last features that training drops (the paper keeps 0.8).

    """
    return InceptionV4(num_classes=num_classes, in_channels=in_channels, dropout=dropout)
