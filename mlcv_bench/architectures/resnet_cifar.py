"""Residual networks for 32x32 images: ResNet-20 to 110, their plain twins, ResNeXt-29 (notes 2.2.1, 2.3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal

from torch import Tensor, nn

from mlcv_bench.architectures.layers import initialise
from mlcv_bench.architectures.resnet import BasicBlock, BlockBuilder, stage, zero_last_norms
from mlcv_bench.architectures.resnext import ResNeXtBlock


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
        """Build the network: `blocks` blocks in each stage, which put out `widths` channels."""
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


def resnext_cifar(  # noqa: PLR0913 - every option of the network, by its name
    *,
    groups: int,
    width: int,
    blocks: int = 3,
    form: Literal["grouped", "concat", "branches"] = "grouped",
    num_classes: int = 10,
    in_channels: int = 3,
    zero_init_residual: bool = False,
    skip: bool = True,
    skip_after_relu: bool = False,
) -> CifarResNet:
    """Build ResNeXt-29 of any G and d: three stages of three blocks of three layers (Xie et al. 2017, section 5.3).

    Args:
        groups: the notes' G, the same in all stages.
        width: the notes' d in the first stage; it doubles with every stage.
        blocks: blocks in each of the three stages.
        form: which of the three equivalent formulations the blocks have.
        num_classes: length of the output.
        in_channels: channels of the image.
        zero_init_residual: start every block as the identity.
        skip: with skip connections.
        skip_after_relu: add the skip connection after the ReLU.

    """

    def block(in_channels: int, out_channels: int, stride: int) -> ResNeXtBlock:
        return ResNeXtBlock(
            in_channels,
            out_channels,
            stride,
            groups=groups,
            width=width * out_channels // 256,
            form=form,
            skip=skip,
            skip_after_relu=skip_after_relu,
        )

    network = CifarResNet(
        block,
        blocks,
        64,
        (256, 512, 1024),
        num_classes=num_classes,
        in_channels=in_channels,
        zero_init_residual=zero_init_residual,
    )
    for module in network.modules():
        if isinstance(module, ResNeXtBlock):
            module.initialise_branches()
    return network
