"""Judging: an entry's saved result against its limits, one verdict a limit, and one exit code for all."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any, Literal

from mlcv_bench.comparing.baseline import Baseline
from mlcv_bench.comparing.differences import (
    RowDifference,
    Verdict,
    compare_saved,
    least_alone_s,
    load_met,
    time_ratio,
    timed_figures,
    torch_of,
)
from mlcv_bench.comparing.fingerprints import diagnoses
from mlcv_bench.comparing.limits import LIMITS, NO_ACCURACY, OWN_CHECK, SMALLER, Entry, Limit, is_run_of, needs_baseline
from mlcv_bench.comparing.saved import SavedResult, measured_rows, row_name
from mlcv_bench.errors import BaselineError, BenchError, ExitCode
from mlcv_bench.records import counted, interval_text, plain_text
from mlcv_bench.statistics import Interval

Word = Literal["pass", "saved", "advisory", "inconclusive", "no baseline", "failed", "refused", "fail", "not run"]
"""`saved` is a limit whose baseline this run becomes; `advisory` one whose baseline stems from another machine."""

WORST_FIRST = ("fail", "refused", "failed", "no baseline", "inconclusive", "advisory", "saved", "pass")
CODES: Mapping[Word, ExitCode] = {
    "fail": ExitCode.CHECK_FAILED,
    "refused": ExitCode.USAGE,
    "failed": ExitCode.TRIALS_FAILED,
    "no baseline": ExitCode.BASELINE,
}
STRICT_CODES: Mapping[Word, ExitCode] = {"inconclusive": ExitCode.INCONCLUSIVE, "advisory": ExitCode.BASELINE}


RESOLVE = "must_resolve"
SPARE = 1.2
"""How much longer than the estimate is advised, as the interval's width is chance too."""
LONGEST_ADVISED_S = 3600.0


@dataclass(frozen=True)
class Result:
    """What became of one entry: its exit code, its saved document if there is one, and its last words on stderr."""

    entry: Entry
    code: int
    document: dict[str, Any] | None = None
    words: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Check:
    """One limit of one entry, held against what was measured; `subject` names the row that is nearest to failing."""

    entry: str
    command: str
    limit: str
    verdict: Word
    allowed: float | None = None
    measured: float | None = None
    measured_low: float | None = None
    measured_high: float | None = None
    unit: str = ""
    subject: str = ""
    reason: str = ""
    seconds: float = 0.0
    differences: Sequence[RowDifference] = ()
    """The figures that are not what they should be, where there are several."""

    @property
    def status(self) -> str:
        """The contract's word for what became of the measurement."""
        return {"failed": "failed", "refused": "failed", "not run": "skipped"}.get(self.verdict, "done")


@dataclass(frozen=True, slots=True)
class _Finding:
    verdict: Word
    allowed: float | None = None
    measured: float | None = None
    measured_low: float | None = None
    measured_high: float | None = None
    subject: str = ""
    reason: str = ""
    unit: str = ""
    differences: Sequence[RowDifference] = ()


def judge(result: Result, baseline: Baseline | None, *, updating: bool = False, missing: str = "") -> list[Check]:
    """Hold a result against every limit of its entry; how the command itself ended is a check as well.

    Args:
        result: what running the entry gave.
        baseline: what it is compared with; None when there is none.
        missing: why there is none.
        updating: whether this result becomes the baseline, so that there is nothing to compare it with.

    """
    entry = result.entry
    ended = _ending(result)
    found: list[tuple[str, _Finding]] = []
    if ended is not None:
        found.append(("completes", ended))
    elif left_out := _left_out(result):
        found.append(("completes", left_out))
    if result.document is not None and not (ended and ended.verdict in {"refused", "no baseline"}):
        for name, allowed in entry.limits.items():
            if name == RESOLVE:
                continue
            if updating and needs_baseline(entry.study, LIMITS[name]) and measured_rows(result.document):
                found.append((name, _saved(result, baseline)))
            else:
                found.append((name, _judged(name, allowed, entry, result.document, baseline, missing)))
        if RESOLVE in entry.limits:
            found.append((RESOLVE, _resolved(dict(found), entry.limits[RESOLVE], measured_rows(result.document))))
    return [
        Check(entry.name, entry.command, name, seconds=result.seconds, **_facts(_with_unit(name, one)))
        for name, one in found or [("completes", _Finding("pass"))]
    ]


