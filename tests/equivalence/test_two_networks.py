"""What two networks of the user's are compared in: names, parts, magnitudes, batches, modes, their own weights."""

from __future__ import annotations

import copy
import itertools
import random
from collections import namedtuple
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from mlcv_bench import verify
from mlcv_bench.equivalence import randomness
from mlcv_bench.equivalence.comparison import difference
from mlcv_bench.equivalence.evidence import KinkWatch, observe
from mlcv_bench.errors import UsageError
from mlcv_bench.names import load_specification
from mlcv_bench.testing import assert_equivalent

Both = namedtuple("Both", "a b")  # noqa: PYI024 - as users' networks have them
Shaped = load_specification(f"{Path(__file__).parents[1] / 'cases' / 'pairs.py'}:Shaped")


class Function(nn.Module):
    """What `how` makes of the input and of two layers' outputs; without the layers where they are not wanted."""

    def __init__(self, how, *layers):
        super().__init__()
        self.layers, self.how = nn.ModuleList(layers), how

    def forward(self, x):
        return self.how(x, *self.layers)


def found(first, second, shape=(3, 6, 6), **options):
    return verify(first, second, input=shape, **{"dtypes": ("float64",)} | options)


def quantities(found):
    return {record.quantity for record in found.failures}


def compared(first, second, **options):
    return found(Shaped(first), Shaped(second), **options)


# Outputs by name, and whatever is no tensor ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (lambda y: {"a": y, "b": y.relu()}, lambda y: {"b": y.relu(), "a": y}),
        (lambda y: {"a": y, "b": y.relu()}, lambda y: Both(y, y.relu())),
        (lambda y: (y, [y.relu(), None]), lambda y: [y, (y.relu(), None)]),
        (lambda y: {"a": y, "names": ["cat", "dog"], "n": 3}, lambda y: {"names": ("cat", "dog"), "n": 3, "a": y}),
        (lambda y: (y, 0.1 + 0.2), lambda y: (y, 0.3)),
        (lambda y: torch.complex(y, 2 * y), lambda y: y * (1 + 2j)),
        (lambda y: y, lambda y: y.view(y.shape)),
        (lambda y: (y, y.mean().item()), lambda y: (y, y.sum().item() / y.numel())),
        (lambda y: (y, []), lambda y: (y, {})),
        (lambda y: y.argmax(dim=1), lambda y: y.flip(1).flip(1).argmax(dim=1)),
    ],
)
def test_equal_outputs_are_the_same_in_any_order_and_container(first, second):
    assert not compared(first, second).failures


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        (lambda y: {"a": y, "b": y.relu()}, lambda y: {"b": y, "a": y.relu()}, ""),
        (lambda y: Both(y, y.relu()), lambda y: Both(y.relu(), y), ""),
        (lambda y: {"a": y, "b": y.relu()}, lambda y: {"a": y}, "only one side has output['b']"),
        (lambda y: {"a": y}, lambda y: {"c": y}, "only one side has output['a']"),
        (lambda y: (y, 0.07), lambda y: (y, 0.5), ""),
        (lambda y: (y, "cat"), lambda y: (y, "dog"), "'cat' against 'dog'"),
        (lambda y: (y, None), lambda y: (y, 0), "None against 0"),
        (lambda y: (y, None), lambda y: (y,), "only one side has output[1]"),
        (lambda y: (y, "1"), lambda y: (y, "1.0"), "'1' against '1.0'"),
        (lambda y: torch.complex(y, y), lambda y: torch.complex(y, y).conj(), ""),
        (lambda y: torch.complex(y, y), lambda y: y, ""),
        (lambda y: (50_000 * (y > 0).long(), y), lambda y: (50_000 * (y > 0).long(), y + 1e-9), ""),
        (lambda y: (y > 0, y), lambda y: (y >= -1e-2, y), ""),
    ],
)
def test_different_outputs_differ_by_name_in_any_part(first, second, words):
    shown = compared(first, second)
    assert "output" in quantities(shown)
    assert words in "".join(record.reason for record in shown.failures)


def test_outputs_pull_each_by_its_own_gradient():
    shown = compared(lambda y: {"a": y, "b": y.detach()}, lambda y: {"a": y.detach(), "b": y})
    assert quantities(shown) == {"input gradient", "weight gradients"}


def test_imaginary_parts_have_gradients():
    shown = compared(lambda y: torch.complex(y, y), lambda y: torch.complex(y, y.detach()))
    assert quantities(shown) == {"input gradient", "weight gradients"}


