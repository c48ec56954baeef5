"""A saved file against another: rows matched by their settings, exact figures exactly, times by their intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from mlcv_bench.errors import BaselineError, UsageError
from mlcv_bench.records import SCHEMA_VERSION, Column, Report, Table, plain_text
from mlcv_bench.report.saved import fault_of, read_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

Change = Literal["better", "worse", "changed", "same", "undecided", "missing", "added"]
"""`undecided` is a time whose interval holds the limit, or that other load on the machine may have made what it is."""


@dataclass(frozen=True, slots=True)
class Rule:
    """How one study's rows are matched, and what in them may not change."""

    keys: tuple[str, ...]
    exact: tuple[str, ...] = ()
    """Compared as they are; larger is worse where it is a number, different where it is a word."""
    outcomes: tuple[str, ...] = ()
    """Words or truths that are a regression whenever they change for the worse, or change at all."""
    timed: bool = False
    question: Callable[[Mapping[str, Any]], dict[str, Any]] = lambda _details: {}
    """Reads the settings that no row says from the saved details; they must be equal in both files."""


SURFACE_SETTINGS = ("parameters", "steps", "target", "noise", "batch_size")
TASK_SETTINGS = ("epochs", "target", "schedule", "image_size", "fingerprint", "checks")


def _race_settings(details: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: details.get(name) for name in SURFACE_SETTINGS} if "surface" in details else {}
    setups = details.get("setups")
    for setup in setups if isinstance(setups, list) else ():
        where = f"on {setup.get('task')} with {setup.get('model')}"
        found |= {f"{name} {where}": setup.get(name) for name in TASK_SETTINGS}
    return found


TIME_KEYS = (
    "architecture",
    "input",
    "device",
    "runtime",
    "dtype",
    "memory_format",
    "batch",
    "threads",
    "pass",
    "fold_batch_norm",
    "settings",
    "weights",
)
RULES: Mapping[str, Rule] = {
    "cost": Rule(
        ("architecture", "input", "batch", "options"),
        exact=("params", "macs", "activations", "weight_bytes", "peak_activation_bytes"),
    ),
    "time": Rule(TIME_KEYS, outcomes=("status",), timed=True),
    "verify": Rule(("subject", "case", "quantity", "dtype", "mode", "device"), outcomes=("passed", "control_detected")),
    "claims": Rule(("id",), outcomes=("verdict",)),
    "optim-race": Rule(
        ("surface", "task", "model", "optimizer", "protocol", "start", "batch_size", "seed", "epoch"),
        exact=("first_hit", "last_exit"),
        outcomes=("outcome", "status"),
        question=_race_settings,
    ),
}
"""Every study whose saved files can be compared."""

FIGURE = ("median_s", "ci_low_s", "ci_high_s")
CLOCKS = ("cpu", "wall")
NUMBERS = (
    *FIGURE,
    *(f"{clock}_{name}" for clock in CLOCKS for name in FIGURE),
    "idle_s",
    *dict.fromkeys(name for rule in RULES.values() for name in rule.exact),
)
"""The columns that are calculated with."""

ENVIRONMENT = ("cpu", "machine", "usable_cores", "system", "python", "versions", "flags", "threads", "device", "host")
# What may differ between two files whose times can still be held against each other.
HARMLESS = ("host", "system", "python")
# A timing's rows say their threads; the process had those of the block that happened to be the last one.
SAID_IN_ROWS = ("threads",)
LONGEST_SETTING = 60


@dataclass(frozen=True, slots=True)
class Saved:
    """A file that -o wrote: which study, what was found, where, and what of its settings no row says."""

    path: str
    study: str
    runs: Sequence[Mapping[str, Any]]
    environment: Mapping[str, Any]
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Difference:
    """One quantity of one row in both files; `ratio` is new over base, with its interval where there is one."""

    row: str
    quantity: str
    change: Change
    base: Any = None
    new: Any = None
    ratio: float | None = None
    ratio_low: float | None = None
    ratio_high: float | None = None
    reason: str = ""
    """Why a time is undecided."""

    @property
    def is_time(self) -> bool:
        """Whether it is a time, by whichever clock."""
        return self.quantity.endswith("median_s")


