"""Races on surfaces, sweeps of rates and basins as reports: runs for files, and for people a table, best first."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any

from mlcv_bench.optimizers.schedule import STEP_COLUMNS, step_columns, title_part
from mlcv_bench.records import Column, Report, Rows, Table, columns_of, counted, filled
from mlcv_bench.statistics import median_interval_of_ordered
from mlcv_bench.surface_race import race as studies
from mlcv_bench.surface_race.metrics import AT_ONCE, OUTCOMES, RaceResult, Runs, pieces, plain_list, steps_or_none
from mlcv_bench.surface_race.tuning import GRID, Sweep, median_or_miss
from mlcv_bench.surfaces.surface import kept, shown

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping, Sequence

    import numpy as np
    import numpy.typing as npt

    from mlcv_bench.surface_race.basins import BasinMap
    from mlcv_bench.surface_race.metrics import Endings, Numbers
    from mlcv_bench.surface_race.race import LrSweep, SweptSurface
    from mlcv_bench.surfaces.surface import Point

SWEEP_COLUMNS = (
    *("surface", "condition", "optimizer", "lr", "starts", "seed"),
    *("first_hit", "last_exit", "share_hit", "share_held", "final_loss"),
    *STEP_COLUMNS,
    *("status", "reason"),
)
BASIN_COLUMNS = (
    *("surface", "optimizer", "lr", "seed", "steps", "minimum", "loss", "is_global", "share", "median_steps"),
    *STEP_COLUMNS,
)

ONE_START = (
    Column("optimizer", "optimizer", justify="left"),
    Column("protocol", "protocol", justify="left"),
    Column("lr", "rate", format=".3g"),
    Column("first_hit", "first hit"),
    Column("last_exit", "last exit"),
    Column("predicted_hit", "theory"),
    Column("final_loss", "final loss", format=".1e"),
    Column("path_ratio", "path", "x", format=".2f", spare=True),
    Column("sign_flips", "flips", "%", format=".0f", scale=0.01, spare=True),
    Column("width", "good rates", format=".1f"),
    Column("evaluations", "gradients", "a step", format=".1f", missing="1"),
    Column("outcome", "outcome", justify="left"),
)
MANY_STARTS = (
    *ONE_START[:3],
    Column("first_hit", "first hit", format="g"),
    Column("first_hit_interval", "95% interval"),
    Column("last_exit", "last exit", format="g"),
    Column("predicted_hit", "theory", format="g"),
    Column("final_loss", "final loss", format=".1e"),
    Column("width", "good rates", format=".1f"),
    ONE_START[-2],
    Column("outcome", "outcomes", justify="left"),
)
SWEEP_TABLE = (
    Column("optimizer", "optimizer", justify="left"),
    Column("condition", "condition", format="g"),
    Column("best", "best rate", format=".3g"),
    Column("steps", "steps there", "step", format="g"),
    Column("width", "good rates", "decades", format=".1f"),
    Column("largest", "largest that arrives", format=".3g"),
)
BASIN_TABLE = (
    Column("minimum", "ends in", justify="left"),
    Column("loss", "loss", format=".4g"),
    Column("is_global", "global"),
    Column("share", "share of starts", "%", format=".1f", scale=0.01),
    Column("median_steps", "median steps", "step", format="g"),
)


LONG_POINTS = ("Points so long are left out of files; seed and start_number decide a random start.",)
MISSABLE = ("first_hit", "last_exit", "final_loss")
MEASURED = ("predicted_hit", "path_ratio", "sign_flips")
"""What a row shows of a run: a miss of the first is infinite, of the others unknown."""


def race_report(race: studies.Race) -> Report:
    """Return a race as a report: every run, the summary, what was left out and why."""
    many = len(race.starts) > 1
    rows = sorted(summary_rows(race), key=rank)
    columns = filled(MANY_STARTS if many else ONE_START, rows)
    surface = race.surface
    where = f"{len(race.starts)} random starts" if many else f"from ({shown(race.starts[0].point)})"
    name = surface.formula if surface.name == surface.formula else f"{surface.name}: {surface.formula}"
    title = f"{name}, {where}, {counted(race.steps, 'step')}{title_part(race.schedule, race.clip_norm)}"
    return Report(
        study="optim-race",
        columns=columns_of(RaceResult),
        runs=RunRows(race.runs, cannot_run(race)),
        tables=[
            Table(title, columns, rows, caption(race, {column.key for column in columns})),
            *unable_table(race.unable),
        ],
        notes=[
            *(["interrupted: only what was finished is shown"] if race.interrupted else []),
            *surface.remarks,
            *(LONG_POINTS if kept(surface.start) is None else ()),
            *left_out(race),
        ],
        warnings=race.warnings,
        details={
            "surface": surface.name,
            "formula": surface.formula,
            "parameters": dict(surface.parameters),
            "minimum": surface.minimum,
            "minima": [kept(point) for point in surface.minima],
            "curvatures": [surface.mu, surface.L],
            "steps": race.steps,
            "target": race.target,
            "seed": race.seed,
            "noise": surface.noise,
            "batch_size": surface.finite_sum.batch_size if surface.finite_sum else None,
            **step_columns(race.schedule, race.clip_norm),
            "sweeps": [sweep_details(sweep) for sweep in race.sweeps],
            "skipped": {f"{optimizer} {protocol}": why for (optimizer, protocol), why in race.skipped.items()},
            "interrupted": race.interrupted,
        },
    )


class RunRows(Rows):
    """The rows of many runs, made of their columns as they are read."""

    def __init__(self, runs: Sequence[Runs], others: Sequence[dict[str, Any]] = ()) -> None:
        """Keep the columns, and the rows of what was skipped."""
        self.columns = columns_of(RaceResult)
        self._runs = runs
        self._others = others

    def __len__(self) -> int:
        """Return how many runs there are."""
        return sum(map(len, self._runs)) + len(self._others)

    def values(self) -> Iterator[tuple[Any, ...]]:
        """Return the values of a row a run."""
        for runs in self._runs:
            for piece in pieces(range(len(runs)), AT_ONCE):
                yield from zip(*runs.columns(piece), strict=True)
        for row in self._others:
            yield tuple(map(row.get, self.columns))


def cannot_run(race: studies.Race) -> list[dict[str, Any]]:
    """Return a row for every protocol under which an optimizer of a list cannot run, with the reason."""
    shared = {"surface": race.surface.name, "seed": race.seed, "status": "skipped"}
    return [
        shared | {"optimizer": optimizer, "protocol": protocol, "reason": why}
        for (optimizer, protocol), why in race.skipped.items()
        if race.unable.get(optimizer) == why
    ]


def unable_table(unable: Mapping[str, str]) -> list[Table]:
    """Return a table of the optimizers of a list that cannot run, each with the reason; none where all can."""
    columns = (Column("optimizer", "cannot run", justify="left"), Column("reason", "reason", justify="left"))
    rows = [{"optimizer": optimizer, "reason": why} for optimizer, why in unable.items()]
    return [Table("", columns, rows)] if rows else []


KEPT_STARTS = 1000
"""Starts of a tuning whose every step is saved; of more, the medians."""


def sweep_details(sweep: Sweep) -> dict[str, Any]:
    """Return a tuning as the saved JSON carries it."""
    each = {"hits": sweep.first_hits, "holds": sweep.last_exits}
    kept = len(sweep.first_hits[0]) <= KEPT_STARTS
    return {
        "optimizer": sweep.optimizer,
        "rates": sweep.rates,
        **{name: [steps_or_none(row) for row in rows] for name, rows in each.items() if kept},
        "medians": [finite(steps) for steps in sweep.medians],
        "final_values": sweep.final_values,
        "stochastic": sweep.stochastic,
        "width_decades": sweep.width,
    }


def left_out(race: studies.Race) -> list[str]:
    """Say which protocols were not run and why, one sentence for all optimizers with the same reason."""
    protocols: dict[tuple[str, str], list[str]] = {}
    for (optimizer, protocol), why in race.skipped.items():
        if race.unable.get(optimizer) == why:
            continue
        protocols.setdefault((optimizer, why), []).append(protocol)
    optimizers: dict[tuple[str, str], list[str]] = {}
    for (optimizer, why), names in protocols.items():
        optimizers.setdefault((", ".join(names), why), []).append(optimizer)
    return [f"Not run, {names}: {', '.join(labels)} ({why})." for (names, why), labels in optimizers.items()]


def summary_rows(race: studies.Race) -> Iterator[dict[str, Any]]:
    """Return one row an optimizer and protocol: the run itself, or medians over the starts."""
    widths = {sweep.optimizer: sweep.width for sweep in race.sweeps}
    for runs in race.runs:
        shared = {
            "optimizer": runs.optimizer,
            "protocol": runs.protocol,
            "lr": runs.lr,
            "width": widths.get(runs.optimizer) if runs.protocol == "tuned" else None,
            "outcome": outcomes(runs),
            "evaluations": evaluations_a_step(runs.endings),
        }
        if len(runs) == 1:
            (only,) = runs.results()
            yield shared | {key: getattr(only, key) for key in (*MISSABLE, *MEASURED)}
        else:
            yield shared | medians_of(runs)


def evaluations_a_step(endings: Endings) -> float | None:
    """Return how many gradients a step took; None for the usual one."""
    steps, evaluations = sum(plain_list(endings.steps)), sum(plain_list(endings.evaluations))
    return evaluations / steps if evaluations != steps else None


def medians_of(runs: Runs) -> dict[str, Any]:
    """Return the medians over the starts; a miss is infinite, and an infinite median is shown as missing."""
    import numpy as np  # noqa: PLC0415 - a race from one start needs none

    endings = runs.endings
    missable = {
        "first_hit": infinite(endings.first_hit),
        "last_exit": infinite(endings.last_exit),
        "final_loss": np.nan_to_num(endings.final_loss, nan=np.inf),
    }
    row: dict[str, Any] = {}
    for key, values in missable.items():
        found = median_interval_of_ordered(np.sort(values))
        row[key] = finite(found.middle)
        if key == "first_hit" and found.bounded and math.isfinite(found.low):
            ends = (found.low, found.high)
            row["first_hit_interval"] = "-".join(f"{end:g}" if math.isfinite(end) else "miss" for end in ends)
    hits = np.asarray(runs.predicted_hit)
    measured = {
        "predicted_hit": hits[hits >= 0],
        **{key: known(getattr(endings, key)) for key in ("path_ratio", "sign_flips")},
    }
    return row | {key: float(np.median(values)) if values.size else None for key, values in measured.items()}


def infinite(steps: Numbers) -> npt.NDArray[np.float64]:
    """Return steps as numbers, a miss as the infinite one."""
    import numpy as np  # noqa: PLC0415 - as above

    found = np.asarray(steps)
    return np.where(found < 0, np.inf, found)


def known(values: Numbers) -> npt.NDArray[np.float64]:
    """Return the numbers that are there."""
    import numpy as np  # noqa: PLC0415 - as above

    found = np.asarray(values, dtype=np.float64)
    return found[~np.isnan(found)]


def finite(value: float) -> float | None:
    """Return a value, or None for the infinite one of a miss."""
    return value if math.isfinite(value) else None


def outcomes(runs: Runs) -> str:
    """Name how the runs ended: the outcome of one or of all, or the share of each, the commonest first."""
    if len(runs) == 1:
        (only,) = runs.results()
        if only.outcome == "diverged":
            return "diverging" if only.diverged_at is None else f"diverged at {only.diverged_at}"
        return only.outcome.replace("_", " ")
    counts = Counter(plain_list(runs.endings.outcome)).most_common()
    names = [(100 * count / len(runs), OUTCOMES[one].replace("_", " ")) for one, count in counts]
    return names[0][1] if len(names) == 1 else ", ".join(f"{share:.0f}% {name}" for share, name in names)


def rank(row: dict[str, Any]) -> tuple[float, ...]:
    """Order rows best first: by the step from which the target holds, the first hit, the final loss."""
    keys = ("last_exit", "first_hit", "final_loss")
    return tuple(math.inf if row.get(key) is None else float(row[key]) for key in keys)


EXPLAINED = {
    "first_hit": "First hit: the first step at which the target holds.",
    "first_hit_interval": "95% interval: of its median over the starts; a miss is later than every step.",
    "last_exit": "Last exit: the first step from which the target holds to the end.",
    "evaluations": "Gradients: how many a step takes; steps are then no fair clock.",
    "path_ratio": "Path: its length, times that of the straight line.",
    "sign_flips": "Flips: the share of steps that cross the valley.",
    "width": "Good rates: decades of rates round the best that take at most twice its steps.",
    "converged": "Converged: the target holds over the last tenth of the steps at least.",
    "budget": "Budget: still improving when the steps were over.",
    "floor": "Floor: stopped improving without holding the target over the last tenth.",
    "saddle": "Saddle: stopped where the gradient is zero and a way leads down.",
    "wrong_minimum": "Wrong minimum: stopped where a lower one is known.",
    "diverged": "Diverged: the loss is no number or 1e20 times the first gap; diverging: it grows.",
}
"""What a column or an outcome means, said below a table that has it."""


def caption(race: studies.Race, columns: Container[str]) -> str:
    """Say what the target, the protocols, the columns that are shown and the outcomes mean, in one sentence each."""
    parts = [target_of(race.target, race.surface.minimum)]
    if race.sweeps:
        sweep = race.sweeps[0]
        parts.append(
            f"Tuned: best of {len(sweep.rates)} rates, {sweep.rates[0]:g} to {sweep.rates[-1]:g}, equal for all"
            + (", on starts of their own." if len(race.starts) > 1 else ".")
        )
    if "predicted_hit" in columns:
        parts.append("Theory: the first hit by the closed form.")
    outcomes = {OUTCOMES[one] for runs in race.runs for one in set(plain_list(runs.endings.outcome))}
    parts += [sentence for word, sentence in EXPLAINED.items() if word in columns or word in outcomes]
    return " ".join(parts)


def target_of(share: float, minimum: float | None) -> str:
    """Return the sentence on a target, which needs a lowest value."""
    if minimum is None:
        return "No lowest point is known, so there is no target."
    return f"Target: f - f* <= {share:g} (f0 - f*), without noise."


def sweep_report(found: LrSweep) -> Report:
    """Return every optimizer's best rate and its margin, and a row a rate as the runs."""
    rows = [sweep_row(place, sweep) for place in found.swept for sweep in place.sweeps]
    title = f"{found.swept[0].surface.name}: steps to the target against the learning rate" if found.swept else ""
    minima = [place.surface.minimum for place in found.swept]
    columns = filled(SWEEP_TABLE, rows)
    random = any(sweep.stochastic for place in found.swept for sweep in place.sweeps)
    changed = title_part(found.schedule, found.clip_norm)
    parts = [
        f"Best of {len(GRID)} rates, {GRID[0]:g} to {GRID[-1]:g}, over {counted(found.steps, 'step')}{changed}.",
        target_of(found.target, None if None in minima else 0.0),
    ]
    if any(column.key == "width" for column in columns):
        first = "at which it holds" if random else "from which the target holds to the end"
        parts += [f"Steps there: the first step {first}, a median over starts.", EXPLAINED["width"]]
    never = [
        row["optimizer"] + (f" at condition {row['condition']:g}" if row["condition"] is not None else "")
        for row in rows
        if row["best"] is None
    ]
    edge = [sweep.edge_warning for place in found.swept for sweep in place.sweeps if sweep.edge_warning]
    return Report(
        study="lr-sweep",
        columns=SWEEP_COLUMNS,
        runs=[
            *(row for place in found.swept for sweep in place.sweeps for row in rate_rows(found, place, sweep)),
            *({"optimizer": one, "status": "skipped", "reason": why} for one, why in found.unable.items()),
        ],
        tables=[Table(title, columns, rows, " ".join(parts)), *unable_table(found.unable)],
        notes=[
            *(["interrupted: only what was finished is shown"] if found.interrupted else []),
            *dict.fromkeys(note for place in found.swept for note in place.surface.remarks),
            *([f"No rate of the grid arrives: {', '.join(never)}."] if never else []),
        ],
        warnings=[*found.warnings, *dict.fromkeys(edge)],
        details={
            "steps": found.steps,
            "target": found.target,
            "seed": found.seed,
            "rates": list(GRID),
            "stochastic": random,
            **step_columns(found.schedule, found.clip_norm),
        },
    )


