"""The race, every optimizer on one surface under the protocols side by side, and the sweep over all learning rates."""

from __future__ import annotations

import dataclasses
import itertools
import math
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, TypeVar

from mlcv_bench.errors import UsageError
from mlcv_bench.optimizers.schedule import CONSTANT, Schedule
from mlcv_bench.optimizers.third_party import written
from mlcv_bench.random_streams import HELD_OUT
from mlcv_bench.surface_race import theory
from mlcv_bench.surface_race.engines import (
    MOST_TRACED,
    BelowMinimumError,
    Engine,
    engine_for,
)
from mlcv_bench.surface_race.floats import Trajectory
from mlcv_bench.surface_race.metrics import MISS, RaceResult, Runs
from mlcv_bench.surface_race.program import PLAIN, Problem, Start
from mlcv_bench.surface_race.request import (
    RaceOptimizer,
    RaceRequest,
    SweepRequest,
    random_starts,
)
from mlcv_bench.surface_race.tuning import GRID, Sweep
from mlcv_bench.surfaces.minima import distance_to_minimum, refine
from mlcv_bench.surfaces.surface import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from mlcv_bench.surface_race.engines import Done
    from mlcv_bench.surface_race.metrics import Endings, Numbers
    from mlcv_bench.surfaces.surface import Surface

T = TypeVar("T")

MOST_CORRECTIONS = 5
"""A surface that is undercut more often has its lowest point too far away to be looked for by racing."""


@dataclass(frozen=True)
class Race:
    """What a race found; `interrupted` says that it was stopped before its end.

    `runs` are columns for each optimizer and protocol, `results` an object for each run, made when they are asked for.
    """

    surface: Surface
    steps: int
    target: float
    seed: int
    starts: Sequence[Start]
    runs: tuple[Runs, ...]
    sweeps: tuple[Sweep, ...]
    traces: Mapping[tuple[str, str], Trajectory] = field(default_factory=dict, repr=False)
    warnings: tuple[str, ...] = ()
    skipped: Mapping[tuple[str, str], str] = field(default_factory=dict)
    unable: Mapping[str, str] = field(default_factory=dict)
    """Optimizers of a list that cannot run here, each with the reason."""
    interrupted: bool = False
    schedule: Schedule = CONSTANT
    clip_norm: float | None = None

    @cached_property
    def results(self) -> tuple[RaceResult, ...]:
        """Every run as an object."""
        return tuple(itertools.chain.from_iterable(runs.results() for runs in self.runs))


@dataclass(frozen=True)
class SweptSurface:
    """One surface with the sweeps of every optimizer on it."""

    surface: Surface
    condition: float | None
    sweeps: tuple[Sweep, ...]


@dataclass(frozen=True)
class SweepStanding:
    """How far a sweep is: what is finished, on the present surface last, what runs, and the share of runs over."""

    swept: tuple[SweptSurface, ...]
    optimizer: str
    share: float


@dataclass(frozen=True)
class LrSweep:
    """Sweeps of several optimizers, over one or several condition numbers."""

    swept: tuple[SweptSurface, ...]
    steps: int
    target: float
    seed: int
    starts: int
    warnings: tuple[str, ...] = ()
    unable: Mapping[str, str] = field(default_factory=dict)
    """Optimizers of a list that cannot run here, each with the reason."""
    interrupted: bool = False
    schedule: Schedule = CONSTANT
    clip_norm: float | None = None


