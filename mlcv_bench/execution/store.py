"""A store: one JSON line for everything that was measured, on disk before the next measurement starts."""

from __future__ import annotations

import json
import os
from typing import IO, TYPE_CHECKING, Any, Self

from mlcv_bench import environment
from mlcv_bench.errors import BaselineError, UsageError
from mlcv_bench.records import SCHEMA_VERSION
from mlcv_bench.system import locked

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mlcv_bench.environment import Environment

SCHEMA = "mlcv-bench/store"
BEGINNING = b'{"kind":"run"'
"""How every store begins, however early it was torn."""
LARGEST = 2**28
"""Bytes of a store: a quarter of a gibibyte."""


class Store:
    """An append-only file of JSON lines, each with a kind and a key; nothing written is ever changed.

    A run that was killed leaves at most one half line at the end, which the next run cuts off.
    """

    def __init__(self, path: Path, study: str, *, resume: bool, device: str | None = None) -> None:
        """Open `path` for one study, reading what is there when resuming.

        `device` says which accelerator computes, with its driver and switches.

        Raises:
            UsageError: it exists and `resume` is False, is no store of this study, or another run has it open.
            BaselineError: it was written on another machine or accelerator, or with another torch.

        """
        self.path, self._device = path, device
        self.lines: list[dict[str, Any]] = []
        _refuse_existing(path, resume=resume)
        self._file: IO[bytes] = _opened(path)
        try:
            self._read(study)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        """Return the open store."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self._file.close()

    def _read(self, study: str) -> None:
        if os.fstat(self._file.fileno()).st_size > LARGEST:
            raise UsageError(f"{self.path} is larger than {LARGEST:,} bytes; choose another --store")
        whole = self._file.read()
        end = whole.rfind(b"\n") + 1
        if not end and not BEGINNING.startswith(whole[: len(BEGINNING)]):
            raise UsageError(f"{self.path} is no store of `{study}`, version {SCHEMA_VERSION}; choose another --store")
        for number, line in enumerate(whole[:end].splitlines(), start=1):
            try:
                read = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise UsageError(f"{self.path}, line {number}, is no JSON; give a file that --store wrote") from error
            if not isinstance(read, dict) or not all(isinstance(read.get(name), str) for name in ("kind", "key")):
                raise UsageError(f"{self.path}, line {number}, has no kind and key; give a file that --store wrote")
            self.lines.append(read)
        now = environment.capture(device=self._device)
        if self.lines:
            self._refuse_another(study, now)
        # Only a store loses its torn line; another file stays as it is.
        self._file.truncate(end)
        self._file.seek(end)
        if not self.lines:
            header = {"schema": SCHEMA, "version": SCHEMA_VERSION, "study": study}
            self.append("run", "", {**header, "environment": now.as_dict()})

    def _refuse_another(self, study: str, now: Environment) -> None:
        header, kept = self.lines[0], self.lines[0].get("environment")
        if header.get("schema") != SCHEMA or header.get("version") != SCHEMA_VERSION or header.get("study") != study:
            raise UsageError(f"{self.path} is no store of `{study}`, version {SCHEMA_VERSION}; choose another --store")
        if changed := differences(kept if isinstance(kept, dict) else {}, now):
            raise BaselineError(f"{self.path} was measured under another {', another '.join(changed)}; start a new one")

    def of_kind(self, kind: str) -> dict[str, list[dict[str, Any]]]:
        """Return the lines of one kind, by their key, in the order they were written."""
        found: dict[str, list[dict[str, Any]]] = {}
        for line in self.lines:
            if line["kind"] == kind:
                found.setdefault(line["key"], []).append(line)
        return found

    def append(self, kind: str, key: str, values: dict[str, Any]) -> None:
        """Write one line and wait until the disk has it.

        Raises:
            UsageError: the disk is full, or fails.

        """
        line = {"kind": kind, "key": key, **values}
        try:
            self._file.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            reason = error.strerror or error
            raise UsageError(f"--store {self.path} cannot be written: {reason}; make room, then --resume") from error
        self.lines.append(line)


def check_store(store: Path | None, outputs: Sequence[Path], *, resume: bool) -> None:
    """Refuse a store that cannot be, before anything is measured.

    Raises:
        UsageError: --resume without a store, no such folder, a store that exists without --resume, or one that is
            also among the `outputs`, which would replace it.

    """
    if store is None:
        if resume:
            raise UsageError("--resume continues a store; add --store PATH")
        return
    if not store.parent.is_dir():
        raise UsageError(f"--store {store}: the folder {store.parent} does not exist; create it or choose another")
    _refuse_existing(store, resume=resume)
    if store.resolve() in {path.resolve() for path in outputs}:
        raise UsageError(f"-o and --store both name {store}; keep the store in a file of its own")


def _refuse_existing(path: Path, *, resume: bool) -> None:
    if not resume and path.exists() and path.stat().st_size:
        raise UsageError(f"--store {path} exists already; add --resume to continue it, or choose another")


def _opened(path: Path) -> IO[bytes]:
    if path.exists() and not path.is_file():
        raise UsageError(f"--store {path} is no file; choose another place")
    try:
        file = path.open("r+b") if path.exists() else path.open("x+b")
    except OSError as error:
        raise UsageError(f"--store {path} cannot be opened: {error.strerror}; choose another place") from error
    if not locked(file):
        file.close()
        raise UsageError(f"--store {path} is in use by another run; wait for it, or choose another")
    return file


def differences(before: dict[str, Any], now: Environment) -> list[str]:
    """Return what decides a figure and differs between a saved environment and this one."""
    after = now.as_dict()
    changed = [name for name in ("cpu", "usable_cores", "machine") if before.get(name) != after[name]]
    versions = before.get("versions")
    if not isinstance(versions, dict) or versions.get("torch") != after["versions"].get("torch"):
        changed.append("torch")
    if before.get("flags", {}) != after["flags"]:
        changed.append("setting of OpenMP or CUDA")
    if before.get("device") != after["device"]:
        changed.append(f"accelerator ({before.get('device') or 'none'}; here {after['device'] or 'none'})")
    return changed
