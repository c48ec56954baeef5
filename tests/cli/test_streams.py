"""Where the result goes: pipes that close, streams that are closed, full disks, terminals without a size."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from mlcv_bench.cli import app
from mlcv_bench.cli.options import Asked
from mlcv_bench.streams import writing_result

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
@pytest.mark.parametrize("arguments", [["list"], ["list", "--format", "json"], ["figures"]])
def test_a_full_disk_is_one_sentence(arguments, environment, tmp_path):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*PROGRAM, *arguments],
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


NOISE = """
import ctypes, os, subprocess, sys
from mlcv_bench.cli.app import open_streams
from mlcv_bench.streams import result_alone, writing_result

open_streams()
C = ctypes.CDLL(None)
with result_alone():
    print("by Python")
    os.write(1, b"by a system call\\n")
    C.puts(b"by C, in a buffer of its own")
    subprocess.run(["echo", "by a child"])
    with writing_result() as stream:
        stream.write("the result\\n")
    sys.stdout.write("by Python, after it\\n")
print("and what follows")
"""


@pytest.mark.parametrize("closed", ["", "2>&-", "<&- 2>&-"])
def test_stdout_is_the_results_alone_whoever_prints(closed, environment, tmp_path):
    line = f'exec "$@" {closed}'
    done = subprocess.run(
        ["/bin/sh", "-c", line, "sh", sys.executable, "-c", NOISE],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
        check=True,
    )
    assert done.stdout == "the result\nand what follows\n"
    noise = ["by Python", "by a system call", "by C, in a buffer of its own", "by a child", "by Python, after it"]
    assert sorted(done.stderr.splitlines()) == ([] if closed else sorted(noise))


def noisy() -> Asked:
    """Print, and write a result."""
    print("noise")  # noqa: T201 - what a user's code may do

    def write() -> None:
        with writing_result() as stream:
            stream.write("the result\n")

    return Asked(None, None, write)


def test_every_command_has_stdout_for_its_result(monkeypatch, capsys):
    monkeypatch.setitem(app.COMMANDS, "list", (f"{__name__}:noisy", "Print, and write a result."))
    assert app.run(["list"]) == 0
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("the result\n", "noise\n")
    assert app.run(["list", "--help"]) == 0
    assert "Print, and write a result." in capsys.readouterr().out


@pytest.mark.slow
def test_a_network_that_prints_leaves_stdout_alone(command):
    cases = ROOT / "tests" / "cases" / "timed.py"
    arguments = (f"{cases}:Prints", "--input", "3x16x16", "--threads", "1", "--seconds", "0.1", "--format", "csv")
    done = command("time", *arguments, check=0)
    header, row = done.stdout.splitlines()
    assert header.startswith("architecture,input")
    assert row.startswith(f"{cases}:Prints,3x16x16")
    assert "shape (1, 3, 16, 16)" in done.stderr
