"""The knee of throughput, and the largest batch within a latency budget."""

from __future__ import annotations

import math

import pytest

from mlcv_bench.errors import UsageError
from mlcv_bench.report.timings import budget_notes, dry_report, knee_notes, timing_report, undecided_budgets
from mlcv_bench.timing import batches
from mlcv_bench.timing.batches import by_batch, knee, search_batches, search_largest, stays_below, throughput
from mlcv_bench.timing.request import Cell, CellCost, CellGrid, Facts, Networks, TimeRequest
from mlcv_bench.timing.sampling import Plan
from mlcv_bench.timing.study import Timing, time_cells
from tests.timing.fakes import LOUD, FakeWorkload

PLAN = Plan(seconds=10, minimum_calls=59)


def a_batch(batch, name="a", **settings):
    return Timing(Cell(name, (3, 8, 8), batch=batch, **settings), CellCost(), PLAN)


def measure(timings, seconds, *, calls=20, **options):
    """Time batches that take `seconds(batch)`; None finds no memory."""

    def open_cell(cell):
        if (taken := seconds(cell.batch)) is None:
            raise MemoryError
        return FakeWorkload(taken, calls=calls, **options), Facts(0, 0, 0.0)

    time_cells(timings, PLAN, open_cell=open_cell)
    return timings


@pytest.mark.parametrize(
    ("rates", "at"), [({1: 50, 2: 89, 4: 90, 8: 100}, 4), ({1: 95, 2: 100}, 1), ({1: 10, 2: 20, 4: 40}, 4), ({3: 7}, 3)]
)
def test_the_knee_is_the_smallest_batch_with_nine_tenths_of_the_best(rates, at):
    assert knee(rates) == at


def test_batches_of_one_network_are_told_from_other_settings():
    cells = [Cell("a", (3, 8, 8), batch=b, threads=t) for b in (4, 1) for t in (1, 2)]
    found = by_batch(cells)
    assert {name: [cell.batch for cell in members] for name, members in found.items()} == {
        "a, threads 1": [1, 4],
        "a, threads 2": [1, 4],
    }


def test_throughput_never_mixes_clocks():
    rows = [
        {"batch": 1, "basis": "wall", "median_s": 0.1, "wall_median_s": 0.1, "images_per_s": 10.0},
        {"batch": 4, "basis": "cpu", "median_s": 0.2, "wall_median_s": 0.4, "images_per_s": 20.0},
    ]
    assert throughput(rows) == pytest.approx({1: 10, 4: 10})
    assert throughput(rows[1:]) == pytest.approx({4: 20})


def test_the_knee_is_named_below_the_table_with_what_no_batch_showed():
    (note,) = knee_notes(measure([a_batch(1), a_batch(4), a_batch(16)], lambda batch: 0.01 * max(1, batch / 4)))
    start = "a: the knee is at batch 4, the smallest with 90% of the best throughput: 400.0 images/s"
    assert note == start + "."
    assert knee_notes(measure([a_batch(1), a_batch(1, "b")], lambda _: 0.01)) == []
    (note,) = knee_notes(measure([a_batch(1), a_batch(2)], lambda _: 0.01))
    assert note.endswith("200.0 images/s; it may grow beyond, which no larger batch was timed to show.")


@pytest.mark.parametrize("largest", [*range(20), 100, 1000])
@pytest.mark.parametrize("first", [1, 8, 64])
def test_the_search_finds_the_largest_whatever_it_starts_from(first, largest):
    asked = {}

    def fits(batch):
        assert batch >= 1
        assert batch not in asked, "nothing is asked twice"
        asked[batch] = batch <= largest
        return asked[batch]

    search_largest(first, fits)
    assert max([batch for batch, fit in asked.items() if fit], default=0) == largest
    assert len(asked) <= 2 + 2 * math.log2(max(first, largest, 1) + 1)


def test_a_search_ends_where_nothing_is_known():
    asked = []
    search_largest(4, asked.append)
    assert asked == [4]


