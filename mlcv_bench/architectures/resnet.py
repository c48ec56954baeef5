"""ResNet (He et al. 2016; notes 2.2.1): the blocks, one stage builder, the networks for 224x224 and 32x32 images.

The names of the layers are torchvision's, so that its weights load.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

from torch import Tensor, nn

from mlcv_bench.architectures.catalog import CIFAR, IMAGENET, Architecture
from mlcv_bench.architectures.layers import PaddedShortcut, initialise

NETWORKS = [
    *(
        Architecture(
            name=name,
            family=family,
            build=f"{__name__}:resnet",
            config={"block": block, "layers": layers, "stride_in": stride_in, "width_factor": width_factor},
            year=2016,
            paper="Zagoruyko and Komodakis 2016" if family == "wide_resnet" else "He et al. 2016",
            section="2.2.1",
            input=IMAGENET,
            smallest=1,
            # torchvision has the stride in the 3x3.
            torchvision=name.removesuffix("_v1_5") if block == "basic" or stride_in == "3x3" else None,
            in_family=family != "wide_resnet",
        )
        for name, family, block, layers, stride_in, width_factor in (
            ("resnet18", "resnet", "basic", (2, 2, 2, 2), "1x1", 1),
            ("resnet34", "resnet", "basic", (3, 4, 6, 3), "1x1", 1),
            ("resnet50", "resnet", "bottleneck", (3, 4, 6, 3), "1x1", 1),
            ("resnet101", "resnet", "bottleneck", (3, 4, 23, 3), "1x1", 1),
            ("resnet152", "resnet", "bottleneck", (3, 8, 36, 3), "1x1", 1),
            ("resnet50_v1_5", "resnet_v1_5", "bottleneck", (3, 4, 6, 3), "3x3", 1),
            ("resnet101_v1_5", "resnet_v1_5", "bottleneck", (3, 4, 23, 3), "3x3", 1),
            ("resnet152_v1_5", "resnet_v1_5", "bottleneck", (3, 8, 36, 3), "3x3", 1),
            ("wide_resnet50_2", "wide_resnet", "bottleneck", (3, 4, 6, 3), "3x3", 2),
        )
    ),
    *(
        Architecture(
            name=f"{kind}{depth}",
            family=f"{kind}_cifar",
            build=f"{__name__}:resnet_cifar",
            # Settings of a skip connection that is not there are no options of the plain twin.
            config={"blocks": (depth - 2) // 6}
            | ({"skip": False, "shortcut": "padding", "skip_after_relu": False} if kind == "plain" else {}),
            year=2016,
            paper="He et al. 2016",
            section="2.2",
            input=CIFAR,
            smallest=1,
            in_family=kind == "resnet" and depth > 8,  # noqa: PLR2004 - one block a stage: not the paper's, but trains in seconds
        )
        for kind in ("resnet", "plain")
        for depth in (8, 20, 32, 44, 56, 110)
    ),
]


class ResidualBlock(nn.Module):
    """What all residual blocks share: relu(F(x) + x), where a subclass says what F is.

    (N, in_channels, H, W) -> (N, out_channels, ceil(H / stride), ceil(W / stride)).
    """

    def __init__(self, out_channels: int, *, skip: bool, skip_after_relu: bool) -> None:
        """Keep where the skip connection goes; `downsample` is set by the subclass, after its convolutions."""
        super().__init__()
        self.out_channels = out_channels
        self.skip = skip
        self.skip_after_relu = skip_after_relu
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None

    def residual(self, x: Tensor) -> Tensor:
        """Compute F(x), batch norm included, ReLU left out."""
        raise NotImplementedError

    def last_norm(self) -> nn.Module:
        """Return the batch norm that ends F; the block is the identity (then ReLU) where its weight is 0."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Add the skip connection, before the ReLU unless asked otherwise."""
        out: Tensor = self.residual(x)
        if not self.skip:  # the plain twin of He et al. 2016
            out = self.relu(out)
            return out
        shortcut: Tensor = x if self.downsample is None else self.downsample(x)
        if self.skip_after_relu:  # what the notes warn of: only positive values can be added
            out = self.relu(out) + shortcut
        else:
            out += shortcut
            out = self.relu(out)
        return out


def fit_shortcut(
    in_channels: int, out_channels: int, stride: int, *, kind: Literal["projection", "padding"] = "projection"
) -> nn.Module | None:
    """Return what makes the skip connection's shape fit: nothing where it fits, a 1x1 convolution, or padding."""
    if stride == 1 and in_channels == out_channels:
        return None
    if kind == "padding":
        return PaddedShortcut(out_channels - in_channels, stride)
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 1, stride, bias=False),
        nn.BatchNorm2d(out_channels),
    )


