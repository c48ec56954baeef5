"""Random arguments, damaged files, killed and terminated runs: a result or one sentence, nothing lost, nothing twice.

Run `python benchmarks/hostile.py [--share 0.1]`. What is tried in process runs in a fork of this one, with an empty
folder of its own; the kills are real processes. Everything is seeded.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import io
import json
import os
import random
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness import machine, python, record

TRIALS = {"argument lists": 1000, "damaged weights": 600, "suites": 400, "saved files": 600}
ENDS = 20
LIMIT_S = 20.0
"""A command that runs so long is sent SIGTERM, and has as long again to end."""
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
FAULTS = ("Traceback (most recent call last)", "which is a fault of mlcv-bench")
ESCAPE = "\x1b[31mred\x1b[0m"


@dataclass
class Tally:
    """What became of the trials of one kind."""

    codes: collections.Counter[int] = field(default_factory=collections.Counter)
    wrong: list[str] = field(default_factory=list)
    counts: collections.Counter[str] = field(default_factory=collections.Counter)

    def take(self, what: str, code: int, out: str, errors: str, right: set[int]) -> None:
        """Count a command that ended; `right` are the exit codes it may have."""
        self.codes[code] += 1
        faults = {
            "tracebacks": any(fault in errors for fault in FAULTS),
            "wrong exit codes": code not in right,
            "control characters": bool(CONTROL.search(out + errors)),
            "not one sentence": code == 2 and errors.count("mlcv-bench: ") != 1 and "Usage: " not in errors,
        }
        self.counts.update(name for name, found in faults.items() if found)
        if any(faults.values()):
            self.wrong.append(f"{[name for name, found in faults.items() if found]} {code} {what!r:.300}: {errors!r}")


def forked(arguments: Sequence[str], folder: Path, limit_s: float = LIMIT_S) -> tuple[int, str, str]:
    """Run a command in a fork of this process, which has torch loaded; return exit code, stdout and stderr."""
    out, errors = folder / "stdout", folder / "stderr"
    child = os.fork()
    if not child:
        code = 99
        try:
            os.setsid()
            os.chdir(folder)
            for number, path in ((1, out), (2, errors)):
                os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            for number, name in ((1, "stdout"), (2, "stderr")):
                setattr(sys, name, open(number, "w", encoding="utf-8", errors="backslashreplace", closefd=False))  # noqa: SIM115 - a descriptor
            sys.argv = ["mlcv-bench", *arguments]
            from mlcv_bench.__main__ import main  # noqa: PLC0415 - in the fork alone

            main()
        except SystemExit as leaving:
            code = leaving.code if isinstance(leaving.code, int) else 1
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)
    code = waited(child, limit_s)
    kill_group(child)
    return code, out.read_text(encoding="utf-8", errors="replace"), errors.read_text("utf-8", errors="replace")


def waited(child: int, limit_s: float) -> int:
    """Wait for a fork; one that takes too long is terminated, then killed."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        end = time.monotonic() + limit_s
        while time.monotonic() < end:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.002)
        os.kill(child, number)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill_group(leader: int) -> None:
    """End whatever a trial started and left."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


VALUES = (
    *("", "0", "-1", "1", "2", "3", "٣", "²", "9" * 5000, "1e999", "1e-400", "nan", "inf", "-inf", "0x10", "1_000"),
    *("18446744073709551616", "2%", "200%", "1,2", ",", "a:b", ":", "x.py:y", "net.py:Net", "net.py:", "os:system"),
    *("resnet20", "vgg", "canyon", "sphere", "x**2+y**2", "(" * 4000 + "x", "adam", "sgd:lr=0.1", "sgd:lr=", "digits"),
    *("lr=0.1", "width=8", "3x8x8", "3x224x224", "0x0x0", "x:int64:1x4", "--", "-", "-o", "--help", "cpu", "cuda:99"),
    *("a.csv", "a.json", "a.md", "a.png", "a.svg", "a.xml", "/dev/null", "/nonexistent/a.csv", "net.py", "cost.json"),
    *("suite.toml", ESCAPE, "\u202eabc", "\udcff", "🙂", "%s%n", "$(id)", "{0}", "x" * 10_000, "tcp://127.0.0.1:1"),
)
QUICK = {"--steps": "3", "--seconds": "0.1", "--epochs": "1", "--rates": "2", "--trials": "1", "--starts": "2"}
PLAIN = (
    *("flops resnet20", "params vgg11 --format csv", "summary resnet20 --depth 2", "diff resnet18 resnet34", "env"),
    *("list optimizers", "width resnet50", "draw resnet20 -o a.svg", "figures", "claims --id 1.1-sphere"),
    *("flops net.py:Net --input 3x8x8 --set width=8 -o a.json", "verify weight-decay", "report cost.json -o a.md"),
    *("compare cost.json cost.json", "time resnet20 --seconds 0.1 --threads 1", "run suite.toml -o a.xml"),
    *("time net.py:Net --input 3x8x8 --dry-run", "verify net.py:Net net.py:Net --input 3x8x8"),
    "optim-race --surface canyon --optimizer sgd --protocol default --steps 30 -o a.png",
    "optim-race --surface x**2+y**2 --optimizer adam:lr=0.1 --start '1 2' --steps 30",
    "lr-sweep --surface sphere --optimizer sgd --steps 20",
    "basins --surface himmelblau --steps 20 --size 20x20",
)
RIGHT = {0, 1, 2, 3, 4, 5, 143}
"""SIGTERM ends a list that asks for something long; a claim that changed, a pair that differs and a limit give 1."""
NETWORK = """
import torch

