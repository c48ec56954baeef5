"""The engine of torch tensors: every coordinate and slot is one tensor over all runs, on the CPU or a CUDA device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from mlcv_bench.errors import UsageError
from mlcv_bench.racing import program as programs
from mlcv_bench.racing.population import Population, limits, population, value_of
from mlcv_bench.surfaces.expression import FUNCTIONS, function_from
from mlcv_bench.surfaces.randomness import FIRST, GOLDEN, SECOND, key, shuffled
from mlcv_bench.surfaces.surface import Samples

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from mlcv_bench.optimizers.rule import Rule
    from mlcv_bench.racing.program import Problem
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
    """Scramble 64 bits, as `randomness.mix`."""
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
        place = {"dtype": torch.float64, "device": self.device}
        values = value_of(self.surface, starts)
        firsts = torch.tensor(values, **place)
        target, low, high = (torch.tensor(bound, **place) for bound in limits(problem, values))
        state = [torch.tensor(starts[:, i], **place) for i in range(size)]
        state += [torch.zeros(count, **place) for _ in self.program.state]
        arguments: list[Any] = list(self.program.values(problem))
        if rates is not None and "h_lr" in self.program.arguments:
            arguments[self.program.arguments.index("h_lr")] = torch.tensor(rates, **place)
        keys = list(numbers) if numbers is not None else list(range(count))
        random = self.program.noisy or self.program.batched
        streams = [_signed(key(problem.seed, number, 3)) for number in keys] if random else [0]
        stream = torch.tensor(streams, dtype=torch.int64, device=self.device)
        total = self.surface.finite_sum
        data = torch.tensor(total.samples if total else [[0.0]], **place)
        order = torch.zeros((1, 1), dtype=torch.int64)
        lines = programs.rule_lines(self.rule, size)
        infinite = torch.full((count,), torch.inf, **place)
        hit, missed, broken, value = infinite.clone(), torch.zeros(count, **place), infinite.clone(), firsts.clone()
        best, before = firsts.clone(), firsts.clone()
        length = torch.zeros(count, **place)
        flips = torch.zeros(count, **place)
        height = self._height(state)
        early = (9 * (problem.steps + 1)) // 10 - 1
        for t in range(1, problem.steps + 1):
            first = last = 0
            if self.program.batched and total is not None:
                turn = (t - 1) % total.batches
                first = turn * total.batch_size
                last = min(first + total.batch_size, len(total.samples))
                if turn == 0:
                    epoch = (t - 1) // total.batches
                    drawn = [shuffled(key(problem.seed, number, epoch, 7), len(total.samples)) for number in keys]
                    order = torch.tensor(drawn, device=self.device)
            old = state[:size]
            coefficients = lines.coefficients_of(t, problem.settings)
            moved, f = self._step(*state, t, *coefficients, *arguments, stream, order, first, last, data)
            state = [torch.as_tensor(part, **place).expand(count) for part in moved]
            f = torch.as_tensor(f, **place).expand(count)
            met = (low < f) & (f <= target) if problem.surface.minimum is None else f <= target
            hit = torch.where(met & (hit > t), float(t), hit)
            missed = torch.where(met, missed, float(t))
            broken = torch.where(((low < f) & (f <= high)) | (broken < torch.inf), broken, float(t))
            value = f
            best = torch.minimum(best, f)
            length = length + sum((a - b) ** 2 for a, b in zip(state[:size], old, strict=True)) ** 0.5
            after = self._height(state)
            flips = flips + (height * after < 0)
            height = after
            if t == early:
                before, best = best, infinite
            if t % 64 == 0 and bool((broken < torch.inf).all()):
                break
        gathered = [part.cpu().numpy() for part in (hit, missed, broken, value, before, best, length, flips)]
        points = np.stack([part.cpu().numpy() for part in state[:size]], axis=1)
        return population(gathered, (firsts <= target).cpu().numpy(), problem.steps, points)

    def _height(self, state: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return how far each run stands along the steep axis, for counting changes of side."""
        shape = self.surface.quadratic
        if shape is None or not self.surface.minima:
            return torch.zeros_like(state[0])
        axis, centre = shape.steep_axis, self.surface.minima[0]
        middle = sum(a * c for a, c in zip(axis, centre, strict=True))
        return sum((a * x for a, x in zip(axis, state, strict=False)), start=torch.zeros_like(state[0])) - middle
