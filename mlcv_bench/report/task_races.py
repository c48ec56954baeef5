"""From a finished race on tasks to a report: one row an epoch for machines, one row an optimizer for people."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from statistics import fmean, median
from typing import Any

from mlcv_bench.optimizers.schedule import STEP_COLUMNS, step_columns, title_part
from mlcv_bench.records import Column, Report, Table, counted
from mlcv_bench.statistics import Interval, paired_difference, performance_profile, ranks
from mlcv_bench.task_race.optimizers import ALSO_TUNED, TaskOptimizer
from mlcv_bench.task_race.race import TUNING_SEEDS, Contest, TaskProblem, TaskRace, TaskResult
from mlcv_bench.task_race.request import TaskProtocol
from mlcv_bench.task_race.tuning import NEAR_RATES, NEAR_TRIALS

COLUMNS = (
    "task", "model", "optimizer", "protocol", "lr", "batch_size", "seed", "epoch", "step", "train_loss", "val_loss",
    "val_accuracy", "test_accuracy", "status", "reason", "train_accuracy", "gradient_norm", "update_norm", "outcome",
    "first_hit", "held_from", "diverged_at", "settings", "evaluations",
    "class_accuracy",
    *STEP_COLUMNS,
)  # fmt: skip


def task_report(race: TaskRace) -> Report:
    """Return the report of a race on tasks."""
    standings = [Standing(race, problem, protocol) for problem in race.problems for protocol in problem.protocols]
    # Tuned is read before default.
    shown = [own for problem in race.problems for own in reversed(standings) if own.problem is problem]
    notes = list(dict.fromkeys(problem.images for problem in race.problems))
    if race.interrupted:
        notes.append("interrupted: only what was finished is shown")
    return Report(
        study="optim-race",
        columns=COLUMNS,
        runs=[row for result in race.results for row in rows_of(result)],
        tables=[table(standing) for standing in shown if standing.results],
        notes=notes,
        warnings=[*race.warnings, *edge_warnings(race), *failures(race.results)],
        details=details(race, standings),
    )


def rows_of(result: TaskResult) -> Iterator[dict[str, Any]]:
    """Return one row an epoch; a run that failed or was skipped has one row, one that diverged ends with its epoch."""
    row: dict[str, Any] = dict.fromkeys(COLUMNS)
    row |= {
        "task": result.setup.task,
        "model": result.setup.label,
        "optimizer": result.optimizer,
        "protocol": result.protocol,
        "lr": result.lr,
        "batch_size": result.setup.batch_size,
        "seed": result.seed,
        "status": result.status,
        "reason": result.reason,
        "outcome": result.outcome,
        "settings": pairs_text(result.settings),
        **step_columns(result.setup.rate_schedule, result.setup.clip_norm),
    }
    if result.run is None:
        yield row
        return
    row |= {name: getattr(result.run, name) for name in ("first_hit", "held_from", "diverged_at", "evaluations")}
    if result.outcome == "diverged":
        row["reason"] = f"diverged at step {result.run.diverged_at}"
    for number, epoch in enumerate(result.run.epochs, start=1):
        measured = {name: value for name, value in asdict(epoch).items() if name in row}
        yield row | {"epoch": number} | measured | {"class_accuracy": pairs_text((epoch.class_accuracy or {}).items())}


def pairs_text(pairs: Iterable[tuple[str, Any]]) -> str:
    """Write names with their values as a column holds them: `cat=0.91 dog=0.4`."""
    return " ".join(f"{name}={value!r}" for name, value in pairs)


class Standing:
    """What is known of one problem under one protocol.

    Attributes:
        results: of every optimizer and seed.
        finished: those of them that ran, by optimizer, each in the order of the seeds.
        steps: to the target, a miss censored at the budget; of the optimizers that finished on every seed, as only
            they can be paired.
        order: of these optimizers, the fewest steps first.

    """

    def __init__(self, race: TaskRace, problem: TaskProblem, protocol: TaskProtocol) -> None:
        """Gather the results."""
        self.problem, self.protocol = problem, protocol
        self.contests = {own.optimizer.label: own for own in race.contests if own.problem is problem}
        self.results = [own for own in race.results if own.setup == problem.setup and own.protocol == protocol]
        self.finished: dict[str, list[TaskResult]] = {}
        for result in self.results:
            if result.run is not None:
                self.finished.setdefault(result.optimizer, []).append(result)
        self.steps = {
            name: restricted_steps(results, problem.budget)
            for name, results in self.finished.items()
            if len(results) == len(problem.seeds)
        }
        self.order = sorted(self.steps, key=lambda name: (fmean(self.steps[name]), name))

    @property
    def labels(self) -> dict[str, str]:
        """What a row of details begins with."""
        return {"task": self.problem.setup.task, "model": self.problem.setup.label, "protocol": self.protocol}

    def difference(self, one: str, other: str) -> Interval:
        """Return how many steps more one optimizer took than another, paired by seed."""
        return paired_difference(self.steps[one], self.steps[other])


def restricted_steps(results: Sequence[TaskResult], budget: int) -> list[float]:
    """Return the steps to the target of every run; a miss is censored at the budget."""
    return [step if math.isfinite(step) else float(budget) for step in map(step_of_hit, results)]


def step_of_hit(result: TaskResult) -> float:
    """Return the step at which a run met its target; infinite for a miss, and for a run that diverged."""
    if result.run is None or result.run.first_hit is None or result.outcome != "converged":
        return math.inf
    return float(result.run.first_hit)


def table(standing: Standing) -> Table:
    """Return what people read of one task, model and protocol: one row an optimizer, the best first."""
    problem, protocol, setup = standing.problem, standing.protocol, standing.problem.setup
    rank = ranks(standing.steps)
    rows = []
    for name, results in standing.finished.items():
        row = summary_row(standing.contests[name], protocol, results)
        row["rank"] = place_text(rank.get(name))
        if name in standing.order[1:]:
            row["behind"] = difference_text(standing.difference(name, standing.order[0]))
        rows.append(row)
    rows.sort(key=lambda row: (row["mean_steps"], -(row["test_accuracy"] or 0), row["optimizer"]))
    several = any(row["evaluations"] for row in rows)
    unfinished = [(own.optimizer, f"{own.status}: {own.reason}") for own in standing.results if own.run is None]
    unfinished += [
        (name, f"skipped: {contest.skipped[protocol]}")
        for name, contest in standing.contests.items()
        if protocol in contest.skipped
    ]
    rows += [{"optimizer": name, "outcome": outcome} for name, outcome in dict.fromkeys(unfinished)]
    length = f"{counted(setup.epochs, 'epoch')} of {counted(problem.steps_per_epoch, 'step')}"
    title = (
        f"{setup.task}, {setup.label}, {protocol}: {length}, "
        f"{'full ' if setup.drop_last else ''}batches of {setup.batch_size}, {counted(len(problem.seeds), 'seed')}"
        + title_part(setup.rate_schedule, setup.clip_norm)
        + (f", on {setup.device}" if setup.device else "")
    )
    return Table(title, columns(protocol, several=several), rows, caption(standing))


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
        Column("lowest_class", "lowest class", justify="left"),
        Column("loss_area", "mean loss", format=".3f"),
        Column("outcome", "outcome", justify="left"),
    ]


def summary_row(contest: Contest, protocol: TaskProtocol, results: Sequence[TaskResult]) -> dict[str, Any]:
    """Return one optimizer's row: medians of steps, means of the rest, over the seeds."""
    problem, also = contest.problem, contest.optimizer.also_tuned
    steps = [step_of_hit(result) for result in results]
    middle = median(steps)
    tests = [accuracy for result in results if (accuracy := result.test_accuracy) is not None]
    areas = [result.run.loss_area for result in results if result.run and result.run.loss_area is not None]
    return {
        "optimizer": contest.optimizer.label,
        "lr": results[0].lr,
        "beside": f"{also} {dict(results[0].settings)[also]:g}" if also and protocol == "tuned" else None,
        "width": contest.sweep.width if contest.sweep is not None else None,
        "met": f"{sum(map(math.isfinite, steps))}/{len(results)}",
        "steps": middle if math.isfinite(middle) else None,
        "epochs": middle / problem.steps_per_epoch if math.isfinite(middle) else None,
        "mean_steps": fmean(restricted_steps(results, problem.budget)),
        "test_accuracy": fmean(tests) if len(tests) == len(results) else None,
        "lowest_class": lowest_class(results),
        "evaluations": evaluations_a_step(results, problem.budget),
        "loss_area": fmean(areas) if len(areas) == len(results) else None,
        "outcome": outcomes(results),
    }


