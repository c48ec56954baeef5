"""16 rates x 2 seeds of a small model: trained as one batched model, and one after the other, one thread each.

Run `python benchmarks/batched_training.py`. Both ways train the same 32 runs on digits, in turn, in one process.
"""

from __future__ import annotations

import time

import numpy as np
import torch
from harness import machine, record

from mlcv_bench.task_race.jobs import Job, Setup
from mlcv_bench.task_race.optimizers import find_optimizer
from mlcv_bench.task_race.training import run_job

EPOCHS = 2
TURNS = 5
RATES = tuple(float(rate) for rate in np.logspace(-4, -1.5, 16))


def job(model: str, optimizer: str, *, batched: bool) -> Job:
    """Return all 32 runs as one job."""
    settings = find_optimizer(optimizer).settings_without_rate
    setup = Setup("digits", model, 32, EPOCHS, 0.96)
    return Job(setup, optimizer, settings, RATES, (0, 1), "tuning", batched)


def timed(work: Job) -> tuple[float, list]:
    """Return the seconds that a job takes, and its runs."""
    start = time.perf_counter()
    runs = run_job(work)
    return time.perf_counter() - start, runs


def main() -> None:
    """Time both ways in turn and record the table."""
    torch.set_num_threads(1)
    lines = [
        "# 16 rates x 2 seeds as one batched model against one after the other",
        "",
        f"{machine()}, one thread. Digits, batches of 32, {EPOCHS} epochs, {TURNS} turns of both; seconds are medians.",
        "The last column is the largest relative difference of any run's best validation loss between the two ways.",
        "",
        "| model | optimizer | batched [s] | one by one [s] | times faster: median | least to most | difference |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for model in ("mlp", "logistic"):
        for optimizer in ("sgd", "nesterov", "adam"):
            together, apart = (job(model, optimizer, batched=batched) for batched in (True, False))
            timed(together)
            pairs = []
            for _ in range(TURNS):
                (fast, one), (slow, other) = timed(together), timed(apart)
                pairs.append((fast, slow))
            gap = max(abs(a.best_loss - b.best_loss) / b.best_loss for a, b in zip(one, other, strict=True))
            ratios = [slow / fast for fast, slow in pairs]
            fast, slow = np.median(pairs, axis=0)
            lines.append(
                f"| {model} | {optimizer} | {fast:.2f} | {slow:.2f} | {np.median(ratios):.1f} | "
                f"{min(ratios):.1f} to {max(ratios):.1f} | {gap:.1e} |"
            )
            print(lines[-1], flush=True)
    record("batched_training", lines)


if __name__ == "__main__":
    main()
