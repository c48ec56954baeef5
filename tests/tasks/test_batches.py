from __future__ import annotations

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mlcv_bench.tasks.datasets import epoch_batches, steps_per_epoch


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 300), st.integers(1, 80), st.integers(0, 2**31), st.integers(0, 20))
def test_an_epoch_is_the_notes_epoch(count, batch_size, seed, epoch):
    batches = list(epoch_batches(count, batch_size, seed, epoch))
    assert len(batches) == math.ceil(count / batch_size) == steps_per_epoch(count, batch_size)
    assert all(len(batch) == batch_size for batch in batches[:-1])
    assert len(batches[-1]) == count - batch_size * (len(batches) - 1) > 0
    assert sorted(torch.cat(batches).tolist()) == list(range(count))


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 300), st.integers(1, 80))
def test_without_the_short_last_batch_an_epoch_has_full_ones_alone(count, batch_size):
    batches = list(epoch_batches(count, batch_size, 0, 0, drop_last=True))
    assert len(batches) == math.floor(count / batch_size) == steps_per_epoch(count, batch_size, drop_last=True)
    assert all(len(batch) == batch_size for batch in batches)
    whole = list(epoch_batches(count, batch_size, 0, 0))[: len(batches)]
    assert all(torch.equal(one, other) for one, other in zip(batches, whole, strict=True))


def test_every_epoch_and_seed_shuffles_anew_and_repeatably():
    def order(seed, epoch):
        return torch.cat(list(epoch_batches(100, 7, seed, epoch))).tolist()

    assert order(0, 0) == order(0, 0)
    assert len({tuple(order(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9
