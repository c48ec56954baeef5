"""The engine for any torch.optim.Optimizer: a class of a third party on a surface, as tensors, on any device.

Every run is a row of one tensor, and the surface's written gradient is computed for all rows at once. An optimizer
drives all runs of one learning rate as one parameter where their paths are, to the bit, those of runs alone: a few are
driven alone beside them, to the end, to see it. What looks at whole tensors or calls a closure has an optimizer a run,
and what draws random numbers runs by itself, from its start's own stream.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import Parameter

from mlcv_bench.errors import UsageError
from mlcv_bench.names import first_line, user_code
from mlcv_bench.optimizers.schedule import ScheduledRates, clip_factor
from mlcv_bench.optimizers.third_party import asks_for_closure, needs_closure
from mlcv_bench.random_streams import gaussian_pair, key, shuffled
from mlcv_bench.surface_race.floats import Trajectory
from mlcv_bench.surface_race.kernel import GATHERED
from mlcv_bench.surface_race.lanes import Population, limits, population_of
from mlcv_bench.surfaces.surface import LARGEST_DIMENSION
from mlcv_bench.surfaces.tensors import SurfaceTensors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import numpy.typing as npt
    from torch.optim import Optimizer

    from mlcv_bench.optimizers.third_party import ThirdPartyOptimizer
    from mlcv_bench.surface_race.program import Problem, Start
    from mlcv_bench.surfaces.surface import Surface

HELD = 1 << 20
"""Numbers that are kept of a stretch of steps, all runs together, before they are measured."""
LONGEST_STRETCH = 64
WITNESSES = 3
"""Runs that are driven alone too, where one optimizer drives many."""
SEEDS = 1 << 63
"""torch's generators take smaller seeds."""

Company = Literal["a rate", "a run", "alone"]
"""What one optimizer drives: all runs of a rate; one run, others beside it; one run, with nothing beside it."""
COMPANIES: tuple[Company, ...] = ("a rate", "a run", "alone")


class CompanyError(Exception):
    """Runs side by side went other ways than alone."""


@dataclass(frozen=True)
class StepForm:
    """How an optimizer drives one run: the shape of its parameter, and whether its step is given a closure."""

    shape: tuple[int, ...]
    closure: Literal["never", "after the gradient", "alone"]


class Driver:
    """An optimizer with the rows of a tensor of points that it drives as one parameter."""

    def __init__(self, optimizer: Optimizer, parameter: Parameter, rows: slice, place: Tensor, form: StepForm) -> None:
        """Take an optimizer and its parameter, which lies in `place`, a view of these rows."""
        self.optimizer: Any = optimizer
        self.parameter, self.rows, self.place, self.form = parameter, rows, place, form
        self.switches = all(callable(getattr(optimizer, mode, None)) for mode in ("train", "eval"))
        self.rates = ScheduledRates(optimizer)
        self.evaluations = 0

    @property
    def many(self) -> bool:
        """Whether it drives several runs."""
        count: int = self.rows.stop - self.rows.start
        return count > 1

    def switch(self, mode: Literal["train", "eval"]) -> None:
        """Put an optimizer that has modes into one; schedule-free ones keep other points in each."""
        if self.switches:
            getattr(self.optimizer, mode)()
            self._settle()

    def step(self, gradient: Tensor, evaluate: Callable[[Tensor], tuple[Tensor, Tensor]]) -> None:
        """Take a step from a gradient [runs, coordinates]; a closure takes loss and gradient from `evaluate`."""
        self.parameter.grad = gradient.view(self.parameter.shape)

        def closure() -> Tensor:
            self.optimizer.zero_grad()
            loss, slope = evaluate(self.parameter.detach().view(1, -1))
            self.parameter.grad = slope.view(self.parameter.shape)
            self.evaluations += 1
            return loss[0]

        self.evaluations += self.form.closure != "alone"
        self.optimizer.step(*([] if self.form.closure == "never" else [closure]))
        self._settle()

    def _settle(self) -> None:
        """Bring the parameter back into its rows, where an optimizer gave it other memory."""
        if self.parameter.data_ptr() != self.place.data_ptr():
            self.place.copy_(self.parameter.data)
            self.parameter.data = self.place


