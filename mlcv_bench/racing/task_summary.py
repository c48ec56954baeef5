"""From a finished race on tasks to a report: one row an epoch for machines, one row an optimizer for people."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from statistics import fmean, median
from typing import Any

from mlcv_bench.racing.task_statistics import BOOTSTRAP_FROM, Difference, paired_difference, profile, ranks
from mlcv_bench.racing.task_tuning import search_space, settings_text
from mlcv_bench.racing.tasks import TUNING_SEEDS, Contest, Plan, TaskProtocol, TaskRace, TaskResult
from mlcv_bench.records import Column, Report, Table

COLUMNS = (
    "task", "model", "optimizer", "protocol", "lr", "batch_size", "seed", "epoch", "step", "train_loss", "val_loss",
    "val_accuracy", "test_accuracy", "status", "reason", "train_accuracy", "gradient_norm", "update_norm", "outcome",
    "first_hit", "held_from", "diverged_at", "settings",
)  # fmt: skip

Group = dict[str, list[TaskResult]]


def task_report(race: TaskRace) -> Report:
    """Return the report of a race on tasks."""
    results = race.results
    notes = ["interrupted: only what was finished is shown"] if race.interrupted else []
    return Report(
        study="optim-race",
        columns=COLUMNS,
        runs=[row for result in results for row in rows_of(result)],
        tables=[
            table(race, plan, protocol)
            for plan in race.plans
            for protocol in reversed(plan.protocols)
            if any(belongs(result, plan, protocol) for result in results)
        ],
        notes=notes,
        warnings=[*race.warnings, *edge_warnings(race), *failures(results)],
        details=details(race),
    )


def belongs(result: TaskResult, plan: Plan, protocol: TaskProtocol) -> bool:
    """Tell whether a result is one of a plan's under a protocol."""
    return result.setup == plan.setup and result.protocol == protocol


def rows_of(result: TaskResult) -> Iterator[dict[str, Any]]:
    """Return one row an epoch; a run that failed or was skipped has one row, one that diverged ends with its epoch."""
    row: dict[str, Any] = dict.fromkeys(COLUMNS)
    row |= {
        "task": result.setup.task,
        "model": result.setup.model,
        "optimizer": result.optimizer,
        "protocol": result.protocol,
        "lr": result.lr,
        "batch_size": result.setup.batch_size,
        "seed": result.seed,
        "status": result.status,
        "reason": result.reason,
        "outcome": result.outcome,
        "settings": settings_text(dict(result.settings)),
    }
    if result.run is None:
        yield row
        return
    row |= {name: getattr(result.run, name) for name in ("first_hit", "held_from", "diverged_at")}
    if result.outcome == "diverged":
        row["reason"] = f"diverged at step {result.run.diverged_at}"
    for number, epoch in enumerate(result.run.epochs, start=1):
        yield row | {"epoch": number} | {name: value for name, value in asdict(epoch).items() if name in row}


def grouped(race: TaskRace, plan: Plan, protocol: TaskProtocol) -> Group:
    """Return the finished results of a plan under a protocol, by optimizer, each in the order of the seeds."""
    found: Group = {}
    for result in race.results:
        if belongs(result, plan, protocol) and result.run is not None:
            found.setdefault(result.optimizer, []).append(result)
    return found


def restricted_steps(results: Sequence[TaskResult], budget: int) -> list[float]:
    """Return the steps to the target of every run; a miss is censored at the budget."""
    return [float(result.run.first_hit) if hit(result) and result.run else float(budget) for result in results]


def hit(result: TaskResult) -> bool:
    """Tell whether a run met its target and did not diverge."""
    return result.outcome == "converged"


def complete(group: Group, seeds: int) -> Group:
    """Return the optimizers that finished on every seed: only they can be paired."""
    return {name: results for name, results in group.items() if len(results) == seeds}


def table(race: TaskRace, plan: Plan, protocol: TaskProtocol) -> Table:
    """Return what people read of one task, model and protocol: one row an optimizer, the best first."""
    group = grouped(race, plan, protocol)
    paired = complete(group, len(plan.seeds))
    steps = {name: restricted_steps(results, plan.budget) for name, results in paired.items()}
    rank = ranks(steps)
    leader = min(steps, key=lambda name: (fmean(steps[name]), name), default=None)
    rows = []
    for name, results in group.items():
        row = summary_row(race, plan, protocol, results)
        row["rank"] = rank.get(name) if any(map(hit, results)) else None
        if leader is not None and name in steps and name != leader:
            row["behind"] = difference_text(paired_difference(steps[name], steps[leader]))
        rows.append(row)
    rows.sort(key=lambda row: (row["mean_steps"], -(row["test_accuracy"] or 0), row["optimizer"]))
    for result in race.results:
        if belongs(result, plan, protocol) and result.run is None:
            rows.append({"optimizer": result.optimizer, "outcome": f"{result.status}: {result.reason}"})
    rows += [
        {"optimizer": contest.entrant.label, "outcome": f"skipped: {contest.skipped[protocol]}"}
        for contest in race.contests
        if contest.plan is plan and protocol in contest.skipped
    ]
    unique = {(row["optimizer"], str(row.get("outcome")) if "mean_steps" not in row else ""): row for row in rows}
    setup = plan.setup
    title = (
        f"{setup.task}, {setup.model}, {protocol}: {setup.epochs} epochs of {plan.steps_per_epoch} steps, "
        f"batches of {setup.batch_size}, {len(plan.seeds)} seeds"
        + (f", {setup.schedule} schedule" if setup.schedule != "constant" else "")
    )
    return Table(title, columns(protocol), list(unique.values()), caption(race, plan, protocol))


