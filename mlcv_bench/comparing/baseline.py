"""A suite's baseline: what every entry measured at an agreed time, in one file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlcv_bench.comparing.saved import SavedResult, fault_of, read_json, settings_in
from mlcv_bench.errors import BaselineError, UsageError
from mlcv_bench.records import SCHEMA_VERSION

SCHEMA = "mlcv-bench/suite"
KEPT = ("schema", "version", "command", "environment", "columns", "runs")
"""What a baseline keeps of an entry's document, with the settings that no row says; raw samples would only make a
committed file long."""
DEPTH_OF_RUNS = 4
"""Keys down to this depth have lines of their own: details, entries, an entry's name, its keys."""


@dataclass(frozen=True)
class Baseline:
    """The documents of a suite's entries, by their names."""

    path: Path
    entries: Mapping[str, Mapping[str, Any]]
    source: str = ""
    """Where in the file they are, if not they alone are in it."""

    def saved(self, name: str) -> SavedResult:
        """Return what an entry measured.

        Raises:
            BaselineError: the baseline does not hold this entry.

        """
        if name not in self.entries:
            add = f"run the suite at {self.source}" if self.source else f"add it with --update-baseline --only {name}"
            raise BaselineError(f"{self.path} has no entry {name}; {add}")
        return SavedResult.of(f"{self.path} {self.source}".strip(), self.entries[name])


def load_baseline(path: Path) -> Baseline:
    """Read a baseline: what --update-baseline wrote, or the .json that an earlier `run` saved with -o.

    Raises:
        BaselineError: no such file, or another version of it.
        UsageError: the file is something else.

    """
    document = read_json(path, f"there is no baseline {path}; make one with --update-baseline")
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise UsageError(f"{path} is not a suite's baseline; make one with --update-baseline")
    if document.get("version") != SCHEMA_VERSION:
        raise BaselineError(f"{path} has version {document.get('version')}, not {SCHEMA_VERSION}; --update-baseline")
    details = document.get("details")
    entries = details.get("entries") if isinstance(details, dict) else None
    if not isinstance(entries, dict) or not all(isinstance(entry, dict) for entry in entries.values()):
        raise UsageError(f"{path} is not a suite's baseline; make one with --update-baseline")
    for name, entry in entries.items():
        fault = fault_of(entry) if isinstance(entry.get("schema"), str) else "its schema is missing"
        if fault:
            raise UsageError(f"{path}, entry {name}: {fault}; make it anew with --update-baseline --only {name!r}")
    return Baseline(path, entries)


def baseline_text(old: Baseline | None, new: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> str:
    """Return the file of a baseline: the `new` documents, and of the `old` ones those whose entries are in `names`."""
    kept = {} if old is None else {name: entry for name, entry in old.entries.items() if name in names}
    merged = {**kept, **{name: kept_document(entry) for name, entry in new.items()}}
    entries = {name: merged[name] for name in names if name in merged}
    document = {"schema": SCHEMA, "version": SCHEMA_VERSION, "details": {"entries": entries}}
    return one_row_a_line(document) + "\n"


def kept_document(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a saved document is kept for later comparisons."""
    settings = settings_in(document)
    return {key: document[key] for key in KEPT} | ({"settings": settings} if settings else {})


def one_row_a_line(value: Any, depth: int = 0) -> str:  # noqa: ANN401 - any JSON value
    """Write JSON with a row of a table on a line of its own, so that a changed baseline is reviewed line by line."""
    if isinstance(value, dict) and depth < DEPTH_OF_RUNS:
        parts = [f"{json.dumps(key)}: {one_row_a_line(item, depth + 1)}" for key, item in value.items()]
        return _block("{", parts, "}", depth)
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return _block("[", [json.dumps(item, allow_nan=False) for item in value], "]", depth)
    return json.dumps(value, allow_nan=False)


def _block(start: str, parts: list[str], end: str, depth: int) -> str:
    if not parts:
        return start + end
    pad = " " * (depth + 1)
    return start + "\n" + ",\n".join(pad + part for part in parts) + "\n" + " " * depth + end