class TorchRunner:
    """A class of a third party on a surface, with the face of the runners of rules."""

    def __init__(
        self, optimizer: ThirdPartyOptimizer, surface: Surface, settings: Mapping[str, Any], device: str = "cpu"
    ) -> None:
        """Write the surface's functions for tensors on a device, and take a first step.

        Raises:
            UsageError: the optimizer cannot be built with these settings, or its step fails; or the surface has too
                many coordinates to keep every point of a path.

        """
        if surface.coordinate_sum is not None:
            raise UsageError(f"{optimizer.name} races in up to {LARGEST_DIMENSION} coordinates; give a smaller --dim")
        self.optimizer, self.surface, self.device = optimizer, surface, device
        self.tensors = SurfaceTensors(surface, device)
        self._company: Company = "a rate"
        self.form = self._form(settings)

    def _form(self, settings: Mapping[str, Any]) -> StepForm:
        """Return how the optimizer drives a run, found by a step from the surface's start.

        A run's parameter is a vector; what takes matrices alone (Muon) is given a matrix of one row.
        """
        errors: list[Exception] = []
        for shape in ((self.surface.dimension,), (1, self.surface.dimension)):
            point = torch.tensor([self.surface.start], dtype=torch.float64, device=self.device)

            def build(shape: tuple[int, ...] = shape, point: Tensor = point) -> tuple[Optimizer, list[Tensor]]:
                parameter = Parameter(point.clone().view(shape))
                return self.optimizer.build([parameter], settings), [parameter]

            try:
                alone = needs_closure(build()[0].step)
                form = StepForm(
                    shape, "alone" if alone else "after the gradient" if asks_for_closure(build) else "never"
                )
                with user_code(), torch.random.fork_rng(devices=[]), torch.no_grad():
                    driver = self.driver(point, slice(0, 1), settings, form)
                    driver.switch("train")
                    driver.step(self.tensors.gradient(point), self._evaluate)
                    driver.switch("eval")
            except Exception as error:  # noqa: BLE001 - whatever a user's class raises
                errors.append(error)
                continue
            return form
        if isinstance(errors[0], UsageError):
            raise errors[0]
        raise UsageError(f"{self.optimizer.name} cannot run on a surface: {first_line(errors[0])}") from errors[0]

    def _evaluate(self, points: Tensor) -> tuple[Tensor, Tensor]:
        return self.tensors.value(points), self.tensors.gradient(points)

    def driver(self, points: Tensor, rows: slice, settings: Mapping[str, Any], form: StepForm) -> Driver:
        """Return an optimizer that moves some rows of points where they lie."""
        place = points[rows] if rows.stop - rows.start > 1 else points[rows].view(form.shape)
        parameter = Parameter(place)
        return Driver(self.optimizer.build([parameter], settings), parameter, rows, place, form)

    def run(
        self,
        problem: Problem,
        starts: npt.NDArray[np.float64],
        *,
        rates: npt.NDArray[np.float64] | None = None,
        targets: npt.NDArray[np.float64] | None = None,
        numbers: Sequence[int] | npt.NDArray[np.uint64] | None = None,
        values: npt.NDArray[np.float64] | None = None,
        threads: int = 1,
    ) -> Population:
        """Run every start; arguments as of `LaneRunner.run`.

        Raises:
            UsageError: the optimizer cannot be built, or a step fails where numbers are still finite.

        """
        count = len(starts)
        every = list(map(int, range(count) if numbers is None else numbers))
        lr = [None] * count if rates is None else rates.tolist()
        with threads_of_torch(threads), user_code(), seeds_put_back(self.device), torch.no_grad():
            for company in COMPANIES[COMPANIES.index(self._company) :]:
                self._company = company
                tracks: list[Track] = []
                for own in [slice(i, i + 1) for i in range(count)] if company == "alone" else [slice(0, count)]:
                    known = [None if given is None else given[own] for given in (values, targets)]
                    tracks.append(self._track(problem, starts[own], *known))
                    torch.manual_seed(key(problem.seed, every[own.start]) % SEEDS)
                    if not self._advance(problem, lr[own], every[own], tracks[-1]):
                        break
                else:
                    break
        return population(tracks, problem.steps, counted=self.form.closure != "never")

    def trace(self, problem: Problem, start: Start) -> Trajectory:
        """Run all steps, or to divergence, and keep every point; raises as `run`."""
        with user_code(), seeds_put_back(self.device), torch.no_grad():
            track = self._track(problem, np.array([start.point]), keep=True)
            torch.manual_seed(key(problem.seed, start.number) % SEEDS)
            self._advance(problem, [None], [start.number], track)
        return track.trajectory()

    def _track(
        self,
        problem: Problem,
        starts: npt.NDArray[np.float64],
        values: npt.NDArray[np.float64] | None = None,
        targets: npt.NDArray[np.float64] | None = None,
        *,
        keep: bool = False,
    ) -> Track:
        points = torch.tensor(starts, dtype=torch.float64, device=self.device)
        first = self.tensors.value(points) if values is None else torch.from_numpy(values).to(self.device)
        return Track(problem, points, first, targets, keep=keep)

    def _advance(self, problem: Problem, rates: Sequence[float | None], numbers: Sequence[int], track: Track) -> bool:
        """Run all steps from where a track begins; False as soon as a run may have gone another way than alone."""
        group = self._company == "a rate" and self.form.closure == "never"
        runs = SideBySide(self, problem, track.start, rates, numbers, group=group)
        # Evaluations are counted to the step that a run ends at.
        longest = runs.longest if self.form.closure == "never" else 1
        before = random_state(self.device)
        for first in range(1, problem.steps + 1, longest):
            try:
                places = runs.stretch(range(first, min(first + longest, problem.steps + 1)), track.going)
            except CompanyError:
                return False
            if len(numbers) > 1 and self._company != "alone" and not same(before, random_state(self.device)):
                return False
            values = self.tensors.value(places.reshape(-1, places.shape[2])).view(places.shape[:2])
            track.add(first, places, values, runs.evaluations)
            if not bool(track.going.any()):
                break
        return True


