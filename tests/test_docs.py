"""The written pages say what the program says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

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


@pytest.mark.parametrize("page", ["ARCHITECTURE.md", "CONTRIBUTING.md"])
def test_the_map_names_places_that_exist(page):
    named = re.findall(r"`((?:\w+/)*(?:\w+\.(?:py|csv|in\.md)|\w+/))`", (ROOT / page).read_text())
    assert len(named) > 10
    for place in named:
        if "NAME" not in place:
            assert (ROOT / place).exists() or (ROOT / "mlcv_bench" / place).exists(), place
