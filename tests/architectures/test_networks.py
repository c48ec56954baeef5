"""What the networks compute: stages, modes, options, blocks, against figures of the papers and plain formulas."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from mlcv_bench import architectures
from mlcv_bench.architectures import catalog
from mlcv_bench.architectures.build import build


@pytest.fixture(autouse=True)
def _one_seed():
    torch.manual_seed(0)


def stages(name: str, watched: list[str], **options: object) -> dict[str, tuple[int, ...]]:
    """Return the shape, without the batch, that each watched module puts out."""
    with torch.device("meta"), torch.no_grad():
        network = build(name, **options).eval()
        shapes: dict[str, tuple[int, ...]] = {}
        for path in watched:
            network.get_submodule(path).register_forward_hook(
                lambda _, __, out, path=path: shapes.__setitem__(path, tuple(out.shape[1:]))
            )
        network(torch.empty(1, *catalog.find(name).input))
    return shapes


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnet18", {"conv1": (64, 112), "maxpool": (64, 56), "layer1": (64, 56), "layer4": (512, 7)}),
        ("resnet50", {"layer1": (256, 56), "layer2": (512, 28), "layer3": (1024, 14), "layer4": (2048, 7)}),
        ("resnext50_32x4d", {"layer1": (256, 56), "layer1.0.conv2": (128, 56), "layer4.0.conv2": (1024, 7)}),
        ("resnet20", {"conv1": (16, 32), "layer1": (16, 32), "layer2": (32, 16), "layer3": (64, 8)}),
        ("resnext29_8x64d", {"layer1": (256, 32), "layer2": (512, 16), "layer3": (1024, 8)}),
        ("resnext11_4x6d", {"conv1": (16, 32), "layer1": (64, 32), "layer1.0.conv2": (24, 32), "layer3": (256, 8)}),
        (
            "zfnet",
            {"features.0": (96, 110), "features.2": (96, 55), "features.4": (256, 26), "features.6": (256, 13)},
        ),
        ("alexnet", {"features.0": (64, 55), "features.2": (64, 27), "features": (256, 6)}),
        ("vgg16", {"features.4": (64, 112), "features": (512, 7)}),
        (
            "googlenet",
            # Notes 2.1: the stem takes 224 to 28 in 5 layers.
            {"conv1": (64, 112), "maxpool1": (64, 56), "conv2": (64, 56), "conv3": (192, 56), "maxpool2": (192, 28)},
        ),
        (
            "googlenet",
            # Szegedy et al. 2015, table 1, column "output size".
            {
                "inception3a": (256, 28),
                "inception3b": (480, 28),
                "inception4a": (512, 14),
                "inception4d": (528, 14),
                "inception4e": (832, 14),
                "inception5a": (832, 7),
                "inception5b": (1024, 7),
            },
        ),
        (
            "inception_v4",
            {
                "stem": (384, 35),
                "inception_a": (384, 35),
                "reduction_a": (1024, 17),
                "inception_b": (1024, 17),
                "reduction_b": (1536, 8),
                "inception_c": (1536, 8),
            },
        ),
        (
            "inception_resnet_v1",
            {
                "features.stem": (256, 35),
                "features.a": (256, 35),
                "features.reduction_a": (896, 17),
                "features.reduction_b": (1792, 8),
            },
        ),
        (
            "inception_resnet_v2",
            {
                "features.stem": (320, 35),
                "features.reduction_a": (1088, 17),
                "features.reduction_b": (2080, 8),
                "features.last": (1536, 8),
            },
        ),
        (
            "inception_resnet_v2_paper",
            {"features.stem": (384, 35), "features.reduction_a": (1152, 17), "features.reduction_b": (2144, 8)},
        ),
    ],
)
def test_stages_have_the_papers_shapes(name, expected):
    assert stages(name, list(expected)) == {key: (channels, side, side) for key, (channels, side) in expected.items()}


SMALL = [
    "resnet18",
    "resnet50",
    "resnet50_v1_5",
    "resnet8",
    "plain8",
    "resnet20",
    "resnext26_2x8d",
    "resnext29_2x8d",
    "googlenet_torchvision",
    "googlenet",
    "convnext_tiny",
]


@pytest.mark.parametrize("name", SMALL)
def test_networks_train_and_infer(name):
    network = build(name, num_classes=5)
    side = max(32, catalog.find(name).smallest)
    image = torch.randn(4, 3, side, side)
    labels = torch.tensor([0, 1, 2, 4])
    loss = functional.cross_entropy(network.train()(image), labels)
    loss.backward()
    assert math.isfinite(loss.item())
    gradients = [parameter.grad for parameter in network.parameters()]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)
    with torch.no_grad():
        out = network.eval()(image)
        assert out.isfinite().all()
        # In inference the images of a batch know nothing of each other.
        torch.testing.assert_close(network(image[1:2]), out[1:2], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["inception_v4", "inception_resnet_v1", "inception_resnet_v2", "vgg11_bn", "zfnet"])
def test_untrained_networks_of_other_families_put_out_finite_numbers(name):
    side = catalog.find(name).smallest + 16
    with torch.no_grad():
        out = build(name, num_classes=3).eval()(torch.randn(1, 3, side, side))
    assert out.isfinite().all()
    assert out.abs().max() < 1e3


@pytest.mark.parametrize("name", ["resnet18", "resnet20", "googlenet", "inception_resnet_v1", "vgg11_bn"])
def test_networks_can_be_traced(name):
    traced = torch.fx.symbolic_trace(build(name).eval())
    side = catalog.find(name).smallest
    image = torch.randn(1, 3, side, side)
    with torch.no_grad():
        assert traced(image).shape == (1, catalog.options(name)["num_classes"].default)


def test_every_form_can_be_traced():
    for form in ("grouped", "concat", "branches"):
        torch.fx.symbolic_trace(build("resnext29_4x2d", form=form))


@pytest.mark.parametrize("name", ["googlenet", "googlenet_torchvision"])
def test_auxiliary_heads_run_in_training_alone(name):
    network = build(name, auxiliary=True, num_classes=6)
    image = torch.randn(2, 3, 224, 224)
    ran: list[str] = []
    network.aux1.register_forward_hook(lambda *_: ran.append("aux1"))
    network.aux2.register_forward_hook(lambda *_: ran.append("aux2"))
    with torch.no_grad():
        outputs = network.train()(image)
        assert isinstance(outputs, architectures.GoogLeNetOutputs)
        assert [tuple(part.shape) for part in outputs] == [(2, 6)] * 3
        assert ran == ["aux1", "aux2"]
        logits = network.eval()(image)
        assert isinstance(logits, Tensor)
        assert ran == ["aux1", "aux2"]
        without = build(name, num_classes=6).eval()
        state = {key: value for key, value in network.state_dict().items() if not key.startswith("aux")}
        without.load_state_dict(state)
        assert torch.equal(without(image), logits)


def shuffle_norms(network: nn.Module) -> None:
    """Give every batch norm weights and statistics that are not its neutral ones."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.2, 0.6)
            nn.init.uniform_(module.bias, -0.2, 0.2)
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 2.0)


