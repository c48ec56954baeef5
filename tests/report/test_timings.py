from __future__ import annotations

import io
import json
import random
from dataclasses import replace

import pytest

from mlcv_bench.environment import capture
from mlcv_bench.report.formats.delimited import to_csv
from mlcv_bench.report.formats.json_text import to_json_document
from mlcv_bench.report.formats.terminal import print_report
from mlcv_bench.report.plots.timings import draw
from mlcv_bench.report.timings import dry_report, inconclusive, speed_text, timing_report
from mlcv_bench.statistics import Interval
from mlcv_bench.timing.contention import Contention
from mlcv_bench.timing.forward import prepare
from mlcv_bench.timing.machine import Peaks
from mlcv_bench.timing.request import Cell, CellCost, Facts
from mlcv_bench.timing.sampling import Plan
from mlcv_bench.timing.study import COLUMNS, Timing, time_cells
from tests.cases.timed import Base
from tests.timing.fakes import LOUD, FakeClock, FakeLedger, FakeWorkload

PLAN = Plan(seconds=10)
PEAKS = [Peaks("cpu", "float32", 1, 100e9, 10e9)]


class OutOfMemoryError(RuntimeError):
    pass


def noisy(seconds, spread, seed):
    chance = random.Random(seed)
    return [seconds * chance.lognormvariate(0, spread) for _ in range(500)]


def measured():
    cells = {
        "resnet50": (FakeWorkload(noisy(0.1, 0.003, 1), calls=5), CellCost(25_557_032, 4_089_184_256, 150_000_000)),
        "resnext50_32x4d": (
            FakeWorkload(noisy(0.12, 0.003, 2), calls=5),
            CellCost(25_028_904, 4_230_479_872, 160_000_000),
        ),
        "resnet34": (FakeWorkload(noisy(0.1, 0.01, 3), calls=5), CellCost(21_797_672, 3_663_761_408, 120_000_000)),
        "vgg11": (FakeWorkload(noisy(0.2, 0.2, 4), contention=LOUD), CellCost(132_863_336, 7_609_090_048, 560_000_000)),
        "vgg19": (OutOfMemoryError(), CellCost(143_667_240, 19_632_062_464, 700_000_000)),
    }

    def open_cell(cell):
        found = cells[cell.architecture][0]
        if isinstance(found, Exception):
            raise found
        return found, Facts(1e-6, 1e-5, 0.2, allocated_bytes=100 * 2**20)

    timings = [Timing(Cell(name, (3, 224, 224), batch=8), work, PLAN) for name, (_, work) in cells.items()]
    time_cells(timings, PLAN, open_cell=open_cell)
    return timings


@pytest.fixture(scope="module")
def timings():
    return measured()


def test_the_table_reads_as_agreed(timings, golden):
    stream = io.StringIO()
    print_report(timing_report(timings, PLAN, peaks=PEAKS), stream, 200)
    golden("time-200.txt", stream.getvalue())


def test_a_narrow_terminal_keeps_the_name_beside_every_part(timings):
    stream = io.StringIO()
    print_report(timing_report(timings, PLAN), stream, 60)
    assert all(len(line) <= 60 for line in stream.getvalue().splitlines())


def test_csv_has_the_contracts_columns_first(timings):
    header = to_csv(timing_report(timings, PLAN)).splitlines()[0]
    assert header.startswith(",".join(COLUMNS) + ",")


def test_the_saved_document_carries_every_sample(timings):
    report = timing_report(timings, PLAN, machine={"governor": "performance"})
    document = json.loads(to_json_document(report, capture(command="mlcv-bench time resnet50")))
    blocks = document["details"]["cells"][timings[0].cell.key()]["blocks"]
    assert sum(len(block["calls_s"]) for block in blocks) >= document["runs"][0]["samples"]
    assert document["details"]["machine"]["governor"] == "performance"


