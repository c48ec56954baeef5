"""Section 2.2: residual networks, bottlenecks and factorised convolutions."""

from __future__ import annotations

import itertools
import math
from typing import TypeVar

import torch
from torch import Tensor, nn

from mlcv_bench.architectures import inception_resnet, resnet
from mlcv_bench.architectures.layers import initialise
from mlcv_bench.claims.claim import Finding, Quantity
from mlcv_bench.claims.inception import shapes
from mlcv_bench.counting.cost import count
from mlcv_bench.equivalence import draws

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


def identity() -> Finding:
    """Start both kinds of block with and without a zero in the last batch norm, and measure F(x) against x."""
    quantities = []
    for name, channels, build in (("standard", BASIC, resnet.BasicBlock), ("bottleneck", WIDE, resnet.Bottleneck)):
        x = draws.normal((4, channels, 8, 8), draws.generator(name)).relu()
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
    return Finding(
        tuple(quantities),
        "A block whose last batch norm starts at zero is the identity exactly; small weights alone do not make it one, "
        "since batch norm scales them back.",
    )


def growth(*, after: bool, blocks: int = 40) -> tuple[list[float], float]:
    """Run a stack of fresh blocks; returns the mean activation after each, and the share of negative additions."""
    x = draws.normal((8, 16, 8, 8), draws.generator("growth")).relu()
    means, negative, total = [], 0, 0
    with torch.no_grad():
        for number in range(blocks):
            block = ready(resnet.BasicBlock(16, 16, skip_after_relu=after), seed=number)
            out = block(x)
            added = out - x if after else block.residual(x)
            negative += int((added < -ROUNDING).sum())  # subtracting x again may leave rounding
            total += added.numel()
            x = out
            means.append(x.mean().item())
    return means, negative / total


def skip_before_relu() -> Finding:
    """Stack 40 blocks with the skip added before the ReLU, as ResNet does, and after it, as the notes warn of."""
    right, negative_right = growth(after=False)
    wrong, negative_wrong = growth(after=True)
    rising = sum(b > a for a, b in itertools.pairwise(wrong)) / (len(wrong) - 1)
    # A standard normal after a ReLU has mean 1/sqrt(2 pi) and deviation .584: the mean grows by the same in each block,
    # from the same at the start. The tolerance is four deviations of the two means over 8192 activations a block.
    step, spread = 1 / math.sqrt(2 * math.pi), 0.584 / math.sqrt(8192)
    linear = 41 / 11
    slack = 4 * linear * math.hypot(math.sqrt(10) / (11 * step), math.sqrt(40) / (41 * step)) * spread
    return Finding(
        (
            Quantity("share of additions below zero, added after the ReLU", negative_wrong, 0.0),
            # Batch norm gives F(x) mean 0: about half is below, whatever the skew.
            Quantity("share of additions below zero, added before the ReLU", negative_right, 0.5, 0.4),
            Quantity("share of blocks that raise the mean, added after", rising, 1.0),
            Quantity("mean after 40 blocks over that after 10, added after", wrong[39] / wrong[9], linear, slack),
            Quantity(
                "mean after 40 blocks over that after 10, before the ReLU against after",
                right[39] / right[9],
                wrong[39] / wrong[9],
                relation="<",
            ),
        ),
        "After the ReLU a block can only add: the activations grow in proportion to depth. Before it about half of the "
        "additions are negative, and growth is slower.",
        effect=wrong[-1] / right[-1],
    )


def stage() -> Finding:
    """Follow ResNet-18 and ResNet-50 through their stages."""
    quantities = []
    networks = {
        "resnet18": resnet.resnet(block="basic", layers=(2, 2, 2, 2)),
        "resnet50": resnet.resnet(block="bottleneck", layers=(3, 4, 6, 3)),
    }
    for name, network in networks.items():
        out = shapes(count(network))
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
    return Finding(
        tuple(quantities),
        "From the second stage on the first block halves the sides and doubles the channels, by its stride; the first "
        "stage follows a max pool and keeps the sides.",
    )


