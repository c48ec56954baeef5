"""The compiled pass against plain tensor arithmetic: the same rule, the same numbers."""

from __future__ import annotations

import shutil
import sys

import numpy as np
import pytest
import torch
from numba.core.errors import NumbaError

from mlcv_bench.errors import UsageError
from mlcv_bench.functions import exp, maximum, sign, tanh
from mlcv_bench.optimizers import compiled_rule, kernels, torch_optimizer
from mlcv_bench.optimizers.rule import NOTES, RULES, read
from mlcv_bench.optimizers.torch_optimizer import RuleOptimizer

FIRST_ORDER = [name for name, rule in RULES.items() if rule.needs == "gradient"]
KERNELS = [(name, torch.float64, 1e-13) for name in FIRST_ORDER]
KERNELS += [(name, torch.float32, 1e-4) for name in FIRST_ORDER if name in NOTES]  # compiling takes seconds


def parameters(dtype):
    generator = torch.Generator().manual_seed(3)
    shapes = [(70, 80), (3,), (9000,), (4, 3, 5, 5), (1,)]
    return [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_() for shape in shapes]


def walk(optimizer, own, steps, *, closure=False):
    """Take steps with gradients that depend on where the parameters stand."""
    for t in range(steps):

        def gradients(t=t):
            for number, parameter in enumerate(own):
                parameter.grad = torch.sin(parameter.detach() * (number + 1)) + 0.1 * ((t + number) % 3)
            return torch.tensor(0.0)

        if closure:
            optimizer.step(gradients)
        else:
            gradients()
            optimizer.step()


def run(monkeypatch, name, dtype, *, compiled, steps=200, threads=1):
    monkeypatch.setattr(torch_optimizer, "WORTH_COMPILING", 0 if compiled else 1 << 60)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    own = parameters(dtype)
    optimizer = RuleOptimizer(own, name, lr=0.01)
    walk(optimizer, own, steps)
    assert (optimizer.flats(optimizer.param_groups[0])[0].kernel is not None) == compiled
    return torch.cat([parameter.detach().reshape(-1) for parameter in own])


@pytest.mark.parametrize(("name", "dtype", "tolerance"), KERNELS)
def test_a_kernel_takes_the_rules_steps(monkeypatch, name, dtype, tolerance):
    plain = run(monkeypatch, name, dtype, compiled=False)
    compiled = run(monkeypatch, name, dtype, compiled=True)
    assert float((plain - compiled).abs().max() / plain.abs().max()) <= tolerance
    assert torch.equal(compiled, run(monkeypatch, name, dtype, compiled=True, threads=3))


def test_the_layout_of_a_gradient_does_not_matter(monkeypatch):
    monkeypatch.setattr(torch_optimizer, "WORTH_COMPILING", 0)
    twins = []
    for memory_format in (torch.contiguous_format, torch.channels_last):
        own = [torch.arange(240.0).reshape(2, 5, 4, 6).clone().requires_grad_()]
        optimizer = RuleOptimizer(own, "momentum", lr=0.1)
        for _ in range(3):
            own[0].grad = (own[0].detach() * 0.1).contiguous(memory_format=memory_format)
            optimizer.step()
        twins.append(own[0].detach().clone())
    assert torch.equal(*twins)


def test_parameters_without_gradients_are_left_alone(monkeypatch):
    monkeypatch.setattr(torch_optimizer, "WORTH_COMPILING", 0)
    own = parameters(torch.float32)
    before = own[2].detach().clone()
    optimizer = RuleOptimizer(own, "adam", lr=0.1)
    for parameter in own:
        parameter.grad = torch.ones_like(parameter)
    own[2].grad = None
    optimizer.step()
    assert torch.equal(own[2].detach(), before)
    # Adam's first step is lr times the gradient's sign, also for the parameter that begins a step later.
    own[2].grad = torch.ones_like(own[2])
    for parameter in (*own[:2], *own[3:]):
        parameter.grad = None
    optimizer.step()
    assert torch.allclose(own[2].detach(), before - 0.1, atol=1e-5)
    own[0].grad = torch.sparse_coo_tensor(torch.tensor([[0], [0]]), torch.ones(1), (70, 80), check_invariants=True)
    with pytest.raises(UsageError, match="dense gradients"):
        optimizer.step()


def branching(x, g, t, lr=0.1):
    """Step against the sign alone."""
    if t > 3:
        return x
    return x - lr * g


def test_a_rule_that_is_more_than_arithmetic_has_no_kernel(monkeypatch):
    rule = read(branching)
    assert compiled_rule.write(rule, 1) is None
    monkeypatch.setattr(torch_optimizer, "WORTH_COMPILING", 0)
    own = [torch.zeros(4, requires_grad=True)]
    optimizer = RuleOptimizer(own, rule)
    walk(optimizer, own, 6)
    assert optimizer.flats(optimizer.param_groups[0])[0].kernel is None


def cube_root(x, g, t, s, lr=0.1):
    """A step against the gradient's sign and size, by functions of the table."""
    s = 0.9 * s + g * g
    return x - lr * tanh(g) / (s ** (1 / 3) + 1e-8) - 0.01 * sign(g) * exp(-maximum(abs(g), 0.5)), s


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 1e-4)])
def test_a_kernel_knows_every_function_of_a_rule(monkeypatch, dtype, tolerance):
    rule = read(cube_root)
    plain = run(monkeypatch, rule, dtype, compiled=False, steps=20)  # sign makes rounding grow
    compiled = run(monkeypatch, rule, dtype, compiled=True, steps=20)
    assert float((plain - compiled).abs().max() / plain.abs().max()) <= tolerance


def test_an_error_in_a_kernel_is_no_damaged_cache():
    kernel = kernels.load(
        "from numba import njit\n@njit(cache=CACHE)\ndef run_blocks(x):\n    x[0] = unheard_of(x[0])\n"
    )
    with pytest.raises(NumbaError, match="unheard_of"):
        kernel(np.zeros(1))


def test_a_cache_that_cannot_be_written_leaves_kernels_in_memory(monkeypatch, tmp_path):
    """Another user's folder holds the kernel's source; numba finds no place beside it, nor in the user's own cache."""
    source = "from numba import njit\n@njit(cache=CACHE)\ndef run_blocks(x):\n    x[0] += 41.0\n"
    monkeypatch.setenv("MLCV_BENCH_CACHE", str(tmp_path))
    kernels.load(source)
    (path,) = tmp_path.glob("*.py")
    monkeypatch.delitem(sys.modules, path.stem)
    shutil.rmtree(tmp_path / "__pycache__", ignore_errors=True)
    (tmp_path / "__pycache__").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null/cache")
    numbers = np.ones(1)
    kernels.load(source)(numbers)
    assert numbers[0] == 42.0
    assert kernels.load(source) is kernels.load(source)  # compiled once in a process
