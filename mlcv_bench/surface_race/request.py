"""What is asked of a surface: a race, a sweep of rates or a map of basins, checked without torch, numpy or numba."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from mlcv_bench.environment import usable_cores
from mlcv_bench.errors import UsageError
from mlcv_bench.extras import EXTRAS, require
from mlcv_bench.names import check_device, names_code
from mlcv_bench.optimizers import rule, third_party
from mlcv_bench.optimizers.rule import DEFAULT_OPTIMIZERS, Rule
from mlcv_bench.optimizers.schedule import Schedule, ScheduleName, check_clip_norm
from mlcv_bench.optimizers.third_party import ThirdPartyOptimizer
from mlcv_bench.random_streams import key, uniform
from mlcv_bench.records import counted
from mlcv_bench.surface_race.engines import choose
from mlcv_bench.surface_race.program import Problem, Start, Starts
from mlcv_bench.surface_race.tuning import GRID
from mlcv_bench.surfaces import catalog
from mlcv_bench.surfaces.surface import LARGEST_DIMENSION, LONGEST_SHOWN, Point, Surface, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mlcv_bench.optimizers.third_party import AnyOptimizer

ENGINES = ("auto", "scalar", "lanes")
PROTOCOLS = ("default", "tuned", "theory")
MOST_STEPS = 10_000_000  # coefficients are held for every step: at most some hundred megabytes
MOST_PIXELS = 10_000_000  # a start each: some gigabytes
MOST_COORDINATES = 30_000_000  # of all starts together, where each is long: they are held three times


@dataclass(frozen=True)
class RaceOptimizer:
    """One optimizer of a race: the name it is shown under, its rule or its class, and what the user set.

    One that is `listed`, because it belongs to a list and was not named itself, is left out where it cannot run.
    """

    label: str
    rule: AnyOptimizer
    given: Mapping[str, Any]
    listed: bool = False

    @property
    def settings(self) -> dict[str, Any]:
        """What it runs with by default: all of a rule's hyperparameters, or what a class is built with."""
        return dict(self.rule.settings(self.given))

    @property
    def tunable(self) -> bool:
        """Whether its learning rate is free: it has one, and the user did not set it."""
        return "lr" in self.rule.defaults and "lr" not in self.given


