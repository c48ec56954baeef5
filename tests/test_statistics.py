from __future__ import annotations

import math
import random
import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, sem, t

from mlcv_bench.statistics import (
    Interval,
    fewest_for_percentile,
    mean_interval,
    median_interval,
    percentile_interval,
    ratio_interval,
    ratio_of_intervals,
)


@pytest.mark.parametrize("n", range(3, 41))
def test_the_medians_interval_keeps_its_promise_for_any_distribution(n):
    found = median_interval([float(i) for i in range(n)])
    if not found.bounded:
        assert n < 6
        assert binom.cdf(n - 1, n, 0.5) - binom.cdf(0, n, 0.5) < 0.95, "even the ends of the sample would not do"
        return
    rank = int(found.low) + 1
    # The interval misses when fewer than `rank` values lie below the true median, or above it.
    assert 1 - 2 * binom.cdf(rank - 1, n, 0.5) >= 0.95
    assert 1 - 2 * binom.cdf(rank, n, 0.5) < 0.95, "no narrower pair of ranks keeps it"


@given(st.lists(st.floats(-1000, 1000) | st.just(math.inf), min_size=1, max_size=40))
@settings(deadline=None, max_examples=60)
def test_the_mirrored_sample_has_the_mirrored_interval(values):
    found, mirrored = median_interval(values), median_interval([-value for value in values])
    assert (mirrored.low, mirrored.high) == (-found.high, -found.low)
    assert found.low <= found.high


def test_the_interval_of_many_values_is_that_of_the_normal_limit():
    found = median_interval([float(i) for i in range(100_001)])
    assert found.low == pytest.approx(50_000 - 1.96 * math.sqrt(100_001) / 2, abs=2)


@pytest.mark.parametrize("n", [2, 3, 7, 9, 12])
def test_the_means_interval_is_students(n):
    chance = random.Random(n)
    values = [chance.gauss(1, 1) for _ in range(n)]
    low, high = t.interval(0.95, n - 1, statistics.fmean(values), sem(values))
    assert mean_interval(values) == Interval(statistics.fmean(values), pytest.approx(low), pytest.approx(high))


def test_one_value_says_nothing_about_noise():
    assert median_interval([3.0]) == mean_interval([3.0]) == Interval(3.0, -math.inf, math.inf)


def test_ratios_come_from_shared_rounds_alone():
    base = {0: 1.0, 1: 10.0, 2: 1.0, 3: 5.0, 4: 1.0, 5: 2.0, 6: 3.0}
    other = {0: 2.0, 1: 20.0, 2: 2.0, 4: 2.0, 5: 4.0, 6: 6.0, 9: 500.0}
    found = ratio_interval(base, other)
    assert found.middle == pytest.approx(2.0)
    assert found.low == pytest.approx(2.0) == found.high
    assert ratio_interval({0: 1.0}, {0: 1.0}) is None


def test_unpaired_ratios_take_the_worst_of_both_intervals():
    assert ratio_of_intervals(Interval(2, 1, 4), Interval(4, 3, 8)) == Interval(2, 0.75, 8)
    unknown = ratio_of_intervals(Interval(2, 1, 4), Interval(4, -math.inf, math.inf))
    assert unknown == Interval(2, -math.inf, math.inf)
    assert unknown.inverse() == Interval(0.5, -math.inf, math.inf)
    assert Interval(2, 1, 4).inverse() == Interval(0.5, 0.25, 1)


@pytest.mark.parametrize(("q", "n"), [(0.90, 29), (0.95, 59), (0.99, 299)])
def test_a_percentile_needs_enough_samples_to_be_bounded(q, n):
    assert fewest_for_percentile(q) == n
    assert q**n <= 0.05 < q ** (n - 1)
    assert percentile_interval(list(range(n - 1)), q) is None
    found = percentile_interval(list(range(n)), q)
    assert (found.middle, found.high) == (math.ceil(q * n) - 1, n - 1)


@pytest.mark.parametrize("q", [0.5, 0.9, 0.95, 0.99])
@pytest.mark.parametrize("n", [6, 29, 36, 59, 100, 299, 368, 1000])
def test_a_percentiles_interval_keeps_its_promise_for_any_distribution(q, n):
    found = percentile_interval(list(range(n)), q)
    if found is None:
        assert q**n > 0.05
        return
    # Value k lies below the quantile when more than k values do: the interval holds it for counts low + 1 to high.
    assert binom.cdf(found.high, n, q) - binom.cdf(found.low, n, q) >= 0.95 - 1e-12
    assert found.low <= found.middle <= found.high
    if q == 0.5:
        assert (found.low, found.high) == (median_interval(range(n)).low, median_interval(range(n)).high)
