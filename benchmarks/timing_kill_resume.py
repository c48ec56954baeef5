"""kill -9 at random moments of a sweep, then --resume: every cell once, and nothing written before ever changed."""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from harness import machine, python, record

GRID = ["time", "resnet20", "resnet32", "--batch", "1,2", "--threads", "1", "--seconds", "2", "--quiet"]
CELLS = 4


def sweep(store: Path, *more: str) -> subprocess.Popen[bytes]:
    """Start the sweep into `store`."""
    command = python("-m", "mlcv_bench", *GRID, "--store", str(store), *more)
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def complete(content: bytes) -> bytes:
    """Return the whole lines of a file."""
    return content[: content.rfind(b"\n") + 1]


def main() -> None:
    """Kill, resume, and look for anything lost, repeated or changed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    kills = parser.parse_args().kills
    chance = random.Random(0)  # noqa: S311 - picks moments
    done, killed, finished_first, problems, at_blocks = 0, 0, 0, [], []
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "sweep.jsonl"
        start = time.perf_counter()
        sweep(store).wait()
        whole = time.perf_counter() - start
        store.unlink()
        while done < kills:
            before = store.read_bytes() if store.exists() else b""
            process = sweep(store, *(["--resume"] if store.exists() else []))
            time.sleep(chance.uniform(0.3, whole))
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                killed += 1
            else:
                finished_first += 1
            process.communicate()
            done += 1
            after = store.read_bytes() if store.exists() else b""
            at_blocks.append(after.count(b'"kind":"block"'))
            if not after.startswith(complete(before)):
                problems.append(f"kill {done}: earlier lines changed")
            rows = after.count(b'"kind":"row"')
            if rows == CELLS or done == kills:
                kept = complete(after)
                final = sweep(store, "--resume")
                _, errors = final.communicate()
                if final.returncode:
                    problems.append(f"after kill {done}: exit {final.returncode}, {errors.decode()[-200:]}")
                content = store.read_bytes()
                if not content.startswith(kept):
                    problems.append(f"after kill {done}: earlier lines changed")
                lines = [json.loads(line) for line in content.splitlines()]
                keys = [line["key"] for line in lines if line["kind"] == "row"]
                if sorted(set(keys)) != sorted(keys) or len(keys) != CELLS:
                    problems.append(f"after kill {done}: rows {keys}")
                store.unlink()
    lines = [
        "# Killed and resumed",
        "",
        f"Machine: {machine()}.",
        f"A sweep of {CELLS} cells takes {whole:.1f} s; {done} runs of it were to be killed at a random moment",
        f"(SIGKILL) between 0.3 and {whole:.1f} s, each continuing the store of the one before it until complete.",
        "",
        f"- {killed} were killed, {finished_first} had finished by then.",
        f"- Blocks on disk at each of those moments: {', '.join(map(str, at_blocks))}.",
        f"- Cells lost, measured twice, or lines that changed: {'; '.join(problems) or 'none'}.",
    ]
    record("timing_kill_resume", lines)
    if problems:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
