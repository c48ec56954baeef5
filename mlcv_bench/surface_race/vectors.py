"""The engine for one long vector: a rule on a sum over coordinates, 64 coordinates side by side, one run at a time.

The lines of the step are those of one coordinate. A pass over memory a step computes gradient, update, value and path
together, and a run keeps its point and the rule's slots alone, so that a million coordinates take a few arrays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mlcv_bench.surface_race.floats import Trajectory
from mlcv_bench.surface_race.kernel import GATHERED, HEAD, LANES, RANDOM
from mlcv_bench.surface_race.lanes import LaneRunner, Population, launch, population_of
from mlcv_bench.surface_race.program import PLAIN, Changes
from mlcv_bench.surfaces.many import columns_of

if TYPE_CHECKING:
    import numpy.typing as npt

    from mlcv_bench.optimizers.rule import Rule
    from mlcv_bench.surface_race.program import Problem, Program, Start
    from mlcv_bench.surfaces.surface import Surface


def write(program: Program, surface: Surface) -> str:
    """Return the source of a kernel's module for a sum over coordinates."""
    columns = surface.coordinate_sum.columns if surface.coordinate_sum is not None else {}
    arrays = [f"d_{column}" for column in columns]
    kept = ["x0", *program.state]
    loads = [f"{name} = own_{name}[lane]" for name in (*kept, *arrays)]
    # Two coordinates share a pair of random numbers, as they do where each is written out.
    noise = [
        "for lane in range(0, width, 2):",
        "    pair = (begin + lane) // 2",
        "    noise[lane], noise[lane + 1] = gaussian_pair(stream, t * ((count + 1) // 2) + pair)",
    ]

    def everywhere(*one: str) -> list[str]:
        """Return a pass over all coordinates with these lines for each."""
        return [
            "values[:] = 0.0",
            "moves[:] = 0.0",
            "for begin in range(0, count, LANES):",
            "    width = min(LANES, count - begin)",
            *(f"    {line}" for line in (noise if program.noisy else [])),
            "    own_x0 = x[begin : begin + width]",
            *(f"    own_{name} = slots[{i}, begin : begin + width]" for i, name in enumerate(program.state)),
            *(f"    own_{name} = all_{name}[begin : begin + width]" for name in arrays),
            "    for lane in range(width):",
            *(f"        {line}" for line in (*loads, *one)),
        ]

    clip = [
        *everywhere(*program.unclipped, "values[lane] += g0 * g0"),
        "clip = clip_norm / maximum(sqrt(values.sum()), clip_norm)",
    ]
    step = [
        *(f"{name} = table[t - 1, {i}]" for i, name in enumerate(program.coefficients)),
        *(clip if program.unclipped else []),
        *everywhere(
            "old_x0 = x0",
            *program.gradient,
            *program.update,
            *program.value,
            *(f"own_{name}[lane] = {name}" for name in kept),
            "values[lane] += f",
            "moves[lane] += (x0 - old_x0) * (x0 - old_x0)",
        ),
        "value = values.sum()",
        "length += sqrt(moves.sum())",
        "before = height",
        "height = x[steep] - centre[steep]",
        "flips += 1.0 if before * height < 0.0 else 0.0",
        "if traced:",
        "    path[t, 0] = value",
        "    path[t, 1] = apart(x, centre)",
        "if t == late:",
        "    lowest_before = lowest",
        "    highest_before = highest",
        "    lowest = INF",
        "    highest = -INF",
        "lowest = min(lowest, value)",
        "highest = max(highest, value)",
        "met = value <= targets[run]",
        "hit = min(hit, float(t) if met else INF)",
        "missed = missed if met else float(t)",
        "undercut = float(t) if value <= lows[run] else INF",
        "if not (lows[run] < value and value <= highs[run]):",
        "    broken = float(t)",
        "    break",
    ]
    lines = [
        "count = points.shape[1]",
        "late = (9 * (steps + 1)) // 10",
        f"slots = np.empty(({len(program.state)}, count))",
        "values = np.empty(LANES)",
        "moves = np.empty(LANES)",
        "noise = np.empty(LANES)",
        "for run in range(first_run, last_run):",
        "    x = points[run]",
        "    slots[:] = 0.0",
        "    h_lr = rates[run]",
        *(["    stream = extend(streams[run], 3)"] if program.noisy else []),
        "    value = firsts[run]",
        "    hit = broken = undercut = INF",
        "    missed = length = flips = 0.0",
        "    lowest = lowest_before = highest = highest_before = value",
        "    height = x[steep] - centre[steep]",
        "    traced = run == 0 and len(path) > 0",
        "    if traced:",
        "        path[0, 0] = value",
        "        path[0, 1] = apart(x, centre)",
        "    for t in range(1, steps + 1):",
        *(f"        {line}" for line in step),
        *(f"    out[{i}, run] = {name}" for i, name in enumerate(GATHERED)),
    ]
    fixed = "steps, points, rates, targets, lows, highs, firsts, table, out, streams, path, centre, steep"
    named = [f"all_{name}" if name == "h_lr" or name in arrays else name for name in (*arrays, *program.arguments)]
    random = RANDOM if program.noisy else ""
    body = "\n".join(f"    {line}" for line in lines)
    return f"""{HEAD}{random}
LANES = {LANES}
INF = np.inf


@njit(cache=CACHE)
def apart(point, centre):
    total = 0.0
    for i in range(len(point)):
        total += (point[i] - centre[i]) ** 2
    return sqrt(total)


@njit(nogil=True, cache=CACHE, error_model="numpy")
def run_blocks(first_run, last_run, {", ".join([fixed, *named])}):
{body}
"""


