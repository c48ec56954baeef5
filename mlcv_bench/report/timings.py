"""Timings as people read them: latency with its interval, relative speed, and what troubled the measurement."""

from __future__ import annotations

import math
from dataclasses import asdict
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

from mlcv_bench.environment import installed_versions
from mlcv_bench.extras import EXTRAS, Extra
from mlcv_bench.records import Column, Report, Table, counted, filled, fitted, interval_text
from mlcv_bench.statistics import Interval, median_if_known
from mlcv_bench.timing.batches import by_batch, first_batches, knee, stays_below, throughput
from mlcv_bench.timing.machine import accelerators_in, cache_of
from mlcv_bench.timing.sampling import Plan, relative
from mlcv_bench.timing.study import COLUMNS, SETTINGS, Timing

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mlcv_bench.timing.machine import Peaks

CHECKING_PASSES = 4
"""Eager float32, the first call, another, and one whose memory is measured; more where an error must be explained."""
MEBI = 2.0**20
MILLI = 1e-3
MEMORY_BOUND = 0.6
"""The share of its memory's peak from which Nsight Compute calls a kernel bound by memory."""

SHOWN = (
    Column("label", "architecture", justify="left"),
    Column("median_s", "median", "ms", ",.3f", MILLI),
    Column("interval", "95% interval", "ms"),
    # A figure's flags stand beside it, also where a narrow terminal cuts the table into parts.
    Column("contention", "contention", justify="left"),
    Column("basis", "basis", justify="left"),
    Column("min_s", "min", "ms", ",.3f", MILLI),
    *(Column(f"{name}_s", name, "ms", ",.3f", MILLI) for name in ("p90", "p95", "p99")),
    *(Column(f"{name}_s", name, "ms", ",.3f", MILLI) for name in ("device", "dispatch")),
    Column("bound", "bound", justify="left"),
    Column("speed", "speed", "vs first"),
    Column("images_per_s", "images", "/s", ",.1f"),
    Column("throughput_images_per_s", "throughput", "images/s", ",.1f"),
    Column("gflops_per_s", "rate", "GFLOP/s", ",.1f"),
    Column("peak_share", "of peak", "%", ".1f", 0.01),
    Column("roof_share", "of roof", "%", ".1f", 0.01),
    Column("peak_bytes", "memory", "MiB", ",.1f", MEBI),
    Column("compile_s", "compile", "s", ",.1f"),
    Column("long_first_call_s", "first call", "ms", ",.0f", MILLI),
    Column("blocks", "blocks", "", "d"),
)
LONG_FIRST_CALL, LONG_FIRST_CALL_S = 10, 0.1
"""A first call that took so many times the median, and so many seconds, is shown."""
MISSING = (
    Column("label", "architecture", justify="left"),
    Column("status", "status", justify="left"),
    Column("reason", "reason", justify="left"),
)
PLANNED = (
    Column("label", "architecture", justify="left"),
    Column("macs", "MACs", "G", ",.3f", 1e9),
    Column("predicted_s", "at most", "s", ".0f"),
    Column("least_passes", "at least", "passes", "d"),
)


