"""`ab --base-python --head-python` on two worktrees of this project, each installed in an environment of its own.

One block is slowed in the second worktree: residual blocks that change the shape compute a convolution twice. Then the
block is mended, and the same two interpreters must be found the same. Takes some minutes, most of them installing.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from harness import machine, python, record

ROOT = Path(__file__).parents[1]
BLOCK = Path("mlcv_bench/architectures/resnet.py")
GIT = shutil.which("git") or "git"
RIGHT = "        x = self.bn2(self.conv2(x))\n"
SLOWED = "        if self.downsample is not None:\n            self.conv2(x)\n" + RIGHT


def environment(worktree: Path, folder: Path) -> Path:
    """Install a worktree into a fresh environment and return its interpreter."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    interpreter = folder / "bin" / "python"
    pins = ["-c", str(worktree / "constraints.txt")]
    subprocess.run([str(interpreter), "-m", "pip", "install", "-q", *pins, "-e", str(worktree)], check=True)
    return interpreter


def judged(name: str, base: Path, head: Path, seconds: float) -> tuple[int, dict]:
    """Compare two interpreters and return the exit code and the one run."""
    sides = ["--base-python", str(base), "--head-python", str(head), "--seconds", str(seconds)]
    done = subprocess.run(
        python("-m", "mlcv_bench", "ab", name, *sides, "--format", "json"), capture_output=True, text=True, check=False
    )
    if not done.stdout:
        sys.exit(done.stderr)
    return done.returncode, json.loads(done.stdout)[0]


def main() -> None:
    """Make both worktrees, compare them with the block slowed and mended, and write the verdicts down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", default="resnet20")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--note", default="")
    said = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        places = [Path(folder) / name for name in ("base", "head")]
        try:
            for place in places:
                subprocess.run([GIT, "-C", str(ROOT), "worktree", "add", "-q", "--detach", str(place)], check=True)
            interpreters = [environment(place, place.with_name(f"{place.name}-venv")) for place in places]
            block = places[1] / BLOCK
            text = block.read_text()
            if text.count(RIGHT) != 1:
                sys.exit(f"{BLOCK} does not read as it did; the slow-down has no place in it")
            for what, source in (("slowed", text.replace(RIGHT, SLOWED)), ("mended", text)):
                block.write_text(source)
                rows.append((what, *judged(said.network, *interpreters, said.seconds)))
        finally:
            for place in places:
                subprocess.run([GIT, "-C", str(ROOT), "worktree", "remove", "--force", str(place)], check=False)
    lines = [
        "# Two worktrees of this project, two interpreters, a slowed block in one",
        "",
        f"`mlcv-bench ab {said.network} --base-python ... --head-python ... --seconds {said.seconds:g}`. {machine()}.",
        "The slow-down: residual blocks that change the shape compute their second convolution twice.",
        said.note,
        "",
        "| block in the second worktree | verdict | ratio | interval | margin | A against itself | exit code |",
        "|:---|:---|---:|---:|---:|---:|---:|",
    ]
    for what, code, run in rows:
        interval = f"{run['ci_low']:.3f} .. {run['ci_high']:.3f}"
        figures = f"{run['ratio']:.3f} | {interval} | {run['margin']:.1%} | {run['control']:.4f}"
        lines.append(f"| {what} | {run['verdict']} | {figures} | {code} |")
    record("ab_worktrees", lines)


if __name__ == "__main__":
    main()
