from __future__ import annotations

from dataclasses import replace

import pytest

from mlcv_bench.statistics import Interval
from mlcv_bench.timing.blocks import Block
from mlcv_bench.timing.sampling import Plan, Sampler, Sampling, relative
from tests.timing.fakes import LOUD, QUIET, FakeWorkload

PLAN = Plan(seconds=10, precision=0.02)


def cells_of(**seconds):
    log = []
    return {name: FakeWorkload(value, log=log, name=name) for name, value in seconds.items()}, log


def test_steady_cells_take_the_least_rounds_in_shuffled_turns():
    cells, log = cells_of(a=0.1, b=0.2, c=0.3)
    samplings = Sampler(cells, PLAN).run()
    rounds = [log[index : index + 3] for index in range(0, len(log), 3)]
    assert len(rounds) == PLAN.wanted_blocks
    assert all(sorted(turn) == ["a", "b", "c"] for turn in rounds)
    assert len({tuple(turn) for turn in rounds}) > 1, "the order changes from round to round"
    assert [block.round for block in samplings["b"].blocks] == list(range(8))


def test_the_order_comes_from_the_seed():
    logs = []
    for _ in range(2):
        cells, log = cells_of(a=0.1, b=0.2, c=0.3)
        Sampler(cells, Plan(seed=5)).run()
        logs.append(log)
    assert logs[0] == logs[1]


def test_further_rounds_go_to_the_widest():
    cells, _ = cells_of(steady=0.01, wild=[0.01, 0.02, 0.03, 0.04])
    samplings = Sampler(cells, Plan(seconds=2)).run()
    assert len(samplings["steady"].blocks) == 8
    assert len(samplings["wild"].blocks) > 50
    assert sum(one.spent() for one in samplings.values()) <= 4


def test_a_slow_cell_gets_its_fewest_blocks_even_past_the_budget():
    cells, _ = cells_of(slow=9.0)
    samplings = Sampler(cells, Plan(seconds=5)).run()
    assert len(samplings["slow"].blocks) == 3


def test_contended_blocks_are_repeated_and_set_apart():
    cell = FakeWorkload([0.3, 0.1], contention=[LOUD, QUIET])
    sampling = Sampler({"cell": cell}, PLAN).run()["cell"]
    assert sampling.contended == 8
    assert len(sampling.blocks) == 16
    assert sampling.estimate(PLAN).middle == 0.1
    assert sampling.flags(PLAN) == ()


def test_on_a_machine_that_is_never_quiet_the_blocks_count_as_they_are_and_the_row_is_flagged():
    sampling = Sampler({"cell": FakeWorkload(0.1, contention=LOUD)}, PLAN).run()["cell"]
    assert len(sampling.blocks) == 2 * PLAN.wanted_blocks, "repeated, with a cap"
    assert sampling.estimate(PLAN).middle == 0.1
    assert sampling.flags(PLAN) == ("preempted",)


def test_one_thread_that_never_has_a_core_to_itself_is_judged_by_its_processor_time():
    class Preempted(FakeWorkload):
        def block(self, seconds):
            return replace(super().block(seconds), cpu_s=0.1)

    wall = [0.1, 0.3, 0.5, 0.2, 0.9]
    known = {"one": Sampling(one_thread=True), "two": Sampling()}
    cells = {name: Preempted(wall, contention=LOUD) for name in known}
    samplings = Sampler(cells, PLAN, known=known).run()
    assert samplings["one"].basis(PLAN) == "cpu"
    assert samplings["one"].estimate(PLAN) == Interval(0.1, 0.1, 0.1)
    assert samplings["two"].basis(PLAN) == "wall"
    assert samplings["two"].estimate(PLAN).high > 0.3


def test_wall_time_counts_as_soon_as_enough_blocks_are_clean():
    sampling = Sampling([FakeWorkload(0.2).block(0) for _ in range(3)], one_thread=True)
    assert sampling.basis(PLAN) == "wall"


def test_a_failing_cell_costs_no_other():
    ended = []
    cells = {"good": FakeWorkload(0.1), "bad": FakeWorkload(0.1, fail_at=2), "worse": FakeWorkload(0.1, fail_at=0)}
    samplings = Sampler(cells, PLAN, on_end=ended.append).run()
    assert str(samplings["bad"].failure) == "boom"
    assert len(samplings["bad"].blocks) == 2
    assert len(samplings["good"].blocks) == 8
    assert sorted(ended) == ["bad", "good", "worse"], "each ends once"


def test_an_error_of_the_journal_is_no_failure_of_a_cell():
    def refuse(_key, _block):
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        Sampler({"cell": FakeWorkload(0.1)}, PLAN, on_block=refuse).run()


