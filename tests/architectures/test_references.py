"""Every family against a second writing of it: functions on the network's own weights, as its paper draws it.

The figures know nothing of the builders; numbers, kernels and orders are those of the papers. Networks run in float64
on small images whose last map has several pixels, so that no pool is another's twin, with norms in evaluation and
dropout at work.
"""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional

from mlcv_bench.architectures import InceptionModule
from mlcv_bench.architectures.build import build
from mlcv_bench.claims.inception import PaperNetwork, miss
from mlcv_bench.equivalence import randomness

ROUNDING, NOTICED = 1e-11, 1e-9
CLASSES, HIDDEN = 10, 16
MODULES = ("inception_a", "inception_b", "inception_c", "a", "b", "c")
STAGES = ("layer1", "layer2", "layer3", "layer4")


def response_norm(x, alpha, k):
    """Krizhevsky et al. 2012, section 3.3: n = 5 neighbours, beta = 0.75."""
    squares = functional.pad(x.square(), (0, 0, 0, 0, 2, 2))
    near = sum(squares[:, shift : shift + x.shape[1]] for shift in range(5))
    return x / (k + alpha * near) ** 0.75


def linear_layers(net, x, *, before):
    """Two linear layers with ReLU and dropout, `before` them (torchvision's AlexNet) or after, and the last."""
    for _ in range(2):
        x = functional.dropout(x, 0.5) if before else x
        x = net.linear(x, HIDDEN).relu()
        x = x if before else functional.dropout(x, 0.5)
    return net.linear(x, CLASSES)


def alexnet(net, x):
    """Krizhevsky 2014, one tower."""
    x = functional.max_pool2d(net.convolution(x, 64, (11, 11), stride=4, padding=2).relu(), 3, 2)
    x = functional.max_pool2d(net.convolution(x, 192, (5, 5)).relu(), 3, 2)
    x = net.convolution(x, 384, (3, 3)).relu()
    x = net.convolution(x, 256, (3, 3)).relu()
    x = functional.max_pool2d(net.convolution(x, 256, (3, 3)).relu(), 3, 2)
    return linear_layers(net, functional.adaptive_avg_pool2d(x, 6).flatten(1), before=True)


def zfnet(net, x):
    """Zeiler and Fergus 2014, figure 3, with AlexNet's response normalisation (k = 2, alpha = 1e-4)."""
    x = functional.max_pool2d(net.convolution(x, 96, (7, 7), stride=2, padding=1).relu(), 3, 2, ceil_mode=True)
    x = response_norm(x, 1e-4, 2)
    x = functional.max_pool2d(net.convolution(x, 256, (5, 5), stride=2, padding=0).relu(), 3, 2, ceil_mode=True)
    x = response_norm(x, 1e-4, 2)
    x = net.convolution(x, 384, (3, 3)).relu()
    x = net.convolution(x, 384, (3, 3)).relu()
    x = functional.max_pool2d(net.convolution(x, 256, (3, 3)).relu(), 3, 2)
    return linear_layers(net, functional.adaptive_avg_pool2d(x, 6).flatten(1), before=False)


def vgg(net, x, *, convolutions, batch_norm=False):
    """Simonyan and Zisserman 2015, table 1; `convolutions` in each of the five stages."""
    for channels, repeats in zip((64, 128, 256, 512, 512), convolutions, strict=True):
        for _ in range(repeats):
            x = net.convolution(x, channels, (3, 3))
            x = (net.batch_norm(x) if batch_norm else x).relu()
        x = functional.max_pool2d(x, 2, 2)
    return linear_layers(net, functional.adaptive_avg_pool2d(x, 7).flatten(1), before=False)


