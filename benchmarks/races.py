"""How fast the races are: the canyon race as a command, populations against C, torch.optim and optax, a basin map."""

from __future__ import annotations

import ctypes
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from harness import machine, python, record, wall_seconds

from mlcv_bench.optimizers.rule import RULES
from mlcv_bench.surface_race import program
from mlcv_bench.surface_race.basins import basins
from mlcv_bench.surface_race.lanes import LaneRunner, limits
from mlcv_bench.surface_race.program import Problem
from mlcv_bench.surface_race.request import BasinsRequest
from mlcv_bench.surfaces import catalog
from mlcv_bench.surfaces.many import value_of

RUNS, STEPS = 10_000, 1000
FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC")
DIVIDER = (
    "Adam is bound by the processor's divider: one square root and one division a coordinate and step, which C "
    "compiled by gcc does not pass either (first row). Where torch's fused Adam is not eight times slower, that is why."
)
RATES = {"newton": 0.01, "adagrad": 0.1}

OPTAX = """
import sys, time
import jax, jax.numpy as jnp, numpy as np, optax
jax.config.update("jax_enable_x64", True)
runs, steps = int(sys.argv[1]), int(sys.argv[2])
optimizer = optax.adam(0.01)
scale = jnp.array([1.0, 100.0])
value = lambda p: 0.5 * jnp.sum(scale * p * p)
def one(start):
    first = value(start)
    target, high = 1e-6 * first, 1e20 * first
    def step(carry, t):
        p, state, hit, missed, broken = carry
        updates, state = optimizer.update(jax.grad(value)(p), state)
        p = optax.apply_updates(p, updates)
        f = value(p)
        met = f <= target
        hit = jnp.minimum(hit, jnp.where(met, t, jnp.inf))
        missed = jnp.where(met, missed, t)
        broken = jnp.minimum(broken, jnp.where(f <= high, jnp.inf, t))
        return (p, state, hit, missed, broken), None
    begin = (start, optimizer.init(start), jnp.inf, 0.0, jnp.inf)
    (p, _, hit, missed, broken), _ = jax.lax.scan(step, begin, jnp.arange(1.0, steps + 1))
    return p, hit, missed, broken
run = jax.jit(jax.vmap(one))
starts = jnp.array(np.random.default_rng(0).uniform(-2, 2, (runs, 2)))
jax.block_until_ready(run(starts))
print("ready", flush=True)
for line in sys.stdin:
    begun = time.perf_counter()
    jax.block_until_ready(run(starts))
    print(time.perf_counter() - begun, flush=True)
"""