@dataclass(frozen=True)
class Verdict:
    """Everything that two files differ in."""

    study: str
    differences: Sequence[Difference]
    environment: Sequence[str] = ()
    advisory: bool = False
    """Whether times were taken under circumstances too unlike to be held against each other."""
    matched: int = 0
    regressions: Sequence[Difference] = field(default_factory=tuple)


def load(path: Path) -> Saved:
    """Read a JSON document that -o saved.

    Raises:
        BaselineError: the file is missing.
        UsageError: it is no such document.

    """
    try:
        document = read_json(path)
    except FileNotFoundError as error:
        raise BaselineError(f"{path} does not exist; save one with -o {path.name}") from error
    schema = document.get("schema", "") if isinstance(document, dict) else ""
    if not str(schema).startswith("mlcv-bench/"):
        raise UsageError(f"{path} is no saved result; give a .json that `mlcv-bench COMMAND -o` saved")
    if document.get("version") != SCHEMA_VERSION:
        raise UsageError(f"{path} has version {document.get('version')}, not {SCHEMA_VERSION}; measure it anew")
    if fault := fault_of(document, NUMBERS):
        raise UsageError(f"{path} is no whole result: {fault}; save it anew with -o {path.name}")
    study = schema.removeprefix("mlcv-bench/")
    settings = settings_of(study, document.get("details", {}))
    return Saved(str(path), study, document["runs"], document["environment"], settings)