def _facts(found: _Finding) -> dict[str, Any]:
    return {field.name: getattr(found, field.name) for field in fields(found)}


def not_run(entry: Entry, reason: str) -> list[Check]:
    """Return the checks of an entry that was never started, or not finished."""
    names = list(entry.limits) or ["completes"]
    return [Check(entry.name, entry.command, name, "not run", reason=reason) for name in names]


def exit_code(checks: Iterable[Check], *, strict: bool) -> ExitCode:
    """Return the one code of all checks: the worst, in the order 1, 2, 5, 4, 3; 130 when something was not run."""
    verdicts = {check.verdict for check in checks}
    if "not run" in verdicts:
        return ExitCode.INTERRUPTED
    codes = {**CODES, **(STRICT_CODES if strict else {})}
    present = {codes[verdict] for verdict in verdicts if verdict in codes}
    order = (ExitCode.CHECK_FAILED, ExitCode.USAGE, ExitCode.TRIALS_FAILED, ExitCode.BASELINE, ExitCode.INCONCLUSIVE)
    return next((code for code in order if code in present), ExitCode.DONE)


def _with_unit(name: str, found: _Finding) -> _Finding:
    return replace(found, unit=found.unit or LIMITS[name].unit) if name in LIMITS else found


def _ending(result: Result) -> _Finding | None:
    """Return what the command's own exit code says, or None where it says nothing that a limit does not say."""
    entry, code, words = result.entry, result.code, result.words
    verdicts: dict[int, Word] = {ExitCode.USAGE: "refused", ExitCode.BASELINE: "no baseline"}
    if result.document is None:
        reason = words or f"ended with exit code {code} and saved nothing"
        return _Finding(verdicts.get(code, "failed"), reason=reason)
    if code == ExitCode.DONE or (code == ExitCode.CHECK_FAILED and OWN_CHECK.get(entry.study) in entry.limits):
        return None
    verdicts |= {ExitCode.CHECK_FAILED: "fail", ExitCode.INCONCLUSIVE: "inconclusive"}
    usual: dict[int, str] = {
        ExitCode.CHECK_FAILED: "the command's own check failed",
        ExitCode.INCONCLUSIVE: "it could not decide",
    }
    own = "" if words.startswith("ended with") else words
    reasons = _reasons(result.document["runs"], "failed")
    return _Finding(verdicts.get(code, "failed"), reason=own or reasons or usual.get(code, words))


def _reasons(rows: Sequence[Mapping[str, Any]], status: str) -> str:
    """Return the rows that ended so, each with its reason."""
    ended = [row for row in rows if row.get("status") == status]
    return "; ".join(dict.fromkeys(f"{_name(row)}: {row.get('reason', '')}" for row in ended))


def _left_out(result: Result) -> _Finding | None:
    """Say what was asked for and skipped, and why; `verify` skips by its method, but no subject as a whole."""
    document = result.document
    if document is None:
        return None
    rows = document["runs"]
    if not rows:
        return _Finding("failed", reason="nothing was measured")
    if result.entry.study == "verify":
        compared = {row.get("subject") for row in measured_rows(document)}
        rows = [row for row in rows if row.get("subject") not in compared]
    if not (skipped := _reasons(rows, "skipped")):
        return None
    anything = any(row.get("status") == "done" for row in document["runs"])
    return _Finding("inconclusive" if anything else "failed", reason=f"not measured: {skipped}")