@dataclass(frozen=True)
class SurfaceRequest:
    """What every study on a surface is asked; the defaults are the commands'.

    Attributes:
        surface: a name, a formula, a specification, or the Surface or function itself.
        optimizers: names with settings, as `adam:beta1=0.95`, or specifications, also of a torch.optim.Optimizer class
            or, as `torch.optim:all`, of all in a module; or the functions and classes themselves.
        steps: how many every run may take.
        target: the share of the first gap f0 - f* that has to be left, without noise.
        start: where all begin, as a point or as `1.0 2.5`; the surface's own by default.
        starts: instead, so many random starts in the surface's box.
        seed: decides starts, noise and the order of data, alike for every optimizer.
        schedule, warm_up: how the rate moves from step to step, as `optimizers.schedule.Schedule` has it.
        clip_norm: the largest Euclidean norm that a gradient, its noise included, is not scaled down to.
        condition, dim, rotate, batch_size, noise: settings of the surface, as `surfaces.catalog.find` takes them.
        engine: `scalar` (floats) or `lanes`, which give the same bytes; `auto` chooses by the work. More than 64
            coordinates run on lanes alone.
        threads: cores that share the lanes, by default all that are usable; the results do not depend on it.
        device: where classes of torch.optim run; rules run on the processor.

    """

    surface: str | Surface | Callable[..., Any] = "canyon"
    optimizers: tuple[str | Callable[..., Any], ...] = DEFAULT_OPTIMIZERS
    steps: int = 1000
    target: float = 1e-6
    start: Point | str | None = None
    starts: int | None = None
    seed: int = 0
    schedule: ScheduleName = "constant"
    warm_up: int = 0
    clip_norm: float | None = None
    condition: float | None = None
    dim: int | None = None
    rotate: float = 0.0
    batch_size: int | None = None
    noise: float = 0.0
    engine: str = "auto"
    threads: int | None = None
    device: str = "cpu"

    @property
    def cores(self) -> int:
        """How many cores share the lanes."""
        return usable_cores() if self.threads is None else self.threads

    def check(self) -> None:
        """Refuse what cannot be run; what a specification names is opened, and so checked, by the study.

        Raises:
            UsageError: one sentence on the first thing that is wrong.

        """
        if self.engine not in ENGINES:
            raise UsageError(f"--engine {self.engine}: choose from {', '.join(ENGINES)}")
        if self.steps < 1:
            raise UsageError(f"a race has at least 1 step, not {self.steps}")
        if self.steps > MOST_STEPS:
            raise UsageError(f"a race has at most {MOST_STEPS} steps, not {self.steps}")
        self.rate_schedule.check(self.steps)
        check_clip_norm(self.clip_norm)
        if not 0 < self.target < 1:
            raise UsageError(f"the target is a share of the first gap, above 0 and below 1, not {self.target:g}")
        if self.start is not None and self.starts is not None:
            raise UsageError("give --start or --starts, not both")
        for option, value, least in (
            ("--starts", self.starts, 1),
            ("--seed", self.seed, 0),
            ("--threads", self.threads, 1),
        ):
            if value is not None and value < least:
                raise UsageError(f"{option} takes at least {least}, not {value}")
        rules = [one for one in self.optimizers if not (isinstance(one, str) and names_code(one, rule.RULES))]
        found = self._read(rules)
        if len(rules) == len(self.optimizers):
            self._check_device(found)
        places = () if self.opens_code else self.places
        for place in places:
            self.check_place(place)
        self.check_engines(found, places)

    @property
    def opens_code(self) -> bool:
        """Whether the surface is a specification, which the study alone opens."""
        return isinstance(self.surface, str) and names_code(self.surface, catalog.REGISTRY.builtin)

    def check_place(self, place: Surface) -> None:
        """Refuse a surface that this study cannot run on."""
        if place.coordinate_sum is not None:
            if self.engine == "scalar":
                raise UsageError(
                    f"--engine scalar runs up to {LARGEST_DIMENSION} coordinates, and {place.name} has "
                    f"{place.dimension}; leave --engine out"
                )
            most = MOST_COORDINATES // place.dimension
            if self.starts is not None and self.starts > most:
                raise UsageError(
                    f"{self.starts} starts of {place.dimension} coordinates are too many for memory; "
                    f"take up to {most}, as --starts {most}"
                )
        if self.starts is None:
            self.starts_on(place)

    def runs_of(self, optimizers: int) -> tuple[int, int]:
        """Return how many runs of so many optimizers are measured, and how many tune."""
        raise NotImplementedError

    def engine_of(self, optimizer: AnyOptimizer, place: Surface, optimizers: int) -> str:
        """Return the engine that runs one of so many optimizers on a surface, as `engines.choose` does."""
        raced, tuned = self.runs_of(optimizers)
        return choose(self.engine, optimizer, place, raced=raced, tuned=tuned, steps=self.steps)

    def check_engines(self, found: Sequence[RaceOptimizer], places: Sequence[Surface]) -> None:
        """Refuse what has to be compiled where nothing compiles it.

        Raises:
            MissingExtraError: the extra `races` is not installed, and floats cannot do it or would take long.

        """
        if not EXTRAS["races"].missing:
            return
        for place in places:
            if "lanes" in {self.engine_of(one.rule, place, len(found)) for one in found}:
                runs, steps = counted(sum(self.runs_of(len(found))), "run"), counted(self.steps, "step")
                require("races", f"so much work ({runs} of {steps} on {place.name})")

    @cached_property
    def places(self) -> tuple[Surface, ...]:
        """The surface that is named, once for every condition number; what a specification names is opened.

        Raises:
            UsageError: there is none, or a setting does not fit.

        """
        return (self._place(self.condition),)

    def _place(self, condition: float | None) -> Surface:
        return catalog.find(
            self.surface,
            condition=condition,
            dim=self.dim,
            batch_size=self.batch_size,
            rotate=self.rotate,
            noise=self.noise,
        )

    def read_optimizers(self) -> list[RaceOptimizer]:
        """Return the optimizers; what specifications name is opened. One may come twice under different settings.

        Raises:
            UsageError: an unknown name or hyperparameter, a value outside its limits, or the same text twice.

        """
        found = self._read(self.optimizers)
        self._check_device(found)
        return found

    def _read(self, named: Sequence[str | Callable[..., Any]]) -> list[RaceOptimizer]:
        found: dict[str, RaceOptimizer] = {}
        for one in named:
            members = third_party.every(one) if isinstance(one, str) else None
            for member in [one] if members is None else members:
                own, given = third_party.find(member)
                label = rule.proper(member)
                if label in found:
                    raise UsageError(f"{label} races twice; give one of them other settings, as in {own.name}:lr=0.1")
                listed = members is not None or named == DEFAULT_OPTIMIZERS
                found[label] = RaceOptimizer(label, own, given, listed)
        return list(found.values())

    @property
    def rate_schedule(self) -> Schedule:
        """How the rate moves."""
        return Schedule(self.schedule, self.warm_up)

    def problem(self, optimizer: RaceOptimizer, settings: Mapping[str, Any], place: Surface) -> Problem:
        """Return what an optimizer is run on, under these settings."""
        return Problem(
            optimizer.rule, settings, place, self.steps, self.target, self.seed, self.rate_schedule, self.clip_norm
        )

    def _check_device(self, found: Sequence[RaceOptimizer]) -> None:
        """Refuse a device that there is not, or that nothing would run on."""
        check_device(self.device)
        if self.device != "cpu" and not any(isinstance(one.rule, ThirdPartyOptimizer) for one in found):
            raise UsageError(
                f"--device {self.device} is for classes such as torch.optim:Adam; these rules run on the processor"
            )

    @cached_property
    def device_here(self) -> str:
        """The device by the name that torch has for it.

        Raises:
            UsageError: there is none on this machine.

        """
        if self.device == "cpu":
            return self.device
        from mlcv_bench.timing.devices import resolve_device  # noqa: PLC0415 - loads torch

        return resolve_device(self.device)

    def starts_on(self, place: Surface) -> Sequence[Start]:
        """Return where runs on a surface begin: its own start, the one asked for, or so many random ones.

        Raises:
            UsageError: the start has another number of coordinates, or a start no finite value.

        """
        if self.starts is not None:
            return random_starts(place, self.seed, self.starts)
        if isinstance(self.start, str):
            found = Start(0, parse_start(self.start, place.dimension))
        else:
            try:
                point = tuple(map(float, place.start if self.start is None else self.start))
            except (TypeError, ValueError):
                raise UsageError(f"a start is numbers, such as (1.0, 2.5), not {self.start!r:.60}") from None
            if len(point) != place.dimension:
                raise UsageError(f"{place.name} has {place.dimension} coordinates, the start has {len(point)}")
            found = Start(0, point)
        check_value(place, found.point)
        return (found,)


