"""The race: every optimizer on one surface, under the protocols side by side."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

from mlcv_bench.errors import UsageError
from mlcv_bench.optimizers.rule import DEFAULT_OPTIMIZERS, RULES, Rule, find
from mlcv_bench.random_streams import HELD_OUT, key, uniform
from mlcv_bench.surface_race import theory
from mlcv_bench.surface_race.correction import BelowMinimumError, corrected
from mlcv_bench.surface_race.engines import Engine, EngineName, choose, engine_for
from mlcv_bench.surface_race.floats import Runner, Start, Trace
from mlcv_bench.surface_race.metrics import Ending, RaceResult
from mlcv_bench.surface_race.program import Problem
from mlcv_bench.surface_race.tuning import GRID, Sweep
from mlcv_bench.surfaces import catalog
from mlcv_bench.surfaces.minima import distance_to_minimum
from mlcv_bench.surfaces.surface import Point, Surface

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

Protocol = Literal["default", "tuned", "theory"]

PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)
MOST_STEPS = 10_000_000  # coefficients are held for every step: at most some hundred megabytes


@dataclass(frozen=True)
class Entrant:
    """One optimizer of a race: the name it is shown under, its rule, and what the user set."""

    label: str
    rule: Rule
    given: Mapping[str, float]

    @property
    def tunable(self) -> bool:
        """Whether its learning rate is free: it has one, and the user did not set it."""
        return "lr" in self.rule.defaults and "lr" not in self.given

    @property
    def built_in(self) -> bool:
        """Whether theory knows the rule."""
        return RULES.get(self.rule.name) is self.rule


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
    traces: Mapping[tuple[str, str], Trace] = field(default_factory=dict, repr=False)
    warnings: tuple[str, ...] = ()
    skipped: Mapping[tuple[str, str], str] = field(default_factory=dict)
    interrupted: bool = False


def entrants(texts: Sequence[str]) -> list[Entrant]:
    """Read optimizers as typed; one may come several times under different settings.

    Raises:
        UsageError: an unknown name or hyperparameter, a value outside its limits, or the same entry twice.

    """
    found: list[Entrant] = []
    for text in texts:
        rule, given = find(text)
        label = text.strip()
        if any(other.label == label for other in found):
            msg = f"{label} races twice; give one of them other settings, as in {rule.name}:lr=0.1"
            raise UsageError(msg)
        found.append(Entrant(label, rule, given))
    return found


def parse_start(text: str, dimension: int) -> Point:
    """Read a point as `1.0 2.5`.

    Raises:
        UsageError: not that many finite numbers.

    """
    try:
        point = tuple(float(part) for part in text.replace(",", " ").split())
    except ValueError:
        point = ()
    if len(point) != dimension or not all(map(math.isfinite, point)):
        example = " ".join(["1.0", "2.5", *["0.5"] * dimension][:dimension])
        msg = f"a start on this surface is {dimension} finite numbers, such as --start '{example}', not '{text}'"
        raise UsageError(msg)
    return point


def random_start(surface: Surface, seed: int, number: int) -> Start:
    """Return start `number` of a seed, uniform in the surface's box."""
    stream = key(seed, number, 5)
    point = tuple(low + (high - low) * uniform(stream, i) for i, (low, high) in enumerate(surface.box))
    return Start(number, point)


def starts_of(surface: Surface, start: Point | None, starts: int | None, seed: int) -> tuple[Start, ...]:
    """Return the surface's own start, the one given, or so many random ones.

    Raises:
        UsageError: both were asked, or no finite value at the start.

    """
    if start is not None and starts is not None:
        msg = "give --start or --starts, not both"
        raise UsageError(msg)
    if starts is None:
        point = start if start is not None else surface.start
        if len(point) != surface.dimension:
            msg = f"{surface.name} has {surface.dimension} coordinates, the start has {len(point)}"
            raise UsageError(msg)
        value_at(surface, point)
        return (Start(0, tuple(map(float, point))),)
    if starts < 1:
        msg = f"--starts takes at least 1, not {starts}"
        raise UsageError(msg)
    return tuple(random_start(surface, seed, number) for number in range(starts))


def value_at(surface: Surface, point: Point) -> float:
    """Return the value at a start.

    Raises:
        UsageError: it is not finite.

    """
    try:
        value = surface.value(*point)
    except (OverflowError, ValueError, ZeroDivisionError):
        value = math.nan
    if not (isinstance(value, int | float) and math.isfinite(value)):
        place = " ".join(f"{part:g}" for part in point)
        msg = f"{surface.name} has no finite value at {place}; choose another start"
        raise UsageError(msg)
    return float(value)