def _judged(
    name: str,
    allowed: Any,  # noqa: ANN401 - as the limit's own reader left it
    entry: Entry,
    document: Mapping[str, Any],
    baseline: Baseline | None,
    missing: str,
) -> _Finding:
    rows = measured_rows(document)
    if not rows:
        return _Finding("failed", reason="nothing was measured that the limit could judge")
    named = list(zip(rows, names_of(rows), strict=True))
    if of_row := _row_judge(name, entry.study):
        return _worst(of_row(row, allowed, subject) for row, subject in named)
    if name in {"must_verify", "must_reach"}:
        return _verified(document["runs"]) if name == "must_verify" else _reached(rows, allowed)
    return _held_against(baseline, missing, entry, document, name, allowed)


def _row_judge(name: str, study: str) -> Callable[[Mapping[str, Any], float, str], _Finding] | None:
    """Return what judges one row by a limit; None for limits of whole results."""
    limit = LIMITS[name]
    if limit.column:
        return partial(_percentile if limit.interval else _at_most, limit)
    if name == "max_slowdown":
        return _ab if study == "ab" else None
    return {"max_median_s": _median, "min_images_per_s": _rate}.get(name)


def _held_against(
    baseline: Baseline | None, missing: str, entry: Entry, document: Mapping[str, Any], name: str, allowed: float
) -> _Finding:
    if baseline is None:
        return _Finding("no baseline", reason=missing or "there is no baseline; make one with --update-baseline")
    new = SavedResult.of(f"this run of {entry.name}", document)
    try:
        before = baseline.saved(entry.name)
        # The share matters to `compare` alone: times are judged here, by their load as well.
        verdict = compare_saved(before, new)
    except BaselineError as error:
        return _Finding("no baseline", reason=str(error))
    except BenchError as error:
        return _Finding("failed", reason=str(error))
    if new.study == "fingerprint":
        return _computes_same(before, new)
    if name == "max_slowdown":
        return _slowdown(before, new, verdict, allowed)
    return _matches(before, new, verdict, smaller=entry.allow == SMALLER)


def _saved(result: Result, baseline: Baseline | None) -> _Finding:
    """Say what becomes the baseline: every figure as it was and as it is; a time that met other load becomes none."""
    if loud := contended(result):
        reason = f"{loud}, so its time becomes no baseline; run it where less else runs"
        return _Finding("no baseline", reason=reason)
    changes: list[RowDifference] = []
    if baseline is not None and result.entry.name in baseline.entries and result.document is not None:
        new = SavedResult.of(f"this run of {result.entry.name}", result.document)
        try:
            found = compare_saved(baseline.saved(result.entry.name), new).differences
        except BenchError as error:
            return _Finding("saved", reason=f"this run is the new baseline; nothing is compared: {error}")
        changes = [one for one in found if one.change != "same"]
    shown = f": {'; '.join(map(str, changes))}" if changes else ""
    same = ", the same as before" if not changes and baseline is not None else ""
    return _Finding("saved", reason=f"this run is the new baseline{same}{shown}")


def contended(result: Result) -> str:
    """Say which timed rows met other load; nothing where none did, or no limit is held against their times."""
    if result.document is None or "max_slowdown" not in result.entry.limits:
        return ""
    rows = result.document["runs"]
    loud = [
        f"{name} met other load ({load_met(row)})"
        for row, name in zip(rows, names_of(rows), strict=True)
        if load_met(row)
    ]
    return ", ".join(loud)


def _worst(found: Iterable[_Finding]) -> _Finding:
    """Return the finding with the worst verdict, the largest figure among equals, naming all that fail."""
    findings = list(found)
    worst = min(findings, key=lambda one: (WORST_FIRST.index(one.verdict), -(one.measured or 0.0)))
    alike = [one.subject for one in findings if one.verdict == worst.verdict]
    if worst.verdict == "pass" or len(alike) < 2:  # noqa: PLR2004 - one alone is the subject itself
        return worst
    reason = "; ".join(filter(None, [worst.reason, f"so {counted(len(alike), 'row')}: {', '.join(alike)}"]))
    every = [line for one in findings if one.verdict == worst.verdict for line in one.differences]
    return replace(worst, reason=reason, differences=every)


