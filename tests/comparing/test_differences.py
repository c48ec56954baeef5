from __future__ import annotations

import json
import math
import re

import pytest

from mlcv_bench.comparing.differences import compare_saved, figure_text
from mlcv_bench.comparing.saved import RULES, load
from mlcv_bench.environment import capture
from mlcv_bench.errors import BaselineError, UsageError
from mlcv_bench.records import Report
from mlcv_bench.report.comparisons import comparison_report
from mlcv_bench.report.formats.json_text import to_json_document
from mlcv_bench.report.formats.markdown import to_markdown


def row(**more):
    return {
        "architecture": "resnet18",
        "input": "3x224x224",
        "device": "cpu",
        "batch": 1,
        "threads": 1,
        "median_s": 0.1,
        "ci_low_s": 0.098,
        "ci_high_s": 0.102,
        "status": "done",
    } | more


@pytest.fixture
def saved(tmp_path):
    """Save rows as -o would and load them again."""

    def save(study, *rows, name="file", details=None, **changes):
        environment = capture(command="mlcv-bench")
        report = Report(study, tuple(rows[0]), rows, details=details or {})
        document = json.loads(to_json_document(report, environment))
        document["environment"] |= changes
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(document))
        return load(path)

    return save


@pytest.mark.parametrize(
    ("median", "change"),
    [(0.1, "same"), (0.104, "undecided"), (0.108, "undecided"), (0.12, "worse"), (0.08, "better")],
)
def test_a_time_is_worse_only_when_the_intervals_lie_apart(saved, median, change):
    new = row(median_s=median, ci_low_s=median * 0.98, ci_high_s=median * 1.02)
    verdict = compare_saved(saved("time", row()), saved("time", new, name="new"), 0.05)
    found = next(one for one in verdict.differences if one.quantity == "median_s")
    assert found.change == change
    assert bool(verdict.regressions) == (change == "worse")
    assert ("holds the limit of 1.05" in found.reason) == (change == "undecided")


def test_counts_are_compared_exactly(saved):
    base = {"architecture": "resnet18", "input": "3x224x224", "batch": 1, "params": 11_689_512, "macs": 1_814_073_344}
    verdict = compare_saved(saved("cost", base), saved("cost", base | {"params": 11_689_513}, name="new"))
    assert [(one.quantity, one.change) for one in verdict.regressions] == [("params", "worse")]
    fewer = compare_saved(saved("cost", base), saved("cost", base | {"macs": 1}, name="new"))
    assert not fewer.regressions


@pytest.mark.parametrize(
    ("study", "base", "new", "bad"),
    [
        ("claims", {"id": "x", "verdict": "holds"}, {"id": "x", "verdict": "does_not_hold"}, True),
        ("claims", {"id": "x", "verdict": "does_not_hold"}, {"id": "x", "verdict": "holds"}, False),
        ("claims", {"id": "x", "verdict": "not_decided"}, {"id": "x", "verdict": "does_not_hold"}, True),
        ("verify", {"subject": "a", "passed": True}, {"subject": "a", "passed": False}, True),
        ("optim-race", {"optimizer": "adam", "first_hit": 10}, {"optimizer": "adam", "first_hit": None}, True),
        ("optim-race", {"optimizer": "adam", "first_hit": None}, {"optimizer": "adam", "first_hit": 10}, False),
        ("optim-race", {"optimizer": "adam", "first_hit": 10}, {"optimizer": "adam", "first_hit": 10}, False),
        ("time", row(), row(status="failed", median_s=None), True),
    ],
)
def test_outcomes_that_get_worse_are_regressions(saved, study, base, new, bad):
    verdict = compare_saved(saved(study, base), saved(study, new, name="new"))
    assert bool(verdict.regressions) == bad


def test_another_environment_makes_times_advisory_and_is_named(saved):
    slower = row(median_s=0.2, ci_low_s=0.19, ci_high_s=0.21)
    verdict = compare_saved(saved("time", row()), saved("time", slower, name="new", cpu="another"), 0.05)
    assert verdict.advisory
    assert not verdict.regressions
    assert any("another" in text for text in verdict.environment)
    report = comparison_report(verdict)
    assert any("advisory" in note for note in report.notes)
    assert report.warnings