def test_buffers_that_are_put_out_are_those_of_the_pass():
    class Counting(nn.Module):
        def __init__(self, step):
            super().__init__()
            self.register_buffer("seen", torch.zeros(()))
            self.step = step

        def forward(self, x):
            self.seen += self.step
            return x, self.seen

    assert found(Counting(1), Counting(1)).passed
    assert "output" in quantities(found(Counting(1), Counting(2)))


# The input ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [lambda x: x.relu_(), lambda x: x.sub_(0.5).div_(0.25).relu(), lambda x: x.relu()])
def test_a_first_operator_in_place_changes_nothing_for_the_other_side(how):
    class First(nn.Module):
        def __init__(self, how):
            super().__init__()
            self.conv, self.how = nn.Conv2d(3, 3, 3, padding=1), how

        def forward(self, x):
            return self.conv(self.how(x))

    def apart(x):
        return how(x.clone())

    for first, second in itertools.permutations((First(how), First(apart))):
        shown = found(first, second)
        assert not shown.failures
        assert "input gradient" in {record.quantity for record in shown.records}


@pytest.mark.parametrize("how", [lambda x: x, lambda x: (x, x[:, :1]), lambda x: x.mul_(1)])
def test_networks_that_return_their_input_are_compared(how):
    assert found(Function(how), Function(lambda x: how(x * 1))).passed
    assert not found(Function(how), Function(lambda x: how(x * 2))).passed


# Magnitudes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "within"),
    [
        (functional.relu6, None),
        (lambda y: y.clamp(0, 1000), None),
        (lambda y: y.clamp(0, 1e5), None),
        (lambda y: functional.threshold(y, 1e-4, 0.0), None),
        (lambda y: y.clamp(0, 1e9), 1e7),
        (functional.relu, 1e7),
    ],
)
@pytest.mark.parametrize("where", ["first", "second"])
def test_what_cuts_at_a_magnitude_shows_at_one_or_it_is_said_how_far_was_looked(how, within, where):
    pair = (functional.relu, how) if where == "second" else (how, functional.relu)
    shown = compared(*pair)
    assert shown.passed == (within is not None)
    if within:
        seen = max(record.largest_output or 0 for record in shown.records)
        assert 1e6 < seen < within
        assert any(record.proof == "exact" and record.passed for record in shown.records)


class OwnNorm(nn.BatchNorm2d):
    """A norm that a user derived from torch's."""


@pytest.mark.parametrize(
    "norm", [nn.BatchNorm2d, OwnNorm, lambda width: nn.InstanceNorm2d(width, affine=True), lambda w: nn.GroupNorm(2, w)]
)
def test_what_cuts_behind_a_norm_shows_too(norm):
    def network(how):
        return nn.Sequential(nn.Conv2d(3, 4, 3), norm(4), Function(how), nn.Conv2d(4, 2, 1))

    assert found(network(functional.relu), network(functional.relu)).passed
    shown = found(network(functional.relu), network(lambda y: y.clamp(0, 1000)))
    assert any("scale" in quantity for quantity in quantities(shown))


def test_batch_norms_are_calibrated_at_each_scale():
    layers = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)]
    shown = found(nn.Sequential(*layers), nn.Sequential(*layers))
    (record,) = [r for r in shown.records if r.quantity == "output at scale 1000" and r.mode == "eval"]
    # A norm with other statistics would multiply by the scale once more.
    assert 1e3 < record.largest_output < 1e5


def test_scales_at_which_rounding_alone_decides_are_left_out_and_said():
    shown = compared(torch.sin, lambda y: -torch.sin(-y))
    assert not shown.failures
    left_out = [
        record for record in shown.records if record.status == "skipped" and "rounding the input" in record.reason
    ]
    assert {record.quantity for record in left_out} >= {"output at scale 1e+06"}
    # sin(a + b) by the theorem of addition: equal, and at large angles by rounding alone.
    assert not compared(torch.sin, lambda y: (y / 2).sin() * (y / 2).cos() * 2).failures


def test_an_operator_without_a_bound_on_one_side_leaves_the_other_as_the_reference():
    shown = compared(lambda y: y.abs(), lambda y: (y * y).sqrt())
    assert not shown.failures
    said = {record.quantity: record for record in shown.records}
    assert "no rule bounds the operator sqrt" in said["output"].reason or any(
        "no rule bounds the operator sqrt" in record.reason for record in shown.records
    )
    assert said["output of whole numbers"].passed
    # Only whole numbers of some size tell these two apart, and the bound of `elu` is not known.
    wrong = compared(functional.relu, lambda y: functional.elu(y, alpha=1e-3))
    assert "output of whole numbers" in quantities(wrong)


