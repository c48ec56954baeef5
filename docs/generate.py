"""Writes the command reference from the commands' own --help; cog runs it, and a test checks for drift."""

from __future__ import annotations

import os
import subprocess
import sys

from mlcv_bench.cli.app import COMMANDS


def help_of(*arguments: str) -> str:
    """Return what `mlcv-bench ARGUMENTS --help` prints at 100 columns."""
    environment = os.environ | {"COLUMNS": "100", "NO_COLOR": "1"}
    done = subprocess.run(  # noqa: S603 - this project's own command
        [sys.executable, "-m", "mlcv_bench", *arguments, "--help"],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    return done.stdout.strip()


def reference() -> str:
    """Return the whole reference as Markdown."""
    parts = ["```text\n" + help_of() + "\n```"]
    parts += [f"## `mlcv-bench {name}`\n\n```text\n{help_of(*name.split())}\n```" for name in COMMANDS]
    return "\n\n".join(parts)
