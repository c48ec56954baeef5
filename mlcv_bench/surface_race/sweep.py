"""How much a learning rate matters: steps to the target at every rate, for every optimizer and condition number."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from mlcv_bench.errors import UsageError
from mlcv_bench.records import Column, Report, Table
from mlcv_bench.surface_race.correction import BelowMinimumError, corrected
from mlcv_bench.surface_race.engines import EngineName, choose, engine_for
from mlcv_bench.surface_race.program import Problem
from mlcv_bench.surface_race.race import DEFAULT_OPTIMIZERS, check_limits, entrants, starts_of, value_at
from mlcv_bench.surface_race.summary import known
from mlcv_bench.surface_race.tuning import GRID, Sweep
from mlcv_bench.surfaces import catalog

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mlcv_bench.surfaces.surface import Point, Surface

SWEEP_COLUMNS = (
    "surface",
    "condition",
    "optimizer",
    "lr",
    "starts",
    "seed",
    "first_hit",
    "last_exit",
    "share_hit",
    "share_held",
    "final_loss",
)


@dataclass(frozen=True)
class SweptSurface:
    """One surface with the sweeps of every optimizer on it."""

    surface: Surface
    condition: float | None
    sweeps: tuple[Sweep, ...]


@dataclass(frozen=True)
class LrSweep:
    """Sweeps of several optimizers, over one or several condition numbers."""

    swept: tuple[SweptSurface, ...]
    steps: int
    target: float
    seed: int
    starts: int
    warnings: tuple[str, ...] = ()
    interrupted: bool = False

    def report(self) -> Report:
        """Return every optimizer's best rate and its margin, and a row a rate as the runs."""
        rows = list(self._rows())
        columns = (
            Column("optimizer", "optimizer", justify="left"),
            Column("condition", "condition", format="g"),
            Column("best", "best rate", format=".3g"),
            Column("steps", "steps there", "step", format="g"),
            Column("width", "good rates", "decades", format=".1f"),
            Column("largest", "largest that arrives", format=".3g"),
        )
        first = self.swept[0] if self.swept else None
        title = f"{first.surface.name}: steps to the target against the learning rate" if first else ""
        caption = (
            f"Best of {len(GRID)} rates, {GRID[0]:g} to {GRID[-1]:g}, over {self.steps} steps; "
            f"target: f - f* <= {self.target:g} (f0 - f*). Good: within twice the best steps."
        )
        edge = [
            f"{sweep.optimizer}: the best rate {sweep.best:g} is the edge of the grid; a better one may lie outside"
            for place in self.swept
            for sweep in place.sweeps
            if sweep.hit_any and sweep.on_edge
        ]
        return Report(
            study="lr-sweep",
            columns=SWEEP_COLUMNS,
            runs=list(self._runs()),
            tables=[Table(title, [column for column in columns if known(column.key, rows)], rows, caption)],
            notes=[
                *(["interrupted: only what was finished is shown"] if self.interrupted else []),
                *dict.fromkeys(note for place in self.swept for note in place.surface.remarks),
            ],
            warnings=[*self.warnings, *dict.fromkeys(edge)],
            details={"steps": self.steps, "target": self.target, "seed": self.seed, "rates": list(GRID)},
        )

    def _rows(self) -> Iterator[Mapping[str, Any]]:
        for place in self.swept:
            for sweep in place.sweeps:
                fewest = sweep.medians[sweep.best_index]
                arriving = [
                    rate for rate, steps in zip(sweep.rates, sweep.medians, strict=True) if math.isfinite(steps)
                ]
                yield {
                    "optimizer": sweep.optimizer,
                    "condition": place.condition,
                    "best": sweep.best if sweep.hit_any else None,
                    "steps": fewest if math.isfinite(fewest) else None,
                    "width": sweep.width,
                    "largest": max(arriving, default=None),
                }

    def _runs(self) -> Iterator[Mapping[str, Any]]:
        for place in self.swept:
            for sweep in place.sweeps:
                for i, rate in enumerate(sweep.rates):
                    hits, holds, final = sweep.hits[i], sweep.holds[i], sweep.final_values[i]
                    yield {
                        "surface": place.surface.name,
                        "condition": place.condition,
                        "optimizer": sweep.optimizer,
                        "lr": rate,
                        "starts": self.starts,
                        "seed": self.seed,
                        "first_hit": _median(hits),
                        "last_exit": _median(holds),
                        "share_hit": sum(step is not None for step in hits) / len(hits),
                        "share_held": sum(step is not None for step in holds) / len(holds),
                        "final_loss": final if math.isfinite(final) else None,
                    }


def _median(steps: Sequence[int | None]) -> float | None:
    middle = median([math.inf if step is None else step for step in steps])
    return middle if math.isfinite(middle) else None


def lr_sweep(  # noqa: PLR0913 - the public function takes what the command takes
    surface: str = "canyon",
    optimizers: Sequence[str] = DEFAULT_OPTIMIZERS,
    *,
    conditions: Sequence[float] = (),
    steps: int = 1000,
    target: float = 1e-6,
    start: Point | None = None,
    starts: int | None = None,
    seed: int = 0,
    engine: EngineName = "auto",
    threads: int = 1,
    **surface_settings: Any,  # noqa: ANN401 - the keywords of catalog.find
) -> LrSweep:
    """Run every optimizer at every rate of the grid.

    Args:
        surface: a name, a formula or a specification.
        optimizers: names with settings; one whose rate is set has nothing to sweep.
        conditions: condition numbers, for the surfaces that take one; each is swept.
        steps: how many every run may take.
        target: relative, as in `race`.
        start: where all begin.
        starts: instead, so many random starts.
        seed: decides starts, noise and the order of data.
        engine: as in `race`.
        threads: cores that share the lanes.
        **surface_settings: dim, batch_size, rotate, noise, as `surfaces.catalog.find` takes them.

    Raises:
        UsageError: a name, setting or limit is wrong, or an optimizer has no rate to sweep.

    """
    check_limits(steps, target, ())
    field = entrants(optimizers)
    for entrant in field:
        if not entrant.tunable:
            msg = f"{entrant.label} has no free learning rate to sweep; leave lr out of its settings"
            raise UsageError(msg)
    wanted: Sequence[float | None] = conditions or [None]
    waiting = [(condition, catalog.find(surface, condition=condition, **surface_settings)) for condition in wanted]
    found: list[SweptSurface] = []
    warnings: list[str] = []
    count = 1 if starts is None else starts
    runs = len(field) * len(waiting) * len(GRID) * count
    while waiting:
        condition, place = waiting[0]
        begins = starts_of(place, start, starts, seed)
        values = {begin: value_at(place, begin.point) for begin in begins}
        sweeps: list[Sweep] = []
        try:
            for entrant in field:
                chosen = choose(engine, entrant.rule, place, tuned=runs, steps=steps)
                problem = Problem(entrant.rule, entrant.rule.settings(entrant.given), place, steps, target, seed)
                worker = engine_for(entrant.rule, place, chosen, threads=threads)
                sweeps.append(worker.sweep(problem, entrant.label, GRID, begins, values))
        except BelowMinimumError as error:
            place, said = corrected(error, len(warnings))
            waiting[0] = condition, place
            warnings.append(said)
            continue
        except KeyboardInterrupt:
            found.append(SweptSurface(place, condition, tuple(sweeps)))
            return LrSweep(tuple(found), steps, target, seed, count, tuple(warnings), interrupted=True)
        found.append(SweptSurface(place, condition, tuple(sweeps)))
        waiting.pop(0)
    return LrSweep(tuple(found), steps, target, seed, count, tuple(warnings))
