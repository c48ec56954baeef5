from __future__ import annotations

import math
import random
import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from mlcv_bench.timing.statistics import (
    LEAST_SAMPLES,
    Interval,
    median_interval,
    percentile,
    ratio_interval,
    ratio_of_intervals,
)

numbers = st.lists(st.floats(0.001, 1000), min_size=2, max_size=40)


@given(numbers)
@settings(deadline=None, max_examples=60)
def test_the_interval_holds_the_median_and_ends_at_values(values):
    found = median_interval(values)
    assert found.low <= found.middle <= found.high
    assert {found.low, found.high} <= set(values)


@pytest.mark.parametrize("n", [5, 7, 15, 31])
def test_the_exact_bootstrap_agrees_with_drawing(n):
    chance = random.Random(n)
    values = [chance.gauss(10, 1) for _ in range(n)]
    drawn = sorted(statistics.median(chance.choices(values, k=n)) for _ in range(20_000))
    found = median_interval(values, 0.9)
    ordered = sorted(values)
    # Drawing leaves the rank uncertain by one where a probability lies near 5%.
    assert abs(ordered.index(found.low) - ordered.index(drawn[1000])) <= 1
    assert abs(ordered.index(found.high) - ordered.index(drawn[-1001])) <= 1


def test_the_interval_covers_the_true_median_about_as_often_as_it_says():
    chance = random.Random(0)
    hits = 0
    for _ in range(1000):
        found = median_interval([chance.lognormvariate(0, 0.5) for _ in range(15)])
        hits += found.low <= 1.0 <= found.high
    low, high = binomtest(hits, 1000).proportion_ci(0.999, method="exact")
    assert low < 0.97
    assert high > 0.92


def test_one_value_says_nothing_about_noise():
    assert median_interval([3.0]) == Interval(3.0, -math.inf, math.inf)


def test_ratios_come_from_shared_rounds_alone():
    base = {0: 1.0, 1: 10.0, 2: 1.0, 3: 5.0, 4: 1.0, 5: 2.0}
    other = {0: 2.0, 1: 20.0, 2: 2.0, 4: 2.0, 5: 4.0, 9: 500.0}
    found = ratio_interval(base, other)
    assert found.middle == pytest.approx(2.0)
    assert found.low == pytest.approx(2.0) == found.high
    assert ratio_interval({0: 1.0}, {0: 1.0}) is None


def test_unpaired_ratios_take_the_worst_of_both_intervals():
    assert ratio_of_intervals(Interval(2, 1, 4), Interval(4, 3, 8)) == Interval(2, 0.75, 8)


@pytest.mark.parametrize(("q", "n"), LEAST_SAMPLES.items())
def test_a_percentile_needs_enough_samples_to_be_bounded(q, n):
    assert q**n <= 0.05 < q ** (n - 1)
    assert percentile(list(range(n - 1)), q) is None
    assert percentile(list(range(n)), q) == math.ceil(q * n) - 1