class Worker:
    """Another Python that runs optax when told to, so that both sides alternate on one core."""

    def __init__(self, interpreter: str) -> None:
        """Start it and wait until it has compiled."""
        self.process = subprocess.Popen(
            [interpreter, "-c", OPTAX, str(RUNS), str(STEPS)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.process.stdout.readline()

    def __call__(self) -> float:
        """Run once and return the seconds it took."""
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def close(self) -> None:
        """End it."""
        self.process.stdin.close()
        self.process.wait()


def c_source(name: str) -> tuple[str, program.Program]:
    """Write the kernel's own lines as C: blocks of 64 lanes, the same tracking, nothing else."""
    surface = catalog.find("canyon")
    rule = RULES[name]
    written = program.write(rule, surface)
    lines = [*written.gradient, *written.update, *written.value]
    state = ["x0", "x1", *written.state]
    tracked = ["target", "high", "hit", "missed", "broken", "value"]
    rows = {key: i for i, key in enumerate([*state, "h_lr", *tracked])}
    names = {line.split(" = ")[0] for line in lines} - set(state)
    others = [argument for argument in written.arguments if argument != "h_lr"]

    def lane(key: str) -> str:
        return f"w[{rows[key]}][l]"

    count = max(1, len(written.coefficients))
    body = [f"double {key} = {lane(key)};" for key in [*state, "h_lr"]]
    body += [f"double {key};" for key in sorted(names)]
    body += [f"{line};" for line in lines] + [f"{lane(key)} = {key};" for key in state]
    body += [
        f"int met = f <= {lane('target')};",
        f"double h = met ? step : INFINITY; {lane('hit')} = h < {lane('hit')} ? h : {lane('hit')};",
        f"{lane('missed')} = met ? {lane('missed')} : step;",
        f"double b = f <= {lane('high')} ? INFINITY : step;",
        f"{lane('broken')} = b < {lane('broken')} ? b : {lane('broken')};",
        f"{lane('value')} = f;",
    ]
    begin = [f"w[{rows[key]}][l] = {value};" for key, value in [
        ("x0", "points[run]"), ("x1", "points[n + run]"), *((slot, "0.0") for slot in written.state),
        ("h_lr", "rates[run]"), ("target", "targets[run]"), ("high", "highs[run]"),
        ("hit", "INFINITY"), ("missed", "0.0"), ("broken", "INFINITY"), ("value", "0.0"),
    ]]  # fmt: skip
    end = [
        f"out[{i} * n + run] = {lane(key)};" for i, key in enumerate(["hit", "missed", "broken", "value", "x0", "x1"])
    ]
    load = [f"double {key} = table[(t - 1) * {count} + {i}];" for i, key in enumerate(written.coefficients)]
    source = f"""
#include <math.h>
void run(long first, long last, long n, long steps, const double *points, const double *rates, const double *targets,
         const double *highs, const double *table, double *out{"".join(f", double {key}" for key in others)}) {{
  double w[{len(rows)}][64] __attribute__((aligned(64)));
  for (long block = first; block < last; block++) {{
    for (int l = 0; l < 64; l++) {{ long run = block * 64 + l < n ? block * 64 + l : n - 1; {" ".join(begin)} }}
    for (long t = 1; t <= steps; t++) {{
      double step = (double)t; {" ".join(load)}
      for (int l = 0; l < 64; l++) {{ {" ".join(body)} }}
    }}
    for (int l = 0; l < 64 && block * 64 + l < n; l++) {{ long run = block * 64 + l; {" ".join(end)} }}
  }}
}}"""
    return re.sub(r"\babs\(", "fabs(", source), written


class CLoop:
    """A rule's loop compiled by gcc."""

    def __init__(self, name: str, problem: Problem, points: np.ndarray, folder: Path) -> None:
        """Write, compile and load it."""
        source, written = c_source(name)
        place = folder / f"{name}.c"
        place.write_text(source, encoding="utf-8")
        library = folder / f"{name}.so"
        command = ["gcc", *FLAGS, str(place), "-o", str(library), "-lm"]
        subprocess.run(command, check=True)
        self.function = ctypes.CDLL(str(library)).run
        values = value_of(problem.surface, points)
        target, _, high = limits(problem, values)
        lines = program.rule_lines(problem.rule, 2)
        table = np.array(
            [lines.coefficients_of(t, problem.settings) or (0.0,) for t in range(1, STEPS + 1)], dtype=np.float64
        )
        self.out = np.zeros((6, len(points)))
        arrays = [np.ascontiguousarray(points.T), np.full(len(points), problem.settings["lr"]), target, high, table]
        self.kept = arrays
        pointers = [array.ctypes.data_as(ctypes.c_void_p) for array in [*arrays, self.out]]
        given = dict(zip(written.arguments, written.values(problem), strict=True))
        numbers = [ctypes.c_double(value) for key, value in given.items() if key != "h_lr"]
        blocks = -(-len(points) // 64)
        whole = [ctypes.c_long(value) for value in (0, blocks, len(points), STEPS)]
        self.arguments = [*whole, *pointers, *numbers]

    def __call__(self) -> float:
        """Run once and return the seconds it took."""
        begun = time.perf_counter()
        self.function(*self.arguments)
        return time.perf_counter() - begun


class Ours:
    """The kernel of this project; all steps are run, so that every side does the same work."""

    def __init__(self, problem: Problem, points: np.ndarray, threads: int = 1) -> None:
        """Load or compile the kernel."""
        self.threads = threads
        self.runner = LaneRunner(problem.rule, problem.surface, full=False)
        self.problem, self.points = problem, points
        self.found = self.runner.run(problem, points)

    def __call__(self) -> float:
        """Run once and return the seconds it took."""
        begun = time.perf_counter()
        self.found = self.runner.run(self.problem, self.points, threads=self.threads)
        return time.perf_counter() - begun


def fused_adam(points: np.ndarray) -> float:
    """torch.optim's fused Adam on one [n, 2] parameter, analytic gradient, no tracking at all."""
    parameter = torch.tensor(points)
    optimizer = torch.optim.Adam([parameter], lr=0.01, fused=True)
    scale = torch.tensor([1.0, 100.0], dtype=torch.float64)
    parameter.grad = torch.empty_like(parameter)
    begun = time.perf_counter()
    for _ in range(STEPS):
        torch.mul(parameter, scale, out=parameter.grad)
        optimizer.step()
    return time.perf_counter() - begun


def whole_line(seconds: list[float], busy: float) -> str:
    """Say how long the whole command takes."""
    text = "`mlcv-bench optim-race --surface canyon`, whole process with the table (target: at most 1.0 s): "
    middle = statistics.median(seconds)
    return text + f"median {middle:.2f} s, fastest {seconds[0]:.2f} s, processor time {busy:.2f} s."


def best_fused_adam(points: np.ndarray, threads: int) -> float:
    """The faster of one thread and several: on a busy machine torch's threads wait for each other."""
    seconds = []
    for count in (1, threads):
        torch.set_num_threads(count)
        seconds.append(fused_adam(points))
    return min(seconds)


def alternately(one, other, rounds: int) -> tuple[float, float, float]:
    """Run two sides in turn; return both medians and the median of other / one."""
    one(), other()
    pairs = [(one(), other()) for _ in range(rounds)]
    return (
        statistics.median(a for a, _ in pairs),
        statistics.median(b for _, b in pairs),
        statistics.median(b / a for a, b in pairs),
    )


def row(name: str, mine: float, theirs: float, ratio: float, target: str) -> str:
    """Write one line of the table, in million steps a second."""
    mine, theirs = (RUNS * STEPS / seconds / 1e6 for seconds in (mine, theirs))
    return f"| {name} | {mine:.0f} | {theirs:.0f} | {ratio:.2f} | {target} |"


def main() -> None:  # noqa: PLR0915 - one table, row by row
    """Measure, print and record."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    cores = os.sched_getaffinity(0)
    command = python("-m", "mlcv_bench", "optim-race", "--surface", "canyon")
    wall_seconds(command)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    whole = sorted(wall_seconds(command) for _ in range(rounds))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    busy = (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / rounds
    lines = [
        f"Machine: {machine()}; load {os.getloadavg()[0]:.1f}, shared with others' work.",
        f"Sides run in turn, {rounds} rounds, medians; ratio: theirs / ours, pair by pair.",
        "",
        whole_line(whole, busy),
        "",
    ]
    map_seconds, map_busy = [], []
    basins(BasinsRequest(size=(64, 64), steps=10))
    for _ in range(3):
        begun, begun_busy = time.perf_counter(), time.process_time()
        basins(BasinsRequest(size=(1000, 1000), threads=len(cores)))
        map_seconds.append(time.perf_counter() - begun)
        map_busy.append(time.process_time() - begun_busy)
    lines += [
        (
            f"Basin map of 1000 x 1000 starts x 500 steps (himmelblau, momentum), {len(cores)} threads: "
            f"median {statistics.median(map_seconds):.2f} s, fastest {min(map_seconds):.2f} s, "
            f"processor time {statistics.median(map_busy):.2f} s (target: under 4 s)."
        ),
        "",
        (
            f"Canyon, float64, {RUNS:,} starts x {STEPS} steps, first hit, last exit and divergence tracked, one core "
            "(million steps a second):"
        ),
        "",
        "| against | ours | theirs | ratio | target |",
        "| --- | ---: | ---: | ---: | --- |",
    ]
    os.sched_setaffinity(0, {min(cores)})
    torch.set_num_threads(1)
    points = np.random.default_rng(0).uniform(-2, 2, (RUNS, 2))
    surface = catalog.find("canyon")
    with tempfile.TemporaryDirectory() as folder:
        sides = {}
        for name, rule in RULES.items():
            problem = Problem(rule, rule.settings({"lr": RATES.get(name, 0.01)}), surface, STEPS)
            sides[name] = (Ours(problem, points), CLoop(name, problem, points, Path(folder)))
        ours, loop = sides["adam"]
        mine, theirs, ratio = alternately(ours, loop, rounds)
        lines.append(row("Adam: the same loop in C, gcc -O3 -march=native", mine, theirs, ratio, "at least 0.8"))
        mine, theirs, ratio = alternately(ours, lambda: fused_adam(points), max(3, rounds // 3))
        lines.append(row("Adam: torch.optim.Adam(fused=True), one [n, 2] parameter", mine, theirs, ratio, "at least 8"))
        os.sched_setaffinity(0, cores)
        both = Ours(ours.problem, points, len(cores))
        mine, theirs, ratio = alternately(both, lambda: best_fused_adam(points, len(cores)), max(3, rounds // 3))
        name = f"the same on {len(cores)} cores; torch at its faster of 1 and {len(cores)} threads"
        lines.append(row(name, mine, theirs, ratio, "at least 8"))
        os.sched_setaffinity(0, {min(cores)})
        torch.set_num_threads(1)
        interpreter = os.environ.get("OPTAX_PYTHON")
        if interpreter:
            worker = Worker(interpreter)
            mine, theirs, ratio = alternately(ours, worker, rounds)
            worker.close()
            lines.append(row("Adam: optax, vmap + scan + jit", mine, theirs, ratio, "at least 3"))
        else:
            lines.append("| Adam: optax (set OPTAX_PYTHON to a Python that has it) | | | not measured | at least 3 |")
        for name, (mine_side, c_side) in sides.items():
            if name != "adam":
                mine, theirs, ratio = alternately(mine_side, c_side, rounds)
                lines.append(row(f"{name}: its own loop in C", mine, theirs, ratio, "at least 0.5"))
            same = np.where(np.isinf(c_side.out[0]), -1, c_side.out[0]) == mine_side.found.first_hit
            lines.append(f"<!-- {name}: first hits equal to C's for {same.mean():.2%} of the starts -->")
    lines += ["", DIVIDER]
    record("races", lines)


if __name__ == "__main__":
    main()
