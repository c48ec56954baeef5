"""The notes' figures of chapter 2, drawn from the built modules."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlcv_bench.report.diagrams.graph import diagram_of
from mlcv_bench.report.diagrams.paint import paint

if TYPE_CHECKING:
    from pathlib import Path

    from mlcv_bench.report.diagrams.graph import Diagram

STEM_OUTPUT = (192, 28, 28)
BLOCK_INPUT = (256, 56, 56)


def inception_module(path: Path) -> None:
    """Figure 2.1: the first inception module, on the output of the stem."""
    from mlcv_bench.architectures.googlenet import FILTERS, InceptionModule  # noqa: PLC0415 - loads when drawn
    from mlcv_bench.counting.native import building  # noqa: PLC0415 - as above

    with building():
        module = InceptionModule(STEM_OUTPUT[0], FILTERS["3a"])
    paint([diagram_of(module, STEM_OUTPUT, title="Inception module 3a", depth=3)], path, columns=1)


def googlenet(path: Path) -> None:
    """Figure 2.2: GoogLeNet with both auxiliary classifiers, as in training."""
    from mlcv_bench.architectures.googlenet import AuxiliaryClassifier, GoogLeNet  # noqa: PLC0415 - loads when drawn
    from mlcv_bench.counting.native import building  # noqa: PLC0415 - as above

    with building():
        network = GoogLeNet(auxiliary=True)
    title = "GoogLeNet (Inception-v1), in training"
    heads = (AuxiliaryClassifier,)
    paint([diagram_of(network, (3, 224, 224), title=title, depth=3, training=True, closed=heads)], path)


def resnet18(path: Path) -> None:
    """Figure 2.3: ResNet-18."""
    from mlcv_bench.architectures.request import Request  # noqa: PLC0415 - loads when drawn
    from mlcv_bench.counting.network import Network  # noqa: PLC0415 - as above

    request = Request.of("resnet18")
    paint([diagram_of(Network.of(request).on_meta(), request.input, title="ResNet-18", depth=3)], path)


def residual_blocks(path: Path) -> None:
    """Figure 2.4: the standard block on 64 channels beside the bottleneck on 256, which costs about the same."""
    from mlcv_bench.architectures.resnet import BasicBlock, Bottleneck  # noqa: PLC0415 - loads when drawn
    from mlcv_bench.counting.native import building  # noqa: PLC0415 - as above

    with building():
        blocks = (BasicBlock(64, 64), (64, 56, 56), "standard block"), (Bottleneck(256, 256), BLOCK_INPUT, "bottleneck")
    diagrams = [diagram_of(block, shape, title=title, depth=2, merge=True) for block, shape, title in blocks]
    paint(diagrams, path, title="Standard residual block and bottleneck block")


def resnext_forms(path: Path) -> None:
    """Section 2.3.1: one ResNeXt block of 32 branches in its three equivalent forms."""
    from mlcv_bench.architectures.resnext import ResNeXtBlock  # noqa: PLC0415 - loads when drawn
    from mlcv_bench.counting.native import building  # noqa: PLC0415 - as above

    titles = {
        "branches": "32 branches, summed",
        "concat": "early concatenation",
        "grouped": "grouped convolution",
    }
    diagrams: list[Diagram] = []
    for form, title in titles.items():
        with building():
            block = ResNeXtBlock(256, 256, groups=32, width=4, form=form)  # type: ignore[arg-type] # a literal each
        diagrams.append(diagram_of(block, BLOCK_INPUT, title=title, depth=3))
    paint(diagrams, path, title="A ResNeXt block (G = 32, d = 4): three forms of one function")