def test_known_blocks_are_not_measured_again():
    first = Sampler({"cell": FakeWorkload(0.1)}, PLAN).run()["cell"]
    known = Sampling(first.blocks[:5])
    cell, ended = FakeWorkload(0.1), []
    sampling = Sampler({"cell": cell}, PLAN, known={"cell": known}, on_end=ended.append).run()["cell"]
    assert cell.blocks == 3
    assert [block.round for block in sampling.blocks] == list(range(8))
    assert ended == ["cell"]


def test_a_cell_that_is_settled_already_is_neither_warmed_nor_timed():
    first = Sampler({"cell": FakeWorkload(0.1)}, PLAN).run()["cell"]
    cell, ended = FakeWorkload(0.1), []
    Sampler({"cell": cell}, PLAN, known={"cell": first}, on_end=ended.append).run()
    assert (cell.blocks, cell.warmed, ended) == (0, 0, ["cell"])


def test_a_cell_ends_before_the_others_as_soon_as_it_is_settled():
    order = []
    cells, _ = cells_of(steady=0.01, wild=[0.01, 0.02, 0.03, 0.04])
    Sampler(cells, Plan(seconds=2), on_end=order.append).run()
    assert order == ["steady", "wild"]


def test_relative_time_is_paired_by_round():
    drift = [0.1, 0.2, 0.4, 0.8, 0.1, 0.2, 0.4, 0.8]
    cells = {"a": FakeWorkload(drift), "b": FakeWorkload([2 * value for value in drift])}
    samplings = Sampler(cells, Plan(seconds=10)).run()
    found = relative(samplings["a"], samplings["b"], PLAN)
    assert found.middle == pytest.approx(2)
    assert found.low == pytest.approx(2) == found.high


@pytest.mark.parametrize(("seconds", "expected"), [(0.1, 0.02), (10, 0.25), (100, 0.5)])
def test_blocks_get_longer_with_the_budget(seconds, expected):
    assert Plan(seconds=seconds).block_s == expected


def blocks_of(wall, cpu, idle=0.0, *, contention=LOUD):
    """Return blocks of one call; where less is computed and slept than passes, it waited for a core."""
    return [
        Block(number, (wall * factor,), cpu, contention, idle_s=idle)
        for number, factor in enumerate((1.0, 1.3, 0.8, 1.1, 1.0, 0.9, 1.2, 1.0))
    ]


@pytest.mark.parametrize(
    ("wall", "cpu", "idle", "basis", "middle"),
    [
        (0.3, 0.1, 0.0, "cpu", 0.1),
        (2.0, 0.0003, 1.9997, "wall", 2.0),
        (0.3, 0.1, None, "wall", 0.3),
        (0.3, 0.6, -0.3, "wall", 0.3),
    ],
)
def test_beside_load_the_figure_leaves_out_waiting_for_a_core_and_nothing_else(wall, cpu, idle, basis, middle):
    sampling = Sampling(blocks_of(wall, cpu, idle), one_thread=True)
    assert sampling.basis(PLAN) == basis
    assert sampling.estimate(PLAN).middle == pytest.approx(middle)


EAGER_LOADED = Sampling(blocks_of(4.2, 1.0), one_thread=True)
EAGER_QUIET = Sampling(blocks_of(1.0, 1.0, contention=QUIET), one_thread=True)
TWO_THREADS = Sampling(blocks_of(5.1, 2.0))
TWO_THREADS_QUIET = Sampling(blocks_of(0.8, 2.0, contention=QUIET))
SLEEPS = Sampling(blocks_of(8.4, 0.1, 8.3), one_thread=True)


@pytest.mark.parametrize(
    ("base", "other", "ratio"),
    [
        (EAGER_LOADED, EAGER_LOADED, 1.0),
        (EAGER_LOADED, TWO_THREADS, 5.1 / 4.2),
        (TWO_THREADS, EAGER_LOADED, 4.2 / 5.1),
        (EAGER_LOADED, TWO_THREADS_QUIET, 0.8 / 4.2),
        (EAGER_LOADED, EAGER_QUIET, 1.0),
        (EAGER_LOADED, SLEEPS, 2.0),
    ],
)
def test_a_ratio_reads_both_sides_from_one_clock(base, other, ratio):
    found = relative(base, other, PLAN)
    assert found.middle == pytest.approx(ratio)
    assert found.low == pytest.approx(ratio) == found.high


def test_a_ratio_needs_blocks_on_both_sides():
    assert relative(EAGER_QUIET, Sampling(), PLAN) is None