def transplant(grouped: nn.Module, other: nn.Module, groups: int) -> None:
    """Copy a grouped block's weights into another form, by the notes' equivalences."""
    state = {}
    for key, tensor in grouped.state_dict().items():
        layer, _, kind = key.partition(".")
        split = layer in {"conv1", "bn1", "conv2", "bn2"} or (layer == "conv3" and other.form == "branches")
        if not split:
            state[key] = tensor
            continue
        for branch in range(groups):
            dim = 1 if layer == "conv3" else 0
            part = tensor if tensor.dim() == 0 else tensor.chunk(groups, dim=dim)[branch]
            state[f"branches.{branch}.{layer}.{kind}"] = part
    other.load_state_dict(state)


@pytest.mark.parametrize("form", ["concat", "branches"])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("training", [True, False])
def test_the_forms_of_a_block_are_one_function(form, stride, training):
    settings = {"groups": 4, "width": 3}
    grouped = architectures.ResNeXtBlock(16, 24, stride, **settings).double()
    shuffle_norms(grouped)
    other = architectures.ResNeXtBlock(16, 24, stride, form=form, **settings).double()
    transplant(grouped, other, 4)
    x = torch.randn(2, 16, 9, 9, dtype=torch.float64)
    with torch.no_grad():
        expected = grouped.train(training)(x)
        torch.testing.assert_close(other.train(training)(x), expected, rtol=1e-12, atol=1e-12)