class Net(torch.nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Conv2d(3, width, 3), torch.nn.BatchNorm2d(width))

    def forward(self, x):
        return self.layers(x)
"""


def argument_lists(chance: random.Random, folder: Path) -> tuple[list[str], set[int]]:
    """Return one random command line: a command, options of its own, values that fit and that do not."""
    from mlcv_bench.cli.app import COMMANDS, load_command  # noqa: PLC0415 - after the environment is set

    (folder / "net.py").write_text(NETWORK)
    (folder / "cost.json").write_text(json.dumps(saved_documents()["cost"]))
    (folder / "suite.toml").write_text('[entries.a]\ncommand = "list"\n')
    if chance.random() < 0.5:
        words = shlex.split(chance.choice(PLAIN))
        for _ in range(chance.randrange(3)):
            place = chance.randrange(len(words) + 1)
            words[place : place + chance.randrange(2)] = [chance.choice((*VALUES, *words))] * chance.randrange(3)
        return words, RIGHT
    name = chance.choice(list(COMMANDS))
    words = name.split() if chance.random() > 0.02 else [chance.choice(VALUES)]
    options = [one for one in load_command(name).params if one.opts[0].startswith("-")]
    known = {option for one in options for option in one.opts}
    words += [word for option, value in QUICK.items() if option in known for word in (option, value)]
    words += [chance.choice(VALUES) for _ in range(chance.randrange(3))]
    for option in chance.sample(options, min(len(options), chance.randrange(5))):
        words.append(chance.choice(option.opts))
        if not option.is_flag and chance.random() > 0.05:
            words.append(chance.choice(VALUES))
    if chance.random() < 0.05:
        words.append("--" + "".join(chance.choices("abcdefgh-=\x1b", k=6)))
    return words, RIGHT


def bytes_damaged(content: bytes, chance: random.Random) -> bytes:
    """Return bytes with some changed, or a piece taken out, doubled or cut off."""
    whole = bytearray(content)
    begin = chance.randrange(len(whole))
    end = min(len(whole), begin + chance.randrange(1, 60))
    kind = chance.randrange(5)
    if kind == 0:
        for place in (chance.randrange(len(whole)) for _ in range(chance.choice((1, 3, 30)))):
            whole[place] = chance.randrange(256)
    elif kind == 1:
        del whole[begin:end]
    elif kind == 2:
        whole[begin:begin] = whole[begin:end]
    elif kind == 3:
        del whole[begin:]
    else:
        whole[begin:end] = chance.randbytes(end - begin)
    return bytes(whole)


def damaged_weights(chance: random.Random, folder: Path) -> tuple[list[str], set[int]]:
    """Return a command that reads a damaged file of weights."""
    import torch  # noqa: PLC0415 - after the environment is set
    from safetensors.torch import save  # noqa: PLC0415 - as above

    (folder / "net.py").write_text(NETWORK)
    scope: dict[str, Any] = {}
    exec(NETWORK, scope)  # noqa: S102 - the text above
    state = scope["Net"]().state_dict()
    suffix = chance.choice((".pth", ".pt", ".bin", ".safetensors"))
    written = io.BytesIO()
    if suffix == ".safetensors":
        content = save(state)
    else:
        torch.save(state, written, _use_new_zipfile_serialization=chance.random() < 0.5)
        content = written.getvalue()
    content = bytes_damaged(content, chance)
    if suffix != ".safetensors" and chance.random() < 0.1:
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a/data.pkl", bytes(chance.choice((10**3, 10**8))))
        content = packed.getvalue()
    (folder / f"w{suffix}").write_bytes(content)
    # 1: damage to a name leaves weights that are whole and do not fit.
    return ["summary", "net.py:Net", "--input", "3x8x8", "--weights", f"w{suffix}"], {0, 1, 2}


SUITE = {
    "": {"title": "a suite", "baseline": "b.baseline.json"},
    "[entries.one]": {
        "command": "flops resnet20 --batch 2 -- resnet32",
        "max_params": 300_000,
        "must_match_baseline": True,
    },
    "[entries.two]": {
        "command": ["time", "resnet20", "--threads", "1", "--seconds", "1"],
        "max_median_s": 0.5,
        "max_slowdown": "5%",
        "timeout_s": 60,
    },
    "[entries.three]": {"command": "optim-race --surface canyon --protocol theory", "must_reach": True},
}
TOML_VALUES = (True, -1, 0, 10**400, 1e300, [], [[1]], [1, "a"], "1979-05-27", "'" + ESCAPE, "[" * 3000, *VALUES)


def suites(chance: random.Random, folder: Path) -> tuple[list[str], set[int]]:
    """Return the check of a suite with a wrong key, value, word or byte."""
    tables: dict[str, dict[str, Any]] = {head: dict(table) for head, table in SUITE.items()}
    for _ in range(chance.choice((0, 1, 1, 2))):
        table = tables[chance.choice(list(tables))]
        key = chance.choice(list(table))
        words = table[key].split() if key == "command" and isinstance(table[key], str) else []
        if words and chance.random() < 0.7:
            words[chance.randrange(len(words))] = chance.choice(VALUES)
            table[key] = chance.choice((words, " ".join(words)))
        elif chance.random() < 0.3:
            table[chance.choice(VALUES)] = table.pop(key)
        else:
            table[key] = chance.choice(TOML_VALUES)
    lines = [
        line
        for head, table in tables.items()
        for line in (head, *(f"{json.dumps(key)} = {json.dumps(value)}" for key, value in table.items()))
    ]
    content = "\n".join(lines).encode("utf-8", "surrogateescape")
    if chance.random() < 0.25:
        content = bytes_damaged(content, chance)
    (folder / "s.toml").write_bytes(content)
    return ["run", "s.toml", "--dry-run", *(["--only", chance.choice(VALUES)] if chance.random() < 0.1 else [])], {0, 2}


def saved_documents() -> dict[str, Any]:
    """Return saved results of several studies, made once by the commands themselves."""
    if not DOCUMENTS:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            for study, command in {
                "cost": "flops resnet20 resnet32",
                "race": "optim-race --surface sphere --steps 20 --optimizer sgd --protocol default",
                "time": "time resnet20 --threads 1 --seconds 0.2",
                "verify": "verify weight-decay",
                "suite": "run suite.toml",
            }.items():
                (folder / "suite.toml").write_text('[entries.a]\ncommand = "flops resnet20"\nmax_params = 1\n')
                code, _, errors = forked([*shlex.split(command), "-o", f"{study}.json"], folder, limit_s=600)
                if code not in {0, 1}:
                    raise SystemExit(f"{command} ended with {code}: {errors}")
                DOCUMENTS[study] = json.loads((folder / f"{study}.json").read_text())
    return DOCUMENTS


DOCUMENTS: dict[str, Any] = {}
PARTS = (None, True, -1, 10**400, 1e300, "", ESCAPE, "x" * 5000, [], {}, [[1]], {"a": {"b": [1]}}, ["columns"], "nan")


def places_in(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value inside a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from places_in(inner, (*path, key))


def saved_files(chance: random.Random, folder: Path) -> tuple[list[str], set[int]]:
    """Return a command that reads a saved result whose structure or bytes are damaged."""
    study = chance.choice(list(saved_documents()))
    whole = json.dumps(saved_documents()[study])
    (folder / "whole.json").write_text(whole)
    document = json.loads(whole)
    for _ in range(chance.choice((1, 1, 3))):
        *path, last = chance.choice(list(places_in(document)))
        parent = document
        for key in path:
            parent = parent[key]
        if chance.random() < 0.2:
            del parent[last]
            break
        parent[last] = chance.choice(PARTS)
    text = json.dumps(document)
    if chance.random() < 0.15:
        text = "[" * 100_000 if chance.random() < 0.2 else text.replace(": ", ": " + '{"a":' * 2000, 1)
    content = bytes_damaged(text.encode(), chance) if chance.random() < 0.3 else text.encode()
    (folder / "damaged.json").write_bytes(content)
    # A store is read whole before anything is shown.
    lines = [json.dumps({"kind": "run", "key": "", **{key: document.get(key) for key in ("schema", "environment")}})]
    (folder / "store.jsonl").write_bytes(bytes_damaged("\n".join([*lines, text, ""]).encode(), chance))
    pair = chance.sample(["whole.json", "damaged.json"], 2)
    command = chance.choice(
        (
            ["compare", *pair],
            ["compare", *pair, "--format", "json"],
            ["report", "damaged.json", "--format", chance.choice(("table", "markdown", "csv", "json"))],
            ["report", *pair, "-o", "r.md"],
            ["time", "resnet20", "--dry-run", "--resume", "--store", "store.jsonl"],
        )
    )
    return command, {0, 1, 2, 4}


def tried(kind: Callable[[random.Random, Path], tuple[list[str], set[int]]], number: int) -> Tally:
    """Try so many of a kind."""
    tally = Tally()
    for trial in range(number):
        chance = random.Random(f"{kind.__name__} {trial}")  # noqa: S311 - seeded on purpose
        with tempfile.TemporaryDirectory() as name:
            words, right = kind(chance, Path(name))
            words = [word.replace("\0", "") for word in words]
            tally.take(f"trial {trial}: {words}", *forked(words, Path(name)), right)
    return tally


COMMANDS_TO_END = {
    "time": "time resnet20 resnet8 --threads 1 --seconds 0.5 --store store.jsonl -o found.json",
    "task race": "optim-race --task digits --optimizer sgd --optimizer adam --epochs 1 --rates 3 --seeds 2 --workers 2 "
    "--store store.jsonl -o found.json",
    "run": "run suite.toml -o found.json",
    "ab": "ab resnet8 resnet8 --seconds 2 -o found.json",
}
LATEST_S = 10.0
"""A command is ended by then: `ab` starts process after process for a minute, all alike."""
ENTRIES = '[entries.{}]\ncommand = "{}"\n'
SUITE_TO_END = "".join(
    ENTRIES.format(name, command)
    for name, command in {
        "a": "flops resnet20",
        "b": "time resnet8 --threads 1 --seconds 0.3",
        "c": "optim-race --surface canyon --protocol theory",
        "d": "verify weight-decay",
        "e": "list",
    }.items()
)


def ended(name: str, by: signal.Signals, number: int) -> tuple[Tally, dict[str, int]]:
    """Start a command so many times, end each at a random moment, look what it left, and finish what can be resumed."""
    tally, counts = Tally(), dict.fromkeys(("ended", "lost", "twice", "left running"), 0)
    chance = random.Random(f"{name} {by}")  # noqa: S311 - picks moments
    command = shlex.split(COMMANDS_TO_END[name])
    with tempfile.TemporaryDirectory() as place:
        whole = run_until(command, Path(place), LATEST_S, signal.SIGTERM)[3]
    for trial in range(number):
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            code, out, errors, _ = run_until(command, folder, chance.uniform(0.2, 0.95) * whole, by)
            ending = code in {-signal.SIGKILL, 128 + by}
            counts["ended"] += ending
            right = {-signal.SIGKILL, 0} if by == signal.SIGKILL else {128 + by, 0}
            tally.take(f"{name}, trial {trial}", code, out, errors, right)
            counts["left running"] += left_running(place)
            faults = found_wrong(name, folder, shown=by != signal.SIGKILL)
            if ending and "--store" in command:
                more = ["--resume"] if (folder / "store.jsonl").exists() else []
                before = whole_lines(folder / "store.jsonl")
                code, out, errors, _ = run_until([*command, *more], folder, None, by)
                tally.take(f"{name}, trial {trial}, resumed", code, out, errors, {0})
                faults += ["lost"] * (whole_lines(folder / "store.jsonl")[: len(before)] != before)
                faults += found_wrong(name, folder, shown=True)
            for fault in faults:
                counts[fault] += 1
                tally.wrong.append(f"{fault}: {name}, trial {trial}")
    return tally, counts


def run_until(
    command: Sequence[str], folder: Path, moment_s: float | None, by: signal.Signals
) -> tuple[int, str, str, float]:
    """Run a command, sending it a signal after so many seconds; return exit code, stdout, stderr and seconds."""
    (folder / "suite.toml").write_text(SUITE_TO_END)
    start = time.perf_counter()
    with (folder / "stdout").open("w+") as out, (folder / "stderr").open("w+") as errors:
        process = subprocess.Popen(
            python("-m", "mlcv_bench", *command),
            stdout=out,
            stderr=errors,
            cwd=folder,
            env=os.environ | {"HOSTILE_TRIAL": str(folder)},
        )
        try:
            code = process.wait(moment_s)
        except subprocess.TimeoutExpired:
            process.send_signal(by)
            code = process.wait(120)
        seconds = time.perf_counter() - start
        out.seek(0)
        errors.seek(0)
        return code, out.read(), errors.read(), seconds


def left_running(mark: str) -> int:
    """Return how many processes of a trial still live two seconds after it, and end them."""
    end = time.monotonic() + 2
    while found := [one for one in Path("/proc").iterdir() if one.name.isdigit() and marked(one, mark)]:
        if time.monotonic() > end:
            break
        time.sleep(0.05)
    for one in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(one.name), signal.SIGKILL)
    return len(found)


def marked(process: Path, mark: str) -> bool:
    """Tell whether a living process belongs to a trial."""
    try:
        return f"HOSTILE_TRIAL={mark}\0".encode() in (process / "environ").read_bytes()
    except OSError:
        return False


def whole_lines(store: Path) -> list[bytes]:
    """Return the complete lines of a store."""
    content = store.read_bytes() if store.exists() else b""
    return content[: content.rfind(b"\n") + 1].splitlines()


def found_wrong(name: str, folder: Path, *, shown: bool) -> list[str]:
    """Return what is lost and what stands twice in a trial's store and result."""
    lines = [json.loads(line) for line in whole_lines(folder / "store.jsonl")]
    keys = [line["key"] for line in lines if line["kind"] in {"row", "job"}]
    faults = ["twice"] * (len(keys) - len(set(keys)))
    path = folder / "found.json"
    if not path.exists():
        return faults + ["lost"] * bool(keys and shown)
    runs = json.loads(path.read_text())["runs"]
    if name == "run":
        entries = [row["entry"] for row in runs]
        faults += ["twice"] * (len(entries) - len(set(entries)))
    if name == "time" and shown:
        done = {row["key"] for row in runs if row["status"] != "skipped"}
        faults += ["lost"] * len(set(keys) - done)
    return faults