def lowest_class(results: Sequence[TaskResult]) -> str | None:
    """Name the class with the lowest test accuracy, the mean over the seeds; None unless every run has one."""
    runs = [own for result in results if (own := result.class_accuracy)]
    if not runs or len(runs) < len(results):
        return None
    means = {name: fmean(run[name] for run in runs) for name in runs[0]}
    name = min(means, key=means.__getitem__)
    return f"{name}: {means[name]:.2%}"


def evaluations_a_step(results: Sequence[TaskResult], budget: int) -> float | None:
    """Return how many gradients a step took; None for the usual one, and where every run diverged at once."""
    runs = [result.run for result in results if result.run is not None]
    steps = sum(budget if run.diverged_at is None else run.diverged_at - 1 for run in runs)
    evaluations = sum(run.evaluations for run in runs)
    return evaluations / steps if steps and evaluations != steps else None


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


def caption(standing: Standing) -> str:
    """Say what the columns mean."""
    problem, target = standing.problem, 100 * standing.problem.setup.target
    largest, share = problem.majority
    gap = math.ceil(problem.steps_per_epoch / problem.setup.checks)
    parts = [
        f"Target: {target:g}% validation accuracy (always guessing {largest}, the largest class, gives {share:.1%}),",
        f"checked every {counted(gap, 'step')};",
        f"a miss counts as {counted(problem.budget, 'step')}.",
        "Test accuracy: at the lowest validation loss; lowest class: the least accurate one there.",
        "Converged: met the target; budget: did not by the last epoch; diverged: a loss of NaN or above 1e6.",
    ]
    if len(problem.seeds) > 1:
        parts.append(
            f"Rank: the places left open by the 95% intervals of the paired differences in steps ({len(problem.seeds)} "
            f"pairs, Student's t, each pair of optimizers by itself)."
        )
    else:
        parts.append("One seed separates nothing.")
    if standing.protocol == "tuned":
        tuned = [own.optimizer for own in standing.contests.values() if own.optimizer.tunable]
        words = "; or, ".join(dict.fromkeys(search_space(optimizer, problem.rates) for optimizer in tuned))
        goal = "fewest steps to the target" if problem.tune_for == "steps" else "lowest validation loss"
        parts.append("Width: the decades of neighbouring rates that take at most twice the best rate's steps.")
        parts.append(f"Tuned for the {goal} on {TUNING_SEEDS} seeds of its own, equal budgets: {words}.")
    return " ".join(parts)


