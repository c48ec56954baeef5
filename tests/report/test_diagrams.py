"""A network's picture: traced from the module, laid out without overlaps, the same in every form."""

from __future__ import annotations

import itertools
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mlcv_bench.architectures.catalog import ARCHITECTURES
from mlcv_bench.architectures.request import Request
from mlcv_bench.architectures.resnext import ResNeXtBlock
from mlcv_bench.counting.network import Network
from mlcv_bench.counting.tracing import Building
from mlcv_bench.errors import UsageError
from mlcv_bench.report.diagrams.dot import to_dot
from mlcv_bench.report.diagrams.graph import FEW, diagram_of
from mlcv_bench.report.diagrams.layout import Size, lay_out, ranks_of
from mlcv_bench.report.diagrams.paint import paint


def drawn(name, **options):
    depth = options.pop("depth", None)
    merge = options.pop("merge", True)
    request = Request.of(name, options=options)
    return diagram_of(Network.of(request).on_meta(), request.input, title=name, depth=depth, merge=merge)


@pytest.mark.parametrize("name", ["alexnet", "vgg11", "googlenet", "inception_v4", "resnet18", "resnet50", "plain20"])
def test_every_convolution_of_an_unfolded_trace_is_a_box(name):
    diagram = drawn(name, depth=9, merge=False)
    module = Network.of(name).on_meta()
    wanted = sum(isinstance(part, nn.Conv2d) for part in module.modules())
    assert sum(box.kind in {"convolution", "grouped"} for box in diagram.boxes.values()) == wanted
    assert sum(box.kind == "linear" for box in diagram.boxes.values()) == sum(
        isinstance(part, nn.Linear) for part in module.modules()
    )


def test_every_architecture_has_a_readable_default():
    for name in [*itertools.islice(ARCHITECTURES, 0, None, 9), "resnet152"]:
        diagram = drawn(name)
        assert 3 <= len(diagram.boxes) <= FEW, name
        outputs = [box for box in diagram.boxes.values() if box.title == "output"]
        assert [box.shape for box in outputs] == [(10,) if "x32x32" in name else outputs[0].shape]


def test_shapes_are_those_of_a_real_forward_pass():
    diagram = drawn("resnet18", depth=2)
    shapes = {box.name: box.shape for box in diagram.boxes.values()}
    assert shapes["layer1.0 to layer1.1"] == (64, 56, 56)
    assert shapes["layer4.1"] == (512, 7, 7)


def test_a_residual_block_has_a_skip_connection_and_its_plain_twin_none():
    for name, skips in (("resnet20", 9), ("plain20", 0)):
        diagram = drawn(name, depth=9)
        rank = ranks_of(list(diagram.boxes), diagram.arrows)
        assert sum(diagram.boxes[b].title == "+" for _, b in diagram.arrows) == 2 * skips
        assert any(rank[b] - rank[a] > 1 for a, b in diagram.arrows) == bool(skips)


def test_where_the_skip_is_added_shows():
    before = [box for box in drawn("resnet18", depth=3).boxes.values() if box.title == "+"]
    after = [box for box in drawn("resnet18", depth=3, skip_after_relu=True).boxes.values() if box.title == "+"]
    assert all(box.then == ("ReLU",) for box in before)
    assert all(box.then == () for box in after)


@pytest.mark.parametrize(("form", "text"), [("branches", "30 more"), ("concat", "30 more"), ("grouped", "32 groups")])
def test_the_three_forms_of_a_block(form, text):
    with Building():
        block = ResNeXtBlock(256, 256, groups=32, width=4, form=form)
    diagram = diagram_of(block, (256, 8, 8), title=form, depth=3)
    assert any(text in box.title for box in diagram.boxes.values())
    assert [box.title for box in diagram.boxes.values()].count("+") == (2 if form == "branches" else 1)


def test_auxiliary_classifiers_show_in_training_alone():
    for training, outputs in ((True, 3), (False, 1)):
        module = Network.of(Request.of("googlenet", options={"auxiliary": True})).on_meta()
        diagram = diagram_of(module, (3, 224, 224), title="g", depth=1, training=training)
        assert [box.title for box in diagram.boxes.values()].count("output") == outputs


def boxes_of(module, shape, **options):
    diagram = diagram_of(module.to("meta"), shape, title="small", **options)
    return [(box.title, *box.then) for box in diagram.boxes.values() if box.kind != "input"]


