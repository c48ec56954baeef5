"""Figures of one's own beside the cost, the Pareto front, and the setting at which two networks cost the same."""

from __future__ import annotations

import csv
import io
import os
import threading
from pathlib import Path

import pytest

from mlcv_bench.cli.app import run
from mlcv_bench.counting.equal_cost import nearest
from mlcv_bench.counting.own_figures import front, guessed, read
from mlcv_bench.counting.setting_range import parse_range
from mlcv_bench.errors import UsageError

NETWORK = """
from torch import nn

def net(width: int = 8):
    return nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1))
"""


def rows_of(capsys, *arguments):
    assert run([*arguments, "--format", "csv"]) == 0
    shown = capsys.readouterr()
    return list(csv.DictReader(io.StringIO(shown.out))), shown.err


def test_a_column_of_ones_own_stands_beside_the_cost_with_the_front(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.csv").write_text("name;note;accuracy\nResNet20;a;91.25\nplain20;b;90\nresnet8;;\nlenet;;70\n")
    names = ("resnet8", "plain20", "resnet20", "resnet32")
    rows, said = rows_of(capsys, "flops", *names, "--join", "own.csv", "-o", "own.png", "-o", "own.tex")
    # plain20 and resnet20 have equal MACs: the shortcuts multiply nothing.
    assert [(row["accuracy"], row["pareto_front"]) for row in rows] == [
        ("", ""),
        ("90.0", "false"),
        ("91.25", "true"),
        ("", ""),
    ]
    assert list(rows[0])[-2:] == ["accuracy", "pareto_front"]
    assert "own.csv has no row for resnet32" in said
    assert "own.csv has rows that no network here is called by: lenet" in said
    assert (tmp_path / "own.png").read_bytes()[:4] == b"\x89PNG"
    assert "accuracy & front" in (tmp_path / "own.tex").read_text()


def test_times_are_joined_by_input_and_batch_too(tmp_path, capsys):
    path = tmp_path / "times.csv"
    path.write_text("architecture,batch,threads,median_s\nresnet8,1,1,0.5\nresnet8,4,1,1.5\n")
    options = ("--join", str(path), "--join-column", "median_s")
    rows, said = rows_of(capsys, "flops", "resnet8", "--batch", "4,1", *options)
    assert [(row["batch"], row["median_s"], row["pareto_front"]) for row in rows] == [
        ("4", "1.5", "false"),
        ("1", "0.5", "true"),
    ]
    assert not said


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("who,accuracy\na,1\n", "no column name or architecture"),
        ("name,accuracy\na,1\na,2\n", "names a twice"),
        ("name,accuracy\na,76%\n", "holds no number"),
        ("name,accuracy\na\n", "row 2 has 1 cells"),
        ("name,name\na,1\n", "two columns of one name"),
        ("", "no CSV with a header: its first line is empty"),
        ('name,accuracy\n"a,1\n', "no CSV with a header"),
        (b"name,accuracy\n\xff,1\n", "no text in UTF-8"),
    ],
)
def test_a_file_that_cannot_be_joined_is_one_sentence(tmp_path, text, words):
    path = tmp_path / "own.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UsageError, match=words):
        read(path)
    with pytest.raises(UsageError, match="cannot be read"):
        read(tmp_path / "nowhere.csv")


def test_a_file_without_end_is_refused_and_a_pipe_is_read_once(tmp_path, capsys):
    with pytest.raises(UsageError, match="is larger than 16,777,216 bytes; keep one row a network"):
        read(Path("/dev/zero"))
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=("\ufeffname,accuracy\nresnet8,87\n",), daemon=True)
    writer.start()
    ((row,), _) = rows_of(capsys, "flops", "resnet8", "--join", str(pipe))
    writer.join()
    assert row["accuracy"] == "87.0"


def test_the_front_holds_what_nothing_beats():
    points = [(1, 10.0), (2, 9.0), (2, 12.0), (3, 12.0), (4, None), (5, 13.0), (5, 13.0)]
    assert front(points, "higher") == [True, False, True, False, False, True, True]
    assert front(points, "lower") == [True, True, False, False, False, False, False]
    assert [guessed(name) for name in ("top1", "median_s", "val_loss", "latency")] == ["higher", *["lower"] * 3]


@pytest.mark.parametrize("count", [2, 3, 100])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_search_finds_what_trying_all_finds(count, sign):
    costs = [sign * place**2 for place in range(count)]
    for target in range(sign * count**2, 0, -sign):
        found = nearest(count, costs.__getitem__, target)
        assert abs(costs[found.place] - target) == min(abs(cost - target) for cost in costs)
        assert found.steady
        assert found.inside == (min(costs) <= target <= max(costs))


def test_a_network_is_found_at_equal_cost(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wide.py").write_text(NETWORK)
    ask = ("flops", "wide.py:net", "--input", "3x32x32", "--match-macs", "ResNet20", "--set-range")
    (reference, found), said = rows_of(capsys, *ask, "width=16..128")
    assert (reference["architecture"], reference["macs"]) == ("resnet20", "40551040")
    # 32 x 32 x 9 (3 w + w^2) is 39,518,208 at 64 and 40,734,720 at 65.
    assert (found["options"], found["macs"]) == ("width=65", "40734720")
    assert float(found["match_difference"]) == pytest.approx(40734720 / 40551040 - 1)
    assert not said
    (_, found), said = rows_of(capsys, *ask, "width=16..40:8")
    assert found["options"] == "width=40"
    assert "never costs as much as resnet20 with width=16..40:8" in said


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("flops resnet18 --match-macs resnet20", "belong together"),
        ("flops resnet18 --match-macs resnet --set-range num_classes=1..9", "is a family"),
        ("flops resnet18 --match-macs resnet20 --set-range width=1..9", "no option width"),
        ("flops resnet18 --match-macs resnet20 --set-range num_classes=9..1", "holds no two values"),
        ("flops resnet18 --match-macs resnet20 --set-range num_classes", "is no range"),
        ("flops resnet18 --match-macs resnet20 --set-range dropout=0.1..0.2", "needs a step"),
        ("flops resnet18 --match-macs resnet20 --set-range num_classes=1..9 --set num_classes=3", "keep one"),
        ("flops resnet18 --better lower", "add --join"),
        ("flops resnet8 --join own.csv", "has no top1 of any network here; it speaks of resnet20"),
        ("flops resnet20 --join own.csv --join-column top1,macs", "gives macs, which the cost has itself"),
        ("flops resnet18 --join own.csv --audit", "leave it out with --audit"),
    ],
)
def test_what_says_nothing_together_is_refused(capsys, tmp_path, monkeypatch, words, sentence):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.csv").write_text("name,top1,macs\nresnet20,91,5\n")
    assert run(words.split()) == 2
    shown = capsys.readouterr()
    assert sentence in shown.err
    assert len(shown.err.splitlines()) == 1
    assert not shown.out


def test_a_range_holds_what_is_written():
    span = parse_range("width=0.25..2:0.05")
    assert (len(span), span[0], span[1], span[35], str(span)) == (36, "0.25", "0.30", "2.00", "width=0.25..2:0.05")
