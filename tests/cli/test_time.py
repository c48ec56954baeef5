from __future__ import annotations

import contextlib
import json

import pytest

from mlcv_bench.cli import app
from mlcv_bench.cli.ab import parse_side
from mlcv_bench.cli.options import listed, numbers, parse_share
from mlcv_bench.errors import UsageError
from mlcv_bench.timing import compare
from mlcv_bench.timing.study import COLUMNS
from mlcv_bench.timing.worker import WorkerMemoryError
from tests.timing.fakes import FakeWorkload

QUICK = ("--threads", "1", "--seconds", "0.2")
TINY = """
import os
import sys
from torch import nn

def small():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())

def dying():
    # The counter builds the network first, in the parent; only the worker's own copy dies.
    if "mlcv_bench.timing.worker" in sys.orig_argv:
        os.kill(os.getpid(), 9)
    return small()

class More(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = small()

    def forward(self, images):
        for _ in range(3):
            self.inner(images)
        return self.inner(images)
"""


@pytest.fixture
def tiny(tmp_path):
    (tmp_path / "tiny.py").write_text(TINY)
    return "tiny.py:small"


@pytest.mark.slow
def test_a_sweep_prints_the_contracts_columns_and_saves_everything(command, tiny, tmp_path):
    arguments = (
        tiny,
        "--input",
        "3x16x16",
        "--batch",
        "1,2",
        *QUICK,
        "--store",
        "x.jsonl",
        "-o",
        "x.json",
        "-o",
        "x.png",
    )
    # In an interpreter of its own, where the wait policy is set before torch is loaded.
    done = command("time", *arguments, "--format", "csv", check=0, fresh=True)
    lines = done.stdout.splitlines()
    assert lines[0].startswith(",".join(COLUMNS))
    assert len(lines) == 3
    document = json.loads((tmp_path / "x.json").read_text())
    assert [run["status"] for run in document["runs"]] == ["done", "done"]
    assert document["details"]["machine"]["wait_policy"] == "default"
    assert [run["wait_policy"] for run in document["runs"]] == ["default", "default"]
    assert "OMP_WAIT_POLICY" not in document["environment"]["flags"]
    assert (tmp_path / "x.png").stat().st_size > 5000

    again = command("time", *arguments, "--resume", "--format", "csv", check=0)
    assert again.stdout == done.stdout, "nothing is measured again"
    assert "--resume" in command("time", *arguments, check=2).stderr
    # Whether so short a time is the same or undecided is for the load on this machine to say.
    compared = command("compare", "x.json", "x.json", check=0).stdout
    assert "2 rows in both files" in compared
    assert "No regression" in compared


@pytest.mark.slow
def test_a_wait_policy_holds_in_a_worker_too_and_is_compared_with_itself_alone(command, tiny):
    for policy in ("default", "passive"):
        more = ("--isolate", "--wait-policy", policy, "-o", f"{policy}.json", "--format", "json")
        (row,) = json.loads(command("time", tiny, "--input", "3x16x16", *QUICK, *more, check=0).stdout)
        assert row["wait_policy"] == policy
    assert "no row in common" in command("compare", "default.json", "passive.json", check=4).stderr


@pytest.mark.slow
def test_isolated_cells_run_and_a_killed_worker_is_a_row(command, tiny):
    arguments = ("tiny.py:dying", tiny, "--input", "3x16x16", *QUICK, "--isolate", "--format", "json")
    dead, alive = json.loads(command("time", *arguments, check=5).stdout)
    assert (dead["status"], alive["status"]) == ("failed", "done")
    assert "SIGKILL" in dead["reason"]


def test_where_everything_is_skipped_nothing_was_timed(capsys):
    arguments = ("resnet20", "--fold-batch-norm", "--pass", "forward-backward", "--threads", "1", "--device", "cpu")
    assert app.run(["time", *arguments, "--format", "csv"]) == 2
    shown = capsys.readouterr()
    assert "skipped,batch norm can be folded for inference only" in shown.out
    assert "nothing was timed: batch norm can be folded for inference only" in shown.err


def test_a_dry_run_measures_nothing(command):
    done = command("time", "resnet20", "--batch", "1,8", "--dry-run", check=0)
    assert "2 cells, at most 20 s" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--dtype", "bf16"], "did you mean bfloat16"),
        (["--memory-format", "nhwc"], "contiguous, channels_last"),
        (["--wait-policy", "sleep"], "default, passive, active"),
        (["--batch", "0"], "--batch 1,8"),
        (["--threads", "two"], "whole numbers"),
        (["--precision", "0%"], "2% or 0.02"),
        (["--device", "gpu"], "auto, cpu"),
        (["--resume"], "--store"),
        (["--seconds", "nan"], "finite number"),
        (["--store", "nowhere/x.jsonl"], "does not exist"),
        (["--weights", "none.pt"], "there is no such file"),
        (["--store", "x.json", "-o", "x.json"], "a file of its own"),
        (["--weights", "."], "there is no such file"),
        (["--batch", "1,,2"], "--batch '1,,2' leaves a value out"),
        (["--runtime", ","], "leaves a value out"),
        (["-o", "x.gif"], ".png"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(command, arguments, words):
    done = command("time", "resnet20", *arguments, check=2)
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_env_shows_what_decides_a_figure(command):
    done = command("env", "--format", "json", check=0)
    found = {row["name"]: row["value"] for row in json.loads(done.stdout)}
    assert {"cpu", "physical_cores", "blas", "threads", "wait_policy", "torch_settings.cudnn.allow_tf32"} <= set(found)
    assert found["wait_policy"] == "default"


@pytest.mark.slow
def test_ab_compares_in_workers_and_its_exit_code_is_its_verdict(command, tiny, tmp_path):
    side = f"{tiny} --input 3x32x32"
    done = command("ab", side, "tiny.py:More --input 3x32x32", "-o", "ab.json", check=1)
    assert "B is slower" in done.stdout
    assert "Exactly: " in done.stdout
    document = json.loads((tmp_path / "ab.json").read_text())
    assert document["runs"][0]["verdict"] == "slower"
    assert len(document["details"]["workers"]) == 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["resnet20"], "B is missing"),
        (["resnet20", "resnet20 --batch 8"], "different batches"),
        (["resnet20", "resnet20 --nonsense 1"], "a side is names with options of `time`"),
        (["resnet20", "resnet20 --threads 1,2"], "A has 1 cell and B 2"),
        (["resnet20", 'resnet20 "'], "no closing quotation"),
        (["resnet20", "resnet"], "A has 1 cell and B 5"),
        (["resnet20", "--head-python", "nowhere/python"], "does not exist"),
        (["resnet20", "--head-path", "nowhere"], "is no folder"),
        (["resnet20", "--head-rev", "HEAD"], "is in no repository of git"),
        (["resnet20", "--head-python", "page.md"], "is no program"),
        (["resnet20", "resnet20", "--margin", "0.5%"], "give 0.01 (1%) or more"),
        (["resnet20", "resnet21"], "unknown architecture"),
    ],
)
def test_ab_says_what_is_wrong(command, tmp_path, arguments, words):
    (tmp_path / "page.md").write_text("no program")
    assert words in command("ab", *arguments, check=2).stderr