def googlenet(net, x, *, torchvision=False, auxiliary=False):
    """Szegedy et al. 2015, table 1 and section 5; torchvision's has batch norm, 3x3 for 5x5, a 2x2 pool before 5a."""
    five = (3, 3) if torchvision else (5, 5)

    def unit(net, x, channels, kernel, stride=1):
        x = net.convolution(x, channels, kernel, stride=stride, bias=not torchvision)
        return (net.batch_norm(x) if torchvision else x).relu()

    def normalise(x):
        # The paper gives no constants; Caffe's GoogLeNet has alpha = 1e-4, shared among five neighbours, and k = 1.
        return x if torchvision else response_norm(x, 1e-4 / 5, 1)

    def inception(x, one, reduce3, three, reduce5, five_out, pool):
        return torch.cat(
            [
                unit(net, x, one, (1, 1)),
                unit(net, unit(net, x, reduce3, (1, 1)), three, (3, 3)),
                unit(net, unit(net, x, reduce5, (1, 1)), five_out, five),
                unit(net, functional.max_pool2d(x, 3, 1, 1), pool, (1, 1)),
            ],
            dim=1,
        )

    def head(net, x):
        x = functional.adaptive_avg_pool2d(x, 4) if torchvision else functional.avg_pool2d(x, 5, 3)
        x = unit(net, x, 128, (1, 1)).flatten(1)
        x = net.linear(functional.dropout(net.linear(x, 1024).relu(), 0.7), CLASSES)
        assert not net.left
        return x

    heads = []
    if auxiliary:  # registered between the modules and the last linear layer
        size = 9 if torchvision else 6
        heads = [
            PaperNetwork(net.left[start : start + size], epsilon=net.epsilon) for start in (-2 * size - 2, -size - 2)
        ]
        del net.left[-2 * size - 2 : -2]

    x = normalise(functional.max_pool2d(unit(net, x, 64, (7, 7), 2), 3, 2, ceil_mode=True))
    x = normalise(unit(net, unit(net, x, 64, (1, 1)), 192, (3, 3)))
    x = functional.max_pool2d(x, 3, 2, ceil_mode=True)
    x = inception(x, 64, 96, 128, 16, 32, 32)  # 3a
    x = inception(x, 128, 128, 192, 32, 96, 64)  # 3b
    x = functional.max_pool2d(x, 3, 2, ceil_mode=True)
    x = inception(x, 192, 96, 208, 16, 48, 64)  # 4a
    first = head(heads[0], x) if heads else None
    x = inception(x, 160, 112, 224, 24, 64, 64)  # 4b
    x = inception(x, 128, 128, 256, 24, 64, 64)  # 4c
    x = inception(x, 112, 144, 288, 32, 64, 64)  # 4d
    second = head(heads[1], x) if heads else None
    x = inception(x, 256, 160, 320, 32, 128, 128)  # 4e
    x = functional.max_pool2d(x, 2 if torchvision else 3, 2, ceil_mode=True)
    x = inception(x, 256, 160, 320, 32, 128, 128)  # 5a
    x = inception(x, 384, 192, 384, 48, 128, 128)  # 5b
    x = net.linear(functional.dropout(x.mean((2, 3)), 0.2 if torchvision else 0.4), CLASSES)
    return torch.cat([x, second, first], 1) if heads else x


def unit(net, x, channels, *kernel, stride=1, valid=False):
    """Convolution, batch norm, ReLU of Szegedy et al. 2016; a single number is a square kernel."""
    kernel = kernel if len(kernel) == 2 else kernel * 2
    x = net.convolution(x, channels, kernel, stride=stride, padding=0 if valid else None, bias=False)
    return net.batch_norm(x).relu()


def halve(x):
    return functional.max_pool2d(x, 3, 2)


def smooth(x):
    """3x3 average pooling as TensorFlow does it: what lies outside is not counted."""
    return functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)


def figure3(net, x):
    """The stem of Inception-v4, and of Inception-ResNet-v2 in the paper."""
    x = unit(net, x, 32, 3, stride=2, valid=True)
    x = unit(net, x, 32, 3, valid=True)
    x = unit(net, x, 64, 3)
    x = torch.cat([halve(x), unit(net, x, 96, 3, stride=2, valid=True)], 1)
    left = unit(net, unit(net, x, 64, 1), 96, 3, valid=True)
    right = unit(net, x, 64, 1)
    right = unit(net, right, 64, 7, 1)
    right = unit(net, right, 64, 1, 7)
    x = torch.cat([left, unit(net, right, 96, 3, valid=True)], 1)
    return torch.cat([unit(net, x, 192, 3, stride=2, valid=True), halve(x)], 1)


