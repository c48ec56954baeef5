"""A user's code that calls every public function; `make lint` checks it with mypy --strict, and pyright accepts it."""

from __future__ import annotations

import functools

import pandas as pd
import torch
from torch import Tensor, nn

import mlcv_bench
from mlcv_bench.testing import assert_cost, assert_equivalent, assert_not_slower


def net(width: int = 8) -> nn.Module:
    """Build a network."""
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.ReLU(), nn.Flatten(), nn.Linear(width * 900, 10))


def descent(x: float, g: float, t: int, lr: float = 0.05) -> float:
    """Take a step."""
    return x - lr * g


def bowl(x: float, y: float) -> float:
    """Return a height."""
    return x**2 + 10 * y**2


def costs() -> tuple[int, int, str]:
    """Count."""
    cost = mlcv_bench.count(net, input=(3, 32, 32), width=16)
    table: pd.DataFrame = cost.frame
    training = mlcv_bench.count_training(net(), batch=8, input=(3, 32, 32))
    return cost.macs, cost.params, f"{len(table)} {training.frame.shape}"


def races() -> list[float | None]:
    """Race."""
    race = mlcv_bench.race(bowl, [descent, functools.partial(descent, lr=0.01), "adam"], starts=6)
    tasks = mlcv_bench.race_on_tasks("digits", [torch.optim.AdamW, "sgd"], seeds=2)
    plane = mlcv_bench.landscape("digits", "adam")
    return [*(one.final_loss for one in race.results), float(len(tasks.frame)), float(len(plane.planes))]


def proofs(images: Tensor) -> bool:
    """Verify, time and assert."""
    verified = mlcv_bench.verify("folding")
    timed: pd.DataFrame = mlcv_bench.time_forward("resnet20", seconds=1).frame
    assert_cost(net, max_params=100_000, input=(3, 32, 32))
    assert_equivalent(net(), net(), images.shape[1:])
    assert_not_slower(net(), net(), (3, 32, 32))
    return verified.passed and not timed.empty and mlcv_bench.check_claims(["1.1-sphere"]).passed


def pictures() -> str:
    """Draw."""
    mlcv_bench.draw("resnet20").save("resnet20.svg")
    mlcv_bench.figure("1.1").save("figure.png")
    network: nn.Module = mlcv_bench.build("resnext50_32x4d", form="branches")
    return f"{mlcv_bench.__version__} {type(network).__name__}"