ODD = """
import torch

class Odd(torch.nn.Conv2d):
    def __init__(self):
        super().__init__(3, 4, 3)

    def forward(self, images):
        raise RuntimeError("broken")
"""


@pytest.mark.slow
def test_a_side_that_cannot_be_run_is_a_wrong_request_and_one_that_fails_is_a_failed_trial(command, tmp_path):
    (tmp_path / "page.md").write_text("no program")
    (tmp_path / "page.md").chmod(0o755)
    (tmp_path / "odd.py").write_text(ODD)
    done = command("ab", "resnet20", "--head-python", "page.md", check=2)
    assert "B cannot be run: page.md cannot be started" in done.stderr
    done = command("ab", "resnet20", "odd.py:nothing", check=2)
    assert "B cannot be run" in done.stderr
    done = command("ab", "resnet20", "odd.py:Odd", check=5)
    assert "B failed: RuntimeError: broken" in done.stderr
    assert "Traceback" not in done.stderr


def ending(looks, error):
    """Return what stands for `compare`: some looks at sides that decide nothing, and an end."""
    sides = FakeWorkload(0.04), FakeWorkload(0.042), FakeWorkload(0.044)
    real = compare.compare

    def ended(_open_sides, plan, *, on_look):
        for _ in range(looks):
            on_look(real(lambda: contextlib.nullcontext(sides), plan))
        raise error

    return ended


@pytest.mark.parametrize("error", [KeyboardInterrupt(), WorkerMemoryError("so it is", worker=1)])
@pytest.mark.parametrize("looks", [0, 1])
def test_what_was_seen_before_an_end_is_shown_and_saved(monkeypatch, tmp_path, capsys, looks, error):
    monkeypatch.setattr(compare, "compare", ending(looks, error))
    place = tmp_path / "ab.json"
    code = app.run(["ab", "resnet20", "resnet20 --threads 1", "-o", str(place)])
    assert code == (130 if isinstance(error, KeyboardInterrupt) else 5)
    shown = capsys.readouterr()
    assert place.exists() == bool(looks)
    if looks:
        assert "Unfinished: " in shown.out
        assert json.loads(place.read_text())["runs"][0]["sessions"] >= 4
    if code == 5:
        assert "B failed: out of memory at batch 1" in shown.err


def test_compare_finds_a_missing_baseline(command):
    assert "does not exist" in command("compare", "a.json", "b.json", check=4).stderr


def test_a_side_is_read_like_a_line_of_time():
    (cell,) = parse_side("resnext29_8x64d --batch 8 --memory-format channels_last --set form=concat").cells(3)
    assert (cell.batch, cell.memory_format, cell.settings, cell.threads, cell.seed) == (
        8,
        "channels_last",
        (("form", "concat"),),
        1,
        3,
    )


def test_what_ab_does_not_compare_is_no_setting_of_a_side():
    assert parse_side("resnet20 --cold-cache").cold_cache
    with pytest.raises(UsageError, match="--throughput, which `ab` does not compare"):
        parse_side("resnet20 --throughput")
    with pytest.raises(UsageError, match="cannot be had at once"):
        parse_side("resnet20 --throughput --cold-cache")


def test_lists_are_read_repeated_or_with_commas():
    assert listed("--batch", ["1,2", "2", " 4"], "1") == ["1", "2", "4"]
    assert listed("--batch", None, "1") == ["1"]
    assert numbers("--batch", ["1,8"], 1) == [1, 8]
    assert listed("--device", ["cpu", "cuda:1"]) == ["cpu", "cuda:1"]


@pytest.mark.parametrize(("text", "share"), [("2%", 0.02), ("0.05", 0.05), ("0.5%", 0.005)])
def test_shares_are_read(text, share):
    assert parse_share(text) == pytest.approx(share)


@pytest.mark.parametrize("text", ["", "-1%", "100%", "nan", "x"])
def test_other_shares_are_refused(text):
    with pytest.raises(UsageError):
        parse_share(text)


def test_more_threads_than_torch_survives_are_refused(command):
    done = command("time", "resnet20", "--threads", "100000", "--dry-run", check=2)
    assert "--threads takes at most 1024, not 100000" in done.stderr
