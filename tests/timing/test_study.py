from __future__ import annotations

from dataclasses import replace

import pytest

from mlcv_bench.architectures.request import parse_inputs
from mlcv_bench.errors import UsageError
from mlcv_bench.timing.request import Cell, CellCost, Facts
from mlcv_bench.timing.sampling import Plan
from mlcv_bench.timing.study import COLUMNS, Journal, Timing, estimate_unloaded, reason_of, time_cells
from mlcv_bench.trials import NotApplicableError
from tests.timing.fakes import LOUD, QUIET, FakeWorkload

PLAN = Plan(seconds=10)


def timing(name, **settings):
    return Timing(Cell(name, **{"input": (3, 8, 8), **settings}), CellCost(1000, 10**9, 10**8), PLAN)


class Opener:
    """Opens fake workloads by the cell's name; an exception in its place is raised."""

    def __init__(self, **known):
        self.known, self.opened = known, []

    def __call__(self, cell):
        found = self.known[cell.architecture]
        self.opened.append(cell.architecture)
        if isinstance(found, Exception):
            raise found
        return found, Facts(1e-6, 1e-5, 0.2, allocated_bytes=2**20)


def test_a_finished_cell_has_the_contracts_columns_first():
    one = timing("a", batch=4)
    time_cells([one], PLAN, open_cell=Opener(a=FakeWorkload(0.1, calls=5)))
    row = one.row()
    assert tuple(row)[: len(COLUMNS)] == COLUMNS
    expected = {"status": "done", "median_s": 0.1, "ci_low_s": 0.1, "blocks": 8, "samples": 40, "contention": "none"}
    assert expected.items() <= row.items()
    assert row["images_per_s"] == pytest.approx(40)
    assert row["gflops_per_s"] == pytest.approx(20), "2 x MACs / median"
    assert row["p90_s"] == 0.1
    assert row["p95_s"] is None, "40 samples cannot bound it"
    assert row["requested_batch"] == row["actual_batch"] == 4


def test_energy_and_throughput_count_the_same_images():
    one = timing("a", batch=3, input=parse_inputs(["tokens:int64:2x6"])[1])
    time_cells([one], PLAN, open_cell=Opener(a=FakeWorkload(0.1, contention=replace(QUIET, power_w=30.0))))
    row = one.row()
    assert row["images_per_s"] == pytest.approx(60)
    assert row["joules_per_image"] == pytest.approx(0.5)
    assert row["images_per_joule"] == pytest.approx(2)


def test_out_of_memory_is_a_row_that_suggests_a_smaller_batch():
    class OutOfMemoryError(RuntimeError):
        pass

    large, good = timing("large", batch=64), timing("good")
    time_cells([large, good], PLAN, open_cell=Opener(large=OutOfMemoryError("no"), good=FakeWorkload(0.1)))
    assert (large.status, large.reason) == ("failed", "out of memory at batch 64; try --batch 32")
    assert large.row()["actual_batch"] is None
    assert good.status == "done"


def test_an_ordinary_error_is_not_taken_for_memory():
    one = timing("a", batch=64)
    time_cells([one], PLAN, open_cell=Opener(a=RuntimeError("CUDA out of memory, it seems\nmore")))
    assert one.reason.startswith("RuntimeError: CUDA out of memory, it seems; it failed in ")


def test_what_does_not_apply_is_skipped_and_what_breaks_on_the_way_is_failed():
    skipped, broken = timing("skipped"), timing("broken")
    opener = Opener(skipped=NotApplicableError("no backward pass"), broken=FakeWorkload(0.1, fail_at=4))
    time_cells([skipped, broken], PLAN, open_cell=opener)
    assert (skipped.status, skipped.reason) == ("skipped", "no backward pass")
    assert (broken.status, broken.reason.partition(";")[0]) == ("failed", "RuntimeError: boom")
    assert broken.row()["median_s"] is None


def test_what_is_refused_for_every_cell_ends_the_run():
    wrong = UsageError("wrong")
    with pytest.raises(UsageError, match="wrong"):
        time_cells([timing("a"), timing("b")], PLAN, open_cell=Opener(a=wrong, b=wrong))


@pytest.mark.parametrize("names", [("refused", "timed"), ("timed", "refused")])
def test_what_is_refused_for_one_cell_costs_no_other_row(names):
    timings = {name: timing(name) for name in names}
    told = []

    class Watch(Journal):
        def ended(self, timing):
            told.append(timing.cell.architecture)

    opener = Opener(refused=UsageError("--weights x do not fit"), timed=FakeWorkload(0.1))
    time_cells(list(timings.values()), PLAN, open_cell=opener, journals=[Watch()])
    refused, timed = timings["refused"], timings["timed"]
    assert (refused.status, refused.reason) == ("failed", "--weights x do not fit")
    assert (timed.status, timed.row()["median_s"]) == ("done", pytest.approx(0.1))
    assert told == ["timed"]  # a resumed run tries the other once more