def sweep_row(place: SweptSurface, sweep: Sweep) -> dict[str, Any]:
    """Return an optimizer's best rate and its margin on one surface."""
    arriving = [rate for rate, steps in zip(sweep.rates, sweep.medians, strict=True) if math.isfinite(steps)]
    return {
        "optimizer": sweep.optimizer,
        "condition": place.condition,
        "best": sweep.best if sweep.hit_any else None,
        "steps": finite(sweep.medians[sweep.best_index]),
        "width": sweep.width,
        "largest": max(arriving, default=None),
    }


def rate_rows(found: LrSweep, place: SweptSurface, sweep: Sweep) -> Iterable[dict[str, Any]]:
    """Return a row a rate: medians over the starts, and the shares of starts that meet and hold the target."""
    for rate, hits, exits, final in zip(
        sweep.rates, sweep.first_hits, sweep.last_exits, sweep.final_values, strict=True
    ):
        yield {
            "surface": place.surface.name,
            "condition": place.condition,
            "optimizer": sweep.optimizer,
            "lr": rate,
            "starts": found.starts,
            "seed": found.seed,
            "first_hit": finite(median_or_miss(hits)),
            "last_exit": finite(median_or_miss(exits)),
            "share_hit": share_known(hits),
            "share_held": share_known(exits),
            "final_loss": finite(final),
            "status": "done",
            **step_columns(found.schedule, found.clip_norm),
        }


