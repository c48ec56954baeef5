"""Every rule's schema, limits and errors, and its place beside torch.optim."""

from __future__ import annotations

import math
import re

import pytest
import torch

from mlcv_bench.errors import UsageError
from mlcv_bench.expression import function_from
from mlcv_bench.functions import FLOATS
from mlcv_bench.optimizers import compiled_rule
from mlcv_bench.optimizers.rule import NOTES, RULES, find, read
from mlcv_bench.optimizers.rules import adam
from mlcv_bench.surfaces.newton import Parabola, direction

CONTRACT = {
    "sgd": {"lr": 0.01},
    "momentum": {"lr": 0.01, "momentum": 0.9},
    "nesterov": {"lr": 0.01, "momentum": 0.9},
    "adagrad": {"lr": 0.01, "eps": 1e-8},
    "rmsprop": {"lr": 0.01, "beta": 0.9, "eps": 1e-8},
    "adam": {"lr": 0.001, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8},
    "adam_l2": {"lr": 0.001, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 1e-2},
    "adamw": {"lr": 0.001, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 1e-5},
    "adamw_torch": {"lr": 0.001, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 1e-2},
    "newton": {"lr": 1.0, "damping": 0.0},
}


def test_names_order_and_defaults_are_the_contracts():
    assert {name: dict(rule.defaults) for name, rule in NOTES.items()} == CONTRACT
    assert list(RULES)[: len(CONTRACT)] == list(CONTRACT)


def test_needs_and_slots_come_from_the_signature():
    assert [name for name, rule in NOTES.items() if rule.needs == "hessian"] == ["newton"]
    assert RULES["adam"].slots == ("m", "s")
    assert [name for name, rule in NOTES.items() if rule.lookahead] == ["nesterov"]


@pytest.mark.parametrize("name", RULES)
def test_every_rule_names_its_update_and_section(name):
    assert "notes 1." in RULES[name].summary or re.search(r"\(.+ \d{4}\): ", RULES[name].summary)


@pytest.mark.parametrize("name", RULES)
def test_every_built_in_rule_is_arithmetic(name):
    assert compiled_rule.write(RULES[name], 2) is not None


def test_what_depends_on_the_step_alone_is_taken_out_of_the_loop():
    lines = compiled_rule.write(RULES["adam"], 1)
    assert lines.coefficients_of(3, CONTRACT["adam"]) == (1 / (1 - 0.9**3), 1 / (1 - 0.999**3))
    assert "**" not in "".join(lines.lines)


def test_settings_are_read_from_the_text():
    rule, settings = find("adam:lr=0.1,beta1=0.95")
    assert (rule.name, settings) == ("adam", {"lr": 0.1, "beta1": 0.95})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("adma", "did you mean adam"),
        ("adam:beta3=0.5", "it takes lr, beta1, beta2, eps"),
        ("adam:lr=nan", "lr must be above 0 and finite"),
        ("sgd:lr=-1", "lr must be above 0"),
        ("adam:beta1=2", "beta1 must be at least 0 and below 1"),
        ("momentum:momentum=1.5", "momentum must be from 0 to 1"),
        ("newton:damping=-1", "damping must be at least 0"),
        ("adam:lr=fast", "takes a number"),
        ("adam:lr=1,lr=2", "twice"),
        ("adam:", "write adam:lr=0.1"),
        ("math:sqrt", "is no update rule"),
        ("torch.optim:AdamW", "optim-race takes a torch.optim class too"),
        ("nowhere.at.all:rule", "not installed"),
    ],
)
def test_a_wrong_request_is_one_clear_sentence(text, says):
    with pytest.raises(UsageError, match=says):
        find(text)


def test_a_users_rule_is_read_from_a_file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("def signed(x, g, t, v, lr=0.1):\n    v = 0.5 * v + g\n    return x - lr * v, v\n")
    rule, settings = find(f"{path}:signed:lr=0.2")
    assert (rule.name, rule.slots, settings) == ("signed", ("v",), {"lr": 0.2})


def test_a_rule_has_to_return_its_slots():
    def forgetful(x, g, t, v, lr=0.1):
        return x - lr * g

    with pytest.raises(UsageError, match="has to return x, v"):
        read(forgetful)