def _at_most(limit: Limit, row: Mapping[str, Any], allowed: float, subject: str) -> _Finding:
    column = limit.column
    value = row.get(column)
    if value is None:
        return _Finding("failed", allowed, subject=subject, reason=f"{subject} has no {column}")
    if value <= allowed:
        return _Finding("pass", allowed, value, subject=subject)
    beyond = RowDifference(subject, column, "worse", new=value, reason=f"{value / allowed - 1:+.2%}")
    return _Finding("fail", allowed, value, subject=subject, differences=[beyond])


def _bounded(value: float, low: float, high: float, allowed: float, subject: str, advice: str = "") -> _Finding:
    """Judge an interval against an upper limit: it fails or passes only as a whole; if neither, `advice` says more."""
    verdict: Word = "fail" if low > allowed else "pass" if high <= allowed else "inconclusive"
    reason = f"the interval holds the limit: {advice}" if verdict == "inconclusive" else ""
    return _Finding(verdict, allowed, value, low, high, subject, reason)


def _advice(measured: Interval, spent_s: float, above: float, below: float, *, precision: bool) -> str:
    """Say what would decide a figure, and how long it would take if the figure stays where it is.

    Intervals shrink with the square root of the time.

    Args:
        measured: the figure with its interval.
        spent_s: how long that took; 0 where nobody knows.
        above: what its whole interval must lie above to fail.
        below: what it must lie below to pass.
        precision: whether the command stops at a precision too.

    """
    fails = measured.middle > above
    gap = measured.middle - above if fails else below - measured.middle
    half = measured.middle - measured.low if fails else measured.high - measured.middle
    needed_s = SPARE * spent_s * (half / gap) ** 2 if gap > 0 else math.inf
    if needed_s > LONGEST_ADVISED_S:
        return "so near that an hour of measuring would not decide it; move the limit, or compare both versions by `ab`"
    narrower = f" --precision {max(gap / measured.middle / SPARE, 1e-4):.2%}" if precision else ""
    if not needed_s:
        return f"measure longer{narrower and ','}{narrower}"
    return f"--seconds {max(1, round(needed_s))}{narrower} would decide it"


def _spent_s(row: Mapping[str, Any]) -> float:
    """Return how long a row of `time` was measured, as far as it says."""
    return float((row.get("samples") or 0) * (row.get("median_s") or 0.0))


def _beside_load(found: _Finding, *, failing: str, passing: str) -> _Finding:
    """Withdraw a verdict that other load may have caused: the new run's a failure, the baseline's a pass."""
    load, whose = (failing, "measured") if found.verdict == "fail" else (passing, "the baseline was measured")
    if found.verdict not in {"fail", "pass"} or not load:
        return found
    reason = f"{whose} beside other load ({load}): run it where less else runs; `ab` decides in a minute even then"
    return replace(found, verdict="inconclusive", reason=reason, differences=())


def _median(row: Mapping[str, Any], allowed: float, subject: str) -> _Finding:
    value = row.get("median_s")
    if value is None:
        return _Finding("failed", allowed, subject=subject, reason=f"{subject} has no median_s")
    ends = row.get("ci_low_s") or value, row.get("ci_high_s") or value
    advice = _advice(Interval(value, *ends), _spent_s(row), allowed, allowed, precision=True)
    found = _bounded(value, *ends, allowed, subject, advice)
    return _beside_load(found, failing=load_met(row, allowed), passing="")


