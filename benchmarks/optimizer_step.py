"""One optimizer step on 12 million parameters: this project's rules against torch.optim.

Run `python benchmarks/optimizer_step.py [threads]`. Both optimizers of a pair take their steps in turn in one process,
so that only their ratio is compared. The parameters are those of a real network's shapes: ResNet-50 cut to 12 million.
"""

from __future__ import annotations

import sys
import time

import numpy as np
import torch
from harness import machine, record

from mlcv_bench.optimizers.torch_optimizer import RuleOptimizer
from mlcv_bench.statistics import median_interval

PARAMETERS = 12_000_000
PAIRS = 41
BURST = 3  # steps that are timed together, so that one interruption weighs less

# rule, torch's class, its settings, its implementation
RIVALS = [
    ("adam", "Adam", {"lr": 1e-3}, "fused"),
    ("adamw_torch", "AdamW", {"lr": 1e-3, "weight_decay": 0.01}, "fused"),
    ("adam", "Adam", {"lr": 1e-3}, "foreach"),
    ("sgd", "SGD", {"lr": 0.01}, "foreach"),
    ("momentum", "SGD", {"lr": 0.01, "momentum": 0.9}, "foreach"),
    ("nesterov", "SGD", {"lr": 0.01, "momentum": 0.9, "nesterov": True}, "foreach"),
    ("adagrad", "Adagrad", {"lr": 0.01}, "foreach"),
    ("rmsprop", "RMSprop", {"lr": 0.01, "alpha": 0.9}, "foreach"),
    ("adam_l2", "Adam", {"lr": 1e-3, "weight_decay": 0.01}, "foreach"),
    ("adamw", "AdamW", {"lr": 1e-3, "weight_decay": 0.01}, "foreach"),
]


def shapes() -> list[tuple[int, ...]]:
    """Return the shapes of a bottleneck network's weights, about 12 million numbers in about 100 tensors."""
    found: list[tuple[int, ...]] = [(64, 3, 7, 7), (64,)]
    for width, blocks in ((64, 3), (128, 4), (256, 5), (512, 1)):
        for _ in range(blocks):
            for shape in ((width, 4 * width, 1, 1), (width, width, 3, 3), (4 * width, width, 1, 1)):
                found += [shape, (shape[0],), (shape[0],)]
    total = sum(int(np.prod(shape)) for shape in found)
    while total + 512 * 512 * 9 < PARAMETERS:
        found.append((512, 512, 3, 3))
        total += 512 * 512 * 9
    found.append((PARAMETERS - total,))
    return found


def parameters() -> list[torch.nn.Parameter]:
    """Return parameters with gradients of their own, as backward leaves them."""
    generator = torch.Generator().manual_seed(0)
    own = [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes()]
    for parameter in own:
        parameter.grad = torch.randn(parameter.shape, generator=generator) * 1e-3
    return own


def burst(optimizer: torch.optim.Optimizer) -> float:
    """Return the mean seconds of a few steps."""
    start = time.perf_counter()
    for _ in range(BURST):
        optimizer.step()
    return (time.perf_counter() - start) / BURST


def compare(rule: str, kind: str, settings: dict, implementation: str) -> str:
    """Time one pair in turn and return its line."""
    own = {"lr": settings["lr"]} | {key: value for key, value in settings.items() if key == "weight_decay"}
    ours = RuleOptimizer(parameters(), rule, **own)
    theirs = getattr(torch.optim, kind)(parameters(), **settings, **{implementation: True})
    for optimizer in (ours, theirs):
        burst(optimizer)
    pairs = np.array([(burst(ours), burst(theirs)) for _ in range(PAIRS)])
    ratios = pairs[:, 0] / pairs[:, 1]
    found = median_interval(ratios)
    mine, other = np.median(pairs, axis=0) * 1e3
    return (
        f"| {rule} | {kind}, {implementation} | {mine:.1f} | {other:.1f} | {found.middle:.3f} | "
        f"{found.low:.3f} to {found.high:.3f} |"
    )


def main(threads: int) -> None:
    """Compare every pair and record the table."""
    torch.set_num_threads(threads)
    count = sum(int(np.prod(shape)) for shape in shapes())
    lines = [
        f"# One optimizer step on {count:,} float32 numbers in {len(shapes())} tensors, {threads} thread(s)",
        "",
        f"{machine()}. {PAIRS} pairs of {BURST} steps in turn; milliseconds are medians,",
        "the 95% interval is the median ratio's (ours / torch). Gradients are separate tensors, as",
        "backward leaves them.",
        "",
        "| rule | torch.optim | ours [ms] | torch [ms] | ratio | 95% interval |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for rival in RIVALS:
        lines.append(compare(*rival))
        print(lines[-1], flush=True)
    record(f"optimizer_step_{threads}", lines)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