@pytest.mark.parametrize(
    ("speed", "text"),
    [(Interval(1.5, 1.4, 1.6), "1.50 (1.40 .. 1.60)"), (Interval(1.01, 0.98, 1.03), "≈1.01 (0.98 .. 1.03)")],
)
def test_a_speed_whose_interval_spans_one_is_only_about_equal(speed, text):
    assert speed_text(speed) == text


def test_warnings_name_the_row_and_what_to_do(timings):
    report = timing_report(timings, PLAN, peaks=[Peaks("cpu", "float32", 1, 1e9, 10e9)])
    text = "\n".join(report.warnings)
    assert "vgg11: measured beside other load (preempted)" in text
    assert "vgg19: out of memory at batch 8; try --batch 4" in text
    assert "resnet50: 82 GFLOP/s exceed the measured peak of 1" in text
    assert inconclusive(timings, PLAN)
    assert not inconclusive(timings[:1], PLAN)


def test_rows_of_unlike_batches_are_not_compared():
    pair = [Timing(Cell("a", (3, 8, 8), batch=batch), CellCost(), PLAN) for batch in (1, 8)]
    time_cells(pair, PLAN, open_cell=lambda _cell: (FakeWorkload(0.1), Facts(0, 0, 0)))
    rows = timing_report(pair, PLAN).tables[0].rows
    assert [row["speed"] for row in rows] == ["1", "1"]


def test_a_dry_run_predicts_and_measures_nothing():
    pair = [Timing(Cell("a", (3, 8, 8), batch=batch), CellCost(macs=10**9), PLAN) for batch in (1, 8)]
    pair[0].finished = True
    report = dry_report(pair, PLAN)
    assert [run["predicted_s"] for run in report.runs] == [0.0, 10]
    assert [run["least_passes"] for run in report.runs] == [0, 8]
    assert report.tables[0].title == "2 cells, at most 10 s of timing, or 4 passes a cell if those take longer"
    assert "a pass of 2 s costs 16 s a cell" in report.tables[0].caption


def test_a_dry_run_shows_macs_in_a_unit_that_they_fill():
    small = [Timing(Cell(name, (16,)), CellCost(macs=macs), PLAN) for name, macs in (("a", 320), ("b", 11_360))]
    report = dry_report(small, PLAN)
    (macs,) = (column for column in report.tables[0].columns if column.key == "macs")
    assert macs.unit == "k"
    assert [macs.text(row["macs"]) for row in report.tables[0].rows] == ["0.320", "11.360"]
    assert [run["macs"] for run in report.runs] == [320, 11_360]


def test_a_dry_run_promises_the_passes_that_are_run():
    """Of a network whose pass takes longer than --seconds: those that check it, those that warm it up, those timed."""
    clock, passes = FakeClock(), []

    class Slow(Base):
        def forward(self, x):
            passes.append(clock.advance(2.0))
            return super().forward(x)

    plan = Plan(seconds=1)
    one = Timing(Cell("slow", (3, 8, 8)), CellCost(), plan)

    def open_cell(cell):
        workload, facts = prepare(cell, Slow)
        workload.clock, workload.ledger = clock, FakeLedger()
        return workload, facts

    (promised,) = dry_report([one], plan).runs
    time_cells([one], plan, open_cell=open_cell)
    assert one.status == "done"
    assert len(passes) == promised["least_passes"]