def columns(protocol: TaskProtocol) -> list[Column]:
    """Return the columns of the table."""
    tuned = [
        Column("beside", "with", justify="left", missing=""),
        Column("width", "width", "decades", ".1f"),
    ]
    return [
        Column("optimizer", "optimizer", justify="left"),
        Column("rank", "rank", format="d"),
        Column("lr", "rate", format=".3g"),
        *(tuned if protocol == "tuned" else []),
        Column("met", "met", justify="right"),
        Column("steps", "steps to target", format=".0f"),
        Column("epochs", "epochs", format=".1f"),
        Column("behind", "steps behind the first", justify="left", missing=""),
        Column("test_accuracy", "test accuracy", "%", ".2f", 0.01),
        Column("loss_area", "mean loss", format=".3f"),
        Column("outcome", "outcome", justify="left"),
    ]


def summary_row(race: TaskRace, plan: Plan, protocol: TaskProtocol, results: Sequence[TaskResult]) -> dict[str, Any]:
    """Return one optimizer's row: medians of steps, means of the rest, over the seeds."""
    contest = contest_of(race, plan, results[0].optimizer)
    steps = [float(result.run.first_hit or 0) if hit(result) and result.run else math.inf for result in results]
    middle = median(steps)
    tests = [accuracy for result in results if (accuracy := result.test_accuracy) is not None]
    areas = [result.run.loss_area for result in results if result.run and result.run.loss_area is not None]
    beside = contest.entrant.beside
    return {
        "optimizer": results[0].optimizer,
        "lr": results[0].lr,
        "beside": f"{beside} {dict(results[0].settings)[beside]:g}" if beside and protocol == "tuned" else None,
        "width": contest.sweep.width if contest.sweep is not None else None,
        "met": f"{sum(map(hit, results))}/{len(results)}",
        "steps": middle if math.isfinite(middle) else None,
        "epochs": middle / plan.steps_per_epoch if math.isfinite(middle) else None,
        "mean_steps": fmean(restricted_steps(results, plan.budget)),
        "test_accuracy": fmean(tests) if len(tests) == len(results) else None,
        "loss_area": fmean(areas) if len(areas) == len(results) else None,
        "outcome": outcomes(results),
    }


def contest_of(race: TaskRace, plan: Plan, optimizer: str) -> Contest:
    """Return the contest of one optimizer under a plan."""
    return next(c for c in race.contests if c.plan is plan and c.entrant.label == optimizer)


def outcomes(results: Sequence[TaskResult]) -> str:
    """Name how the runs ended, with the step of the first divergence."""
    counts = Counter(result.outcome for result in results)
    words = ", ".join(name if len(counts) == 1 else f"{count} {name}" for name, count in counts.most_common())
    steps = [result.run.diverged_at for result in results if result.run and result.run.diverged_at is not None]
    return f"{words} at {min(steps)}" if steps else words


def difference_text(found: Difference) -> str:
    """Write a difference with its interval."""
    if not math.isfinite(found.low):
        return f"{found.mean:+.0f}"
    return f"{found.mean:+.0f} [{found.low:+.0f}, {found.high:+.0f}]"


def caption(race: TaskRace, plan: Plan, protocol: TaskProtocol) -> str:
    """Say what the columns mean."""
    setup = plan.setup
    gap = math.ceil(plan.steps_per_epoch / setup.checks)
    parts = [
        f"Target: {100 * setup.target:g}% validation accuracy, looked at every {gap} steps; a miss counts as "
        f"{plan.budget} steps. Test accuracy: at the lowest validation loss.",
    ]
    if len(plan.seeds) > 1:
        method = "Student's t" if len(plan.seeds) < BOOTSTRAP_FROM else "bootstrap"
        parts.append(
            f"Ranks differ only where the 95% interval of the paired difference in steps leaves out 0 "
            f"({len(plan.seeds)} pairs, {method}, each pair of optimizers by itself)."
        )
    else:
        parts.append("One seed separates nothing: every rank is 1.")
    if protocol == "tuned":
        spaces: dict[str, None] = {}
        for contest in race.contests:
            if contest.plan is plan and contest.entrant.tunable:
                spaces[search_space(contest.entrant, plan.rates)] = None
        goal = "fewest steps to the target" if plan.tune_for == "steps" else "lowest validation loss"
        parts.append(f"Tuned for the {goal} on {TUNING_SEEDS} seeds of its own, equal budgets: {'. Or: '.join(spaces)}.")
    return " ".join(parts)


