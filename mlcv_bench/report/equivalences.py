"""What `verify` shows: equivalences, negative controls, and what the three forms cost."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mlcv_bench.equivalence.study import COLUMNS, Equivalence, Verification
from mlcv_bench.equivalence.subject import TWO_NETWORKS
from mlcv_bench.records import Column, Report, Table, counted, row_of

if TYPE_CHECKING:
    from mlcv_bench.equivalence.forms import FormCost

MEBI = 2.0**20
MOST_FAILURES = 20
MODE_WORDS = {"train": "training", "eval": "evaluation"}
ROUND_TRIP = "any form -> another -> back"

FORMS = (
    Column("groups", "G", format="d"),
    Column("width", "d", format="d"),
    Column("channels", "C", format="d"),
    Column("form", "form", justify="left"),
    Column("params", "parameters", format=",d"),
    Column("macs", "MACs", "M", ",.2f", 1e6),
    Column("operators", "operators", format=",d"),
    Column("activation_bytes", "activations", "MiB", ",.2f", MEBI),
    Column("peak_activation_bytes", "peak", "MiB", ",.2f", MEBI),
    Column("median_s", "median", "ms", ",.2f", 1e-3),
    Column("min_s", "minimum", "ms", ",.2f", 1e-3),
    Column("slowdown", "times grouped", format=".2f"),
)
FAILURES = (
    Column("case", "case", justify="left"),
    Column("quantity", "quantity", justify="left"),
    Column("dtype", "type", justify="left"),
    Column("mode", "mode", justify="left"),
    Column("max_rel_error", "difference", format=".2e"),
    Column("tolerance", "allowed", format=".2e"),
    Column("reason", "reason", justify="left"),
)


def verification_report(found: Verification) -> Report:
    """Return the tables of a verification, and every record as a run."""
    tables = []
    judged = [record for record in found.records if record.control_detected is None and record.status == "done"]
    if judged:
        tables.append(_equivalences(judged))
    if found.controls:
        tables.append(_controls(found.controls))
    if found.failures:
        tables.append(_failures(found.failures))
    if found.forms:
        tables.append(forms_table(found.forms))
    details = {"forms": list(found.forms), "arithmetic": found.arithmetic, "seconds": found.seconds}
    runs = [record.row() for record in found.records]
    return Report("verify", COLUMNS, runs, tables, notes=_notes(found), details=details)


def _grouped(records: Iterable[Equivalence]) -> dict[tuple[str, str, str], list[Equivalence]]:
    groups: dict[tuple[str, str, str], list[Equivalence]] = {}
    for record in records:
        comparison = ROUND_TRIP if record.quantity == "round trip" else record.comparison
        groups.setdefault((record.subject, comparison, record.quantity), []).append(record)
    return groups


def _types(records: Iterable[Equivalence]) -> list[str]:
    return list(dict.fromkeys(record.dtype for record in records if record.dtype and record.tolerance))


def _equal(records: Sequence[Equivalence]) -> str | None:
    exact = [record for record in records if record.proof in {"exact", "count"}]
    return f"{sum(record.passed is True for record in exact)} of {len(exact)}" if exact else None


def _errors(records: Sequence[Equivalence], dtype: str) -> list[float]:
    errors = [record.max_rel_error for record in records if record.dtype == dtype and record.tolerance]
    return [error for error in errors if error is not None]


def _verdict(records: Sequence[Equivalence]) -> str:
    if any(record.passed is False for record in records):
        return "FAILS"
    return "same" if any(record.passed for record in records) else "reported"


def _equivalences(records: Sequence[Equivalence]) -> Table:
    dtypes = _types(records)
    columns = (
        Column("subject", "subject", justify="left"),
        Column("comparison", "compared pair", justify="left"),
        Column("quantity", "quantity", justify="left"),
        Column("checks", "checks", format="d"),
        Column("exact", "equal bits"),
        *(Column(dtype, dtype, "largest", ".1e") for dtype in dtypes),
        Column("verdict", "verdict", justify="left"),
    )
    rows = [
        {
            "subject": subject,
            "comparison": comparison,
            "quantity": quantity,
            "checks": len(members),
            "exact": _equal(members),
            **{dtype: max(_errors(members, dtype), default=None) for dtype in dtypes},
            "verdict": _verdict(members),
        }
        for (subject, comparison, quantity), members in _grouped(records).items()
    ]
    bounds = [record.largest_sum for record in records if record.largest_sum is not None]
    caption = _allowed(records)
    if bounds:
        caption = (
            f"Equal bits: whole numbers in float64, whose partial sums stay at or below {max(bounds):,.0f}, far from"
            f" 2^53, so that nothing is rounded. {caption}"
        )
    return Table("Equivalences", columns, rows, caption)


def _allowed(records: Iterable[Equivalence]) -> str:
    limits: dict[str, set[float]] = {}
    for record in records:
        if record.dtype and record.tolerance:
            limits.setdefault(record.dtype, set()).add(record.tolerance)
    if not limits:
        return ""
    texts = [
        f"{dtype} {min(values):.2g}" + (f" to {max(values):.2g}" if len(values) > 1 else "")
        for dtype, values in limits.items()
    ]
    return f"Largest difference over largest magnitude; allowed: {', '.join(texts)}."


def _controls(records: Sequence[Equivalence]) -> Table:
    dtypes = _types(records)
    columns = (
        Column("subject", "subject", justify="left"),
        Column("control", "negative control", justify="left"),
        Column("quantity", "must show in", justify="left"),
        Column("detected", "detected"),
        *(Column(dtype, dtype, "smallest", ".1e") for dtype in dtypes),
    )
    rows = []
    for (subject, control, quantity), members in _grouped(records).items():
        errors = {dtype: min(_errors(members, dtype), default=None) for dtype in dtypes}
        detected = sum(record.control_detected is True for record in members)
        row = {"subject": subject, "control": control, "quantity": quantity}
        rows.append({**row, "detected": f"{detected} of {len(members)}", **errors})
    caption = (
        "What is made wrong on purpose, and the smallest relative difference that it caused: it must exceed what is "
        "allowed above."
    )
    return Table("Negative controls: a check that cannot fail proves nothing", columns, rows, caption)


def _failures(records: Sequence[Equivalence]) -> Table:
    rows = [record.row() for record in records[:MOST_FAILURES]]
    more = len(records) - len(rows)
    caption = f"And {more} more; -o verify.csv saves all." if more > 0 else ""
    return Table("What failed", FAILURES, rows, caption)


def forms_table(forms: Sequence[FormCost]) -> Table:
    """Return the cost of the three forms, each with how many times longer it takes than the grouped one."""
    return Table(
        "The same function at three prices",
        FORMS,
        forms_rows(forms),
        "One block without projection, one image of 56x56, float32, inference, one thread; the forms take turns, and "
        "times grouped is the median of the turns' ratios. "
        "Activations: what the convolutions write; peak: the most alive at once.",
    )


def forms_rows(forms: Sequence[FormCost]) -> list[dict[str, Any]]:
    """Return the forms' costs as rows."""
    grouped = {(cost.groups, cost.width, cost.channels): cost.samples_s for cost in forms if cost.form == "grouped"}
    rows = []
    for cost in forms:
        base = grouped.get((cost.groups, cost.width, cost.channels))
        rows.append(row_of(cost) | {"slowdown": _times(cost.samples_s, base) if base else None})
    return rows