def figure7(net, x, k, l, m, n):  # noqa: E741 - the paper's letter
    """35x35 to 17x17."""
    two = unit(net, x, n, 3, stride=2, valid=True)
    three = unit(net, unit(net, x, k, 1), l, 3)
    return torch.cat([halve(x), two, unit(net, three, m, 3, stride=2, valid=True)], 1)


def inception_v4(net, x):
    """Szegedy et al. 2016, figures 3 to 9."""
    x = figure3(net, x)
    # figure 4
    one = unit(net, smooth(x), 96, 1)
    two = unit(net, x, 96, 1)
    three = unit(net, unit(net, x, 64, 1), 96, 3)
    four = unit(net, unit(net, unit(net, x, 64, 1), 96, 3), 96, 3)
    x = torch.cat([one, two, three, four], 1)
    x = figure7(net, x, 192, 224, 256, 384)
    # figure 5
    one = unit(net, smooth(x), 128, 1)
    two = unit(net, x, 384, 1)
    three = unit(net, unit(net, unit(net, x, 192, 1), 224, 1, 7), 256, 7, 1)
    four = unit(net, unit(net, unit(net, x, 192, 1), 192, 1, 7), 224, 7, 1)
    four = unit(net, unit(net, four, 224, 1, 7), 256, 7, 1)
    x = torch.cat([one, two, three, four], 1)
    # figure 8
    two = unit(net, unit(net, x, 192, 1), 192, 3, stride=2, valid=True)
    three = unit(net, unit(net, unit(net, x, 256, 1), 256, 1, 7), 320, 7, 1)
    x = torch.cat([halve(x), two, unit(net, three, 320, 3, stride=2, valid=True)], 1)
    # figure 6
    one = unit(net, smooth(x), 256, 1)
    two = unit(net, x, 256, 1)
    split = unit(net, x, 384, 1)
    three = [unit(net, split, 256, 1, 3), unit(net, split, 256, 3, 1)]
    split = unit(net, unit(net, unit(net, x, 384, 1), 448, 1, 3), 512, 3, 1)
    four = [unit(net, split, 256, 3, 1), unit(net, split, 256, 1, 3)]
    x = torch.cat([one, two, *three, *four], 1)
    return net.linear(functional.dropout(x.mean((2, 3)), 0.2), CLASSES)


def figure14(net, x):
    """The stem of Inception-ResNet-v1, but for its last convolution."""
    x = unit(net, x, 32, 3, stride=2, valid=True)
    x = unit(net, x, 32, 3, valid=True)
    x = unit(net, x, 64, 3)
    x = halve(x)
    x = unit(net, x, 80, 1)
    return unit(net, x, 192, 3, valid=True)


def inception_resnet(net, x, *, version):
    """Szegedy et al. 2016, figures 10 to 19; version `slim` is TensorFlow's, which timm follows."""
    old = version == "1"
    if old:
        x = unit(net, figure14(net, x), 256, 3, stride=2, valid=True)
    elif version == "paper":
        x = figure3(net, x)
    else:
        x = halve(figure14(net, x))
        one = unit(net, x, 96, 1)
        two = unit(net, unit(net, x, 48, 1), 64, 5)
        three = unit(net, unit(net, unit(net, x, 64, 1), 96, 3), 96, 3)
        x = torch.cat([one, two, three, unit(net, smooth(x), 64, 1)], 1)
    # figures 10 and 16
    one = unit(net, x, 32, 1)
    two = unit(net, unit(net, x, 32, 1), 32, 3)
    three = unit(net, unit(net, unit(net, x, 32, 1), 32 if old else 48, 3), 32 if old else 64, 3)
    x = (x + 0.17 * net.convolution(torch.cat([one, two, three], 1), x.shape[1], (1, 1))).relu()
    x = figure7(net, x, 192, 192, 256, 384) if old else figure7(net, x, 256, 256, 384, 384)
    # figures 11 and 17
    one = unit(net, x, 128 if old else 192, 1)
    two = unit(net, unit(net, unit(net, x, 128, 1), 128 if old else 160, 1, 7), 128 if old else 192, 7, 1)
    x = (x + 0.1 * net.convolution(torch.cat([one, two], 1), x.shape[1], (1, 1))).relu()
    # figures 12 and 18
    two = unit(net, unit(net, x, 256, 1), 384, 3, stride=2, valid=True)
    three = unit(net, unit(net, x, 256, 1), 256 if old else 288, 3, stride=2, valid=True)
    four = unit(net, unit(net, x, 256, 1), 256 if old else 288, 3)
    four = unit(net, four, 256 if old else 320, 3, stride=2, valid=True)
    x = torch.cat([halve(x), two, three, four], 1)
    # figures 13 and 19
    one = unit(net, x, 192, 1)
    two = unit(net, unit(net, unit(net, x, 192, 1), 192 if old else 224, 1, 3), 192 if old else 256, 3, 1)
    added = net.convolution(torch.cat([one, two], 1), x.shape[1], (1, 1))
    # TensorFlow's last block is neither scaled nor followed by a ReLU.
    x = unit(net, x + added, 1536, 1) if version == "slim" else (x + 0.2 * added).relu()
    return net.linear(functional.dropout(x.mean((2, 3)), 0.2), CLASSES)


