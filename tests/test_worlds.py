"""Files of two checkouts, whose absolute imports read the same, each compute with their own neighbours."""

from __future__ import annotations

import sys

import pytest

from mlcv_bench import worlds
from mlcv_bench.errors import UsageError
from mlcv_bench.names import load_specification

MODEL = """
import visnet.layers
from visnet.layers import ACT


def net():
    from visnet.layers import ACT as late

    return {ACT, late, visnet.layers.ACT}
"""


def checkout(root, act, *, layout="", marks=("__init__.py",), model="visnet/model.py"):
    package = root / layout / "visnet"
    package.mkdir(parents=True)
    for mark in marks:
        (package / mark if mark == "__init__.py" else root / mark).write_text("")
    (package / "layers.py").write_text(f"ACT = {act!r}\n")
    place = root / layout / model
    place.parent.mkdir(exist_ok=True)
    place.write_text(MODEL)
    return place


LAYOUTS = {
    "a package": {},
    "src": {"layout": "src"},
    "no __init__": {"marks": ()},
    "a script of a project": {"marks": ("__init__.py", "pyproject.toml"), "model": "scripts/model.py"},
    "a script of a project with src": {
        "layout": "src",
        "marks": ("__init__.py", "setup.py"),
        "model": "../scripts/model.py",
    },
}


@pytest.fixture
def clean():
    before = set(sys.modules)
    yield
    for name in [name for name in set(sys.modules) - before if name.startswith("visnet")]:
        del sys.modules[name]


@pytest.mark.parametrize("searched", ["nothing", "the path", "the current folder"])
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.usefixtures("clean")
def test_each_of_two_checkouts_imports_from_itself(tmp_path, monkeypatch, layout, searched):
    """As where the base is installed in place, is on PYTHONPATH, or is where the user stands."""
    base, head = checkout(tmp_path / "base", "relu", **layout), checkout(tmp_path / "head", "leaky", **layout)
    if searched == "the path":
        monkeypatch.syspath_prepend(tmp_path / "base" / layout.get("layout", ""))
    elif searched == "the current folder":
        monkeypatch.chdir(tmp_path / "base" / layout.get("layout", ""))
    first, second = load_specification(f"{base}:net"), load_specification(f"{head}:net")
    assert (first(), second(), first()) == ({"relu"}, {"leaky"}, {"relu"})
    assert "visnet" not in sys.modules or searched != "nothing"


@pytest.mark.usefixtures("clean")
def test_a_module_that_python_knows_already_is_not_the_files(tmp_path, monkeypatch):
    base, head = checkout(tmp_path / "base", "relu"), checkout(tmp_path / "head", "leaky")
    monkeypatch.syspath_prepend(tmp_path / "base")
    installed = load_specification("visnet.model:net")
    other = load_specification(f"{head}:net")
    assert (installed(), other(), installed()) == ({"relu"}, {"leaky"}, {"relu"})
    assert sys.modules["visnet.model"].__file__ == str(base)


@pytest.mark.usefixtures("clean")
def test_a_file_that_computes_with_another_tree_is_refused(tmp_path):
    """One that says itself where to search, as the scripts of a moved checkout do."""
    checkout(tmp_path / "base", "relu")
    head = checkout(tmp_path / "head", "leaky")
    head.write_text(f"import sys\nsys.path.insert(0, {str(tmp_path / 'base')!r})\n{MODEL}")
    with pytest.raises(
        UsageError, match=r"head/visnet/model.py computes with visnet of \S*base\S*, not of its own tree"
    ):
        load_specification(f"{head}:net")


@pytest.mark.usefixtures("clean")
def test_a_function_that_imports_at_every_call_has_its_world_entered_once(tmp_path, monkeypatch):
    """Entering it takes milliseconds, which a forward pass that imports something would be timed with."""
    first, second = (load_specification(f"{checkout(tmp_path / act, act)}:net") for act in ("relu", "leaky"))
    assert (first(), second()) == ({"relu"}, {"leaky"})

    def own_folder(path):
        pytest.fail(f"entered the world of {path} once more")

    monkeypatch.setattr(worlds, "own_folder", own_folder)
    assert (first(), second(), first()) == ({"relu"}, {"leaky"}, {"relu"})
