"""A suite's baseline: what every entry measured at an agreed time, in one file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlcv_bench.errors import BaselineError, UsageError
from mlcv_bench.names import first_line
from mlcv_bench.records import SCHEMA_VERSION
from mlcv_bench.report.baseline import Saved
from mlcv_bench.report.files import save_text

SCHEMA = "mlcv-bench/suite"
KEPT = ("schema", "version", "command", "environment", "columns", "runs")
"""What a baseline keeps of an entry's document: raw samples would only make a committed file long."""


@dataclass(frozen=True)
class Baseline:
    """The documents of a suite's entries, by their names."""

    path: Path
    entries: Mapping[str, Mapping[str, Any]]

    def saved(self, name: str) -> Saved:
        """Return what an entry measured.

        Raises:
            BaselineError: the baseline does not hold this entry.

        """
        if name not in self.entries:
            raise BaselineError(f"{self.path} has no entry {name}; add it with --update-baseline --only {name}")
        document = self.entries[name]
        study = str(document["schema"]).removeprefix("mlcv-bench/")
        return Saved(str(self.path), study, document["runs"], document["environment"])


def load_baseline(path: Path) -> Baseline:
    """Read a baseline: what --update-baseline wrote, or the .json that an earlier `run` saved with -o.

    Raises:
        BaselineError: no such file, or another version of it.
        UsageError: the file is something else.

    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BaselineError(f"there is no baseline {path}; make one with --update-baseline") from error
    except (OSError, ValueError) as error:
        raise UsageError(f"the baseline {path} cannot be read: {first_line(error)}") from error
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise UsageError(f"{path} is no baseline of a suite; make one with --update-baseline")
    if document.get("version") != SCHEMA_VERSION:
        raise BaselineError(f"{path} has version {document.get('version')}, not {SCHEMA_VERSION}; --update-baseline")
    entries = document.get("details", {}).get("entries")
    whole = isinstance(entries, dict) and all(
        isinstance(entry, dict) and {"schema", "environment", "runs"} <= entry.keys() for entry in entries.values()
    )
    if not whole:
        raise UsageError(f"{path} is no baseline of a suite; make one with --update-baseline")
    return Baseline(path, entries)


def save_baseline(path: Path, old: Baseline | None, new: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> None:
    """Write a baseline: the `new` documents, and of the `old` ones those whose entries the suite still has."""
    kept = {} if old is None else {name: entry for name, entry in old.entries.items() if name in names}
    merged = {**kept, **{name: {key: entry[key] for key in KEPT} for name, entry in new.items()}}
    entries = {name: merged[name] for name in names if name in merged}
    document = {"schema": SCHEMA, "version": SCHEMA_VERSION, "details": {"entries": entries}}
    save_text(path, json.dumps(document, indent=1, allow_nan=False) + "\n")
