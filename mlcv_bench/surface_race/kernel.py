"""The text of the lanes' kernels: one step of a rule on a surface, for blocks of 64 runs side by side.

A block's state lies in one small array, row after row of 64 lanes, which stays in the first-level cache; the loop over
the lanes is innermost, so that LLVM turns it into vector instructions. What depends on the step alone comes from a
table. Lanes never read each other, so what one does cannot change another's bits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlcv_bench.functions import NUMBA
from mlcv_bench.random_streams import FIRST, GOLDEN, SECOND
from mlcv_bench.surfaces.surface import Samples

if TYPE_CHECKING:
    from mlcv_bench.surface_race.program import Program
    from mlcv_bench.surfaces.surface import Surface

LANES = 64
CHECK_EVERY = 16  # steps between two looks at whether a block is finished

GATHERED = (
    *("hit", "missed", "broken", "undercut", "value"),
    *("lowest_before", "lowest", "highest_before", "highest"),
    *("length", "flips"),
)
"""What a kernel gathers for each run: the first step the target held at, the last at which it did not, the first at
which it left its bounds, the first below them; the last value; the lowest and the highest value before the last tenth
and in it; the path's length, changes of side. A step that never came is infinite."""


def sample_loops(surface: Surface) -> tuple[Samples | None, Samples | None]:
    """Return how a lane walks over its batch, and over all samples."""
    total = surface.finite_sum
    if total is None:
        return None, None
    batch = tuple(f"{column} = data[order[lane, sample], {i}]" for i, column in enumerate(total.columns))
    everything = tuple(f"{column} = data[sample, {i}]" for i, column in enumerate(total.columns))
    return (
        Samples("for sample in range(batch_first, batch_last):", batch, "(batch_last - batch_first)"),
        Samples("for sample in range(data.shape[0]):", everything, "data.shape[0]"),
    )


HEAD = (
    '''"""A kernel that mlcv-bench wrote: one step of a rule on a surface, for blocks of 64 runs. Safe to delete."""

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic
'''
    + NUMBA
    + """

def one_instruction(name):
    def typed(context, a, b):
        def lowered(target, builder, signature, values):
            number = ir.DoubleType()
            called = builder.module.declare_intrinsic(name, (number,), ir.FunctionType(number, (number, number)))
            return builder.call(called, values)

        return types.float64(types.float64, types.float64), lowered

    return intrinsic(typed)


smaller = one_instruction("llvm.minnum")
larger = one_instruction("llvm.maxnum")
"""
)
"""The head of every kernel. `smaller` and `larger` return the number where the other is none, as min and max of a
number and then a NaN do; of `min`, LLVM 20 and later make stores under a mask, a fifth of a step here (AMD, AVX2)."""

RANDOM = f"""
GOLDEN = np.uint64({GOLDEN})
FIRST = np.uint64({FIRST})
SECOND = np.uint64({SECOND})


@njit(cache=CACHE)
def mix(z):
    z = (z ^ (z >> np.uint64(30))) * FIRST
    z = (z ^ (z >> np.uint64(27))) * SECOND
    return z ^ (z >> np.uint64(31))


@njit(cache=CACHE)
def extend(state, part):
    return mix(state ^ mix(np.uint64(part) * GOLDEN + SECOND))


@njit(cache=CACHE)
def uniform(stream, counter):
    return float(mix(stream + np.uint64(counter) * GOLDEN) >> np.uint64(11)) * 2.0**-53 + 2.0**-54


@njit(cache=CACHE)
def gaussian_pair(stream, counter):
    radius = sqrt(-2.0 * log(uniform(stream, 2 * counter)))
    angle = 2.0 * np.pi * uniform(stream, 2 * counter + 1)
    return radius * cos(angle), radius * sin(angle)


@njit(cache=CACHE)
def shuffle(order, stream):
    for i in range(len(order)):
        order[i] = i
    for i in range(len(order) - 1, 0, -1):
        j = np.int64(mix(stream + np.uint64(i) * GOLDEN) % np.uint64(i + 1))
        order[i], order[j] = order[j], order[i]
"""


