"""What `run` adds to its commands: a suite of three counts against the same three typed one after the other."""

from __future__ import annotations

import shlex
import tempfile
from pathlib import Path

from harness import machine, paired, python, record

COMMANDS = ("flops resnet20", "flops resnet50", "list")


def main(runs: int = 9) -> float:
    """Measure, record and return the median ratio of `run` to the typed commands."""
    with tempfile.TemporaryDirectory() as folder:
        suite = Path(folder) / "suite.toml"
        suite.write_text("".join(f'[entries.e{at}]\ncommand = "{text}"\n' for at, text in enumerate(COMMANDS)))
        one = python("-m", "mlcv_bench", "run", str(suite), "--format", "json")
        typed = [shlex.join(python("-m", "mlcv_bench", *text.split(), "--format", "json")) for text in COMMANDS]
        suite_s, typed_s, ratio, low, high = paired(one, ["sh", "-c", " && ".join(typed)], runs)
    record(
        "suite_overhead",
        [
            "# What `run` adds to its commands",
            "",
            f"`mlcv-bench run` on {', '.join(f'`{text}`' for text in COMMANDS)} against the three",
            f"typed one after the other, {runs} pairs in turn: medians {suite_s:.2f} s and {typed_s:.2f} s of wall",
            f"time; ratio of a pair, median and quartiles: {ratio:.3f} ({low:.3f} .. {high:.3f}).",
            "",
            f"{machine()}; other processes ran beside it.",
        ],
    )
    return ratio


if __name__ == "__main__":
    main()