def unfolded(y, kernel):
    columns = functional.unfold(y, 2)
    return (kernel.flatten(1) @ columns).view(len(y), 2, 3, 3)


def shuffled(y):
    batch, channels, height, width = y.shape
    return y.view(batch, channels, height // 2, 2, width // 2, 2).permute(0, 1, 3, 5, 2, 4).reshape(batch, -1, 2, 2)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (
            lambda y: functional.conv2d(y, torch.ones(2, 4, 2, 2).to(y)),
            lambda y: unfolded(y, torch.ones(2, 4, 2, 2).to(y)),
        ),
        (lambda y: functional.max_pool2d(y, 3, 1), lambda y: functional.max_pool2d(y, 3, 1).flip(-1).flip(-1)),
        (lambda y: functional.pixel_unshuffle(y, 2), shuffled),
        (
            lambda y: functional.interpolate(y, scale_factor=2.0),
            lambda y: y.repeat_interleave(2, -1).repeat_interleave(2, -2),
        ),
        (functional.relu6, lambda y: y.clamp(0, 6)),
        (lambda y: y.cumsum(-1), lambda y: y @ torch.ones(4, 4).triu().to(y)),
    ],
)
def test_more_operators_are_proved_exactly(first, second):
    shown = compared(first, second)
    assert not shown.failures
    assert any(record.proof == "exact" and record.quantity == "output" and record.passed for record in shown.records)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        (lambda y: y * 0.1, "not whole"),
        (lambda y: (y * 2**20).float().double(), "float32, which rounds"),
        (lambda y: torch.complex(y, y).real, "no rule bounds the operator complex"),
        (torch.sigmoid, "no rule bounds the operator sigmoid"),
    ],
)
def test_what_is_not_exact_is_not_called_exact(how, words):
    shown = compared(how, how)
    exact = [record for record in shown.records if record.proof == "exact"]
    assert [record.status for record in exact] == ["skipped"]
    assert words in exact[0].reason


def test_a_scale_outside_the_first_networks_domain_is_left_out_and_nothing_is_printed(capsys):
    def bounded(y):
        print("a word")  # noqa: T201 - as users' networks do
        if y.abs().max() > 1e5:
            raise ValueError("too large")
        return y

    for norm in (nn.Identity(), nn.BatchNorm2d(4)):
        network = nn.Sequential(nn.Conv2d(3, 4, 3), Function(bounded), norm)
        shown = found(network, network)
        assert shown.passed
        left_out = [record.reason for record in shown.records if "ValueError: too large" in record.reason]
        assert len(left_out) >= 1
        assert all("1e+06" in reason for reason in left_out)
    assert not capsys.readouterr().out


# Batches -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "batches"),
    [
        (lambda y: y - y.mean(dim=0, keepdim=True) * (len(y) == 1), {1}),
        (lambda y: torch.cat([y[:8], 2 * y[8:]]), {9}),
        (lambda y: y[:2], {9}),
        (lambda y: y.squeeze(0), {1}),
    ],
)
def test_batches_beyond_two_are_tried(how, batches):
    assert quantities(compared(lambda y: y, how)) == {f"output, batch of {batch}" for batch in batches}


def test_a_batch_that_the_first_network_refuses_is_left_out_and_one_that_the_second_refuses_is_not():
    def two_alone(y):
        return y.view(2, 4, 4, 4)

    shown = compared(two_alone, lambda y: y)
    assert not shown.failures
    assert {record.quantity for record in shown.records if record.status == "skipped"} == {
        "output, batch of 1",
        "output, batch of 9",
    }
    shown = compared(lambda y: y, two_alone)
    assert quantities(shown) == {"output, batch of 1", "output, batch of 9"}
    assert all("the second network raises RuntimeError" in record.reason for record in shown.failures)


# Modes and chance --------------------------------------------------------------------------------------------------


