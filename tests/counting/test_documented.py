"""docs/counting.md says what the program says; the recorded audit covers the whole catalogue."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mlcv_bench.architectures.catalog import ARCHITECTURES

ROOT = Path(__file__).parents[2]


def recorded(name):
    """Return the recorded table's figures by architecture."""
    found = {}
    for line in (ROOT / "benchmarks" / "results" / f"{name}.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[0].startswith("`"):
            found[cells[0].strip("`")] = cells[1:]
    return found


def test_the_page_has_not_drifted():
    done = subprocess.run(
        [sys.executable, "-m", "cogapp", "--check", "docs/counting.md"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"type: cog -r docs/counting.md\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_recorded_audit_is_that_of_the_catalogue(name, counted):
    macs, _, torch_says, modules, leftover = (int(cell.replace(",", "")) for cell in recorded("audit")[name])
    assert macs == counted(name).macs
    assert torch_says == 2 * macs
    assert modules > 0
    assert leftover == 0


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_recorded_reconciliation_is_that_of_the_catalogue(name, counted):
    macs, *cells = recorded("reconcile")[name]
    assert int(macs.replace(",", "")) == counted(name).macs
    assert all(cell.endswith("(+0)") for cell in cells)
