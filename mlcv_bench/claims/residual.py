"""Section 2.2: residual networks, bottlenecks and factorised convolutions."""

from __future__ import annotations

import itertools
import math
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor, nn

from mlcv_bench.architectures import googlenet, inception, resnet
from mlcv_bench.architectures.layers import initialise
from mlcv_bench.architectures.resnext import resnext
from mlcv_bench.claims.claim import ExperimentResult, claim
from mlcv_bench.claims.inception import Figure, PaperNetwork, miss, shapes
from mlcv_bench.claims.quantity import Quantity
from mlcv_bench.claims.scene import Bars, Cells, Curves, Line, NetworkFigure
from mlcv_bench.counting.cost import count
from mlcv_bench.equivalence import randomness
from mlcv_bench.statistics import mean_interval

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlcv_bench.claims.trained import Sample, TrainingSettings

BASIC, WIDE = 64, 256
ROUNDING = 1e-12


Block = TypeVar("Block", bound=resnet.ResidualBlock)


def ready(module: Block, seed: int = 0) -> Block:
    """Initialise a block in float64 as its network would, from a seed of its own, leaving torch's generator alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        initialise(module)
    return module.to(torch.float64)


def share_added(block: resnet.ResidualBlock, x: Tensor) -> float:
    """Return the norm of F(x) over the norm of x."""
    with torch.no_grad():
        return float(block.residual(x).norm() / x.norm())


@claim(
    "holds_with_limit",
    "With small weights a residual network starts as the identity.",
    limit="if the last batch norm starts at zero",
)
def identity() -> ExperimentResult:
    """Start both kinds of block with and without a zero in the last batch norm, and measure F(x) against x."""
    quantities = []
    for name, channels, build in (("standard", BASIC, resnet.BasicBlock), ("bottleneck", WIDE, resnet.Bottleneck)):
        x = randomness.normal((4, channels, 8, 8), randomness.generator(name)).relu()
        block = ready(build(channels, channels))
        usual = share_added(block, x)
        with torch.no_grad():
            for convolution in block.modules():
                if isinstance(convolution, nn.Conv2d):
                    convolution.weight.mul_(0.1)
        small = share_added(block, x)
        zeroed = ready(build(channels, channels))
        resnet.zero_last_norms(zeroed)
        with torch.no_grad():
            moved = (zeroed(x) - x).abs().max().item()
        quantities += [
            Quantity(f"|F(x)|/|x| of a {name} block, last norm zeroed", share_added(zeroed, x), 0.0),
            Quantity("largest |block(x) - x| of it, x after a ReLU", moved, 0.0),
            Quantity(f"|F(x)|/|x| as usually initialised, {name}", usual, 0.0, relation=">", role="limit"),
            # Batch norm divides by sqrt(variance + 1e-5), so only the 1e-5 can tell small weights from large ones.
            Quantity(
                f"the same with weights ten times smaller, share of it, {name}", small / usual, 1.0, 0.05, role="limit"
            ),
        ]
    return ExperimentResult(
        tuple(quantities),
        "A block whose last batch norm starts at zero is the identity exactly; small weights alone do not make it one, "
        "since batch norm scales them back.",
        scene=(
            Bars(
                "|F(x)|/|x| (of small weights: share of the usual)",
                {
                    f"{name},\n{words}": quantities[4 * row + part]
                    for row, name in enumerate(("standard", "bottleneck"))
                    for part, words in ((0, "last norm zeroed"), (2, "as usually initialised"), (3, "weights / 10"))
                },
            ),
        ),
    )


def followed_by_norm(network: nn.Module, shape: tuple[int, int, int] = (3, 64, 64)) -> tuple[int, int]:
    """Run a network and count its convolutions, and those whose output is what a batch norm reads next."""
    convolutions: list[Tensor] = []
    read: list[Tensor] = []
    for part in network.modules():
        if isinstance(part, nn.Conv2d):
            part.register_forward_hook(lambda _, __, out: convolutions.append(out))
        elif isinstance(part, nn.BatchNorm2d):
            part.register_forward_hook(lambda _, inputs, __: read.append(inputs[0]))
    with torch.no_grad():
        network.eval()(torch.zeros(1, *shape, device="meta"))
    return len(convolutions), sum(any(one is other for other in read) for one in convolutions)


@claim("holds", "Batch normalization is heavily used.")
def batch_norm() -> ExperimentResult:
    """Follow every convolution of the residual networks to what reads it, and GoogLeNet's for comparison."""
    quantities, shares = [], {}
    with torch.device("meta"):
        networks = {
            "resnet18": resnet.resnet(block="basic", layers=(2, 2, 2, 2)),
            "resnet50": resnet.resnet(block="bottleneck", layers=(3, 4, 6, 3)),
            "resnext50": resnext(layers=(3, 4, 6, 3), groups=32, width=4),
        }
        without = googlenet.googlenet()
    for name, network in networks.items():
        convolutions, normed = followed_by_norm(network)
        quantities.append(Quantity(f"{name}: convolutions without a batch norm after them", convolutions - normed, 0))
        shares[f"{name},\n{convolutions} convolutions"] = Quantity("", normed / convolutions, 1.0)
    convolutions, normed = followed_by_norm(without)
    quantities.append(
        Quantity("Inception-v1, before batch norm: share of convolutions with one", normed / convolutions, 0.0)
    )
    return ExperimentResult(
        tuple(quantities),
        "Every convolution of a residual network is followed by a batch norm, none of Inception-v1's is.",
        scene=(
            Bars(
                "share of convolutions that a batch norm follows",
                {**shares, f"Inception-v1,\n{convolutions} convolutions": quantities[-1]},
            ),
        ),
    )


