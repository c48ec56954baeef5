"""AlexNet as torchvision has it, and ZFNet, the same with a smaller first kernel and stride (notes 2.1)."""

from __future__ import annotations

from torch import Tensor, nn

from mlcv_bench.architectures.catalog import IMAGENET, Architecture
from mlcv_bench.architectures.layers import initialise, linear_layers

NETWORKS = [
    Architecture(
        name="alexnet",
        family="alexnet",
        build=f"{__name__}:AlexNet",
        config={},
        year=2014,
        paper="Krizhevsky 2014",
        section="",
        input=IMAGENET,
        smallest=63,
        torchvision="alexnet",
    ),
    Architecture(
        name="zfnet",
        family="zfnet",
        build=f"{__name__}:ZFNet",
        config={},
        year=2014,
        paper="Zeiler and Fergus 2014",
        section="2.1",
        input=IMAGENET,
        smallest=63,
    ),
]


class AlexNet(nn.Module):
    """The one-tower network of Krizhevsky 2014, without response normalisation.

    Five convolutions, three max pools, three linear layers: (N, in_channels, H, W) -> (N, num_classes) logits.
    The names of the layers are torchvision's.
    """

    def __init__(self, *, num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.5) -> None:
        """Build the network; weights start as torch leaves them, as in torchvision.

        Args:
            num_classes: length of the output.
            in_channels: channels of the image.
            dropout: share of the inputs of the first two linear layers that training drops.

        """
        super().__init__()
        self.features = nn.Sequential(
            # N x 3 x 224 x 224
            nn.Conv2d(in_channels, 64, 11, 4, padding=2),
            nn.ReLU(inplace=True),
            # N x 64 x 55 x 55
            nn.MaxPool2d(3, 2),
            # N x 64 x 27 x 27
            nn.Conv2d(64, 192, 5, padding=2),
            nn.ReLU(inplace=True),
            # N x 192 x 27 x 27
            nn.MaxPool2d(3, 2),
            # N x 192 x 13 x 13
            nn.Conv2d(192, 384, 3, padding=1),
            nn.ReLU(inplace=True),
            # N x 384 x 13 x 13
            nn.Conv2d(384, 256, 3, padding=1),
            nn.ReLU(inplace=True),
            # N x 256 x 13 x 13
            nn.Conv2d(256, 256, 3, padding=1),
            nn.ReLU(inplace=True),
            # N x 256 x 13 x 13
            nn.MaxPool2d(3, 2),
            # N x 256 x 6 x 6
        )
        # The identity at 224x224; lets other sizes through.
        self.avgpool = nn.AdaptiveAvgPool2d(6)
        self.classifier = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(256 * 6 * 6, 4096),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(4096, 4096),
            nn.ReLU(inplace=True),
            nn.Linear(4096, num_classes),
        )
        self.flatten = nn.Flatten()

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        x = self.features(x)
        # N x 256 x 6 x 6
        x = self.flatten(self.avgpool(x))
        # N x 9216
        x = self.classifier(x)
        # N x num_classes
        return x


class ZFNet(nn.Module):
    """AlexNet with a smaller first kernel and stride (Zeiler and Fergus 2014, figure 3).

    (N, in_channels, H, W) -> (N, num_classes) logits.
    """

    def __init__(self, *, num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.5) -> None:
        """Build the network.

        Args:
            num_classes: length of the output.
            in_channels: channels of the image.
            dropout: share of the outputs of the first two linear layers that training drops.

        """
        super().__init__()
        # The paper normalises contrast across feature maps; the response normalisation of AlexNet does that, with
        # k = 2 and alpha = 1e-4 for each of 5 neighbours (Krizhevsky et al. 2012, section 3.3); torch divides by 5.
        self.features = nn.Sequential(
            # N x 3 x 224 x 224
            nn.Conv2d(in_channels, 96, 7, 2, padding=1),
            nn.ReLU(inplace=True),
            # N x 96 x 110 x 110
            nn.MaxPool2d(3, 2, ceil_mode=True),
            nn.LocalResponseNorm(5, alpha=5e-4, k=2.0),
            # N x 96 x 55 x 55
            nn.Conv2d(96, 256, 5, 2),
            nn.ReLU(inplace=True),
            # N x 256 x 26 x 26
            nn.MaxPool2d(3, 2, ceil_mode=True),
            nn.LocalResponseNorm(5, alpha=5e-4, k=2.0),
            # N x 256 x 13 x 13
            nn.Conv2d(256, 384, 3, padding=1),
            nn.ReLU(inplace=True),
            # N x 384 x 13 x 13
            nn.Conv2d(384, 384, 3, padding=1),
            nn.ReLU(inplace=True),
            # N x 384 x 13 x 13
            nn.Conv2d(384, 256, 3, padding=1),
            nn.ReLU(inplace=True),
            # N x 256 x 13 x 13
            nn.MaxPool2d(3, 2),
            # N x 256 x 6 x 6
        )
        # The identity at 224x224, and not in the paper; lets other sizes through, as torchvision's AlexNet does.
        self.avgpool = nn.AdaptiveAvgPool2d(6)
        self.flatten = nn.Flatten()
        self.classifier = linear_layers(256 * 6 * 6, num_classes, dropout)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        x = self.features(x)
        # N x 256 x 6 x 6
        x = self.flatten(self.avgpool(x))
        # N x 9216
        x = self.classifier(x)
        # N x num_classes
        return x