@dataclass(frozen=True)
class RaceRequest(SurfaceRequest):
    """A race: `default` settings; `tuned`, the best rate of the grid; `theory`, the closed form's best settings.

    A rate that an optimizer's text sets is kept, and not tuned. With random starts, rates are tuned on others.
    """

    protocols: tuple[str, ...] = PROTOCOLS

    @property
    def updates(self) -> int:
        """How many steps all runs take together at most, those of the tuning too."""
        return sum(self.runs_of(len(self.optimizers))) * self.steps

    def check(self) -> None:
        """Refuse what cannot be raced, an unknown protocol too."""
        for protocol in self.protocols:
            if protocol not in PROTOCOLS:
                raise UsageError(f"unknown protocol '{protocol}'; choose from {', '.join(PROTOCOLS)}")
        super().check()

    def runs_of(self, optimizers: int) -> tuple[int, int]:
        """Return how many runs of so many optimizers are measured, and how many tune."""
        runs = optimizers * (self.starts or 1)
        return runs * len(set(self.protocols)), runs * len(GRID) if "tuned" in self.protocols else 0


@dataclass(frozen=True)
class SweepRequest(SurfaceRequest):
    """A sweep: every rate of the grid, on every condition number for the surfaces that take one."""

    conditions: tuple[float, ...] = ()

    def runs_of(self, optimizers: int) -> tuple[int, int]:
        """Return how many runs of so many optimizers are measured, and how many tune."""
        return 0, optimizers * len(self.places) * len(GRID) * (self.starts or 1)

    @cached_property
    def places(self) -> tuple[Surface, ...]:
        """The surface at every condition number."""
        return tuple(map(self._place, self.conditions or (None,)))

    def _read(self, named: Sequence[str | Callable[..., Any]]) -> list[RaceOptimizer]:
        found = super()._read(named)
        for one in found:
            if not one.tunable and not one.listed:
                raise UsageError(f"{one.label} has no free learning rate to sweep; leave lr out of its settings")
        return found