class RepVGG(nn.Module):
    """A 3x3 and a 1x1, each with its norm, and the input with one: at inference one 3x3 (Ding et al. 2021)."""

    def __init__(self):
        super().__init__()
        self.wide, self.norm = nn.Conv2d(3, 3, 3, padding=1, bias=False), nn.BatchNorm2d(3)
        self.point, self.point_norm = nn.Conv2d(3, 3, 1, bias=False), nn.BatchNorm2d(3)
        self.own_norm = nn.BatchNorm2d(3)

    def forward(self, x):
        return self.norm(self.wide(x)) + self.point_norm(self.point(x)) + self.own_norm(x)


def one_kernel(state):
    identity = torch.eye(3, dtype=state["wide.weight"].dtype)[:, :, None, None]
    weight, bias = 0, 0
    for kernel, norm in (
        (state["wide.weight"], "norm"),
        (functional.pad(state["point.weight"], (1, 1, 1, 1)), "point_norm"),
        (functional.pad(identity, (1, 1, 1, 1)), "own_norm"),
    ):
        scale = state[f"{norm}.weight"] / (state[f"{norm}.running_var"] + 1e-5).sqrt()
        weight = weight + kernel * scale[:, None, None, None]
        bias = bias + state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * scale
    return {"weight": weight, "bias": bias}


def test_networks_that_agree_in_evaluation_alone_say_so():
    plain = nn.Conv2d(3, 3, 3, padding=1)
    shown = found(RepVGG(), plain, transplant=one_kernel)
    assert not shown.passed
    assert shown.agreeing_mode == "eval"
    assert assert_equivalent(RepVGG(), plain, (3, 6, 6), transplant=one_kernel, modes=("eval",)).agreeing_mode is None
    with pytest.raises(AssertionError, match=r"they agree in mode eval: modes=\('eval',\)"):
        assert_equivalent(RepVGG(), plain, (3, 6, 6), transplant=one_kernel)
    dropped = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5))
    assert found(dropped, nn.Sequential(nn.Linear(4, 4), nn.Identity()), (4,)).agreeing_mode == "eval"
    # In both modes, or in neither: nothing to say.
    assert (
        found(RepVGG(), plain, transplant=lambda state: {**one_kernel(state), "bias": torch.ones(3)}).agreeing_mode
        is None
    )
    assert found(dropped, dropped, (4,)).agreeing_mode is None


def test_networks_that_agree_in_training_alone_say_so():
    class Other(nn.Linear):
        def forward(self, x):
            return super().forward(x) if self.training else 1.5 * super().forward(x) / 1.25

    shown = verify(nn.Sequential(nn.Linear(4, 4), nn.Sigmoid()), nn.Sequential(Other(4, 4), nn.Sigmoid()), input=(4,))
    assert shown.agreeing_mode == "train"


def test_networks_that_are_random_in_evaluation_are_said_to_be():
    calls = itertools.count()
    chance, state, outside = (
        lambda y: functional.dropout(y, 0.5),
        lambda y: y + next(calls),
        lambda y: y * random.random(),
    )
    shown = compared(chance, chance)
    said = [record.reason for record in shown.records if record.proof == "report"]
    assert len(said) == 2
    assert all("Shaped is random in evaluation" in reason for reason in said)
    assert shown.passed
    for how in (state, outside):
        shown = compared(lambda y: y, how)
        (reason,) = [record.reason for record in shown.records if record.proof == "report"]
        assert "another output each time" in reason
        assert not shown.passed
    assert not [record for record in compared(torch.relu, torch.relu).records if record.proof == "report"]


# Weights -----------------------------------------------------------------------------------------------------------


def frozen(network, *names):
    for name in names or [name for name, _ in network.named_parameters()]:
        network.get_parameter(name).requires_grad_(requires_grad=False)
    return network


def two_layers():
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


def test_frozen_networks_are_compared_in_all_their_weights():
    shown = found(frozen(two_layers()), frozen(two_layers()), (3,))
    assert shown.passed
    assert {"weight gradients", "trained weights"} <= {record.quantity for record in shown.records}
    partly = found(frozen(two_layers(), "0.weight"), frozen(two_layers(), "0.weight"), (3,))
    assert partly.passed
    detached = nn.Sequential(two_layers()[0], Function(lambda x: x.detach()), nn.ReLU(), two_layers()[2])
    detached = frozen(detached)
    names = {"0.weight": "0.weight", "0.bias": "0.bias", "2.weight": "3.weight", "2.bias": "3.bias"}
    wrong = found(
        frozen(two_layers()), detached, (3,), transplant=lambda state: {new: state[old] for old, new in names.items()}
    )
    assert quantities(wrong) == {"input gradient", "weight gradients"}


