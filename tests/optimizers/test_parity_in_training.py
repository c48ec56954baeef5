"""200 real training steps on digits beside torch.optim, both fed the same gradients, in double precision."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from mlcv_bench.equivalence.optimizers import TWINS
from mlcv_bench.optimizers import torch_optimizer
from mlcv_bench.optimizers.torch_optimizer import RuleOptimizer
from mlcv_bench.tasks.datasets import epoch_batches, load
from mlcv_bench.tasks.models import build_model

STEPS = 200
PAIRS = {**TWINS, "nesterov": ("SGD", {"momentum": 0.9, "nesterov": True})}


def batches(data):
    train, _ = data.split(0)
    taken = 0
    for epoch in range(STEPS):
        for chosen in epoch_batches(len(train), 32, 0, epoch):
            yield data.images[train[chosen]].double(), data.labels[train[chosen]]
            taken += 1
            if taken == STEPS:
                return


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("name", PAIRS)
def test_training_follows_torch(monkeypatch, name, compiled):
    monkeypatch.setattr(torch_optimizer, "WORTH_COMPILING", 0 if compiled else 1 << 60)
    data = load("digits")
    kind, options = PAIRS[name]
    theirs, ours = (build_model("mlp", data.input, 10, 0).double() for _ in range(2))
    reference = getattr(torch.optim, kind)(theirs.parameters(), lr=0.01, **options)
    optimizer = RuleOptimizer(ours.parameters(), name, lr=0.01)
    largest, apart = 0.0, 0.0
    for images, labels in batches(data):
        reference.zero_grad()
        functional.cross_entropy(theirs(images), labels).backward()
        for a, b in zip(theirs.parameters(), ours.parameters(), strict=True):
            b.grad = a.grad.clone()
        reference.step()
        optimizer.step()
        for a, b in zip(theirs.parameters(), ours.parameters(), strict=True):
            largest = max(largest, float(a.detach().abs().max()))
            apart = max(apart, float((a - b).detach().abs().max()))
    assert apart / largest <= 1e-10