def race(  # noqa: PLR0913 - the public function takes what the command takes
    surface: str | Surface = "canyon",
    optimizers: Sequence[str] = DEFAULT_OPTIMIZERS,
    *,
    steps: int = 1000,
    target: float = 1e-6,
    start: Point | None = None,
    starts: int | None = None,
    seed: int = 0,
    protocols: Sequence[Protocol] = PROTOCOLS,
    engine: EngineName = "auto",
    threads: int = 1,
    progress: Callable[[Sequence[RaceResult]], None] | None = None,
    **surface_settings: Any,  # noqa: ANN401 - the keywords of catalog.find
) -> Race:
    """Race optimizers on a surface under several protocols.

    Args:
        surface: a name, a formula, a specification, or a Surface.
        optimizers: names with settings, as `adam:beta1=0.95`; a rate set here is kept, and not tuned.
        steps: how many every run may take.
        target: relative: met where f - f* <= target (f0 - f*), without noise.
        start: where all begin; the surface's own by default.
        starts: instead, so many random starts in the surface's box; tuning then uses others than the race.
        seed: decides starts, noise and the order of data, alike for every optimizer.
        protocols: `default` settings; `tuned`, the best rate of the grid; `theory`, the closed form's best settings.
        engine: `scalar` (floats) or `lanes`, which give the same bytes; `auto` chooses by size.
        threads: cores that share the lanes; the results do not depend on it.
        progress: called with every optimizer and protocol that is finished.
        **surface_settings: condition, dim, batch_size, rotate, noise, as `surfaces.catalog.find` takes them.

    Raises:
        UsageError: a name, setting, start or limit is wrong; the message says what would be right.

    """
    place = surface if isinstance(surface, Surface) else catalog.find(surface, **surface_settings)
    check_limits(steps, target, protocols)
    field_ = entrants(optimizers)
    # Newton's method, unless it was named, is left out where it cannot race.
    optional = frozenset({"newton"} if tuple(optimizers) == DEFAULT_OPTIMIZERS else ())
    protocols = tuple(dict.fromkeys(protocols))
    places = starts_of(place, start, starts, seed)
    work = _Work(engine, threads)
    corrections: list[str] = []
    interrupted = finished = False
    while not finished:
        run = _Running(place, steps, target, seed, places, work, held_out=starts is not None)
        try:
            for results in run.results_of(field_, protocols, optional):
                if progress is not None:
                    progress(results)
            finished = True
        except KeyboardInterrupt:
            interrupted = finished = True
        except BelowMinimumError as error:
            place, said = corrected(error, len(corrections))
            corrections.append(said)
    return Race(
        surface=place,
        steps=steps,
        target=target,
        seed=seed,
        starts=places,
        results=tuple(run.results),
        sweeps=tuple(run.sweeps.values()),
        traces=run.traces,
        warnings=(*corrections, *run.warnings),
        skipped=run.skipped,
        interrupted=interrupted,
    )


def check_limits(steps: int, target: float, protocols: Sequence[str]) -> None:
    """Refuse impossible limits before anything runs."""
    if steps < 1:
        msg = f"a race has at least 1 step, not {steps}"
        raise UsageError(msg)
    if steps > MOST_STEPS:
        msg = f"a race has at most {MOST_STEPS} steps, not {steps}"
        raise UsageError(msg)
    if not 0 < target < 1:
        msg = f"the target is a share of the first gap, above 0 and below 1, not {target:g}"
        raise UsageError(msg)
    for protocol in protocols:
        if protocol not in PROTOCOLS:
            msg = f"unknown protocol '{protocol}'; choose from {', '.join(PROTOCOLS)}"
            raise UsageError(msg)


@dataclass(frozen=True)
class _Work:
    """Who does the arithmetic."""

    engine: EngineName
    threads: int