def test_the_saved_environment_names_the_accelerator():
    """A `cuda:0` here and one elsewhere may be very different things."""
    machine = {"gpus": [{"name": "NVIDIA H200"}, {"name": "NVIDIA L4"}], "driver": "570.1"}

    def device_of(*devices, machine=machine):
        timings = [Timing(Cell("resnet18", (3, 8, 8), device=device), CellCost(), PLAN) for device in devices]
        return timing_report(timings, PLAN, machine=machine).device

    assert device_of("cpu") is None
    assert device_of("cpu", "cuda:1") == "NVIDIA L4, driver 570.1"
    assert device_of("cuda:0", "cuda:1") == "NVIDIA H200, NVIDIA L4, driver 570.1"
    assert device_of("mps", machine={"gpus": [], "driver": None}) == "mps"


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_pictures_are_drawn_whatever_was_measured(timings, tmp_path, suffix):
    draw(timing_report(timings, PLAN, peaks=PEAKS), tmp_path / f"all{suffix}")
    draw(timing_report(timings[-1:], PLAN), tmp_path / f"none{suffix}")
    batches = [Timing(Cell("a", (3, 8, 8), batch=batch), CellCost(1, batch, 1), PLAN) for batch in (1, 8)]
    time_cells(batches, PLAN, open_cell=lambda cell: (FakeWorkload(0.01 * cell.batch**0.8), Facts(0, 0, 0)))
    draw(timing_report(batches, PLAN), tmp_path / f"batches{suffix}")
    assert all(path.stat().st_size > 2000 for path in tmp_path.iterdir())


class Blocks(FakeWorkload):
    """Blocks that computed and slept for a share of their time, and waited for a core during the rest."""

    def __init__(self, seconds, cpu=1.0, idle=0.0, **options):
        super().__init__(seconds, **options)
        self.cpu, self.idle = cpu, idle

    def block(self, seconds):
        block = super().block(seconds)
        share = sum(block.calls_s)
        return replace(block, cpu_s=share * self.cpu, idle_s=None if self.idle is None else share * self.idle)


class ToldLater(Blocks):
    """The first block is from a store of an older version, which did not ask."""

    def block(self, seconds):
        block = super().block(seconds)
        return block if self.blocks > 1 else replace(block, idle_s=None)


def reported(peaks=(), **workloads):
    """Time one workload a name; a name that ends with a number has as many threads."""
    timings = [
        Timing(
            Cell(name, (3, 8, 8), threads=int(name[-1]) if name[-1].isdigit() else 1), CellCost(1, 10**9, 10**8), PLAN
        )
        for name in workloads
    ]
    time_cells(timings, PLAN, open_cell=lambda cell: (workloads[cell.architecture], Facts(0, 0, 0)))
    return timing_report(timings, PLAN, peaks=peaks)


def test_a_network_that_sleeps_is_as_slow_as_the_wall_clock_says_and_that_is_said():
    report = reported(sleeps=Blocks(2.0, 0.0002, 0.9998), busy=Blocks(0.1))
    assert [(run["median_s"], run["basis"], run["cpu_median_s"]) for run in report.runs] == [
        (2.0, "wall", None),
        (0.1, "wall", 0.1),
    ]
    (note,) = report.notes
    assert note.startswith("sleeps slept, or waited for a file, a process or a thread, during 100% of its time: its ")
    assert note.endswith("figure is the wall clock's (basis wall).")


@pytest.mark.parametrize(
    ("workload", "words"),
    [
        (Blocks(0.1, 1.9, -0.9), "computed in several threads at once, although --threads is 1"),
        (Blocks(0.1, 0.5, None), None),
        (ToldLater(0.1), None),
        (Blocks(0.1, 0.5, 0.0, contention=LOUD), None),
    ],
)
def test_only_what_the_kernel_tells_is_said(workload, words):
    notes = reported(one=workload).notes
    assert (notes == []) if words is None else (words in notes[0])