@pytest.mark.parametrize("memory", [math.inf, 5])
def test_the_largest_batch_within_a_budget_is_found_from_one(monkeypatch, memory):
    """3 ms an image: 6 take 18 ms, and 7 take 21."""
    monkeypatch.setattr(batches, "cost_of", lambda _cell: CellCost())

    def seconds(batch):
        return 0.003 * batch if batch <= memory else None

    timings = measure([a_batch(1)], seconds)
    search_batches(timings, 0.02, PLAN, lambda new: measure(new, seconds))
    (note,) = budget_notes(timings, 0.02)
    best = min(6, memory)
    taken = f"{3 * best:.3f}"
    assert note == f"a: batch {best} is the largest timed whose p95 stays below 20 ms: {taken} ms ({taken} .. {taken})."
    assert [one.cell.batch for one in timings] == [1, 2, 4, *((6, 7, 8) if memory > 6 else (5, 6, 8))]
    assert undecided_budgets(timings, 0.02) == []


def test_a_dry_run_names_the_batches_that_a_budget_may_lead_to():
    (note,) = dry_report([a_batch(8)], PLAN, 0.02).notes
    start, _, rest = note.partition(" and so on while the p95 stays below 20 ms, or ")
    assert start == "a: after batch 8, batches 16, 32, 64, 128"
    assert rest.startswith("4, 2, 1 while it does not, then those between by halving")
    assert "or" not in dry_report([a_batch(1)], PLAN, 0.02).notes[0].split()
    assert dry_report([a_batch(1), a_batch(2)], PLAN, 0.02).notes == dry_report([a_batch(1)], PLAN).notes == []


def test_of_several_batches_none_is_added_and_none_may_fit():
    timings = measure([a_batch(2), a_batch(4)], lambda batch: 0.02 * batch)
    search_batches(timings, 0.02, PLAN, pytest.fail)
    assert budget_notes(timings, 0.02) == ["a: no batch timed has a p95 that stays below 20 ms; the smallest was 2."]
    assert "batch 2 is the largest" in budget_notes(timings, 0.05)[0]


def test_a_p95_that_cannot_be_bounded_is_said():
    few = measure([a_batch(1)], lambda _: 2.0, calls=1)
    assert stays_below(few[0].row(), 0.5) is False, "every call is above, however few they are"
    assert stays_below(few[0].row(), 4.0) is None
    *_, said = timing_report(few, PLAN, latency_budget_s=4.0).warnings
    assert "the p95 of batch 1 cannot be held against 4000 ms, since 5 calls do not bound it; give more" in said
    loaded = measure([a_batch(1)], lambda _: 0.01, contention=LOUD)
    (said,) = undecided_budgets(loaded, 0.02)
    assert said.endswith("cannot be held against 20 ms, having met other load (preempted); stop what else runs")


def test_load_may_make_a_batch_too_slow_and_never_fast_enough():
    loaded = measure([a_batch(1, threads=2)], lambda _: 0.03, contention=LOUD)
    assert [stays_below(loaded[0].row(), budget_s) for budget_s in (0.02, 0.04)] == [None, True]
    alone = measure([a_batch(1)], lambda _: 0.03, contention=LOUD)
    assert [stays_below(alone[0].row(), budget_s) for budget_s in (0.02, 0.04)] == [False, None], "by processor time"


def test_a_cell_with_a_budget_goes_on_until_its_percentile_is_bounded():
    (one,) = measure([a_batch(1)], lambda _: 0.05, calls=5)
    row = one.row()
    assert row["samples"] >= 59 > 8 * 5
    assert (row["p95_low_s"], row["p95_s"], row["p95_high_s"], row["p50_s"]) == (0.05,) * 4
    assert row["p99_s"] is row["p99_low_s"] is row["p99_high_s"] is None


@pytest.mark.parametrize(
    ("budget_s", "words"), [(1.0, r"59 passes .* give --seconds 85"), (0.0, "above 0"), (math.inf, "finite")]
)
def test_a_budget_that_cannot_be_answered_is_refused_before_anything_is_timed(budget_s, words):
    grid = CellGrid(Networks(("resnet18",)))
    with pytest.raises(UsageError, match=words):
        TimeRequest(grid, latency_budget_s=budget_s).check()
    TimeRequest(grid, seconds=85, latency_budget_s=1.0).check()
