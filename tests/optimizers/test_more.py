"""The field's rules beside a published implementation, both fed the same gradients, in double precision."""

from __future__ import annotations

import math

import pytest
import torch

from mlcv_bench.optimizers.rule import NOTES, RULES
from mlcv_bench.optimizers.torch_optimizer import RuleOptimizer


class Written(torch.optim.Optimizer):
    """An optimizer that torch lacks, with the arithmetic of its authors' code, on tensors in place."""

    def __init__(self, params, **settings):
        super().__init__(params, settings)

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                self.update(p, p.grad, self.state[p], **{name: group[name] for name in self.defaults})


class Lion(Written):
    """github.com/google/automl, lion/lion_pytorch.py."""

    def update(self, p, grad, state, lr, betas, weight_decay):
        p.mul_(1 - lr * weight_decay)
        average = state.setdefault("exp_avg", torch.zeros_like(p))
        update = average * betas[0] + grad * (1 - betas[0])
        p.add_(update.sign_(), alpha=-lr)
        average.mul_(betas[1]).add_(grad, alpha=1 - betas[1])


class AdaBelief(Written):
    """github.com/juntang-zhuang/Adabelief-Optimizer, pypi_packages/adabelief_pytorch0.2.0, without rectification."""

    def update(self, p, grad, state, lr, betas, eps):
        state["step"] = state.get("step", 0) + 1
        average = state.setdefault("exp_avg", torch.zeros_like(p))
        variance = state.setdefault("exp_avg_var", torch.zeros_like(p))
        average.mul_(betas[0]).add_(grad, alpha=1 - betas[0])
        difference = grad - average
        variance.mul_(betas[1]).addcmul_(difference, difference, value=1 - betas[1])
        denom = (variance.add_(eps).sqrt() / math.sqrt(1 - betas[1] ** state["step"])).add_(eps)
        p.addcdiv_(average, denom, value=-lr / (1 - betas[0] ** state["step"]))


class Adan(Written):
    """github.com/sail-sg/Adan, adan.py, its function for a single tensor."""

    def update(self, p, grad, state, lr, betas, eps, weight_decay):
        beta1, beta2, beta3 = betas
        step = state["step"] = state.get("step", 0) + 1
        average, average_change, average_square = (
            state.setdefault(name, torch.zeros_like(p)) for name in ("exp_avg", "exp_avg_diff", "exp_avg_sq")
        )
        change = state.setdefault("neg_pre_grad", -grad.clone()) + grad
        average.mul_(beta1).add_(grad, alpha=1 - beta1)
        average_change.mul_(beta2).add_(change, alpha=1 - beta2)
        update = change.mul(beta2).add_(grad)
        average_square.mul_(beta3).addcmul_(update, update, value=1 - beta3)
        denom = (average_square.sqrt() / math.sqrt(1 - beta3**step)).add_(eps)
        p.addcdiv_(average, denom, value=-lr / (1 - beta1**step))
        p.addcdiv_(average_change, denom, value=-lr * beta2 / (1 - beta2**step))
        p.div_(1 + lr * weight_decay)
        state["neg_pre_grad"] = -grad.clone()


PUBLISHED = {
    "lion": (Lion, {"betas": (0.9, 0.99)}, {"weight_decay": 0.1}),
    "adadelta": (torch.optim.Adadelta, {}, {}),
    "adamax": (torch.optim.Adamax, {}, {}),
    "amsgrad": (torch.optim.Adam, {"amsgrad": True}, {}),
    "nadam": (torch.optim.NAdam, {}, {}),
    "radam": (torch.optim.RAdam, {}, {}),
    "adabelief": (AdaBelief, {"betas": (0.9, 0.999)}, {"eps": 1e-8}),
    "adan": (Adan, {"betas": (0.98, 0.92, 0.99)}, {"eps": 1e-8, "weight_decay": 0.1}),
}
"""Every rule's published implementation: a class, its own settings, and those that both are given."""


def test_every_rule_of_the_field_has_a_published_implementation():
    assert set(PUBLISHED) == set(RULES) - set(NOTES)


@pytest.fixture
def double():
    """Torch keeps products of scalars (NAdam's momenta) in the default type, which has 7 digits else."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("name", PUBLISHED)
def test_parity(name):
    published, own, shared = PUBLISHED[name]
    generator = torch.Generator().manual_seed(5)
    theirs = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((4, 3), (5,))]
    ours = [parameter.clone() for parameter in theirs]
    reference, optimizer = published(theirs, lr=0.01, **own, **shared), RuleOptimizer(ours, name, lr=0.01, **shared)
    for t in range(200):
        for i, (a, b) in enumerate(zip(theirs, ours, strict=True)):
            a.grad = torch.sin(a * (i + 1)) + 0.1 * ((t + i) % 3)
            b.grad = a.grad.clone()
        reference.step()
        optimizer.step()
    for a, b in zip(theirs, ours, strict=True):
        assert float((a - b).abs().max() / a.abs().max()) <= 1e-10