def timing_report(
    timings: Sequence[Timing],
    plan: Plan,
    *,
    peaks: Sequence[Peaks] = (),
    machine: Mapping[str, Any] | None = None,
    latency_budget_s: float | None = None,
) -> Report:
    """Return the runs under the contract's columns, the summary table, and the warnings."""
    rows, shown = [], []
    for label, timing in labelled(timings):
        row = timing.row() | _against_roof(timing, peaks)
        low, high = row["ci_low_s"], row["ci_high_s"]
        interval = None if None in {low, high} else interval_text(low * 1e3, high * 1e3, ",.3f")
        speed = speed_of(timing, base_of(timing, timings), plan)
        text = speed_text(speed) if speed else ("1" if timing.status == "done" else None)
        rows.append(row)
        shown.append(row | {"label": label, "interval": interval, "speed": text, **_preparation(row)})
    measured = [row for row in shown if row["status"] == "done"]
    one_clock = all(row["basis"] == "wall" for row in measured)
    columns = [column for column in filled(SHOWN, measured) if not (column.key == "basis" and one_clock)]
    used = [peak for peak in peaks if any(_peak_of(timing, peaks) is peak for timing in timings)] or peaks[:1]
    tables = [Table(_title(timings), columns, measured, _caption(timings, plan))] if measured else []
    if missing := [row for row in shown if row["status"] != "done"]:
        tables.append(Table("Not timed", MISSING, missing))
    return Report(
        "time",
        COLUMNS,
        rows,
        tables,
        notes=[
            *notes_of(timings),
            *unseen_neighbours(timings),
            *cached_notes(timings, machine or {}),
            *knee_notes(timings),
            *(budget_notes(timings, latency_budget_s) if latency_budget_s is not None else ()),
            *(_roof_note(peak) for peak in used),
        ],
        warnings=[
            *warnings_of(timings, plan, peaks),
            *peak_warnings(used),
            *(undecided_budgets(timings, latency_budget_s) if latency_budget_s is not None else ()),
        ],
        details={
            "plan": {"seconds": plan.seconds, "precision": plan.precision, "seed": plan.seed},
            "machine": machine or {},
            "peaks": [asdict(peak) for peak in used],
            "cells": {
                timing.cell.key(): {
                    "label": label,
                    "cell": timing.cell.as_dict(),
                    "intensity": timing.intensity(),
                    "blocks": [block.as_dict() for block in timing.sampling.blocks],
                }
                for label, timing in labelled(timings)
            },
        },
        device=accelerators_in({timing.cell.device for timing in timings}, machine or {}),
    )


def labelled(timings: Sequence[Timing]) -> list[tuple[str, Timing]]:
    """Return the timings with what tells each from the others."""
    cells = tuple(timing.cell for timing in timings)
    return [(timing.cell.label(cells), timing) for timing in timings]


