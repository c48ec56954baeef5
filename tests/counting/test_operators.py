"""Rules of operators at sizes that all differ, against arithmetic by hand and torch's own formulas."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils import flop_counter

from mlcv_bench.counting import operators

SIZES = st.integers(1, 7)


def empty(*shape):
    return torch.empty(shape, device="meta")


@pytest.mark.parametrize(
    ("name", "shapes", "out", "macs"),
    [
        ("mm", [(2, 3), (3, 5)], (2, 5), 2 * 3 * 5),
        ("bmm", [(7, 2, 3), (7, 3, 5)], (7, 2, 5), 7 * 2 * 3 * 5),
        ("mv", [(2, 3), (3,)], (2,), 2 * 3),
        ("dot", [(3,), (3,)], (), 3),
        ("addmm", [(5,), (2, 3), (3, 5)], (2, 5), 2 * 3 * 5),
        ("addmv", [(2,), (2, 3), (3,)], (2,), 2 * 3),
        ("baddbmm", [(2, 5), (7, 2, 3), (7, 3, 5)], (7, 2, 5), 7 * 2 * 3 * 5),
        ("addbmm", [(2, 5), (7, 2, 3), (7, 3, 5)], (2, 5), 7 * 2 * 3 * 5),
        ("linear", [(4, 2, 3), (5, 3), (5,)], (4, 2, 5), 4 * 2 * 3 * 5),
    ],
)
def test_products(name, shapes, out, macs):
    work = operators.work_of(name, [empty(*shape) for shape in shapes], empty(*out), {})
    elements = empty(*out).numel()
    # A vector is a bias; a matrix that is added is an addition.
    added = "bias" if name in {"addmm", "addmv", "linear"} else "addition"
    assert (work.macs, work.activations, work.bias) == (macs, elements, elements * (added == "bias"))
    assert work.operations == elements * (added == "addition" and "add" in name)


@given(batch=SIZES, queries=SIZES, keys=SIZES, width=SIZES, values=SIZES)
def test_attention_as_torch_counts_it(batch, queries, keys, width, values):
    shapes = (batch, 2, queries, width), (batch, 2, keys, width), (batch, 2, keys, values)
    tensors, out = [empty(*shape) for shape in shapes], empty(batch, 2, queries, values)
    forward = operators.work_of("_scaled_dot_product_efficient_attention", tensors, (out,), {})
    assert 2 * forward.macs == flop_counter.sdpa_flop_count(*shapes)
    scores = batch * 2 * queries * keys
    assert (forward.operations, forward.activations) == (5 * scores, scores + out.numel())
    backward = operators.work_of("_scaled_dot_product_efficient_attention_backward", [out, *tensors], tensors, {})
    assert 2 * backward.macs == flop_counter.sdpa_backward_flop_count(tuple(out.shape), *shapes)


@pytest.mark.parametrize(("kernel", "window"), [([3], 9), ([2, 5], 10)])
def test_one_number_is_a_square_window(kernel, window):
    work = operators.work_of("avg_pool2d", [empty(1, 2, 12, 12), kernel], empty(1, 2, 4, 4), {})
    assert (work.kind, work.operations) == ("pooling", 32 * window)
