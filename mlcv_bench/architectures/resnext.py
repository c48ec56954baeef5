"""ResNeXt: one block in the notes' three equivalent forms, and the networks made of it (notes 2.3.1)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from mlcv_bench.architectures.catalog import CIFAR, IMAGENET, Architecture
from mlcv_bench.architectures.layers import he_normal_
from mlcv_bench.architectures.resnet import BlockBuilder, CifarResNet, ResidualBlock, ResNet, fit_shortcut

NETWORKS = [
    *(
        Architecture(
            name=f"resnext{depth}_{groups}x{width}d",
            family="resnext",
            build=f"{__name__}:resnext",
            config={"groups": groups, "width": width, "layers": layers},
            year=2017,
            paper="Xie et al. 2017",
            section="2.3.1",
            input=IMAGENET,
            smallest=1,
            torchvision=f"resnext{depth}_{groups}x{width}d" if in_torchvision else None,
            in_family=in_torchvision,
        )
        for depth, groups, width, layers, in_torchvision in (
            (26, 32, 4, (2, 2, 2, 2), False),
            (50, 32, 4, (3, 4, 6, 3), True),
            (50, 1, 64, (3, 4, 6, 3), False),
            (50, 2, 40, (3, 4, 6, 3), False),
            (50, 4, 24, (3, 4, 6, 3), False),
            (50, 8, 14, (3, 4, 6, 3), False),
            (101, 32, 4, (3, 4, 23, 3), False),
            (101, 32, 8, (3, 4, 23, 3), True),
            (101, 64, 4, (3, 4, 23, 3), True),
            (152, 32, 4, (3, 8, 36, 3), False),
        )
    ),
    *(
        Architecture(
            name=f"resnext29_{groups}x64d",
            family="resnext_cifar",
            build=f"{__name__}:resnext_cifar",
            config={"groups": groups, "width": 64, "blocks": 3},
            year=2017,
            paper="Xie et al. 2017",
            section="2.3.1",
            input=CIFAR,
            smallest=1,
        )
        for groups in (8, 16)
    ),
    *(
        # One block a stage, a quarter as wide, and d a quarter of table 2's 64, 40, 24: not the paper's, but trains in
        # minutes.
        Architecture(
            name=f"resnext11_{groups}x{width}d",
            family="resnext_cifar",
            build=f"{__name__}:resnext_cifar",
            config={"groups": groups, "width": width, "blocks": 1, "channels": 64},
            year=2017,
            paper="Xie et al. 2017",
            section="2.3.1",
            input=CIFAR,
            smallest=1,
        )
        for groups, width in ((1, 16), (2, 10), (4, 6))
    ),
]
"""Those that are listed; the catalogue knows the same of any G and d by their names."""

Form = Literal["grouped", "concat", "branches"]


def _norm(channels: int, *, batch_norm: bool) -> nn.Module:
    return nn.BatchNorm2d(channels) if batch_norm else nn.Identity()


class Branch(nn.Module):
    """One of a block's G branches: 1x1 to d channels, 3x3 and, in the form `branches`, 1x1 to all the channels.

    (N, in_channels, H, W) -> (N, d, H', W'), or (N, out_channels, H', W') where `out_channels` is given.
    The last 1x1 has no batch norm: the block has one, after the sum.
    """

    def __init__(
        self, in_channels: int, width: int, out_channels: int | None, stride: int, *, batch_norm: bool = True
    ) -> None:
        """Build the branch, `width` being the notes' d."""
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = _norm(width, batch_norm=batch_norm)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = _norm(width, batch_norm=batch_norm)
        self.conv3 = None if out_channels is None else nn.Conv2d(width, out_channels, 1, bias=False)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the branch."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        if self.conv3 is not None:
            x = self.conv3(x)
        return x


