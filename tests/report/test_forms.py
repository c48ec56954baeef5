"""The forms of a report: CSV, JSON, Markdown, terminal."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path

import pandas as pd
import pytest

from mlcv_bench import environment
from mlcv_bench.errors import UsageError
from mlcv_bench.records import Column, Report, Table, filled, fitted
from mlcv_bench.report.emit import emit
from mlcv_bench.report.files import check_outputs, replacing, save_picture, save_text
from mlcv_bench.report.formats import PRINTED, SAVED, written
from mlcv_bench.report.formats.delimited import to_csv
from mlcv_bench.report.formats.json_text import to_json_document, to_json_rows
from mlcv_bench.report.formats.latex import to_latex
from mlcv_bench.report.formats.markdown import to_markdown
from mlcv_bench.report.formats.terminal import print_report

RUNS = [
    {"name": "a,b", "count": 12_345_678_901, "time_s": 0.1 + 0.2, "ok": True, "reason": None},
    {"name": "c|d", "count": None, "time_s": float("inf"), "ok": False, "reason": "too [big]"},
]
TABLE = Table(
    "A table",
    (
        Column("name", "name", justify="left"),
        Column("count", "count", "G", ",.2f", 1e9),
        Column("time_s", "time", "ms", ".1f", 1e-3),
        Column("reason", "why [not]", justify="left"),
    ),
    RUNS,
    "A caption that says what the columns mean and is long enough to be wrapped on a narrow terminal.",
)
REPORT = Report("example", ("name", "count", "time_s", "ok"), RUNS, [TABLE], notes=["A note."])


def lines_of(table, width):
    stream = io.StringIO()
    print_report(Report("s", ("a",), [], [table]), stream, width)
    return [line.rstrip() for line in stream.getvalue().splitlines() if line.strip()]


def test_long_names_are_folded_after_colons_and_commas_before_a_table_is_cut():
    columns = (Column("name", "name", justify="left"), Column("x", "figure"), Column("word", "end", justify="left"))
    table = Table("", columns, [{"name": "torch.optim:AdamW:lr=0.1,eps=1e-8", "x": 12, "word": "done"}])
    assert lines_of(table, 50)[-1] == "torch.optim:AdamW:lr=0.1,eps=1e-8       12   done"
    assert [line.split() for line in lines_of(table, 34)[2:]] == [
        ["torch.optim:AdamW:", "12", "done"],
        ["lr=0.1,eps=1e-8"],
    ]
    assert [line.split() for line in lines_of(table, 28)[2:]] == [
        ["torch.optim:", "12", "done"],
        ["AdamW:lr=0.1,"],
        ["eps=1e-8"],
    ]


def test_spare_columns_are_left_out_before_a_table_is_cut():
    columns = (Column("a", "name", justify="left"), Column("x", "figure"), Column("y", "another", spare=True))
    table = Table("", columns, [{"a": "resnet", "x": 1, "y": 2}])
    assert "another" in lines_of(table, 30)[0]
    narrow = lines_of(table, 20)
    assert "another" not in narrow[0]
    assert " ".join(narrow[3:]) == "Left out, as too wide: another; -o FILE.csv has them."
    assert to_csv(Report("s", ("a", "y"), [{"a": "resnet", "y": 2}], [table])) == "a,y\nresnet,2\n"


@pytest.mark.parametrize("function", sorted({*SAVED.values(), *PRINTED.values()}))
def test_every_format_writes_every_run(function):
    text = written(REPORT, function)
    assert text.endswith("\n")
    assert all(row["name"][0] in text for row in RUNS)


def test_csv_keeps_order_precision_and_emptiness():
    text = to_csv(REPORT)
    assert text.splitlines()[0] == "name,count,time_s,ok,reason"
    assert text.splitlines()[1] == '"a,b",12345678901,0.30000000000000004,true,'
    assert text.splitlines()[2] == "c|d,,inf,false,too [big]"
    frame = pd.read_csv(io.StringIO(text))
    assert frame["count"][0] == 12345678901


def test_json_rows_and_document():
    assert json.loads(to_json_rows(REPORT))[1]["time_s"] is None
    document = json.loads(to_json_document(REPORT, environment.capture(command="mlcv-bench example")))
    assert document["schema"] == "mlcv-bench/example"
    assert document["version"] == 1
    assert document["command"] == "mlcv-bench example"
    assert document["runs"][0]["count"] == 12345678901
    assert document["environment"]["versions"]["torch"]


def test_markdown_escapes_bars(golden):
    text = to_markdown(REPORT)
    assert "c\\|d" in text
    golden("example.md", text)


def test_latex_escapes_what_it_would_read():
    text = to_latex(dataclasses.replace(REPORT, notes=["50% of $5 ≈ a_b #1 {x} \\ ~^ <|>"]))
    assert r"\begin{tabular}{@{}lrrl@{}}" in text
    assert "name & count [G] & time [ms] & why [not] \\\\\n\\midrule\n" in text
    assert "a,b & 12.35 & 300.0 & - \\\\\n" in text
    assert text.endswith(
        r"50\% of \$5 $\approx$ a\_b \#1 \{x\} \textbackslash{} \textasciitilde{}\textasciicircum{} "
        "\\textless{}\\textbar{}\\textgreater{}\n"
    )


@pytest.mark.parametrize("width", [40, 60, 120])
def test_table_fits_every_width(golden, width):
    stream = io.StringIO()
    print_report(REPORT, stream, width)
    text = stream.getvalue()
    assert max(len(line.rstrip()) for line in text.splitlines()) <= width
    for word in ("[ms]", "why [not]", "too [big]"):
        assert word in text
    golden(f"example-{width}.txt", text)


RACED = Table(
    "A race",
    (
        Column("optimizer", "optimizer", justify="left"),
        Column("protocol", "protocol", justify="left"),
        *(Column(f"figure{number}", f"figure number {number}", "step") for number in range(8)),
    ),
    [
        {"optimizer": optimizer, "protocol": protocol} | {f"figure{number}": 10**number for number in range(8)}
        for optimizer in ("sgd", "adam")
        for protocol in ("default", "tuned")
    ],
)


def lines_at(width, *tables):
    stream = io.StringIO()
    print_report(dataclasses.replace(REPORT, tables=tables, notes=()), stream, width)
    lines = [line.rstrip() for line in stream.getvalue().splitlines()]
    assert max(map(len, lines)) <= width
    return lines


@pytest.mark.parametrize(("width", "times"), [(200, 1), (90, 1), (60, 2)])
def test_a_part_of_a_table_repeats_every_column_that_names_a_row(width, times):
    lines = lines_at(width, RACED)
    assert [line.split()[:2] for line in lines if line.startswith("sgd")] == times * [
        ["sgd", "default"],
        ["sgd", "tuned"],
    ]
    assert sum("[step]" in line for line in lines) == times


def test_a_table_whose_names_leave_no_room_becomes_records():
    lines = lines_at(30, RACED)
    place = lines.index("adam, tuned")
    assert lines[place + 1 : place + 3] == ["  figure number 0 [step]: 1", "  figure number 1 [step]: 10"]


@pytest.mark.parametrize("width", [20, 80])
def test_a_column_without_a_header_or_a_cell_takes_its_place(width):
    columns = (
        Column("name", "name", justify="left"),
        Column("sign", "", justify="left"),
        Column("none", "", missing=""),
    )
    assert lines_at(width, Table("Nothing", columns, ()))[:2] == ["Nothing", "name"]
    assert lines_at(width, Table("One", columns, [{"name": "a", "sign": "="}]))[3].split() == ["a", "="]


def test_what_has_no_format_is_read_in_four_digits():
    column = Column("ratio", "ratio")
    assert [column.text(value) for value in (1 / 3, 123456.0, 123456, "0.333333333")] == [
        "0.3333",
        "1.235e+05",
        "123456",
        "0.333333333",
    ]


def test_a_column_without_values_is_not_shown_and_zeros_have_no_unit():
    columns = (Column("macs", "MACs", "G", ",.3f", 1e9), Column("published", "published"))
    rows = [{"macs": 0, "published": None}, {"macs": 0}]
    (macs,) = fitted(filled(columns, rows), rows)
    assert (macs.title, macs.text(0)) == ("MACs", "0")


def test_outputs_are_refused_before_anything_runs(tmp_path):
    for name, words in [
        ("x.txt", "no form this command can save"),
        ("x", "no suffix"),
        ("none/x.csv", "does not exist"),
        ("x.png", "no form"),
    ]:
        with pytest.raises(UsageError, match=words):
            check_outputs([tmp_path / name])
    with pytest.raises(UsageError, match="twice"):
        check_outputs([tmp_path / "x.csv", tmp_path / "x.csv"])
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(UsageError, match="is a folder"):
        check_outputs([tmp_path / "folder.csv"])
    check_outputs([tmp_path / "x.png", Path(tmp_path / "x.json")], pictures=(".png",))


def test_one_file_under_two_names_is_given_twice(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link.csv").symlink_to("x.csv")
    for other in (tmp_path / "x.csv", Path("link.csv"), Path("folder/../x.csv")):
        with pytest.raises(UsageError, match="twice"):
            check_outputs([Path("x.csv"), other])


def test_a_link_stays_and_its_file_is_replaced(tmp_path):
    file, link = tmp_path / "x.csv", tmp_path / "link.csv"
    file.write_text("old")
    link.symlink_to("x.csv")
    check_outputs([link])
    save_text(link, "new")
    assert (link.is_symlink(), file.read_text()) == (True, "new")
    link.unlink()
    link.symlink_to("nowhere/x.csv")
    with pytest.raises(UsageError, match=r"nowhere does not exist"):
        check_outputs([link])
    link.unlink()
    link.symlink_to("link.csv")
    with pytest.raises(UsageError, match=r"circle|symbolic links"):
        check_outputs([link])


def test_a_name_of_any_length_is_saved_or_refused_at_first(tmp_path):
    longest = tmp_path / f"{'x' * 251}.csv"
    check_outputs([longest])
    save_text(longest, "saved")
    assert longest.read_text() == "saved"
    with pytest.raises(UsageError, match="too long"):
        check_outputs([tmp_path / f"{'x' * 252}.csv"])


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("old")

    def interrupted():
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_emit_saves_every_form(tmp_path, capsys):
    paths = [tmp_path / f"x{suffix}" for suffix in (".csv", ".json", ".md", ".png")]
    emit(REPORT, "csv", paths, draw=lambda _, place: place.write_bytes(b"picture"))
    assert capsys.readouterr().out == to_csv(REPORT) == paths[0].read_text()
    assert paths[3].read_bytes() == b"picture"
    assert json.loads(paths[1].read_text())["runs"]


def test_what_cannot_be_saved_is_shown(tmp_path, capsys):
    report = Report("x", ("a",), [{"a": 3}], warnings=["loud"])
    with pytest.raises(UsageError, match="cannot be written"):
        emit(report, "csv", [tmp_path / "gone" / "x.csv"])
    shown = capsys.readouterr()
    assert shown.out == "a\n3\n"
    assert "warning: loud" in shown.err


def test_a_picture_gets_its_suffix(tmp_path):
    seen = []
    save_picture(tmp_path / "x.svg", lambda place: (seen.append(place.suffix), place.write_text("x")))
    assert seen == [".svg"]


def test_a_table_of_nothing_is_its_title():
    stream = io.StringIO()
    print_report(dataclasses.replace(REPORT, tables=(Table("nothing finished", (), ()),)), stream, 80)
    assert "nothing finished" in stream.getvalue()
