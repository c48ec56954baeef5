"""The written pages say what the program says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from mlcv_bench.cli.app import COMMANDS

ROOT = Path(__file__).parent.parent


def test_command_reference_has_not_drifted():
    done = subprocess.run(
        [sys.executable, "-m", "cogapp", "--check", "docs/commands.md"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"type `make docs`\n{done.stdout}{done.stderr}"


def test_every_command_is_documented():
    text = (ROOT / "docs" / "commands.md").read_text()
    for name in COMMANDS:
        assert f"## `mlcv-bench {name}`" in text


def test_readme_speaks_of_every_command():
    text = (ROOT / "README.md").read_text()
    for name in COMMANDS:
        assert f"mlcv-bench {name}" in text, name
