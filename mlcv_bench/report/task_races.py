"""From a finished race on tasks to a report: one row an epoch for machines, one row an optimizer for people."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from statistics import fmean, median
from typing import Any

from mlcv_bench.records import Column, Report, Table
from mlcv_bench.statistics import Interval, paired_difference
from mlcv_bench.task_race.race import TUNING_SEEDS, Contest, TaskProblem, TaskRace, TaskResult
from mlcv_bench.task_race.ranks import profile, ranks
from mlcv_bench.task_race.request import TaskProtocol
from mlcv_bench.task_race.tuning import search_space, settings_text

COLUMNS = (
    "task", "model", "optimizer", "protocol", "lr", "batch_size", "seed", "epoch", "step", "train_loss", "val_loss",
    "val_accuracy", "test_accuracy", "status", "reason", "train_accuracy", "gradient_norm", "update_norm", "outcome",
    "first_hit", "held_from", "diverged_at", "settings", "evaluations",
)  # fmt: skip

Group = dict[str, list[TaskResult]]


def task_report(race: TaskRace) -> Report:
    """Return the report of a race on tasks."""
    results = race.results
    notes = list(dict.fromkeys(problem.images for problem in race.problems))
    if race.interrupted:
        notes.append("interrupted: only what was finished is shown")
    return Report(
        study="optim-race",
        columns=COLUMNS,
        runs=[row for result in results for row in rows_of(result)],
        tables=[
            table(race, problem, protocol)
            for problem in race.problems
            for protocol in reversed(problem.protocols)
            if any(belongs(result, problem, protocol) for result in results)
        ],
        notes=notes,
        warnings=[*race.warnings, *edge_warnings(race), *failures(results)],
        details=details(race),
    )


def belongs(result: TaskResult, problem: TaskProblem, protocol: TaskProtocol) -> bool:
    """Tell whether a result is one of a problem's under a protocol."""
    return result.setup == problem.setup and result.protocol == protocol


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
    row |= {name: getattr(result.run, name) for name in ("first_hit", "held_from", "diverged_at", "evaluations")}
    if result.outcome == "diverged":
        row["reason"] = f"diverged at step {result.run.diverged_at}"
    for number, epoch in enumerate(result.run.epochs, start=1):
        yield row | {"epoch": number} | {name: value for name, value in asdict(epoch).items() if name in row}


def grouped(race: TaskRace, problem: TaskProblem, protocol: TaskProtocol) -> Group:
    """Return the finished results on a problem under a protocol, by optimizer, each in the order of the seeds."""
    found: Group = {}
    for result in race.results:
        if belongs(result, problem, protocol) and result.run is not None:
            found.setdefault(result.optimizer, []).append(result)
    return found


def restricted_steps(results: Sequence[TaskResult], budget: int) -> list[float]:
    """Return the steps to the target of every run; a miss is censored at the budget."""
    return [float(budget if (step := step_of_hit(result)) is None else step) for result in results]


def hit(result: TaskResult) -> bool:
    """Tell whether a run met its target and did not diverge."""
    return result.outcome == "converged"


def step_of_hit(result: TaskResult) -> int | None:
    """Return the step at which a run met its target; None for a miss, and for a run that diverged."""
    return result.run.first_hit if result.run is not None and hit(result) else None


def complete(group: Group, seeds: int) -> Group:
    """Return the optimizers that finished on every seed: only they can be paired."""
    return {name: results for name, results in group.items() if len(results) == seeds}


def table(race: TaskRace, problem: TaskProblem, protocol: TaskProtocol) -> Table:
    """Return what people read of one task, model and protocol: one row an optimizer, the best first."""
    group = grouped(race, problem, protocol)
    paired = complete(group, len(problem.seeds))
    steps = {name: restricted_steps(results, problem.budget) for name, results in paired.items()}
    rank = ranks(steps)
    leader = min(steps, key=lambda name: (fmean(steps[name]), name), default=None)
    rows = []
    for name, results in group.items():
        row = summary_row(race, problem, protocol, results)
        row["rank"] = place_text(rank.get(name))
        if leader is not None and name in steps and name != leader:
            row["behind"] = difference_text(paired_difference(steps[name], steps[leader]))
        rows.append(row)
    rows.sort(key=lambda row: (row["mean_steps"], -(row["test_accuracy"] or 0), row["optimizer"]))
    rows += [
        {"optimizer": result.optimizer, "outcome": f"{result.status}: {result.reason}"}
        for result in race.results
        if belongs(result, problem, protocol) and result.run is None
    ]
    rows += [
        {"optimizer": contest.optimizer.label, "outcome": f"skipped: {contest.skipped[protocol]}"}
        for contest in race.contests
        if contest.problem is problem and protocol in contest.skipped
    ]
    unique = {(row["optimizer"], str(row.get("outcome")) if "mean_steps" not in row else ""): row for row in rows}
    setup = problem.setup
    title = (
        f"{setup.task}, {setup.model}, {protocol}: {setup.epochs} epochs of {problem.steps_per_epoch} steps, "
        f"batches of {setup.batch_size}, {len(problem.seeds)} seeds"
        + (f", {setup.schedule} schedule" if setup.schedule != "constant" else "")
    )
    several = any(row.get("evaluations") for row in rows)
    return Table(title, columns(protocol, several=several), list(unique.values()), caption(race, problem, protocol))