def joined(net, x, out, stride, shortcut):
    """relu(F(x) + x), the shortcut fitted where the shape changes (He et al. 2016, section 3.3)."""
    if shortcut == "none":
        return out.relu()
    if x.shape != out.shape and shortcut == "padding":
        x = x[:, :, ::stride, ::stride]
        x = torch.cat([x, torch.zeros_like(out[:, x.shape[1] :])], 1)
    elif x.shape != out.shape:
        x = net.batch_norm(net.convolution(x, out.shape[1], (1, 1), stride=stride, bias=False))
    return (out + x).relu()


def basic(net, x, channels, stride, *, shortcut="projection"):
    out = net.batch_norm(net.convolution(x, channels, (3, 3), stride=stride, bias=False)).relu()
    out = net.batch_norm(net.convolution(out, channels, (3, 3), bias=False))
    return joined(net, x, out, stride, shortcut)


def bottleneck(net, x, channels, stride, *, inner=1 / 4, groups=1, stride_in="1x1"):
    """1x1, 3x3, 1x1; `inner` channels for each of the block's: 1/4, or G d / C of a ResNeXt."""
    first, second = (stride, 1) if stride_in == "1x1" else (1, stride)
    width = int(inner * channels)
    out = net.batch_norm(net.convolution(x, width, (1, 1), stride=first, bias=False)).relu()
    out = net.batch_norm(net.convolution(out, width, (3, 3), stride=second, groups=groups, bias=False)).relu()
    out = net.batch_norm(net.convolution(out, channels, (1, 1), bias=False))
    return joined(net, x, out, stride, "projection")


def resnet(net, x, *, block, channels):
    """He et al. 2016, table 1; a stem of 7x7 and max pool."""
    x = net.batch_norm(net.convolution(x, 64, (7, 7), stride=2, bias=False)).relu()
    x = functional.max_pool2d(x, 3, 2, 1)
    return stages(net, x, block, channels)


def resnet_cifar(net, x, *, block, channels, stem=16):
    """He et al. 2016, section 4.2; a stem of one 3x3."""
    x = net.batch_norm(net.convolution(x, stem, (3, 3), bias=False)).relu()
    return stages(net, x, block, channels)


def stages(net, x, block, channels):
    for number, width in enumerate(channels):
        for index in range(2):
            x = block(net, x, width, 2 if number and not index else 1)
    return net.linear(x.mean((2, 3)), CLASSES)


def pixel_norm(net, x):
    """Layer norm over the channels of each pixel, from its definition."""
    scale, shift = (net.take(x.shape[1]).view(-1, 1, 1) for _ in range(2))
    return (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True, correction=0) + 1e-6).sqrt() * scale + shift


def pixel_linear(net, x, channels):
    """A linear layer on each pixel: a 1x1 convolution."""
    flat = net.linear(x.permute(0, 2, 3, 1).flatten(0, 2), channels)
    return flat.unflatten(0, (len(x), *x.shape[2:])).permute(0, 3, 1, 2)


