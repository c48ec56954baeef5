"""`ab` of two versions of one package: each side has the code that it was given, and says which."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace

import pytest

from mlcv_bench.cli.ab import ComparedSide, parse_side, refuse_same
from mlcv_bench.errors import UsageError
from mlcv_bench.execution.places import HERE, Place
from mlcv_bench.report.comparisons import Compared
from mlcv_bench.timing.exact import ExactFigures

GIT = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
MODEL = """
from torch import nn
from visnet.layers import Act, WIDTH

def net(classes: int = 10):
    return nn.Sequential(nn.Conv2d(3, WIDTH, 3), Act(), nn.Flatten(), nn.LazyLinear(classes))

def twice(classes: int = 10):
    return nn.Sequential(nn.Conv2d(3, 2 * WIDTH, 3), Act(), nn.Flatten(), nn.LazyLinear(classes))
"""


def write(root, act, width):
    package = root / "visnet"
    package.mkdir(parents=True, exist_ok=True)
    (package / "__init__.py").write_text("from visnet.model import net, twice\n")
    (package / "model.py").write_text(MODEL)
    (package / "layers.py").write_text(f"from torch import nn\n\nAct, WIDTH = nn.{act}, {width}\n")


@pytest.fixture
def checkouts(tmp_path):
    """Return a checkout whose commit computes otherwise than its folder, which is another one's base."""
    base = tmp_path / "base"
    write(base, "ReLU", 8)
    subprocess.run([*GIT, "-C", base, "init", "-q"], check=True)
    subprocess.run([*GIT, "-C", base, "add", "."], check=True)
    subprocess.run([*GIT, "-C", base, "commit", "-qm", "base"], check=True)
    shutil.copytree(base, tmp_path / "head")
    write(tmp_path / "head", "LeakyReLU", 12)
    return base, tmp_path / "head"


@pytest.mark.slow
def test_each_side_runs_its_own_code_wherever_one_stands(command, checkouts, tmp_path):
    """MACs by hand: a 3x3 convolution of 3 channels at 6x6 places, and a linear layer; 3 classes are set as text."""
    base, head = checkouts
    place = tmp_path / "ab.json"
    text = "visnet:net visnet:twice --input 3x8x8 --set classes=3"
    command("ab", text, "--base-rev", "HEAD", "--head-path", head, "--seconds", "1", "-o", place, cwd=base)
    rows = json.loads(place.read_text())["runs"]
    macs = {width: width * 27 * 36 + width * 36 * 3 for width in (8, 12, 16, 24)}
    assert [(row["base_macs"], row["head_macs"]) for row in rows] == [(macs[8], macs[12]), (macs[16], macs[24])]
    assert [row["base_file"] for row in rows] == ["visnet/model.py"] * 2
    assert [row["head_file"] for row in rows] == [str(head / "visnet" / "model.py")] * 2
    assert rows[0]["head_commit"] == f"{rows[0]['base_commit']} with changes"
    listed = subprocess.check_output([*GIT, "-C", base, "worktree", "list"], text=True)
    assert len(listed.splitlines()) == 1
    done = command("ab", text, "--base-path", ".", "--head-path", base, "--seconds", "1", cwd=base, check=2)
    assert f"A and B are both {base}/visnet/model.py" in done.stderr


def test_two_places_that_are_one_are_refused_and_others_are_not():
    (cell,) = parse_side("resnet20").cells(0)
    one, other = ExactFigures(source="/a/model.py"), ExactFigures(source="/b/model.py")
    old, new = {"torch": "2.12"}, {"torch": "2.13"}
    there = Place(path="x"), Place(path="y")

    def refused(exact, hellos, places=there, cells=(cell, cell)):
        found = Compared("a", "b", exact=exact, details={"workers": [*hellos, hellos[0]]})
        try:
            refuse_same(cells, places, found)
        except UsageError:
            return True
        return False

    assert refused((one, one), (old, old))
    assert not refused((one, other), (old, old)), "two files"
    assert not refused((one, one), (old, new)), "one file by two versions of torch"
    assert not refused((one, one), (old, old), (HERE, HERE)), "A against A here"
    assert not refused((one, one), (old, old), cells=(cell, replace(cell, threads=2))), "two settings"


def test_what_only_a_side_can_open_is_not_opened_here():
    """The model need not be importable by the tool's own interpreter; its settings are typed there."""
    text = "nowhere_at_all:net --set classes=3"
    (cell,) = ComparedSide(text, parse_side(text), Place(revision="HEAD")).cells(0)
    assert cell.settings == (("classes", "3"),)
    with pytest.raises(UsageError, match="not installed here"):
        ComparedSide(text, parse_side(text), HERE).cells(0)
