"""Reading back what -o saved: refused in one sentence unless it is whole enough to be compared."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from mlcv_bench.errors import BaselineError, UsageError
from mlcv_bench.names import bounded_text, first_line
from mlcv_bench.optimizers.schedule import CONSTANT, STEP_COLUMNS, step_columns
from mlcv_bench.records import SCHEMA_VERSION, plain_text
from mlcv_bench.timing.request import CELL_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class ComparisonRule:
    """How one study's rows are matched, and what in them may not change."""

    keys: tuple[str, ...]
    exact: tuple[str, ...] = ()
    """Compared as they are; larger is worse where it is a number, different where it is a word."""
    outcomes: tuple[str, ...] = ()
    """Words or truths that are a regression whenever they change for the worse, or change at all."""
    timed: bool = False
    fingerprints: bool = False
    """Whether rows are fingerprints, which are the same within their tolerance."""
    repeats: bool = False
    """Whether several rows may have the same keys, as a control that two proofs must detect; they keep their order."""
    ratio: bool = False
    """Whether its rows are ratios of times, each with its interval."""
    calls: str = ""
    """The column that names operators and how often each is called."""
    settings: Callable[[Mapping[str, Any]], dict[str, Any]] = lambda _details: {}
    """Reads the settings that no row says from the saved details; they must be equal in both files."""


SURFACE_SETTINGS = ("parameters", "steps", "target", "noise", "batch_size")
TASK_SETTINGS = ("epochs", "target", *STEP_COLUMNS, "image_size", "fingerprint", "checks", "drop_last", "device")


def _race_settings(details: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: details.get(name) for name in SURFACE_SETTINGS} if "surface" in details else {}
    if found:
        # As in a file from before there were schedules.
        found |= step_columns(CONSTANT, None) | {name: details[name] for name in STEP_COLUMNS if name in details}
    setups = details.get("setups")
    for setup in setups if isinstance(setups, list) else ():
        # A setting that is off may have come after the older of two files.
        where = f"on {setup.get('task')} with {setup.get('model')}"
        found |= {f"{name} {where}": setup.get(name) or None for name in TASK_SETTINGS}
    return found


RULES: Mapping[str, ComparisonRule] = {
    "cost": ComparisonRule(
        ("architecture", "input", "batch", "options"),
        exact=("params", "macs", "activations", "weight_bytes", "peak_activation_bytes"),
        calls="operator_calls",
    ),
    "time": ComparisonRule(
        tuple(name for name in CELL_COLUMNS if name != "seed"),
        exact=("params", "macs"),
        outcomes=("status",),
        timed=True,
    ),
    "verify": ComparisonRule(
        ("subject", "case", "quantity", "dtype", "mode", "device", "proof", "seed"),
        outcomes=("passed", "control_detected"),
        repeats=True,
    ),
    "fingerprint": ComparisonRule(
        ("network", "input", "weights", "mode", "scale", "quantity", "seed"), fingerprints=True
    ),
    "claims": ComparisonRule(("id",), outcomes=("verdict",)),
    "ab": ComparisonRule(
        ("base", "head"),
        exact=("base_params", "head_params", "base_macs", "head_macs"),
        outcomes=("verdict",),
        ratio=True,
    ),
    "suite": ComparisonRule(("entry", "limit"), outcomes=("verdict",)),
    "optim-race": ComparisonRule(
        ("surface", "task", "model", "optimizer", "protocol", "start", "batch_size", "seed", "epoch"),
        exact=("first_hit", "last_exit"),
        outcomes=("outcome", "status"),
        settings=_race_settings,
    ),
}
"""Every study whose saved files can be compared."""

FIGURE = ("median_s", "ci_low_s", "ci_high_s")
RATIO = ("ratio", "ci_low", "ci_high")
CLOCKS = ("cpu", "wall")
LARGEST = 2**28
"""Bytes of a saved result: a quarter of a gibibyte."""
NUMBERS = (
    *FIGURE,
    *(f"{clock}_{name}" for clock in CLOCKS for name in FIGURE),
    *RATIO,
    "idle_s",
    *dict.fromkeys(name for rule in RULES.values() for name in rule.exact),
)
"""The columns that are calculated with."""


@dataclass(frozen=True, slots=True)
class SavedResult:
    """A file that -o wrote: which study, what was found, where, and what of its settings no row says."""

    path: str
    study: str
    runs: Sequence[Mapping[str, Any]]
    environment: Mapping[str, Any]
    settings: Mapping[str, Any] = field(default_factory=dict)
    document: Mapping[str, Any] = field(default_factory=dict)
    """The whole file, for who shows it again."""
    entries: Mapping[str, SavedResult] = field(default_factory=dict)
    """Of a suite's file: what each entry saved."""

    @classmethod
    def of(cls, path: str, document: Mapping[str, Any]) -> SavedResult:
        """Return what a whole document holds, and `path` to name it by in messages."""
        study, runs = study_of(document), document["runs"]
        entries = {name: cls.of(f"{path}, entry {name}", entry) for name, entry in entries_of(document).items()}
        return cls(path, study, runs, document["environment"], settings_in(document), document, entries)


