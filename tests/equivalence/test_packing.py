"""Two networks that take several tensors, whole numbers, dictionaries or lists, compared as any other two."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mlcv_bench.api.verification import verify
from mlcv_bench.errors import UsageError
from mlcv_bench.testing import assert_equivalent


class Words(nn.Module):
    """Looks words up, and weighs them."""

    def __init__(self):
        super().__init__()
        self.embed, self.fc = nn.Embedding(30, 8), nn.Linear(8, 3)

    def forward(self, tokens, weights):
        return self.fc(self.embed(tokens) * weights[..., None])


class Renamed(Words):
    def forward(self, words, importance):
        return super().forward(words, importance)


class Reordered(Words):
    """Another function: of the word after the last but one."""

    def forward(self, tokens, weights):
        return super().forward(tokens.flip(-1), weights)


class Unweighed(Words):
    def forward(self, tokens, weights):
        return super().forward(tokens, torch.ones_like(weights))


class Dictionary(Words):
    def forward(self, batch):
        return super().forward(batch["tokens"], batch["weights"])


class Pair(nn.Module):
    """Concatenates a list of two images."""

    def __init__(self, swapped=False):
        super().__init__()
        self.conv, self.swapped = nn.Conv2d(4, 3, 3), swapped

    def forward(self, images):
        return self.conv(torch.cat(images[::-1] if self.swapped else list(images), 1))


TEXTS = ["tokens:int64:1x6", "weights:1x6"]
FAST = {"dtypes": ("float64",), "modes": ("eval",), "costs": False}


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [(Words, Words, True), (Words, Renamed, True), (Words, Reordered, False), (Words, Unweighed, False)],
)
def test_named_tensors(first, second, same):
    found = verify(first(), second(), tensors=TEXTS, **FAST)
    assert found.passed == same
    assert any(record.control_detected for record in found.controls)
    exact = [record.passed for record in found.records if record.proof == "exact" and record.status == "done"]
    assert exact[0] == same
    gradients = {record.quantity for record in found.records if record.status == "done"}
    assert {"output", "input gradient", "weight gradients"} <= gradients


def test_a_dictionary_and_lists():
    assert verify(Dictionary(), Dictionary(), tensors=TEXTS, **FAST).passed
    images = ["images:1x2x5x5", "images:1x2x5x5"]
    assert verify(Pair(), Pair(), tensors=images, **FAST).passed
    assert not verify(Pair(), Pair(swapped=True), tensors=images, **FAST).passed


def test_whole_numbers_alone_have_no_input_gradient():
    found = verify(nn.Embedding(9, 2), nn.Embedding(9, 2), tensors=["input:int64:2x3"], **FAST)
    assert found.passed
    assert "input gradient" not in {record.quantity for record in found.records}


class Classes(nn.Module):
    """A table without nn.Embedding; `last` looks up the last row in place of any."""

    def __init__(self, last=False):
        super().__init__()
        self.table, self.last = nn.Parameter(torch.randn(5, 4)), last

    def forward(self, labels):
        return self.table[labels.clamp(max=3) if self.last else labels]


def test_examples_say_which_whole_numbers_there_are():
    found = verify(Classes(), Classes(last=True), tensors=["labels:int64:4"], **FAST)
    assert found.passed  # 0 alone shows no difference, which is said
    assert any("labels is 0 throughout" in record.reason for record in found.records)
    example = {"labels": torch.arange(5)}
    assert not verify(Classes(), Classes(last=True), input=example, **FAST).passed
    assert_equivalent(Classes(), Classes(), example, dtypes=("float64",), modes=("eval",))


def test_what_does_not_fit_is_said():
    with pytest.raises(UsageError, match="Words takes tokens, weights, not 'wights'"):
        verify(Words(), Words(), tensors=["tokens:int64:1x6", "wights:1x6"], **FAST)
    with pytest.raises(UsageError, match=r"the first network cannot take an input of .*: check the names"):
        verify(Dictionary(), Dictionary(), tensors=["tokens:int64:1x6"], **FAST)