def test_a_weight_that_one_network_alone_trains_is_a_difference():
    for first, second in itertools.permutations((two_layers(), frozen(two_layers(), "2.bias"))):
        shown = found(first, second, (3,))
        assert quantities(shown) == {"trained weights"}
        assert "alone: 2.bias" in shown.failures[0].reason
    assert first[2].bias.requires_grad != second[2].bias.requires_grad


class Complex(nn.Module):
    """A complex matrix, and what `how` makes of the product; also as a real and an imaginary one."""

    def __init__(self, how):
        super().__init__()
        self.layer, self.how = nn.Linear(3, 2, dtype=torch.complex64), how

    def forward(self, x):
        return self.how(self.layer(torch.complex(x, 2 * x)))


def test_complex_weights_keep_their_imaginary_parts():
    shown = verify(Complex(lambda z: z), Complex(lambda z: z), input=(3,))
    assert shown.passed
    assert {"weight gradients", "input gradient"} <= {record.quantity for record in shown.records}
    assert "output" in quantities(found(Complex(lambda z: z), Complex(lambda z: z.conj()), (3,)))
    assert "output" in quantities(found(Complex(lambda z: z.imag), Complex(lambda z: z.imag * 1.001), (3,)))
    without_gradient = found(Complex(lambda z: z), Complex(lambda z: torch.complex(z.real, z.imag.detach())), (3,))
    assert quantities(without_gradient) == {"input gradient", "weight gradients"}


def test_complex_inputs_have_gradients():
    layer = nn.Linear(3, 2, dtype=torch.complex128)
    image = torch.randn(2, 3, dtype=torch.complex128)
    shown = observe(layer, image, torch.ones, train=True)
    image.requires_grad_()
    layer(image).backward(torch.complex(torch.ones(2, 2), torch.ones(2, 2)).to(image))
    assert torch.equal(shown.input_gradient, image.grad)


def test_a_network_without_any_gradient_is_compared_in_its_outputs():
    assert found(Function(lambda x: x.round().int()), Function(lambda x: x.round().to(torch.int32)), (3,)).passed
    assert "output" in quantities(
        found(Function(lambda x: x.round().int()), Function(lambda x: x.round().int() + 1), (3,))
    )
    assert found(Function(lambda x: torch.ones(3)), Function(lambda x: torch.ones(3)), (3,)).passed


def test_each_network_keeps_its_own_weights():
    one, other = two_layers(), two_layers()
    assert found(one, other, (3,)).passed  # the second takes over what is drawn for the first
    assert quantities(found(one, other, (3,), keep_weights=True)) >= {"output", "input gradient"}
    twin = copy.deepcopy(one)
    shown = found(one, twin, (3,), keep_weights=True)
    assert shown.passed
    assert {"output", "weight gradients"} <= {record.quantity for record in shown.records if record.passed}
    assert any("weights are kept" in record.reason for record in shown.records)
    fused = nn.Sequential(Function(lambda x, layer: layer(x).relu(), one[0]), one[2])
    shown = found(one, fused, (3,), keep_weights=True)
    assert shown.passed
    assert any("name their weights differently" in record.reason for record in shown.records)


def test_kept_weights_are_the_ones_that_are_compared():
    # The two agree for weights that are not negative, and these are not.
    one = nn.Linear(3, 2)
    with torch.no_grad():
        one.weight.abs_()

    class Absolute(nn.Linear):
        def forward(self, x):
            return functional.linear(x, self.weight.abs(), self.bias)

    other = Absolute(3, 2)
    other.load_state_dict(one.state_dict())
    assert found(one, other, (3,), keep_weights=True).passed
    assert found(one, Absolute(3, 2), (3,), keep_weights=True, transplant=dict).passed
    assert not found(one, other, (3,)).passed