class ResNeXtBlock(ResidualBlock):
    """The ResNeXt block of G branches and d channels, in one of three forms that compute the same function.

    `branches`: 1x1, 3x3, 1x1 in each branch, outputs summed (Xie et al. 2017, figure 3a; the notes' definition).
    `concat`: 1x1, 3x3 in each branch, outputs stacked, one 1x1 on all of them (figure 3b; the notes' second 1x1).
    `grouped`: one 1x1, one grouped 3x3, one 1x1 (figure 3c; what everyone runs).

    Batch norm works channel by channel, so G norms of d channels are one norm of G d channels; the last one follows
    the sum of the branches and precedes the shortcut. The stage's stride is in the 3x3.

    (N, in_channels, H, W) -> (N, out_channels, ceil(H / stride), ceil(W / stride)).
    Names: conv1, bn1, conv2, bn2, conv3, bn3; in the other two forms those of a branch b are in `branches.b`, except
    what all branches share (bn3, and conv3 in `concat`).
    """

    def __init__(  # noqa: PLR0913 - the notes' G and d, the shape, the form, and the options of a residual block
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        *,
        groups: int = 32,
        width: int = 4,
        form: Form = "grouped",
        batch_norm: bool = True,
        skip: bool = True,
        skip_after_relu: bool = False,
    ) -> None:
        """Build the block, `groups` being the notes' G and `width` their d; without batch norm it is pure algebra."""
        super().__init__(out_channels, skip=skip, skip_after_relu=skip_after_relu)
        self.form = form
        self.groups = groups
        total = groups * width
        if form == "grouped":
            self.conv1 = nn.Conv2d(in_channels, total, 1, bias=False)
            self.bn1 = _norm(total, batch_norm=batch_norm)
            self.conv2 = nn.Conv2d(total, total, 3, stride, padding=1, groups=groups, bias=False)
            self.bn2 = _norm(total, batch_norm=batch_norm)
            self.conv3 = nn.Conv2d(total, out_channels, 1, bias=False)
        elif form == "concat":
            self.branches = nn.ModuleList(
                Branch(in_channels, width, None, stride, batch_norm=batch_norm) for _ in range(groups)
            )
            self.conv3 = nn.Conv2d(total, out_channels, 1, bias=False)
        else:
            self.branches = nn.ModuleList(
                Branch(in_channels, width, out_channels, stride, batch_norm=batch_norm) for _ in range(groups)
            )
        self.bn3 = _norm(out_channels, batch_norm=batch_norm)
        if skip:
            self.downsample = fit_shortcut(in_channels, out_channels, stride)

    def residual(self, x: Tensor) -> Tensor:
        """Compute F(x)."""
        if self.form == "grouped":
            x = self.relu(self.bn1(self.conv1(x)))
            x = self.relu(self.bn2(self.conv2(x)))
            x = self.conv3(x)
        elif self.form == "concat":
            x = torch.cat([branch(x) for branch in self.branches], dim=1)
            x = self.conv3(x)
        else:
            total = self.branches[0](x)
            for index in range(1, self.groups):
                total += self.branches[index](x)
            x = total
        x = self.bn3(x)
        return x

    def last_norm(self) -> nn.Module:
        """Return the batch norm after the sum of the branches."""
        return self.bn3

    def initialise_branches(self) -> None:
        """Give the branches' weights the spread that the grouped form's have, so that all forms start alike."""
        if self.form == "grouped":
            return
        for module in self.branches:
            if isinstance(module, Branch):
                total = self.groups * module.conv1.out_channels
                he_normal_(module.conv1.weight, total)
                he_normal_(module.conv2.weight, total * 9)


def _block_builder(
    groups: int, width: int, form: Form, *, channels: int = 256, skip: bool, skip_after_relu: bool
) -> BlockBuilder:
    """Return what builds a block of G groups of d channels in the first stage, that of `channels`; both double."""

    def build(in_channels: int, out_channels: int, stride: int) -> ResNeXtBlock:
        return ResNeXtBlock(
            in_channels,
            out_channels,
            stride,
            groups=groups,
            width=width * out_channels // channels,
            form=form,
            skip=skip,
            skip_after_relu=skip_after_relu,
        )

    return build


def _initialise_branches(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, ResNeXtBlock):
            module.initialise_branches()


def resnext(  # noqa: PLR0913 - every option of the network, by its name
    *,
    layers: tuple[int, ...],
    groups: int,
    width: int,
    form: Literal["grouped", "concat", "branches"] = "grouped",
    num_classes: int = 1000,
    in_channels: int = 3,
    zero_init_residual: bool = False,
    skip: bool = True,
    skip_after_relu: bool = False,
) -> ResNet:
    """Build ResNeXt-26, 50, 101 or 152 of any G and d (Xie et al. 2017, table 1).

    Args:
        layers: blocks in each of the four stages.
        groups: the notes' G, the same in all stages.
        width: the notes' d in the first stage; it doubles with every stage.
        form: which of the three equivalent formulations the blocks have.
        num_classes: length of the output.
        in_channels: channels of the image.
        zero_init_residual: start every block as the identity.
        skip: with skip connections.
        skip_after_relu: add the skip connection after the ReLU.

    """
    block = _block_builder(groups, width, form, skip=skip, skip_after_relu=skip_after_relu)
    network = ResNet(
        block,
        layers,
        (256, 512, 1024, 2048),
        num_classes=num_classes,
        in_channels=in_channels,
        zero_init_residual=zero_init_residual,
    )
    _initialise_branches(network)
    return network


def resnext_cifar(  # noqa: PLR0913 - every option of the network, by its name
    *,
    groups: int,
    width: int,
    blocks: int = 3,
    channels: int = 256,
    form: Literal["grouped", "concat", "branches"] = "grouped",
    num_classes: int = 10,
    in_channels: int = 3,
    zero_init_residual: bool = False,
    skip: bool = True,
    skip_after_relu: bool = False,
) -> CifarResNet:
    """Build ResNeXt-29 of any G and d: three stages of three blocks of three layers (Xie et al. 2017, section 5.3).

    `blocks` residual blocks stand in each of the three stages, the first of which has `channels` channels and follows
    a stem of a quarter of them; the other arguments are those of `resnext`.
    """
    block = _block_builder(groups, width, form, channels=channels, skip=skip, skip_after_relu=skip_after_relu)
    network = CifarResNet(
        block,
        blocks,
        max(1, channels // 4),
        (channels, 2 * channels, 4 * channels),
        num_classes=num_classes,
        in_channels=in_channels,
        zero_init_residual=zero_init_residual,
    )
    _initialise_branches(network)
    return network
