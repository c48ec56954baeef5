"""What differs and what does not: differences, evidence, kinks, tolerances."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from mlcv_bench.equivalence import randomness
from mlcv_bench.equivalence.comparison import (
    as_control,
    difference,
    judge,
    judge_counts,
    longest_reduction,
    tolerance_of,
)
from mlcv_bench.equivalence.evidence import clear_of_kinks, observe
from mlcv_bench.equivalence.harness import nudge, put_back


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


def test_the_relative_difference_is_over_the_largest_magnitude_of_the_reference():
    found = difference(tensor(1, -4, 0), tensor(1, -4, 2))
    assert (found.absolute, found.relative, found.equal) == (2, 0.5, False)
    assert difference(tensor(1, 2), tensor(1, 2)).equal
    assert difference(3.0, 3.0).equal
    assert difference(2.0, 3.0).relative == 0.5


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        (tensor(1, 2), tensor(1, 2, 3), "shapes"),
        (tensor(math.nan), tensor(math.nan), "finite"),
        (tensor(math.inf), tensor(math.inf), "finite"),
        (tensor(1), tensor(math.nan), "finite"),
        ({"a": tensor(1)}, {"b": tensor(1)}, "only one side has a"),
        ({"a": tensor(1)}, {}, "only one side has a"),
        ({"a": tensor(1)}, {"a": tensor(1, 2)}, "a: shapes"),
    ],
)
def test_what_cannot_be_compared_differs_infinitely(one, other, words):
    found = difference(one, other)
    assert found.relative == math.inf
    assert not found.equal
    assert words in found.reason
    assert judge("x", "output", one, other, tolerance=0.5, dtype="float64").passed is False


def test_a_reference_of_zeros_tolerates_nothing():
    assert difference(tensor(0, 0), tensor(0, 0)).equal
    assert difference(tensor(0), tensor(1e-300)).relative == math.inf


def test_the_worst_tensor_decides_and_small_ones_hide_nothing():
    reference = {"large": tensor(100.0), "small": tensor(2.0)}
    found = difference(reference, {"large": tensor(100.0), "small": tensor(1.0)})
    assert (found.absolute, found.relative) == (1, 0.5)
    # What is below a hundredth of the largest is measured against that hundredth: rounding noise around zero.
    noise = {"large": tensor(100.0), "zero": tensor(1e-15)}
    assert difference(noise, {"large": tensor(100.0), "zero": tensor(-1e-15)}).relative == pytest.approx(2e-15)


def test_counted_batches_are_compared_too():
    one, other = {"n": torch.tensor(3), "m": tensor(1e9)}, {"n": torch.tensor(4), "m": tensor(1e9)}
    assert difference(one, other).relative == pytest.approx(1 / 3)


def test_masks_differ_wherever_they_do():
    mask = torch.tensor([True, False])
    assert difference({"mask": mask}, {"mask": mask.clone()}).equal
    assert difference({"mask": mask}, {"mask": ~mask}).relative == 1


def test_a_verdict_is_exact_or_within_the_tolerance():
    nearly = tensor(1 + 1e-13)
    assert judge("x", "output", tensor(1), nearly, tolerance=1e-12, dtype="float64").passed is True
    exact = judge("x", "output", tensor(1), nearly, tolerance=0.0, dtype="float64")
    assert (exact.passed, exact.proof) == (False, "exact")
    assert judge_counts("x", "MACs", 10, 10).passed is True
    assert judge_counts("x", "MACs", 10, 11).max_rel_error == 0.1


def test_a_control_passes_where_the_comparison_fails():
    same = as_control(judge("nothing", "output", tensor(1), tensor(1), tolerance=1e-12, dtype="float64"))
    assert (same.control_detected, same.passed) == (False, False)
    other = as_control(judge("something", "output", tensor(1), tensor(2), tolerance=1e-12, dtype="float64"))
    assert (other.control_detected, other.passed) == (True, True)
    assert as_control(judge_counts("nothing", "MACs", 3, 3)).passed is False


def test_observing_leaves_the_module_as_it_was():
    module = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3), nn.Dropout(0.5)).double()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    image = torch.randn(4, 2, 5, 5, dtype=torch.float64)
    state = torch.random.get_rng_state()
    one = observe(module.eval(), image, torch.ones, train=True)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not module.training
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    assert not torch.equal(one.statistics["1.running_mean"], before["1.running_mean"])
    assert all(weight.grad is None for weight in module.parameters())
    # Dropout drops the same in both of two observations.
    assert torch.equal(one.output["output"], observe(module, image, torch.ones, train=True).output["output"])


def test_gradients_are_those_of_autograd():
    module = nn.Conv2d(2, 3, 3).double()
    image = torch.randn(1, 2, 5, 5, dtype=torch.float64)
    shown = observe(module, image, torch.ones, train=True)
    module(image).sum().backward()
    assert torch.equal(shown.weight_gradients["weight"], module.weight.grad)


def test_a_weight_that_is_not_used_has_a_gradient_of_zero():
    class Partly(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused = nn.Linear(2, 2), nn.Linear(2, 2)

        def forward(self, x):
            return self.used(x)

    shown = observe(Partly(), torch.ones(1, 2), torch.ones, train=True)
    assert not shown.weight_gradients["unused.weight"].any()


def test_inputs_near_a_kink_are_drawn_again():
    inputs = [torch.tensor([[1.0, 1e-9]]), torch.tensor([[1.0, -0.5]])]
    image, clear = clear_of_kinks(nn.ReLU(), lambda attempt: inputs[min(attempt, 1)], train=False)
    assert clear
    assert torch.equal(image, inputs[1])
    # Zeros alone decide nothing: both sides have them.
    assert clear_of_kinks(nn.ReLU(), lambda _: torch.tensor([[1.0, 0.0]]), train=False)[1]
    assert not clear_of_kinks(nn.ReLU(inplace=True), lambda _: inputs[0].clone(), train=False)[1]


def test_exact_inputs_at_a_kink_are_drawn_again():
    inputs = [torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, -2.0]])]
    image, clear = clear_of_kinks(nn.ReLU(), lambda attempt: inputs[min(attempt, 1)], train=False, exact=True)
    assert clear
    assert torch.equal(image, inputs[1])
    assert not clear_of_kinks(nn.ReLU(), lambda _: inputs[0], train=False, exact=True)[1]


def test_tolerances():
    assert tolerance_of("float64", 10**6) == 1e-12
    assert tolerance_of("float32", 10**6) == 1e-5
    assert tolerance_of("bfloat16", 50) == pytest.approx(2**-8 * 10)
    assert tolerance_of("float16", 50) == pytest.approx(2**-11 * 10)
    network = nn.Sequential(nn.Conv2d(8, 4, 3, groups=2), nn.Flatten(), nn.Linear(7, 2))
    assert longest_reduction(network) == 4 * 9 + 7


def test_a_nudge_is_undone():
    weight = torch.ones(3, 4)
    with put_back(weight):
        nudge(weight, "float32")
        assert weight[1, 2].item() == pytest.approx(1.1)
    assert torch.equal(weight, torch.ones(3, 4))


def test_draws_depend_on_every_seed_and_on_nothing_else():
    state = torch.random.get_rng_state()
    one = randomness.normal((5,), randomness.generator(0, "a"))
    assert torch.equal(one, randomness.normal((5,), randomness.generator(0, "a")))
    assert not torch.equal(one, randomness.normal((5,), randomness.generator(1, "a")))
    assert not torch.equal(one, randomness.normal((5,), randomness.generator(0, "b")))
    assert torch.equal(torch.random.get_rng_state(), state)


def test_no_value_of_a_norm_is_left_at_0_or_1():
    module = randomness.materialised(lambda: nn.BatchNorm2d(64), torch.float64)
    randomness.fill_normal(module, randomness.generator(0))
    for name in ("weight", "bias", "running_mean", "running_var"):
        values = module.state_dict()[name]
        assert not torch.isin(values, tensor(0, 1)).any()
        assert values.unique().numel() == 64


def test_calibration_gives_the_batch_statistics():
    network = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5)).double()
    image = torch.randn(4, 3, 9, 9, dtype=torch.float64)
    randomness.calibrate(network, image)
    assert not network.training
    assert network[1].momentum == 0.1
    out = network[0](image)
    assert torch.allclose(network[1].running_mean, out.mean(dim=(0, 2, 3)))
    assert torch.allclose(network[1].running_var, out.var(dim=(0, 2, 3)))
