"""A user's code that crashes is located, in every command alike, and is no wrong request."""

from __future__ import annotations

import traceback
from functools import partial
from pathlib import Path

import pytest
from torch import nn

from mlcv_bench.cli import app
from mlcv_bench.cli.run import check_command
from mlcv_bench.crashes import located, own_frames
from mlcv_bench.errors import UsageError
from mlcv_bench.testing import assert_cost
from mlcv_bench.trials import outcome_of

CODE = """
from torch import nn

class Net(nn.Conv2d):
    def __init__(self):
        super().__init__(3, 4, 3)

    def look_up(self, images):
        return {}["missing"]

    def forward(self, images):
        return self.look_up(super().forward(images))

def broken():
    raise ValueError("no such luck")
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(CODE)
    (tmp_path / "odd.py").write_text("raise RuntimeError('at import')\n")
    return tmp_path


@pytest.mark.parametrize(
    ("words", "where"),
    [
        ("flops net.py:Net", "net.py, line 9, in look_up; net.py, line 12, in forward"),
        ("summary net.py:broken", "net.py, line 15, in broken"),
        ("verify net.py:Net net.py:Net", "net.py, line 9, in look_up; net.py, line 12, in forward"),
        ("flops odd.py:anything", "odd.py, line 1, in <module>"),
    ],
)
@pytest.mark.usefixtures("place")
def test_a_crash_names_the_users_own_frames_and_is_a_failed_trial(capsys, words, where):
    assert app.run([*words.split(), "-q"]) == 5
    assert f"it failed in {where} (--debug shows all)" in capsys.readouterr().err


def test_debug_shows_the_whole_traceback(place, capsys, monkeypatch):
    monkeypatch.setenv(app.TRACEBACK, "")
    assert app.run(["flops", "--debug", "net.py:broken"]) == 5
    said = capsys.readouterr().err
    assert 'raise ValueError("no such luck")' in said
    assert f'File "{place}/net.py", line 15, in broken' in said


def test_what_is_ours_or_a_librarys_is_no_crash_of_the_user():
    with pytest.raises(UsageError) as caught:
        check_command(["flops", "--nonsense"])
    assert all("test_crashes" in frame for frame in own_frames(caught.value))
    assert not located(UsageError("so it is"))


def test_a_failed_trial_says_where(place):
    import importlib.util

    spec = importlib.util.spec_from_file_location("net_of_a_test", place / "net.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = outcome_of(module.broken)
    assert found.status == "failed"
    assert found.reason.startswith("ValueError: no such luck; it failed in net.py, line 15, in broken")


@pytest.mark.parametrize("words", ["flops nowhere_at_all:net", "verify net.py:Net nowhere_at_all.models:net"])
@pytest.mark.usefixtures("place")
def test_a_dry_run_finds_a_package_that_does_not_exist(words):
    with pytest.raises(UsageError, match="module nowhere_at_all, which is not installed here"):
        check_command(words.split())


@pytest.mark.parametrize(
    "words",
    [
        "flops torch.nn:Identity --input x:float32:1x9 --input y:int64:1x9",
        "flops torchvision:resnet18",
        "optim-race --surface rosenbrock:dim=4 --optimizer adam:lr=0.1,torch.optim:RAdam",
        "ab nowhere_at_all:net --base-path . --head-path .",
    ],
)
@pytest.mark.usefixtures("place")
def test_a_dry_run_takes_what_only_looks_like_one(words):
    check_command(words.split())


class Broken(nn.Module):
    def forward(self, _images):
        raise ValueError("no such luck")


def test_an_assertion_shows_the_users_frames_and_none_of_its_own():
    with pytest.raises(UsageError) as caught:
        assert_cost(Broken(), max_params=1, input=(3, 8, 8))
    files = [Path(frame.filename).name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert files == ["test_crashes.py", "calls.py"], "the second is hidden by __tracebackhide__"
    assert traceback.extract_tb(caught.value.__cause__.__traceback__)[-1].name == "forward"


@pytest.mark.parametrize("model", [lambda: nn.Conv2d(3, 4, 3), partial(nn.Conv2d, 3, 4, 3), nn.Conv2d(3, 4, 3)])
def test_assert_cost_takes_factories(model):
    """A 3x3 convolution of 3 to 4 channels has 108 weights and 4 biases."""
    assert_cost(model, max_params=112, input=(3, 8, 8))
    with pytest.raises(AssertionError, match="112 params, max_params is 111"):
        assert_cost(model, max_params=111, input=(3, 8, 8))
