"""Writes README.md from README.in.md: every `@@arguments@@` becomes what `mlcv-bench arguments` prints, now.

A picture that such a command saves, `-o NAME.png`, goes to docs/images, so that table and picture show one run.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def output_of(request: str) -> str:
    """Run mlcv-bench and return what it prints at 120 columns; `arguments | head N` keeps the first lines."""
    arguments, _, lines = request.partition(" | head ")
    done = subprocess.run(  # noqa: S603 - this project's own command
        [sys.executable, "-m", "mlcv_bench", *shlex.split(re.sub(r"-o (\S+\.png)", r"-o docs/images/\1", arguments))],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"COLUMNS": "120", "NO_COLOR": "1"},
        cwd=ROOT,
    )
    kept = [line.rstrip() for line in done.stdout.strip().splitlines()]
    return "\n".join([*kept[: int(lines)], "..."] if lines else kept)


def main() -> None:
    """Write the README anew."""
    template = (ROOT / "docs" / "README.in.md").read_text(encoding="utf-8")
    text = re.sub(r"@@(.+?)@@", lambda found: output_of(found[1]), template)
    (ROOT / "README.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
