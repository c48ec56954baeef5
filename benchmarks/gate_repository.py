"""A git repository with a vision package of its own, gated by `mlcv-bench run` after one change at a time.

Each change is made in a fresh copy, and gated from the repository's own folder and from a neutral one, where the
package is on Python's path as an installed one would be. Run `python benchmarks/gate_repository.py --seconds 30`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness import machine, record

from mlcv_bench.interruption import CODES as INTERRUPTED

GIT = shutil.which("git") or "git"
LAYERS = """
from torch import nn


def activation():
    return nn.ReLU()
"""
MODEL = """
import torch
from torch import nn

from visnet.layers import activation

AGAIN = 0


class Net(nn.Module):
    def __init__(self, depth=12, width=32, classes=10):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for _ in range(depth))
        self.layers = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1, bias=False) for _ in range(depth))
        self.act = activation()
        self.head = nn.Linear(width, classes)

    def forward(self, x):
        x = self.stem(x)
        for place, (layer, norm) in enumerate(zip(self.layers, self.norms)):
            if place < AGAIN:
                layer(x)
            x = self.act(norm(layer(x)))
        return self.head(x.mean((2, 3)))


def net():
    return Net()
"""
EXACT = """
[defaults]
timeout_s = {timeout}
[defaults.options]
flops = "--input 3x32x32"
verify = "--input 3x32x32"

[entries.cost]
command = "flops visnet.model:net"
must_match_baseline = true

[entries.same]
command = "verify visnet.model:net --fingerprint"
must_compute_same = true
"""
SPEED = """
[defaults.options]
ab = "--base-path {repository} --base-rev main --head-path {repository} --seconds {seconds}"

[entries.speed]
command = "ab 'visnet.model:net --input 3x32x32'"
max_slowdown = "5%"
"""
STORED = """
[entries.stored]
command = "time visnet.model:net --input 3x32x32 --threads 1 --seconds {seconds}"
max_slowdown = "5%"
max_params = 1_000_000
"""


@dataclass(frozen=True)
class Change:
    """What is done to a repository, which of its suites gates it, and the exit code that is right."""

    words: str
    make: Callable[[Path], None]
    suite: str
    code: int


def edited(name: str, old: str, new: str) -> Callable[[Path], None]:
    """Return what replaces a text in a file of the package."""

    def make(repository: Path) -> None:
        path = repository / "visnet" / name
        text = path.read_text(encoding="utf-8")
        if old not in text:
            sys.exit(f"{path} holds no {old!r}")
        path.write_text(text.replace(old, new), encoding="utf-8")

    return make


def without_baseline(repository: Path) -> None:
    """Lose the baseline."""
    (repository / "exact.baseline.json").unlink()


def of_another_machine(repository: Path) -> None:
    """Let the baseline say that another processor made it, in half the time."""
    path = repository / "stored.baseline.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    entry = document["details"]["entries"]["stored"]
    entry["environment"]["cpu"] = "Another processor"
    for row in entry["runs"]:
        row |= {name: value / 2 for name, value in row.items() if name.endswith("_s") and isinstance(value, float)}
    path.write_text(json.dumps(document), encoding="utf-8")


ACTIVATION = "        self.act = activation()\n"
GAIN = "nn.Parameter(torch.ones(()))"
FORWARD = "        x = self.stem(x)\n"
CHANGES = (
    Change("nothing", lambda _repository: None, "exact", 0),
    Change("+1 parameter", edited("model.py", ACTIVATION, f"{ACTIVATION}        self.gain = {GAIN}\n"), "exact", 1),
    Change("a lost layer", edited("model.py", "depth=12", "depth=11"), "exact", 1),
    Change("an activation changed in a neighbouring file", edited("layers.py", "ReLU", "LeakyReLU"), "exact", 1),
    Change("other numbers", edited("model.py", "BatchNorm2d(width)", "BatchNorm2d(width, eps=1e-4)"), "exact", 1),
    Change(
        "weights initialised otherwise",
        edited("model.py", ACTIVATION, f"{ACTIVATION}        nn.init.orthogonal_(self.stem.weight)\n"),
        "exact",
        1,
    ),
    Change("a crash", edited("model.py", FORWARD, f"{FORWARD}        x = x.no_such_thing()\n"), "exact", 5),
    Change(
        "a timeout",
        edited("model.py", FORWARD, "        import threading\n        threading.Event().wait()\n"),
        "exact",
        5,
    ),
    Change("no baseline", without_baseline, "exact", 4),
    Change("a baseline of another machine", of_another_machine, "stored", 0),
    Change("no slower", lambda _repository: None, "speed", 0),
    Change("8% slower", edited("model.py", "AGAIN = 0", "AGAIN = 1"), "speed", 1),
    Change("49% slower", edited("model.py", "AGAIN = 0", "AGAIN = 6"), "speed", 1),
)


def write(repository: Path, *, seconds: float = 30.0, timeout: float = 60.0) -> None:
    """Write the package and its suites, and commit them."""
    (repository / "visnet").mkdir(parents=True)
    for name, text in (("__init__.py", ""), ("layers.py", LAYERS), ("model.py", MODEL)):
        (repository / "visnet" / name).write_text(text, encoding="utf-8")
    for name, text in (("exact", EXACT), ("speed", SPEED), ("stored", STORED)):
        whole = text.format(seconds=seconds, timeout=timeout, repository=repository)
        (repository / f"{name}.toml").write_text(whole, encoding="utf-8")
    who = ("-c", "user.name=nobody", "-c", "user.email=nobody@example.org")
    for words in (("init", "-q", "-b", "main"), ("add", "."), (*who, "commit", "-q", "-m", "A vision package")):
        subprocess.run([GIT, *words], cwd=repository, check=True)


def run(
    repository: Path, suite: str, folder: Path, *more: str, summary: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a suite from a folder; a neutral one finds the package on Python's path."""
    environment = dict(os.environ)
    if folder != repository:
        paths = [str(repository), environment.get("PYTHONPATH", "")]
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    if summary is not None:
        environment["GITHUB_STEP_SUMMARY"] = str(summary)
    words = [sys.executable, "-m", "mlcv_bench", "run", str(repository / f"{suite}.toml"), "-q", *more]
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def gated(change: Change, original: Path, place: Path, *, neutral: bool) -> dict:
    """Make a change in a copy of the repository, gate it, and return the code, the verdicts and each first line."""
    repository = place / "repository"
    shutil.rmtree(repository, ignore_errors=True)
    shutil.copytree(original, repository)
    speed = repository / "speed.toml"
    speed.write_text(speed.read_text(encoding="utf-8").replace(str(original), str(repository)), encoding="utf-8")
    change.make(repository)
    folder = place / "neutral" if neutral else repository
    folder.mkdir(exist_ok=True)
    for name in ("out.json", "out.xml", "summary.md"):
        (place / name).unlink(missing_ok=True)
    outputs = ("-o", str(place / "out.json"), "-o", str(place / "out.xml"))
    done = run(repository, change.suite, folder, *outputs, summary=place / "summary.md")
    if done.returncode in INTERRUPTED or not (place / "out.json").exists():
        sys.exit(done.stderr)
    rows = json.loads((place / "out.json").read_text(encoding="utf-8"))["runs"]
    cases = ET.parse(place / "out.xml").iter("testcase")  # noqa: S314 - written by the tool
    messages = [part.get("message", "") for case in cases for part in case]
    return {
        "code": done.returncode,
        "verdicts": ", ".join(dict.fromkeys(row["verdict"] for row in rows)),
        "stdout": done.stdout.splitlines()[0],
        "summary": (place / "summary.md").read_text(encoding="utf-8").splitlines()[0].removeprefix("### "),
        "junit": messages[0] if messages else "",
    }


