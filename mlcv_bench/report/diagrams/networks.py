"""The notes' figures of chapter 2, drawn from the built modules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlcv_bench.architectures.googlenet import FILTERS, AuxiliaryClassifier, GoogLeNet, InceptionModule
from mlcv_bench.architectures.inception import InceptionResNetA, InceptionResNetB
from mlcv_bench.architectures.request import Request
from mlcv_bench.architectures.resnet import BasicBlock, Bottleneck
from mlcv_bench.architectures.resnext import ResNeXtBlock
from mlcv_bench.counting.network import Network
from mlcv_bench.counting.tracing import Building
from mlcv_bench.report.diagrams.graph import Diagram, diagram_of
from mlcv_bench.report.diagrams.paint import paint

if TYPE_CHECKING:
    from pathlib import Path

STEM_OUTPUT = (192, 28, 28)
BLOCK_INPUT = (256, 56, 56)
FORMS = {"branches": "32 branches, summed", "concat": "early concatenation", "grouped": "grouped convolution"}


def inception_module() -> tuple[list[Diagram], dict[str, Any]]:
    """Figure 2.1: the first inception module, on the output of the stem."""
    module = InceptionModule(STEM_OUTPUT[0], FILTERS["3a"])
    return [diagram_of(module, STEM_OUTPUT, title="Inception module 3a", depth=3)], {"columns": 1}


def googlenet() -> tuple[list[Diagram], dict[str, Any]]:
    """Figure 2.2: GoogLeNet with both auxiliary classifiers, as in training."""
    title = "GoogLeNet (Inception-v1), in training"
    heads = (AuxiliaryClassifier,)
    network = GoogLeNet(auxiliary=True)
    return [diagram_of(network, (3, 224, 224), title=title, depth=3, training=True, closed=heads)], {}


def resnet18() -> tuple[list[Diagram], dict[str, Any]]:
    """Figure 2.3: ResNet-18."""
    request = Request.of("resnet18")
    return [diagram_of(Network.of(request).on_meta(), request.input, title="ResNet-18", depth=3)], {}


def residual_blocks() -> tuple[list[Diagram], dict[str, Any]]:
    """Figure 2.4: the standard block on 64 channels and the bottleneck on 256, which costs about the same."""
    blocks = (BasicBlock(64, 64), (64, 56, 56), "standard block"), (Bottleneck(256, 256), BLOCK_INPUT, "bottleneck")
    diagrams = [diagram_of(block, shape, title=title, depth=2) for block, shape, title in blocks]
    return diagrams, {"title": "Standard residual block and bottleneck block"}


def resnext_forms() -> tuple[list[Diagram], dict[str, Any]]:
    """Section 2.3.1: one ResNeXt block of 32 branches in its three equivalent forms."""
    diagrams = []
    for form, title in FORMS.items():
        block = ResNeXtBlock(256, 256, groups=32, width=4, form=form)  # type: ignore[arg-type] # a literal each
        diagrams.append(diagram_of(block, BLOCK_INPUT, title=title, depth=3))
    return diagrams, {"title": "A ResNeXt block (G = 32, d = 4): three forms of one function"}


def inception_resnet_a() -> tuple[list[Diagram], dict[str, Any]]:
    """Section 2.2.2: block A of Inception-ResNet-v1."""
    return [diagram_of(InceptionResNetA(), (256, 35, 35), title="Inception-ResNet-A", depth=4)], {"columns": 1}


def inception_resnet_b() -> tuple[list[Diagram], dict[str, Any]]:
    """Section 2.2.2: block B of Inception-ResNet-v1."""
    return [diagram_of(InceptionResNetB(), (896, 17, 17), title="Inception-ResNet-B", depth=4)], {"columns": 1}


FIGURES = {
    "2.1": inception_module,
    "2.2": googlenet,
    "2.3": resnet18,
    "2.4": residual_blocks,
    "inception-resnet-a": inception_resnet_a,
    "inception-resnet-b": inception_resnet_b,
    "resnext": resnext_forms,
}
"""By their numbers: functions that return diagrams, and how they stand on the page."""


def draw(number: str, path: Path, **more: Any) -> None:  # noqa: ANN401 - what `paint` takes
    """Build and paint a figure."""
    with Building():
        diagrams, options = FIGURES[number]()
    paint(diagrams, path, **options | more)