def growth(*, after: bool, seed: int = 0, blocks: int = 40) -> tuple[list[float], float]:
    """Run a stack of fresh blocks; returns the mean activation after each, and the share of negative additions."""
    x = randomness.normal((2, 16, 8, 8), randomness.generator(f"growth {seed}")).relu()
    means, negative, total = [], 0, 0
    with torch.no_grad():
        for number in range(blocks):
            block = ready(resnet.BasicBlock(16, 16, skip_after_relu=after), seed=seed * blocks + number)
            out = block(x)
            added = out - x if after else block.residual(x)
            negative += int((added < -ROUNDING).sum())  # subtracting x again may leave rounding
            total += added.numel()
            x = out
            means.append(x.mean().item())
    return means, negative / total


@claim("holds", "The skip is added before the ReLU; after it only positive values could be.")
def skip_before_relu() -> ExperimentResult:
    """Stack 40 blocks with the skip added before the ReLU, as ResNet does, and after it, in eight networks each.

    Flipping the signs of a last convolution's weights flips that of F(x), and both are equally likely: whatever F's
    distribution, half of what is added before the ReLU is below zero on average. After the ReLU a standard normal has
    mean 1/sqrt(2 pi): the mean grows by that much in each block, and starts there, so that it grows to 41/11 from block
    10 to block 40.
    """
    stacks = [[growth(after=after, seed=seed) for seed in range(8)] for after in (False, True)]
    below = mean_interval([share for _, share in stacks[0]])
    before, later = ([means[39] / means[9] for means, _ in found] for found in stacks)
    linear = mean_interval(later)
    slower = mean_interval([one / other for one, other in zip(before, later, strict=True)])
    rising = [sum(b > a for a, b in itertools.pairwise(means)) / (len(means) - 1) for means, _ in stacks[1]]
    return ExperimentResult(
        (
            Quantity("share of additions below zero, added after the ReLU, most", max(s for _, s in stacks[1]), 0.0),
            Quantity.estimated("share of additions below zero, added before the ReLU, 8 networks", below, 0.5, 0.02),
            Quantity("share of blocks that raise the mean, added after, least", min(rising), 1.0),
            Quantity.estimated(
                "mean after 40 blocks over that after 10, added after",
                linear,
                41 / 11,
                # Near enough to 41/11 to tell proportional growth from that of its square root, 1.93.
                0.1,
                relative=True,
            ),
            Quantity.estimated("the same added before, over that added after", slower, 1.0, relation="<"),
        ),
        "After the ReLU a block can only add: the activations grow in proportion to depth. Before it "
        f"{below.middle:.0%} of the additions are negative, and growth is slower.",
        effect=1 / slower.middle,
        scene=(
            Curves(
                "blocks",
                "mean activation of the first of 8 networks",
                (
                    Line("skip added before the ReLU, as ResNet does", stacks[0][0][0], range(1, 41)),
                    Line("after it", stacks[1][0][0], range(1, 41)),
                    Line(
                        "(blocks + 1)/sqrt(2 pi)",
                        [(k + 1) / math.sqrt(2 * math.pi) for k in range(1, 41)],
                        range(1, 41),
                        "theory",
                    ),
                ),
            ),
        ),
    )


