"""The engine of torch tensors: every coordinate and slot is one tensor over all runs, on the CPU or a CUDA device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from mlcv_bench.errors import UsageError
from mlcv_bench.expression import FUNCTIONS, function_from
from mlcv_bench.random_streams import FIRST, GOLDEN, SECOND, key, shuffled
from mlcv_bench.surface_race import program as programs
from mlcv_bench.surface_race.population import GATHERED, Population, limits, population, value_of
from mlcv_bench.surfaces.surface import Samples

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from mlcv_bench.optimizers.rule import Rule
    from mlcv_bench.surface_race.program import Problem
    from mlcv_bench.surfaces.surface import Surface

TENSORS: dict[str, Any] = {**{name: getattr(torch, name) for name in FUNCTIONS}, "power": torch.pow}
"""What the names in generated code mean on tensors."""


def _signed(number: int) -> int:
    """Return the signed 64-bit integer with the same bits."""
    return number - (1 << 64) if number >= 1 << 63 else number


def _shifted(z: torch.Tensor, bits: int) -> torch.Tensor:
    """Shift right and fill with zeros, which >> does not do on signed integers."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)


def mix(z: torch.Tensor) -> torch.Tensor:
    """Scramble 64 bits, as `random_streams.mix`."""
    z = (z ^ _shifted(z, 30)) * _signed(FIRST)
    z = (z ^ _shifted(z, 27)) * _signed(SECOND)
    return z ^ _shifted(z, 31)


def uniform(stream: torch.Tensor, counter: int) -> torch.Tensor:
    """Return number `counter` of every stream, in (0, 1)."""
    scrambled = mix(stream + _signed((counter * GOLDEN) & ((1 << 64) - 1)))
    return _shifted(scrambled, 11).to(torch.float64) * 2.0**-53 + 2.0**-54