def test_the_parabola_has_the_functions_value_slope_and_curvature():
    fitted = Parabola(1.5, 1.5**4, 4 * 1.5**3, 12 * 1.5**2)
    assert fitted(1.5) == 1.5**4
    ahead, behind = fitted(1.5 + 2**-10), fitted(1.5 - 2**-10)
    assert (ahead - behind) * 2**9 == pytest.approx(4 * 1.5**3)
    assert (ahead - 2 * fitted(1.5) + behind) * 2**20 == pytest.approx(12 * 1.5**2)
    assert fitted.step == -(4 * 1.5**3) / (12 * 1.5**2)
    with pytest.raises(UsageError, match="no vertex"):
        _ = Parabola(0.0, 0.0, 1.0, 0.0).step


def test_the_newton_direction_solves_the_system():
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(6, 6, generator=generator, dtype=torch.float64)
    gradient = torch.randn(6, generator=generator, dtype=torch.float64)
    matrix = matrix + matrix.T
    found = direction(matrix.tolist(), gradient.tolist(), 0.3)
    wanted = torch.linalg.solve(matrix + 0.3 * torch.eye(6, dtype=torch.float64), gradient)
    assert torch.allclose(torch.tensor(found, dtype=torch.float64), wanted, rtol=1e-12)


def test_newton_needs_a_regular_matrix():
    with pytest.raises(ZeroDivisionError):
        direction(((1.0, 1.0), (1.0, 1.0)), (1.0, 2.0))
    assert all(map(math.isfinite, direction(((1.0, 1.0), (1.0, 1.0)), (1.0, 2.0), 0.1)))


def halved(g):
    return g / 2


def borrowed(x, g, t, m, s, lr=0.001, beta=0.9):
    """Adam's step against half the gradient, and some decay."""
    size = 1 - beta
    moved, first, second = adam(x, halved(g + size * x), t, m, s, lr, beta1=beta)
    return moved - size * halved(x), first, second


def swapping(x, g, t, m, s, lr=0.1):
    """Slots that read each other's old value."""
    m, s = s + g, m
    return x - lr * m * s, m, s


def endless(x, g, t, lr=0.1):
    """A rule that calls itself."""
    return endless(x, g, t, lr)


def by_name(rule, t, values, settings):
    """Run a compiled rule's lines on floats."""
    lines = compiled_rule.write(rule, 1)
    names = ["x0", *(f"s_{slot}_0" for slot in rule.slots)]
    arguments = [names[0], "g0", *names[1:], *lines.constants, *lines.coefficients, *(f"h_{name}" for name in settings)]
    step = function_from("step", arguments, [*lines.lines, f"return {', '.join(names)}"], FLOATS)
    return step(*values, *lines.constants_of(settings), *lines.coefficients_of(t, settings), *settings.values())


@pytest.mark.parametrize("function", [borrowed, swapping])
def test_a_rule_may_call_another(function):
    rule = read(function)
    for t, values in ((1, (1.0, 0.5, 0.25, 0.125)), (7, (-2.0, 1.5, -0.3, 0.7))):
        wanted = rule.update(values[0], values[1], t, *values[2:], **rule.defaults)
        assert by_name(rule, t, values, rule.defaults) == pytest.approx(wanted, rel=1e-15)


def test_what_a_rule_calls_is_computed_before_the_loop_too():
    lines = compiled_rule.write(read(borrowed), 1)
    assert lines.coefficients_of(3, {"beta": 0.9}) == (1 / (1 - 0.9**3), 1 / (1 - 0.999**3))
    assert lines.constants_of({"beta": 0.9})[0] == 1 - 0.9


def test_a_rule_that_calls_itself_is_not_compiled():
    assert compiled_rule.read(endless, set()) is None


@pytest.mark.parametrize("names", [("query",), ("lookahead",), ("query", "lookahead")])
def test_a_users_look_ahead_has_two_names(tmp_path, names):
    path = tmp_path / "mine.py"
    text = "def ahead(x, g, t, v, lr=0.1):\n    v = 0.5 * v + g\n    return x - lr * v, v\n"
    path.write_text(text + "".join(f"def ahead_{name}(x, v):\n    return x + 0.5 * v\n" for name in names))
    rule, _ = find(f"{path}:ahead")
    assert rule.gradient_point(1.0, {"v": 2.0}) == 2.0
    assert compiled_rule.write(rule, 1).lookahead_lines == ("q0 = (x0 + (0.5 * s_v_0))",)
