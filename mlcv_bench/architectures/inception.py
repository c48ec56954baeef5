"""Inception-v4 and Inception-ResNet (Szegedy et al. 2016; notes 2.2.2): factorised convolutions, then skip connections.

The notes call the section Inception-ResNet-v4; the paper has Inception-v4, and Inception-ResNet v1 and v2. Version 2
is here twice: as TF-slim and timm ship it, and as the paper draws it, which has 1.7 times fewer parameters.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mlcv_bench.architectures.catalog import Architecture
from mlcv_bench.architectures.layers import ConvolutionUnit as Unit
from mlcv_bench.architectures.layers import initialise

NETWORKS = [
    Architecture(
        name=name,
        family="inception",
        build=f"{__name__}:{builder}",
        config={},
        year=2016,
        paper="Szegedy et al. 2016",
        section="2.2.2",
        input=(3, 299, 299),
        smallest=75,
        in_family=name != "inception_resnet_v2_paper",
    )
    for name, builder in (
        ("inception_v4", "InceptionV4"),
        ("inception_resnet_v1", "inception_resnet_v1"),
        ("inception_resnet_v2", "inception_resnet_v2"),
        ("inception_resnet_v2_paper", "inception_resnet_v2_paper"),
    )
]


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
        """Build the network.

        Args:
            num_classes: length of the output.
            in_channels: channels of the image.
            dropout: share of the last features that training drops (the paper keeps 0.8).

        """
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


class InceptionResNetBlock(nn.Module):
    """relu(x + scale * F(x)), where F concatenates branches and matches the input's channels with a linear 1x1.

    The 1x1 has a bias and neither norm nor ReLU; the sum has no norm (section 3.2). (N, C, H, W) -> (N, C, H, W).
    The paper scales F by 0.1 to 0.3, so that wide networks train (section 3.3).
    """

    def __init__(
        self, in_channels: int, branches: Branches, width: int, *, scale: float, activate: bool = True
    ) -> None:
        """Build the block from `branches` that give `width` channels; without `activate` the ReLU is left out."""
        super().__init__()
        self.branches = branches
        self.project = nn.Conv2d(width, in_channels, 1)
        self.scale = scale
        self.relu = nn.ReLU(inplace=True) if activate else None

    def forward(self, x: Tensor) -> Tensor:
        """Add what the branches found, before the ReLU."""
        x = x + self.scale * self.project(self.branches(x))
        if self.relu is not None:
            x = self.relu(x)
        return x

    def extra_repr(self) -> str:
        """Show the scale when the network is printed."""
        return f"scale={self.scale}"


class InceptionResNetA(InceptionResNetBlock):
    """35x35 block (figures 10 and 16): 1x1 | 1x1, 3x3 | 1x1, 3x3, 3x3. (N, C, H, W) -> (N, C, H, W)."""

    def __init__(
        self, in_channels: int = 256, *, five: tuple[int, int, int] = (32, 32, 32), scale: float = 0.17
    ) -> None:
        """Build the block; `five` has the widths of the factorised 5x5 branch, which versions 1 and 2 differ in."""
        reduce, first, second = five
        branches = Branches(
            Unit(in_channels, 32, 1),
            nn.Sequential(Unit(in_channels, 32, 1), Unit(32, 32, 3)),
            nn.Sequential(Unit(in_channels, reduce, 1), Unit(reduce, first, 3), Unit(first, second, 3)),
        )
        super().__init__(in_channels, branches, 32 + 32 + second, scale=scale)


class InceptionResNetB(InceptionResNetBlock):
    """17x17 block (figures 11 and 17): 1x1 | 1x1, 1x7, 7x1. (N, C, H, W) -> (N, C, H, W)."""

    def __init__(
        self,
        in_channels: int = 896,
        *,
        one: int = 128,
        seven: tuple[int, int, int] = (128, 128, 128),
        scale: float = 0.1,
    ) -> None:
        """Build the block; `one` is the width of the 1x1 branch, `seven` has those of the factorised 7x7 branch."""
        reduce, first, second = seven
        branches = Branches(
            Unit(in_channels, one, 1),
            nn.Sequential(Unit(in_channels, reduce, 1), Unit(reduce, first, (1, 7)), Unit(first, second, (7, 1))),
        )
        super().__init__(in_channels, branches, one + second, scale=scale)


class InceptionResNetC(InceptionResNetBlock):
    """8x8 block (figures 13 and 19): 1x1 | 1x1, 1x3, 3x1. (N, C, H, W) -> (N, C, H, W)."""

    def __init__(
        self,
        in_channels: int = 1792,
        *,
        three: tuple[int, int, int] = (192, 192, 192),
        scale: float = 0.2,
        activate: bool = True,
    ) -> None:
        """Build the block; `three` has the widths of the factorised 3x3 branch."""
        reduce, first, second = three
        branches = Branches(
            Unit(in_channels, 192, 1),
            nn.Sequential(Unit(in_channels, reduce, 1), Unit(reduce, first, (1, 3)), Unit(first, second, (3, 1))),
        )
        super().__init__(in_channels, branches, 192 + second, scale=scale, activate=activate)


class InceptionResNetReduction(Branches):
    """17x17 to 8x8 (figures 12 and 18): max pool | 256, 384 | 256, second | 256, third[0], third[1].

    (N, C, H, W) -> (N, C + 384 + second + third[1], (H-1)//2, (W-1)//2).
    """

    def __init__(self, in_channels: int = 896, *, second: int = 256, third: tuple[int, int] = (256, 256)) -> None:
        """Build the reduction."""
        super().__init__(
            nn.MaxPool2d(3, 2),
            nn.Sequential(Unit(in_channels, 256, 1), Unit(256, 384, 3, stride=2, valid=True)),
            nn.Sequential(Unit(in_channels, 256, 1), Unit(256, second, 3, stride=2, valid=True)),
            nn.Sequential(
                Unit(in_channels, 256, 1),
                Unit(256, third[0], 3),
                Unit(third[0], third[1], 3, stride=2, valid=True),
            ),
        )


def plain_stem(in_channels: int) -> list[nn.Module]:
    """Return the stem that version 1 and TF-slim's version 2 begin with: (N, in_channels, 299, 299) -> 192x71x71."""
    return [
        # N x 3 x 299 x 299
        Unit(in_channels, 32, 3, stride=2, valid=True),
        # N x 32 x 149 x 149
        Unit(32, 32, 3, valid=True),
        # N x 32 x 147 x 147
        Unit(32, 64, 3),
        # N x 64 x 147 x 147
        nn.MaxPool2d(3, 2),
        # N x 64 x 73 x 73
        Unit(64, 80, 1),
        # N x 80 x 73 x 73
        Unit(80, 192, 3, valid=True),
        # N x 192 x 71 x 71
    ]


class InceptionResNet(nn.Module):
    """Stem, blocks A, reduction, blocks B, reduction, blocks C, global average pooling, one linear layer (figure 15).

    (N, in_channels, H, W) -> (N, num_classes) logits.
    """

    def __init__(
        self,
        parts: dict[str, nn.Module],
        channels: int,
        *,
        num_classes: int,
        dropout: float,
    ) -> None:
        """Put `parts` together, in their order; `channels` is what the last of them gives."""
        super().__init__()
        self.features = nn.Sequential()
        for name, part in parts.items():
            self.features.add_module(name, part)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(channels, num_classes)
        initialise(self, fan="in")

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        # N x 3 x 299 x 299
        x = self.features(x)
        # N x 1792 x 8 x 8 (v2: 1536, the paper's v2: 2144)
        x = self.flatten(self.avgpool(x))
        # N x 1792 (1536, 2144)
        x = self.fc(self.dropout(x))
        # N x num_classes
        return x


def inception_resnet_v1(
    *,
    num_classes: int = 1000,
    in_channels: int = 3,
    scale_a: float = 0.17,
    scale_b: float = 0.1,
    scale_c: float = 0.2,
    dropout: float = 0.2,
) -> InceptionResNet:
    """Build Inception-ResNet-v1: 5 x A on 256, 10 x B on 896, 5 x C on 1792 channels.

    Args:
        num_classes: length of the output.
        in_channels: channels of the image.
        scale_a: what the branches of A are scaled by; the paper says 0.1 to 0.3, TF-slim these three.
        scale_b: what those of B are scaled by.
        scale_c: what those of C are scaled by.
        dropout: share of the last features that training drops.

    """
    parts: dict[str, nn.Module] = {
        "stem": nn.Sequential(*plain_stem(in_channels), Unit(192, 256, 3, stride=2, valid=True)),
        # N x 256 x 35 x 35
        "a": nn.Sequential(*(InceptionResNetA(256, scale=scale_a) for _ in range(5))),
        # N x 256 x 35 x 35
        "reduction_a": ReductionA(256, k=192, l=192, m=256, n=384),
        # N x 896 x 17 x 17
        "b": nn.Sequential(*(InceptionResNetB(896, scale=scale_b) for _ in range(10))),
        # N x 896 x 17 x 17
        "reduction_b": InceptionResNetReduction(896, second=256, third=(256, 256)),
        # N x 1792 x 8 x 8
        "c": nn.Sequential(*(InceptionResNetC(1792, scale=scale_c) for _ in range(5))),
        # N x 1792 x 8 x 8
    }
    return InceptionResNet(parts, 1792, num_classes=num_classes, dropout=dropout)


def inception_resnet_v2(
    *,
    num_classes: int = 1000,
    in_channels: int = 3,
    scale_a: float = 0.17,
    scale_b: float = 0.1,
    scale_c: float = 0.2,
    dropout: float = 0.2,
) -> InceptionResNet:
    """Build Inception-ResNet-v2 as TF-slim and timm ship it: 10 x A on 320, 20 x B on 1088, 10 x C on 2080 channels.

    The arguments are those of `inception_resnet_v1`.
    """
    mixed = Branches(
        Unit(192, 96, 1),
        nn.Sequential(Unit(192, 48, 1), Unit(48, 64, 5)),
        nn.Sequential(Unit(192, 64, 1), Unit(64, 96, 3), Unit(96, 96, 3)),
        nn.Sequential(nn.AvgPool2d(3, 1, padding=1, count_include_pad=False), Unit(192, 64, 1)),
    )
    parts: dict[str, nn.Module] = {
        "stem": nn.Sequential(*plain_stem(in_channels), nn.MaxPool2d(3, 2), mixed),
        # N x 320 x 35 x 35
        "a": nn.Sequential(*(InceptionResNetA(320, five=(32, 48, 64), scale=scale_a) for _ in range(10))),
        # N x 320 x 35 x 35
        "reduction_a": ReductionA(320, k=256, l=256, m=384, n=384),
        # N x 1088 x 17 x 17
        "b": nn.Sequential(*(InceptionResNetB(1088, one=192, seven=(128, 160, 192), scale=scale_b) for _ in range(20))),
        # N x 1088 x 17 x 17
        "reduction_b": InceptionResNetReduction(1088, second=288, third=(288, 320)),
        # N x 2080 x 8 x 8; TF-slim's last block is neither scaled nor followed by a ReLU
        "c": nn.Sequential(
            *(InceptionResNetC(2080, three=(192, 224, 256), scale=scale_c) for _ in range(9)),
            InceptionResNetC(2080, three=(192, 224, 256), scale=1.0, activate=False),
        ),
        # N x 2080 x 8 x 8
        "last": Unit(2080, 1536, 1),
        # N x 1536 x 8 x 8
    }
    return InceptionResNet(parts, 1536, num_classes=num_classes, dropout=dropout)


def inception_resnet_v2_paper(
    *,
    num_classes: int = 1000,
    in_channels: int = 3,
    scale_a: float = 0.17,
    scale_b: float = 0.1,
    scale_c: float = 0.2,
    dropout: float = 0.2,
) -> InceptionResNet:
    """Build Inception-ResNet-v2 as the paper draws it: 5 x A on 384, 10 x B on 1152, 5 x C on 2144 channels.

    The arguments are those of `inception_resnet_v1`.
    """
    parts: dict[str, nn.Module] = {
        "stem": InceptionV4Stem(in_channels),
        # N x 384 x 35 x 35
        "a": nn.Sequential(*(InceptionResNetA(384, five=(32, 48, 64), scale=scale_a) for _ in range(5))),
        # N x 384 x 35 x 35
        "reduction_a": ReductionA(384, k=256, l=256, m=384, n=384),
        # N x 1152 x 17 x 17; figure 17 prints 1154, which no skip connection could match
        "b": nn.Sequential(*(InceptionResNetB(1152, one=192, seven=(128, 160, 192), scale=scale_b) for _ in range(10))),
        # N x 1152 x 17 x 17
        "reduction_b": InceptionResNetReduction(1152, second=288, third=(288, 320)),
        # N x 2144 x 8 x 8; figure 19 prints 2048, which no skip connection could match
        "c": nn.Sequential(*(InceptionResNetC(2144, three=(192, 224, 256), scale=scale_c) for _ in range(5))),
        # N x 2144 x 8 x 8
    }
    return InceptionResNet(parts, 2144, num_classes=num_classes, dropout=dropout)
