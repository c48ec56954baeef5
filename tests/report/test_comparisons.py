from __future__ import annotations

from contextlib import nullcontext
from itertools import count

import pytest

from mlcv_bench.report.comparisons import COLUMNS, Compared, ab_report, remarks
from mlcv_bench.report.formats.markdown import to_markdown
from mlcv_bench.timing.compare import ComparePlan, compare
from tests.timing.fakes import FakeWorkload


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (0.044, "B is slower: 1.1000 times A's time"),
        (0.032, "B is faster: 0.8000 times A's time"),
        (0.04, "B is the same within 2.0%: 1.0000 times A's time"),
        ([0.03, 0.052, 0.03], "Inconclusive: "),
    ],
)
def test_the_verdict_is_a_sentence_with_its_interval(head, words):
    sides = FakeWorkload(0.04), FakeWorkload(head), FakeWorkload(0.04)
    found = compare(lambda: nullcontext(sides), ComparePlan(seconds=8), now=count(0, 0.5).__next__)
    report = ab_report([Compared("one", "two", comparison=found)])
    assert report.notes[0].startswith(words)
    assert tuple(report.runs[0]) == COLUMNS
    assert sum(map(len, report.details["ratios"])) == report.runs[0]["pairs"]
    assert "| A again | one (control) |" in to_markdown(report)


def test_what_is_odd_about_a_network_is_said_once_a_side():
    facts = [{"remark": ""}, {"remark": "draws random numbers in evaluation"}, {"remark": ""}]
    assert remarks({"facts": facts}) == ["B draws random numbers in evaluation."]
    assert remarks({"facts": [{}, {}, {}]}) == remarks({}) == []