class BasicBlock(ResidualBlock):
    """The standard residual block: two 3x3 convolutions, each with batch norm (notes 2.2.1, figure 2.4 left).

    (N, in_channels, H, W) -> (N, out_channels, ceil(H / stride), ceil(W / stride)).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        *,
        shortcut_kind: Literal["projection", "padding"] = "projection",
        skip: bool = True,
        skip_after_relu: bool = False,
    ) -> None:
        """Build the block; `stride` is that of its first convolution."""
        super().__init__(out_channels, skip=skip, skip_after_relu=skip_after_relu)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        if skip:
            self.downsample = fit_shortcut(in_channels, out_channels, stride, kind=shortcut_kind)

    def residual(self, x: Tensor) -> Tensor:
        """Compute F(x)."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.bn2(self.conv2(x))
        return x

    def last_norm(self) -> nn.Module:
        """Return the second batch norm."""
        return self.bn2


class Bottleneck(ResidualBlock):
    """1x1 to a quarter of the channels, 3x3, 1x1 back (notes 2.2.1, figure 2.4 right).

    (N, in_channels, H, W) -> (N, out_channels, ceil(H / stride), ceil(W / stride)).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        *,
        width: int | None = None,
        stride_in: Literal["1x1", "3x3"] = "1x1",
        skip: bool = True,
        skip_after_relu: bool = False,
    ) -> None:
        """Build the block.

        Args:
            in_channels: channels of the input.
            out_channels: channels of the output.
            stride: how much smaller height and width become.
            width: channels of the 3x3 convolution, a quarter of `out_channels` unless given.
            stride_in: the convolution with the stride: the first 1x1 (the paper, the notes) or the 3x3 (v1.5).
            skip: whether there is a skip connection.
            skip_after_relu: whether it is added after the ReLU.

        """
        super().__init__(out_channels, skip=skip, skip_after_relu=skip_after_relu)
        width = out_channels // 4 if width is None else width
        first, second = (stride, 1) if stride_in == "1x1" else (1, stride)
        self.conv1 = nn.Conv2d(in_channels, width, 1, first, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, second, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        if skip:
            self.downsample = fit_shortcut(in_channels, out_channels, stride)

    def residual(self, x: Tensor) -> Tensor:
        """Compute F(x)."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        x = self.bn3(self.conv3(x))
        return x

    def last_norm(self) -> nn.Module:
        """Return the third batch norm."""
        return self.bn3


BlockBuilder = Callable[[int, int, int], ResidualBlock]
"""Builds a block from (in_channels, out_channels, stride)."""


def stage(block: BlockBuilder, in_channels: int, out_channels: int, blocks: int, stride: int) -> nn.Sequential:
    """Return one stage: `blocks` residual blocks, of which the first changes the shape."""
    first = block(in_channels, out_channels, stride)
    return nn.Sequential(first, *(block(out_channels, out_channels, 1) for _ in range(blocks - 1)))


def zero_last_norms(network: nn.Module) -> None:
    """Let every residual block start as the identity: F(x) = 0 (Goyal et al. 2017, section 5.1; notes 2.2)."""
    for module in network.modules():
        if isinstance(module, ResidualBlock):
            weight = module.last_norm().weight
            if isinstance(weight, nn.Parameter):
                nn.init.zeros_(weight)


