"""The catalogue: names, families, patterns, options and what goes wrong with each, all without torch."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlcv_bench.architectures import catalog
from mlcv_bench.architectures.request import Request
from mlcv_bench.errors import UsageError

NAMES = list(catalog.ARCHITECTURES)
SPELLED = ["resnext26_1x64d", "resnext50_16x8d", "resnext101_3x5d", "resnext152_64x4d", "resnext29_1x64d"]


def normal(annotation: str) -> str:
    return ast.unparse(ast.parse(annotation))


def test_names_options_and_errors_load_no_torch():
    program = """
import sys
from mlcv_bench.architectures import catalog
from mlcv_bench.errors import UsageError
for name in catalog.expand([*catalog.ARCHITECTURES, *catalog.FAMILIES, "resnext50_16x8d", "a.b:c"]):
    if ":" not in name:
        catalog.parse_set(name, {"num_classes": "10"})
for wrong in ("resnext50_32x4", "resnext"):
    try:
        catalog.find(wrong)
    except UsageError:
        continue
    raise SystemExit(f"{wrong} was found")
heavy = sorted({"torch", "numpy", "pandas", "rich", "typer", "numba", "matplotlib"} & set(sys.modules))
raise SystemExit(f"loaded {heavy}" if heavy else 0)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", [*NAMES, *SPELLED])
def test_static_options_are_the_builders_signature(name):
    architecture = catalog.find(name)
    module, _, attribute = architecture.build.partition(":")
    parameters = inspect.signature(getattr(importlib.import_module(module), attribute)).parameters
    assert all(parameter.kind is parameter.KEYWORD_ONLY for parameter in parameters.values())
    open_to_users = {key: value for key, value in parameters.items() if key not in architecture.config}
    options = catalog.options(name)
    assert list(options) == list(open_to_users)
    for key, option in options.items():
        assert normal(option.annotation) == normal(open_to_users[key].annotation)
        assert option.default == open_to_users[key].default
    # What the name fixes exists, and what has no default is fixed by the name.
    assert set(architecture.config) <= set(parameters)
    required = {key for key, value in parameters.items() if value.default is value.empty}
    assert required <= set(architecture.config)


@pytest.mark.parametrize("name", [*NAMES, *SPELLED])
def test_every_option_can_be_set_from_text(name):
    for key, option in catalog.options(name).items():
        text = str(option.default).lower() if isinstance(option.default, bool) else str(option.default)
        assert catalog.parse_set(name, {key: text}) == {key: option.default}


def test_the_catalogue_is_what_the_files_register():
    """The statement that is read without importing a file gives what importing the file gives."""
    files = {row.build.partition(":")[0] for row in catalog.ARCHITECTURES.values()}
    registered = [row for file in files for row in importlib.import_module(file).NETWORKS]
    assert {row.name: row for row in registered} == catalog.ARCHITECTURES
    assert len(registered) == len(catalog.ARCHITECTURES)


def test_families_are_those_of_the_contract():
    assert catalog.FAMILIES["resnext"] == ("resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d")
    assert catalog.FAMILIES["resnet"] == ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
    assert catalog.FAMILIES["inception"] == (
        "googlenet",
        "inception_v4",
        "inception_resnet_v1",
        "inception_resnet_v2",
    )
    assert set(catalog.FAMILIES) == {"resnext", "resnet", "resnet_v1_5", "resnet_cifar", "vgg", "inception"}
    for members in catalog.FAMILIES.values():
        assert set(members) <= set(catalog.ARCHITECTURES)
    assert not set(catalog.FAMILIES) & set(catalog.ARCHITECTURES)


def test_the_table_holds_the_contract():
    expected = {"zfnet", "alexnet", "googlenet", "googlenet_torchvision", "wide_resnet50_2"}
    expected |= {f"vgg{depth}{norm}" for depth in (11, 13, 16, 19) for norm in ("", "_bn")}
    expected |= {f"resnet{depth}" for depth in (18, 34, 50, 101, 152, 20, 32, 44, 56, 110)}
    expected |= {f"resnet{depth}_v1_5" for depth in (50, 101, 152)}
    expected |= {f"plain{depth}" for depth in (20, 32, 44, 56, 110)}
    expected |= {"inception_v4", "inception_resnet_v1", "inception_resnet_v2", "inception_resnet_v2_paper"}
    assert expected <= set(catalog.ARCHITECTURES)
    for name, architecture in catalog.ARCHITECTURES.items():
        assert architecture.name == name
        assert architecture.paper.endswith(str(architecture.year))