def main() -> None:
    """Try everything, print one table, and write it down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--share", type=float, default=1.0, help="so much of all trials")
    parser.add_argument("--only", help="this kind alone")
    asked = parser.parse_args()
    import torch  # noqa: PLC0415, F401 - loaded once, for every fork

    import mlcv_bench.cli.app  # noqa: PLC0415, F401 - as above

    makers = dict(zip(TRIALS, (argument_lists, damaged_weights, suites, saved_files), strict=True))
    faults = ("tracebacks", "wrong exit codes", "control characters", "not one sentence")
    lines = ["# Hostile input, and runs that are ended", "", f"{machine()}.", ""]
    if asked.share != 1.0 or asked.only:
        lines += [f"Only a share of {asked.share:g} of all trials{f', of {asked.only} alone' * bool(asked.only)}.", ""]
    lines += [f"| tried | number | exit codes | {' | '.join(faults)} |", f"| :--- | ---: | :--- |{' ---: |' * 4}"]
    wrong: list[str] = []
    for kind, number in TRIALS.items():
        if asked.only in {None, kind}:
            tally = tried(makers[kind], round(number * asked.share))
            codes = ", ".join(f"{code}: {count}" for code, count in sorted(tally.codes.items()))
            counts = " | ".join(str(tally.counts[fault]) for fault in faults)
            lines.append(f"| {kind} | {tally.codes.total()} | {codes} | {counts} |")
            wrong += tally.wrong
    lines += ["", "| ended | by | number | before its end | lost | twice | left running | tracebacks | exit codes |"]
    lines += ["| :--- | :--- |" + " ---: |" * 6 + " :--- |"]
    for name in COMMANDS_TO_END:
        for by in (signal.SIGKILL, signal.SIGTERM):
            if asked.only in {None, name}:
                number = max(1, round(ENDS * asked.share))
                tally, found = ended(name, by, number)
                codes = ", ".join(f"{code}: {count}" for code, count in sorted(tally.codes.items()))
                counts = " | ".join(str(count) for count in found.values())
                lines.append(f"| {name} | {by.name} | {number} | {counts} | {tally.counts['tracebacks']} | {codes} |")
                wrong += tally.wrong
    sys.stderr.writelines(f"{line}\n" for line in wrong)
    record("hostile", lines)
    if wrong:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
