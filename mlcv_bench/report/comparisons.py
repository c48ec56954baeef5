"""What `ab` and `compare` found, as people and machines read it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from mlcv_bench.comparing.differences import RowDifference
from mlcv_bench.records import Column, Report, Table, columns_of, counted, interval_text, row_of
from mlcv_bench.timing.compare import LEAST_SESSIONS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mlcv_bench.comparing.differences import Verdict
    from mlcv_bench.timing.compare import Comparison
    from mlcv_bench.timing.exact import ExactFigures

T = TypeVar("T")
COLUMNS = (
    *("base", "head", "verdict", "ratio", "ci_low", "ci_high", "margin", "smallest_visible"),
    *("control", "control_low", "control_high", "clock", "base_s", "head_s", "pairs", "looks", "confidence"),
    *("contended_blocks", "seconds", "sessions", "wall_ratio"),
    *("base_params", "head_params", "base_macs", "head_macs"),
    *("base_file", "head_file", "base_commit", "head_commit"),
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
    Column("macs", "MACs", "", ",d"),
)


@dataclass
class Compared:
    """Two cells that are compared: what they are called, what was found so far, and how it ended where too early."""

    base: str
    head: str
    name: str = ""
    """What the pair is called among others."""
    comparison: Comparison | None = None
    exact: Sequence[ExactFigures] = ()
    """A's figures and B's, once they are known."""
    details: dict[str, Any] = field(default_factory=dict)
    unfinished: str = ""

    def row(self, found: Comparison) -> dict[str, Any]:
        """Return the run."""
        sides = dict(zip(("base", "head"), self.exact, strict=False))
        exact = {
            f"{side}_{name}": getattr(sides.get(side), attribute, None)
            for name, attribute in (("params", "params"), ("macs", "macs"), ("file", "source"), ("commit", "commit"))
            for side in ("base", "head")
        }
        return {
            "base": self.base,
            "head": self.head,
            "verdict": found.verdict,
            "ratio": found.ratio.middle,
            "ci_low": known(found, found.ratio.low),
            "ci_high": known(found, found.ratio.high),
            "margin": found.margin,
            "smallest_visible": known(found, found.smallest_visible),
            "control": found.control.middle,
            "control_low": known(found, found.control.low),
            "control_high": known(found, found.control.high),
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
            **exact,
        }

    def table(self, found: Comparison, title: str) -> Table:
        """Return what people read of the times."""
        macs = [one.macs for one in self.exact] or [None, None]
        rows = [
            {"side": "A", "name": self.base, "time_s": found.base_s, "macs": macs[0]},
            {
                "side": "A again",
                "name": f"{self.base} (control)",
                "ratio": found.control.middle,
                "interval": known(found, interval_text(found.control.low, found.control.high, ".4f")),
            },
            {
                "side": "B",
                "name": self.head,
                "time_s": found.other_s,
                "ratio": found.ratio.middle,
                "interval": known(found, interval_text(found.ratio.low, found.ratio.high, ".4f")),
                "macs": macs[1],
            },
        ]
        caption = (
            f"{CLOCKS[found.clock]}; {sum(map(len, found.ratios))} palindromes of A, A again and B in random order, in "
            f"{found.sessions} sets of fresh processes, {found.looks} look(s), "
            f"the last with intervals at {found.confidence:.2%} so that all looks together keep 95%."
        )
        return Table(title, SHOWN, rows, caption)

    def notes(self, found: Comparison) -> Iterator[str]:
        """Yield the verdict, everything that limits it, and what no clock is needed for."""
        yield sentence(found)
        if found.clock == "device":
            yield f"By the wall clock, the host's part included, B takes {found.wall_ratio:.4f} times A's time."
        if self.unfinished:
            yield f"Unfinished: {self.unfinished}."
        yield from self.details.get("exact", ())
        yield from remarks(self.details)
        yield from sources(self.exact)


def ab_report(compared: Sequence[Compared]) -> Report:
    """Return a run and a table a pair, and each verdict as a sentence; those that no look has come to are left out."""
    done = [(one, one.comparison) for one in compared if one.comparison is not None]
    details = [
        {"ratios": list(found.ratios), "control_ratios": list(found.control_ratios), **one.details}
        for one, found in done
    ]
    names = [f"{one.name}: " if len(done) > 1 else "" for one, _ in done]
    return Report(
        "ab",
        COLUMNS,
        [one.row(found) for one, found in done],
        [one.table(found, f"{name}B against A") for name, (one, found) in zip(names, done, strict=True)],
        notes=[name + note for name, (one, found) in zip(names, done, strict=True) for note in one.notes(found)],
        details=details[0] if len(details) == 1 else {"pairs": details},
    )


def sources(exact: Sequence[ExactFigures]) -> Iterator[str]:
    """Say of which file and commit each side's network is, where they are not one."""
    if len({(one.source, one.commit) for one in exact}) > 1:
        for side, one in zip("AB", exact, strict=False):
            yield f"{side} is {one.source or 'of no file'}{f', commit {one.commit}' if one.commit else ''}."


