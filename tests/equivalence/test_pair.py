"""Two networks of the user's own: what is the same passes, what is not fails, and errors are one sentence."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mlcv_bench import verify
from mlcv_bench.equivalence import fold
from mlcv_bench.equivalence.harness import NO_WEIGHTS
from mlcv_bench.equivalence.transplants import rearranges
from mlcv_bench.errors import UsageError
from mlcv_bench.testing import assert_equivalent


class Whole(nn.Module):
    """One convolution, ReLU, another."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.last = nn.Conv2d(8, 4, 1)

    def forward(self, x):
        return self.last(torch.relu(self.first(x)))


class Halves(nn.Module):
    """The same, the first convolution in two halves."""

    def __init__(self, wrong=False):
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 3, padding=1)
        self.last = nn.Conv2d(8, 4, 1)
        self.wrong = wrong

    def forward(self, x):
        right = self.right(x)
        if self.wrong:
            right = right.detach()
        return self.last(torch.relu(torch.cat([self.left(x), right], dim=1)))


class Picky(Whole):
    def forward(self, x):
        raise RuntimeError("not this one")


def in_halves(state):
    out = {key: tensor for key, tensor in state.items() if key.startswith("last")}
    for key in ("weight", "bias"):
        out[f"left.{key}"], out[f"right.{key}"] = state[f"first.{key}"].chunk(2)
    return out


class Normed(nn.Module):
    def __init__(self):
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4)

    def forward(self, x):
        return self.norm(self.convolution(x))


def folded(state):
    pair = Normed().double()
    pair.load_state_dict({key: value.double() for key, value in state.items()})
    found = fold(pair.convolution, pair.norm)
    return {"weight": found.weight.detach(), "bias": found.bias.detach()}


def test_a_reformulation_is_proved_exactly_and_to_rounding():
    found = verify(Whole(), Halves(), input=(3, 7, 7), transplant=in_halves)
    assert found.passed
    assert {record.proof for record in found.records} == {"exact", "rounding", "control"}
    assert {"output", "input gradient", "weight gradients"} <= {record.quantity for record in found.records}


def test_a_detached_half_shows_in_gradients_alone():
    found = verify(Whole(), Halves(wrong=True), input=(3, 7, 7), transplant=in_halves)
    assert {record.quantity for record in found.failures} == {"input gradient", "weight gradients"}


def test_assert_equivalent_says_what_differs():
    assert assert_equivalent(Whole(), Halves(), (3, 5, 5), transplant=in_halves).passed
    with pytest.raises(AssertionError, match=r"weight gradients, float64: relative difference .* allowed equality"):
        assert_equivalent(Whole(), Halves(wrong=True), (3, 5, 5), transplant=in_halves)
    with pytest.raises(AssertionError, match="RuntimeError"):
        assert_equivalent(Whole(), Picky(), (3, 5, 5))


def test_statistics_after_a_training_step_are_compared():
    class Hasty(Normed):
        def __init__(self):
            super().__init__()
            self.norm.momentum = 0.5

    found = verify(Normed(), Hasty(), input=(3, 5, 5))
    assert {record.quantity for record in found.failures} == {"batch-norm statistics"}


def test_a_folded_norm_is_the_same_at_inference_alone():
    assert_equivalent(Normed(), nn.Conv2d(3, 4, 3), (3, 6, 6), transplant=folded, modes=("eval",))
    found = verify(Normed(), nn.Conv2d(3, 4, 3), input=(3, 6, 6), transplant=folded)
    assert {record.mode for record in found.failures} == {"train"}
    assert {"rearrange", "batch norm divides"} <= {
        words for words in ("rearrange", "batch norm divides") for record in found.records if words in record.reason
    }


def test_what_rearranges_and_what_does_not():
    module = Whole().double()
    assert rearranges(module, dict)
    assert rearranges(module, in_halves)
    assert not rearranges(module, lambda state: {key: 2 * tensor for key, tensor in state.items()})
    assert not rearranges(module, lambda state: {**state, "again": state["first.bias"]})
    assert not rearranges(module, lambda state: {"first.bias": state["first.bias"]})


@pytest.mark.parametrize(
    ("second", "transplant", "words"),
    [
        (Halves(), None, r"only the second network has left\.weight; give transplant"),
        (nn.Conv2d(3, 8, 3), None, "only the second network has weight"),
        (Halves(), lambda _state: 5, "must return a state dict"),
        (Halves(), lambda state: state["nothing"], "the transplant raised KeyError"),
        (Halves(), lambda state: {**in_halves(state), "left.bias": torch.ones(3)}, "different shapes"),
    ],
)
def test_what_does_not_fit_is_one_sentence(second, transplant, words):
    with pytest.raises(UsageError, match=words):
        verify(Whole(), second, input=(3, 7, 7), transplant=transplant)


