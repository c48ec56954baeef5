"""How much a learning rate matters: steps to the target at every rate, for every optimizer and condition number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlcv_bench.errors import UsageError
from mlcv_bench.optimizers.rule import DEFAULT_OPTIMIZERS
from mlcv_bench.surface_race.correction import BelowMinimumError, corrected
from mlcv_bench.surface_race.engines import EngineName, choose, engine_for
from mlcv_bench.surface_race.program import Problem
from mlcv_bench.surface_race.race import check_limits, entrants, starts_of, value_at
from mlcv_bench.surface_race.tuning import GRID, Sweep
from mlcv_bench.surfaces import catalog

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlcv_bench.surfaces.surface import Point, Surface


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