def test_cells_that_do_not_fit_together_are_timed_in_groups_and_closed():
    cells = {name: FakeWorkload(0.1) for name in "abcde"}
    opener = Opener(**cells)
    order = []

    class Watch(Journal):
        def prepared(self, timing):
            order.append(timing.cell.architecture)

        def ended(self, timing):
            order.append(timing.cell.architecture.upper())

    def fits():
        return sum(name in opener.opened and not cell.closed for name, cell in cells.items()) < 2

    timings = [timing(name) for name in "abcde"]
    time_cells(timings, PLAN, open_cell=opener, journals=[Watch()], fits=fits)
    assert order[:2] == ["a", "b"]
    assert sorted(order[2:4]) == ["A", "B"], "the first group ends before the next begins"
    assert all(cell.closed for cell in cells.values())
    assert all(one.status == "done" for one in timings)


def test_finished_cells_are_not_opened_again():
    done, open_ = timing("done"), timing("open")
    done.status, done.finished = "done", True
    opener = Opener(open=FakeWorkload(0.1))
    time_cells([done, open_], PLAN, open_cell=opener)
    assert opener.opened == ["open"]


def test_an_interrupt_closes_the_workloads():
    cell = FakeWorkload(0.1)

    class Impatient(Journal):
        def block(self, timing, block):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        time_cells([timing("a")], PLAN, open_cell=Opener(a=cell), journals=[Impatient()])
    assert cell.closed


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried")]
)
def test_a_processor_without_memory_names_the_batch_to_try(error):
    assert reason_of(error, Cell("a", (3, 8, 8), batch=64)) == "out of memory at batch 64; try --batch 32"


@pytest.mark.parametrize(
    ("settings", "one"),
    [({}, True), ({"runtime": "onnx"}, True), ({"threads": 2}, False), ({"device": "cuda:0"}, False)],
)
def test_one_thread_has_a_processor_clock_in_every_runtime(settings, one):
    timed = timing("a", **settings)
    time_cells([timed], PLAN, open_cell=Opener(a=FakeWorkload(0.1)))
    assert timed.sampling.has_processor_clock == one
    assert timed.row()["cpu_median_s"] == (0.1 if one else None)
    assert timed.row()["wall_median_s"] == 0.1


def test_labels_say_only_what_differs():
    cells = tuple(Cell("resnet18", (3, 8, 8), batch=batch, dtype=dtype) for batch in (1, 8) for dtype in ("float32",))
    assert cells[1].label(cells) == "resnet18, batch 8"
    assert cells[0].label((cells[0],)) == "resnet18"


def test_equal_cells_share_a_key_and_unlike_ones_do_not():
    one = Cell("a", (3, 8, 8), settings=(("form", "concat"),))
    assert one.key() == Cell.from_dict(one.as_dict()).key()
    assert one.key() != Cell("a", (3, 8, 8)).key()
    assert one == Cell.from_dict(one.as_dict())


def test_several_threads_beside_load_get_an_estimate_of_what_they_take_alone():
    """Their work alone, by threads that sleep while they wait: 0.4 s of processor time a call, shared by two."""
    beside, alone, single = (
        Timing(Cell(name, (3, 8, 8), threads=threads), CellCost(), Plan())
        for name, threads in (("beside", 2), ("alone", 2), ("single", 1))
    )
    loads = {"beside": LOUD, "alone": QUIET, "single": LOUD}
    facts = Facts(0.0, 0.0, 0.1)
    time_cells(
        [beside, alone, single],
        Plan(seconds=4),
        open_cell=lambda cell: (FakeWorkload(2.0, contention=loads[cell.request.name]), facts),
    )
    asked = []

    def isolated(cell):
        asked.append((cell.request.name, cell.wait_policy))
        return FakeWorkload(0.4), facts

    estimate_unloaded([beside, alone, single], Plan(seconds=4), isolated)
    assert asked == [("beside", "passive")]
    assert [one.row()["unloaded_s"] for one in (beside, alone, single)] == [pytest.approx(0.2), None, None]
    assert beside.row()["median_s"] == 2.0, "what was measured stays the figure"

    def refused(_cell):
        raise NotApplicableError("so it is")

    beside.unloaded_s = None
    estimate_unloaded([beside], Plan(seconds=4), refused)
    assert beside.row()["unloaded_s"] is None