@pytest.mark.parametrize(
    ("slowdown", "base_load", "new_load", "change"),
    [
        (2.0, "none", "none", "worse"),
        (2.0, "none", "crowded", "undecided"),
        (2.0, "crowded", "crowded", "undecided"),
        (2.0, "crowded", "none", "worse"),
        (1.0, "none", "crowded", "same"),
        (1.0, "crowded pressure", "none", "undecided"),
        (1.0, "crowded", "crowded", "undecided"),
        (0.5, "crowded", "crowded", "undecided"),
        (0.5, "none", "crowded", "better"),
        (0.5, "crowded", "none", "undecided"),
    ],
)
def test_a_time_that_load_may_have_made_is_undecided(saved, slowdown, base_load, new_load, change):
    new = row(contention=new_load) | {name: row()[name] * slowdown for name in ("median_s", "ci_low_s", "ci_high_s")}
    verdict = compare_saved(saved("time", row(contention=base_load)), saved("time", new, name="new"))
    (found,) = [one for one in verdict.differences if one.quantity == "median_s"]
    assert found.change == change
    assert bool(verdict.regressions) == (change == "worse")
    notes = " ".join(comparison_report(verdict).notes)
    assert ("undecided, for `ab` to decide" in notes) == (change == "undecided")
    assert bool(found.reason) == (change == "undecided")


OTHER_CLOCK = {"basis": "cpu", "median_s": 0.0001, "ci_low_s": 0.0001, "ci_high_s": 0.0001}
WALL = {"wall_median_s": 0.0042, "wall_ci_low_s": 0.0041, "wall_ci_high_s": 0.0043}


@pytest.mark.parametrize(
    ("more", "change", "quantity", "ratio"),
    [
        ({"wall_median_s": 0.0042}, "worse", "wall_median_s", 2.1),
        (WALL, "worse", "wall_median_s", 2.1),
        (WALL | {"contention": "crowded"}, "undecided", "wall_median_s", 2.1),
        ({"cpu_median_s": 0.0019}, "same", "cpu_median_s", 1.0),
        (WALL | {"cpu_median_s": 0.0019}, "same", "cpu_median_s", 1.0),
    ],
)
def test_times_by_unlike_clocks_are_compared_by_one_that_both_have(saved, more, change, quantity, ratio):
    by_wall = {"basis": "wall", "median_s": 0.002, "ci_low_s": 0.002, "ci_high_s": 0.002, "wall_median_s": 0.002}
    base = saved("time", row(**by_wall, cpu_median_s=0.0019))
    verdict = compare_saved(base, saved("time", row(**OTHER_CLOCK, **more), name="new"))
    (found,) = [one for one in verdict.differences if one.is_time]
    assert (found.change, found.quantity) == (change, quantity)
    assert found.ratio == pytest.approx(ratio)
    assert (found.base, found.new) == (base.runs[0][quantity], more[quantity])
    assert bool(verdict.regressions) == (change == "worse")


def test_times_that_share_no_clock_are_refused(saved):
    base = saved("time", row(basis="wall"))
    with pytest.raises(BaselineError, match="rests on the clock 'wall' in one file and 'cpu' in the other"):
        compare_saved(base, saved("time", row(**OTHER_CLOCK), name="new"))


def test_another_environment_makes_a_time_by_the_shared_clock_advisory_too(saved):
    base = saved("time", row(basis="wall", wall_median_s=0.002))
    verdict = compare_saved(base, saved("time", row(**OTHER_CLOCK, **WALL), name="new", cpu="another"))
    assert verdict.advisory
    assert not verdict.regressions


SURFACE = {"surface": "canyon", "parameters": {"b": 100.0}, "steps": 1000, "target": 1e-6, "noise": 0.0}
SETUP = {"task": "digits", "model": "linear", "epochs": 10, "target": 0.9, "seeds": [0, 1], "data": "here"}


@pytest.mark.parametrize(
    ("base", "new", "words"),
    [
        (SURFACE, SURFACE | {"steps": 10}, "differ in steps: 1,000 and 10; run both with the same settings"),
        (SURFACE, SURFACE | {"warm_up": 5}, "differ in warm_up: 0 and 5"),
        (SURFACE, SURFACE | {"schedule": "cosine"}, "differ in schedule: constant and cosine"),
        ({"setups": [SETUP]}, {"setups": [SETUP | {"clip_norm": 1.0}]}, "differ in clip_norm on digits"),
        (SURFACE, SURFACE | {"parameters": {"b": 5.0}}, "differ in parameters: b 100.0 and b 5.0"),
        ({"setups": [SETUP]}, {"setups": [SETUP | {"epochs": 5}]}, "differ in epochs on digits with linear: 10 and 5"),
        (SURFACE, SURFACE, None),
        ({"setups": [SETUP], "steps": [1]}, {"setups": [SETUP | {"seeds": [0], "data": "x"}], "steps": []}, None),
        ({"setups": [SETUP]}, {"setups": [SETUP | {"task": "other", "epochs": 5}]}, None),
        ({"setups": [SETUP]}, {"setups": [SETUP | {"drop_last": False}]}, None),
        ({"setups": [SETUP]}, {"setups": [SETUP | {"drop_last": True}]}, "differ in drop_last on digits with linear"),
        (SURFACE, {}, None),
    ],
)
def test_races_of_another_kind_are_refused(saved, base, new, words):
    run = {"optimizer": "adam", "outcome": "converged"}
    one, other = saved("optim-race", run, details=base), saved("optim-race", run, name="new", details=new)
    if words is None:
        assert not compare_saved(one, other).regressions
        return
    with pytest.raises(BaselineError, match=re.escape(words)):
        compare_saved(one, other)