class SideBySide:
    """Runs as rows of one tensor with the optimizers that drive them."""

    def __init__(
        self,
        runner: TorchRunner,
        problem: Problem,
        start: Tensor,
        rates: Sequence[float | None],
        numbers: Sequence[int],
        *,
        group: bool,
    ) -> None:
        """Give each run an optimizer, or with `group` each rate, whose runs lie side by side; then some witnesses."""
        self._runner, self._problem = runner, problem
        self._count = count = len(numbers)
        changes = [i for i in range(1, count) if not group or rates[i] != rates[i - 1]]
        groups = [slice(begin, end) for begin, end in itertools.pairwise([0, *changes, count])]
        self._watched = sorted({0, count // 2, count - 1}) if len(groups) < count else []
        groups += [slice(count + i, count + i + 1) for i in range(len(self._watched))]
        self._rows = [*range(count), *self._watched]
        self._points = start[self._rows]
        self._draws = Draws(problem, [numbers[row] for row in self._rows], runner.device)
        self._drivers = [
            runner.driver(self._points, rows, at_rate(problem.settings, rates[self._rows[rows.start]]), runner.form)
            for rows in groups
        ]
        self.evaluations = torch.zeros(count, dtype=torch.int64)
        total = problem.surface.finite_sum
        held = self._points.numel() * (1 if total is None else len(total.samples))
        self.longest = max(1, min(LONGEST_STRETCH, HELD // held))

    def stretch(self, steps: Sequence[int], going: Tensor) -> Tensor:
        """Take some steps of those that have not diverged, and return all points after each, [steps, runs, n].

        Raises:
            CompanyError: a run went another way than its witness.
            UsageError: an optimizer failed at finite numbers.

        """
        still = going[self._rows].tolist()
        self._drivers = [driver for driver in self._drivers if any(still[driver.rows])]
        places = torch.empty((len(steps), *self._points.shape), dtype=torch.float64, device=self._points.device)
        for i, t in enumerate(steps):
            self._step(t)
            places[i] = self._points
        for driver in self._drivers:
            self.evaluations[driver.rows] = driver.evaluations
        for i, row in enumerate(self._watched):
            if still[row] and not same(places[:, row], places[:, self._count + i]):
                raise CompanyError
        return places[:, : self._count]

    def _step(self, t: int) -> None:
        problem = self._problem
        for driver in self._drivers:
            driver.switch("train")
            if not problem.schedule.constant:
                driver.rates.scale(problem.schedule.factor(t, problem.steps))
        batch, noise = self._draws.batch(t), self._draws.noise(t)
        gradient = self._gradient(self._points, batch, noise)
        for driver in self._drivers:
            rows = driver.rows
            own = [None if drawn is None else drawn[rows] for drawn in (batch, noise)]
            try:
                driver.step(gradient[rows], functools.partial(self._evaluate, own))
                driver.switch("eval")
            except Exception as error:
                if driver.many:
                    raise CompanyError from error
                if bool(gradient[rows].isfinite().all()):
                    name = self._runner.optimizer.name
                    raise UsageError(f"{name} failed at step {t}: {first_line(error)}; leave it out") from error
                self._points[rows] = torch.nan

    def _gradient(self, points: Tensor, batch: Tensor | None, noise: Tensor | None) -> Tensor:
        """Return what optimizers see: the gradient with its noise, clipped."""
        gradient = self._runner.tensors.gradient(points, batch)
        if noise is not None:
            gradient = gradient + noise
        if self._problem.clip_norm is not None:
            norms = torch.linalg.vector_norm(gradient, dim=1, keepdim=True)
            gradient = gradient * clip_factor(norms, self._problem.clip_norm)
        return gradient

    def _evaluate(self, drawn: Sequence[Tensor | None], points: Tensor) -> tuple[Tensor, Tensor]:
        batch, noise = drawn
        return self._runner.tensors.value(points, batch), self._gradient(points, batch, noise)


def at_rate(settings: Mapping[str, Any], rate: float | None) -> dict[str, Any]:
    """Return settings at a learning rate, or as they are."""
    return {**settings} if rate is None else {**settings, "lr": rate}


class Draws:
    """What is random in the gradients of a problem's runs: the same numbers as on every other engine."""

    def __init__(self, problem: Problem, numbers: Sequence[int], device: str) -> None:
        """Take the number of each run's start, which decides its noise and the order of its data."""
        self.surface, self.seed, self.device = problem.surface, problem.seed, device
        self._numbers, self._places = np.unique(np.asarray(numbers, dtype=np.int64), return_inverse=True)
        self._epoch = -1
        self._orders: npt.NDArray[np.int64] = np.empty((0, 0), np.int64)

    def batch(self, t: int) -> Tensor | None:
        """Return the samples of step `t` = 1, 2, ... for each run, [runs, samples]; None where all are taken."""
        total = self.surface.finite_sum
        if total is None or total.full:
            return None
        epoch, turn = divmod(t - 1, total.batches)
        if epoch != self._epoch:
            self._epoch, count = epoch, len(total.samples)
            orders = [shuffled(key(self.seed, number, epoch, 7), count) for number in self._numbers.tolist()]
            self._orders = np.array(orders)[self._places]
        first = turn * total.batch_size
        return torch.from_numpy(self._orders[:, first : first + total.batch_size]).to(self.device)

    def noise(self, t: int) -> Tensor | None:
        """Return the noise of step `t` for each run, [runs, coordinates]; None of a surface without."""
        if not self.surface.noise:
            return None
        pairs = -(-self.surface.dimension // 2)
        streams = [key(self.seed, number, 3) for number in self._numbers.tolist()]
        drawn = [[one for i in range(pairs) for one in gaussian_pair(stream, t * pairs + i)] for stream in streams]
        noise = self.surface.noise * np.array(drawn)[self._places, : self.surface.dimension]
        return torch.from_numpy(noise).to(self.device)


class Track:
    """What is gathered of runs as they go: the rows of `kernel.GATHERED`, and every point where they are kept."""

    def __init__(
        self,
        problem: Problem,
        start: Tensor,
        values: Tensor,
        targets: npt.NDArray[np.float64] | None,
        *,
        keep: bool,
    ) -> None:
        """Begin at points [runs, coordinates] and their values."""
        self.start, self.place, self.values = start, start, values.cpu().numpy()
        bounds = limits(problem, self.values)
        self.targets = bounds[0] if targets is None else targets
        device = start.device
        self._target, self._low, self._high = (
            torch.tensor(bound, dtype=torch.float64, device=device) for bound in (self.targets, *bounds[1:])
        )
        zero, never = torch.zeros_like(values), torch.full_like(values, torch.inf)
        self.rows = dict.fromkeys(GATHERED, values) | dict.fromkeys(("missed", "length", "flips"), zero)
        self.rows |= dict.fromkeys(("hit", "broken", "undercut", "lowest"), never) | {"highest": -never}
        self.evaluations = torch.zeros(len(start), dtype=torch.int64)
        self._late = (9 * (problem.steps + 1)) // 10
        self._steps = problem.steps
        self._kept: list[tuple[Tensor, Tensor]] | None = [(start[None], values[None])] if keep else None
        shape = problem.surface.quadratic if problem.surface.minima else None
        self._axis = None if shape is None else torch.tensor(shape.steep_axis, dtype=torch.float64, device=device)
        self._centre = torch.tensor(problem.surface.minima[:1], dtype=torch.float64, device=device)

    @property
    def going(self) -> Tensor:
        """Which runs have not diverged, [runs]."""
        return self.rows["broken"].isinf()

    def add(self, first: int, places: Tensor, values: Tensor, evaluations: Tensor) -> None:
        """Take the points [steps, runs, coordinates] and values [steps, runs] after steps `first`, `first` + 1, ...

        `evaluations` are those of the gradient until now, [runs].
        """
        rows = self.rows
        self.evaluations = evaluations.clone()
        steps = torch.arange(first, first + len(values), dtype=torch.float64, device=values.device)[:, None]
        met = values <= self._target
        outside = ~((values > self._low) & (values <= self._high))
        rows["hit"] = torch.minimum(rows["hit"], earliest(steps, met))
        rows["missed"] = torch.maximum(rows["missed"], torch.where(met, 0.0, steps).amax(0))
        rows["broken"] = torch.minimum(rows["broken"], earliest(steps, outside))
        rows["undercut"] = torch.minimum(rows["undercut"], earliest(steps, values <= self._low))
        rows["value"] = values[-1]
        cut = max(0, min(self._late - first, len(values)))
        for part, suffix in ((values[:cut], "_before"), (values[cut:], "")):
            if len(part):
                rows[f"lowest{suffix}"] = torch.minimum(rows[f"lowest{suffix}"], part.amin(0))
                rows[f"highest{suffix}"] = torch.maximum(rows[f"highest{suffix}"], part.amax(0))
        path = torch.cat([self.place[None], places])
        moves = torch.linalg.vector_norm(path[1:] - path[:-1], dim=2)
        # Summed step after step, so that the stretches' lengths change nothing.
        rows["length"] = torch.cat([rows["length"][None], moves]).cumsum(0)[-1]
        if self._axis is not None:
            heights = (path - self._centre) @ self._axis
            rows["flips"] = rows["flips"] + (heights[1:] * heights[:-1] < 0).sum(0)
        self.place = places[-1]
        if self._kept is not None:
            self._kept.append((places, values))

    def trajectory(self) -> Trajectory:
        """Return the path of the first run, of a track that keeps it."""
        broken = self.rows["broken"][0].item()
        diverged = None if broken == torch.inf else int(broken)
        last = self._steps if diverged is None else diverged
        places, values = (torch.cat(parts)[: last + 1, 0].cpu() for parts in zip(*self._kept or [], strict=True))
        if not bool(places[-1].isfinite().all()):
            # Where a run leaps to what is no number, it has no such point.
            places, values = places[:-1], values[:-1]
        return Trajectory(tuple(axis.tolist() for axis in places.unbind(1)), values.tolist(), diverged, last)


def population(tracks: Sequence[Track], steps: int, *, counted: bool) -> Population:
    """Return what was gathered of all runs of some tracks, their evaluations where they are counted."""
    gathered = torch.cat([torch.stack([track.rows[name] for name in GATHERED]) for track in tracks], dim=1)
    points = torch.cat([track.place for track in tracks])
    values, targets = (np.concatenate([getattr(t, name) for t in tracks]) for name in ("values", "targets"))
    evaluations = torch.cat([track.evaluations for track in tracks]).numpy()
    return population_of(
        gathered.cpu().numpy(), points.cpu().numpy(), values, targets, steps, evaluations if counted else None
    )


def earliest(steps: Tensor, holds: Tensor) -> Tensor:
    """Return each run's first step at which something holds, infinite where there is none."""
    return torch.where(holds, steps, torch.inf).amin(0)


def same(a: Tensor, b: Tensor) -> bool:
    """Tell whether all numbers are equal; two that are none are alike."""
    return a.shape == b.shape and bool(((a == b) | (a.isnan() & b.isnan())).all())


def random_state(device: str) -> Tensor:
    """Return the state of the generators that an optimizer may draw from."""
    states = [torch.get_rng_state()]
    if device != "cpu":
        states.append(torch.get_device_module(device).get_rng_state(device).cpu())
    return torch.cat(states)


@contextlib.contextmanager
def seeds_put_back(device: str) -> Iterator[None]:
    """Leave the generators as they were."""
    kind, _, number = device.partition(":")
    if kind == "cpu":
        with torch.random.fork_rng(devices=[]):
            yield
    else:
        with torch.random.fork_rng(devices=[int(number or 0)], device_type=kind):
            yield


@contextlib.contextmanager
def threads_of_torch(threads: int) -> Iterator[None]:
    """Give torch so many threads inside."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