def race(
    request: RaceRequest,
    progress: Callable[[Sequence[RaceResult]], None] | None = None,
    watch: Callable[[RaceStanding], None] | None = None,
) -> Race:
    """Race optimizers on a surface.

    Args:
        request: what is raced.
        progress: called with the results of every optimizer and protocol that is finished.
        watch: called several times a second with how far the race is.

    Raises:
        UsageError: a name, setting, start or limit is wrong; the message says what would be right.

    """
    request.check()
    (surface,) = request.places
    optimizers, starts = request.read_optimizers(), request.starts_on(surface)
    request.check_engines(optimizers, request.places)
    corrections: list[str] = []
    while True:
        run = _Running(request, surface, starts, optimizers, watch)
        interrupted = False
        try:
            for runs in run.runs_of():
                if progress is not None:
                    progress(tuple(runs.results()))
        except KeyboardInterrupt:
            interrupted = True
        except BelowMinimumError as error:
            surface, sentence = corrected(error, len(corrections))
            corrections.append(sentence)
            continue
        return Race(
            surface=surface,
            steps=request.steps,
            target=request.target,
            seed=request.seed,
            starts=starts,
            runs=tuple(run.in_order(run.runs).values()),
            sweeps=tuple(run.sweeps.values()),
            traces=run.in_order(run.traces),
            warnings=(*corrections, *run.warnings),
            skipped=run.in_order(run.skipped),
            unable=run.unable,
            interrupted=interrupted,
            schedule=request.rate_schedule,
            clip_norm=request.clip_norm,
        )


@dataclass(frozen=True)
class RaceStanding:
    """How far a race is: what is finished, what runs, and which share of all runs is over."""

    finished: tuple[Runs, ...]
    optimizer: str
    protocol: str
    share: float