class _Rows:
    """The rows of a block's state, each given a number when it is first named."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def of(self, name: str) -> str:
        return f"w[{self.numbers.setdefault(name, len(self.numbers))}, lane]"


def write(program: Program, surface: Surface, *, full: bool) -> str:
    """Return the source of a kernel's module; a `full` one gathers what measures a path too."""
    size = surface.dimension
    rows = _Rows()
    xs = [f"x{i}" for i in range(size)]
    kept = [*xs, *program.state]
    per_lane = [name for name in program.hyper if name == "h_lr"]
    random = program.noisy or program.batched
    steep = surface.quadratic is not None and bool(surface.minima) and full
    load_lines = [f"{name} = {rows.of(name)}" for name in (*kept, *per_lane)]
    store = [f"{rows.of(name)} = {name}" for name in kept]
    body = [
        *load_lines,
        *(["stream = streams[min(block * LANES + lane, count - 1)]"] if random else []),
        *(["stream = extend(stream, 3)"] if program.noisy else []),
        *([f"old_{x} = {x}" for x in xs] if full else []),
        *program.gradient,
        *program.update,
        *program.value,
        *store,
        f"high = {rows.of('high')}",
        f"low = {rows.of('low')}",
        f"met = f <= {rows.of('target')}",
        f"{rows.of('hit')} = smaller({rows.of('hit')}, step if met else INF)",
        f"{rows.of('missed')} = larger({rows.of('missed')}, 0.0 if met else step)",
        f"{rows.of('broken')} = smaller({rows.of('broken')}, INF if low < f and f <= high else step)",
        f"{rows.of('undercut')} = smaller({rows.of('undercut')}, step if f <= low else INF)",
        f"{rows.of('value')} = f",
    ]
    if full:
        moved = " + ".join(f"(x{i} - old_x{i}) * (x{i} - old_x{i})" for i in range(size))
        body += [
            f"{rows.of('lowest')} = smaller({rows.of('lowest')}, f)",
            f"{rows.of('highest')} = larger({rows.of('highest')}, f)",
            f"{rows.of('length')} = {rows.of('length')} + sqrt({moved})",
        ]
    if steep and surface.quadratic is not None:
        axis, centre = surface.quadratic.steep_axis, surface.minima[0]
        # The axis and the centre are written in: a rotated surface has its own kernel.
        middle = sum(a * c for a, c in zip(axis, centre, strict=True))
        height = " + ".join(f"{a!r} * x{i}" for i, a in enumerate(axis))
        body += [
            f"height = {height} - {middle!r}",
            f"{rows.of('flips')} = {rows.of('flips')} + (1.0 if height * {rows.of('height')} < 0.0 else 0.0)",
            f"{rows.of('height')} = height",
        ]
    before = [
        *(f"{rows.of(x)} = points[{i}, run]" for i, x in enumerate(xs)),
        *(f"{rows.of(name)} = 0.0" for name in program.state),
        *(f"{rows.of(name)} = rates[run]" for name in per_lane),
        f"{rows.of('target')} = targets[run]",
        f"{rows.of('high')} = highs[run]",
        f"{rows.of('low')} = lows[run]",
        f"{rows.of('hit')} = INF",
        f"{rows.of('missed')} = 0.0",
        f"{rows.of('broken')} = INF",
        f"{rows.of('undercut')} = INF",
        f"{rows.of('value')} = firsts[run]",
        *(f"{rows.of(name)} = firsts[run]" for name in ("lowest", "lowest_before", "highest", "highest_before")),
        f"{rows.of('length')} = 0.0",
        f"{rows.of('flips')} = 0.0",
    ]
    if steep and surface.quadratic is not None:
        height = " + ".join(f"{a!r} * points[{i}, run]" for i, a in enumerate(axis))
        before.append(f"{rows.of('height')} = {height} - {middle!r}")
    done = f"{rows.of('broken')} < INF"
    after = [f"out[{i}, run] = {rows.of(name)}" for i, name in enumerate([*GATHERED, *xs])]
    step = [
        *(f"{name} = table[t - 1, {i}]" for i, name in enumerate(program.coefficients)),
        "step = float(t)",
        *_batch_lines(program, surface),
        *(
            [
                "if t == late:",
                "    for lane in range(LANES):",
                f"        {rows.of('lowest_before')} = {rows.of('lowest')}",
                f"        {rows.of('lowest')} = INF",
                f"        {rows.of('highest_before')} = {rows.of('highest')}",
                f"        {rows.of('highest')} = -INF",
            ]
            if full
            else []
        ),
        "for lane in range(LANES):",
        *(f"    {line}" for line in body),
        f"if t % {CHECK_EVERY} == 0:",
        "    running = 0",
        "    for lane in range(LANES):",
        f"        running += 0 if ({done}) else 1",
        "    if running == 0:",
        "        break",
    ]
    arguments = "steps, points, rates, targets, lows, highs, firsts, table, out, streams, data"
    # The rate that all would share is still passed, so that every kernel is called alike.
    names = [("h_lr_of_all" if name in per_lane else name) for name in program.arguments]
    lines = [
        "count = points.shape[1]",
        "late = (9 * (steps + 1)) // 10",
        f"w = np.empty(({len(rows.numbers)}, LANES))",
        *(["order = np.empty((LANES, data.shape[0]), np.int64)"] if program.batched else []),
        "for block in range(block_begin, block_end):",
        "    for lane in range(LANES):",
        "        run = min(block * LANES + lane, count - 1)",
        *(f"        {line}" for line in before),
        "    for t in range(1, steps + 1):",
        *(f"        {line}" for line in step),
        "    for lane in range(min(LANES, count - block * LANES)):",
        "        run = block * LANES + lane",
        *(f"        {line}" for line in after),
    ]
    body_text = "\n".join(f"    {line}" for line in lines)
    return (
        f"{HEAD}{RANDOM if random else ''}\nLANES = {LANES}\nINF = np.inf\n\n\n"
        f'@njit(nogil=True, cache=CACHE, error_model="numpy")\n'
        f"def run_blocks(block_begin, block_end, {', '.join([arguments, *names])}):\n{body_text}\n"
    )


def _batch_lines(program: Program, surface: Surface) -> list[str]:
    """Return the lines that draw the epoch's order and bound the step's batch, as `finite_sum.batches` does."""
    total = surface.finite_sum
    if not program.batched or total is None:
        return []
    return [
        f"turn = (t - 1) % {total.batches}",
        f"batch_first = turn * {total.batch_size}",
        f"batch_last = min(batch_first + {total.batch_size}, data.shape[0])",
        "if turn == 0:",
        f"    epoch = (t - 1) // {total.batches}",
        "    for lane in range(LANES):",
        "        stream = streams[min(block * LANES + lane, count - 1)]",
        "        shuffle(order[lane], extend(extend(stream, epoch), 7))",
    ]