class VectorRunner(LaneRunner):
    """A rule on a sum over coordinates as a compiled kernel."""

    def __init__(self, rule: Rule, surface: Surface) -> None:
        """Take both; a kernel is loaded or compiled at the first run of a problem that wants it."""
        super().__init__(rule, surface)
        shape = surface.quadratic
        steep = shape.curvatures.index(shape.L) if shape is not None else 0
        self._place = (np.array(surface.minima[0]), steep, *columns_of(surface))

    def source(self, changes: Changes = PLAIN) -> str:
        """Return the text of the kernel."""
        return write(self.program(changes), self.surface)

    def run(
        self,
        problem: Problem,
        starts: npt.NDArray[np.float64],
        *,
        rates: npt.NDArray[np.float64] | None = None,
        targets: npt.NDArray[np.float64] | None = None,
        numbers: npt.NDArray[np.uint64] | None = None,
        values: npt.NDArray[np.float64] | None = None,
        threads: int = 1,
        path: npt.NDArray[np.float64] | None = None,
    ) -> Population:
        """Run every start; arguments as of `LaneRunner.run`.

        `path`, of shape [steps + 1, 2], is filled with the value and the distance to the minimum at every step of the
        first run; what comes after a divergence stays as it was.
        """
        points = np.array(starts, dtype=np.float64, order="C")  # where the runs go on, and end
        count = len(points)
        program, kernel = self.kernel(problem.changes)
        lr, target, low, high, values, streams = self._columns(
            problem, program, points, rates=rates, targets=targets, numbers=numbers, values=values
        )
        out = np.empty((len(GATHERED), count))
        table = self._table(problem, program)
        arguments = (
            *(problem.steps, points, lr, target, low, high, values, table, out, streams),
            *(np.empty((0, 2)) if path is None else path, *self._place, *program.values(problem)),
        )
        launch(kernel, count, arguments, threads, fewest=1)
        return population_of(out, points, values, target, problem.steps)

    def trace(self, problem: Problem, start: Start) -> Trajectory:
        """Run all steps, or to divergence, and keep the value and the distance to the minimum of each."""
        path = np.empty((problem.steps + 1, 2))
        numbers = np.array([start.number], dtype=np.uint64)
        found = self.run(problem, np.array([start.point]), numbers=numbers, path=path)
        diverged = int(found.diverged_at[0])
        steps = problem.steps if diverged < 0 else diverged
        values, distances = path[: steps + 1].T.tolist()
        return Trajectory((), values, None if diverged < 0 else diverged, steps, distances)