def columns(protocol: TaskProtocol, *, several: bool) -> list[Column]:
    """Return the columns of the table; `several` where an optimizer evaluates more than one gradient a step."""
    tuned = [
        Column("beside", "with", justify="left", missing=""),
        Column("width", "width", "decades", ".1f"),
    ]
    return [
        Column("optimizer", "optimizer", justify="left"),
        Column("rank", "rank", justify="left"),
        Column("lr", "rate", format=".3g"),
        *(tuned if protocol == "tuned" else []),
        Column("met", "met", justify="right"),
        Column("steps", "steps to target", format=".0f"),
        *([Column("evaluations", "gradients", "a step", ".1f", missing="1")] if several else []),
        Column("epochs", "epochs", format=".1f"),
        Column("behind", "steps behind the first", justify="left", missing=""),
        Column("test_accuracy", "test accuracy", "%", ".2f", 0.01),
        Column("loss_area", "mean loss", format=".3f"),
        Column("outcome", "outcome", justify="left"),
    ]


def summary_row(
    race: TaskRace, problem: TaskProblem, protocol: TaskProtocol, results: Sequence[TaskResult]
) -> dict[str, Any]:
    """Return one optimizer's row: medians of steps, means of the rest, over the seeds."""
    contest = contest_of(race, problem, results[0].optimizer)
    steps = [math.inf if (step := step_of_hit(result)) is None else float(step) for result in results]
    middle = median(steps)
    tests = [accuracy for result in results if (accuracy := result.test_accuracy) is not None]
    areas = [result.run.loss_area for result in results if result.run and result.run.loss_area is not None]
    also = contest.optimizer.also_tuned
    return {
        "optimizer": results[0].optimizer,
        "lr": results[0].lr,
        "beside": f"{also} {dict(results[0].settings)[also]:g}" if also and protocol == "tuned" else None,
        "width": contest.sweep.width if contest.sweep is not None else None,
        "met": f"{sum(map(hit, results))}/{len(results)}",
        "steps": middle if math.isfinite(middle) else None,
        "epochs": middle / problem.steps_per_epoch if math.isfinite(middle) else None,
        "mean_steps": fmean(restricted_steps(results, problem.budget)),
        "test_accuracy": fmean(tests) if len(tests) == len(results) else None,
        "evaluations": evaluations_a_step(results, problem.budget),
        "loss_area": fmean(areas) if len(areas) == len(results) else None,
        "outcome": outcomes(results),
    }


def evaluations_a_step(results: Sequence[TaskResult], budget: int) -> float | None:
    """Return how many gradients a step took; None for the usual one, and where every run diverged at once."""
    runs = [result.run for result in results if result.run is not None]
    steps = sum(budget if run.diverged_at is None else run.diverged_at - 1 for run in runs)
    evaluations = sum(run.evaluations for run in runs)
    return evaluations / steps if steps and evaluations != steps else None


def contest_of(race: TaskRace, problem: TaskProblem, optimizer: str) -> Contest:
    """Return the contest of one optimizer under a problem."""
    return next(c for c in race.contests if c.problem is problem and c.optimizer.label == optimizer)


def outcomes(results: Sequence[TaskResult]) -> str:
    """Name how the runs ended, with the step of the first divergence."""
    counts = Counter(result.outcome for result in results)
    words = ", ".join(name if len(counts) == 1 else f"{count} {name}" for name, count in counts.most_common())
    steps = [result.run.diverged_at for result in results if result.run and result.run.diverged_at is not None]
    return f"{words} at {min(steps)}" if steps else words


def place_text(places: tuple[int, int] | None) -> str | None:
    """Write the places that an optimizer may hold: 1, or 2-5 where the intervals do not say more."""
    if places is None:
        return None
    first, last = places
    return str(first) if first == last else f"{first}-{last}"


def difference_text(found: Interval) -> str:
    """Write a difference with its interval."""
    if not found.bounded:
        return f"{found.middle:+.0f}"
    return f"{found.middle:+.0f} [{found.low:+.0f}, {found.high:+.0f}]"


def difference_row(found: Interval) -> dict[str, float]:
    """Return a difference as JSON keeps it."""
    return {"mean": found.middle, "low": found.low, "high": found.high}