def _percentile(limit: Limit, row: Mapping[str, Any], allowed: float, subject: str) -> _Finding:
    """Judge a percentile of the calls' wall times, which has an interval where the sample can bound it."""
    value = row.get(limit.column)
    if value is None and least_alone_s(row) > allowed:
        value, low, high = row["median_s"], row.get("ci_low_s"), row.get("ci_high_s")
        return _Finding(
            "fail", allowed, value, low, high, subject, f"its median alone is beyond {limit.column}'s limit"
        )
    if value is None:
        load = f"it met other load ({load_met(row)}), beside which there is none" if load_met(row) else ""
        few = f"{row.get('samples') or 0} calls do not bound it: more --seconds, and a narrower --precision"
        return _Finding("inconclusive", allowed, subject=subject, reason=f"no {limit.column}: {load or few}")
    low, high = (row.get(f"{limit.column.removesuffix('_s')}_{end}_s") or value for end in ("low", "high"))
    advice = _advice(Interval(value, low, high), _spent_s(row), allowed, allowed, precision=True)
    found = _bounded(value, low, high, allowed, subject, advice)
    return _beside_load(found, failing=load_met(row, allowed), passing="")


def _rate(row: Mapping[str, Any], allowed: float, subject: str) -> _Finding:
    """Judge images a second: of pipelined calls where they were asked for, else of calls one by one."""
    value, middle = row.get("throughput_images_per_s") or row.get("images_per_s"), row.get("median_s")
    if not value or not middle:
        return _Finding("failed", allowed, subject=subject, reason=f"{subject} has no images_per_s")
    # Judged as the time that so many images take, with the interval of a call's time.
    images = value * middle
    found = _median(row, images / allowed, subject)
    ends = [images / end for end in (found.measured_high, found.measured_low) if end]
    low, high = ends if len(ends) > 1 else (value, value)
    return replace(found, allowed=allowed, measured=value, measured_low=low, measured_high=high)


def _resolved(found: Mapping[str, _Finding], allowed: float, rows: Sequence[Mapping[str, Any]]) -> _Finding:
    """Fail where a time is undecided because it was measured too coarsely, or beside other load."""
    undecided = [(name, one) for name, one in found.items() if one.verdict == "inconclusive"]
    if not undecided:
        return _Finding("pass", allowed)
    if load := next(filter(None, map(load_met, rows)), ""):
        return _Finding("fail", allowed, subject=undecided[0][1].subject, reason=f"measured beside other load ({load})")
    widths = {
        name: (one.measured_high - one.measured_low) / 2 / one.measured
        for name, one in undecided
        if one.measured and one.measured_low is not None and one.measured_high is not None
    }
    name, widest = max(widths.items(), key=operator.itemgetter(1), default=("", math.inf))
    subject = found[name].subject if name else undecided[0][1].subject
    if widest <= allowed:
        return _Finding("pass", allowed, widest, subject=subject)
    known = widest if name else None
    reason = f"{name} is undecided, known to ±{widest:.1%}" if name else f"{undecided[0][0]} is undecided"
    return _Finding("fail", allowed, known, subject=subject, reason=reason)


def _ab(row: Mapping[str, Any], allowed: float, _subject: str) -> _Finding:
    if row.get("ci_low") is None or row.get("ci_high") is None:
        reason = f"one set of processes fitted into its time, which says nothing: --seconds {_two_sessions_s(row)}"
        return _Finding("inconclusive", 1 + allowed, row["ratio"], subject=str(row.get("head", "")), reason=reason)
    ratio = Interval(row["ratio"], row["ci_low"], row["ci_high"])
    advice = _advice(ratio, row.get("seconds") or 0.0, 1 + allowed, 1 + allowed, precision=False)
    found = _bounded(ratio.middle, ratio.low, ratio.high, 1 + allowed, str(row.get("head", "")), advice)
    margin = row.get("margin") or 0.0
    if found.verdict != "fail" or found.measured_low is None:
        return found
    if found.measured_low > 1 + margin:
        slower = _slower(found.subject, "time_s", ratio, row.get("base_s"), row.get("head_s"))
        return replace(found, differences=[slower])
    # What A differs from itself by may not be called a slow-down of B; neither does it make one harmless.
    longer = math.ceil(4 * (row.get("seconds") or 0.0))
    how = f", --seconds {longer}" if longer else ""
    reason = f"A against itself differs by up to {margin:.1%}: measure where less else runs, or longer{how}"
    return replace(found, verdict="inconclusive", reason=reason)


