"""Rules as torch.optim.Optimizers: parity on a real network, groups, state, schedulers, closures."""

from __future__ import annotations

import copy

import pytest
import torch

from mlcv_bench.equivalence.optimizers import TWINS
from mlcv_bench.errors import UsageError
from mlcv_bench.optimizers.rule import RULES
from mlcv_bench.optimizers.torch_optimizer import RuleOptimizer

FIRST_ORDER = [name for name, rule in RULES.items() if rule.needs == "gradient"]


def network(seed=1):
    generator = torch.Generator().manual_seed(seed)
    net = torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3)).double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return net


def backward(net):
    generator = torch.Generator().manual_seed(7)
    inputs = torch.randn(16, 5, generator=generator, dtype=torch.float64)
    loss = (net(inputs) ** 2).mean()
    loss.backward()
    return loss


def copy_gradients(source, target):
    for a, b in zip(source.parameters(), target.parameters(), strict=True):
        b.grad = a.grad.clone()


def furthest(a, b):
    pairs = list(zip(a.parameters(), b.parameters(), strict=True))
    largest = max(float(p.detach().abs().max()) for p, _ in pairs)
    return max(float((p - q).detach().abs().max()) for p, q in pairs) / largest


@pytest.mark.parametrize("name", [*TWINS, "nesterov"])
def test_parity_with_torch_on_identical_gradients(name):
    kind, options = {**TWINS, "nesterov": ("SGD", {"momentum": 0.9, "nesterov": True})}[name]
    theirs, ours = network(), network()
    reference = getattr(torch.optim, kind)(theirs.parameters(), lr=0.01, **options)
    optimizer = RuleOptimizer(ours.parameters(), name, lr=0.01)
    for _ in range(100):
        reference.zero_grad()
        backward(theirs)
        copy_gradients(theirs, ours)
        reference.step()
        optimizer.step()
    assert furthest(theirs, ours) <= 1e-12


@pytest.mark.parametrize("name", FIRST_ORDER)
def test_a_state_dict_continues_the_run(name):
    ours = network()
    optimizer = RuleOptimizer(ours.parameters(), name, lr=0.01)
    for _ in range(3):
        optimizer.zero_grad()
        backward(ours)
        optimizer.step()
    other = network(seed=2)
    other.load_state_dict(copy.deepcopy(ours.state_dict()))
    resumed = RuleOptimizer(other.parameters(), name, lr=0.5)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert resumed.param_groups[0]["lr"] == 0.01
    for net, opt in ((ours, optimizer), (other, resumed)):
        for _ in range(3):
            opt.zero_grad()
            backward(net)
            opt.step()
    assert furthest(ours, other) == 0


def test_groups_have_their_own_rates_and_limits():
    net = network()
    groups = [{"params": net[0].parameters(), "lr": 0.5}, {"params": net[2].parameters()}]
    optimizer = RuleOptimizer(groups, "sgd:lr=0.1")
    before = [parameter.detach().clone() for parameter in net.parameters()]
    backward(net)
    optimizer.step()
    for parameter, old, lr in zip(net.parameters(), before, (0.5, 0.5, 0.1, 0.1), strict=True):
        assert torch.equal(parameter.detach(), old - lr * parameter.grad)
    with pytest.raises(UsageError, match="above 0"):
        RuleOptimizer([{"params": net.parameters(), "lr": -1.0}], "sgd")


def test_parameters_without_gradients_are_left_alone():
    net = network()
    optimizer = RuleOptimizer(net.parameters(), "adam", lr=0.1)
    backward(net)
    net[2].bias.grad = None
    before = net[2].bias.detach().clone()
    optimizer.step()
    assert torch.equal(net[2].bias.detach(), before)
    assert optimizer.state[net[2].bias]["step"] == 0
    assert optimizer.state[net[0].weight]["step"] == 1


def test_the_module_keeps_its_parameters():
    net = network()
    parameters = list(net.parameters())
    optimizer = RuleOptimizer(parameters, "momentum", lr=0.01)
    backward(net)
    optimizer.step()
    assert all(a is b for a, b in zip(parameters, net.parameters(), strict=True))
    # Moved away by a change of type and back, the next step binds them anew.
    backward(net.float().double())
    optimizer.step()
    assert optimizer.flats(optimizer.param_groups[0])[0].bound


def test_closures_and_schedulers():
    net = network()
    optimizer = RuleOptimizer(net.parameters(), "nesterov", lr=0.01)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.1)

    def closure():
        optimizer.zero_grad()
        return backward(net)

    losses = []
    for _ in range(4):
        losses.append(float(optimizer.step(closure).detach()))
        scheduler.step()
    assert losses[-1] < losses[0]
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.0001)


def test_a_look_ahead_keeps_its_iterates():
    parameter = torch.zeros(1, dtype=torch.float64)
    optimizer = RuleOptimizer([parameter], "nesterov", lr=0.1)
    parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    assert parameter.item() == -0.1 + 0.9 * -0.1
    with optimizer.at_iterates():
        assert parameter.item() == -0.1
    assert parameter.item() == -0.1 + 0.9 * -0.1


def test_newton_refuses_with_the_reason():
    with pytest.raises(UsageError, match="k x k"):
        RuleOptimizer([torch.zeros(2)], "newton")