def load(path: Path) -> SavedResult:
    """Read a JSON document that -o saved, as `load_document` does."""
    return SavedResult.of(str(path), load_document(path))


def load_document(path: Path) -> Mapping[str, Any]:
    """Read a JSON document that -o saved, whole.

    Raises:
        BaselineError: the file is missing.
        UsageError: it is not such a document.

    """
    document = read_json(path, f"{path} does not exist; save one with -o {path.name}")
    schema = document.get("schema", "") if isinstance(document, dict) else ""
    if not str(schema).startswith("mlcv-bench/"):
        raise UsageError(f"{path} is not a saved result; give a .json that `mlcv-bench COMMAND -o` saved")
    if document.get("version") != SCHEMA_VERSION:
        raise UsageError(f"{path} has version {document.get('version')}, not {SCHEMA_VERSION}; measure it anew")
    if document["schema"] == "mlcv-bench/suite":
        # A baseline holds the entries alone.
        document = {"runs": [], "environment": {}} | document
    for name, entry in {"": document, **entries_of(document)}.items():
        whole = isinstance(entry, dict) and isinstance(entry.get("schema"), str)
        if fault := fault_of(entry) if whole else "it is no result":
            where = f"{path}, entry {name}," if name else path
            raise UsageError(f"{where} is not a complete result: {fault}; save it anew with -o {path.name}")
    checked: Mapping[str, Any] = document
    return checked


def entries_of(document: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    """Return the documents of a suite's entries, of what `run` saved or of a baseline; of another file none."""
    details = document.get("details") if study_of(document) == "suite" else None
    entries = details.get("entries") if isinstance(details, dict) else None
    found: Mapping[str, Mapping[str, Any]] = entries if isinstance(entries, dict) else {}
    return found


def study_of(document: Mapping[str, Any]) -> str:
    """Return the study that a document is of, as its schema says."""
    return str(document["schema"]).removeprefix("mlcv-bench/")


def settings_in(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the settings that no row says: of a baseline as it keeps them, of a whole result from its details."""
    kept: Mapping[str, Any] | None = document.get("settings")
    return kept if kept is not None else settings_of(study_of(document), document.get("details", {}))


def settings_of(study: str, details: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a study's saved details must be equal for two files to have asked the same."""
    return RULES[study].settings(details) if study in RULES else {}


def measured_rows(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the rows that hold a result; those that failed or were skipped hold none."""
    return list(filter(is_measured, document["runs"]))


def is_measured(row: Mapping[str, Any]) -> bool:
    """Tell whether a row holds a result."""
    return row.get("status") in {None, "", "done"}


def row_name(study: str, row: Mapping[str, Any]) -> str:
    """Name a row by all of its settings; those that are empty, false or called "default" are left out."""
    words = []
    for key in RULES[study].keys if study in RULES else ("base", "head"):
        value = row.get(key)
        if value is None or value is False or plain_text(value) in {"", "default"}:
            continue
        # A bare number or a bare yes would mean nothing.
        named = isinstance(value, int | float | list)
        words.append(key if value is True else f"{key}={plain_text(value)}" if named else plain_text(value))
    return " ".join(words)


def row_names(study: str, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Name all rows of a result by their settings; of rows with equal ones the second has `(2)` behind it."""
    seen: Counter[str] = Counter()
    names = []
    for row in rows:
        name = row_name(study, row)
        seen[name] += 1
        names.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return names


def read_json(path: Path, missing: str) -> Any:  # noqa: ANN401 - any JSON value
    """Read a JSON file, in which every number is finite.

    Raises:
        BaselineError: there is none; it says `missing`.
        UsageError: it cannot be read.

    """
    try:
        return json.loads(bounded_text(path, LARGEST), parse_constant=_refuse_number)
    except FileNotFoundError as error:
        raise BaselineError(missing) from error
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} cannot be read: {first_line(error)}; give a .json that -o saved") from error


def _refuse_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number in JSON")


def fault_of(document: Mapping[str, Any]) -> str:
    """Return why a saved document cannot be compared, in words; nothing where it can."""
    runs = document.get("runs")
    if not isinstance(runs, list) or not all(isinstance(run, dict) for run in runs):
        return "its runs are no list of rows"
    for key, needed in (("environment", True), ("details", False), ("settings", False)):
        if (key in document or needed) and not isinstance(document.get(key), dict):
            return f"its {key} is missing" if key not in document else f"its {key} is no table"
    for run in runs:
        for name in NUMBERS:
            if not _is_number(run.get(name)):
                return f"a row's {name} is {run[name]!r:.40}, which is no finite number"
        for name, value in run.items():
            parts = value if isinstance(value, list) else [value]
            if any(isinstance(part, dict | list) for part in parts):
                return f"a row's {name:.40} is {value!r:.40}, which is no plain value"
        if not isinstance(run.get("contention") or "", str):
            return "a row's contention is no text"
    return ""


def _is_number(value: Any) -> bool:  # noqa: ANN401 - any JSON value
    if value is None:
        return True
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        return False
