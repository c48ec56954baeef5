"""ResNet-50 and ResNeXt-50 written down plainly, as torchvision lays them out: what ours are timed against."""

from __future__ import annotations

import torch
from torch import nn


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 with the stride in `stride_at` (1: first, 2: second convolution)."""

    def __init__(self, inside: int, width: int, outside: int, stride: int, groups: int, stride_at: int):
        """Make the three convolutions and the projection where the shape changes."""
        super().__init__()
        first, second = (stride, 1) if stride_at == 1 else (1, stride)
        self.conv1 = nn.Conv2d(inside, width, 1, first, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, second, 1, groups=groups, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outside, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outside)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride != 1 or inside != outside:
            self.downsample = nn.Sequential(nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Add the block to its input, or to its projection."""
        identity = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        out += identity
        return self.relu(out)


class Plain(nn.Module):
    """The stem, four stages of 3, 4, 6 and 3 blocks, the pooled head."""

    def __init__(self, groups: int, width: int, stride_at: int):
        """Stack the blocks; `width` is the first stage's."""
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        inside, stages = 64, []
        for stage, blocks in enumerate((3, 4, 6, 3)):
            layers = []
            for block in range(blocks):
                outside = 256 * 2**stage
                stride = 2 if stage and not block else 1
                layers.append(Bottleneck(inside, width * 2**stage, outside, stride, groups, stride_at))
                inside = outside
            stages.append(nn.Sequential(*layers))
        self.stages = nn.Sequential(*stages)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(2048, 1000)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Classify (N, 3, H, W) into (N, 1000)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.avgpool(self.stages(x))
        return self.fc(torch.flatten(x, 1))


def resnet50() -> nn.Module:
    """Build the notes' ResNet-50: the stride in the first 1x1."""
    return Plain(1, 64, 1)


def resnet50_v1_5() -> nn.Module:
    """Build torchvision's ResNet-50: the stride in the 3x3."""
    return Plain(1, 64, 2)


def resnext50_32x4d() -> nn.Module:
    """Build ResNeXt-50 32x4d."""
    return Plain(32, 128, 2)