def caption(race: TaskRace, problem: TaskProblem, protocol: TaskProtocol) -> str:
    """Say what the columns mean."""
    setup = problem.setup
    gap = math.ceil(problem.steps_per_epoch / setup.checks)
    parts = [
        (
            f"Target: {100 * setup.target:g}% validation accuracy, looked at every {gap} steps; a miss counts as "
            f"{problem.budget} steps. Test accuracy: at the lowest validation loss."
        ),
    ]
    if len(problem.seeds) > 1:
        parts.append(
            f"Rank: the places left open by the 95% intervals of the paired differences in steps ({len(problem.seeds)} "
            f"pairs, Student's t, each pair of optimizers by itself)."
        )
    else:
        parts.append("One seed separates nothing.")
    if protocol == "tuned":
        spaces: dict[str, None] = {}
        for contest in race.contests:
            if contest.problem is problem and contest.optimizer.tunable:
                spaces[search_space(contest.optimizer, problem.rates)] = None
        goal = "fewest steps to the target" if problem.tune_for == "steps" else "lowest validation loss"
        words = "; or, ".join(spaces)
        parts.append(f"Tuned for the {goal} on {TUNING_SEEDS} seeds of its own, equal budgets: {words}.")
    return " ".join(parts)


def edge_warnings(race: TaskRace) -> list[str]:
    """Warn where the best rate is an end of the grid."""
    return [
        f"{c.optimizer.label} on {c.problem.setup.task}, {c.problem.setup.model}: the best rate "
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


def steps_of_problems(race: TaskRace, protocol: TaskProtocol) -> dict[str, list[float]]:
    """Return the steps of every optimizer on every task, model and seed; infinite for a miss."""
    found: dict[str, dict[tuple[str, str, int], float]] = {}
    for result in race.results:
        if result.protocol == protocol and result.run is not None:
            place = (result.setup.task, result.setup.model, result.seed)
            step = step_of_hit(result)
            found.setdefault(result.optimizer, {})[place] = math.inf if step is None else float(step)
    places = sorted({place for own in found.values() for place in own})
    return {name: [own.get(place, math.inf) for place in places] for name, own in found.items()}


def comparisons(race: TaskRace) -> list[dict[str, Any]]:
    """Return every pair of optimizers, their differences in steps and in test accuracy, and their intervals."""
    found: list[dict[str, Any]] = []
    for problem, protocol in cells(race):
        paired = complete(grouped(race, problem, protocol), len(problem.seeds))
        steps = {name: restricted_steps(results, problem.budget) for name, results in paired.items()}
        for one, other in itertools.combinations(steps, 2):
            row: dict[str, Any] = {
                "task": problem.setup.task,
                "model": problem.setup.model,
                "protocol": protocol,
                "optimizers": [one, other],
                "steps": difference_row(paired_difference(steps[one], steps[other])),
            }
            first, second = (
                [accuracy for result in paired[name] if (accuracy := result.test_accuracy) is not None]
                for name in (one, other)
            )
            if len(first) == len(second) == len(problem.seeds):
                row["test_accuracy"] = difference_row(paired_difference(first, second))
            found.append(row)
    return found


def behind_the_first(race: TaskRace) -> list[dict[str, Any]]:
    """Return how far every optimizer is behind the one with the fewest steps, tuned before default, the best first."""
    found: list[dict[str, Any]] = []
    for problem, protocol in reversed(cells(race)):
        paired = complete(grouped(race, problem, protocol), len(problem.seeds))
        steps = {name: restricted_steps(results, problem.budget) for name, results in paired.items()}
        order = sorted(steps, key=lambda name: (fmean(steps[name]), name))
        found += [
            {
                "task": problem.setup.task,
                "model": problem.setup.model,
                "protocol": protocol,
                "optimizer": name,
                "leader": order[0],
                **difference_row(paired_difference(steps[name], steps[order[0]])),
            }
            for name in order[1:]
        ]
    return found


def cells(race: TaskRace) -> list[tuple[TaskProblem, TaskProtocol]]:
    """Return every problem with each of its protocols."""
    return [(problem, protocol) for problem in race.problems for protocol in problem.protocols]


def details(race: TaskRace) -> dict[str, Any]:
    """Return what the saved JSON and the pictures carry: setups, sweeps, profiles, comparisons, every step."""
    protocols = list(dict.fromkeys(protocol for _, protocol in reversed(cells(race))))
    return {
        "setups": [
            asdict(problem.setup)
            | {"seeds": problem.seeds, "tuning_seeds": problem.tuning_seeds, "steps_per_epoch": problem.steps_per_epoch}
            for problem in race.problems
        ],
        "sweeps": [
            {
                "task": c.problem.setup.task,
                "model": c.problem.setup.model,
                "optimizer": c.optimizer.label,
                "budget_steps": c.sweep.budget,
                "grid": [asdict(found) for found in c.sweep.grid],
                "beside": [asdict(found) for found in c.sweep.near_best],
                "best": asdict(c.sweep.best),
                "width_decades": c.sweep.width,
            }
            for c in race.contests
            if c.sweep is not None
        ],
        "skipped": [
            {"task": c.problem.setup.task, "model": c.problem.setup.model, "optimizer": c.optimizer.label} | {name: why}
            for c in race.contests
            for name, why in c.skipped.items()
        ],
        "comparisons": comparisons(race),
        "behind": behind_the_first(race),
        "profiles": {
            protocol: profile(steps_of_problems(race, protocol))
            for protocol in protocols
            if steps_of_problems(race, protocol)
        },
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
