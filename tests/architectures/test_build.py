"""Networks from specifications, and everything that can be wrong with one: a sentence, never a traceback."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import types

import pytest
import torch
from torch import nn

from mlcv_bench.architectures import catalog
from mlcv_bench.architectures.build import build, options_of, parse_set
from mlcv_bench.errors import UsageError

SOURCE = """
from torch import nn
from typing import Literal

def small(width: int = 4, *, kind: Literal["a", "b"] = "a", rate=0.5, bias=True):
    return nn.Conv2d(3, width, 3, bias=bias)

def anything(**kwargs):
    network = nn.Conv2d(3, 4, 3)
    network.given = kwargs
    return network

class Net(nn.Module):
    def __init__(self, width: int = 8):
        super().__init__()
        self.fc = nn.Linear(2, width)

    def forward(self, x):
        return self.fc(x)

built = Net(3)

def wrong():
    raise ValueError("no such luck\\nsecond line")

def needs(width):
    return nn.Linear(1, width)

def no_network():
    return [1, 2]

text = "hello"
"""


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "networks.py"
    path.write_text(SOURCE, encoding="utf-8")
    return str(path)


def test_function_class_and_network(source):
    assert build(f"{source}:small").out_channels == 4
    assert build(f"{source}:small", width=6, bias=False).out_channels == 6
    assert build(f"{source}:Net", width=5).fc.out_features == 5
    assert build(f"{source}:built").fc.out_features == 3
    assert isinstance(build("torch.nn:Identity"), nn.Identity)


def test_a_package_names_its_module_by_dots():
    assert isinstance(build("torch.nn:Linear", in_features=2, out_features=3), nn.Linear)


def test_settings_are_typed_by_the_factory(source):
    typed = parse_set(f"{source}:small", {"width": "9", "kind": "b", "rate": "0.25", "bias": "false"})
    assert typed == {"width": 9, "kind": "b", "rate": 0.25, "bias": False}
    assert list(options_of(f"{source}:Net")) == ["width"]
    assert options_of(f"{source}:built") == {}
    free = parse_set(f"{source}:anything", {"a": "1", "b": "true", "c": "word", "d": "(1, 2)"})
    assert free == {"a": 1, "b": True, "c": "word", "d": (1, 2)}
    assert build(f"{source}:anything", **free).given == free
    assert parse_set("resnet18", {"num_classes": "3"}) == {"num_classes": 3}


@pytest.mark.parametrize(
    ("attribute", "options", "words"),
    [
        ("wrong", {}, "raised ValueError when called: no such luck$"),
        ("no_network", {}, r"returned a list; it must return a torch\.nn\.Module"),
        ("text", {}, "is a str; name a function that returns"),
        ("smal", {}, "has no attribute 'smal'; did you mean small"),
        ("small", {"depth": 3}, "has no option depth; it takes width, kind, rate, bias"),
        ("built", {"width": 3}, "built already; it takes no options"),
        ("needs", {}, "needs width, without a default; add --set width="),
    ],
)
def test_what_can_be_wrong_with_a_factory(source, attribute, options, words):
    with pytest.raises(UsageError, match=words) as raised:
        build(f"{source}:{attribute}", **options)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"depth": "3"}, "has no option depth; it takes width, kind, rate, bias"),
        ({"width": "wide"}, "width takes a whole number"),
        ({"kind": "c"}, "kind is one of a, b"),
    ],
)
def test_what_can_be_wrong_with_a_factorys_settings(source, settings, words):
    with pytest.raises(UsageError, match=words):
        parse_set(f"{source}:small", settings)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("resnext50", {}, "unknown architecture"),
        ("resnext50_32x4d", {"forms": "grouped"}, "has no option forms; it takes form"),
        ("resnext50_32x4d", {"form": "grouping"}, "form is one of"),
        ("resnet18", {"num_classes": 0}, "from 1 on"),
        ("resnet18", {"num_classes": 2.5}, "from 1 on"),
        ("resnet18", {"skip": 1}, "true or false"),
        ("inception_resnet_v2", {"scale_a": -1.0}, "between 0 and 1"),
        ("nowhere.py:factory", {}, "does not exist"),
        ("nowhere.at.all:factory", {}, "not installed"),
    ],
)
def test_what_can_be_wrong_with_a_name(name, options, words):
    with pytest.raises(UsageError, match=words):
        build(name, **options)


def test_a_library_that_is_not_there_or_does_not_import(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(UsageError, match="matches your build of torch"):
        build("torchvision:resnet18")
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UsageError, match="timm"):
        build("timm:resnet18")


def test_a_torchvision_of_another_build_is_named(monkeypatch, tmp_path):
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    (tmp_path / "torchvision.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UsageError, match=r"nms does not exist.*CPU beside CPU"):
        build("torchvision:resnet18")


def test_a_library_that_is_there_builds(monkeypatch):
    def resnet18(*, weights: str | None = None, num_classes: int = 1000, **kwargs: object) -> nn.Module:
        assert weights is None
        assert not kwargs
        return nn.Linear(1, num_classes)

    def library(table: dict[str, object]) -> types.SimpleNamespace:
        return types.SimpleNamespace(
            list_models=lambda: list(table),
            get_model_builder=table.__getitem__,
            model_entrypoint=table.__getitem__,
            is_model=table.__contains__,
        )

    models = library({"resnet18": resnet18})
    monkeypatch.setitem(sys.modules, "torchvision", types.SimpleNamespace(models=models))
    monkeypatch.setitem(sys.modules, "timm", models)
    for name in ("torchvision:resnet18", "timm:resnet18"):
        assert build(name, **parse_set(name, {"num_classes": "5", "weights": "none"})).out_features == 5
    for name in ("torchvision:resnet19", "timm:resnet19"):
        with pytest.raises(UsageError, match="did you mean resnet18"):
            build(name)


def test_an_entry_point_is_a_name_like_any_other(monkeypatch, source):
    point = importlib.metadata.EntryPoint("mine", f"{source}:small", catalog.GROUP)

    def entry_points(*, group: str) -> list[importlib.metadata.EntryPoint]:
        return [point] if group == catalog.GROUP else []

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
    assert catalog.expand(["mine", "resnet18"]) == ["mine", "resnet18"]
    assert build("mine", width=2).out_channels == 2
    with pytest.raises(UsageError, match="did you mean mine"):
        build("minee")


def test_the_public_function_and_blocks():
    import mlcv_bench
    from mlcv_bench import architectures

    assert mlcv_bench.build is build
    for name in architectures.__all__:
        assert getattr(architectures, name).__name__ == name
    assert dir(architectures) == sorted(architectures.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = architectures.Nothing


@pytest.mark.parametrize("name", list(catalog.ARCHITECTURES))
def test_on_the_meta_device_nothing_is_allocated(name):
    with torch.device("meta"):
        network = build(name)
    assert all(tensor.is_meta for tensor in network.state_dict().values())


def test_building_on_the_meta_device_does_not_load_the_compiler():
    program = """
import sys
import torch
from mlcv_bench.architectures.build import build
from mlcv_bench.architectures.catalog import ARCHITECTURES
before = set(sys.modules)
with torch.device("meta"):
    for name in ARCHITECTURES:
        build(name)
loaded = {module.split(".")[1] for module in set(sys.modules) - before if module.startswith("torch.")}
raise SystemExit(f"loaded {sorted(loaded)}" if loaded & {"_dynamo", "_inductor"} or "sympy" in sys.modules else 0)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
