from __future__ import annotations

import json

import pytest

from mlcv_bench.errors import BaselineError, UsageError
from mlcv_bench.execution.store import Store
from mlcv_bench.timing.request import Cell, CellCost, Facts
from mlcv_bench.timing.sampling import Plan
from mlcv_bench.timing.study import Commentary, StoreJournal, Timing, recall, time_cells
from tests.timing.fakes import FakeWorkload

PLAN = Plan(seconds=10)
NAMES = ("a", "b", "c")


def timings():
    return [Timing(Cell(name, (3, 8, 8)), CellCost(1000, 10**6, 10**6), PLAN) for name in NAMES]


def opener(log=None):
    def open_cell(cell):
        return FakeWorkload(0.1, log=log, name=cell.architecture), Facts(0.0, 0.0, 0.1)

    return open_cell


def measure(path, *, resume, log=None):
    found = timings()
    with Store(path, "time", resume=resume) as store:
        recall(store, found)
        time_cells(found, PLAN, open_cell=opener(log), journals=[StoreJournal(store)])
    return found


def test_every_block_and_row_is_on_disk(tmp_path):
    found = measure(tmp_path / "x.jsonl", resume=False)
    lines = [json.loads(line) for line in (tmp_path / "x.jsonl").read_text().splitlines()]
    kinds = [line["kind"] for line in lines]
    assert kinds.count("block") == 24
    assert kinds.count("row") == 3
    assert kinds[0] == "run"
    assert [line["row"] for line in lines if line["kind"] == "row" and line["row"]["architecture"] == "b"] == [
        json.loads(json.dumps(found[1].row()))
    ]


@pytest.mark.parametrize("cut", [0, 1, 7, 900, 1500, 4000, 6000, 8000])
def test_a_run_cut_off_anywhere_is_continued_without_loss_or_repetition(tmp_path, cut):
    path = tmp_path / "x.jsonl"
    measure(path, resume=False)
    whole = path.read_bytes()
    torn = whole[: min(cut, len(whole) - 1)]
    path.write_bytes(torn)
    kept = torn[: torn.rfind(b"\n") + 1]
    log = []
    found = measure(path, resume=True, log=log)
    after = path.read_bytes()
    assert after.startswith(kept), "what was written stays, byte for byte"
    rows = [json.loads(line)["row"]["architecture"] for line in after.splitlines() if b'"kind":"row"' in line]
    assert sorted(rows) == list(NAMES), "every cell once"
    known = sum(b'"kind":"block"' in line for line in kept.splitlines())
    assert len(log) == 24 - known, "no block is measured twice"
    assert all(one.status == "done" for one in found)


def test_a_store_that_is_too_large_is_not_read(tmp_path):
    path = tmp_path / "x.jsonl"
    with path.open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(UsageError, match="is larger than 268,435,456 bytes; choose another --store"):
        Store(path, "time", resume=True)
    assert path.stat().st_size == 2**40


def test_a_finished_store_measures_nothing(tmp_path):
    path, log = tmp_path / "x.jsonl", []
    first = measure(path, resume=False)
    again = measure(path, resume=True, log=log)
    assert not log
    assert [one.row() for one in again] == [one.row() for one in first]


def test_groups_never_share_a_round():
    """Cells that were not alive together were not timed in the same minute, whatever the numbers of their blocks."""
    found = timings()
    time_cells(found, PLAN, open_cell=opener(), fits=lambda: False)
    rounds = [{block.round for block in one.sampling.blocks} for one in found]
    assert not rounds[0] & rounds[1]
    assert not rounds[1] & rounds[2]


def test_a_failed_cell_stays_failed(tmp_path):
    def broken(cell):
        raise RuntimeError("boom")

    found = timings()
    with Store(tmp_path / "x.jsonl", "time", resume=False) as store:
        time_cells(found, PLAN, open_cell=broken, journals=[StoreJournal(store)])
    again = timings()
    with Store(tmp_path / "x.jsonl", "time", resume=True) as store:
        recall(store, again)
    assert [one.finished for one in again] == [True] * 3
    assert again[0].reason.startswith("RuntimeError: boom; it failed in ")


def test_an_existing_store_is_not_overwritten(tmp_path):
    measure(tmp_path / "x.jsonl", resume=False)
    with pytest.raises(UsageError, match="--resume"):
        Store(tmp_path / "x.jsonl", "time", resume=False)


def test_two_runs_do_not_share_a_store(tmp_path):
    with Store(tmp_path / "x.jsonl", "time", resume=False), pytest.raises(UsageError, match="in use"):
        Store(tmp_path / "x.jsonl", "time", resume=True)


@pytest.mark.parametrize(
    "text", ["{}\n", '{"schema": "other"}\n', "[1]\n", "no json\n{}\n", "one line", "two\nlines", "{}\n{"]
)
def test_other_files_are_refused_and_stay_as_they_were(tmp_path, text):
    (tmp_path / "x.jsonl").write_text(text)
    with pytest.raises(UsageError):
        Store(tmp_path / "x.jsonl", "time", resume=True)
    assert (tmp_path / "x.jsonl").read_text() == text


def test_a_full_disk_is_said(tmp_path, monkeypatch):
    def full(_handle):
        raise OSError(28, "No space left on device")

    with Store(tmp_path / "x.jsonl", "time", resume=False) as store:
        monkeypatch.setattr("mlcv_bench.execution.store.os.fsync", full)
        with pytest.raises(UsageError, match="No space left on device; make room, then --resume"):
            store.append("row", "a", {})


def test_another_machine_is_refused(tmp_path):
    path = tmp_path / "x.jsonl"
    measure(path, resume=False)
    head, rest = path.read_text().split("\n", 1)
    header = json.loads(head)
    header["environment"]["cpu"] = "another one"
    path.write_text(json.dumps(header) + "\n" + rest)
    with pytest.raises(BaselineError, match="another cpu"):
        Store(path, "time", resume=True)


def test_a_place_that_cannot_be_written_is_said(tmp_path):
    with pytest.raises(UsageError, match="cannot be opened"):
        Store(tmp_path / "missing" / "x.jsonl", "time", resume=False)


def test_the_commentary_gives_the_estimate_and_the_cells_that_are_finished():
    lines = []
    time_cells(timings(), PLAN, open_cell=opener(), journals=[Commentary(3, 10, lambda *line: lines.append(line))])
    assert any("100.000 ms ±0.0%" in text for text, _ in lines)
    assert {done for _, done in lines} == {0, 1, 2}


@pytest.mark.parametrize(
    "other",
    ["NVIDIA L4, driver 570.1", "NVIDIA H200, driver 580.2", "NVIDIA H200, driver 570.1, TF32 in nothing", None],
)
def test_another_accelerator_driver_or_switch_is_refused(tmp_path, other):
    path, device = tmp_path / "x.jsonl", "NVIDIA H200, driver 570.1"
    Store(path, "time", resume=False, device=device).__exit__()
    Store(path, "time", resume=True, device=device).__exit__()
    with pytest.raises(BaselineError, match=rf"another accelerator \({device}; here {other or 'none'}\); start a new"):
        Store(path, "time", resume=True, device=other)


def test_another_setting_of_cuda_in_the_environment_is_refused(tmp_path, monkeypatch):
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE", raising=False)
    Store(tmp_path / "x.jsonl", "time", resume=False).__exit__()
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    with pytest.raises(BaselineError, match="another setting of OpenMP or CUDA"):
        Store(tmp_path / "x.jsonl", "time", resume=True)