def _slower(subject: str, figure: str, ratio: Interval, base_s: float | None, new_s: float | None) -> RowDifference:
    times = f"{ratio.middle:.3f} times, {interval_text(ratio.low, ratio.high, '.3f')}"
    return RowDifference(subject, figure, "worse", base_s, new_s, ratio.middle, reason=times)


def _two_sessions_s(row: Mapping[str, Any]) -> int:
    return math.ceil(2 * (row.get("seconds") or 1.0) + 1)


def _slowdown(before: SavedResult, new: SavedResult, verdict: Verdict, allowed: float) -> _Finding:
    limit = 1 + allowed
    base = {row_name("time", row): row for row in before.runs if row.get("median_s")}
    timed = [(row_name("time", row), row) for row in new.runs if row.get("median_s")]
    names = names_of([row for _, row in timed])
    found = [
        _ratio(base[key], row, limit, subject) for (key, row), subject in zip(timed, names, strict=True) if key in base
    ]
    if verdict.advisory:
        why = f"the baseline's {verdict.environment[0]}" if verdict.environment else "environments differ"
        more = f" (and {len(verdict.environment) - 1} more)" if len(verdict.environment) > 1 else ""
        found = [replace(one, verdict="advisory", reason=f"{why}{more}", differences=()) for one in found]
    gone = [subject for key, subject in zip(base, names_of(list(base.values())), strict=True) if key not in dict(timed)]
    found += [
        _Finding("failed", limit, subject=subject, reason=f"{subject} was timed in the baseline and is not now")
        for subject in gone
    ]
    found += [
        _Finding("no baseline", limit, subject=one.row, reason=f"the baseline has no {one.row}; --update-baseline")
        for one in verdict.differences
        if one.change == "added"
    ]
    if not found:
        return _Finding("failed", limit, reason="no row was timed both in the baseline and now")
    return _worst(found)


def _ratio(base: Mapping[str, Any], new: Mapping[str, Any], limit: float, subject: str) -> _Finding:
    """Judge new over base, each with its interval."""
    ratio = time_ratio(base, new)
    before, now = timed_figures(base, new)
    above, below = limit * before.high, limit * before.low
    if below <= now.middle <= above:
        longer = math.ceil(4 * _spent_s(base)) or "N"
        advice = (
            f"the baseline's own is too wide to decide it; make it anew with --seconds {longer}, or let `ab` decide"
        )
    else:
        advice = _advice(now, _spent_s(new), above, below, precision=True)
    found = _bounded(ratio.middle, ratio.low, ratio.high, limit, subject, advice)
    if found.verdict == "fail":
        found = replace(found, differences=[_slower(subject, "median_s", ratio, before.middle, now.middle)])
    return _beside_load(found, failing=load_met(new, limit * base["median_s"]), passing=load_met(base))


def _matches(before: SavedResult, new: SavedResult, verdict: Verdict, *, smaller: bool) -> _Finding:
    """Judge all but times, which have a limit of their own, with a share that they may grow by."""
    found = verdict.departures(smaller=smaller)
    if not found and (added := [one.row for one in verdict.differences if one.change == "added"]):
        return _Finding("no baseline", 0, 0, subject=added[0], reason=f"the baseline has no {', '.join(added)}")
    subject = found[0].row if found else counted(verdict.matched, "row")
    reason = "; ".join(map(str, found))
    if not found and new.study == "cost" and torch_of(before) != torch_of(new):
        reason = f"operators were not compared: the baseline's torch is {torch_of(before)}"
    return _Finding("fail" if found else "pass", 0, len(found), subject=subject, reason=reason, differences=found)


