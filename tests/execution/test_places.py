"""Where a side's code comes from: never the current folder's by accident, a revision's without a trace afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlcv_bench.errors import UsageError
from mlcv_bench.execution.places import HERE, Place, checked_out
from mlcv_bench.names import current_folder
from tests.conftest import ROOT

GIT = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]


@pytest.fixture
def repository(tmp_path):
    """Return a repository in which `inner/model.py` says 1, then 2, and is changed to 3."""
    inner = tmp_path / "repository" / "inner"
    inner.mkdir(parents=True)
    subprocess.run([*GIT, "-C", inner.parent, "init", "-q"], check=True)
    for number in (1, 2):
        (inner / "model.py").write_text(f"{number}")
        subprocess.run([*GIT, "-C", inner, "add", "."], check=True)
        subprocess.run([*GIT, "-C", inner, "commit", "-qm", str(number)], check=True)
    (inner / "model.py").write_text("3")
    return inner


def worktrees(inner):
    return subprocess.check_output([*GIT, "-C", inner, "worktree", "list"], text=True).splitlines()


@pytest.mark.parametrize("standing", [True, False], ids=["where one stands", "by its path"])
@pytest.mark.parametrize("end", [None, KeyboardInterrupt])
def test_a_revision_is_checked_out_and_leaves_nothing_behind(repository, tmp_path, monkeypatch, standing, end):
    if standing:
        monkeypatch.chdir(repository)
    monkeypatch.setenv("GIT_DIR", "/nowhere")  # as a hook has it
    at = None if standing else repository
    places = [Place(path=at, revision="HEAD~1"), Place(path=at, revision="HEAD"), HERE, Place(path=repository)]
    folder = tmp_path / "folder"
    folder.mkdir()
    for place in places:
        place.check("base")
    try:
        with checked_out([places[0], places[1], places[0], *places[2:]], folder) as made:
            assert [one.path and (one.path / "model.py").read_text() for one in made] == ["1", "2", "1", None, "3"]
            assert made[0] == made[2]
            monkeypatch.delenv("GIT_DIR")
            assert len(worktrees(repository)) == 3
            if end:
                raise end
    except KeyboardInterrupt:
        pass
    assert len(worktrees(repository)) == 1
    assert not list(folder.iterdir())
    assert (repository / "model.py").read_text() == "3"


def test_what_is_no_place_is_said_in_one_sentence(repository, tmp_path):
    (tmp_path / "page.md").write_text("no program")
    for place, words in (
        (Place(revision="nope", path=repository), "--head-rev nope: git knows no such commit"),
        (Place(revision="-q", path=repository), "git knows no such commit"),
        (Place(revision="HEAD", path=tmp_path), "is in no repository of git"),
        (Place(path=tmp_path / "none"), "is no folder"),
        (Place(python=tmp_path / "none"), "does not exist"),
        (Place(python=tmp_path / "page.md"), "is no program"),
    ):
        with pytest.raises(UsageError, match=words):
            place.check("head")


@pytest.mark.parametrize("inherited", [None, "/elsewhere"])
def test_what_a_process_of_a_place_searches(monkeypatch, tmp_path, inherited):
    """The side's own first, then the package of this process; an interpreter has everything of its own."""
    monkeypatch.delenv("PYTHONPATH", raising=False)
    if inherited is not None:
        monkeypatch.setenv("PYTHONPATH", inherited)
    (tmp_path / "src").mkdir()
    others = [inherited] if inherited else []

    def searched(place):
        return place.environment().get("PYTHONPATH", "").split(os.pathsep)

    assert searched(HERE) == [str(ROOT), *others]
    assert searched(Place(path=tmp_path)) == [str(tmp_path / "src"), str(tmp_path), str(ROOT), *others]
    assert searched(Place(Path(sys.executable), tmp_path)) == [str(tmp_path / "src"), str(tmp_path)]
    assert "PYTHONPATH" not in Place(python=Path(sys.executable)).environment()
    (tmp_path / "mlcv_bench").mkdir()
    assert searched(Place(path=tmp_path)) == [str(tmp_path / "src"), str(tmp_path)], "another version of this package"


def test_the_current_folder_is_searched_at_home_alone(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for place, found in ((HERE, True), (Place(path=tmp_path), False), (Place(python=Path(sys.executable)), False)):
        monkeypatch.setenv("PYTHONSAFEPATH", place.environment().get("PYTHONSAFEPATH", ""))
        with current_folder():
            assert (str(tmp_path) in sys.path) == found
