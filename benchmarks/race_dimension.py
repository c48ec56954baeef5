"""A race in many dimensions against the same loop in numpy: `optim-race --surface quadratic --dim 100000`, Adam.

Run `python benchmarks/race_dimension.py [rounds]`. Both sides take the same steps from the same start in turn, in one
process on one core, and sum up the loss after each; the last points are compared. numpy's loop comes in two forms: as
the update is written, and with every operation in place, which makes no new array.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
from harness import machine, record

from mlcv_bench.optimizers.rule import RULES
from mlcv_bench.surface_race.program import Problem
from mlcv_bench.surface_race.vectors import VectorRunner
from mlcv_bench.surfaces import catalog

LR, BETA1, BETA2, EPS = 0.001, 0.9, 0.999, 1e-8
SIZES = ((1_000, 1000), (100_000, 1000), (1_000_000, 50))
"""Coordinates and steps."""


def as_written(h: np.ndarray, x: np.ndarray, steps: int) -> tuple[np.ndarray, float]:
    """Adam as its paper writes it."""
    x, loss = x.copy(), 0.0
    m, s = np.zeros_like(x), np.zeros_like(x)
    for t in range(1, steps + 1):
        g = h * x
        m = BETA1 * m + (1 - BETA1) * g
        s = BETA2 * s + (1 - BETA2) * g * g
        x = x - LR * (m / (1 - BETA1**t)) / (np.sqrt(s / (1 - BETA2**t)) + EPS)
        loss = 0.5 * float(np.dot(h * x, x))
    return x, loss


def in_place(h: np.ndarray, x: np.ndarray, steps: int) -> tuple[np.ndarray, float]:
    """The same without a new array."""
    x, loss = x.copy(), 0.0
    m, s, g, u = (np.zeros_like(x) for _ in range(4))
    np.multiply(h, x, out=g)
    for t in range(1, steps + 1):
        m *= BETA1
        np.multiply(g, 1 - BETA1, out=u)
        m += u
        s *= BETA2
        np.multiply(g, g, out=u)
        u *= 1 - BETA2
        s += u
        np.multiply(s, 1 / (1 - BETA2**t), out=u)
        np.sqrt(u, out=u)
        u += EPS
        np.divide(m, u, out=u)
        u *= LR / (1 - BETA1**t)
        x -= u
        # The gradient of the next step serves the loss of this one.
        np.multiply(h, x, out=g)
        loss = 0.5 * float(np.dot(g, x))
    return x, loss


def seconds(run: Callable[[], object]) -> float:
    """Run once and return the seconds it took."""
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


def main() -> None:
    """Measure, print and record."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    about = f"{machine()}; load {os.getloadavg()[0]:.1f}. Sides run in turn, {rounds} rounds, medians;"
    lines = [
        "# A race in many dimensions against the same loop in numpy: quadratic, Adam, float64, one core",
        "",
        about,
        "ratio: ours / numpy's, pair by pair. Target: at most 2 in 100,000 coordinates.",
        "",
        "| coordinates | steps | ours [ms a step] | as written | ratio | in place | ratio | points differ by |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    rule = RULES["adam"]
    for size, steps in SIZES:
        surface = catalog.find("quadratic", dim=size)
        h, start = np.array(surface.quadratic.curvatures), np.array([surface.start])
        problem = Problem(rule, rule.settings({"lr": LR}), surface, steps)
        runner = VectorRunner(rule, surface)
        apart = float(np.abs(runner.run(problem, start).points[0] - as_written(h, start[0], steps)[0]).max())
        sides = [
            lambda: runner.run(problem, start),  # noqa: B023 - called before the next round of the loop
            lambda: as_written(h, start[0], steps),  # noqa: B023 - as above
            lambda: in_place(h, start[0], steps),  # noqa: B023 - as above
        ]
        found = [[seconds(side) for side in sides] for _ in range(rounds)]
        ours, plain, fast = (1e3 * statistics.median(side) / steps for side in zip(*found, strict=True))
        ratios = [statistics.median(one[0] / one[i] for one in found) for i in (1, 2)]
        cells = (f"{ours:.3f}", f"{plain:.3f}", f"{ratios[0]:.2f}", f"{fast:.3f}", f"{ratios[1]:.2f}", f"{apart:.0e}")
        lines.append(f"| {size:,} | {steps} | {' | '.join(cells)} |")
    record("race_dimension", lines)


if __name__ == "__main__":
    main()