class ResNet(nn.Module):
    """Stem, four stages of residual blocks, global average pooling, one linear layer.

    (N, in_channels, H, W) -> (N, num_classes) logits.
    """

    def __init__(
        self,
        block: BlockBuilder,
        layers: Sequence[int],
        widths: Sequence[int],
        *,
        num_classes: int = 1000,
        in_channels: int = 3,
        zero_init_residual: bool = False,
    ) -> None:
        """Build the network: `layers` blocks in each stage, whose outputs have `widths` channels."""
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 64, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        # The first stage follows the max pool and keeps height and width; "each stage halves" holds from the second on.
        self.layer1 = stage(block, 64, widths[0], layers[0], 1)
        self.layer2 = stage(block, widths[0], widths[1], layers[1], 2)
        self.layer3 = stage(block, widths[1], widths[2], layers[2], 2)
        self.layer4 = stage(block, widths[2], widths[3], layers[3], 2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(widths[3], num_classes)
        initialise(self)
        if zero_init_residual:
            zero_last_norms(self)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        # N x 3 x 224 x 224
        x = self.relu(self.bn1(self.conv1(x)))
        # N x 64 x 112 x 112
        x = self.maxpool(x)
        # N x 64 x 56 x 56
        x = self.layer1(x)
        # N x 64 x 56 x 56 (256 channels with bottlenecks)
        x = self.layer2(x)
        # N x 128 x 28 x 28 (512)
        x = self.layer3(x)
        # N x 256 x 14 x 14 (1024)
        x = self.layer4(x)
        # N x 512 x 7 x 7 (2048)
        x = self.flatten(self.avgpool(x))
        # N x 512 (2048)
        x = self.fc(x)
        # N x num_classes
        return x


def resnet(  # noqa: PLR0913 - every option of the network, by its name
    *,
    block: Literal["basic", "bottleneck"],
    layers: tuple[int, ...],
    stride_in: Literal["1x1", "3x3"] = "1x1",
    width_factor: int = 1,
    num_classes: int = 1000,
    in_channels: int = 3,
    zero_init_residual: bool = False,
    skip: bool = True,
    skip_after_relu: bool = False,
) -> ResNet:
    """Build ResNet-18, 34 (`block` basic), 50, 101, 152 (bottleneck), or a wide one (He et al. 2016, table 1).

    Args:
        block: the kind of residual block.
        layers: blocks in each of the four stages.
        stride_in: where a bottleneck has its stage's stride; the notes and the paper say 1x1, torchvision 3x3.
        width_factor: how many times wider than the paper's the 3x3 of a bottleneck is (Zagoruyko et al. 2016).
        num_classes: length of the output.
        in_channels: channels of the image.
        zero_init_residual: start every block as the identity.
        skip: with skip connections; without, the network is the plain one.
        skip_after_relu: add the skip connection after the ReLU.

    """
    build_block: BlockBuilder
    if block == "basic":
        widths = (64, 128, 256, 512)
        build_block = partial(BasicBlock, skip=skip, skip_after_relu=skip_after_relu)
    else:
        widths = (256, 512, 1024, 2048)

        def build_block(in_channels: int, out_channels: int, stride: int) -> Bottleneck:
            width = width_factor * out_channels // 4
            return Bottleneck(
                in_channels,
                out_channels,
                stride,
                width=width,
                stride_in=stride_in,
                skip=skip,
                skip_after_relu=skip_after_relu,
            )

    return ResNet(
        build_block,
        layers,
        widths,
        num_classes=num_classes,
        in_channels=in_channels,
        zero_init_residual=zero_init_residual,
    )


class CifarResNet(nn.Module):
    """One 3x3 convolution, three stages of residual blocks, global average pooling, one linear layer.

    (N, in_channels, H, W) -> (N, num_classes) logits.
    """

    def __init__(
        self,
        block: BlockBuilder,
        blocks: int,
        stem_width: int,
        widths: Sequence[int],
        *,
        num_classes: int = 10,
        in_channels: int = 3,
        zero_init_residual: bool = False,
    ) -> None:
        """Build the network: `blocks` blocks in each stage, whose outputs have `widths` channels."""
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, stem_width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem_width)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = stage(block, stem_width, widths[0], blocks, 1)
        self.layer2 = stage(block, widths[0], widths[1], blocks, 2)
        self.layer3 = stage(block, widths[1], widths[2], blocks, 2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(widths[2], num_classes)
        initialise(self)
        if zero_init_residual:
            zero_last_norms(self)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        # N x 3 x 32 x 32
        x = self.relu(self.bn1(self.conv1(x)))
        # N x 16 x 32 x 32 (ResNeXt-29: 64 channels)
        x = self.layer1(x)
        # N x 16 x 32 x 32 (256)
        x = self.layer2(x)
        # N x 32 x 16 x 16 (512)
        x = self.layer3(x)
        # N x 64 x 8 x 8 (1024)
        x = self.flatten(self.avgpool(x))
        # N x 64 (1024)
        x = self.fc(x)
        # N x num_classes
        return x


def resnet_cifar(
    *,
    blocks: int,
    skip: bool = True,
    shortcut: Literal["padding", "projection"] = "padding",
    num_classes: int = 10,
    in_channels: int = 3,
    zero_init_residual: bool = False,
    skip_after_relu: bool = False,
) -> CifarResNet:
    """Build the network of 6 blocks + 2 layers (He et al. 2016, section 4.2).

    Args:
        blocks: residual blocks in each of the three stages.
        skip: with skip connections; without, the network is the plain one.
        shortcut: where the shape changes, zeros for new channels (the paper's A) or a 1x1 convolution (its B).
        num_classes: length of the output.
        in_channels: channels of the image.
        zero_init_residual: start every block as the identity.
        skip_after_relu: add the skip connection after the ReLU.

    """
    return CifarResNet(
        partial(BasicBlock, shortcut_kind=shortcut, skip=skip, skip_after_relu=skip_after_relu),
        blocks,
        16,
        (16, 32, 64),
        num_classes=num_classes,
        in_channels=in_channels,
        zero_init_residual=zero_init_residual,
    )