@claim("holds", "Residual networks train where plain ones of the same depth do not.", quick=False)
def deep() -> ExperimentResult:
    """Train ResNet-56 and its plain twin on digits, each tuned inside every seed; 8 layers for comparison.

    Laid down before the first run. Ten seeds draw the images, first weights and their order. Both sides take SGD with
    momentum 0.9 and a cosine, at the rates 0.01, 0.03 and 0.1 (0.1 and 0.01 are He et al. 2016's), four epochs of 12
    steps, 4 channels in the first stage. The remark is about training: the lowest training loss of the three counts.
    It holds if Student's 95% interval of plain less residual lies above 0 at 56 layers, and if the same of what 56
    layers add to the difference at 8 does: else it would not be depth that the plain network fails at.
    """
    from mlcv_bench.claims import trained  # noqa: PLC0415 - quick claims do not load the tasks

    trials = [trained.TrainingSettings("momentum", rate) for rate in (0.01, 0.03, 0.1)]
    return _deep_against_shallow(trained.small_residual, trained.DIGITS, lambda _: trials, deep=9, epochs=4)


@claim("holds", "On MNIST residual networks train where plain ones of the same depth do not.", quick=False)
def deep_on_mnist() -> ExperimentResult:
    """Do the same with 32 layers on 5,000 digits of MNIST, as `deep` says, with patches of 4x4 pixels as channels.

    Laid down before the first run of it, but after one run of 96 steps each of a plain and a residual network of 56
    layers on MNIST. Rate, momentum, weight decay and schedule are tuned: four trials a seed, the same for both networks
    and both depths, rates over three decades from 1e-3. Two epochs of 32 steps, so that the whole takes a few minutes.
    """
    from mlcv_bench.claims import trained  # noqa: PLC0415 - quick claims do not load the tasks

    build = partial(trained.on_patches, trained.small_residual)
    trials = partial(trained.drawn_trials, "momentum", 1e-3, count=4)
    return _deep_against_shallow(build, trained.MNIST, trials, deep=5, epochs=2)


def _deep_against_shallow(
    build: Callable[..., nn.Module],
    sample: Sample,
    trials: Callable[[int], list[TrainingSettings]],
    *,
    deep: int,
    epochs: int,
) -> ExperimentResult:
    """Compare plain and residual networks of `deep` blocks a stage, and what depth adds to those of one block."""
    from mlcv_bench.claims import trained  # noqa: PLC0415 - quick claims do not load the tasks

    losses: dict[tuple[int, bool], list[float]] = {}
    for blocks, skip in itertools.product((deep, 1), (False, True)):
        network = partial(build, blocks=blocks, width=4, skip=skip)
        losses[blocks, skip] = [
            trained.best(network, trials(seed), seed, epochs, lambda run: run.train_loss, sample).train_loss
            for seed in range(trained.REPLICAS)
        ]
    behind = {
        blocks: [plain - residual for plain, residual in zip(losses[blocks, False], losses[blocks, True], strict=True)]
        for blocks in (deep, 1)
    }
    layers = f"{6 * deep + 2} layers"
    gap = trained.gap(f"training loss, plain less residual, {layers}", "nats", losses[deep, False], losses[deep, True])
    added = trained.gap("the same less that of 8 layers", "nats", behind[deep], behind[1])
    return ExperimentResult(
        (gap, added),
        f"After {epochs} epochs at {layers}, that the plain network's training loss exceeds the residual one's "
        f"{trained.in_words(gap)}; that depth adds to the difference {trained.in_words(added)}.",
        effect=gap.measured,
        scene=trained.paired(
            f"training loss, nats, {layers}",
            {"plain": losses[deep, False], "residual": losses[deep, True]},
            gap,
            added,
        ),
    )


