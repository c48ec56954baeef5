"""What an installation weighs: disk, seconds and imports of the core, of every extra, and of an earlier revision.

Run `python benchmarks/install_size.py [REVISION]`. The wheels of this checkout and of the revision are built, and each
is installed into fresh environments under constraints.txt, once untimed, so that pip has every file at hand.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness import machine, record

from mlcv_bench.extras import EXTRAS

ROOT = Path(__file__).parent.parent
BEFORE = "ab1be95"
"""The last revision of which everything but small extras was the core."""
COMMANDS = (
    "--help",
    "flops resnext",
    "params resnext",
    "verify resnext",
    "time resnet20 --threads 1 --seconds 1",
    "optim-race",
)
RUNS = 5
LARGE_MB = 10
SIZES = """
import json
from importlib import metadata
files = {one.metadata["Name"]: [file.locate() for file in one.files or []] for one in metadata.distributions()}
sizes = {name: sum(path.stat().st_size for path in map(__import__("pathlib").Path, some) if path.is_file())
         for name, some in files.items()}
print(json.dumps({name: size / 1e6 for name, size in sizes.items() if name not in ("pip", "setuptools")}))
"""


def run(*command: str | Path) -> str:
    """Run a command and return what it printed."""
    return subprocess.run([*map(str, command)], check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT).stdout


def wheel_of(folder: Path, revision: str = "") -> Path:
    """Build the wheel of this checkout, or of a revision."""
    folder.mkdir()
    source = folder / "source" if revision else ROOT
    if revision:
        run("git", "archive", "--output", folder / "source.tar", revision)
        shutil.unpack_archive(folder / "source.tar", source)
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, source)
    (found,) = folder.glob("*.whl")
    return found


class Venv:
    """A fresh environment."""

    def __init__(self, folder: Path) -> None:
        """Make it anew."""
        run(sys.executable, "-m", "venv", "--clear", folder)
        self.python = folder / "bin" / "python"

    def install(self, wheel: Path, extra: str = "") -> float:
        """Install a wheel, with an extra if one is named, and return the seconds."""
        what = f"mlcv-bench[{extra}] @ {wheel.as_uri()}" if extra else wheel
        start = time.perf_counter()
        run(self.python, "-I", "-m", "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt", what)
        return time.perf_counter() - start

    def sizes(self) -> dict[str, float]:
        """Return the megabytes of every distribution, but for pip and setuptools."""
        found: dict[str, float] = json.loads(run(self.python, "-I", "-c", SIZES))
        return found

    def remove(self, names: list[str]) -> None:
        """Take distributions away."""
        run(self.python, "-I", "-m", "pip", "uninstall", "--quiet", "--yes", *names)

    def imports(self, words: str) -> tuple[int, float]:
        """Return how many modules a command imports, and how long that takes, as -X importtime says."""
        command = [str(self.python), "-I", "-X", "importtime", "-m", "mlcv_bench", *words.split()]
        done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=self.python.parent)
        rows = [line for line in done.stderr.splitlines() if line.startswith("import time:")][1:]
        return len(rows), sum(int(row.split("|")[0].partition(":")[2]) for row in rows) / 1e6


def row(*cells: object) -> str:
    """Return a row of a table."""
    return f"| {' | '.join(map(str, cells))} |"


def total(sizes: dict[str, float]) -> float:
    """Return the megabytes of all distributions together."""
    return sum(sizes.values())


def added(venv: Venv, wheel: Path, core: dict[str, float]) -> list[str]:
    """Return a row for each extra: what it adds to the core."""
    rows = []
    for name, extra in EXTRAS.items():
        seconds = venv.install(wheel, name)
        more = {one: size for one, size in venv.sizes().items() if one not in core}
        rows.append(row(f"`{name}`", extra.purpose, len(more), f"{total(more):.0f}", f"{seconds:.0f}"))
        venv.remove([*more])
    return rows


def main(revision: str = BEFORE) -> None:
    """Measure, print and record."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        old, new = wheel_of(folder / "old", revision), wheel_of(folder / "new")
        Venv(folder / "first").install(old)
        Venv(folder / "first").install(new, "all")
        kinds = {f"core at {revision}": (old, ""), "core": (new, ""), "everything": (new, "all")}
        venvs, seconds, sizes = {}, {}, {}
        for at, (kind, what) in enumerate(kinds.items()):
            venvs[kind] = Venv(folder / str(at))
            seconds[kind] = venvs[kind].install(*what)
            sizes[kind] = venvs[kind].sizes()
        imports = {
            words: [[venvs[kind].imports(words) for kind in list(kinds)[:2]] for _ in range(RUNS + 1)][1:]
            for words in COMMANDS
        }
        extras = added(venvs["core"], new, sizes["core"])
    before, core, everything = sizes.values()
    large = sorted((name for name in everything if everything[name] >= LARGE_MB), key=lambda name: -everything[name])
    lines = [
        "# What an installation weighs",
        "",
        f"{machine()}. Fresh environments, pip's files at hand; megabytes of 10^6 bytes, pip and setuptools left out.",
        "",
        "| installed | distributions | MB | without torch | seconds |",
        "|:---|---:|---:|---:|---:|",
        *(
            row(
                kind,
                len(found),
                f"{sum(found.values()):.0f}",
                f"{sum(found.values()) - found['torch']:.0f}",
                f"{s:.0f}",
            )
            for (kind, found), s in zip(sizes.items(), seconds.values(), strict=True)
        ),
        "",
        "| extra | for | distributions more | MB more | seconds |",
        "|:---|:---|---:|---:|---:|",
        *extras,
        "",
        f"| distribution from {LARGE_MB} MB | MB | core at {revision} | core |",
        "|:---|---:|:---:|:---:|",
        *(row(name, f"{everything[name]:.0f}", *("yes" * (name in kind) for kind in (before, core))) for name in large),
        "",
        f"Imports, as `python -X importtime` counts and times them, the two in turn; medians of {RUNS}.",
        "",
        f"| command | modules at {revision} | modules | seconds at {revision} | seconds |",
        "|:---|---:|---:|---:|---:|",
    ]
    for words, pairs in imports.items():
        modules = [statistics.median(pair[side][0] for pair in pairs) for side in (0, 1)]
        taken = [statistics.median(pair[side][1] for pair in pairs) for side in (0, 1)]
        lines.append(row(f"`{words}`", *(f"{one:.0f}" for one in modules), *(f"{one:.2f}" for one in taken)))
    record("install_size", lines)


if __name__ == "__main__":
    main(*sys.argv[1:])