def share_known(steps: Numbers) -> float:
    """Return the share of the steps that came."""
    came: int = sum(step >= 0 for step in plain_list(steps))
    return came / len(steps)


def basins_report(found: BasinMap) -> Report:
    """Return the share and the median steps of every basin."""
    from mlcv_bench.surface_race.basins import NEAR  # noqa: PLC0415 - with numpy, which a race needs not

    rows = list(basin_rows(found))
    points = [row["minimum"] for row in rows]
    written = [point if isinstance(point, str) else shown(point) for point in points]
    table_rows = [row | {"minimum": text} for row, text in zip(rows, written, strict=True)]
    height, width = found.index.shape
    lr = found.settings.get("lr")
    rate = f" at rate {lr:g}" if lr is not None else ""
    title = f"{found.surface.name}: where {found.optimizer}{rate} ends, from {width} x {height} starts"
    caption = (
        f"{counted(found.budget, 'step')}{title_part(found.schedule, found.clip_norm)}. "
        f"Ends in: the nearest minimum, within {NEAR:.0%} of the picture's diagonal. "
        f"Median steps: to f - f(minimum) <= {found.target:g} of the gap at the start."
        + (" Global: no lower point is known." if found.surface.local_minima else "")
    )
    return Report(
        study="basins",
        columns=BASIN_COLUMNS,
        runs=rows,
        tables=[Table(title, BASIN_TABLE, table_rows, caption)],
        notes=list(found.surface.remarks),
        details={"settings": dict(found.settings), "box": list(found.surface.box), "size": [width, height]},
    )