def test_a_block_without_batch_norm_has_only_convolutions():
    block = architectures.ResNeXtBlock(8, 8, groups=2, width=3, batch_norm=False, form="branches")
    assert {key.split(".")[-2] for key in block.state_dict()} == {"conv1", "conv2", "conv3"}
    assert torch.equal(block.last_norm()(torch.ones(1)), torch.ones(1))


@pytest.mark.parametrize("form", ["grouped", "concat", "branches"])
def test_the_forms_start_with_the_same_spread_of_weights(form):
    block = build("resnext29_8x64d", form=form).layer1[1]
    branch = block if form == "grouped" else block.branches[0]
    last = branch.conv3 if form == "branches" else block.conv3
    spreads = [branch.conv1.weight.std(), branch.conv2.weight.std(), last.weight.std()]
    expected = [math.sqrt(2 / 512), math.sqrt(2 / (512 * 9)), math.sqrt(2 / 256)]
    assert [spread.item() for spread in spreads] == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize(("groups", "bias", "stride"), [(1, True, 1), (2, False, 2), (4, True, 2), (8, True, 1)])
def test_a_convolution_on_chunks_is_a_grouped_convolution(groups, bias, stride):
    # Whole numbers, none of them 0: sums are exact in float32, and chunks in another order give another output.
    chunked = architectures.ChunkedConv2d(8, 16, 3, stride=stride, padding=1, groups=groups, bias=bias)
    grouped = nn.Conv2d(8, 16, 3, stride, 1, groups=groups, bias=bias)
    x = torch.randint(-4, 5, (2, 8, 7, 7)).float()
    with torch.no_grad():
        for name, values in grouped.named_parameters():
            values.copy_(torch.randint(1, 9, values.shape) * (1 - 2 * torch.randint(0, 2, values.shape)))
            for chunk, part in zip(chunked.chunks, values.chunk(groups), strict=True):
                chunk.get_parameter(name).copy_(part)
        assert torch.equal(chunked(x), grouped(x))
        chunked.chunks = nn.ModuleList(reversed(chunked.chunks))
        assert torch.equal(chunked(x), grouped(x)) == (groups == 1)


def test_groups_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="3 groups must divide 8 input channels"):
        architectures.ChunkedConv2d(8, 9, 3, groups=3)


def test_the_padded_shortcut_subsamples_and_fills_with_zeros():
    x = torch.randn(2, 4, 5, 5)
    out = architectures.PaddedShortcut(4, 2)(x)
    assert torch.equal(out[:, :4], x[:, :, ::2, ::2])
    assert torch.equal(out[:, 4:], torch.zeros(2, 4, 3, 3))


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnext50_32x4d", "resnet20", "resnext29_2x8d"])
def test_zero_init_makes_every_residual_zero(name):
    network = build(name, zero_init_residual=True).train()
    blocks = [module for module in network.modules() if hasattr(module, "residual")]
    assert blocks
    for block in blocks:
        x = torch.randn(2, block.conv1.in_channels, 4, 4)
        assert not block.residual(x).any()
    plain = build(name).train()
    assert all(
        module.residual(torch.randn(2, module.conv1.in_channels, 4, 4)).any()
        for module in plain.modules()
        if hasattr(module, "residual")
    )


