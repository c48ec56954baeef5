"""Schedules, warm-up and clipping against torch's own."""

import math

import pytest
import torch
from torch.optim import lr_scheduler

from mlcv_bench.errors import UsageError
from mlcv_bench.optimizers.schedule import SCHEDULES, Schedule, check_clip_norm, clip_factor

REFERENCES = {
    "constant": lambda optimizer, steps: lr_scheduler.ConstantLR(optimizer, factor=1.0, total_iters=steps),
    "cosine": lambda optimizer, steps: lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps),
    "linear": lambda optimizer, steps: lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=steps),
    # As StepLR, but for the second fall, which comes after half as many steps as the first (He et al. 2016).
    "step": lambda optimizer, steps: lr_scheduler.MultiStepLR(
        optimizer, [math.ceil(steps / 2), math.ceil(3 * steps / 4)]
    ),
}


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("steps", [8, 37])
@pytest.mark.parametrize("warm_up", [0, 1, 2, 5])
def test_torch_schedulers_have_the_same_rates(name, steps, warm_up):
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    reference = REFERENCES[name](optimizer, steps - warm_up)
    if warm_up > 1:
        optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
        rise = lr_scheduler.LinearLR(optimizer, 1 / warm_up, 1.0, total_iters=warm_up - 1)
        reference = lr_scheduler.SequentialLR(
            optimizer, [rise, REFERENCES[name](optimizer, steps - warm_up)], milestones=[warm_up]
        )
    rates = []
    for _ in range(steps):
        rates.append(reference.get_last_lr()[0])
        optimizer.step()
        reference.step()
    if warm_up == 1:
        rates = [1.0, *rates[:-1]]
    assert [Schedule(name, warm_up).factor(t, steps) for t in range(1, steps + 1)] == pytest.approx(rates, abs=1e-12)


def test_the_first_rates_of_a_warm_up_and_the_falls_of_steps_by_hand():
    assert [Schedule("constant", 4).factor(t, 9) for t in range(1, 7)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert [Schedule("step").factor(t, 8) for t in range(1, 9)] == [1.0] * 4 + [0.1] * 2 + [0.01] * 2
    assert [Schedule("linear", 1).factor(t, 5) for t in range(1, 6)] == [1.0, 1.0, 0.75, 0.5, 0.25]


def test_what_has_no_rate_is_named():
    assert Schedule("cosine").remarks(["signed", "a.py:b"]) == [
        "signed, a.py:b: without lr, so that the schedule changes nothing"
    ]
    assert Schedule("cosine").remarks([]) == Schedule().remarks(["signed"]) == []


def test_clipping_is_that_of_torch():
    parameter = torch.zeros(3, requires_grad=True)
    for gradient, bound in (([3.0, 0.0, 4.0], 1.0), ([3.0, 0.0, 4.0], 5.0), ([0.3, 0.0, 0.4], 1.0), ([0.0] * 3, 1.0)):
        parameter.grad = torch.tensor(gradient)
        norm = float(torch.nn.utils.clip_grad_norm_([parameter], bound))
        ours = [part * clip_factor(norm, bound) for part in gradient]
        assert ours == pytest.approx(parameter.grad.tolist(), rel=2e-6)
    assert clip_factor(5.0, 1.0) == 0.2
    assert clip_factor(0.5, 1.0) == 1.0
    assert clip_factor(torch.tensor([[10.0], [0.1]]), 5.0).tolist() == [[0.5], [1.0]]


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (lambda: Schedule("cosin").check(), "did you mean cosine"),
        (lambda: Schedule("square").check(), "choose from constant, cosine, step, linear"),
        (lambda: Schedule("linear", -1).check(), "--warm-up takes at least 0 steps, not -1"),
        (lambda: Schedule("linear", 10).check(10), "--warm-up 10 leaves no step of the run's 10"),
        *((lambda value=value: check_clip_norm(value), "above 0") for value in (0.0, -1.0, math.inf, math.nan)),
    ],
)
def test_wrong_settings_are_one_sentence(wrong, sentence):
    with pytest.raises(UsageError, match=sentence):
        wrong()