class _Running:
    """A race while it runs: what is finished stays when it is stopped."""

    def __init__(
        self,
        surface: Surface,
        steps: int,
        target: float,
        seed: int,
        starts: tuple[Start, ...],
        work: _Work,
        *,
        held_out: bool,
    ) -> None:
        self.surface = surface
        self.steps = steps
        self.target = target
        self.seed = seed
        self.starts = starts
        self.work = work
        self.results: list[RaceResult] = []
        self.sweeps: dict[str, Sweep] = {}
        self.traces: dict[tuple[str, str], Trace] = {}
        self.warnings: list[str] = []
        self.skipped: dict[tuple[str, str], str] = {}
        # Rates are tuned on starts of their own, so that the race is run on fresh ones.
        self.tuning_starts = (
            tuple(random_start(surface, seed, HELD_OUT + start.number) for start in starts) if held_out else starts
        )
        self.first_values = {start: value_at(surface, start.point) for start in {*starts, *self.tuning_starts}}

    def engine(self, entrant: Entrant, raced: int, tuned: int) -> Engine:
        """Return who runs an optimizer.

        Raises:
            UsageError: the engine cannot, or Newton's method has no direction at the first start.

        """
        rule = entrant.rule
        if rule.needs == "hessian":
            self.surface.newton_direction(self.starts[0].point, rule.settings(entrant.given).get("damping", 0.0))
        name = choose(self.work.engine, rule, self.surface, raced=raced, tuned=tuned, steps=self.steps)
        return engine_for(rule, self.surface, name, threads=self.work.threads)

    def results_of(
        self, field_: Sequence[Entrant], protocols: Sequence[Protocol], optional: Collection[str]
    ) -> Iterator[list[RaceResult]]:
        raced = len(field_) * len(self.starts) * len(protocols)
        tuned = len(field_) * len(self.starts) * len(GRID) if "tuned" in protocols else 0
        # Every engine is there before the first run: what cannot race is said at once.
        engines: list[tuple[Entrant, Engine]] = []
        for entrant in field_:
            try:
                engines.append((entrant, self.engine(entrant, raced, tuned)))
            except UsageError as error:
                if entrant.label not in optional:
                    raise
                self.skipped |= {(entrant.label, protocol): str(error) for protocol in protocols}
        for entrant, engine in engines:
            for protocol in protocols:
                settings = self.settings(entrant, protocol, engine)
                if settings is None:
                    continue
                problem = self.problem(entrant.rule, settings)
                endings = engine.endings(problem, self.starts, self.first_values)
                results = [
                    self.result(entrant, protocol, problem, start, ending)
                    for start, ending in zip(self.starts, endings, strict=True)
                ]
                self.results += results
                # The pictures show the first start's path; floats draw it in a millisecond, whoever ran the race.
                first = self.starts[0]
                runner = Runner(entrant.rule, self.surface)
                self.traces[entrant.label, protocol] = runner.trace(problem, first, self.first_values[first])
                yield results

    def settings(self, entrant: Entrant, protocol: Protocol, engine: Engine) -> dict[str, float] | None:
        """Return what an optimizer runs with under a protocol, or None where the protocol does not apply."""
        rule = entrant.rule
        own = rule.settings(entrant.given)
        if protocol == "default":
            return own
        if protocol == "theory":
            best = theory.best_settings(rule.name, self.surface) if entrant.built_in else None
            if best is None:
                self.skipped[entrant.label, protocol] = "no closed form"
                return None
            if set(best) & set(entrant.given):
                self.skipped[entrant.label, protocol] = "its settings were given"
                return None
            return {**own, **best}
        if not entrant.tunable:
            self.skipped[entrant.label, protocol] = "its learning rate was given" if entrant.given else "no lr to tune"
            return None
        sweep = engine.sweep(self.problem(rule, own), entrant.label, GRID, self.tuning_starts, self.first_values)
        self.sweeps[entrant.label] = sweep
        if sweep.edge_warning:
            self.warnings.append(sweep.edge_warning)
        return {**own, "lr": sweep.best}

    def problem(self, rule: Rule, settings: Mapping[str, float]) -> Problem:
        return Problem(rule, settings, self.surface, self.steps, self.target, self.seed)

    def result(
        self, entrant: Entrant, protocol: Protocol, problem: Problem, start: Start, ending: Ending
    ) -> RaceResult:
        settings = problem.settings
        return RaceResult(
            surface=self.surface.name,
            optimizer=entrant.label,
            protocol=protocol,
            lr=settings.get("lr"),
            start=start.point,
            seed=self.seed,
            steps=ending.steps,
            first_hit=ending.first_hit,
            last_exit=ending.last_exit,
            final_loss=ending.final_loss,
            distance=None if ending.diverged_at is not None else distance_to_minimum(self.surface, ending.point),
            outcome=ending.outcome,
            diverged_at=ending.diverged_at,
            predicted_hit=theory.predicted_hit(problem, start.point) if entrant.built_in else None,
            path_ratio=ending.path_ratio,
            sign_flips=ending.sign_flips,
            start_number=start.number,
            settings=" ".join(f"{name}={value!r}" for name, value in settings.items()),
        )