def main() -> None:
    """Gate every change and write down what became of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0, help="of a comparison of times")
    parser.add_argument("--only", default="", help="changes whose words hold this")
    said = parser.parse_args()
    lines = [
        "# A repository of one's own, gated",
        "",
        f"Machine: {machine()}. What is slower computes one of twelve equal layers twice, or six, and is found by",
        f"{said.seconds:g} s of `ab` against `main`; a baseline of another machine is one of `time`.",
        "The terminal's first line is also the one of GitHub's summary.",
        "",
        "| change | from | exit code | right | verdicts | first line | JUnit's first message |",
        "|:---|:---|---:|---:|:---|:---|:---|",
    ]
    wrong = []
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        original = place / "original"
        write(original, seconds=said.seconds)
        chosen = [change for change in CHANGES if said.only in change.words]
        for suite in dict.fromkeys(change.suite for change in chosen if change.suite != "speed"):
            run(original, suite, original, "--update-baseline")
        for change in chosen:
            for neutral in (False, True):
                found = gated(change, original, place, neutral=neutral)
                right = found["code"] == change.code
                if not right or found["stdout"] != found["summary"].replace("\\", ""):
                    wrong.append((change.words, neutral, found))
                cells = (found["code"], change.code, found["verdicts"], found["stdout"], found["junit"])
                where = "neutral" if neutral else "own"
                shown = " | ".join(str(cell).replace("|", "\\|") for cell in cells)
                lines.append(f"| {change.words} | {where} | {shown} |")
                print(lines[-1], file=sys.stderr, flush=True)
    record("gate_repository", lines)
    if wrong:
        sys.exit(f"not as it should be: {wrong}")


if __name__ == "__main__":
    main()