def test_the_same_seed_gives_the_same_records():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Dropout(0.5), nn.BatchNorm2d(4))
    one, again = (found(network, network, seed=3).records for _ in range(2))
    assert one == again
    state = torch.random.get_rng_state()
    found(network, network)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_files_of_weights(tmp_path):
    paths = [tmp_path / name for name in ("a.pth", "b.pth", "odd.pth")]
    networks = [two_layers(), two_layers()]
    for path, network in zip(paths, networks, strict=False):
        torch.save(network.state_dict(), path)
    torch.save({"other": torch.ones(1)}, paths[2])
    assert found(two_layers(), two_layers(), (3,), weights=paths[:1]).passed
    assert found(two_layers(), networks[0], (3,), weights=[paths[0]] * 2).passed
    assert "output" in quantities(found(two_layers(), two_layers(), (3,), weights=paths[:2]))
    for options, words in (
        ({"weights": paths[:2], "transplant": dict}, "leave one of them out"),
        ({"weights": paths}, "3 times"),
        ({"weights": paths[:1], "keep_weights": True}, "leave keep_weights out"),
        ({"weights": [tmp_path / "no.pth"]}, "no such file"),
        ({"weights": paths[2:]}, "odd.pth: 0 tensors fit"),
    ):
        with pytest.raises(UsageError, match=words):
            found(two_layers(), two_layers(), (3,), **options)
    with pytest.raises(UsageError, match="two networks"):
        verify("folding", keep_weights=True)


def test_tests_of_ones_own_keep_weights_too():
    one = two_layers()
    assert assert_equivalent(one, copy.deepcopy(one), (3,), keep_weights=True).passed
    with pytest.raises(AssertionError):
        assert_equivalent(one, two_layers(), (3,), keep_weights=True)
    with pytest.raises(UsageError, match="keep_weights to compare"):
        assert_equivalent(one, nn.Linear(3, 2), (3,))


@pytest.mark.parametrize("norm", [spectral_norm, weight_norm])
def test_networks_whose_weights_are_made_in_the_pass_are_compared(norm):
    def network():
        return nn.Sequential(norm(nn.Linear(4, 3)), nn.ReLU(), nn.Linear(3, 2))

    assert found(network(), network(), (4,)).passed
    wrong = nn.Sequential(norm(nn.Linear(4, 3)), nn.Identity(), nn.Linear(3, 2))
    assert "output" in quantities(found(network(), wrong, (4,)))


def test_a_cache_made_in_the_pass_breaks_nothing():
    class Cached(nn.Module):
        def forward(self, x):
            if not hasattr(self, "cache"):
                self.register_buffer("cache", torch.ones(3).to(x), persistent=False)
            return x * self.cache.to(x)

    assert found(Cached(), Function(lambda x: x * 1), (3,)).passed


# What the machinery itself promises --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layer", "kink"),
    [
        (nn.ReLU(), 0.0),
        (nn.ReLU6(), 6.0),
        (nn.Hardtanh(), -1.0),
        (nn.Hardtanh(-2.0, 3.0), 3.0),
        (nn.LeakyReLU(), 0.0),
        (nn.PReLU(), 0.0),
        (nn.Hardswish(), 3.0),
        (nn.Threshold(0.5, 0.0), 0.5),
        (Function(lambda x: x.abs()), 0.0),
        (Function(lambda x: x.clamp(max=2.0)), 2.0),
    ],
)
def test_kinks_are_seen(layer, kink):
    near, far = KinkWatch(), KinkWatch()
    observe(layer, torch.tensor([[kink + 1e-6, 10.0]]), train=False, watch=near)
    observe(layer, torch.tensor([[kink + 1.0, 10.0]]), train=False, watch=far)
    assert near.nearest < 1e-6
    assert far.nearest > 0.01


def test_no_small_difference_hides_behind_a_large_whole_number():
    classes, scores = torch.tensor([100_000]), torch.tensor([1.0], dtype=torch.float64)
    shown = difference({"classes": classes, "scores": scores}, {"classes": classes, "scores": scores + 1e-6})
    assert shown.relative == pytest.approx(1e-6)


@pytest.mark.parametrize("norm", [nn.LayerNorm(64), nn.GroupNorm(2, 64), nn.InstanceNorm2d(64, affine=True)])
def test_every_norm_gets_scales_of_about_one(norm):
    randomness.fill_normal(norm, randomness.generator(0))
    assert norm.weight.min() >= 0.5
    assert norm.weight.max() > 1.2
    before = norm.weight.clone()
    randomness.scale(norm, 10)
    assert torch.equal(norm.weight, 10 * before)


def test_scaling_multiplies_every_activation():
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.PReLU(4), nn.GroupNorm(2, 4, eps=0.0), nn.Flatten(), nn.Linear(64, 5)
    ).double()
    randomness.fill_normal(network, randomness.generator(0))
    image = randomness.normal((2, 3, 6, 6), randomness.generator(1))
    before = network(image)
    randomness.scale(network, 1000.0)
    assert torch.allclose(network(1000.0 * image), 1000.0 * before, rtol=1e-9)
