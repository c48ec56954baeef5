"""Where the result goes: pipes that close, streams that are closed, full disks, terminals without a size."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = (sys.executable, "-m", "mlcv_bench")


@pytest.fixture
def environment():
    return {key: value for key, value in os.environ.items() if key != "COLUMNS"} | {"PYTHONPATH": str(ROOT)}


@pytest.mark.parametrize(
    "arguments", [["list"], ["list", "--format", "csv"], ["--help"], ["list", "--help"], ["--version"]]
)
def test_a_reader_that_leaves_is_no_error(arguments, environment, tmp_path):
    process = subprocess.Popen(
        [*PROGRAM, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path, env=environment
    )
    process.stdout.close()
    assert (process.wait(60), process.stderr.read()) == (0, b"")
    process.stderr.close()


@pytest.mark.parametrize("form", ["table", "csv"])
def test_a_closed_stdout_still_saves(form, environment, tmp_path):
    line = 'exec "$@" >&-'
    done = subprocess.run(
        ["/bin/sh", "-c", line, "sh", *PROGRAM, "list", "--format", form, "-o", "all.csv"],
        capture_output=True,
        cwd=tmp_path,
        env=environment,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert (tmp_path / "all.csv").read_text().startswith("name,family")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's device that is always full")
@pytest.mark.parametrize("form", ["table", "json"])
def test_a_full_disk_is_one_sentence(form, environment, tmp_path):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*PROGRAM, "list", "--format", form],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env=environment,
            check=False,
        )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "stdout cannot be written" in done.stderr


def test_a_terminal_without_a_size(environment, tmp_path):
    reader, terminal = pty.openpty()
    process = subprocess.Popen(
        [*PROGRAM, "list"], stdout=terminal, stderr=subprocess.PIPE, cwd=tmp_path, env=environment
    )
    os.close(terminal)
    shown = b""
    try:
        while part := os.read(reader, 65536):
            shown += part
    except OSError:  # Linux says so at the end
        pass
    os.close(reader)
    assert (process.wait(60), process.stderr.read()) == (0, b"")
    process.stderr.close()
    assert b"resnext50_32x4d" in shown


@pytest.mark.parametrize("columns", ["0", "-5", "many"])
def test_any_value_of_columns(command, columns):
    assert "resnet18" in command("list", env={"COLUMNS": columns}, check=0).stdout