class _Running:
    """A race while it runs: what is finished stays when it is stopped."""

    def __init__(
        self,
        request: RaceRequest,
        surface: Surface,
        starts: Sequence[Start],
        optimizers: Sequence[RaceOptimizer],
        watch: Callable[[RaceStanding], None] | None,
    ) -> None:
        self.request = request
        self.surface = surface
        self.starts = starts
        self.optimizers = optimizers
        self.protocols = tuple(dict.fromkeys(request.protocols))
        self.watch = watch
        self.over = 0
        self.runs: dict[tuple[str, str], Runs] = {}
        self.sweeps: dict[str, Sweep] = {}
        self.traces: dict[tuple[str, str], Trajectory] = {}
        self.warnings: list[str] = []
        self.skipped: dict[tuple[str, str], str] = {}
        self.unable: dict[str, str] = {}
        # Rates are tuned on starts of their own, so that the race is run on fresh ones.
        self.tuning_starts = starts
        if request.starts is not None and "tuned" in self.protocols:
            self.tuning_starts = random_starts(surface, request.seed, request.starts, HELD_OUT)

    def in_order(self, found: Mapping[tuple[str, str], T]) -> dict[tuple[str, str], T]:
        """Return what was found of optimizers and protocols in the order in which they were asked for."""
        pairs = itertools.product([one.label for one in self.optimizers], self.protocols)
        return {pair: found[pair] for pair in pairs if pair in found}

    def runs_of(self) -> Iterator[Runs]:
        """Run every optimizer under every protocol: first all that need no tuning, so that there is soon much to see.

        Raises:
            UsageError: an optimizer that was named cannot race.
            BelowMinimumError: a run went below f*.

        """
        named = [one.label for one in self.optimizers if "lr" not in one.rule.defaults]
        self.warnings += self.request.rate_schedule.remarks(named)
        # Every engine is there before the first run: what cannot race is said at once.
        engines: list[tuple[RaceOptimizer, Engine]] = []
        for optimizer in self.optimizers:
            try:
                engines.append((optimizer, self.engine(optimizer)))
            except UsageError as error:
                self.leave_out(optimizer, self.protocols, error)
        soonest = sorted(self.protocols, key=lambda protocol: protocol == "tuned")
        total = len(engines) * len(self.starts) * (len(soonest) + len(GRID) * ("tuned" in soonest))
        for protocol, (optimizer, engine) in itertools.product(soonest, engines):

            def done(runs: int, optimizer: RaceOptimizer = optimizer, protocol: str = protocol) -> None:
                self.over += runs
                if self.watch is not None:
                    finished = tuple(self.runs.values())
                    self.watch(RaceStanding(finished, optimizer.label, protocol, self.over / total))

            try:
                settings = self.settings(optimizer, protocol, engine, done)
                if settings is None:
                    continue
                problem = self.request.problem(optimizer, settings, self.surface)
                found = self.measured(optimizer, protocol, problem, engine.endings(problem, self.starts, done))
            except UsageError as error:
                self.leave_out(optimizer, [protocol], error)
                continue
            self.runs[optimizer.label, protocol] = found
            self.traces[optimizer.label, protocol] = engine.trace(problem, self.starts[0])
            yield found

    def leave_out(self, optimizer: RaceOptimizer, protocols: Iterable[str], error: UsageError) -> None:
        """Keep why an optimizer of a list cannot run; raise the error of one that was named itself."""
        if not optimizer.listed:
            raise error
        if not optimizer.rule.built_in:  # Newton's method belongs to the default race only where it can run
            self.unable[optimizer.label] = str(error)
        self.skipped |= {(optimizer.label, protocol): str(error) for protocol in protocols}

    def engine(self, optimizer: RaceOptimizer) -> Engine:
        """Return who runs an optimizer.

        Raises:
            UsageError: the engine cannot, or Newton's method has no direction at the first start.

        """
        rule, request = optimizer.rule, self.request
        if rule.needs == "hessian":
            self.surface.newton_direction(self.starts[0].point, optimizer.settings.get("damping", 0.0))
        name = request.engine_of(rule, self.surface, len(self.optimizers))
        problem = request.problem(optimizer, optimizer.settings, self.surface)
        return engine_for(problem, name, threads=request.cores, device=request.device_here)

    def settings(self, optimizer: RaceOptimizer, protocol: str, engine: Engine, done: Done) -> dict[str, Any] | None:
        """Return what an optimizer runs with under a protocol, or None where the protocol does not apply."""
        rule = optimizer.rule
        own = optimizer.settings
        if protocol == "default":
            return own
        if protocol == "theory":
            changed = self.request.problem(optimizer, own, self.surface).changes != PLAIN
            best = theory.best_settings(rule.name, self.surface) if rule.built_in and not changed else None
            if best is None:
                why = "no closed form" + (" under a schedule or clipping" if changed else "")
                self.skipped[optimizer.label, protocol] = why
                return None
            if set(best) & set(optimizer.given):
                self.skipped[optimizer.label, protocol] = "its settings were given"
                return None
            return {**own, **best}
        if not optimizer.tunable:
            why = "its learning rate was given" if optimizer.given else "no lr to tune"
            self.skipped[optimizer.label, protocol] = why
            return None
        problem = self.request.problem(optimizer, own, self.surface)
        sweep = engine.sweep(problem, optimizer.label, GRID, self.tuning_starts, done)
        self.sweeps[optimizer.label] = sweep
        if sweep.edge_warning:
            self.warnings.append(sweep.edge_warning)
        return {**own, "lr": sweep.best}

    def measured(self, optimizer: RaceOptimizer, protocol: str, problem: Problem, endings: Endings) -> Runs:
        """Return the runs with what is not measured on their way: the distance to a minimum and theory's first hit."""
        settings, surface = problem.settings, self.surface
        distances_of: Callable[[slice], Numbers] = partial(distances, surface, endings)
        if len(self.starts) == 1:
            there = endings.diverged_at[0] == MISS
            apart = distance_to_minimum(surface, tuple(map(float, endings.points[0]))) if there else None
            distances_of = [math.nan if apart is None else apart].__getitem__
        return Runs(
            surface=surface.name,
            optimizer=optimizer.label,
            protocol=protocol,
            lr=settings.get("lr"),
            settings=" ".join(f"{name}={written(value)}" for name, value in settings.items()),
            schedule=problem.schedule,
            clip_norm=problem.clip_norm,
            seed=self.request.seed,
            starts=self.starts,
            endings=endings,
            distances=distances_of,
            predicted_hit=theory.predicted_hits(problem, self.starts),
        )


def distances(surface: Surface, endings: Endings, part: slice) -> Numbers:
    """Return the distance of some of many ends to the nearest global minimum; NaN where a run diverged, or of none."""
    import numpy as np  # noqa: PLC0415 - a race from one start needs none

    from mlcv_bench.surfaces.many import distances_to_minimum  # noqa: PLC0415 - as above

    points, there = np.asarray(endings.points[part]), np.asarray(endings.diverged_at[part]) < 0
    found = np.full(len(points), np.nan)
    found[there] = distances_to_minimum(surface, points[there])
    return found