def _computes_same(before: SavedResult, new: SavedResult) -> _Finding:
    """Judge fingerprints: which network computes otherwise, or is initialised otherwise, and what was chance."""
    found = diagnoses(before, new)
    networks = dict.fromkeys(str(row["network"]) for row in new.runs)
    known = {row["network"] for row in before.runs}
    if not found and (added := [name for name in networks if name not in known]):
        return _Finding("no baseline", 0, 0, subject=added[0], reason=f"the baseline has no {', '.join(added)}")
    said = [f"{one.row} {one.reason or one.change}" for one in found]
    verdict: Word = "fail" if found else "pass"
    if drawing := dict.fromkeys(row["network"] for row in new.runs if row.get("random")):
        other = torch_of(before) != torch_of(new)
        how = f"not compared, as the baseline's torch is {torch_of(before)}" if other else "compared for one seed"
        said.append(f"{', '.join(drawing)}: what draws random numbers was {how}")
        if other and not found and all(row.get("random") for row in measured_rows({"runs": new.runs})):
            verdict = "inconclusive"
    subject = found[0].row if found else counted(len(networks), "network")
    return _Finding(verdict, 0, len(found), subject=subject, reason="; ".join(said), differences=found)


def _verified(rows: Sequence[Mapping[str, Any]]) -> _Finding:
    judged = [row for row in rows if row.get("passed") is not None or row.get("control_detected") is not None]
    bad = [row for row in judged if row.get("passed") is False or row.get("control_detected") is False]
    good = len(judged) - len(bad)
    if not judged:
        return _Finding("failed", reason="nothing was verified")
    failures = "; ".join(
        f"{row.get('case')} {row.get('quantity')}: "
        + (
            "a control was not detected"
            if row.get("control_detected") is False
            else f"{row.get('reason') or 'differs'}"
        )
        for row in bad
    )
    subject = str((bad or judged)[0].get("subject", ""))
    return _Finding("fail" if bad else "pass", len(judged), good, subject=subject, reason=failures)


def _reached(rows: Sequence[Mapping[str, Any]], allowed: bool | float | tuple[str, ...]) -> _Finding:
    if isinstance(allowed, float):
        return _accurate(rows, allowed)
    # On a task a run has a row an epoch, and each says how the run ended.
    rows = list({_run_of(row): row for row in rows}.values()) if "task" in rows[0] else rows
    names = list(allowed) if isinstance(allowed, tuple) else []
    if absent := [name for name in names if not any(is_run_of(row["optimizer"], name) for row in rows)]:
        return _Finding("failed", reason=f"no run of {', '.join(absent)}; its command has to race them")
    wanted = [row for row in rows if not names or any(is_run_of(row["optimizer"], name) for name in names)]
    missed = [row for row in wanted if row.get("outcome") != "converged"]
    failures = "; ".join(f"{row['optimizer']} {row.get('protocol', '')}: {row.get('outcome')}" for row in missed)
    return _Finding(
        "fail" if missed else "pass",
        len(wanted),
        len(wanted) - len(missed),
        subject=str(missed[0]["optimizer"]) if missed else "",
        reason=failures,
        unit="runs converged",
    )


def _accurate(rows: Sequence[Mapping[str, Any]], allowed: float) -> _Finding:
    best: dict[tuple[str, ...], float] = {}
    for row in rows:
        run = _run_of(row)
        best[run] = max(best.get(run, 0.0), row.get("val_accuracy") or 0.0)
    if not any("val_accuracy" in row for row in rows):
        return _Finding("failed", allowed, reason=NO_ACCURACY)
    lowest, value = min(best.items(), key=operator.itemgetter(1))
    return _Finding(
        "pass" if value >= allowed else "fail", allowed, value, subject=" ".join(lowest), unit="validation accuracy"
    )


def _run_of(row: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(plain_text(row.get(key)) for key in ("task", "model", "optimizer", "protocol", "seed"))


def names_of(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Name rows by their subjects, or by all their settings where that alone tells them apart."""
    names = [_name(row) for row in rows]
    if not rows or len(set(names)) == len(names):
        return names
    study = "time" if "median_s" in rows[0] else "cost"
    return [row_name(study, row) for row in rows]


def _name(row: Mapping[str, Any]) -> str:
    return plain_text(row.get("architecture") or row.get("subject") or row.get("surface") or row.get("id") or "")
