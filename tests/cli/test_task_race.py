"""The command `optim-race --task` as users run it."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.tasks.files import write_idx, write_images

ROOT = Path(__file__).parent.parent.parent
SMALL = (
    *("optim-race", "--task", "digits", "--optimizer", "sgd", "--optimizer", "adam"),
    *("--epochs", "2", "--rates", "4", "--seeds", "2", "--target", "0.8"),
)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--task", "digts"), "did you mean digits"),
        (("--task", "mnist"), "add --data FOLDER; https"),
        (("--task", "digits", "--steps", "4"), "--steps belongs to a race on a surface"),
        (("--epochs", "4"), "--epochs belongs to a race on a task"),
        (("--task", "digits", "--model", "mpl"), "did you mean mlp"),
        (("--task", "digits", "--model", "resnet50"), "made for images of 224x224"),
        (("--task", "digits", "--optimizer", "adam:beta3=1"), "it takes lr, beta1"),
        (("--task", "digits", "--scheduler", "tcp://x:1", "--workers", "2"), "not both"),
        (("--task", "digits", "--workers", str(2**64)), "--workers takes 1 to 1024 processes"),
        (("--task", "digits", "--scheduler", "nowhere"), "write tcp://host:8786"),
        (("--task", "digits", "--resume"), "add --store PATH"),
        (("--task", "digits", "--store", "no/where.jsonl"), "does not exist"),
        (("--task", "digits", "--store", "x.json", "-o", "x.json"), "a file of its own"),
        (("--task", "digits", "--protocol", "theory"), "no closed form"),
        (("--task", "digits", "-o", "x.gif"), "no form this command can save"),
    ],
)
def test_what_is_wrong_is_said_without_torch(arguments, sentence, heavy_modules):
    code, loaded, said = heavy_modules(["optim-race", *arguments])
    assert (code, loaded) == (2, [])
    assert sentence in said
    assert said.count("\n") == 1


@pytest.fixture(scope="module")
def whole(command_in, tmp_path_factory):
    """One undisturbed race in one process, in its folder."""
    folder = tmp_path_factory.mktemp("whole")
    arguments = (*SMALL, "--workers", "1", "--format", "csv", "-o", "x.json", "-o", "x.png")
    return command_in(*arguments, cwd=folder, check=0).stdout, folder


def test_the_number_of_workers_changes_no_byte(command, whole):
    one, folder = whole
    assert command(*SMALL, "--workers", "2", "--format", "csv", check=0).stdout == one
    rows = list(csv.DictReader(io.StringIO(one)))
    assert {(row["optimizer"], row["protocol"]) for row in rows} == {
        (optimizer, protocol) for optimizer in ("sgd", "adam") for protocol in ("default", "tuned")
    }
    document = json.loads((folder / "x.json").read_text())
    assert document["schema"] == "mlcv-bench/optim-race"
    assert len(document["details"]["sweeps"]) == 2
    assert (folder / "x.png").stat().st_size > 10_000


def test_a_table_for_people_and_a_failure_with_its_reason(command):
    done = command(
        "optim-race", "--task", "digits", "--model", "logistic", "--optimizer", "newton", "--optimizer", "sgd",
        "--protocol", "default", "--epochs", "1", "--seeds", "2", "--workers", "1", check=5,
    )  # fmt: skip
    assert "digits, logistic, default: 1 epoch of 36 steps, batches of 32, 2 seeds" in done.stdout
    assert "newton:damping=0.1" in done.stderr


def test_a_folder_of_images_races(command, tmp_path):
    write_images(tmp_path / "pets", count=20)
    done = command(
        "optim-race", "--task", "images", "--data", "pets", "--image-size", "8", "--model", "cnn", "--optimizer",
        "adam:lr=0.01", "--epochs", "3", "--batch-size", "8", "--seeds", "1", "--workers", "1", "--format", "csv",
        check=0,
    )  # fmt: skip
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert float(rows[-1]["test_accuracy"]) == 1.0


def test_a_damaged_file_is_one_sentence(command, tmp_path):
    folder = write_idx(tmp_path / "raw")
    (folder / "t10k-labels-idx1-ubyte").write_bytes(b"\0\0\x08\x01\0\0")
    done = command("optim-race", "--task", "mnist", "--data", "raw", "--workers", "1", check=2)
    assert "no IDX file" in done.stderr
    assert done.stderr.count("\n") == 1


def stored(path):
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line)["key"] for line in lines if line.startswith('{"kind":"job"')]


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)])
def test_a_stopped_race_goes_on_where_it_was(command, whole, tmp_path, sent, code):
    store = tmp_path / "s.jsonl"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-m", "mlcv_bench", *SMALL, "--workers", "2", "--store", str(store), "--format", "csv"],
        env=environment,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        while len(stored(store)) < 2 and process.poll() is None:
            time.sleep(0.01)  # waits for the store, not for a duration
        process.send_signal(sent)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Traceback" not in errors
    before = stored(store)
    done = command(*SMALL, "--workers", "1", "--store", str(store), "--resume", "--format", "csv", check=0)
    after = stored(store)
    assert after[: len(before)] == before
    assert len(set(after)) == len(after)
    assert done.stdout == whole[0]
