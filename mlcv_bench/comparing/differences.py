"""A saved file against another: rows matched by their settings, exact figures exactly, times by their intervals."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from mlcv_bench.architectures.fingerprints import distance
from mlcv_bench.comparing.saved import CLOCKS, FIGURE, RATIO, RULES, ComparisonRule, SavedResult, row_names
from mlcv_bench.errors import BaselineError, UsageError
from mlcv_bench.records import interval_text, plain_text
from mlcv_bench.statistics import Interval, ratio_of_intervals

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Change = Literal["better", "worse", "changed", "same", "undecided", "missing", "added"]
"""`undecided` is a time whose interval holds the limit, or that other load on the machine may have made what it is."""

ENVIRONMENT = ("cpu", "machine", "usable_cores", "system", "python", "versions", "flags", "threads", "device", "host")
# What may differ between two files whose times can still be held against each other.
HARMLESS = ("host", "system", "python")
# A timing's rows say their threads; the process had those of the block that happened to be the last one.
SAID_IN_ROWS = ("threads",)
LONGEST_SETTING = 60
OPERATORS = "operators"
MOST_OPERATORS = 6
WHOLE_BELOW = 1e15
LOAD_EXPLAINS = 2.0
"""How many times the processor time of a call may grow beside other load: half a core where two threads share one, and
a quarter for caches and memory was seen."""


@dataclass(frozen=True, slots=True)
class RowDifference:
    """One quantity of one row in both files; `ratio` is new over base, with its interval where there is one."""

    row: str
    quantity: str
    change: Change
    base: Any = None
    new: Any = None
    ratio: float | None = None
    ratio_low: float | None = None
    ratio_high: float | None = None
    reason: str = field(default="", metadata={"hidden": True})
    """Why a time is undecided."""
    key: str = field(default="", metadata={"hidden": True})
    """The row's name by all of its settings, as `row_names` gives it."""

    @property
    def is_time(self) -> bool:
        """Whether it is a time, by whichever clock, or a ratio of two."""
        return self.quantity.endswith("median_s") or self.quantity == "ratio"

    @property
    def direction(self) -> str:
        """What became of it in one word or two: smaller, bigger, other operators, missing, or what `change` says."""
        if self.change in {"missing", "added", "same"}:
            return self.change
        if self.quantity == OPERATORS:
            return {"better": "fewer operators", "worse": "more operators"}.get(self.change, "other operators")
        numbers = [value for value in (self.base, self.new) if isinstance(value, int | float)]
        if len(numbers) == 2 and not any(isinstance(value, bool) for value in numbers):  # noqa: PLR2004 - both
            return "smaller" if self.new < self.base else "bigger"
        return self.change

    @property
    def texts(self) -> tuple[str, str]:
        """Base and new for people."""
        return figure_text(self.base, self.quantity), figure_text(self.new, self.quantity)

    def __str__(self) -> str:
        """Say it in one line."""
        if self.quantity == "row":
            return f"{self.row} is {self.change}"
        base, new = self.texts
        return f"{self.row}: {self.quantity} {base} -> {new} ({self.direction})"


@dataclass(frozen=True)
class Verdict:
    """Everything that two files differ in."""

    study: str
    differences: Sequence[RowDifference]
    environment: Sequence[str] = ()
    advisory: bool = False
    """Whether times were taken under circumstances too unlike to be held against each other."""
    matched: int = 0
    regressions: Sequence[RowDifference] = ()

    def departures(self, *, smaller: bool = False) -> list[RowDifference]:
        """Return everything but times that is not as it was, in either direction.

        With `smaller`, what became smaller or better is left out.
        """
        kinds = {"worse", "changed", "missing"} if smaller else {"worse", "changed", "missing", "better"}
        return [one for one in self.differences if one.change in kinds and not one.is_time]


def compare_saved(base: SavedResult, new: SavedResult, fail_above: float = 0.05) -> Verdict:
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
    if base.study == "suite":
        return _compared_suites(base, new, fail_above)
    return _compared_rows(base, new, RULES[base.study], fail_above)