@claim(
    "holds_with_limit",
    "A stage's first block halves the sides and doubles the channels.",
    limit="not the first stage, which follows a max pool",
)
def stage() -> ExperimentResult:
    """Follow ResNet-18 and ResNet-50 through their stages."""
    quantities = []
    networks = {
        "resnet18": resnet.resnet(block="basic", layers=(2, 2, 2, 2)),
        "resnet50": resnet.resnet(block="bottleneck", layers=(3, 4, 6, 3)),
    }
    sides: list[Line] = []
    widths: list[Line] = []
    for name, network in networks.items():
        out = shapes(count(network))
        stages = [out[place] for place in ("maxpool", *(f"layer{i}" for i in (1, 2, 3, 4)))]
        sides.append(Line(name, [shape[-1] for shape in stages], look="dots" if sides else "curve"))
        widths.append(Line(name, [shape[0] for shape in stages], look="dots" if widths else "curve"))
        for before, after in ((f"layer{i}", f"layer{i + 1}.0") for i in (1, 2, 3)):
            (c0, h0, w0), (c1, h1, w1) = out[before], out[after]
            quantities += [
                Quantity(f"{name} {after}: side, share of the stage's before", math.sqrt(h1 * w1 / (h0 * w0)), 0.5),
                Quantity(f"{name} {after}: channels, times the stage's before", c1 / c0, 2),
            ]
        pools = sum(
            "Pool" in type(part).__name__ for i in (1, 2, 3, 4) for part in network.get_submodule(f"layer{i}").modules()
        )
        first = out["layer1.0"][-1] / out["maxpool"][-1]
        quantities += [
            Quantity(f"{name}: poolings inside the stages", pools, 0),
            Quantity(f"{name} layer1.0: side, share of the max pool's before it", first, 1, role="limit"),
        ]
    return ExperimentResult(
        tuple(quantities),
        "From the second stage on the first block halves the sides and doubles the channels, by its stride; the first "
        "stage follows a max pool and keeps the sides.",
        scene=(
            Curves("stage; 0 is the max pool before them", "side in pixels", sides),
            Curves("stage; 0 is the max pool before them", "channels after it", widths, log="y"),
        ),
    )


@claim(
    "holds_with_limit",
    "A bottleneck compresses by 4, strides in its first 1x1, and costs about as much as a standard block.",
    limit="a stage's first block compresses by 2",
)
def bottleneck() -> ExperimentResult:
    """Count a bottleneck on 256 channels and a standard block on 64, pixel by pixel; follow a stage's first block."""
    side = 8
    standard = count(resnet.BasicBlock(BASIC, BASIC), input=(BASIC, side, side))
    deep = count(resnet.Bottleneck(WIDE, WIDE), input=(WIDE, side, side))
    three, ones = 2 * 9 * BASIC * BASIC, 2 * WIDE * BASIC + 9 * BASIC * BASIC
    norms = 2 * 2 * BASIC, 2 * (2 * BASIC + WIDE)
    out = shapes(count(resnet.resnet(block="bottleneck", layers=(1, 2, 1, 1))))
    before, first, middle = out["layer1"], out["layer2.0.conv1"], out["layer2.0.conv2"]
    return ExperimentResult(
        (
            Quantity("bottleneck", deep.macs / side**2, ones, unit="MACs/pixel"),
            Quantity("standard block", standard.macs / side**2, three, unit="MACs/pixel"),
            Quantity("bottleneck over standard block, MACs", deep.macs / standard.macs, ones / three),
            Quantity(
                "bottleneck over standard block, parameters",
                deep.params / standard.params,
                (ones + norms[1]) / (three + norms[0]),
            ),
            # "Approximately the same": the notes give no figure; within a tenth is what the word is taken for here.
            Quantity("their MACs are about the same", deep.macs / standard.macs, 1.0, 0.1),
            Quantity("side after the first 1x1 of a stage, share of the side before", first[-1] / before[-1], 1 / 2),
            Quantity("side after the 3x3 that follows, share of the first 1x1's", middle[-1] / first[-1], 1),
            Quantity(
                "channels after a first 1x1, share of its input's", out["layer2.1.conv1"][0] / out["layer2.0"][0], 1 / 4
            ),
            Quantity("the same in a stage's first block", first[0] / before[0], 1 / 2, role="limit"),
        ),
        "Three layers on four times the channels cost 94% of two layers; the first 1x1 has the stage's stride "
        "(torchvision moves it to the 3x3). A stage's first block compresses by 2 alone, as it doubles the channels.",
        effect=deep.macs / standard.macs,
        scene=(NetworkFigure("2.4"),),
    )


