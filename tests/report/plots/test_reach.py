"""The panels of a race."""

from __future__ import annotations

from mlcv_bench import race
from mlcv_bench.report.plots.race_data import reach_of, traces_of


def test_the_axis_of_steps_ends_behind_the_last_run_on_its_way():
    # Gradient descent arrives; Adam at its default rate is on its way when the steps are over.
    found = race("sphere", ["sgd:lr=0.01"], protocols=("default",))
    hit = found.results[0].last_exit
    assert reach_of(found, "default", traces_of(found, "default")) == -(-115 * hit // 100)
    both = race("sphere", ["sgd:lr=0.01", "adam"], protocols=("default",))
    assert both.results[1].outcome == "budget"
    assert reach_of(both, "default", traces_of(both, "default")) == 1000