def _times(samples: Sequence[float], base: Sequence[float]) -> float:
    """Return the median of the ratios round by round: a slow moment hits both forms of a round."""
    return statistics.median(one / other for one, other in zip(samples, base, strict=True))


def _notes(found: Verification) -> list[str]:
    judged = [record for record in found.records if record.passed is not None and record.control_detected is None]
    detected = sum(record.control_detected is True for record in found.controls)
    wrong = sum(record.passed is False for record in judged)
    controls = f"{detected} of {len(found.controls)} negative controls detected"
    notes = [f"{counted(len(judged), 'comparison')}, {wrong} failed; {controls}; {found.seconds:.1f} s."]
    skipped: Mapping[tuple[str, str], int] = Counter(
        (record.subject, record.reason) for record in found.records if record.status == "skipped"
    )
    notes += [f"Skipped, {subject} ({times}x): {reason}." for (subject, reason), times in skipped.items()]
    notes += _of_two_networks(found)
    if found.interrupted:
        notes.append("Interrupted: the cases after this point were not examined.")
    return notes


def _of_two_networks(found: Verification) -> list[str]:
    """Say how far two networks were seen to be the same, and what else decides it."""
    records = [record for record in found.records if record.subject == TWO_NETWORKS]
    notes = [f"{reason}." for reason in _reasons(records)]
    outputs = [record for record in records if record.largest_output is not None]
    if outputs and all(record.passed for record in outputs):
        exact = "proved exactly" if any(record.proof == "exact" for record in outputs) else "to rounding"
        within = max(record.largest_output or 0.0 for record in outputs)
        far = f", for outputs within {within:.2g}; larger ones were not seen" if within else ""
        notes.append(f"{outputs[0].comparison}: same, {exact}{far}.")
    if found.agreeing_mode is not None:
        notes.append(agreement(found.agreeing_mode))
    return notes


def _reasons(records: Iterable[Equivalence]) -> list[str]:
    return list(
        dict.fromkeys(
            record.reason
            for record in records
            if record.proof == "report" and record.passed is None and record.status == "done"
        )
    )


def agreement(mode: str) -> str:
    """Say that two networks differ in one mode alone."""
    one, other = MODE_WORDS[mode], MODE_WORDS["train" if mode == "eval" else "eval"]
    return f"The two are the same in {one} and differ in {other}; --mode {mode} compares them in {one} alone."