def _compared_suites(base: SavedResult, new: SavedResult, fail_above: float) -> Verdict:
    """Compare what was judged, and what every entry measured; one that asks another question now is missing."""
    parts = [("", _compared_rows(base, new, RULES["suite"], fail_above))] if base.runs and new.runs else []
    found: list[RowDifference] = []
    for name in dict.fromkeys([*base.entries, *new.entries]):
        before, after = base.entries.get(name), new.entries.get(name)
        if before is None or after is None:
            found.append(RowDifference(name, "row", "missing" if after is None else "added"))
            continue
        try:
            parts.append((f"{name}: ", compare_saved(before, after, fail_above)))
        except BaselineError as error:
            found.append(RowDifference(name, "row", "missing", reason=str(error)))
    if not parts and not found:
        raise BaselineError(f"{base.path} and {new.path} hold no entries; run the suite with -o {new.path}")

    def named(title: str, rows: Sequence[RowDifference]) -> list[RowDifference]:
        return [replace(one, row=f"{title}{one.row}") for one in rows]

    return Verdict(
        base.study,
        [one for title, part in parts for one in named(title, part.differences)] + found,
        list(dict.fromkeys(text for _, part in parts for text in part.environment)),
        any(part.advisory for _, part in parts),
        sum(part.matched for _, part in parts),
        [one for title, part in parts for one in named(title, part.regressions)],
    )


def _compared_rows(base: SavedResult, new: SavedResult, rule: ComparisonRule, fail_above: float) -> Verdict:
    _refuse_unlike_settings(base, new)
    before, after = _by_key(base, rule), _by_key(new, rule)
    shared = [key for key in before if key in after]
    if not shared:
        raise BaselineError(f"{base.path} and {new.path} have no row in common; measure the same names and settings")
    names = _namer(rule, [*before.values(), *after.values()])
    changed = environment_differences(base.environment, new.environment, ignoring=SAID_IN_ROWS if rule.timed else ())
    advisory = (rule.timed or rule.ratio) and any(name not in HARMLESS for name, _ in changed)
    found: list[RowDifference] = []
    same_torch = torch_of(base) == torch_of(new)
    whole = dict(zip(after, row_names(new.study, new.runs), strict=True))
    for key in shared:
        ones = _compared(names(before[key]), before[key], after[key], rule, fail_above)
        if rule.calls and same_torch:  # another torch may take a function apart in other operators
            ones += _called(names(before[key]), before[key].get(rule.calls), after[key].get(rule.calls))
        found += [replace(one, key=whole[key]) for one in ones]
    found += [RowDifference(names(row), "row", "missing") for key, row in before.items() if key not in after]
    found += [RowDifference(names(row), "row", "added") for key, row in after.items() if key not in before]
    bad = [one for one in found if one.change in {"worse", "changed"} and not (advisory and one.is_time)]
    return Verdict(base.study, found, [text for _, text in changed], advisory, len(shared), tuple(bad))


def _refuse_unlike_settings(base: SavedResult, new: SavedResult) -> None:
    one, other = base.settings, new.settings
    for name in one:
        if name in other and one[name] != other[name]:
            values = [_settings_text(side[name]) for side in (one, other)]
            both = f": {values[0]} and {values[1]}" if all(values) else ""
            raise BaselineError(f"{base.path} and {new.path} differ in {name}{both}; run both with the same settings")


def _settings_text(value: Any) -> str:  # noqa: ANN401 - any plain value
    """Return a setting in a few words; nothing for one that would fill the line."""
    text = ", ".join(f"{key} {part}" for key, part in value.items()) if isinstance(value, dict) else figure_text(value)
    return text if len(text) < LONGEST_SETTING else ""


def figure_text(value: Any, quantity: str = "") -> str:  # noqa: ANN401 - any plain value
    """Write a number for people, seconds of a `quantity` that has them as milliseconds; anything else as it is."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return plain_text(value) or "-"
    if quantity.endswith("_s"):
        return f"{1e3 * value:,.4g} ms"
    whole = isinstance(value, int) or (value.is_integer() and abs(value) < WHOLE_BELOW)
    return f"{int(value):,}" if whole else f"{value:.6g}"


def load_met(row: Mapping[str, Any], allowed_s: float = math.inf) -> str:
    """Return what else the machine did while a row was timed; empty where it was quiet or nothing was timed.

    Empty too where the row was idle for longer than `allowed_s`, since load makes nobody sleep, or takes longer than
    that by itself.
    """
    flags = row.get("contention")
    explained = max(row.get("idle_s") or 0.0, least_alone_s(row)) <= allowed_s
    return str(flags) if explained and flags not in {None, "", "none"} else ""


def least_alone_s(row: Mapping[str, Any]) -> float:
    """Return what a call of a row takes at least where nothing else runs, by the processor's clock; 0 if unknown."""
    if row.get("basis") == "cpu":
        return float((row.get("ci_low_s") or row.get("median_s") or 0.0) / LOAD_EXPLAINS)
    return float((row.get("unloaded_s") or 0.0) / LOAD_EXPLAINS)


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


