"""State-dict keys and shapes against torchvision's layouts, written out here from its own naming, not from our code."""

from __future__ import annotations

import pytest
import torch

from mlcv_bench.architectures.build import build

Shapes = dict[str, tuple[int, ...]]


def norm(name: str, channels: int) -> Shapes:
    vectors = {f"{name}.{key}": (channels,) for key in ("weight", "bias", "running_mean", "running_var")}
    return {**vectors, f"{name}.num_batches_tracked": ()}


def linear(name: str, inputs: int, outputs: int) -> Shapes:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def resnet(kind: str, layers: list[int], groups: int = 1, width_per_group: int = 64) -> Shapes:
    expansion = 1 if kind == "basic" else 4
    shapes: Shapes = {"conv1.weight": (64, 3, 7, 7), **norm("bn1", 64)}
    inputs = 64
    for number, (planes, blocks) in enumerate(zip((64, 128, 256, 512), layers, strict=True), start=1):
        for index in range(blocks):
            block = f"layer{number}.{index}"
            outputs = planes * expansion
            if kind == "basic":
                convolutions = [(planes, inputs, 3), (planes, planes, 3)]
            else:
                width = int(planes * (width_per_group / 64.0)) * groups
                convolutions = [(width, inputs, 1), (width, width // groups, 3), (outputs, width, 1)]
            for step, (channels, fan, kernel) in enumerate(convolutions, start=1):
                shapes[f"{block}.conv{step}.weight"] = (channels, fan, kernel, kernel)
                shapes |= norm(f"{block}.bn{step}", channels)
            if index == 0 and (number > 1 or inputs != outputs):
                shapes[f"{block}.downsample.0.weight"] = (outputs, inputs, 1, 1)
                shapes |= norm(f"{block}.downsample.1", outputs)
            inputs = outputs
    return shapes | linear("fc", inputs, 1000)


def vgg(letters: str, *, batch_norm: bool) -> Shapes:
    shapes: Shapes = {}
    index, inputs = 0, 3
    for token in letters.split():
        if token == "M":  # noqa: S105 - torchvision's letter for a max pool
            index += 1
            continue
        outputs = int(token)
        shapes[f"features.{index}.weight"] = (outputs, inputs, 3, 3)
        shapes[f"features.{index}.bias"] = (outputs,)
        if batch_norm:
            shapes |= norm(f"features.{index + 1}", outputs)
        index += 3 if batch_norm else 2
        inputs = outputs
    shapes |= linear("classifier.0", 25088, 4096) | linear("classifier.3", 4096, 4096)
    return shapes | linear("classifier.6", 4096, 1000)


LETTERS = {
    11: "64 M 128 M 256 256 M 512 512 M 512 512 M",
    13: "64 64 M 128 128 M 256 256 M 512 512 M 512 512 M",
    16: "64 64 M 128 128 M 256 256 256 M 512 512 512 M 512 512 512 M",
    19: "64 64 M 128 128 M 256 256 256 256 M 512 512 512 512 M 512 512 512 512 M",
}


def alexnet() -> Shapes:
    shapes: Shapes = {}
    convolutions = [(0, 64, 3, 11), (3, 192, 64, 5), (6, 384, 192, 3), (8, 256, 384, 3), (10, 256, 256, 3)]
    for index, outputs, inputs, kernel in convolutions:
        shapes[f"features.{index}.weight"] = (outputs, inputs, kernel, kernel)
        shapes[f"features.{index}.bias"] = (outputs,)
    shapes |= linear("classifier.1", 9216, 4096) | linear("classifier.4", 4096, 4096)
    return shapes | linear("classifier.6", 4096, 1000)


def googlenet(*, auxiliary: bool) -> Shapes:
    shapes: Shapes = {}

    def basic(name: str, inputs: int, outputs: int, kernel: int) -> None:
        shapes[f"{name}.conv.weight"] = (outputs, inputs, kernel, kernel)
        shapes.update(norm(f"{name}.bn", outputs))

    basic("conv1", 3, 64, 7)
    basic("conv2", 64, 64, 1)
    basic("conv3", 64, 192, 3)
    # Name, input channels, and the arguments of torchvision's Inception block.
    modules = """
        3a 192 64 96 128 16 32 32
        3b 256 128 128 192 32 96 64
        4a 480 192 96 208 16 48 64
        4b 512 160 112 224 24 64 64
        4c 512 128 128 256 24 64 64
        4d 512 112 144 288 32 64 64
        4e 528 256 160 320 32 128 128
        5a 832 256 160 320 32 128 128
        5b 832 384 192 384 48 128 128
    """
    for line in modules.split("\n"):
        if line.strip():
            name, *numbers = line.split()
            inputs, one, reduce3, three, reduce5, five, pool = map(int, numbers)
            basic(f"inception{name}.branch1", inputs, one, 1)
            basic(f"inception{name}.branch2.0", inputs, reduce3, 1)
            basic(f"inception{name}.branch2.1", reduce3, three, 3)
            basic(f"inception{name}.branch3.0", inputs, reduce5, 1)
            basic(f"inception{name}.branch3.1", reduce5, five, 3)
            basic(f"inception{name}.branch4.1", inputs, pool, 1)
    if auxiliary:
        for name, inputs in (("aux1", 512), ("aux2", 528)):
            basic(f"{name}.conv", inputs, 128, 1)
            shapes.update(linear(f"{name}.fc1", 2048, 1024))
            shapes.update(linear(f"{name}.fc2", 1024, 1000))
    return shapes | linear("fc", 1024, 1000)


def convnext(blocks: tuple[int, ...], widths: tuple[int, ...]) -> Shapes:
    def affine(name: str, channels: int) -> Shapes:
        return {f"{name}.weight": (channels,), f"{name}.bias": (channels,)}

    def convolution(name: str, outputs: int, fan: int, kernel: int) -> Shapes:
        return {f"{name}.weight": (outputs, fan, kernel, kernel), f"{name}.bias": (outputs,)}

    shapes = convolution("features.0.0", widths[0], 3, 4) | affine("features.0.1", widths[0])
    for number, (count, width) in enumerate(zip(blocks, widths, strict=True)):
        if number:
            shapes |= affine(f"features.{2 * number}.0", widths[number - 1])
            shapes |= convolution(f"features.{2 * number}.1", width, widths[number - 1], 2)
        for index in range(count):
            block = f"features.{2 * number + 1}.{index}"
            shapes[f"{block}.layer_scale"] = (width, 1, 1)
            shapes |= convolution(f"{block}.block.0", width, 1, 7) | affine(f"{block}.block.2", width)
            shapes |= linear(f"{block}.block.3", width, 4 * width) | linear(f"{block}.block.5", 4 * width, width)
    return shapes | affine("classifier.0", widths[-1]) | linear("classifier.2", widths[-1], 1000)


EXPECTED = {
    "alexnet": alexnet(),
    "convnext_tiny": convnext((3, 3, 9, 3), (96, 192, 384, 768)),
    "googlenet_torchvision": googlenet(auxiliary=False),
    "resnet18": resnet("basic", [2, 2, 2, 2]),
    "resnet34": resnet("basic", [3, 4, 6, 3]),
    "resnet50_v1_5": resnet("bottleneck", [3, 4, 6, 3]),
    "resnet101_v1_5": resnet("bottleneck", [3, 4, 23, 3]),
    "resnet152_v1_5": resnet("bottleneck", [3, 8, 36, 3]),
    "resnet50": resnet("bottleneck", [3, 4, 6, 3]),
    "wide_resnet50_2": resnet("bottleneck", [3, 4, 6, 3], width_per_group=128),
    "resnext50_32x4d": resnet("bottleneck", [3, 4, 6, 3], 32, 4),
    "resnext101_32x8d": resnet("bottleneck", [3, 4, 23, 3], 32, 8),
    "resnext101_64x4d": resnet("bottleneck", [3, 4, 23, 3], 64, 4),
    **{f"vgg{depth}": vgg(letters, batch_norm=False) for depth, letters in LETTERS.items()},
    **{f"vgg{depth}_bn": vgg(letters, batch_norm=True) for depth, letters in LETTERS.items()},
}


def shapes_of(name: str, **options: object) -> Shapes:
    with torch.device("meta"):
        state = build(name, **options).state_dict()
    return {key: tuple(tensor.shape) for key, tensor in state.items()}


@pytest.mark.parametrize("name", list(EXPECTED))
def test_keys_and_shapes_are_torchvisions(name):
    # In order too: an optimizer's saved state goes by the order of the parameters.
    assert list(shapes_of(name).items()) == list(EXPECTED[name].items())


def test_auxiliary_heads_have_torchvisions_keys_too():
    found = shapes_of("googlenet_torchvision", auxiliary=True)
    expected = googlenet(auxiliary=True)
    assert list(found.items()) == list(expected.items())


def test_whatever_names_a_torchvision_twin_is_checked_here():
    from mlcv_bench.architectures.catalog import ARCHITECTURES

    assert {name for name, row in ARCHITECTURES.items() if row.torchvision} <= set(EXPECTED)