def test_where_the_skip_connection_is_added():
    x = torch.randn(2, 4, 5, 5)
    before = architectures.BasicBlock(4, 4).eval()
    after = architectures.BasicBlock(4, 4, skip_after_relu=True).eval()
    without = architectures.BasicBlock(4, 4, skip=False).eval()
    for block in (after, without):
        block.load_state_dict(before.state_dict())
    with torch.no_grad():
        residual = before.residual(x)
        assert torch.equal(before(x), (residual + x).relu())
        assert torch.equal(after(x), residual.relu() + x)
        assert (after(x) - x).min() > -1e-6
        assert torch.equal(without(x), residual.relu())


@pytest.mark.parametrize("name", ["resnet50", "resnext50_32x4d", "resnet20"])
def test_without_skips_nothing_is_left_of_the_shortcuts(name):
    with torch.device("meta"):
        plain = build(name, skip=False)
    assert not [key for key in plain.state_dict() if "downsample" in key]


def test_a_plain_network_is_the_residual_one_without_its_skips():
    with torch.device("meta"):
        plain, residual = build("plain56"), build("resnet56")
    assert list(plain.state_dict()) == list(residual.state_dict())
    assert not any(module.skip for module in plain.modules() if hasattr(module, "skip"))


def test_the_projection_shortcut_is_there_for_small_images_too():
    with torch.device("meta"):
        network = build("resnet20", shortcut="projection")
    assert [key for key in network.state_dict() if key.endswith("downsample.0.weight")] == [
        "layer2.0.downsample.0.weight",
        "layer3.0.downsample.0.weight",
    ]


def test_inception_residuals_are_scaled():
    block = architectures.InceptionResNetA(16, scale=0.0).eval()
    x = torch.randn(2, 16, 5, 5)
    with torch.no_grad():
        assert torch.equal(block(x), x.relu())
        block.scale = 0.5
        assert torch.equal(block(x), (x + 0.5 * block.project(block.branches(x))).relu())
    assert "scale=0.5" in repr(block)


def test_scales_reach_the_blocks():
    with torch.device("meta"):
        network = build("inception_resnet_v2", scale_a=0.11, scale_b=0.22, scale_c=0.33)
    scales = {
        part: [module.scale for module in network.features.get_submodule(part).children()] for part in ("a", "b", "c")
    }
    assert scales == {"a": [0.11] * 10, "b": [0.22] * 20, "c": [0.33] * 9 + [1.0]}


@pytest.mark.parametrize(
    ("block", "channels", "expected"),
    [
        ("InceptionResNetA", 256, (256, 17)),
        ("InceptionResNetB", 896, (896, 17)),
        ("InceptionResNetC", 1792, (1792, 17)),
        ("InceptionA", 384, (384, 17)),
        ("InceptionB", 1024, (1024, 17)),
        ("InceptionC", 1536, (1536, 17)),
        ("ReductionA", 384, (1024, 8)),
        ("ReductionB", 1024, (1536, 8)),
        ("InceptionResNetReduction", 896, (1792, 8)),
    ],
)
def test_inception_blocks_stand_alone(block, channels, expected):
    with torch.device("meta"), torch.no_grad():
        out = getattr(architectures, block)()(torch.empty(2, channels, 17, 17))
    assert out.shape == (2, expected[0], expected[1], expected[1])


def test_an_inception_module_concatenates_four_branches():
    filters = architectures.Filters(one=2, three_reduce=3, three=4, five_reduce=5, five=6, pool=7)
    module = architectures.InceptionModule(8, filters).eval()
    x = torch.randn(1, 8, 6, 6)
    with torch.no_grad():
        out = module(x)
        assert out.shape == (1, 19, 6, 6)
        five = module.branch3[1].conv
        assert five.kernel_size == (5, 5)
        reduced = functional.conv2d(x, module.branch3[0].conv.weight, module.branch3[0].conv.bias).relu()
        expected = functional.conv2d(reduced, five.weight, five.bias, padding=2).relu()
        torch.testing.assert_close(out[:, 6:12], expected)