def basin_rows(found: BasinMap) -> Iterable[dict[str, Any]]:
    """Return a row a minimum, after the starts that diverged and those that end elsewhere."""
    import numpy as np  # noqa: PLC0415 - loaded with the basins; a race needs none

    surface = found.surface
    nowhere = found.index < 0
    groups: list[tuple[Point | str, npt.NDArray[np.bool_]]] = [
        (name, inside)
        for name, inside in (("diverged", found.diverged), ("no known minimum", nowhere & ~found.diverged))
        if inside.any()
    ]
    groups += [(minimum, found.index == number) for number, minimum in enumerate(found.minima)]
    for minimum, inside in groups:
        known_one = not isinstance(minimum, str)
        took = found.steps[inside & (found.steps >= 0)]
        yield {
            "surface": surface.name,
            "optimizer": found.optimizer,
            "lr": found.settings.get("lr"),
            "seed": found.seed,
            "steps": found.budget,
            "minimum": minimum,
            "loss": surface.value(*minimum) if known_one else None,
            "is_global": minimum in surface.minima if known_one else None,
            "share": float(inside.mean()),
            "median_steps": float(np.median(took)) if known_one and took.size else None,
            **step_columns(found.schedule, found.clip_norm),
        }


STANDINGS = 24
"""Lines that a race shows of itself as it runs."""


