"""Section 2.1: Inception-v1, or GoogLeNet; and how a network is written a second time, as its figure draws it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional

from mlcv_bench.architectures import googlenet
from mlcv_bench.architectures.layers import ConvolutionUnit
from mlcv_bench.claims.claim import ExperimentResult, claim
from mlcv_bench.claims.quantity import Quantity
from mlcv_bench.claims.scene import Bars, Cells, NetworkFigure
from mlcv_bench.counting.cost import Cost, count
from mlcv_bench.equivalence import randomness

IMAGE = (3, 224, 224)
STEM = ("conv1", "maxpool1", "conv2", "conv3", "maxpool2")


Figure = Callable[["PaperNetwork", Tensor], Tensor]
"""Computes a network's output from its weights and an input of (N, C, H, W)."""


class PaperNetwork:
    """Layers as functions; each takes the next weights, in the order in which the network registered them.

    A step names channels and kernel as the figure does, so that it notices weights of another shape.

    Raises:
        ValueError: the next weights have another shape, or there are none left.

    """

    def __init__(self, weights: Iterable[Tensor], *, epsilon: float = 1e-5) -> None:
        """Keep the weights; `epsilon` is what batch norm adds to the variance."""
        self.left = list(weights)
        self.epsilon = epsilon

    def take(self, *shape: int) -> Tensor:
        """Return the next weights, which must have this shape."""
        if not self.left or self.left[0].shape != shape:
            found = tuple(self.left[0].shape) if self.left else "nothing"
            raise ValueError(f"the figure has weights of {shape} where the network has {found}")
        return self.left.pop(0)

    def convolution(
        self,
        x: Tensor,
        channels: int,
        kernel: tuple[int, int],
        *,
        stride: int = 1,
        padding: int | None = None,
        groups: int = 1,
        bias: bool = True,
    ) -> Tensor:
        """Convolve to `channels` channels with a kernel of (height, width); padding is half of it unless given."""
        weight = self.take(channels, x.shape[1] // groups, *kernel)
        offset = self.take(channels) if bias else None
        sides = (kernel[0] // 2, kernel[1] // 2) if padding is None else padding
        return functional.conv2d(x, weight, offset, stride, sides, 1, groups)

    def batch_norm(self, x: Tensor) -> Tensor:
        """Apply a batch norm in evaluation, from its definition."""
        scale, shift, mean, variance = (self.take(x.shape[1]).view(-1, 1, 1) for _ in range(4))
        return (x - mean) / (variance + self.epsilon).sqrt() * scale + shift

    def linear(self, x: Tensor, outputs: int) -> Tensor:
        """Apply a linear layer."""
        return x @ self.take(outputs, x.shape[1]).T + self.take(outputs)


@torch.no_grad()
def miss(network: nn.Module, figure: Figure, x: Tensor, *, epsilon: float = 1e-5) -> float:
    """Return the largest difference between a network and its figure, as a share of the figure's largest output.

    Infinite where the figure does not fit the network's weights, leaves some unused, or returns another shape.
    """
    state = network.state_dict()
    paper = PaperNetwork(
        (tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")), epsilon=epsilon
    )
    try:
        wanted = figure(paper, x)
    except ValueError:
        return math.inf
    found = network(x)
    if paper.left or found.shape != wanted.shape:
        return math.inf
    return float((found - wanted).abs().max() / wanted.abs().max())


def shapes(cost: Cost) -> dict[str, tuple[int, ...]]:
    """Return every module's output shape, without the batch."""
    assert cost.trace is not None  # noqa: S101 - `count` keeps the trace
    return {name: shape[1:] for name, shape in cost.trace.outputs.items()}


@claim("holds_with_limit", "Inception-v1 takes few parameters and few FLOPs.", limit="more MACs than AlexNet's")
def cheap() -> ExperimentResult:
    """Count Inception-v1 against VGG-16 and AlexNet; half of the last published digit is the tolerance."""
    ours, vgg, alexnet = count(googlenet.googlenet()), count("vgg16"), count("alexnet")
    return ExperimentResult(
        (
            Quantity("parameters", ours.params, 7.0e6, 0.05e6, unit="parameters"),
            Quantity("MACs", ours.macs, 1.6e9, 0.05e9, unit="MACs"),
            Quantity(
                "parameters, share of VGG-16's", ours.params / vgg.params, 7.0 / 138, 0.05 / 138 + 0.5 * 7 / 138**2
            ),
            Quantity("MACs, share of VGG-16's", ours.macs / vgg.macs, 1.6 / 15.5, 0.05 / 15.5 + 0.05 * 1.6 / 15.5**2),
            Quantity("parameters, share of AlexNet's", ours.params / alexnet.params, 1.0, relation="<"),
            Quantity("MACs, share of AlexNet's", ours.macs / alexnet.macs, 1.0, relation=">", role="limit"),
        ),
        "A twentieth of VGG-16's parameters and a tenth of its MACs; against AlexNet it saves parameters alone, and "
        "takes more than twice the MACs.",
        effect=vgg.params / ours.params,
        scene=(
            Bars(
                "million parameters",
                {
                    "Inception-v1": Quantity("", ours.params / 1e6, 7.0),
                    "VGG-16": Quantity("", vgg.params / 1e6, 138),
                    "AlexNet": Quantity("", alexnet.params / 1e6, math.nan),
                },
            ),
            Bars(
                "GMACs",
                {
                    "Inception-v1": Quantity("", ours.macs / 1e9, 1.6),
                    "VGG-16": Quantity("", vgg.macs / 1e9, 15.5),
                    "AlexNet": Quantity("", alexnet.macs / 1e9, math.nan),
                },
            ),
        ),
    )


def window(layer: nn.Module) -> tuple[int, int]:
    """Return the side and the stride of a convolution's or a pool's square window."""
    layer = layer.conv if isinstance(layer, ConvolutionUnit) else layer
    if isinstance(layer, nn.Conv2d):
        return layer.kernel_size[0], layer.stride[0]
    assert isinstance(layer, nn.MaxPool2d)  # noqa: S101 - the stem has no other layers
    assert isinstance(layer.kernel_size, int)  # noqa: S101 - built so
    assert isinstance(layer.stride, int)  # noqa: S101 - built so
    return layer.kernel_size, layer.stride


@claim("holds", "The stem takes 224 to 28 in five layers; the largest kernel is 7x7 with stride 2.")
def stem() -> ExperimentResult:
    """Follow the image through the five layers before the first inception module."""
    network = googlenet.googlenet()
    out = shapes(count(network))
    windows = [window(network.get_submodule(name)) for name in STEM]
    largest, stride = max(windows)
    before = list(dict(network.named_children())).index("inception3a")
    layers_before = sum(
        isinstance(child, ConvolutionUnit | nn.MaxPool2d) for child in list(network.children())[:before]
    )
    sides = [
        Quantity(f"side after {name}", out[name][-1], side, unit="pixels")
        for name, side in zip(STEM, (112, 56, 56, 56, 28), strict=True)
    ]
    return ExperimentResult(
        (
            *sides,
            Quantity("layers before the first module", layers_before, 5),
            Quantity("side of the largest kernel", largest, 7, unit="pixels"),
            Quantity("its stride", stride, 2, unit="pixels"),
        ),
        "Three convolutions and two max pools take 224x224 to 28x28; the 7x7 with stride 2 comes first.",
        scene=(Bars("side in pixels, of 224", dict(zip(STEM, sides, strict=True))),),
    )


class Unreduced(nn.Module):
    """The naive inception module of the paper's figure 2a: 1x1, 3x3, 5x5, max pool; no reductions."""

    def __init__(self, channels: int, filters: googlenet.Filters) -> None:
        """Build the module with the same convolutions, all of which read all channels."""
        super().__init__()
        self.branches = nn.ModuleList(
            [
                nn.Conv2d(channels, filters.one, 1),
                nn.Conv2d(channels, filters.three, 3, padding=1),
                nn.Conv2d(channels, filters.five, 5, padding=2),
                nn.MaxPool2d(3, 1, padding=1),
            ]
        )

    def forward(self, x: Tensor) -> Tensor:
        """Concatenate the branches."""
        return torch.cat([branch(x) for branch in self.branches], dim=1)


def figure_2_1(net: PaperNetwork, x: Tensor) -> Tensor:
    """Compute the notes' figure 2.1 with the filters of module 3a (Szegedy et al. 2015, table 1)."""
    one = net.convolution(x, 64, (1, 1)).relu()
    three = net.convolution(net.convolution(x, 96, (1, 1)).relu(), 128, (3, 3)).relu()
    five = net.convolution(net.convolution(x, 16, (1, 1)).relu(), 32, (5, 5)).relu()
    pool = net.convolution(functional.max_pool2d(x, 3, stride=1, padding=1), 32, (1, 1)).relu()
    return torch.cat([one, three, five, pool], dim=1)


@claim("holds", "A module stacks 1x1, 3x3, 5x5 and max pooling, each with a 1x1, and keeps height and width.")
def module() -> ExperimentResult:
    """Run module 3a on whole numbers against the notes' figure, and count it with and without reductions."""
    channels, side, filters = 192, 28, googlenet.FILTERS["3a"]
    block = randomness.materialised(lambda: googlenet.InceptionModule(channels, filters), torch.float64)
    randomness.fill_whole(block, randomness.generator("inception module"))
    x = randomness.whole((1, channels, side, side), 3, randomness.generator("inception module's input"))
    with torch.no_grad():
        out = block(x)
    reduced, naive = (
        count(block, input=(channels, side, side)),
        count(Unreduced(channels, filters), input=(channels, side, side)),
    )
    cheap_weights = channels * (64 + 96 + 16 + 32) + 9 * 96 * 128 + 25 * 16 * 32
    dear_weights = channels * (64 + 9 * 128 + 25 * 32)
    return ExperimentResult(
        (
            Quantity(
                "output, less the figure's: 1x1; 1x1, 3x3; 1x1, 5x5; max pool, 1x1", miss(block, figure_2_1, x), 0.0
            ),
            Quantity("branches", len(list(block.children())), 4),
            Quantity("height and width, share of the input's", out.shape[-1] * out.shape[-2] / side**2, 1),
            Quantity("channels", out.shape[1], 64 + 128 + 32 + 32),
            Quantity(
                "MACs, share of a module without 1x1 reductions",
                reduced.macs / naive.macs,
                cheap_weights / dear_weights,
            ),
        ),
        "Four branches read the same input and are stacked; the 1x1 reductions leave 42% of the work.",
        effect=naive.macs / reduced.macs,
        scene=(NetworkFigure("2.1"),),
    )


@claim("holds", "The auxiliary softmaxes are discarded during inference.")
def auxiliary() -> ExperimentResult:
    """Give a network with auxiliary classifiers and one without the same weights; compare what inference sees."""
    heads = randomness.materialised(lambda: googlenet.googlenet(auxiliary=True, num_classes=10), torch.float32)
    randomness.fill_normal(heads, randomness.generator(0, "auxiliary"))
    plain = googlenet.googlenet(num_classes=10)
    state = heads.state_dict()
    plain.load_state_dict({key: value for key, value in state.items() if not key.startswith("aux")})
    x = randomness.normal((1, *IMAGE), randomness.generator(1), torch.float32)
    with torch.no_grad():
        wanted, found = plain.eval()(x), heads.eval()(x)
        # Dropout would draw different numbers: only the shape of what training gives is looked at.
        in_training = heads.train()(x)
    difference = (wanted - found).abs().max().item() if isinstance(found, Tensor) else float("inf")
    large, small = count("googlenet", auxiliary=True), count("googlenet")
    first = 512 * 128 + 128 + 2048 * 1024 + 1024 + 1024 * 1000 + 1000
    second = first + (528 - 512) * 128
    return ExperimentResult(
        (
            Quantity("largest difference of the logits in evaluation", difference, 0.0),
            Quantity("MACs that the heads cost in evaluation", large.macs - small.macs, 0, unit="MACs"),
            Quantity("outputs in training", len(in_training), 3),
            Quantity("parameters of both heads", large.params - small.params, first + second, unit="parameters"),
        ),
        "In training there are three softmaxes; in evaluation the two extra ones are not run and change nothing.",
        effect=(large.params - small.params) / small.params,
        scene=(
            Bars(
                "million parameters",
                {
                    "without heads": Quantity("", small.params / 1e6, math.nan),
                    "with both heads": Quantity("", large.params / 1e6, (small.params + first + second) / 1e6),
                },
            ),
            Bars(
                "GMACs of an image in evaluation",
                {
                    "without heads": Quantity("", small.macs / 1e9, math.nan),
                    "with both heads": Quantity("", large.macs / 1e9, small.macs / 1e9),
                },
            ),
        ),
    )


def trained_modules(network: nn.Module, logits: Tensor) -> set[str]:
    """Return the inception modules that a loss on `logits` alone reaches."""
    weights = dict(network.named_parameters())
    gradients = torch.autograd.grad(logits.sum(), list(weights.values()), allow_unused=True, retain_graph=True)
    reached = [name for name, gradient in zip(weights, gradients, strict=True) if gradient is not None]
    return {name.partition(".")[0] for name in reached if name.startswith("inception")}


@claim("holds", "The auxiliary softmaxes judge hidden features, after modules 4a and 4d.")
def auxiliary_position() -> ExperimentResult:
    """Find how many modules each head's loss trains, and what the heads read, on the meta device."""
    seen = {}
    with torch.device("meta"):
        network = googlenet.googlenet(auxiliary=True).train()
        for name in ("aux1", "aux2"):
            network.get_submodule(name).register_forward_pre_hook(
                lambda _, inputs, name=name: seen.update({name: inputs[0].shape})
            )
        logits, second, first = network(torch.empty(1, *IMAGE))
    quantities = []
    reached = {
        name: trained_modules(network, outputs)
        for name, outputs in (("first", first), ("second", second), ("last", logits))
    }
    every = [name for name, _ in network.named_children() if name.startswith("inception")]
    for name, modules, channels in (("first", 3, 512), ("second", 6, 528)):
        shape = seen["aux1" if name == "first" else "aux2"]
        quantities += [
            Quantity(f"modules that the {name} head's loss trains", len(reached[name]), modules),
            Quantity(f"channels that the {name} head reads", shape[1], channels),
            Quantity(f"side of what the {name} head reads", shape[-1], 14, unit="pixels"),
        ]
    return ExperimentResult(
        (*quantities, Quantity("modules that the last softmax trains", len(reached["last"]), 9)),
        "The heads read modules 4a and 4d, the third and the sixth of nine (Szegedy et al. 2015, section 5): each loss "
        "trains what lies below it.",
        scene=(
            Cells(
                "inception module",
                "softmax",
                [[float(module in modules) for module in every] for modules in reached.values()],
                "which modules a softmax's loss trains",
                row_names=list(reached),
                column_names=[name.removeprefix("inception") for name in every],
            ),
        ),
    )


@claim("holds", "Global average pooling saves the parameters of a large linear layer.")
def gap() -> ExperimentResult:
    """Put a map of whole numbers where the last module's is and look at the logits; count both classifiers' weights.

    The map has 8x8 pixels, so that its means are exact.
    """
    network = googlenet.googlenet()
    channels, height, width = shapes(count(network))["inception5b"]
    flattened = channels * height * width * network.fc.out_features
    source = randomness.generator("global average pooling")
    small = randomness.materialised(lambda: googlenet.googlenet(num_classes=10), torch.float64)
    randomness.fill_whole(small, source)
    features = randomness.whole((1, 1024, 8, 8), 100, source)
    small.get_submodule("inception5b").register_forward_hook(lambda *_: features)
    weight, bias = small.get_parameter("fc.weight"), small.get_parameter("fc.bias")
    with torch.no_grad():
        logits = small.eval()(torch.zeros(1, 3, 32, 32, dtype=torch.float64))
        averaged = (features.sum((2, 3)) / 64) @ weight.T + bias
    kept = Quantity("weights of the classifier", network.fc.weight.numel(), 1024 * 1000, unit="weights")
    return ExperimentResult(
        (
            Quantity("logits, less the linear layer's on the maps' means", (logits - averaged).abs().max().item(), 0.0),
            kept,
            Quantity("times fewer than on the flattened map", flattened / network.fc.weight.numel(), 7 * 7),
        ),
        "Averaging each 7x7 map before the linear layer saves 49 of 50 million weights.",
        effect=flattened / network.fc.weight.numel(),
        scene=(
            Bars(
                "weights of the classifier",
                {
                    "on the means of 1024 maps": kept,
                    "on the flattened 7x7 maps": Quantity("", flattened, 49 * 1024 * 1000),
                },
            ),
        ),
    )