def remarks(details: Mapping[str, Any]) -> list[str]:
    """Say what is odd about a side's network, as its worker found."""
    sides = zip("AB", details.get("facts", ()), strict=False)
    return [f"{side} {facts['remark']}." for side, facts in sides if facts.get("remark")]


def known(found: Comparison, value: T) -> T | None:
    """Return an end of an interval, which one set of processes does not have."""
    return value if found.sessions >= LEAST_SESSIONS else None


def sentence(found: Comparison) -> str:
    """Say the verdict with everything that limits it."""
    if found.sessions < LEAST_SESSIONS:
        longer = math.ceil(2 * found.seconds + 1)
        return (
            f"Inconclusive: {found.ratio.middle:.4f} times A's time in the one set of processes that fitted into the "
            f"time, which says nothing of the luck of processes; give --seconds {longer}."
        )
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
            base, new = one.texts
            shown.append(row_of(one) | {"base": base, "new": new, "interval": interval})
    tables = [Table("What changed", DIFFERENCES, shown)] if shown else []
    same = sum(one.change == "same" for one in verdict.differences)
    notes = [
        f"{len(verdict.regressions)} regression(s): {'; '.join(_changed(one) for one in verdict.regressions)}."
        if verdict.regressions
        else no_regression(verdict),
        f"{counted(verdict.matched, 'row')} in both files, {same} of {len(verdict.differences)} quantities the same.",
    ]
    undecided = [one for one in verdict.differences if one.change == "undecided"]
    if undecided:
        reasons = "; ".join(f"{one.row}: {one.reason}" for one in undecided)
        times = "time(s) undecided, for `ab` to decide" if all(one.is_time for one in undecided) else "undecided"
        notes.append(f"{len(undecided)} {times}: {reasons}.")
    if missing := [one for one in verdict.differences if one.change == "missing"]:
        names = "; ".join(f"{one.row}{f' ({one.reason})' if one.reason else ''}" for one in missing)
        notes.append(f"{counted(len(missing), 'row')} missing from the new file: {names}.")
    if verdict.advisory:
        notes.append("The times are advisory: the environments differ in what decides a time.")
    warnings = [f"environments differ in {text}" for text in verdict.environment]
    runs = [row_of(one) for one in verdict.differences]
    return Report("compare", columns_of(RowDifference), runs, tables, notes, warnings)


def no_regression(verdict: Verdict) -> str:
    """Say that nothing binding got worse, and what did all the same."""
    worse = [one for one in verdict.differences if one.change in {"worse", "changed"}]
    if not worse:
        return "No regression."
    return f"Nothing worse that binds; worse where the times say nothing: {'; '.join(map(_changed, worse))}."


def _changed(one: RowDifference) -> str:
    ratio = f" ({one.ratio:.3f} times)" if one.ratio is not None else ""
    base, new = one.texts
    return f"{one.row}: {one.quantity} {base} -> {new}{ratio}"