@pytest.mark.parametrize(
    ("changes", "advisory"),
    [({"host": "elsewhere"}, False), ({"threads": 7}, False), ({"device": "NVIDIA H200"}, True), ({"cpu": "x"}, True)],
)
def test_only_what_decides_a_time_makes_it_advisory(saved, changes, advisory):
    """The process's own threads are those of the block that came last; the rows say each cell's."""
    verdict = compare_saved(saved("time", row()), saved("time", row(), name="new", **changes))
    assert verdict.advisory == advisory


def test_unlike_batches_are_never_compared(saved):
    with pytest.raises(BaselineError, match="no row in common"):
        compare_saved(saved("time", row(batch=1)), saved("time", row(batch=8), name="new"))


def test_missing_and_added_rows_are_told(saved):
    base = saved("time", row(), row(architecture="resnet34"))
    verdict = compare_saved(base, saved("time", row(), row(architecture="resnet50"), name="new"))
    assert {(one.row, one.change) for one in verdict.differences if one.quantity == "row"} == {
        ("resnet34", "missing"),
        ("resnet50", "added"),
    }


def test_unlike_studies_are_refused(saved):
    cost = {"architecture": "resnet18", "params": 1}
    with pytest.raises(BaselineError, match="compare two of one kind"):
        compare_saved(saved("time", row()), saved("cost", cost, name="new"))
    with pytest.raises(UsageError, match="nothing to compare"):
        compare_saved(saved("env", {"name": "cpu"}), saved("env", {"name": "cpu"}, name="new"))


def test_two_rows_of_one_setting_are_refused(saved):
    with pytest.raises(UsageError, match="two rows"):
        compare_saved(saved("time", row(), row()), saved("time", row(), name="new"))


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (None, BaselineError),
        ("no json", UsageError),
        ("[1]", UsageError),
        ('{"schema": "other/1"}', UsageError),
        ("[" * 100_000, UsageError),
        ('{"schema": "mlcv-bench/time", "version": 1' + "0" * 5000 + "}", UsageError),
    ],
)
def test_what_is_no_saved_result_is_refused(tmp_path, text, error):
    path = tmp_path / "file.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(error):
        load(path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"runs": None}, "no list of rows"),
        ({"runs": 5}, "no list of rows"),
        ({"runs": [1]}, "no list of rows"),
        ({"environment": None}, "environment is no table"),
        ({"details": []}, "details is no table"),
        ({"runs": [row(median_s="1")]}, "median_s is '1', which is no finite number"),
        ({"runs": [row(ci_low_s=True)]}, "ci_low_s is True"),
        ({"runs": [row(params=[3])]}, "params is"),
        ({"runs": [row(median_s=math.inf)]}, "Infinity is no number"),
        ({"runs": [row(median_s=math.nan)]}, "NaN is no number"),
        ({"runs": [row(params=10**400)]}, "params is"),
        ({"runs": [row(contention=["steal"])]}, "contention is no text"),
    ],
)
def test_a_damaged_result_is_refused_in_words(saved, tmp_path, changes, words):
    saved("time", row())
    path = tmp_path / "file.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(UsageError, match=re.escape(words)):
        load(path)


def test_a_number_too_large_for_a_float_is_refused(saved, tmp_path):
    saved("time", row(median_s=0.125))
    path = tmp_path / "file.json"
    path.write_text(path.read_text().replace("0.125", "1e999"))
    with pytest.raises(UsageError, match="median_s is inf"):
        load(path)


def test_a_result_without_an_environment_is_refused(tmp_path):
    path = tmp_path / "file.json"
    path.write_text('{"schema": "mlcv-bench/cost", "version": 1, "runs": []}')
    with pytest.raises(UsageError, match="environment is missing"):
        load(path)


def test_another_version_is_refused(tmp_path):
    path = tmp_path / "file.json"
    path.write_text('{"schema": "mlcv-bench/time", "version": 99, "runs": [], "environment": {}}')
    with pytest.raises(UsageError, match="version 99"):
        load(path)


def test_every_rule_names_something_to_compare():
    for study, rule in RULES.items():
        assert rule.keys, study
        assert rule.exact or rule.outcomes or rule.timed or rule.fingerprints, study