def edge_warnings(race: TaskRace) -> list[str]:
    """Warn where the best rate is an end of the grid."""
    return [
        f"{c.entrant.label} on {c.plan.setup.task}, {c.plan.setup.model}: the best rate "
        f"{c.sweep.grid[c.sweep.best_of_grid].rate:g} is the edge of the grid; a better one may lie outside"
        for c in race.contests
        if c.sweep is not None and c.sweep.on_edge
    ]


def failures(results: Sequence[TaskResult]) -> list[str]:
    """Name what failed."""
    found = {
        f"{r.optimizer} on {r.setup.task}, {r.setup.model}, {r.protocol}: {r.reason}": None
        for r in results
        if r.status == "failed"
    }
    return list(found)


def problems(race: TaskRace, protocol: TaskProtocol) -> dict[str, list[float]]:
    """Return the steps of every optimizer on every task, model and seed; infinite for a miss."""
    found: dict[str, dict[tuple[str, str, int], float]] = {}
    for result in race.results:
        if result.protocol == protocol and result.run is not None:
            place = (result.setup.task, result.setup.model, result.seed)
            steps = float(result.run.first_hit) if hit(result) and result.run.first_hit else math.inf
            found.setdefault(result.optimizer, {})[place] = steps
    places = sorted({place for own in found.values() for place in own})
    return {name: [own.get(place, math.inf) for place in places] for name, own in found.items()}


def details(race: TaskRace) -> dict[str, Any]:
    """Return what the saved JSON and the pictures carry: setups, sweeps, profiles, comparisons, every step."""
    comparisons = []
    for plan in race.plans:
        for protocol in plan.protocols:
            paired = complete(grouped(race, plan, protocol), len(plan.seeds))
            steps = {name: restricted_steps(results, plan.budget) for name, results in paired.items()}
            names = list(steps)
            for position, one in enumerate(names):
                for other in names[position + 1 :]:
                    found: dict[str, Any] = {"steps": asdict(paired_difference(steps[one], steps[other]))}
                    tests = [[result.test_accuracy for result in paired[name]] for name in (one, other)]
                    if all(value is not None for own in tests for value in own):
                        first, second = ([value or 0.0 for value in own] for own in tests)
                        found["test_accuracy"] = asdict(paired_difference(first, second))
                    comparisons.append(
                        {
                            "task": plan.setup.task,
                            "model": plan.setup.model,
                            "protocol": protocol,
                            "optimizers": [one, other],
                            **found,
                        }
                    )
    protocols = list(dict.fromkeys(protocol for plan in race.plans for protocol in plan.protocols))
    return {
        "setups": [
            asdict(plan.setup)
            | {"seeds": plan.seeds, "tuning_seeds": plan.tuning_seeds, "steps_per_epoch": plan.steps_per_epoch}
            for plan in race.plans
        ],
        "sweeps": [
            {
                "task": c.plan.setup.task,
                "model": c.plan.setup.model,
                "optimizer": c.entrant.label,
                "budget_steps": c.sweep.budget,
                "grid": [asdict(found) for found in c.sweep.grid],
                "beside": [asdict(found) for found in c.sweep.beside],
                "best": asdict(c.sweep.best),
                "width_decades": c.sweep.width,
            }
            for c in race.contests
            if c.sweep is not None
        ],
        "skipped": [
            {"task": c.plan.setup.task, "model": c.plan.setup.model, "optimizer": c.entrant.label} | {name: why}
            for c in race.contests
            for name, why in c.skipped.items()
        ],
        "comparisons": comparisons,
        "profiles": {protocol: profile(problems(race, protocol)) for protocol in protocols if problems(race, protocol)},
        "steps": [
            {
                "task": result.setup.task,
                "model": result.setup.model,
                "optimizer": result.optimizer,
                "protocol": result.protocol,
                "seed": result.seed,
                "losses": result.run.losses,
                "accuracies": result.run.accuracies,
                "gradient_norms": result.run.gradient_norms,
                "update_norms": result.run.update_norms,
            }
            for result in race.results
            if result.run is not None
        ],
        "interrupted": race.interrupted,
    }