def settings_of(study: str, details: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a study's saved details must be equal for two files to have asked the same."""
    return RULES[study].question(details) if study in RULES else {}


def compare_saved(base: Saved, new: Saved, fail_above: float = 0.05) -> Verdict:
    """Match the rows of two files and judge every difference.

    Counts are compared exactly. A time is worse only when the two intervals lie apart by more than `fail_above`,
    the same only when both lie within it, undecided otherwise or where other load may have made it so, and only
    advisory when the environments differ in what decides a time. Equal settings include the batch.

    Raises:
        BaselineError: the files hold different studies, were asked different questions, or have no row in common.

    """
    if base.study != new.study:
        raise BaselineError(f"{base.path} holds '{base.study}' and {new.path} '{new.study}'; compare two of one kind")
    if base.study not in RULES:
        raise UsageError(f"'{base.study}' has nothing to compare; `compare` knows {', '.join(RULES)}")
    rule = RULES[base.study]
    _refuse_unlike_settings(base, new)
    before, after = _by_key(base, rule), _by_key(new, rule)
    shared = [key for key in before if key in after]
    if not shared:
        raise BaselineError(f"{base.path} and {new.path} have no row in common; measure the same names and settings")
    names = _names(rule, [*before.values(), *after.values()])
    changed = environment_differences(base.environment, new.environment, ignoring=SAID_IN_ROWS if rule.timed else ())
    advisory = rule.timed and any(name not in HARMLESS for name, _ in changed)
    found: list[Difference] = []
    for key in shared:
        found += _compared(names(before[key]), before[key], after[key], rule, fail_above)
    found += [Difference(names(row), "row", "missing") for key, row in before.items() if key not in after]
    found += [Difference(names(row), "row", "added") for key, row in after.items() if key not in before]
    bad = [one for one in found if one.change in {"worse", "changed"} and not (advisory and one.is_time)]
    return Verdict(base.study, found, [text for _, text in changed], advisory, len(shared), tuple(bad))


def _refuse_unlike_settings(base: Saved, new: Saved) -> None:
    one, other = base.settings, new.settings
    for name in one:
        if name in other and one[name] != other[name]:
            values = [_settings_text(side[name]) for side in (one, other)]
            told = f": {values[0]} and {values[1]}" if all(values) else ""
            raise BaselineError(f"{base.path} and {new.path} differ in {name}{told}; run both with the same settings")


def _settings_text(value: Any) -> str:  # noqa: ANN401 - any plain value
    """Return a setting in a few words; nothing for one that would fill the line."""
    text = ", ".join(f"{key} {part}" for key, part in value.items()) if isinstance(value, dict) else _figure(value)
    return text if len(text) < LONGEST_SETTING else ""


def load_met(row: Mapping[str, Any], allowed_s: float = math.inf) -> str:
    """Return what else the machine did while a row was timed; empty where it was quiet or nothing was timed.

    Empty too where the row was idle for longer than `allowed_s`: load makes nobody sleep.
    """
    flags = row.get("contention")
    return "" if flags in {None, "", "none"} or (row.get("idle_s") or 0.0) > allowed_s else str(flags)


def environment_differences(
    base: Mapping[str, Any], new: Mapping[str, Any], *, ignoring: Sequence[str] = ()
) -> list[tuple[str, str]]:
    """Return what differs between two environments: its name, and both values in words."""
    found = []
    for name in (name for name in ENVIRONMENT if name not in ignoring):
        one, other = base.get(name), new.get(name)
        if one == other:
            continue
        if isinstance(one, dict) and isinstance(other, dict):
            parts = [key for key in sorted({*one, *other}) if one.get(key) != other.get(key)]
            text = "; ".join(f"{key} {one.get(key, 'none')} -> {other.get(key, 'none')}" for key in parts)
            found.append((name, f"{name}: {text}"))
        else:
            found.append((name, f"{name}: {one} -> {other}"))
    return found


def _by_key(saved: Saved, rule: Rule) -> dict[tuple[str, ...], Mapping[str, Any]]:
    rows: dict[tuple[str, ...], Mapping[str, Any]] = {}
    for run in saved.runs:
        key = tuple(plain_text(run.get(name)) for name in rule.keys)
        if key in rows:
            raise UsageError(f"{saved.path} holds two rows for {', '.join(part for part in key if part)}; keep one")
        rows[key] = run
    return rows


class _Namer:
    """Names a row by its first key and every other key that varies."""

    def __init__(self, rule: Rule, rows: Sequence[Mapping[str, Any]]) -> None:
        self._keys = [
            key for place, key in enumerate(rule.keys) if place == 0 or len({str(row.get(key)) for row in rows}) > 1
        ]

    def __call__(self, row: Mapping[str, Any]) -> str:
        words = [(key, plain_text(row.get(key))) for key in self._keys]
        # A number or a truth means nothing without its name.
        return ", ".join(
            f"{key} {text}" if isinstance(row.get(key), int | float) else text for key, text in words if text
        )


def _names(rule: Rule, rows: Sequence[Mapping[str, Any]]) -> _Namer:
    return _Namer(rule, rows)


def _compared(
    name: str, base: Mapping[str, Any], new: Mapping[str, Any], rule: Rule, fail_above: float
) -> list[Difference]:
    found = [_exactly(name, quantity, base.get(quantity), new.get(quantity)) for quantity in rule.exact]
    found += [_outcome(name, quantity, base.get(quantity), new.get(quantity)) for quantity in rule.outcomes]
    if rule.timed and base.get("median_s") and new.get("median_s"):
        found.append(_timed(name, base, new, fail_above))
    return [one for one in found if not (one.base is None and one.new is None)]


def _exactly(name: str, quantity: str, base: Any, new: Any) -> Difference:  # noqa: ANN401 - numbers, or missing
    if base == new:
        return Difference(name, quantity, "same", base, new, 1.0)
    if base is None or new is None:
        # A race that no longer hits its target has lost its number; one that now does has won one.
        return Difference(name, quantity, "better" if base is None else "worse", base, new)
    return Difference(name, quantity, "worse" if new > base else "better", base, new, new / base if base else None)


GOOD = (True, "done", "converged", "holds")


def _outcome(name: str, quantity: str, base: Any, new: Any) -> Difference:  # noqa: ANN401 - words or truths
    if base == new:
        return Difference(name, quantity, "same", base, new)
    change: Change = "better" if new in GOOD else "worse" if base in GOOD else "changed"
    return Difference(name, quantity, change, base, new)


def shared_clock(base: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Return the prefix of the columns by which two rows can be compared.

    It is empty where both figures rest on one clock, and otherwise that of a clock that timed both, such as `wall_`.

    Raises:
        BaselineError: there is none.

    """
    bases = base.get("basis"), new.get("basis")
    if bases[0] == bases[1]:
        return ""
    shared = [clock for clock in CLOCKS if base.get(f"{clock}_median_s") and new.get(f"{clock}_median_s")]
    if not shared:
        raise BaselineError(
            f"{new.get('architecture')}: its time rests on the clock '{bases[0]}' in one file and '{bases[1]}' in the "
            "other, and they share none; measure both anew with this version"
        )
    return f"{shared[0]}_"


def time_ratio(base: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[float, float, float]:
    """Return the new row's median over the base's, and the smallest and largest that both intervals leave open.

    Raises:
        BaselineError: no clock timed both.

    """
    prefix = shared_clock(base, new)
    (one, least, most), (other, low, high) = (_figures(row, prefix) for row in (base, new))
    return other / one, low / most, high / least


def _figures(row: Mapping[str, Any], prefix: str) -> tuple[float, float, float]:
    middle, *ends = (prefix + name for name in FIGURE)
    low, high = (row.get(name) or row[middle] for name in ends)
    return row[middle], low, high


def _timed(name: str, base: Mapping[str, Any], new: Mapping[str, Any], fail_above: float) -> Difference:
    quantity = f"{shared_clock(base, new)}median_s"
    ratio, low, high = time_ratio(base, new)
    limit = 1 + fail_above
    change: Change = "worse" if low > limit else "better" if high < 1 / limit else "same"
    reason = ""
    # Load makes a time longer: the new run's may be all there is to a regression, the base's alone may hide one.
    if change == "worse" and load_met(new, limit * base[quantity]):
        reason = f"the new run met other load ({load_met(new)})"
    elif change != "worse" and load_met(base):
        reason = f"the base met other load ({load_met(base)})"
    elif change == "same" and high > limit:
        reason = f"{low:.3f} .. {high:.3f} holds the limit of {limit:g}"
    if reason:
        change = "undecided"
    return Difference(name, quantity, change, base[quantity], new[quantity], ratio, low, high, reason)


COLUMNS = ("row", "quantity", "change", "base", "new", "ratio", "ratio_low", "ratio_high")
SHOWN = (
    Column("row", "row", justify="left"),
    Column("quantity", "quantity", justify="left"),
    Column("base", "base"),
    Column("new", "new"),
    Column("ratio", "ratio", format=".4f"),
    Column("interval", "interval"),
    Column("change", "change", justify="left"),
)


def comparison_report(verdict: Verdict) -> Report:
    """Return every difference as a run, and what changed as a table."""
    rows: list[dict[str, Any]] = []
    for one in verdict.differences:
        interval = f"{one.ratio_low:.3f} .. {one.ratio_high:.3f}" if one.ratio_low and one.ratio_high else None
        rows.append({name: getattr(one, name) for name in COLUMNS} | {"interval": interval})
    # A time is shown even when it is the same: the ratio and its interval are the answer.
    changed = [row for row in rows if row["change"] != "same" or row["interval"]]
    shown = [row | {"base": _figure(row["base"]), "new": _figure(row["new"])} for row in changed]
    tables = [Table("What changed", SHOWN, shown)] if shown else []
    same = len(rows) - sum(row["change"] != "same" for row in rows)
    notes = [f"{verdict.matched} rows in both files, {same} of {len(rows)} quantities the same."]
    undecided = [one for one in verdict.differences if one.change == "undecided"]
    if undecided:
        told = "; ".join(f"{one.row}: {one.reason}" for one in undecided)
        notes.append(f"{len(undecided)} time(s) undecided, for `ab` to decide: {told}.")
    if verdict.advisory:
        notes.append("The times are advisory: the environments differ in what decides a time.")
    notes.append(
        f"{len(verdict.regressions)} regression(s): {'; '.join(_told(one) for one in verdict.regressions)}."
        if verdict.regressions
        else "No regression."
    )
    warnings = [f"environments differ in {text}" for text in verdict.environment]
    runs = [{name: row[name] for name in COLUMNS} for row in rows]
    return Report("compare", COLUMNS, runs, tables, notes, warnings)


def _told(one: Difference) -> str:
    ratio = f" ({one.ratio:.3f} times)" if one.ratio is not None else ""
    return f"{one.row}: {one.quantity} {_figure(one.base)} -> {_figure(one.new)}{ratio}"


def _figure(value: Any) -> str:  # noqa: ANN401 - any plain value
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return plain_text(value) or "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.6g}"