def unit(net: PaperNetwork, x: Tensor, channels: int, kernel: tuple[int, int]) -> Tensor:
    """Compute a convolution with batch norm and ReLU, as all branches of Szegedy et al. 2016 have them."""
    return net.batch_norm(net.convolution(x, channels, kernel, bias=False)).relu()


def inception_a(net: PaperNetwork, x: Tensor) -> Tensor:
    """Compute the notes' Inception-ResNet-A, widths from figure 10 of Szegedy et al. 2016."""
    one = unit(net, x, 32, (1, 1))
    two = unit(net, unit(net, x, 32, (1, 1)), 32, (3, 3))
    three = unit(net, unit(net, unit(net, x, 32, (1, 1)), 32, (3, 3)), 32, (3, 3))
    return (net.convolution(torch.cat([one, two, three], dim=1), 256, (1, 1)) + x).relu()


def inception_b(net: PaperNetwork, x: Tensor) -> Tensor:
    """Compute the notes' Inception-ResNet-B, widths from figure 11 of Szegedy et al. 2016."""
    one = unit(net, x, 128, (1, 1))
    two = unit(net, unit(net, unit(net, x, 128, (1, 1)), 128, (1, 7)), 128, (7, 1))
    return (net.convolution(torch.cat([one, two], dim=1), 896, (1, 1)) + x).relu()


def against_figure(block: nn.Module, figure: Figure, channels: int) -> tuple[float, int, float]:
    """Compare a block with its figure; also returns how many 1x1 read its input, and the most channels that one gives.

    The channels are a share of the input's.
    """
    randomness.fill_normal(block, randomness.generator("inception", channels))
    x = randomness.normal((2, channels, 9, 9), randomness.generator("inception's input"))
    difference = miss(block.eval(), figure, x, epsilon=1e-3)
    widths: list[int] = []
    for part in block.modules():
        if isinstance(part, nn.Conv2d) and part.kernel_size == (1, 1):
            part.register_forward_pre_hook(
                lambda part, inputs: widths.append(part.out_channels) if inputs[0] is x else None
            )
    with torch.no_grad():
        block(x)
    return difference, len(widths), max(widths, default=0) / channels


@claim("holds", "In Inception-ResNet-A three 1x1 lead to the concatenation, to a 3x3 and to two 3x3.")
def inception_resnet_a() -> ExperimentResult:
    """Run block A of Inception-ResNet-v1, unscaled, against the notes' list of its paths."""
    block = inception.InceptionResNetA(256, scale=1.0).to(torch.float64)
    difference, paths, share = against_figure(block, inception_a, 256)
    return ExperimentResult(
        (
            Quantity("output, less the figure's, share of the largest", difference, 0.0, ROUNDING),
            Quantity("1x1 convolutions that read the input", paths, 3),
            Quantity("the most channels that one gives, share of the input's", share, 32 / 256),
        ),
        "Three 1x1 compress 256 channels to 32 each; the paths have no, one and two 3x3, are stacked, matched by a 1x1 "
        "and added before the ReLU. The networks scale what is added by 0.17, which the notes leave out.",
        scene=(NetworkFigure("inception-resnet-a"),),
    )