def bottleneck() -> Finding:
    """Count a bottleneck on 256 channels and a standard block on 64, pixel by pixel."""
    side = 8
    standard = count(resnet.BasicBlock(BASIC, BASIC), input=(BASIC, side, side))
    deep = count(resnet.Bottleneck(WIDE, WIDE), input=(WIDE, side, side))
    three, ones = 2 * 9 * BASIC * BASIC, 2 * WIDE * BASIC + 9 * BASIC * BASIC
    norms = 2 * 2 * BASIC, 2 * (2 * BASIC + WIDE)
    return Finding(
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
        ),
        "Three layers on four times the channels cost 94% of two layers.",
        effect=deep.macs / standard.macs,
    )


def seen(convolutions: list[nn.Conv2d], size: int = 15) -> tuple[int, int]:
    """Return height and width of the input pixels that one output pixel of a chain of convolutions depends on.

    All weights are 1, so that no contribution cancels another.
    """
    x = torch.zeros(1, convolutions[0].in_channels, size, size, dtype=torch.float64, requires_grad=True)
    out = x
    for convolution in convolutions:
        weight = torch.ones_like(convolution.weight, dtype=torch.float64)
        out = nn.functional.conv2d(out, weight, None, convolution.stride, convolution.padding)
    out[0, 0, size // 2, size // 2].backward()  # type: ignore[no-untyped-call] # torch leaves it without types
    assert x.grad is not None  # noqa: S101 - it was asked for
    touched = x.grad[0, 0] != 0
    return int(touched.any(1).sum()), int(touched.any(0).sum())


def convolutions_of(module: nn.Module) -> list[nn.Conv2d]:
    """Return a module's spatial convolutions, those larger than 1x1, in order."""
    return [part for part in module.modules() if isinstance(part, nn.Conv2d) and max(part.kernel_size) > 1]


def factorised() -> Finding:
    """Take the chains out of Inception-ResNet's blocks A and B and see how far they see, and what they weigh."""
    branches = (
        inception_resnet.InceptionResNetA().branches.branches,
        inception_resnet.InceptionResNetB().branches.branches,
    )
    threes = convolutions_of(branches[0][2])
    sevens = convolutions_of(branches[1][1])
    quantities = []
    for name, chain, side, share in (
        ("two 3x3 of block A", threes, 5, 18 / 25),
        ("1x7 and 7x1 of block B", sevens, 7, 14 / 49),
    ):
        height, width = seen(chain)
        weights = sum(convolution.kernel_size[0] * convolution.kernel_size[1] for convolution in chain)
        quantities += [
            Quantity(f"{name}: height that is seen", height, side, unit="pixels"),
            Quantity(f"{name}: width that is seen", width, side, unit="pixels"),
            Quantity(f"{name}: weights, share of the one {side}x{side}'s", weights / side**2, share),
        ]
    return Finding(
        tuple(quantities),
        "Two 3x3 see 5x5 with 72% of the weights, 1x7 and 7x1 see 7x7 with 29% (at equal channels).",
    )


def deep() -> Finding:
    """Train ResNet-56 and its plain twin on the digits, each at the better of two rates, with paired seeds."""
    from mlcv_bench.claims import trained  # noqa: PLC0415 - quick claims do not load the tasks

    seeds, epochs, rates = range(5), 3, (0.01, 0.1)
    losses = {}
    for model in ("plain56", "resnet56"):
        rate = trained.tuned_rate(model, "momentum", rates, trained.train_loss, epochs=epochs, seeds=1)
        ends = trained.last_epochs(model, "momentum", rate, epochs=epochs, seeds=seeds)
        losses[model] = [trained.train_loss(end) for end in ends]
    gap, interval = trained.paired(losses["plain56"], losses["resnet56"])
    return Finding(
        (
            Quantity(
                "training loss, plain less residual, 5 seeds", gap, 0.0, relation=">", interval=interval, unit="nats"
            ),
            Quantity(
                "share of seeds where the residual network is ahead",
                sum(a > b for a, b in zip(losses["plain56"], losses["resnet56"], strict=True)) / len(seeds),
                0.5,
                relation=">",
            ),
        ),
        "With 56 layers and the same budget the residual network has the lower training loss.",
        effect=gap,
    )
