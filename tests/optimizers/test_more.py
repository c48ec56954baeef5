"""The field's rules beside a published implementation, both fed the same gradients, in double precision."""

from __future__ import annotations

import pytest
import torch

from mlcv_bench.optimizers.rule import NOTES, RULES
from mlcv_bench.optimizers.torch_optimizer import RuleOptimizer

PUBLISHED = {}
"""Every rule's published implementation: a class and its settings; one that torch lacks is written out here."""


def test_every_rule_of_the_field_has_a_published_implementation():
    assert set(PUBLISHED) == set(RULES) - set(NOTES)


@pytest.mark.parametrize("name", PUBLISHED)
def test_parity(name):
    published, settings = PUBLISHED[name]
    generator = torch.Generator().manual_seed(5)
    theirs = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((4, 3), (5,))]
    ours = [parameter.clone() for parameter in theirs]
    reference, optimizer = published(theirs, lr=0.01, **settings), RuleOptimizer(ours, name, lr=0.01)
    for t in range(200):
        for i, (a, b) in enumerate(zip(theirs, ours, strict=True)):
            a.grad = torch.sin(a * (i + 1)) + 0.1 * ((t + i) % 3)
            b.grad = a.grad.clone()
        reference.step()
        optimizer.step()
    for a, b in zip(theirs, ours, strict=True):
        assert float((a - b).abs().max() / a.abs().max()) <= 1e-10