@claim(
    "holds_with_limit",
    "In Inception-ResNet-B 1x1 convolutions lead to the concatenation and to 1x7 and 7x1.",
    limit="there are two of them; the notes say three",
)
def inception_resnet_b() -> ExperimentResult:
    """Run block B of Inception-ResNet-v1, unscaled, against the notes' list of its paths."""
    block = inception.InceptionResNetB(896, scale=1.0).to(torch.float64)
    difference, paths, share = against_figure(block, inception_b, 896)
    return ExperimentResult(
        (
            Quantity("output, less the figure's, share of the largest", difference, 0.0, ROUNDING),
            Quantity("1x1 convolutions that read the input, against the two paths listed", paths, 2),
            Quantity("the most channels that one gives, share of the input's", share, 128 / 896),
            Quantity(
                "1x1 convolutions that read the input, against three in words", paths, 3, relation="<", role="limit"
            ),
        ),
        "One path goes straight to the concatenation, one through 1x7 and 7x1; a 1x1 matches the skip. The notes say "
        "that three 1x1 compress the input and list two paths: there are two (Szegedy et al. 2016, figure 11).",
        scene=(NetworkFigure("inception-resnet-b"),),
    )


def seen(convolutions: list[nn.Conv2d], size: int = 15) -> Tensor:
    """Return which input pixels the middle output pixel of a chain of convolutions depends on.

    All weights are 1, so that no contribution cancels another.
    """
    x = torch.zeros(1, convolutions[0].in_channels, size, size, dtype=torch.float64, requires_grad=True)
    out = x
    for convolution in convolutions:
        weight = torch.ones_like(convolution.weight, dtype=torch.float64)
        out = nn.functional.conv2d(out, weight, None, convolution.stride, convolution.padding)
    out[0, 0, size // 2, size // 2].backward()  # type: ignore[no-untyped-call] # torch leaves it without types
    assert x.grad is not None  # noqa: S101 - it was asked for
    return x.grad[0, 0]


def convolutions_of(module: nn.Module) -> list[nn.Conv2d]:
    """Return a module's spatial convolutions, those larger than 1x1, in order."""
    return [part for part in module.modules() if isinstance(part, nn.Conv2d) and max(part.kernel_size) > 1]


@claim("holds", "Two 3x3 are a factorised 5x5, and 1x7 with 7x1 a factorised 7x7.")
def factorised() -> ExperimentResult:
    """Take the chains out of Inception-ResNet's blocks A and B and see how far they see, and what they weigh."""
    branches = (
        inception.InceptionResNetA().branches.branches,
        inception.InceptionResNetB().branches.branches,
    )
    threes = convolutions_of(branches[0][2])
    sevens = convolutions_of(branches[1][1])
    quantities, views = [], []
    for name, chain, side, share in (
        ("two 3x3 of block A", threes, 5, 18 / 25),
        ("1x7 and 7x1 of block B", sevens, 7, 14 / 49),
    ):
        paths = seen(chain)
        height, width = (int((paths != 0).any(axis).sum()) for axis in (1, 0))
        views.append(Cells("pixel", "pixel", paths.tolist(), f"paths from a pixel to the middle one, {name}"))
        weights = sum(convolution.kernel_size[0] * convolution.kernel_size[1] for convolution in chain)
        quantities += [
            Quantity(f"{name}: height that is seen", height, side, unit="pixels"),
            Quantity(f"{name}: width that is seen", width, side, unit="pixels"),
            Quantity(f"{name}: weights, share of the one {side}x{side}'s", weights / side**2, share),
        ]
    return ExperimentResult(
        tuple(quantities),
        "Two 3x3 see 5x5 with 72% of the weights, 1x7 and 7x1 see 7x7 with 29% (at equal channels).",
        scene=tuple(views),
    )
