"""Runs every benchmark of this folder that takes minutes, not hours, and collects the results."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
HELPERS = {"harness", "collect", "run_all"}


def main() -> None:
    """Run each script in its own process; one that fails is named at the end."""
    failed = []
    for path in sorted(HERE.glob("*.py")):
        if path.stem not in HELPERS:
            print(f"== {path.name}", flush=True)
            if subprocess.run([sys.executable, str(path)], cwd=HERE, check=False).returncode:
                failed.append(path.name)
    subprocess.run([sys.executable, str(HERE / "collect.py")], check=True)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
