"""A race as a report: its runs for files, and for people one line an optimizer and protocol, best first."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict
from statistics import median
from typing import TYPE_CHECKING, Any

from mlcv_bench.records import Column, Report, Table, row_of
from mlcv_bench.statistics import median_interval

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mlcv_bench.surface_race.metrics import RaceResult
    from mlcv_bench.surface_race.race import Race

COLUMNS = (
    "surface",
    "optimizer",
    "protocol",
    "lr",
    "start",
    "seed",
    "steps",
    "first_hit",
    "last_exit",
    "final_loss",
    "distance",
    "outcome",
    "diverged_at",
)
"""The contract's columns; what else is known of a run follows them."""

ONE_START = (
    Column("optimizer", "optimizer", justify="left"),
    Column("protocol", "protocol", justify="left"),
    Column("lr", "rate", format=".3g"),
    Column("first_hit", "first hit", "step"),
    Column("last_exit", "holds from", "step"),
    Column("predicted_hit", "theory", "step"),
    Column("final_loss", "final loss", format=".2e"),
    Column("distance", "distance", format=".2e"),
    Column("path_ratio", "path", "x straight", format=".2f"),
    Column("sign_flips", "flips", "% of steps", format=".0f", scale=0.01),
    Column("width", "good rates", "decades", format=".1f"),
    Column("outcome", "outcome", justify="left"),
)
MANY_STARTS = (
    Column("optimizer", "optimizer", justify="left"),
    Column("protocol", "protocol", justify="left"),
    Column("lr", "rate", format=".3g"),
    Column("first_hit", "first hit", "step", format="g"),
    Column("first_hit_interval", "95% interval", "step"),
    Column("last_exit", "holds from", "step", format="g"),
    Column("predicted_hit", "theory", "step", format="g"),
    Column("final_loss", "final loss", format=".2e"),
    Column("distance", "distance", format=".2e"),
    Column("path_ratio", "path", "x straight", format=".2f"),
    Column("sign_flips", "flips", "% of steps", format=".0f", scale=0.01),
    Column("width", "good rates", "decades", format=".1f"),
    Column("outcome", "outcomes", justify="left"),
)


def race_report(race: Race) -> Report:
    """Return a race as a report: every run, the summary, what was left out and why."""
    many = len(race.starts) > 1
    rows = sorted(summary_rows(race), key=rank)
    columns = [column for column in (MANY_STARTS if many else ONE_START) if known(column.key, rows)]
    surface = race.surface
    where = (
        f"{len(race.starts)} random starts" if many else f"from ({' '.join(f'{x:g}' for x in race.starts[0].point)})"
    )
    name = surface.formula if surface.name == surface.formula else f"{surface.name}: {surface.formula}"
    title = f"{name}, {where}, {race.steps} steps"
    return Report(
        study="optim-race",
        columns=COLUMNS,
        runs=[run_row(result) for result in race.results],
        tables=[Table(title, columns, rows, caption(race))],
        notes=[
            *(["interrupted: only what was finished is shown"] if race.interrupted else []),
            *surface.remarks,
            *left_out(race),
        ],
        warnings=race.warnings,
        details={
            "surface": surface.name,
            "formula": surface.formula,
            "parameters": dict(surface.parameters),
            "minimum": surface.minimum,
            "minima": list(surface.minima),
            "curvatures": [surface.mu, surface.L],
            "steps": race.steps,
            "target": race.target,
            "seed": race.seed,
            "noise": surface.noise,
            "batch_size": surface.finite_sum.batch_size if surface.finite_sum else None,
            "sweeps": [asdict(sweep) | {"width_decades": sweep.width} for sweep in race.sweeps],
            "skipped": {f"{optimizer} {protocol}": why for (optimizer, protocol), why in race.skipped.items()},
            "interrupted": race.interrupted,
        },
    )