@pytest.mark.parametrize(
    ("layer", "shape", "title"),
    [
        (nn.Conv3d(1, 4, 3, (1, 2, 2)), (1, 8, 8, 8), "3×3×3 conv /1×2×2, 4"),
        (nn.Conv2d(1, 4, (1, 7), 2), (1, 8, 8), "1×7 conv /2, 4"),
        (nn.Conv2d(2, 4, 3, groups=2), (2, 8, 8), "3×3 conv, 4, 2 groups"),
        (nn.Conv1d(1, 4, 5, 3), (1, 8), "5 conv /3, 4"),
        (nn.MaxPool2d((1, 3), 1), (1, 8, 8), "1×3 max pool"),
        (nn.MaxPool2d(3, 2), (1, 8, 8), "3×3 max pool /2"),
        (nn.AvgPool2d((3, 1), (2, 1)), (1, 8, 8), "3×1 average pool /2×1"),
        (nn.MaxPool3d((1, 3, 3), (1, 2, 2)), (1, 8, 8, 8), "1×3×3 max pool /1×2×2"),
        (nn.AvgPool1d(2), (1, 8), "2 average pool /2"),
        (nn.AdaptiveAvgPool1d(1), (1, 8), "global average pool"),
        (nn.AdaptiveMaxPool2d((1, 1)), (1, 8, 8), "global max pool"),
        (nn.AdaptiveAvgPool2d(2), (1, 8, 8), "average pool to 2"),
    ],
)
def test_a_window_is_drawn_with_every_axis(layer, shape, title):
    assert boxes_of(nn.Sequential(layer), shape) == [(title,)]


class Residual(nn.Module):
    """A convolution and a ReLU beside a shortcut: no unit, though its children look like one."""

    def __init__(self):
        super().__init__()
        self.conv, self.relu = nn.Conv2d(3, 3, 3, padding=1), nn.ReLU()

    def forward(self, x):
        return x + self.relu(self.conv(x))


class Backwards(Residual):
    """Runs its children in another order than it holds them."""

    def forward(self, x):
        return self.conv(self.relu(x))


CONV = ("3×3 conv, 3",)
SHARED = nn.Conv2d(3, 3, 3, padding=1)


@pytest.mark.parametrize(
    ("module", "boxes"),
    [
        (nn.Sequential(nn.Sequential(SHARED, SHARED)), [CONV, CONV]),
        (nn.Sequential(nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.ReLU())), [("3×3 conv, 3", "ReLU")]),
        (nn.Sequential(Residual()), [("3×3 conv, 3", "ReLU"), ("+",)]),
        (nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), Backwards()), [("3×3 conv, 3", "ReLU"), CONV]),
        (nn.Sequential(nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 3, 3, padding=1))), [("batch norm",), CONV]),
    ],
)
def test_what_runs_is_drawn_not_what_a_module_holds(module, boxes):
    assert boxes_of(module, (3, 8, 8), depth=3) == boxes


def test_a_block_that_runs_twice_says_so_under_its_one_name():
    block = Residual()
    diagram = diagram_of(nn.Sequential(block, block).to("meta"), (3, 8, 8), title="twice", depth=1)
    assert [(box.name, box.times) for box in diagram.boxes.values() if box.kind == "block"] == [("0", 2)]


class Branching(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


def test_what_cannot_be_followed_is_said():
    with pytest.raises(UsageError, match="cannot follow"):
        diagram_of(Branching(), (3, 4, 4), title="branching", depth=1)


graphs = st.lists(st.lists(st.integers(0, 30), min_size=1, max_size=3), min_size=1, max_size=30)


@settings(deadline=None, max_examples=40)
@given(graphs, st.one_of(st.none(), st.integers(1, 4)))
def test_boxes_never_overlap_and_arrows_lead_down(parents, columns):
    arrows = sorted({(p % (i + 1), i + 1) for i, found in enumerate(parents) for p in found})
    sizes = {n: Size(40.0 + 7 * (n % 3), 20.0 + 5 * (n % 2)) for n in range(len(parents) + 1)}
    layout = lay_out(sizes, arrows, {}, columns=columns)
    assert set(layout.centres) == set(sizes)
    for a, b in itertools.combinations(sizes, 2):
        (ax, ay), (bx, by) = layout.centres[a], layout.centres[b]
        apart_x = abs(ax - bx) - (sizes[a].width + sizes[b].width) / 2
        apart_y = abs(ay - by) - (sizes[a].height + sizes[b].height) / 2
        assert max(apart_x, apart_y) > 1
    for n, (x, y) in layout.centres.items():
        assert x - sizes[n].width / 2 >= -1e-6
        assert x + sizes[n].width / 2 <= layout.width + 1e-6
        assert y + sizes[n].height / 2 <= layout.height + 1e-6
    for a, b in arrows:
        if layout.column_of[a] == layout.column_of[b]:
            assert layout.centres[a][1] < layout.centres[b][1]
        else:
            assert layout.column_of[a] < layout.column_of[b]


def test_dot_has_every_box_and_arrow():
    diagram = drawn("resnet18")
    text = to_dot(diagram)
    assert len(re.findall(r"^ *n\d+ \[", text, re.MULTILINE)) == len(diagram.boxes)
    assert text.count(" -> ") == len(diagram.arrows)
    assert text.count("{") == text.count("}")


def test_svg_is_the_same_every_time(tmp_path):
    diagram = drawn("alexnet")
    paint([diagram], tmp_path / "a.svg")
    paint([diagram], tmp_path / "b.svg")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert (tmp_path / "a.svg").read_text().startswith("<?xml")


def test_tracing_leaves_torch_as_it_was():
    drawn("alexnet")
    assert torch.get_default_device().type == "cpu"
    assert torch.is_grad_enabled()