def test_rows_of_unlike_clocks_show_which_and_their_speed_and_share_rest_on_one():
    """Beside load the first row waits for a core during 0.3 of 0.4 s; two threads take 0.5 s by their only clock."""
    roofs = [Peaks("cpu", "float32", 1, 25e9, 1e9), Peaks("cpu", "float32", 1, 100e9, 4e9, "cpu")]
    report = reported(
        [*roofs, Peaks("cpu", "float32", 2, 50e9, 2e9)],
        one=Blocks(0.4, 0.25, contention=LOUD),
        of2=Blocks(0.5, 0.9, None, contention=LOUD),
        quiet=Blocks(0.1),
    )
    table = report.tables[0]
    assert [row["basis"] for row in table.rows] == ["cpu", "wall", "wall"]
    assert "basis" in [column.key for column in table.columns]
    assert [row["speed"] for row in table.rows] == ["1", "0.80 (0.80 .. 0.80)", "≈1.00 (1.00 .. 1.00)"]
    assert [run["peak_share"] for run in report.runs] == pytest.approx([20 / 100, 4 / 50, 20 / 25])
    assert [run["median_s"] for run in report.runs] == pytest.approx([0.1, 0.5, 0.1])
    assert [run["wall_median_s"] for run in report.runs] == pytest.approx([0.4, 0.5, 0.1])
    assert [peak["basis"] for peak in report.details["peaks"]] == ["wall", "cpu", "wall"]


def test_where_all_rows_rest_on_the_wall_clock_no_column_says_so():
    report = reported([Peaks("cpu", "float32", 1, 100e9, 10e9, "cpu"), *PEAKS], one=Blocks(0.1))
    assert "basis" not in [column.key for column in report.tables[0].columns]
    assert "basis" in to_csv(report).splitlines()[0].split(",")
    assert [peak["basis"] for peak in report.details["peaks"]] == ["wall"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"threads": 2}, "give fewer --threads or --wait-policy passive; --threads 1 is judged by its processor time"),
        ({"threads": 2, "wait_policy": "passive"}, "give fewer --threads; --threads 1 is judged by its processor time"),
        ({}, "stop what else runs, or compare with `mlcv-bench ab`"),
    ],
)
def test_a_busy_row_says_in_one_line_what_would_help(settings, words):
    one = Timing(Cell("a", (3, 8, 8), **settings), CellCost(), PLAN)
    time_cells([one], PLAN, open_cell=lambda _cell: (FakeWorkload(0.1, contention=LOUD), Facts(0, 0, 0)))
    (said,) = timing_report([one], PLAN).warnings
    assert words in said
    assert "\n" not in said


def test_what_the_last_level_cache_holds_is_said_once_where_a_network_fits():
    work = FakeWorkload(0.1, calls=5)
    cells = [Cell("small", (3, 8, 8)), Cell("edge", (3, 8, 8)), Cell("large", (3, 8, 8))]
    cells += [Cell("cold", (3, 8, 8), cold_cache=True)]
    sizes = (1000, 8 * 2**20, 8 * 2**20 + 1, 1000)
    pairs = zip(cells, sizes, strict=True)
    found = [Timing(cell, CellCost(moved_bytes=size), PLAN) for cell, size in pairs]
    time_cells(found, PLAN, open_cell=lambda _cell: (work, Facts(0, 0, 0)))
    (note,) = [note for note in timing_report(found, PLAN, machine={"cache_bytes": 8 * 2**20}).notes if "cache" in note]
    assert note.startswith("The last-level cache of cpu (8 MiB) can hold all weights and activations of small")
    assert "edge" in note
    assert "large" not in note
    assert "; cold" not in note
    assert not timing_report(found, PLAN).notes, "where nobody tells the cache's size"


def test_a_device_of_which_nobody_tells_the_neighbours_is_named():
    found = []
    for device, others in (("cuda:0", None), ("cuda:1", 0.0)):
        quiet = Contention(1.0, 0.0, gpu_others=others)
        one = Timing(Cell("a", (3, 8, 8), device=device), CellCost(), PLAN)
        time_cells([one], PLAN, open_cell=lambda _, quiet=quiet: (FakeWorkload(0.1, contention=quiet), Facts(0, 0, 0)))
        found.append(one)
    (note,) = timing_report(found, PLAN).notes
    assert note.startswith("cuda:0: nobody tells whether another process computes there")
