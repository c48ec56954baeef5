"""What `ab` and `compare` found, as people and machines read it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlcv_bench.comparing.differences import RowDifference, figure_text
from mlcv_bench.records import Column, Report, Table, columns_of, counted, interval_text, row_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlcv_bench.comparing.differences import Verdict
    from mlcv_bench.timing.compare import Comparison

COLUMNS = (
    *("base", "head", "verdict", "ratio", "ci_low", "ci_high", "margin", "smallest_visible"),
    *("control", "control_low", "control_high", "clock", "base_s", "head_s", "pairs", "looks", "confidence"),
    *("contended_blocks", "seconds", "sessions", "wall_ratio"),
)
CLOCKS = {
    "cpu": "one thread, waiting for a core left out",
    "wall": "wall time",
    "device": "device time, by the device's own events",
}
SHOWN = (
    Column("side", "", justify="left"),
    Column("name", "what", justify="left"),
    Column("time_s", "time", "ms", ",.3f", 1e-3),
    Column("ratio", "ratio", "to A", ".4f"),
    Column("interval", "interval"),
)


def ab_report(
    base: str, head: str, found: Comparison, details: Mapping[str, Any] | None = None, *, unfinished: str = ""
) -> Report:
    """Return one run, its table, and the verdict as a sentence; `unfinished` says how it ended too early."""
    run = {
        "base": base,
        "head": head,
        "verdict": found.verdict,
        "ratio": found.ratio.middle,
        "ci_low": found.ratio.low,
        "ci_high": found.ratio.high,
        "margin": found.margin,
        "smallest_visible": found.smallest_visible,
        "control": found.control.middle,
        "control_low": found.control.low,
        "control_high": found.control.high,
        "clock": found.clock,
        "base_s": found.base_s,
        "head_s": found.other_s,
        "pairs": sum(map(len, found.ratios)),
        "looks": found.looks,
        "confidence": found.confidence,
        "contended_blocks": found.contended,
        "seconds": found.seconds,
        "sessions": found.sessions,
        "wall_ratio": found.wall_ratio,
    }
    rows = [
        {"side": "A", "name": base, "time_s": found.base_s},
        {
            "side": "A again",
            "name": f"{base} (control)",
            "ratio": found.control.middle,
            "interval": interval_text(found.control.low, found.control.high, ".4f"),
        },
        {
            "side": "B",
            "name": head,
            "time_s": found.other_s,
            "ratio": found.ratio.middle,
            "interval": interval_text(found.ratio.low, found.ratio.high, ".4f"),
        },
    ]
    by_wall = f"By the wall clock, the host's part included, B takes {found.wall_ratio:.4f} times A's time."
    caption = (
        f"{CLOCKS[found.clock]}; {run['pairs']} palindromes of A, A again and B in random order, in "
        f"{found.sessions} sets of fresh processes, {found.looks} look(s), "
        f"the last with intervals at {found.confidence:.2%} so that all looks together keep 95%."
    )
    return Report(
        "ab",
        COLUMNS,
        [run],
        [Table("B against A", SHOWN, rows, caption)],
        notes=[
            sentence(found),
            *([by_wall] if found.clock == "device" else []),
            *([f"Unfinished: {unfinished}."] if unfinished else []),
            *(details or {}).get("exact", ()),
            *remarks(details or {}),
        ],
        details={"ratios": list(found.ratios), "control_ratios": list(found.control_ratios), **(details or {})},
    )


def remarks(details: Mapping[str, Any]) -> list[str]:
    """Say what is odd about a side's network, as its worker found."""
    sides = zip("AB", details.get("facts", ()), strict=False)
    return [f"{side} {facts['remark']}." for side, facts in sides if facts.get("remark")]


def sentence(found: Comparison) -> str:
    """Say the verdict with everything that limits it."""
    ratio = f"{found.ratio.middle:.4f} times A's time ({interval_text(found.ratio.low, found.ratio.high, '.4f')})"
    seen = f"a slow-down of {found.smallest_visible:.1%} or more would have been called one"
    match found.verdict:
        case "slower":
            return f"B is slower: {ratio}, beyond the margin of {found.margin:.1%}."
        case "faster":
            return f"B is faster: {ratio}, beyond the margin of {found.margin:.1%}."
        case "same":
            return f"B is the same within {found.margin:.1%}: {ratio}; {seen}."
        case _:
            return f"Inconclusive: {ratio}, margin {found.margin:.1%}; {seen}; more --seconds narrow it."


DIFFERENCES = (
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
    shown = []
    for one in verdict.differences:
        interval = interval_text(one.ratio_low, one.ratio_high, ".3f") if one.ratio_low and one.ratio_high else None
        # A time is shown even when it is the same: the ratio and its interval are the answer.
        if one.change != "same" or interval:
            texts = {"base": figure_text(one.base), "new": figure_text(one.new), "interval": interval}
            shown.append(row_of(one) | texts)
    tables = [Table("What changed", DIFFERENCES, shown)] if shown else []
    same = sum(one.change == "same" for one in verdict.differences)
    notes = [
        f"{len(verdict.regressions)} regression(s): {'; '.join(_changed(one) for one in verdict.regressions)}."
        if verdict.regressions
        else "No regression.",
        f"{counted(verdict.matched, 'row')} in both files, {same} of {len(verdict.differences)} quantities the same.",
    ]
    undecided = [one for one in verdict.differences if one.change == "undecided"]
    if undecided:
        reasons = "; ".join(f"{one.row}: {one.reason}" for one in undecided)
        notes.append(f"{len(undecided)} time(s) undecided, for `ab` to decide: {reasons}.")
    if verdict.advisory:
        notes.append("The times are advisory: the environments differ in what decides a time.")
    warnings = [f"environments differ in {text}" for text in verdict.environment]
    runs = [row_of(one) for one in verdict.differences]
    return Report("compare", columns_of(RowDifference), runs, tables, notes, warnings)


def _changed(one: RowDifference) -> str:
    ratio = f" ({one.ratio:.3f} times)" if one.ratio is not None else ""
    return f"{one.row}: {one.quantity} {figure_text(one.base)} -> {figure_text(one.new)}{ratio}"