def search_space(optimizer: TaskOptimizer, rates: Sequence[float]) -> str:
    """Say in words what was tried for an optimizer."""
    name = optimizer.also_tuned
    words = f"{len(rates)} rates, {rates[0]:g} to {rates[-1]:g}"
    if name is None:
        return f"{words}; then {NEAR_TRIALS} rates round the best"
    values = ", ".join(f"{value:g}" for value in ALSO_TUNED[name])
    return f"{words}; then {name} {values} at {NEAR_RATES} rates round the best"


def edge_warnings(race: TaskRace) -> list[str]:
    """Warn where the best rate is an end of the grid."""
    return [
        f"{own.optimizer.label} on {own.problem.setup.task}, {own.problem.setup.label}: the best rate "
        f"{own.sweep.grid[own.sweep.best_of_grid].rate:g} is the edge of the grid; a better one may lie outside"
        for own in race.contests
        if own.sweep is not None and own.sweep.on_edge
    ]


def failures(results: Sequence[TaskResult]) -> list[str]:
    """Name what failed, each once."""
    found = [
        f"{own.optimizer} on {own.setup.task}, {own.setup.label}, {own.protocol}: {own.reason}"
        for own in results
        if own.status == "failed"
    ]
    return list(dict.fromkeys(found))


def profile_of(race: TaskRace, protocol: TaskProtocol) -> dict[str, list[tuple[float, float]]]:
    """Return the performance profile of every optimizer over all tasks, models and seeds; empty without results."""
    found: dict[str, dict[tuple[str, str, int], float]] = {}
    for result in race.results:
        if result.protocol == protocol and result.run is not None:
            place = (result.setup.task, result.setup.label, result.seed)
            found.setdefault(result.optimizer, {})[place] = step_of_hit(result)
    places = sorted({place for own in found.values() for place in own})
    return performance_profile({name: [own.get(place, math.inf) for place in places] for name, own in found.items()})


