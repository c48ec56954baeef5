"""The first line of a report says what happened, and what passed is folded below it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mlcv_bench.comparing.baseline import Baseline
from mlcv_bench.comparing.judging import Result, judge
from mlcv_bench.comparing.limits import Entry
from mlcv_bench.history.figures import figures_of
from mlcv_bench.history.trends import Trend
from mlcv_bench.report.formats.markdown import to_markdown
from mlcv_bench.report.plots.suites import panels
from mlcv_bench.suites.document import Suite
from mlcv_bench.suites.report import suite_report
from mlcv_bench.suites.trends import CheckTrends, bound_of
from tests.suites.documents import cost, document, time_document, timed


def reported(*results, baseline=None):
    checks = [check for result in results for check in judge(result, baseline)]
    entries = tuple(result.entry for result in results)
    return suite_report(Suite(Path("gate.toml"), "gate", Path("gate.json"), entries), checks, results)


def ran(study, rows, limits, name="it", **more):
    return Result(Entry(name, (study, "net"), limits), 0, document(study, rows) if rows else None, **more)


AB = {"head": "net", "ratio": 1.49, "ci_low": 1.45, "ci_high": 1.53, "margin": 0.05, "base_s": 0.01, "head_s": 0.0149}
PASSING = ran("list", [{"name": "a"}], {}, name="listing")
BEFORE = Baseline(Path("base.json"), {"it": document("cost", [cost("net", params=1000)])})


@pytest.mark.parametrize(
    ("result", "first"),
    [
        (
            ran("cost", [cost("net", params=900)], {"must_match_baseline": True}),
            "gate fails: net: smaller (params 1,000 -> 900); and 1 more",
        ),
        (
            ran("cost", [cost("net", params=1001)], {"max_params": 1000}),
            "gate fails: net: +0.10% (params 1,001)",
        ),
        (
            ran("time", None, {"max_median_s": 1}, words="ended by SIGKILL"),
            "gate could not be measured: it: ended by SIGKILL",
        ),
        (
            Result(Entry("it", ("time", "net"), {"max_median_s": 0.0001}), 0, time_document(timed("net"))),
            "gate fails: it, max_median_s, 10 (9.8 .. 10.2) ms where 0.1 ms is allowed: net",
        ),
        (
            ran("ab", [AB], {"max_slowdown": 0.05}),
            "gate fails: net: 1.490 times, 1.450 .. 1.530 (time_s 10 ms -> 14.9 ms)",
        ),
    ],
)
def test_the_first_line_says_what_happened(result, first):
    report = reported(PASSING, result, baseline=BEFORE)
    assert report.tables[0].title == first
    assert report.tables[0].rows[0]["verdict"] != "pass"
    text = to_markdown(report)
    above, _, folded = text.partition("<details>\n<summary>Every check (2)</summary>")
    assert "mlcv-bench" not in above
    assert "| listing |" not in above
    assert "| listing | list net |" in folded


def test_a_run_that_passes_shows_one_table():
    report = reported(PASSING)
    assert [table.title for table in report.tables] == ["gate"]
    assert "<details>" not in to_markdown(report)


@pytest.mark.parametrize("limit", ["must_verify", "must_match_baseline"])
def test_of_rows_that_share_a_name_the_one_that_fails_has_its_own_trend(limit):
    row = {"subject": "net", "case": "control", "quantity": "output", "passed": True, "status": "done"}
    rows = [row, row | {"passed": False}]
    result = ran("verify", rows, {limit: True})
    (check,) = judge(result, Baseline(Path("base.json"), {"it": document("verify", [row, row])}))
    now = {(one.row, one.column): one.value for one in figures_of(result.document)}
    found = {key: Trend(["a" * 40, "b" * 40], ["true", value]) for key, value in now.items()}
    trends = CheckTrends({"it": found}, {"it": result.document})
    ways = [trends.of_difference(check, one) for one in check.differences] or [trends.of_check(check)]
    assert ways == [(["true", "false"], "b" * 10)]


def test_a_page_draws_the_last_commits_of_a_figure_with_its_limit():
    result = Result(Entry("it", ("time", "net"), {"max_median_s": 0.012}), 0, time_document(timed("net")))
    (check,) = judge(result, None)
    ((key, value),) = (
        ((one.row, one.column), one.value) for one in figures_of(result.document) if one.column == "median_s"
    )
    trends = CheckTrends({"it": {key: Trend(["a" * 40, "b" * 40], [0.008, value])}}, {"it": result.document})
    suite = Suite(Path("gate.toml"), "gate", Path("gate.json"), (result.entry,))
    (panel,) = panels(suite_report(suite, [check], [result], trends))
    assert panel.title == "it, net, max_median_s"
    assert (panel.level, panel.y.words) == (pytest.approx(12), "median [ms]")
    assert list(panel.series[0].x) == [-1, 0]
    assert panel.series[0].y == pytest.approx([8, 1e3 * value])
    # Twice the base's time is allowed, which was 10 ms where it is now 15: the limit lies at 20.
    slower = replace(check, limit="max_slowdown", allowed=2.0, measured=1.5)
    assert bound_of(slower, 15.0) == pytest.approx(20)