def convnext(net, x, *, blocks, channels):
    """Liu et al. 2022, figure 4 and table 9, with layer scale."""
    x = pixel_norm(net, net.convolution(x, channels[0], (4, 4), stride=4, padding=0))
    for number, (count, width) in enumerate(zip(blocks, channels, strict=True)):
        if number:
            x = net.convolution(pixel_norm(net, x), width, (2, 2), stride=2, padding=0)
        for _ in range(count):
            scale = net.take(width, 1, 1)
            out = pixel_norm(net, net.convolution(x, width, (7, 7), groups=width))
            out = pixel_linear(net, out, 4 * width)
            out = out * (1 + (out / 2**0.5).erf()) / 2
            x = x + scale * pixel_linear(net, out, width)
    return net.linear(pixel_norm(net, x.mean((2, 3), keepdim=True)).flatten(1), CLASSES)


BASIC, DEEP, SMALL = (64, 128, 256, 512), (256, 512, 1024, 2048), (16, 32, 64)
V1_5 = partial(bottleneck, stride_in="3x3")
FIGURES = {
    "alexnet": (alexnet, (159, 127)),
    "zfnet": (zfnet, (159, 127)),
    "convnext_tiny": (partial(convnext, blocks=(3, 3, 9, 3), channels=(96, 192, 384, 768)), (96, 64)),
    "vgg11": (partial(vgg, convolutions=(1, 1, 2, 2, 2)), (64, 32)),
    "vgg13_bn": (partial(vgg, convolutions=(2, 2, 2, 2, 2), batch_norm=True), (64, 32)),
    "googlenet": (googlenet, (64, 32)),
    "googlenet_torchvision": (partial(googlenet, torchvision=True), (64, 32)),
    "inception_v4": (inception_v4, (107, 75)),
    "inception_resnet_v1": (partial(inception_resnet, version="1"), (107, 75)),
    "inception_resnet_v2": (partial(inception_resnet, version="slim"), (107, 75)),
    "inception_resnet_v2_paper": (partial(inception_resnet, version="paper"), (107, 75)),
    "resnet18": (partial(resnet, block=basic, channels=BASIC), (33, 17)),
    "resnet50": (partial(resnet, block=bottleneck, channels=DEEP), (33, 17)),
    "resnet50_v1_5": (partial(resnet, block=V1_5, channels=DEEP), (33, 17)),
    "resnext50_32x4d": (partial(resnet, block=partial(V1_5, inner=1 / 2, groups=32), channels=DEEP), (33, 17)),
    "resnet20": (partial(resnet_cifar, block=partial(basic, shortcut="padding"), channels=SMALL), (8, 5)),
    "plain20": (partial(resnet_cifar, block=partial(basic, shortcut="none"), channels=SMALL), (8, 5)),
    "resnext29_2x8d": (
        partial(resnet_cifar, block=partial(V1_5, inner=1 / 16, groups=2), channels=(256, 512, 1024), stem=64),
        (8, 5),
    ),
}
"""A figure for each kind of network, and the sides of an image whose last map has several pixels."""


def made(name, **options):
    """Build a network in float64 with random weights, small enough to run in a moment.

    Of a row of modules the last stays, of a stage the first two blocks, of 4096 outputs 16; other tests hold parameters
    and MACs of the whole networks against published figures.
    """

    def built():
        network = build(name, num_classes=CLASSES, **options)
        for parent in (network, getattr(network, "features", network)):
            for key, row in list(parent.named_children()):
                if key in MODULES:
                    setattr(parent, key, row[-1:])
                if key in STAGES:
                    setattr(parent, key, row[:2])
        linear = [
            number for number, part in enumerate(getattr(network, "classifier", ())) if isinstance(part, nn.Linear)
        ]
        for number in linear:
            inputs = network.classifier[number].in_features if number == linear[0] else HIDDEN
            network.classifier[number] = nn.Linear(inputs, CLASSES if number == linear[-1] else HIDDEN)
        return network

    network = randomness.materialised(built, torch.float64)
    randomness.fill_normal(network, randomness.generator(name))
    for part in network.eval().modules():
        part.train(isinstance(part, nn.Dropout))
    return network


@torch.no_grad()
def run(network, x):
    torch.manual_seed(0)
    return network(x)