def comparisons(standing: Standing) -> Iterator[dict[str, Any]]:
    """Yield every pair of optimizers, their differences in steps and in test accuracy, and their intervals."""
    for one, other in itertools.combinations(standing.steps, 2):
        row: dict[str, Any] = {
            **standing.labels,
            "optimizers": [one, other],
            "steps": difference_row(standing.difference(one, other)),
        }
        first, second = (
            [accuracy for result in standing.finished[name] if (accuracy := result.test_accuracy) is not None]
            for name in (one, other)
        )
        if len(first) == len(second) == len(standing.problem.seeds):
            row["test_accuracy"] = difference_row(paired_difference(first, second))
        yield row


def behind_the_first(standing: Standing) -> list[dict[str, Any]]:
    """Return how far every optimizer is behind the one with the fewest steps, the best first."""
    first, *others = standing.order or [""]
    return [
        {
            **standing.labels,
            "optimizer": name,
            "leader": first,
            **difference_row(standing.difference(name, first)),
        }
        for name in others
    ]


def details(race: TaskRace, standings: Sequence[Standing]) -> dict[str, Any]:
    """Return what the saved JSON and the pictures carry: setups, sweeps, profiles, comparisons, every step."""
    profiles = {own.protocol: profile_of(race, own.protocol) for own in reversed(standings)}
    return {
        "setups": [
            asdict(problem.setup)
            | {"seeds": problem.seeds, "tuning_seeds": problem.tuning_seeds, "steps_per_epoch": problem.steps_per_epoch}
            for problem in race.problems
        ],
        "sweeps": [
            {
                "task": own.problem.setup.task,
                "model": own.problem.setup.label,
                "optimizer": own.optimizer.label,
                "budget_steps": own.sweep.budget,
                "grid": [asdict(found) for found in own.sweep.grid],
                "beside": [asdict(found) for found in own.sweep.near_best],
                "best": asdict(own.sweep.best),
                "width_decades": own.sweep.width,
            }
            for own in race.contests
            if own.sweep is not None
        ],
        "skipped": [
            {"task": own.problem.setup.task, "model": own.problem.setup.label, "optimizer": own.optimizer.label}
            | {name: why}
            for own in race.contests
            for name, why in own.skipped.items()
        ],
        "comparisons": [row for own in standings for row in comparisons(own)],
        "behind": [row for own in reversed(standings) for row in behind_the_first(own)],
        "profiles": {protocol: profile for protocol, profile in profiles.items() if profile},
        "steps": [
            {
                "task": result.setup.task,
                "model": result.setup.label,
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