@given(st.sampled_from([26, 50, 101, 152, 29]), st.integers(1, 512), st.integers(1, 512))
@settings(deadline=None, max_examples=50)
def test_any_g_and_d_make_a_resnext(depth, groups, width):
    found = catalog.find(f"resnext{depth}_{groups}x{width}d")
    assert found.config["groups"] == groups
    assert found.config["width"] == width
    assert found.input == ((3, 32, 32) if depth == 29 else (3, 224, 224))


def test_a_listed_resnext_is_what_its_spelling_says():
    for name in NAMES:
        if name.startswith("resnext"):
            listed = catalog.ARCHITECTURES[name]
            spelled = catalog._spelled_resnext(name, *catalog._RESNEXT.fullmatch(name).groups())
            unspelled = {"torchvision": listed.torchvision, "in_family": listed.in_family}
            assert dataclasses.replace(spelled, **unspelled) == listed


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("resnext50_0x4d", "from 1 on"),
        ("resnext50_32x0d", "from 1 on"),
        ("resnext50_032x4d", "leading zeros"),
        ("resnext51_32x4d", "26, 50, 101, 152 layers, or 11 or 29"),
        ("resnext50_32x4", "did you mean resnext50_32x4d"),
        ("resnet51", "did you mean .*resnet50"),
        ("resnexxt", "did you mean resnext"),
        ("vgg", "family"),
        ("zzz", "mlcv-bench list architectures"),
    ],
)
def test_a_wrong_name_says_what_to_type_next(name, words):
    with pytest.raises(UsageError, match=words):
        catalog.find(name)


def test_case_does_not_matter_and_all_is_every_network():
    assert catalog.expand(["ResNet18", "RESNEXT50_4x8D", "ResNet"])[:3] == ["resnet18", "resnext50_4x8d", "resnet34"]
    assert catalog.expand(["vgg", "All"]) == list(dict.fromkeys([*catalog.FAMILIES["vgg"], *catalog.ARCHITECTURES]))
    assert Request.of("ZFNet").name == "zfnet"
    with pytest.raises(UsageError, match="every network"):
        catalog.find("all")


def test_expand_keeps_order_and_drops_duplicates():
    names = ["resnext101_32x8d", "resnext", "some.module:factory", "resnet18", "some.module:factory", "resnext50_1x1d"]
    assert catalog.expand(names) == [
        "resnext101_32x8d",
        "resnext50_32x4d",
        "resnext101_64x4d",
        "some.module:factory",
        "resnet18",
        "resnext50_1x1d",
    ]
    with pytest.raises(UsageError, match="unknown architecture 'resnext50'"):
        catalog.expand(["resnet18", "resnext50"])


@pytest.mark.parametrize(
    ("name", "given_settings", "words"),
    [
        ("resnext50_32x4d", {"groups": "3"}, "has no option groups; it takes form, num_classes"),
        ("resnext50_32x4d", {"form": "group"}, "form is one of grouped, concat, branches, not 'group'"),
        ("resnext50_32x4d", {"num_classes": "ten"}, "num_classes takes a whole number"),
        ("resnext50_32x4d", {"num_classes": "0"}, "num_classes is a whole number from 1 on"),
        ("resnet50", {"skip": "maybe"}, "skip takes true or false"),
        ("vgg16", {"dropout": "1.5"}, "dropout is a number between 0 and 1"),
        ("vgg16", {"dropout": "nan"}, "dropout is a number between 0 and 1"),
        ("plain20", {"skip": "true"}, "has no option skip"),
        ("resnet18", {"form": "grouped"}, "resnet18 has no option form; it takes "),
    ],
)
def test_a_wrong_setting_says_what_would_be_right(name, given_settings, words):
    with pytest.raises(UsageError, match=words):
        catalog.parse_set(name, given_settings)


def test_settings_get_the_types_of_the_signature():
    assert catalog.parse_set("googlenet", {"auxiliary": "true", "num_classes": "10", "dropout": "0.5"}) == {
        "auxiliary": True,
        "num_classes": 10,
        "dropout": 0.5,
    }