@pytest.mark.parametrize("network", [Whole, Normed])
def test_an_input_that_does_not_fit_is_one_sentence_with_and_without_norms(network):
    with pytest.raises(UsageError, match=r"the first network takes images of 3 channels, not 2; try input 3x5x5"):
        verify(network(), network(), input=(2, 5, 5))


def test_a_network_that_cannot_be_copied_is_one_sentence():
    module = Normed()
    module.held = (number for number in range(3))
    with pytest.raises(UsageError, match=r"cannot be copied: TypeError: .*functions that build them"):
        verify(module, Normed(), input=(3, 5, 5))


class Scale(nn.Module):
    """Without weights: by a number of the code, or by a buffer."""

    def __init__(self, buffer=None):
        super().__init__()
        self.scale = 2.0
        if buffer is not None:
            del self.scale
            self.register_buffer("scale", torch.tensor(buffer))

    def forward(self, x):
        return x * self.scale


class OnceWrong(Scale):
    """Another function in one type and one mode alone."""

    def forward(self, x):
        return super().forward(x) * (1.001 if x.dtype == torch.float32 and not self.training else 1.0)


@pytest.mark.parametrize("buffer", [None, 2.0])
def test_networks_without_weights_are_compared_all_the_same(buffer):
    found = verify(Scale(buffer), Scale(buffer), input=(4,))
    assert found.passed
    assert {(record.dtype, record.mode) for record in found.records if record.quantity == "output"} == {
        *(("float64", None), ("float64", "train"), ("float64", "eval"), ("float32", "train"), ("float32", "eval"))
    }
    assert {record.reason for record in found.records if record.status == "skipped"} == {NO_WEIGHTS}
    found = verify(Scale(buffer), OnceWrong(buffer), input=(4,))
    assert {(record.dtype, record.mode) for record in found.failures} == {("float32", "eval")}


class WithBuffer(Whole):
    """One convolution, ReLU, another, and a buffer beside them."""

    def __init__(self, value, *, persistent):
        super().__init__()
        self.register_buffer("beside", value, persistent=persistent)


def test_buffers_outside_the_state_dict_are_an_affair_of_one_network():
    with_buffer = WithBuffer(torch.ones(3), persistent=False)
    assert verify(with_buffer, Whole(), input=(3, 5, 5)).passed
    assert verify(Whole(), with_buffer, input=(3, 5, 5)).passed


def test_masks_are_compared():
    mask = torch.tensor([True, False])
    found = verify(*(WithBuffer(mask, persistent=True) for _ in range(2)), input=(3, 5, 5))
    assert found.passed
    assert "batch-norm statistics" in {record.quantity for record in found.records}


class Zeros(nn.Linear):
    def forward(self, x):
        return 0 * super().forward(x)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_zeros_pass_in_no_format(dtype):
    # As many products behind one output as in VGG-16.
    wide, zeros = nn.Linear(66_000, 2), Zeros(66_000, 2)
    found = verify(wide, zeros, input=(66_000,), dtypes=(dtype,))
    outputs = [record for record in found.records if record.quantity == "output" and record.dtype == dtype]
    assert {record.passed for record in outputs if record.proof == "rounding"} == {False}
    assert verify(wide, wide, input=(66_000,), dtypes=(dtype,)).passed


class Talker(Whole):
    def forward(self, x):
        print("a word from forward")  # noqa: T201 - as users' networks do
        return super().forward(x)


def test_what_networks_and_transplants_print_stays_off_stdout(capsys):
    def carry(state):
        print("a word from the transplant")  # noqa: T201 - as above
        return state

    assert verify(Talker(), Talker(), input=(3, 5, 5), transplant=carry).passed
    shown = capsys.readouterr()
    assert not shown.out
    assert {"a word from forward", "a word from the transplant"} == set(shown.err.splitlines())


@pytest.mark.parametrize("nothing", [{"dtypes": ()}, {"modes": ()}])
def test_comparing_nothing_is_refused(nothing):
    with pytest.raises(UsageError, match="nothing would be compared"):
        assert_equivalent(Whole(), Whole(), (3, 5, 5), **nothing)


def test_two_names_of_networks():
    found = verify("resnet8", "plain8", input=(3, 32, 32), dtypes=("float64",))
    assert "output" in {record.quantity for record in found.failures}
    assert verify("resnet8", "resnet8", input=(3, 16, 16), dtypes=("float32",)).passed
    with pytest.raises(UsageError, match="two networks"):
        verify("resnet8", nn.Linear(1, 1), "resnet8")
    with pytest.raises(UsageError, match=r"1 channels; plain8 takes 3 \(in_channels=1 changes that\)"):
        verify("plain8", "resnet8", input=(1, 32, 32))