def test_the_table_names_what_differs(saved):
    base = saved("time", row(), row(batch=4, median_s=0.3, ci_low_s=0.29, ci_high_s=0.31))
    new = saved("time", row(), row(batch=4, median_s=0.6, ci_low_s=0.59, ci_high_s=0.61), name="new")
    report = comparison_report(compare_saved(base, new))
    text = to_markdown(report)
    assert "resnet18, batch 4" in text
    assert "1 regression(s): resnet18, batch 4: median_s 300 ms -> 600 ms (2.000 times)" in text


def ratio(value, low, high, **more):
    sides = {"base": "a", "head": "b", "verdict": "same", "base_macs": 10, "head_macs": 10}
    return sides | {"ratio": value, "ci_low": low, "ci_high": high} | more


@pytest.mark.parametrize(
    ("now", "change"),
    [
        (ratio(1.01, 1.0, 1.02), "same"),
        (ratio(1.2, 1.19, 1.21), "worse"),
        (ratio(0.8, 0.79, 0.81), "better"),
        (ratio(1.05, 1.0, 1.1), "undecided"),
        (ratio(1.2, None, None), "undecided"),
    ],
)
def test_files_of_ab_are_compared_by_their_ratios(saved, now, change):
    verdict = compare_saved(saved("ab", ratio(1.0, 0.995, 1.005)), saved("ab", now, name="new"), 0.05)
    (found,) = [one for one in verdict.differences if one.quantity == "ratio"]
    assert found.change == change
    assert bool(verdict.regressions) == (change == "worse")
    more = compare_saved(saved("ab", now), saved("ab", now | {"head_macs": 11}, name="new"))
    assert [str(one) for one in more.regressions] == ["a: head_macs 10 -> 11 (bigger)"]


def check(entry, limit="max_params", verdict="pass"):
    return {"entry": entry, "limit": limit, "verdict": verdict}


def entries(saved, **rows):
    """Return what `run` keeps of its entries: the documents of their own."""
    return {name: saved("cost", one, name="entry").document for name, one in rows.items()}


def counted(params):
    return {"architecture": "net", "input": "3x8x8", "batch": 1, "options": "", "params": params, "macs": 5}


def test_files_of_run_are_compared_by_verdicts_and_by_what_each_entry_measured(saved, tmp_path):
    base = saved(
        "suite", check("small"), check("gone"), details={"entries": entries(saved, small=counted(1), gone=counted(1))}
    )
    new = saved(
        "suite", check("small", verdict="fail"), details={"entries": entries(saved, small=counted(2))}, name="new"
    )
    verdict = compare_saved(base, new)
    assert [str(one) for one in verdict.regressions] == [
        "small: verdict pass -> fail (worse)",
        "small: net: params 1 -> 2 (bigger)",
    ]
    assert [one.row for one in verdict.differences if one.change == "missing"] == ["gone", "gone"]
    kept = tmp_path / "baseline.json"
    whole = {"schema": "mlcv-bench/suite", "version": 1, "details": {"entries": entries(saved, small=counted(1))}}
    kept.write_text(json.dumps(whole))
    assert [str(one) for one in compare_saved(load(kept), new).regressions] == ["small: net: params 1 -> 2 (bigger)"]
    whole["details"]["entries"]["small"]["runs"] = "none"
    kept.write_text(json.dumps(whole))
    with pytest.raises(UsageError, match=r"baseline.json, entry small, is not a complete result"):
        load(kept)


def test_no_line_says_no_regression_under_rows_that_are_worse(saved):
    """On another machine a time binds nobody, and is worse all the same."""
    new = saved("time", row(median_s=0.2, ci_low_s=0.19, ci_high_s=0.21), name="new", cpu="Another processor")
    notes = comparison_report(compare_saved(saved("time", row()), new)).notes
    assert notes[0] == (
        "Nothing worse that binds; worse where the times say nothing: "
        "resnet18: median_s 100 ms -> 200 ms (2.000 times)."
    )
    same = comparison_report(compare_saved(saved("time", row()), saved("time", row(), name="new")))
    assert same.notes[0] == "No regression."


@pytest.mark.parametrize(
    ("value", "quantity", "text"),
    [
        (25_028_904, "params", "25,028,904"),
        (25_028_904.0, "", "25,028,904"),
        (2**63 + 1, "macs", "9,223,372,036,854,775,809"),
        (1.07506040412, "", "1.07506"),
        (0.0099582, "median_s", "9.958 ms"),
        (True, "passed", "true"),
        (None, "loss", "-"),
    ],
)
def test_figures_are_written_for_people(value, quantity, text):
    assert figure_text(value, quantity) == text