def deciding(environment: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of an environment decides a time: two that are equal in it can be held against each other."""
    return {name: environment.get(name) for name in ENVIRONMENT if name not in (*HARMLESS, *SAID_IN_ROWS)}


def _by_key(saved: SavedResult, rule: ComparisonRule) -> dict[tuple[str, ...], Mapping[str, Any]]:
    rows: dict[tuple[str, ...], Mapping[str, Any]] = {}
    seen: Counter[tuple[str, ...]] = Counter()
    for run in saved.runs:
        # A setting that is off may have come after the older of two files.
        key = tuple(plain_text(None if run.get(name) is False else run.get(name)) for name in rule.keys)
        if rule.repeats:
            seen[key] += 1
            key = (*key, str(seen[key]))
        if key in rows:
            raise UsageError(f"{saved.path} holds two rows for {', '.join(part for part in key if part)}; keep one")
        rows[key] = run
    return rows


def torch_of(saved: SavedResult) -> str:
    """Return the version of torch that a file was made with."""
    versions = saved.environment.get("versions")
    return str(versions.get("torch", "")) if isinstance(versions, dict) else ""


def _namer(rule: ComparisonRule, rows: Sequence[Mapping[str, Any]]) -> Callable[[Mapping[str, Any]], str]:
    """Return what names a row by its first key and every other key that varies."""
    keys = [key for place, key in enumerate(rule.keys) if place == 0 or len({str(row.get(key)) for row in rows}) > 1]

    def named(row: Mapping[str, Any]) -> str:
        words = [(key, plain_text(row.get(key))) for key in keys]
        # A number or a truth means nothing without its name.
        return ", ".join(
            f"{key} {text}" if isinstance(row.get(key), int | float) else text for key, text in words if text
        )

    return named


def _compared(
    name: str, base: Mapping[str, Any], new: Mapping[str, Any], rule: ComparisonRule, fail_above: float
) -> list[RowDifference]:
    if rule.fingerprints:
        return [fingerprint_difference(name, base, new)]
    found = [_exactly(name, quantity, base.get(quantity), new.get(quantity)) for quantity in rule.exact]
    found += [_outcome(name, quantity, base.get(quantity), new.get(quantity)) for quantity in rule.outcomes]
    if rule.timed and base.get("median_s") and new.get("median_s"):
        found.append(_timed(name, base, new, fail_above))
    if rule.ratio and base.get("ratio") and new.get("ratio"):
        found.append(_ratio_of_ratios(name, base, new, fail_above))
    return [one for one in found if not (one.base is None and one.new is None)]


def fingerprint_difference(name: str, base: Mapping[str, Any], new: Mapping[str, Any]) -> RowDifference:
    """Compare two fingerprints of one quantity, within the larger of their tolerances."""
    sides = base.get("norm"), new.get("norm")
    if None in sides:
        change: Change = "same" if sides[0] == sides[1] else "changed"
        return RowDifference(name, "norm", change, *sides, reason=str(base.get("reason") or new.get("reason")))
    one, other = ((side["shape"], side["norm"], side["projections"]) for side in (base, new))
    share = distance(one, other)
    allowed = max(base.get("tolerance") or 0.0, new.get("tolerance") or 0.0)
    words = f"differs by {share:.1e} of its norm" if share < math.inf else "has another shape"
    return RowDifference(name, "norm", "same" if share <= allowed else "changed", *sides, reason=words)


def _exactly(name: str, quantity: str, base: Any, new: Any) -> RowDifference:  # noqa: ANN401 - numbers, or missing
    if base == new:
        return RowDifference(name, quantity, "same", base, new, 1.0)
    if base is None or new is None:
        # A race that no longer hits its target has lost its number; one that now does has won one.
        return RowDifference(name, quantity, "better" if base is None else "worse", base, new)
    return RowDifference(name, quantity, "worse" if new > base else "better", base, new, new / base if base else None)


def _called(name: str, base: str | None, new: str | None) -> list[RowDifference]:
    """Compare which operators are called how often, where both files say it."""
    if not base or not new:
        return []
    before, after = _calls(base), _calls(new)
    moved = [one for one in dict.fromkeys([*before, *after]) if before.get(one, 0) != after.get(one, 0)]
    signs = {after.get(one, 0) > before.get(one, 0) for one in moved}
    change: Change = "same" if not moved else "changed" if len(signs) > 1 else "worse" if True in signs else "better"
    texts = []
    for side in (before, after):
        listed = [f"{one} {side[one]}" for one in moved if one in side]
        more = [f"{len(listed) - MOST_OPERATORS} more"] if len(listed) > MOST_OPERATORS else []
        texts.append(", ".join(listed[:MOST_OPERATORS] + more) or "none")
    return [RowDifference(name, OPERATORS, change, texts[0], texts[1])]


def _calls(text: str) -> dict[str, int]:
    """Read `conv2d 5, relu 5`."""
    return {name: int(times) for name, times in re.findall(r"(\S+) (\d+)", text)}


GOOD = ("true", "done", "converged", "holds", "pass", "saved", "same", "faster")
"""What a truth or a word reads where all is well."""
OPEN = ("inconclusive", "advisory", "not run")
"""Outcomes that say nothing."""


def exact_difference(rule: ComparisonRule, name: str, quantity: str, base: Any, new: Any) -> RowDifference:  # noqa: ANN401 - any plain values
    """Tell how a figure of a row changed that is compared as it is: a number, a word, or the calls of operators."""
    if quantity == rule.calls:
        return next(iter(_called(name, base, new)), RowDifference(name, quantity, "same", base, new))
    return (_outcome if quantity in rule.outcomes else _exactly)(name, quantity, base, new)


def _ratio_of_ratios(name: str, base: Mapping[str, Any], new: Mapping[str, Any], fail_above: float) -> RowDifference:
    """Compare what `ab` found twice: B's time over A's, then and now."""
    before, now = (
        Interval(row["ratio"], *(-math.inf if row.get(end) is None else row[end] for end in RATIO[1:]))
        for row in (base, new)
    )
    ratio = ratio_of_intervals(before, now)
    if not ratio.bounded:
        return RowDifference(name, "ratio", "undecided", before.middle, now.middle, ratio.middle, reason="no interval")
    limit = 1 + fail_above
    change: Change = "worse" if ratio.low > limit else "better" if ratio.high < 1 / limit else "same"
    reason = ""
    if change == "same" and ratio.high > limit:
        change, reason = "undecided", f"{interval_text(ratio.low, ratio.high, '.3f')} holds the limit of {limit:g}"
    return RowDifference(name, "ratio", change, before.middle, now.middle, ratio.middle, ratio.low, ratio.high, reason)


def _outcome(name: str, quantity: str, base: Any, new: Any) -> RowDifference:  # noqa: ANN401 - words or truths
    if base == new:
        return RowDifference(name, quantity, "same", base, new)
    if new in OPEN:
        return RowDifference(name, quantity, "undecided", base, new, reason=f"it is {new} now")
    change: Change = "better" if plain_text(new) in GOOD else "worse" if plain_text(base) in GOOD else "changed"
    return RowDifference(name, quantity, change, base, new)


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


def time_ratio(base: Mapping[str, Any], new: Mapping[str, Any]) -> Interval:
    """Return the new row's median over the base's, and the smallest and largest that both intervals leave open.

    Raises:
        BaselineError: no clock timed both.

    """
    return ratio_of_intervals(*timed_figures(base, new))


def timed_figures(base: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[Interval, Interval]:
    """Return both rows' medians with their intervals, by a clock that timed both; raises as `time_ratio` does."""
    prefix = shared_clock(base, new)
    return _figures(base, prefix), _figures(new, prefix)


def _figures(row: Mapping[str, Any], prefix: str) -> Interval:
    middle, *ends = (prefix + name for name in FIGURE)
    low, high = (row.get(name) or row[middle] for name in ends)
    return Interval(row[middle], low, high)


def _timed(name: str, base: Mapping[str, Any], new: Mapping[str, Any], fail_above: float) -> RowDifference:
    quantity = f"{shared_clock(base, new)}median_s"
    ratio = time_ratio(base, new)
    limit = 1 + fail_above
    change: Change = "worse" if ratio.low > limit else "better" if ratio.high < 1 / limit else "same"
    reason = ""
    # Load makes a time longer: the new run's may be all there is to a regression, the base's alone may hide one.
    if change == "worse" and load_met(new, limit * base[quantity]):
        reason = f"the new run met other load ({load_met(new)})"
    elif change != "worse" and load_met(base):
        reason = f"the base met other load ({load_met(base)})"
    elif change == "same" and ratio.high > limit:
        reason = f"{interval_text(ratio.low, ratio.high, '.3f')} holds the limit of {limit:g}"
    if reason:
        change = "undecided"
    figures = base[quantity], new[quantity]
    return RowDifference(name, quantity, change, *figures, ratio.middle, ratio.low, ratio.high, reason)