@dataclass(frozen=True)
class BasinsRequest(SurfaceRequest):
    """A map of basins: every pixel of `size` (width, height) a start; the target is of its own gap to its minimum."""

    surface: str | Surface | Callable[..., Any] = "himmelblau"
    optimizers: tuple[str | Callable[..., Any], ...] = ("momentum",)
    steps: int = 500
    size: tuple[int, int] = (800, 600)

    @property
    def updates(self) -> int:
        """How many steps all runs take together at most."""
        return math.prod(self.size) * self.steps

    def check(self) -> None:
        """Refuse what cannot be drawn."""
        width, height = self.size
        if min(self.size) < 2:  # noqa: PLR2004 - a line is no picture
            raise UsageError(f"--size takes at least 2x2 pixels, not {width}x{height}")
        if width * height > MOST_PIXELS:
            raise UsageError(
                f"--size takes at most {MOST_PIXELS} pixels in all, not {width}x{height}; write for example 3840x2160"
            )
        super().check()

    def runs_of(self, optimizers: int) -> tuple[int, int]:
        """Return how many runs of so many optimizers are measured, and that none tunes."""
        return optimizers * math.prod(self.size), 0

    def engine_of(self, optimizer: AnyOptimizer, place: Surface, optimizers: int) -> str:
        """Return the engine that runs it: lanes, but for a class of torch's."""
        del place, optimizers
        return "lanes" if isinstance(optimizer, Rule) else "torch"

    def check_place(self, place: Surface) -> None:
        """Refuse a surface of another number of coordinates than two, or without known basins."""
        if place.dimension != 2:  # noqa: PLR2004 - a picture is flat
            raise UsageError(f"basins are drawn in two coordinates; {place.name} has {place.dimension}")
        if not (*place.minima, *place.local_minima):
            raise UsageError(
                f"no minimum of {place.name} is known, so nothing can be called a basin; choose another surface"
            )
        if place.valley:
            raise UsageError(
                f"the lowest points of {place.name} are one valley, so none is a basin; choose another surface"
            )


def parse_start(text: str, dimension: int) -> Point:
    """Read a point of so many finite numbers, as `1.0 2.5`."""
    try:
        point = tuple(float(part) for part in text.replace(",", " ").split())
    except ValueError:
        point = ()
    if len(point) != dimension or not all(map(math.isfinite, point)):
        example = " ".join(["1.0", "2.5", *["0.5"] * min(dimension, LONGEST_SHOWN)][:dimension])
        more = " ..." if dimension > LONGEST_SHOWN else ""
        raise UsageError(
            f"a start on this surface is {dimension} finite numbers, such as --start '{example}{more}', not '{text}'"
        )
    return point


def random_start(surface: Surface, seed: int, number: int) -> Start:
    """Return start `number` of a seed, uniform in the surface's box."""
    stream = key(seed, number, 5)
    point = tuple(low + (high - low) * uniform(stream, i) for i, (low, high) in enumerate(surface.box))
    return Start(number, point)


def random_starts(surface: Surface, seed: int, count: int, first: int = 0) -> Starts:
    """Return the starts `first`, `first` + 1, ... of a seed, each with the bits of `random_start`.

    Raises:
        UsageError: one has no finite value.

    """
    import numpy as np  # noqa: PLC0415 - a race from one start needs none

    from mlcv_bench.surfaces.many import value_of  # noqa: PLC0415 - as above

    numbers = np.arange(count, dtype=np.uint64) + np.uint64(first)
    streams = key(seed, numbers, 5)
    low, high = np.array(surface.box).T
    if count < surface.dimension:
        counters = np.arange(surface.dimension, dtype=np.uint64)
        drawn = np.stack([uniform(stream, counters) for stream in streams])
    else:
        drawn = np.stack([uniform(streams, i) for i in range(surface.dimension)], axis=1)
    points = low + (high - low) * drawn
    for odd in np.flatnonzero(~np.isfinite(value_of(surface, points))):
        check_value(surface, tuple(points[odd].tolist()))
    return Starts(numbers, points)


def check_value(surface: Surface, point: Point) -> None:
    """Refuse a start without a finite value."""
    try:
        value = surface.value(*point)
    except (OverflowError, ValueError, ZeroDivisionError):
        value = math.nan
    if not (isinstance(value, int | float) and math.isfinite(value)):
        raise UsageError(f"{surface.name} has no finite value at {shown(point)}; choose another start")