def gaussian_pair(stream: torch.Tensor, counter: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return two standard normal numbers for every stream."""
    radius = torch.sqrt(-2.0 * torch.log(uniform(stream, 2 * counter)))
    angle = 2.0 * torch.pi * uniform(stream, 2 * counter + 1)
    return radius * torch.cos(angle), radius * torch.sin(angle)


class TensorRunner:
    """A rule on a surface, one tensor operation for every line of the step."""

    def __init__(self, rule: Rule, surface: Surface, device: str = "cpu") -> None:
        """Write the step.

        Raises:
            UsageError: the step needs elimination, which runs on floats only.

        """
        self.rule = rule
        self.surface = surface
        self.device = torch.device(device)
        total = surface.finite_sum
        columns = total.columns if total else ()
        inside = tuple(f"{column} = data[order[:, sample], {i}]" for i, column in enumerate(columns))
        batch = Samples("for sample in range(batch_first, batch_last):", inside, "(batch_last - batch_first)")
        self.program = programs.write(rule, surface, batch=batch)
        if self.program.eliminates:
            msg = f"{rule.name} in {surface.dimension} coordinates solves a system a step; use --engine scalar"
            raise UsageError(msg)
        self._xs = [f"x{i}" for i in range(surface.dimension)]
        self._state = [*self._xs, *self.program.state]
        arguments = [*self._state, "t", *self.program.coefficients, *self.program.arguments]
        lines = [
            *self.program.gradient,
            *self.program.update,
            *self.program.value,
            f"return ({', '.join(self._state)},), f",
        ]
        random = ["stream", "order", "batch_first", "batch_last", "data"]
        names = {"gaussian_pair": gaussian_pair, "samples": total.samples if total else ()}
        self._step = function_from("step", [*arguments, *random], lines, {**TENSORS, **names, **self.program.namespace})

    def run(
        self,
        problem: Problem,
        starts: npt.NDArray[np.float64],
        *,
        rates: npt.NDArray[np.float64] | None = None,
        numbers: Sequence[int] | None = None,
    ) -> Population:
        """Run every start; arguments and result as `lanes.LaneRunner.run`."""
        count, size = starts.shape
        values = value_of(self.surface, starts)
        target, low, high = map(self._tensor, limits(problem, values))
        firsts = self._tensor(values)
        state = [self._tensor(starts[:, i]) for i in range(size)]
        state += [torch.zeros_like(firsts) for _ in self.program.state]
        arguments: list[Any] = list(self.program.values(problem))
        if rates is not None and "h_lr" in self.program.arguments:
            arguments[self.program.arguments.index("h_lr")] = self._tensor(rates)
        draws = _Draws(self.surface, problem.seed, numbers if numbers is not None else range(count), self.device)
        lines = programs.rule_lines(self.rule, size)
        gathered = _Gathered(firsts, self._height(state))
        late = (9 * (problem.steps + 1)) // 10
        for t in range(1, problem.steps + 1):
            old = state[:size]
            coefficients = lines.coefficients_of(t, problem.settings)
            moved, f = self._step(*state, t, *coefficients, *arguments, *draws.of(t))
            state = [torch.as_tensor(part, dtype=torch.float64, device=self.device).expand(count) for part in moved]
            f = torch.as_tensor(f, dtype=torch.float64, device=self.device).expand(count)
            fine = (low < f) & (f <= high)
            if t == late:
                gathered.turn()
            gathered.add(t, f, met=fine & (f <= target), fine=fine, under=f <= low)
            gathered.move(old, state[:size], self._height(state))
            if t % 64 == 0 and bool((gathered.broken < torch.inf).all()):
                break
        points = np.stack([part.cpu().numpy() for part in state[:size]], axis=1)
        return population(gathered.arrays(), (firsts <= target).cpu().numpy(), problem.steps, points)

    def _tensor(self, values: npt.NDArray[np.float64]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.float64, device=self.device)

    def _height(self, state: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return how far each run stands along the steep axis, for counting changes of side."""
        shape = self.surface.quadratic
        if shape is None or not self.surface.minima:
            return torch.zeros_like(state[0])
        axis, centre = shape.steep_axis, self.surface.minima[0]
        middle = sum(a * c for a, c in zip(axis, centre, strict=True))
        products = [a * x for a, x in zip(axis, state, strict=False)]
        return torch.stack(products).sum(dim=0) - middle


class _Draws:
    """What is random in every step: the streams of the noise, and the batch."""

    def __init__(self, surface: Surface, seed: int, numbers: Sequence[int], device: torch.device) -> None:
        total = surface.finite_sum
        self._total = total if total is not None and not total.full else None
        self._seed, self._numbers, self._device = seed, list(numbers), device
        keys = [_signed(key(seed, number, 3)) for number in self._numbers] if surface.noise > 0 else [0]
        self._stream = torch.tensor(keys, dtype=torch.int64, device=device)
        samples = self._total.samples if self._total else [[0.0]]
        self._data = torch.tensor(samples, dtype=torch.float64, device=device)
        self._order = torch.zeros((1, 1), dtype=torch.int64, device=device)

    def of(self, t: int) -> tuple[Any, ...]:
        """Return stream, order, first and last sample of the batch, and the data, for step `t`."""
        first = last = 0
        if self._total is not None:
            count = len(self._total.samples)
            epoch, turn = divmod(t - 1, self._total.batches)
            first = turn * self._total.batch_size
            last = min(first + self._total.batch_size, count)
            if turn == 0:
                drawn = [shuffled(key(self._seed, number, epoch, 7), count) for number in self._numbers]
                self._order = torch.tensor(drawn, device=self._device)
        return self._stream, self._order, first, last, self._data


class _Gathered:
    """What is kept of every run on the way, as `population.GATHERED` lists it."""

    def __init__(self, firsts: torch.Tensor, height: torch.Tensor) -> None:
        self.hit = torch.full_like(firsts, torch.inf)
        self.missed = torch.zeros_like(firsts)
        self.broken = torch.full_like(firsts, torch.inf)
        self.undercut = torch.full_like(firsts, torch.inf)
        self.value = firsts
        self.lowest_before = self.lowest = firsts
        self.highest_before = self.highest = firsts
        self.length = torch.zeros_like(firsts)
        self.flips = torch.zeros_like(firsts)
        self._height = height

    def add(self, t: int, f: torch.Tensor, *, met: torch.Tensor, fine: torch.Tensor, under: torch.Tensor) -> None:
        """Take in the values after step `t`."""
        self.hit = torch.where(met & (self.hit > t), float(t), self.hit)
        self.missed = torch.where(met, self.missed, float(t))
        self.broken = torch.where(fine | (self.broken < torch.inf), self.broken, float(t))
        self.undercut = torch.where(under & (self.undercut > t), float(t), self.undercut)
        self.value = f
        self.lowest = torch.minimum(self.lowest, f)
        self.highest = torch.maximum(self.highest, f)

    def move(self, old: Sequence[torch.Tensor], new: Sequence[torch.Tensor], height: torch.Tensor) -> None:
        """Take in the way a step went."""
        square = torch.zeros_like(self.length)
        for a, b in zip(new, old, strict=True):
            square = square + (a - b) * (a - b)
        self.length = self.length + square.sqrt()
        self.flips = self.flips + (self._height * height < 0)
        self._height = height

    def turn(self) -> None:
        """Begin the last tenth."""
        self.lowest_before, self.lowest = self.lowest, torch.full_like(self.lowest, torch.inf)
        self.highest_before, self.highest = self.highest, torch.full_like(self.highest, -torch.inf)

    def arrays(self) -> list[npt.NDArray[np.float64]]:
        """Return everything in the order of GATHERED."""
        return [getattr(self, name).cpu().numpy() for name in GATHERED]