def missed(name, network, x, **options):
    """Return how far a network is from its figure, both with the same draws of dropout."""

    def figure(net, x):
        with torch.random.fork_rng():
            return FIGURES[name][0](net, x, **options)

    torch.manual_seed(0)
    return miss(network, figure, x, epsilon=1e-3 if "inception" in name or "googlenet" in name else 1e-5)


def image(sides, batch=1):
    return randomness.normal((batch, 3, *sides), randomness.generator("image"))


def pooled_last(module):
    """An inception module with the 1x1 before its max pool."""
    other = copy.copy(module)
    other._modules = {**module._modules, "branch4": nn.Sequential(*reversed(module.branch4))}
    return other


def maximum(layer):
    return nn.MaxPool2d(layer.kernel_size, layer.stride, layer.padding, ceil_mode=layer.ceil_mode)


def average(layer):
    return nn.AvgPool2d(layer.kernel_size, layer.stride, layer.padding, ceil_mode=layer.ceil_mode)


def turned(layer):
    """Exchange height and width of a kernel: 7x1 for 1x7."""
    other = nn.Conv2d(layer.in_channels, layer.out_channels, layer.kernel_size[::-1], padding=layer.padding[::-1])
    other.weight, other.bias = nn.Parameter(layer.weight.transpose(2, 3)), None
    return other


WRONG = {
    nn.MaxPool2d: average,
    nn.AvgPool2d: maximum,
    nn.AdaptiveAvgPool2d: lambda layer: nn.AdaptiveMaxPool2d(layer.output_size),
    nn.LocalResponseNorm: lambda _: nn.Identity(),
    nn.Conv2d: lambda layer: turned(layer) if layer.kernel_size[0] != layer.kernel_size[1] else None,
    InceptionModule: pooled_last,
}


def mutants(network):
    """Put one wrong layer after another in its place; gives its path while it stands there."""
    for path, layer in list(network.named_modules()):
        wrong = WRONG.get(type(layer), lambda _: None)(layer)
        if wrong is not None:
            parent = network.get_submodule(path.rpartition(".")[0])
            name = path.rpartition(".")[2]
            setattr(parent, name, wrong)
            yield path
            setattr(parent, name, layer)


@pytest.mark.parametrize("name", FIGURES)
def test_a_network_is_the_papers_and_no_other(name):
    network, x = made(name), image(FIGURES[name][1])
    assert missed(name, network, x) < ROUNDING
    right = run(network, x)
    seen = {path: float((run(network, x) - right).abs().max() / right.abs().max()) for path in mutants(network)}
    assert [path for path, difference in seen.items() if difference < NOTICED] == []


def earlier_dropout(head):
    head.fc1, head.dropout = nn.Sequential(head.dropout, head.fc1), nn.Identity()


HEADS = {
    "right": lambda _: None,
    "first head one module late": lambda network: setattr(
        network, "aux1", nn.Sequential(network.inception4b, network.aux1)
    ),
    "maximum for average": lambda network: setattr(network.aux2, "pool", nn.AdaptiveMaxPool2d(4)),
    "no ReLU between the linear layers": lambda network: setattr(network.aux2, "relu", nn.Identity()),
    "half dropped": lambda network: setattr(network.aux1.dropout, "p", 0.5),
    "dropped before the linear layers": lambda network: earlier_dropout(network.aux2),
}


@pytest.mark.parametrize(
    ("name", "sides", "change"),
    [
        *(("googlenet", (224, 224), change) for change in HEADS),
        ("googlenet_torchvision", (112, 80), "right"),
        ("googlenet_torchvision", (112, 80), "maximum for average"),
    ],
)
def test_auxiliary_heads_are_the_papers_and_no_others(name, sides, change):
    network = made(name, auxiliary=True)
    network.training = True  # the heads run, norms stay in evaluation
    network.register_forward_hook(lambda _, __, outputs: torch.cat(outputs, 1))
    state = network.state_dict()
    HEADS[change](network)
    network.state_dict = lambda: state
    difference = missed(name, network, image(sides), auxiliary=True)
    assert difference < ROUNDING if change == "right" else difference > NOTICED
