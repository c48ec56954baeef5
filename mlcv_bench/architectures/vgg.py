"""VGG: 3x3 convolutions and max pools alone (Simonyan and Zisserman 2015, table 1; notes 2.2.1).

The names of the layers are torchvision's, so that its weights load.
"""

from __future__ import annotations

from torch import Tensor, nn

from mlcv_bench.architectures.catalog import IMAGENET, Architecture
from mlcv_bench.architectures.layers import initialise, linear_layers, normal_

NETWORKS = [
    Architecture(
        name=f"vgg{depth}{suffix}",
        family="vgg",
        build=f"{__name__}:VGG",
        config={"depth": depth, "batch_norm": suffix == "_bn"},
        year=2015,
        paper="Simonyan and Zisserman 2015",
        section="2.2.1",
        input=IMAGENET,
        smallest=32,
        torchvision=f"vgg{depth}{suffix}",
        in_family=True,
    )
    for suffix in ("", "_bn")
    for depth in (11, 13, 16, 19)
]

STAGES: dict[int, tuple[tuple[int, ...], ...]] = {
    11: ((64,), (128,), (256, 256), (512, 512), (512, 512)),
    13: ((64, 64), (128, 128), (256, 256), (512, 512), (512, 512)),
    16: ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512)),
    19: ((64, 64), (128, 128), (256,) * 4, (512,) * 4, (512,) * 4),
}
"""Output channels of each convolution, stage by stage; a 2x2 max pool ends each stage. The keys count layers."""


class VGG(nn.Module):
    """VGG-11, 13, 16 or 19, the paper's A, B, D, E: (N, in_channels, H, W) -> (N, num_classes) logits."""

    def __init__(
        self,
        *,
        depth: int,
        batch_norm: bool,
        num_classes: int = 1000,
        in_channels: int = 3,
        dropout: float = 0.5,
    ) -> None:
        """Build the network.

        Args:
            depth: how many layers have weights.
            batch_norm: a batch norm after each convolution, which the paper has not.
            num_classes: length of the output.
            in_channels: channels of the image.
            dropout: share of the outputs of the first two linear layers that training drops.

        """
        super().__init__()
        layers: list[nn.Module] = []
        channels = in_channels
        for widths in STAGES[depth]:
            for width in widths:
                layers.append(nn.Conv2d(channels, width, 3, padding=1))
                if batch_norm:
                    layers.append(nn.BatchNorm2d(width))
                layers.append(nn.ReLU(inplace=True))
                channels = width
            layers.append(nn.MaxPool2d(2, 2))
        self.features = nn.Sequential(*layers)
        # The identity at 224x224; lets other sizes through.
        self.avgpool = nn.AdaptiveAvgPool2d(7)
        self.flatten = nn.Flatten()
        self.classifier = linear_layers(512 * 7 * 7, num_classes, dropout)
        initialise(self)
        for module in self.classifier:
            if isinstance(module, nn.Linear):
                normal_(module.weight, 0.01)
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        # N x 3 x 224 x 224; the stages end at 112, 56, 28, 14 and 7 pixels
        x = self.features(x)
        # N x 512 x 7 x 7
        x = self.flatten(self.avgpool(x))
        # N x 25088
        x = self.classifier(x)
        # N x num_classes
        return x