def lr_sweep(request: SweepRequest, watch: Callable[[SweepStanding], None] | None = None) -> LrSweep:
    """Run every optimizer at every rate of the grid, on every surface that is asked for.

    Args:
        request: what is swept.
        watch: called several times a second with how far the sweep is.

    Raises:
        UsageError: a name, setting or limit is wrong, or an optimizer has no rate to sweep.

    """
    request.check()
    optimizers = request.read_optimizers()
    found: list[SweptSurface] = []
    warnings: list[str] = []
    unable: dict[str, str] = {}
    request.check_engines(optimizers, request.places)
    count = 1 if request.starts is None else request.starts
    _, runs = request.runs_of(len(optimizers))
    waiting = list(zip(request.conditions or (None,), request.places, strict=True))
    over, interrupted = 0, False

    def done(label: str, here: SweptSurface, more: int) -> None:
        nonlocal over
        over += more
        if watch is not None:
            watch(SweepStanding((*found, here), label, over / runs))

    while waiting and not interrupted:
        condition, place = waiting.pop(0)
        starts = request.starts_on(place)
        sweeps: list[Sweep] = []
        before = over
        try:
            for optimizer in optimizers:
                name = request.engine_of(optimizer.rule, place, len(optimizers))
                problem = request.problem(optimizer, optimizer.settings, place)
                if not optimizer.tunable:
                    unable[optimizer.label] = "no lr to sweep"
                    continue
                here = SweptSurface(place, condition, tuple(sweeps))
                try:
                    engine = engine_for(problem, name, threads=request.cores, device=request.device_here)
                    sweep = engine.sweep(problem, optimizer.label, GRID, starts, partial(done, optimizer.label, here))
                except UsageError as error:
                    if not optimizer.listed:
                        raise
                    unable[optimizer.label] = str(error)
                    continue
                sweeps.append(sweep)
        except BelowMinimumError as error:
            over = before
            place, sentence = corrected(error, len(warnings))
            waiting.insert(0, (condition, place))
            warnings.append(sentence)
            continue
        except KeyboardInterrupt:
            interrupted = True
        found.append(SweptSurface(place, condition, tuple(sweeps)))
    return LrSweep(
        tuple(found),
        request.steps,
        request.target,
        request.seed,
        count,
        warnings=tuple(warnings),
        unable=unable,
        interrupted=interrupted,
        schedule=request.rate_schedule,
        clip_norm=request.clip_norm,
    )


def corrected(error: BelowMinimumError, earlier: int) -> tuple[Surface, str]:
    """Return the surface with the minimum that the undercutting runs lead to, or with none, and a sentence about it.

    Args:
        error: the runs; their paths are walked again, to the end.
        earlier: how often this surface was corrected before.

    """
    surface = error.runs[0][0].surface
    free = dataclasses.replace(surface, minimum=None)
    lowest, place, finder, endless = math.inf, surface.start, error.runs[0][0], False
    for problem, start in error.runs[:MOST_TRACED]:
        known = dataclasses.replace(problem, surface=free)
        run = engine_for(known, "scalar").trace(known, start)
        value, step = min((value, step) for step, value in enumerate(run.values) if not math.isnan(value))
        endless = endless or value <= known.limits(run.values[0])[1]
        if value < lowest:
            lowest, place, finder = value, run.point(step), problem
    found = None if endless or earlier >= MOST_CORRECTIONS else refine(free, place)
    rate = f" at rate {finder.settings['lr']:g}" if "lr" in finder.settings else ""
    sentence = (
        f"{surface.name}: f* was taken to be {surface.minimum:.6g}, but {finder.rule.name}{rate} went down to "
        f"{lowest:.6g} at ({shown(place)}); "
    )
    others = (*surface.minima, *surface.local_minima)
    free = dataclasses.replace(free, minima=(), local_minima=others, quadratic=None, listed_within=None, valley=False)
    if found is None or found[0] > lowest:
        return free, sentence + "so no lowest point is known, and everything was run again without a target"
    minimum, point = found
    sentence += f"f* is now {minimum:.6g}, of the minimum at ({shown(point)}), and everything was run again"
    return dataclasses.replace(free, minimum=minimum, minima=(point,), listed_within=()), sentence