def left_out(race: Race) -> list[str]:
    """Say which protocols were not run and why, one sentence for all optimizers with the same reason."""
    protocols: dict[tuple[str, str], list[str]] = {}
    for (optimizer, protocol), why in race.skipped.items():
        protocols.setdefault((optimizer, why), []).append(protocol)
    optimizers: dict[tuple[str, str], list[str]] = {}
    for (optimizer, why), names in protocols.items():
        optimizers.setdefault((", ".join(names), why), []).append(optimizer)
    return [f"Not run, {names}: {', '.join(labels)} ({why})." for (names, why), labels in optimizers.items()]


def run_row(result: RaceResult) -> dict[str, Any]:
    """Return one run as a flat row, the contract's columns first."""
    return row_of(result)


def summary_rows(race: Race) -> Iterable[dict[str, Any]]:
    """Return one row an optimizer and protocol: the run itself, or medians over the starts."""
    widths = {sweep.optimizer: sweep.width for sweep in race.sweeps}
    grouped: dict[tuple[str, str], list[RaceResult]] = {}
    for result in race.results:
        grouped.setdefault((result.optimizer, result.protocol), []).append(result)
    for (optimizer, protocol), results in grouped.items():
        row: dict[str, Any] = {
            "optimizer": optimizer,
            "protocol": protocol,
            "lr": results[0].lr,
            "width": widths.get(optimizer) if protocol == "tuned" else None,
            "outcome": outcomes(results),
        }
        if len(results) == 1:
            only = results[0]
            for key in (
                "first_hit",
                "last_exit",
                "predicted_hit",
                "final_loss",
                "distance",
                "path_ratio",
                "sign_flips",
            ):
                row[key] = getattr(only, key)
        else:
            row.update(medians_of(results))
        yield row


def medians_of(results: Sequence[RaceResult]) -> dict[str, Any]:
    """Return the medians over the starts; a miss is infinite, and an infinite median is shown as missing."""
    row: dict[str, Any] = {}
    for key in ("first_hit", "last_exit", "final_loss"):
        values = [math.inf if (value := getattr(result, key)) is None else float(value) for result in results]
        found = median_interval(values)
        row[key] = found.middle if math.isfinite(found.middle) else None
        if key == "first_hit" and found.bounded:
            ends = (found.low, found.high)
            row["first_hit_interval"] = " to ".join(f"{end:g}" if math.isfinite(end) else "miss" for end in ends)
    for key in ("predicted_hit", "distance", "path_ratio", "sign_flips"):
        present = [value for result in results if (value := getattr(result, key)) is not None]
        row[key] = median(present) if present else None
    return row


def outcomes(results: Sequence[RaceResult]) -> str:
    """Name how the runs ended: the outcome of one, or the share of each, the commonest first."""
    if len(results) == 1:
        only = results[0]
        if only.outcome == "diverged":
            return "diverging" if only.diverged_at is None else f"diverged at {only.diverged_at}"
        return only.outcome.replace("_", " ")
    counts = Counter(result.outcome for result in results).most_common()
    return ", ".join(f"{100 * count / len(results):.0f}% {name.replace('_', ' ')}" for name, count in counts)


def rank(row: dict[str, Any]) -> tuple[float, ...]:
    """Order rows best first: by the step from which the target holds, the first hit, the final loss."""
    keys = ("last_exit", "first_hit", "final_loss")
    return tuple(math.inf if row.get(key) is None else float(row[key]) for key in keys)


def known(key: str, rows: Sequence[Mapping[str, Any]]) -> bool:
    """Tell whether any row has a value under `key`; a column without one is not shown."""
    return any(row.get(key) is not None for row in rows)


def caption(race: Race) -> str:
    """Say what the columns mean, in one sentence each."""
    minimum = race.surface.minimum
    parts = [
        f"Target: f - f* <= {race.target:g} (f0 - f*), without noise."
        if minimum is not None
        else "No lowest point is known, so there is no target."
    ]
    if race.sweeps:
        sweep = race.sweeps[0]
        parts.append(
            f"Tuned: best of {len(sweep.rates)} rates, {sweep.rates[0]:g} to {sweep.rates[-1]:g}, equal for all"
            + (", on starts of their own." if len(race.starts) > 1 else ".")
        )
    if any(result.predicted_hit is not None for result in race.results):
        parts.append("Theory: the first hit by the closed form.")
    return " ".join(parts)
