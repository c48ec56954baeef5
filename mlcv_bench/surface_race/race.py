"""The race, every optimizer on one surface under the protocols side by side, and the sweep over all learning rates."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mlcv_bench.errors import UsageError
from mlcv_bench.optimizers.rule import DEFAULT_OPTIMIZERS
from mlcv_bench.optimizers.schedule import CONSTANT, Schedule
from mlcv_bench.random_streams import HELD_OUT
from mlcv_bench.surface_race import theory
from mlcv_bench.surface_race.engines import BelowMinimumError, Engine, FloatEngine, choose, engine_for
from mlcv_bench.surface_race.floats import Runner, Trajectory
from mlcv_bench.surface_race.metrics import Ending, RaceResult
from mlcv_bench.surface_race.program import PLAIN, Problem, Start
from mlcv_bench.surface_race.request import (
    RaceOptimizer,
    RaceRequest,
    SweepRequest,
    check_value,
    random_start,
)
from mlcv_bench.surface_race.tuning import GRID, Sweep
from mlcv_bench.surfaces.minima import distance_to_minimum, refine
from mlcv_bench.surfaces.surface import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from mlcv_bench.surfaces.surface import Surface

MOST_CORRECTIONS = 5
"""A surface that is undercut more often has its lowest point too far away to be looked for by racing."""
MOST_TRACED = 50


@dataclass(frozen=True)
class Race:
    """What a race found; `interrupted` says that it was stopped before its end."""

    surface: Surface
    steps: int
    target: float
    seed: int
    starts: tuple[Start, ...]
    results: tuple[RaceResult, ...]
    sweeps: tuple[Sweep, ...]
    traces: Mapping[tuple[str, str], Trajectory] = field(default_factory=dict, repr=False)
    warnings: tuple[str, ...] = ()
    skipped: Mapping[tuple[str, str], str] = field(default_factory=dict)
    interrupted: bool = False
    schedule: Schedule = CONSTANT
    clip_norm: float | None = None


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
    schedule: Schedule = CONSTANT
    clip_norm: float | None = None


def race(request: RaceRequest, progress: Callable[[Sequence[RaceResult]], None] | None = None) -> Race:
    """Race optimizers on a surface; `progress` is called with every optimizer and protocol that is finished.

    Raises:
        UsageError: a name, setting, start or limit is wrong; the message says what would be right.

    """
    request.check()
    (surface,) = request.places
    optimizers, starts = request.read_optimizers(), request.starts_on(surface)
    corrections: list[str] = []
    while True:
        run = _Running(request, surface, starts)
        interrupted = False
        try:
            for results in run.results_of(optimizers):
                if progress is not None:
                    progress(results)
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
            results=tuple(run.results),
            sweeps=tuple(run.sweeps.values()),
            traces=run.traces,
            warnings=(*corrections, *run.warnings),
            skipped=run.skipped,
            interrupted=interrupted,
            schedule=request.rate_schedule,
            clip_norm=request.clip_norm,
        )


class _Running:
    """A race while it runs: what is finished stays when it is stopped."""

    def __init__(self, request: RaceRequest, surface: Surface, starts: tuple[Start, ...]) -> None:
        self.request = request
        self.surface = surface
        self.starts = starts
        self.results: list[RaceResult] = []
        self.sweeps: dict[str, Sweep] = {}
        self.traces: dict[tuple[str, str], Trajectory] = {}
        self.warnings: list[str] = []
        self.skipped: dict[tuple[str, str], str] = {}
        # Rates are tuned on starts of their own, so that the race is run on fresh ones.
        self.tuning_starts = starts
        if request.starts is not None:
            self.tuning_starts = tuple(random_start(surface, request.seed, HELD_OUT + s.number) for s in starts)
            for start in self.tuning_starts:
                check_value(surface, start.point)

    def results_of(self, optimizers: Sequence[RaceOptimizer]) -> Iterator[list[RaceResult]]:
        protocols = tuple(dict.fromkeys(self.request.protocols))
        self.warnings += self.request.rate_schedule.remarks(
            [one.label for one in optimizers if "lr" not in one.rule.defaults]
        )
        # Every engine is there before the first run: what cannot race is said at once.
        engines: list[tuple[RaceOptimizer, Engine]] = []
        for optimizer in optimizers:
            try:
                engines.append((optimizer, self.engine(optimizer, len(optimizers), protocols)))
            except UsageError as error:
                # Newton's method, unless it was named, is left out where it cannot race.
                if self.request.optimizers != DEFAULT_OPTIMIZERS or optimizer.label != "newton":
                    raise
                self.skipped |= {(optimizer.label, protocol): str(error) for protocol in protocols}
        for optimizer, engine in engines:
            # The pictures show the first start's path; floats draw it in a millisecond, whoever runs the race.
            runner = engine.runner if isinstance(engine, FloatEngine) else Runner(optimizer.rule, self.surface)
            for protocol in protocols:
                settings = self.settings(optimizer, protocol, engine)
                if settings is None:
                    continue
                problem = self.request.problem(optimizer, settings, self.surface)
                endings = engine.endings(problem, self.starts)
                results = [
                    self.result(optimizer, protocol, problem, start, ending)
                    for start, ending in zip(self.starts, endings, strict=True)
                ]
                self.results += results
                self.traces[optimizer.label, protocol] = runner.trace(problem, self.starts[0])
                yield results

    def engine(self, optimizer: RaceOptimizer, optimizers: int, protocols: Sequence[str]) -> Engine:
        """Return who runs an optimizer, one of so many.

        Raises:
            UsageError: the engine cannot, or Newton's method has no direction at the first start.

        """
        rule, request = optimizer.rule, self.request
        if rule.needs == "hessian":
            self.surface.newton_direction(self.starts[0].point, rule.settings(optimizer.given).get("damping", 0.0))
        runs = optimizers * len(self.starts)
        name = choose(
            request.engine,
            rule,
            self.surface,
            raced=runs * len(protocols),
            tuned=runs * len(GRID) if "tuned" in protocols else 0,
            steps=request.steps,
        )
        return engine_for(rule, self.surface, name, threads=request.threads)

    def settings(self, optimizer: RaceOptimizer, protocol: str, engine: Engine) -> dict[str, float] | None:
        """Return what an optimizer runs with under a protocol, or None where the protocol does not apply."""
        rule = optimizer.rule
        own = rule.settings(optimizer.given)
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
        sweep = engine.sweep(
            self.request.problem(optimizer, own, self.surface), optimizer.label, GRID, self.tuning_starts
        )
        self.sweeps[optimizer.label] = sweep
        if sweep.edge_warning:
            self.warnings.append(sweep.edge_warning)
        return {**own, "lr": sweep.best}

    def result(
        self, optimizer: RaceOptimizer, protocol: str, problem: Problem, start: Start, ending: Ending
    ) -> RaceResult:
        settings = problem.settings
        return RaceResult(
            surface=self.surface.name,
            optimizer=optimizer.label,
            protocol=protocol,
            lr=settings.get("lr"),
            start=start.point,
            seed=self.request.seed,
            steps=ending.steps,
            first_hit=ending.first_hit,
            last_exit=ending.last_exit,
            final_loss=ending.final_loss,
            distance=None if ending.diverged_at is not None else distance_to_minimum(self.surface, ending.point),
            outcome=ending.outcome,
            diverged_at=ending.diverged_at,
            predicted_hit=theory.predicted_hit(problem, start.point) if optimizer.rule.built_in else None,
            path_ratio=ending.path_ratio,
            sign_flips=ending.sign_flips,
            start_number=start.number,
            settings=" ".join(f"{name}={value!r}" for name, value in settings.items()),
            schedule=problem.schedule.name,
            warm_up=problem.schedule.warm_up,
            clip_norm=problem.clip_norm,
        )


def lr_sweep(request: SweepRequest) -> LrSweep:
    """Run every optimizer at every rate of the grid, on every surface that is asked for.

    Raises:
        UsageError: a name, setting or limit is wrong, or an optimizer has no rate to sweep.

    """
    request.check()
    optimizers = request.read_optimizers()
    found: list[SweptSurface] = []
    warnings: list[str] = []
    count = 1 if request.starts is None else request.starts
    runs = len(optimizers) * len(request.places) * len(GRID) * count
    waiting = list(zip(request.conditions or (None,), request.places, strict=True))
    interrupted = False
    while waiting and not interrupted:
        condition, place = waiting.pop(0)
        starts = request.starts_on(place)
        sweeps: list[Sweep] = []
        try:
            for optimizer in optimizers:
                rule = optimizer.rule
                name = choose(request.engine, rule, place, tuned=runs, steps=request.steps)
                settings = rule.settings(optimizer.given)
                problem = request.problem(optimizer, settings, place)
                engine = engine_for(rule, place, name, threads=request.threads)
                sweeps.append(engine.sweep(problem, optimizer.label, GRID, starts))
        except BelowMinimumError as error:
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
        tuple(warnings),
        interrupted,
        request.rate_schedule,
        request.clip_norm,
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
        run = Runner(problem.rule, free).trace(known, start)
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