def standings(race: studies.RaceStanding) -> str:
    """Say how far a race is, and below it of every optimizer and protocol that is finished, the best first."""
    best = sorted(map(_standing, race.finished), key=lambda item: item[0])[:STANDINGS]
    return "\n".join([f"{race.share:.0%}: {race.optimizer}, {race.protocol}", *(line for _, line in best)])


def sweep_standings(sweep: studies.SweepStanding) -> str:
    """Say how far a sweep is, and below it the best rate of every optimizer that is finished, the best first."""
    rows = [sweep_row(place, own) for place in sweep.swept for own in place.sweeps]
    rows.sort(key=lambda row: math.inf if row["steps"] is None else row["steps"])
    lines = [
        f"{row['optimizer']:<14} {on_condition(row['condition']):<16} "
        + ("no rate arrives" if row["best"] is None else f"rate {row['best']:<9.3g} {row['steps']:g} steps")
        for row in rows[:STANDINGS]
    ]
    here = on_condition(sweep.swept[-1].condition)
    return "\n".join([f"{sweep.share:.0%}: {sweep.optimizer}{here and ', '}{here}", *lines])


def on_condition(condition: float | None) -> str:
    """Name a condition number, where there is one."""
    return "" if condition is None else f"condition {condition:g}"


def _standing(runs: Runs) -> tuple[float, str]:
    if len(runs) == 1:
        (only,) = runs.results()
        first = math.inf if only.last_exit is None else only.last_exit
        what = outcomes(runs) if only.last_exit is None else f"on target from step {first}"
    else:
        steps = infinite(runs.endings.last_exit)
        first, arrived = float(steps.min()), int((steps < math.inf).sum())
        what = f"{arrived} of {len(runs)} arrive, the first at step {first:g}" if arrived else "none arrives"
    rate = "" if runs.lr is None else f"rate {runs.lr:.3g}"
    line = f"{runs.optimizer:<14} {runs.protocol:<8} {rate:<14} {what}"
    return first, line