def _preparation(row: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the first call where it says something: it compiled nothing, and still took many passes."""
    first, median_s = row["first_call_s"], row["median_s"]
    long = first and median_s and not row["compile_s"] and first >= max(LONG_FIRST_CALL * median_s, LONG_FIRST_CALL_S)
    return {"long_first_call_s": first if long else None}


def _families(timings: Sequence[Timing]) -> list[tuple[str, list[dict[str, Any]]]]:
    """Return the rows that differ in the batch alone, the smallest first, under their name."""
    rows = {timing.cell: timing.row() for timing in timings}
    return [(name, [rows[cell] for cell in cells]) for name, cells in by_batch(rows).items()]


def knee_notes(timings: Sequence[Timing]) -> list[str]:
    """Say for every network with several batches from which on its throughput hardly grows."""
    found = []
    for name, rows in _families(timings):
        rates = throughput([row for row in rows if row["images_per_s"]])
        if len(rates) < 2:  # noqa: PLR2004 - one point has no knee
            continue
        at, best = knee(rates), max(rates, key=lambda batch: rates[batch])
        text = f"{name}: the knee is at batch {at}, the smallest with 90% of the best throughput: {rates[at]:,.1f} "
        text += "images/s" if at == best else f"of {rates[best]:,.1f} images/s, at batch {best}"
        found.append(
            text + ("; it may grow beyond, which no larger batch was timed to show." if at == max(rates) else ".")
        )
    return found


def budget_notes(timings: Sequence[Timing], budget_s: float) -> list[str]:
    """Name for every network the largest batch whose p95 stays below the latency budget."""
    found, budget = [], f"{budget_s * 1e3:g} ms"
    for name, rows in _families(timings):
        below = [row for row in rows if stays_below(row, budget_s)]
        above = [row for row in rows if stays_below(row, budget_s) is False]
        if below:
            one = below[-1]
            ends = interval_text(one["p95_low_s"] * 1e3, one["p95_high_s"] * 1e3, ",.3f")
            found.append(
                f"{name}: batch {one['batch']} is the largest timed whose p95 stays below {budget}: "
                f"{one['p95_s'] * 1e3:,.3f} ms ({ends})."
            )
        elif above:
            found.append(
                f"{name}: no batch timed has a p95 that stays below {budget}; the smallest was {above[0]['batch']}."
            )
    return found


def undecided_budgets(timings: Sequence[Timing], budget_s: float) -> list[str]:
    """Say of which batch nobody knows whether its p95 stays below the latency budget, and why."""
    return [
        f"{name}: the p95 of batch {row['batch']} cannot be held against {budget_s * 1e3:g} ms, "
        + (
            f"having met other load ({row['contention']}); stop what else runs"
            if row["contention"] != "none"
            else f"since {counted(row['samples'], 'call')} do not bound it; give more --seconds"
        )
        for name, rows in _families(timings)
        for row in rows
        if row["status"] == "done" and stays_below(row, budget_s) is None
    ]


def dry_report(timings: Sequence[Timing], plan: Plan, latency_budget_s: float | None = None) -> Report:
    """Return what would be measured and how long at most; what a store holds already takes no time.

    How long a pass takes is not known before it is run, so what a slow one costs is given in passes, and which batches
    a latency budget leads to is given for either end.
    """
    runs = []
    for timing in timings:
        row = {column: value for column, value in timing.row().items() if column in SETTINGS}
        left = 0.0 if timing.finished else max(0.0, plan.seconds - timing.sampling.spent())
        passes = 0 if timing.finished else plan.minimum_passes + CHECKING_PASSES
        runs.append(row | {"macs": timing.cost.macs, "predicted_s": left, "least_passes": passes})
    rows = [run | {"label": label} for run, (label, _) in zip(runs, labelled(timings), strict=True)]
    total = sum(row["predicted_s"] for row in rows)
    table = Table(
        f"{counted(len(rows), 'cell')}, at most {total:.0f} s of timing, "
        f"or {plan.minimum_passes} passes a cell if those take longer",
        fitted(PLANNED, rows),
        rows,
        "Building and counting each network comes on top, and so does checking it, "
        f"{CHECKING_PASSES} passes or more: a pass of 2 s costs {2 * (CHECKING_PASSES + plan.minimum_passes)} s a "
        "cell, whatever --seconds says. A cell ends early when its interval is narrow enough.",
    )
    searched = {} if latency_budget_s is None else by_batch(timing.cell for timing in timings)
    notes = [
        f"{name}: after batch {cell.batch}, {_further_batches(cell.batch, latency_budget_s)}"
        for name, (cell, *others) in searched.items()
        if latency_budget_s is not None and not others
    ]
    return Report("time-plan", (*SETTINGS, "macs", "predicted_s", "least_passes"), runs, [table], notes=notes)


SHOWN_BATCHES = 4
"""How many of the batches that a latency budget may lead to are named."""


def _further_batches(first: int, budget_s: float) -> str:
    """Say which batches the search goes on with, whose answers are not known before anything is timed."""
    up, down = (
        ", ".join(map(str, asked[1 : 1 + SHOWN_BATCHES]))
        for asked in (first_batches(first, fits=True), first_batches(first, fits=False))
    )
    text = f"batches {up} and so on while the p95 stays below {budget_s * 1e3:g} ms"
    if down:
        text += f", or {down} while it does not"
    return f"{text}, then those between by halving; each is a cell that takes as long as one above."


def base_of(timing: Timing, timings: Sequence[Timing]) -> Timing | None:
    """Return the first finished cell of the same batch, input and pass: others would be no comparison."""
    for other in timings:
        same = all(getattr(other.cell, name) == getattr(timing.cell, name) for name in ("batch", "input", "direction"))
        if same and other.status == "done":
            return other
    return None


def speed_of(timing: Timing, base: Timing | None, plan: Plan) -> Interval | None:
    """Return how many times as fast as `base` a cell is, from their shared rounds; None for the base itself."""
    if base is None or base is timing or timing.status != "done":
        return None
    slower = relative(base.sampling, timing.sampling, plan)
    return slower.inverse() if slower else None


def speed_text(speed: Interval) -> str:
    """Write a relative speed, with its interval if it has one; ≈ where that spans 1: no winner is seen."""
    if not speed.bounded:
        return f"{speed.middle:.2g}"
    sign = "≈" if speed.low <= 1 <= speed.high else ""
    digits = 2 if speed.middle >= 0.2 else 4  # noqa: PLR2004 - three significant digits or more
    return f"{sign}{speed.middle:.{digits}f} ({interval_text(speed.low, speed.high, f'.{digits}f')})"


def _precision(width: float) -> str:
    return f"±{width:.1%}" if math.isfinite(width) else "too few blocks for an interval"


def _title(timings: Sequence[Timing]) -> str:
    cell = timings[0].cell
    same = [
        text
        for name, text in (
            ("device", cell.device),
            ("runtime", cell.runtime),
            ("dtype", cell.dtype),
            ("batch", f"batch {cell.batch}"),
            ("threads", counted(cell.threads, "thread")),
            ("direction", cell.direction),
        )
        if all(getattr(timing.cell, name) == getattr(cell, name) for timing in timings)
    ]
    return f"Time of a pass: {', '.join(same)}"


def _caption(timings: Sequence[Timing], plan: Plan) -> str:
    apart = sum(timing.sampling.contended for timing in timings)
    total = sum(len(timing.sampling.blocks) for timing in timings)
    text = (
        "median: of block medians, blocks of all cells taken in shuffled turns, with its 95% interval. "
        "speed: times as fast as the first row of equal batch and input, from shared rounds where there are enough; "
        "≈ where the interval spans 1."
    )
    if any(block.device_s for timing in timings for block in timing.sampling.blocks):
        text += (
            " device: what the kernels take by the device's own events; dispatch: until the host has asked for all of "
            "them; bound: launch where that takes longer than the kernels, so that more images cost little more time; "
            f"with --roofline, memory where weights and activations, moved once each, take {MEMORY_BOUND:.0%} of what "
            "it moves at best and the roof over the pass is memory's; else device."
        )
    if any(timing.cell.throughput for timing in timings):
        text += (
            " throughput: images a second of calls that are asked for one after the other, with one wait at their end, "
            "by the wall clock."
        )
    if any(timing.cell.cold_cache for timing in timings):
        text += " cold cache: the last-level cache is overwritten before every timed call, outside of its time."
    if apart:
        text += f" {apart} of {total} blocks met other load; they count only where fewer than {plan.minimum_blocks}"
        text += " clean ones are left, and the row is flagged; one thread then leaves out"
        text += " waiting for a core (basis cpu), and so do its peaks. A speed compares two rows by one clock."
    return text


def notes_of(timings: Sequence[Timing]) -> list[str]:
    """Say what is odd about a network, and why the figure of one thread is the wall clock's whatever else runs."""
    return [
        f"{label} {words}."
        for label, timing in labelled(timings)
        if timing.status == "done"
        for words in (timing.facts.remark if timing.facts else "", _why_wall(timing))
        if words
    ]


def fits_in_cache(timing: Timing, machine: Mapping[str, Any]) -> bool | None:
    """Tell whether weights, input and activations of a pass fit into the last-level cache; None is unknown."""
    held, moved = cache_of(timing.cell.device, machine), timing.cost.moved_bytes
    return moved <= held if held and moved else None


def cached_notes(timings: Sequence[Timing], machine: Mapping[str, Any]) -> list[str]:
    """Name, for every device, the networks that the last-level cache may hold from one timed pass to the next."""
    found: dict[str, list[str]] = {}
    for label, timing in labelled(timings):
        warm = timing.status == "done" and not timing.cell.cold_cache
        if warm and fits_in_cache(timing, machine):
            found.setdefault(timing.cell.device, []).append(label)
    return [
        f"The last-level cache of {device} ({(cache_of(device, machine) or 0) / MEBI:,.0f} MiB) can hold all weights "
        f"and activations of {'; '.join(labels)}: a timed pass finds there what the one before left, and a program "
        "that does other work between does not. --cold-cache overwrites it before every call."
        for device, labels in found.items()
    ]


def unseen_neighbours(timings: Sequence[Timing]) -> list[str]:
    """Name the accelerators of which nobody told whether another process computed there."""
    told = {timing.cell.device: False for timing in timings if timing.status == "done" and not timing.cell.on_cpu}
    for timing in timings:
        if timing.cell.device in told:
            told[timing.cell.device] |= any(block.contention.gpu_others is not None for block in timing.sampling.blocks)
    return [
        f"{device}: nobody tells whether another process computes there (NVML is missing, or does not know), so that "
        "no row is flagged for one."
        for device, known in told.items()
        if not known
    ]


def _why_wall(timing: Timing) -> str:
    """Say why one thread has no processor's clock; nothing where it has one, or where nobody can tell."""
    share = median_if_known(block.idle_share for block in timing.sampling.blocks)
    if share is None or not timing.cell.one_thread or timing.sampling.has_processor_clock:
        return ""
    why = (
        f"slept, or waited for a file, a process or a thread, during {share:.0%} of its time"
        if share > 0
        else "computed in several threads at once, although --threads is 1"
    )
    return f"{why}: its figure is the wall clock's (basis wall)"


def warnings_of(timings: Sequence[Timing], plan: Plan, peaks: Sequence[Peaks] = ()) -> list[str]:
    """Return what a reader must know before believing a row, with what to type about it."""
    found = []
    for name, timing in labelled(timings):
        sampling = timing.sampling
        if timing.status == "failed":
            found.append(f"{name}: {timing.reason}")
        if timing.status != "done":
            continue
        if flags := sampling.flags(plan):
            found.append(
                f"{name}: measured beside other load ({', '.join(flags)}); {_basis(timing)}: {_what_helps(timing)}"
            )
        elif sampling.width(plan) > plan.precision:
            found.append(
                f"{name}: {_precision(sampling.width(plan))} instead of ±{plan.precision:.1%} after its share of time; "
                f"--seconds {plan.seconds * 4:g} would about halve that"
            )
        if sampling.warm_up and not sampling.warm_up.agreed:
            found.append(f"{name}: was still changing when its warm-up ended; give more --seconds")
        rate = timing.flops_per_s()
        peak = _peak_of(timing, peaks)
        if rate and peak and rate > peak.flops_per_s:
            found.append(
                f"{name}: {rate / 1e9:,.0f} GFLOP/s exceed the measured peak of {peak.flops_per_s / 1e9:,.0f}: "
                "its algorithm does less than it is credited with, or the time is wrong"
            )
    return found


def peak_warnings(peaks: Sequence[Peaks]) -> list[str]:
    """Name the peaks that were measured beside other load."""
    loaded = {f"{peak.device}, {peak.dtype}": peak.contention for peak in peaks if peak.contention}
    return [
        f"--roofline: the peaks of {name} were measured beside other load ({', '.join(flags)}) and may be too low, and "
        "the shares of them too high: stop what else runs"
        for name, flags in loaded.items()
    ]


def _what_helps(timing: Timing) -> str:
    """Say what to type where several threads met other load; one thread has a clock that leaves most of it out."""
    cell = timing.cell
    if not cell.on_cpu or cell.one_thread:
        return "stop what else runs, or compare with `mlcv-bench ab`"
    passive = "" if cell.wait_policy == "passive" else " or --wait-policy passive"
    return (
        f"stop what else runs, or give fewer --threads{passive}; --threads 1 is judged by its processor time, without "
        "waiting for a core"
    )


def _basis(timing: Timing) -> str:
    if timing.sampling.basis(timing.plan) == "cpu":
        wall = median([fmean(block.calls_s) for block in timing.sampling.used(timing.plan)])
        return f"the figure leaves out waiting for a core (basis cpu); with it a pass took {wall * 1e3:.4g} ms"
    if timing.unloaded_s is not None:
        return f"alone it takes about {timing.unloaded_s * 1e3:.4g} ms (its threads' work, equally shared)"
    return "alone it may be faster"


def inconclusive(timings: Sequence[Timing], plan: Plan) -> bool:
    """Tell whether some finished row is contended or wider than asked: exit code 3 under --strict."""
    done = [timing for timing in timings if timing.status == "done"]
    return any(timing.sampling.flags(plan) or timing.sampling.width(plan) > plan.precision for timing in done)


def _peak_of(timing: Timing, peaks: Sequence[Peaks]) -> Peaks | None:
    cell = timing.cell
    wanted = (cell.device, cell.number, cell.threads, timing.sampling.basis(timing.plan), cell.tf32)
    return next((one for one in peaks if (one.device, one.dtype, one.threads, one.basis, one.tf32) == wanted), None)


def _against_roof(timing: Timing, peaks: Sequence[Peaks]) -> dict[str, Any]:
    """Return the shares of the roof, and `bound` anew where the device waits for its memory."""
    peak, rate, intensity = _peak_of(timing, peaks), timing.flops_per_s(), timing.intensity()
    if peak is None or rate is None:
        return {}
    shares: dict[str, Any] = {
        "peak_share": rate / peak.flops_per_s,
        "roof_share": rate / peak.attainable(intensity) if intensity else None,
    }
    row = timing.row()
    if row["bound"] == "device" and intensity and intensity * peak.bytes_per_s < peak.flops_per_s:
        moved_per_s = timing.cost.moved_bytes / row["device_s"]
        if moved_per_s >= MEMORY_BOUND * peak.bytes_per_s:
            shares["bound"] = "memory"
    return shares


def _roof_note(peak: Peaks) -> str:
    threads = counted(peak.threads, "thread")
    threads += ", by processor time" if peak.basis == "cpu" else ""
    return (
        f"Measured peaks of {peak.device}, {peak.dtype}, {threads}: matrix product "
        f"{peak.flops_per_s / 1e9:,.1f} GFLOP/s, memory copy {peak.bytes_per_s / 1e9:,.1f} GB/s"
        + (f", beside other load ({', '.join(peak.contention)})." if peak.contention else ".")
    )


OPTIONAL = (
    Column("name", "extra", justify="left"),
    Column("value", "here", justify="left"),
    Column("purpose", "for", justify="left"),
)
MACHINE = (Column("name", "what", justify="left"), Column("value", "here", justify="left", missing="unknown"))


def machine_report(machine: Mapping[str, Any]) -> Report:
    """Flatten a machine's description into rows of a name and a value; the extras of this project follow."""
    rows, extras = list(_flat("", machine)), [_extra_row(*one) for one in EXTRAS.items()]
    tables = [Table("What decides a figure here", MACHINE, rows), Table("What is optional", OPTIONAL, extras)]
    runs = [*rows, *({"name": f"extras.{row['name']}", "value": row["value"]} for row in extras)]
    return Report("env", ("name", "value"), runs, tables, details=dict(machine))


def _extra_row(name: str, extra: Extra) -> dict[str, str]:
    """Say of an extra what is installed, or what to type."""
    here = [" ".join(pair) for pair in installed_versions(tuple(extra.packages)).items()]
    missing = f"{', '.join(extra.missing)} missing; type: pip install 'mlcv-bench[{name}]'"
    return {"name": name, "value": missing if extra.missing else ", ".join(here), "purpose": extra.purpose}


def _flat(prefix: str, values: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for name, value in values.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            value = dict(enumerate(value))  # noqa: PLW2901 - a list of parts is flattened as a table is
        if isinstance(value, dict):
            yield from _flat(f"{prefix}{name}.", value)
        else:
            text = (" ".join(map(str, value)) or "none") if isinstance(value, list) else value
            yield {"name": f"{prefix}{name}", "value": text if text is None else str(text)}
