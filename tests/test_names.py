"""Names: near misses, specifications, settings."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlcv_bench.errors import UsageError
from mlcv_bench.names import (
    Option,
    Registry,
    is_specification,
    load_specification,
    parse_settings,
    parse_value,
    spelled,
    static_options,
)

TABLE = Registry("fruit", "fruits", {"apple": 1, "apricot": 2, "pear": 3})


def test_builtin_comes_first():
    assert TABLE.get("apple") == 1
    assert list(TABLE) == ["apple", "apricot", "pear"]


def test_unknown_name_lists_near_misses():
    with pytest.raises(UsageError, match="unknown fruit 'aple': did you mean apple"):
        TABLE.get("aple")


def test_unknown_name_without_near_miss_says_what_to_type():
    with pytest.raises(UsageError, match="mlcv-bench list fruits"):
        TABLE.get("zzzzzz")


def test_specification_of_a_module():
    assert load_specification("os.path:join").__name__ == "join"
    assert TABLE.get("math:pi") == pytest.approx(3.14159265)


def test_specification_of_a_file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("class A:\n    x = 5\n")
    assert load_specification(f"{path}:A.x") == 5
    assert load_specification(f"{path}:A") is load_specification(f"{path}:A")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nomodule_at_all:x", "module nomodule_at_all, which is not installed"),
        ("os.path:joim", "no attribute 'joim'; did you mean join"),
        ("missing/file.py:x", "does not exist"),
        (":x", "not a specification"),
        ("os:", "not a specification"),
    ],
)
def test_bad_specification_is_one_sentence(text, words):
    with pytest.raises(UsageError, match=words) as caught:
        load_specification(text)
    assert "\n" not in str(caught.value)


def test_a_module_that_raises(tmp_path):
    path = tmp_path / "bad.py"
    path.write_text("raise ValueError('no such luck')\n")
    with pytest.raises(UsageError, match="ValueError: no such luck"):
        load_specification(f"{path}:x")


@pytest.mark.parametrize(
    ("annotation", "text", "value"),
    [
        ("bool", "true", True),
        ("bool", "0", False),
        ("int", "12", 12),
        ("float", "1e-3", 1e-3),
        ("str", "x", "x"),
        ("int | None", "none", None),
        ("int | None", "7", 7),
        ("Literal['a', 'b']", "b", "b"),
    ],
)
def test_value_takes_the_type_of_the_signature(annotation, text, value):
    assert parse_value(text, Option("key", annotation, None), "net") == value


@pytest.mark.parametrize(
    ("annotation", "text", "words"),
    [
        ("bool", "maybe", "true or false"),
        ("int", "1.5", "a whole number"),
        ("float", "x", "a number"),
        ("Literal['a', 'b']", "c", "one of a, b"),
    ],
)
def test_wrong_value_says_what_would_be_right(annotation, text, words):
    with pytest.raises(UsageError, match=words):
        parse_value(text, Option("key", annotation, None), "net")


TEXTS = st.text(max_size=8).map(str.strip).filter(lambda text: "," not in text)


@given(st.dictionaries(st.from_regex(r"[a-z_]{1,8}", fullmatch=True), TEXTS, max_size=4))
def test_settings_round_trip(settings):
    pairs = [f"{key}={value}" for key, value in settings.items()]
    assert parse_settings(pairs) == settings == parse_settings([",".join(pairs)] if pairs else [])


def test_a_comma_before_no_key_belongs_to_the_value():
    assert parse_settings(["widths=1,2,depth=3", "a=x"]) == {"widths": "1,2", "depth": "3", "a": "x"}


def test_case_does_not_matter_where_no_name_is_spelled_exactly():
    assert [spelled(name, ("adam", "Adam", "sgd")) for name in ("Adam", "SGD", "lion")] == ["Adam", "sgd", "lion"]
    assert Registry("colour", "colours", {"red": 1}).get("RED") == 1


@pytest.mark.parametrize("pair", ["noequals", "=value", ""])
def test_settings_need_a_key_and_an_equals_sign(pair):
    with pytest.raises(UsageError, match="key=value"):
        parse_settings([pair])


def test_a_setting_given_twice():
    with pytest.raises(UsageError, match="twice"):
        parse_settings(["a=1", "a=2"])


def test_static_options_read_a_signature_without_importing():
    found = static_options("mlcv_bench.names:unknown")
    assert list(found) == ["listing"]


def test_colon_makes_a_specification():
    assert is_specification("a:b")
    assert not is_specification("resnet50")
