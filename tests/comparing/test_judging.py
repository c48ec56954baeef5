"""Every limit passes, fails and abstains where it should; the worst verdict decides the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mlcv_bench.comparing.baseline import Baseline
from mlcv_bench.comparing.judging import Check, Result, exit_code, judge, not_run
from mlcv_bench.comparing.limits import Entry
from mlcv_bench.comparing.saved import settings_of
from mlcv_bench.errors import ExitCode
from mlcv_bench.timing.blocks import Block
from mlcv_bench.timing.request import Cell, CellCost, Facts
from mlcv_bench.timing.sampling import Plan, Sampling
from mlcv_bench.timing.study import Timing
from tests.suites.documents import cost, document, raced, time_document, timed, trained, verified
from tests.timing.fakes import LOUD, QUIET


def judged(command, document, baseline=None, *, code=0, words="", updating=False, missing="", allow="", **limits):
    entry = Entry("it", tuple(command.split()), limits, allow=allow)
    before = Baseline(Path("base.json"), {"it": baseline}) if baseline is not None else None
    result = Result(entry, code, document, words, 1.5)
    return judge(result, before, updating=updating, missing=missing)


def one(*arguments, **named):
    (check,) = judged(*arguments, **named)
    return check


def skipped(name, reason="torch cannot do this"):
    return timed(name, status="skipped") | {"reason": reason}


@pytest.mark.parametrize(
    ("limit", "allowed", "verdict"),
    [
        ("max_params", 1000, "pass"),
        ("max_params", 999, "fail"),
        ("max_macs", 5000, "pass"),
        ("max_macs", 4999.5, "fail"),
        ("max_weight_bytes", 3999, "fail"),
        ("max_activations", 10, "pass"),
        ("max_peak_activation_bytes", 76, "fail"),
    ],
)
def test_counts_are_exact(limit, allowed, verdict):
    check = one("flops resnet20", document("cost", [cost()]), **{limit: allowed})
    assert check.verdict == verdict
    assert check.allowed == allowed


def test_the_largest_of_several_rows_counts_and_all_that_fail_are_named():
    rows = document("cost", [cost("small", 10), cost("large", 30), cost("middle", 20)])
    check = one("flops x", rows, max_params=15)
    assert (check.verdict, check.measured, check.subject) == ("fail", 30, "large")
    assert "small" not in check.reason
    assert "large, middle" in check.reason
    assert one("flops x", rows, max_params=30).subject == "large"


def test_rows_of_one_network_are_told_apart():
    rows = document("cost", [cost(batch=1, macs=1), cost(batch=8, macs=8)])
    assert one("flops x", rows, max_macs=2).subject == "resnet20 3x32x32 batch=8"


def test_a_missing_figure_never_passes():
    assert one("time x", time_document(timed(params=None)), max_params=1).verdict == "failed"


@pytest.mark.parametrize(
    ("allowed", "verdict"), [(0.0103, "pass"), (0.0102, "pass"), (0.010, "inconclusive"), (0.0097, "fail")]
)
def test_a_median_passes_or_fails_with_its_whole_interval(allowed, verdict):
    assert one("time resnet20", time_document(timed()), max_median_s=allowed).verdict == verdict


@pytest.mark.parametrize(
    ("new", "verdict"),
    [
        ({"median": 0.010}, "pass"),
        ({"median": 0.012, "low": 0.0118, "high": 0.0122}, "fail"),
        ({"median": 0.011, "low": 0.0102, "high": 0.0119}, "inconclusive"),
        ({"median": 0.005, "low": 0.0049, "high": 0.0051}, "pass"),
    ],
)
def test_a_slowdown_is_held_against_the_baseline(new, verdict):
    check = one("time resnet20", time_document(timed(**new)), time_document(timed()), max_slowdown=0.1)
    assert check.verdict == verdict
    assert check.measured == pytest.approx(new["median"] / 0.010)
    assert check.allowed == pytest.approx(1.1)


SLOW = {"median": 0.02, "low": 0.019, "high": 0.021}


@pytest.mark.parametrize(
    ("base", "new", "verdict"),
    [
        ({}, SLOW, "fail"),
        ({}, SLOW | {"contention": "none"}, "fail"),
        ({}, SLOW | {"contention": "crowded steal"}, "inconclusive"),
        ({}, {"contention": "crowded"}, "pass"),
        ({"contention": "crowded"}, {}, "inconclusive"),
        ({"contention": "crowded"}, SLOW, "fail"),
    ],
)
def test_other_load_is_no_slowdown_and_hides_none(base, new, verdict):
    """A busy machine makes a run slower, never faster: it may not cause a failure now, nor a pass later."""
    check = one("time x", time_document(timed(**new)), time_document(timed(**base)), max_slowdown=0.1)
    assert check.verdict == verdict
    assert ("beside other load" in check.reason) == (verdict == "inconclusive")


def test_an_absolute_time_fails_on_a_quiet_machine_only():
    assert one("time x", time_document(timed(contention="steal")), max_median_s=0.001).verdict == "inconclusive"
    assert one("time x", time_document(timed(contention="steal")), max_median_s=0.1).verdict == "pass"


def test_a_time_that_met_other_load_becomes_no_baseline():
    loud = time_document(timed(contention="steal"))
    check = one("time x", loud, updating=True, max_slowdown=0.1)
    assert (check.verdict, exit_code([check], strict=False)) == ("no baseline", ExitCode.BASELINE)
    assert "resnet20 met other load (steal), so its time becomes no baseline" in check.reason
    assert one("time x", time_document(timed()), updating=True, max_slowdown=0.1).verdict == "saved"
    assert one("time x", loud, updating=True, must_match_baseline=True).verdict == "saved", "its counts alone are held"


def test_an_update_shows_what_was_and_what_is():
    base, new = document("cost", [cost()]), document("cost", [cost(params=900)])
    check = one("flops x", new, base, updating=True, must_match_baseline=True)
    assert check.verdict == "saved"
    assert check.reason.startswith("this run is the new baseline: resnet20: params 1,000 -> 900 (smaller)")
    same = one("flops x", base, base, updating=True, must_match_baseline=True)
    assert same.reason == "this run is the new baseline, the same as before"
    times = [time_document(timed()), time_document(timed(median=0.02, low=0.019, high=0.021))]
    check = one("time x", times[1], times[0], updating=True, max_slowdown=0.1)
    assert "resnet20: median_s 10 ms -> 20 ms (bigger)" in check.reason


def test_another_machine_makes_times_advisory():
    base = time_document(timed())
    base["environment"]["cpu"] = "Another processor"
    check = one("time resnet20", time_document(timed(median=0.02, low=0.019, high=0.021)), base, max_slowdown=0.1)
    assert check.verdict == "advisory"
    assert "Another processor -> A processor" in check.reason
    assert exit_code([check], strict=False) == ExitCode.DONE
    assert exit_code([check], strict=True) == ExitCode.BASELINE


def test_what_the_baseline_does_not_hold_is_no_baseline():
    new = time_document(timed())
    assert one("time x", new, None, max_slowdown=0.1, missing="it is gone").reason == "it is gone"
    assert one("time x", new, time_document(timed("other")), max_slowdown=0.1).verdict == "no baseline"
    both = time_document(timed(), timed("other"))
    check = one("time x", both, new, max_slowdown=0.1)
    assert (check.verdict, check.subject) == ("no baseline", "other")
    assert one("time x", new, document("cost", [cost()]), max_slowdown=0.1).verdict == "no baseline"
    entry = Entry("new", ("time", "x"), {"max_slowdown": 0.1})
    (check,) = judge(Result(entry, 0, new), Baseline(Path("base.json"), {}))
    assert "base.json has no entry new" in check.reason


def test_an_update_compares_with_nothing_but_keeps_absolute_limits():
    checks = judged("time x", time_document(timed()), updating=True, max_slowdown=0.1, max_params=1)
    assert [check.verdict for check in checks] == ["saved", "fail"]


def ab(ratio, low, high, margin=0.01):
    row = {"base": "a", "head": "b", "verdict": "same", "ratio": ratio, "ci_low": low, "ci_high": high}
    return document("ab", [row | {"margin": margin}])


@pytest.mark.parametrize(
    ("found", "code", "verdict"),
    [
        (ab(1.0, 0.99, 1.01), 0, "pass"),
        (ab(1.03, 1.02, 1.04), 1, "pass"),
        (ab(1.2, 1.15, 1.25), 1, "fail"),
        (ab(1.05, 1.0, 1.1), 0, "inconclusive"),
        (ab(1.1, 1.08, 1.12, margin=0.15), 0, "inconclusive"),
        (ab(1.2, 1.16, 1.24, margin=0.15), 1, "fail"),
        (ab(1.0, 0.97, 1.04, margin=0.15), 0, "pass"),
    ],
)
def test_ab_brings_its_own_baseline_and_its_limit_replaces_its_own_margin(found, code, verdict):
    assert one("ab a b", found, code=code, max_slowdown=0.05).verdict == verdict


def test_noise_beyond_the_limit_is_said():
    check = one("ab a b", ab(1.1, 1.08, 1.12, margin=0.15), max_slowdown=0.05)
    assert "A against itself differs by up to 15.0%" in check.reason
    assert (check.allowed, check.measured) == (1.05, 1.1)


def test_ab_without_a_limit_keeps_its_own_verdict():
    assert one("ab a b", ab(1.03, 1.02, 1.04), code=1).verdict == "fail"
    assert one("ab a b", ab(1.0, 0.9, 1.1), code=3).verdict == "inconclusive"


def test_must_match_baseline_compares_exactly():
    base = document("cost", [cost(), cost("other")])
    assert one("flops x", base, base, must_match_baseline=True).verdict == "pass"
    check = one("flops x", document("cost", [cost(params=1001), cost("other")]), base, must_match_baseline=True)
    assert (check.verdict, check.measured) == ("fail", 2)
    assert check.reason.startswith("resnet20: params 1,000 -> 1,001 (bigger); ")
    check = one("flops x", document("cost", [cost()]), base, must_match_baseline=True)
    assert check.verdict == "fail"
    assert "other is missing" in check.reason
    check = one("flops x", document("cost", [cost(), cost("other"), cost("new")]), base, must_match_baseline=True)
    assert (check.verdict, check.subject) == ("no baseline", "new")


CALLS = "convolution 5, relu 5"


@pytest.mark.parametrize(
    ("new", "directions", "smaller"),
    [
        ({"params": 999}, ["smaller"], True),
        ({"params": 1001}, ["bigger"], False),
        ({"operator_calls": "convolution 4, relu 4"}, ["fewer operators"], True),
        ({"operator_calls": "convolution 6, relu 5"}, ["more operators"], False),
        ({"operator_calls": "convolution 5, leaky_relu 5"}, ["other operators"], False),
    ],
)
def test_a_baseline_is_matched_in_both_directions(new, directions, smaller):
    """A lost layer is a change too; `allow = "smaller"` takes what became smaller, and nothing else."""
    base = document("cost", [cost(operator_calls=CALLS, weight_bytes=1)])
    now = document("cost", [cost(operator_calls=CALLS, weight_bytes=1) | new])
    check = one("flops x", now, base, must_match_baseline=True)
    assert (check.verdict, [found.direction for found in check.differences]) == ("fail", directions)
    verdict = one("flops x", now, base, allow="smaller", must_match_baseline=True).verdict
    assert verdict == ("pass" if smaller else "fail")


def test_operators_are_compared_under_one_torch_alone():
    base = document("cost", [cost(operator_calls=CALLS)])
    base["environment"]["versions"] = {"torch": "2.12.0"}
    check = one("flops x", document("cost", [cost(operator_calls="other 1")]), base, must_match_baseline=True)
    assert (check.verdict, check.reason) == ("pass", "operators were not compared: the baseline's torch is 2.12.0")
    older = document("cost", [cost()])
    assert one("flops x", document("cost", [cost(operator_calls=CALLS)]), older, must_match_baseline=True).verdict == (
        "pass"
    )


def test_a_timed_network_that_lost_a_layer_matches_no_baseline():
    check = one("time x", time_document(timed(params=900)), time_document(timed()), must_match_baseline=True)
    assert (check.verdict, check.reason) == ("fail", "resnet20: params 1,000 -> 900 (smaller)")


def test_what_was_timed_before_and_is_not_now_passes_no_slowdown():
    both = time_document(timed(), timed("other"))
    check = one("time x", time_document(timed()), both, max_slowdown=0.1)
    assert (check.verdict, check.reason) == ("failed", "other was timed in the baseline and is not now")
    checks = judged("time x", time_document(timed(), skipped("other")), both, max_slowdown=0.1)
    assert [check.verdict for check in checks] == ["inconclusive", "failed"]
    nothing = judged("time x", document("time", []), updating=True, max_slowdown=0.1)
    assert [check.verdict for check in nothing] == ["failed", "failed"]


def seconds_advised(reason):
    return int(re.search(r"--seconds (\d+)", reason)[1])


def test_what_is_inconclusive_says_how_long_would_decide_it():
    """Half the interval is twice the gap to the limit, so four times the time would do, and a fifth to spare."""
    row = timed(median=0.010, low=0.0098, high=0.0102, samples=1000)
    check = one("time x", time_document(row), max_median_s=0.0101)
    assert check.verdict == "inconclusive"
    assert seconds_advised(check.reason) == round(1.2 * 0.010 * 1000 * 2**2)
    assert "--precision 0.83%" in check.reason
    found = ab(1.06, 1.02, 1.10)
    found["runs"][0]["seconds"] = 30.0
    assert seconds_advised(one("ab a b", found, max_slowdown=0.05).reason) == round(1.2 * 30 * 4**2)
    check = one("time x", time_document(row), max_median_s=0.0100001)
    assert "an hour of measuring would not decide it" in check.reason
    wide = time_document(timed(median=0.010, low=0.008, high=0.012, samples=1000))
    check = one("time x", time_document(row), wide, max_slowdown=0.1)
    assert "the baseline's own is too wide to decide it; make it anew with --seconds 40" in check.reason
    narrow = time_document(timed(median=0.0096, low=0.00955, high=0.00965))
    check = one("time x", time_document(row), narrow, max_slowdown=0.06)
    assert seconds_advised(check.reason) == round(1.2 * 10 * (0.0002 / (1.06 * 0.00955 - 0.010)) ** 2)


def fingerprint(network="net", weights="drawn", quantity="output", norm=1.0, **more):
    row = {"network": network, "input": "3x8x8", "weights": weights, "mode": "eval", "scale": 1.0, "seed": 0}
    row |= {"quantity": quantity, "shape": [2], "norm": norm, "projections": [norm] * 16, "tolerance": 1e-12}
    return row | {"random": False, "status": "done", "reason": ""} | more


@pytest.mark.parametrize(
    ("rows", "verdict", "words"),
    [
        ([fingerprint(), fingerprint(weights="own")], "pass", ""),
        ([fingerprint(norm=1 + 2e-13), fingerprint(weights="own")], "pass", ""),
        ([fingerprint(norm=1 + 1e-10), fingerprint(weights="own")], "fail", "net computes otherwise: its output"),
        ([fingerprint(), fingerprint(weights="own", norm=2.0)], "fail", "net has weights initialised otherwise"),
        ([fingerprint()], "fail", "net has weights initialised otherwise"),
        ([fingerprint(), fingerprint(weights="own"), fingerprint("new")], "no baseline", "the baseline has no new"),
        ([fingerprint("new")], "fail", "net missing"),
        ([fingerprint(status="skipped", norm=None), fingerprint(weights="own")], "fail", "computes otherwise"),
    ],
)
def test_must_compute_same_holds_fingerprints_against_the_baseline(rows, verdict, words):
    base = document("fingerprint", [fingerprint(), fingerprint(weights="own")])
    if rows[0]["network"] == "new":
        rows = [*rows, fingerprint("other")]
        base = document("fingerprint", [fingerprint(), fingerprint("other")])
    check = next(
        check
        for check in judged("verify net", document("fingerprint", rows), base, must_compute_same=True)
        if check.limit == "must_compute_same"
    )
    assert (check.verdict, words in check.reason) == (verdict, True), check.reason


def test_chance_is_said_by_must_compute_same():
    drawn = document("fingerprint", [fingerprint(random=True)])
    check = one("verify net", drawn, drawn, must_compute_same=True)
    assert (check.verdict, check.reason) == ("pass", "net: what draws random numbers was compared for one seed")
    older = document("fingerprint", [fingerprint(random=True, norm=2.0)])
    older["environment"]["versions"] = {"torch": "2.12.0"}
    check = one("verify net", drawn, older, must_compute_same=True)
    assert check.verdict == "inconclusive"
    assert "not compared, as the baseline's torch is 2.12.0" in check.reason


def test_must_match_baseline_leaves_times_to_their_own_limit():
    slow = time_document(timed(median=0.1, low=0.09, high=0.11))
    assert one("time x", slow, time_document(timed()), must_match_baseline=True).verdict == "pass"


def test_must_verify_needs_every_check_and_every_control():
    good = [verified(), verified("G=4"), verified("a mistake", passed=True, detected=True)]
    check = one("verify all", document("verify", good), must_verify=True)
    assert (check.verdict, check.measured, check.allowed) == ("pass", 3, 3)
    check = one("verify all", document("verify", [*good, verified("G=2", passed=False)]), code=1, must_verify=True)
    assert (check.verdict, check.measured) == ("fail", 3)
    assert "G=2 output" in check.reason
    blind = [*good, verified("blind", passed=True, detected=False)]
    assert "a control was not detected" in one("verify all", document("verify", blind), must_verify=True).reason
    nothing = [verified(passed=None)]
    assert one("verify all", document("verify", nothing), must_verify=True).verdict == "failed"
    skipped = [verified() | {"status": "skipped", "passed": None}]
    found = judged("verify all", document("verify", skipped), must_verify=True)
    assert [check.verdict for check in found] == ["failed", "failed"]


def test_must_reach_on_a_surface():
    rows = [raced("adam"), raced("newton"), raced("sgd", "budget")]
    race = document("optim-race", rows)
    check = one("optim-race", race, must_reach=True)
    assert (check.verdict, check.measured, check.allowed) == ("fail", 2, 3)
    assert "sgd default: budget" in check.reason
    assert one("optim-race", race, must_reach=("adam", "newton")).verdict == "pass"
    assert one("optim-race", race, must_reach=("adam", "lion")).verdict == "failed"
    assert one("optim-race", race, must_reach=0.9).verdict == "failed"
    named = document("optim-race", [raced("adam:lr=0.1")])
    assert one("optim-race", named, must_reach=("adam",)).verdict == "pass"
    assert one("optim-race", named, must_reach=("adam:lr=0.1",)).verdict == "pass"
    assert one("optim-race", named, must_reach=("adam:lr=0.2",)).verdict == "failed"
    theirs = document("optim-race", [raced("torch.optim:AdamW"), raced("adamw", "budget")])
    assert one("optim-race", theirs, must_reach=("torch.optim:AdamW",)).verdict == "pass"


def test_a_race_with_other_settings_is_no_baseline():
    def race(**settings):
        return document("optim-race", [raced()], surface="canyon", **settings)

    def kept(baseline):
        # As --update-baseline writes it: the settings, but none of the other details.
        return {key: baseline[key] for key in ("schema", "environment", "runs")} | {
            "settings": settings_of("optim-race", baseline["details"])
        }

    base = race(steps=1000, target=1e-6)
    for before in (base, kept(base)):
        assert one("optim-race", race(steps=1000, target=1e-6), before, must_match_baseline=True).verdict == "pass"
        check = one("optim-race", race(steps=10, target=1e-6), before, must_match_baseline=True)
        assert check.verdict == "no baseline"
        assert "differ in steps: 1,000 and 10" in check.reason
    without = {key: base[key] for key in ("schema", "environment", "runs")}
    assert one("optim-race", race(steps=10, target=1e-6), without, must_match_baseline=True).verdict == "pass"


def test_must_reach_on_a_task_is_the_worst_runs_best_epoch():
    race = document("optim-race", [*trained("adam", (0.5, 0.97, 0.96)), *trained("sgd", (0.2, 0.9), "budget")])
    check = one("optim-race", race, must_reach=0.95)
    assert (check.verdict, check.measured) == ("fail", 0.9)
    assert "sgd" in check.subject
    assert one("optim-race", race, must_reach=0.9).verdict == "pass"
    check = one("optim-race", race, must_reach=True)
    assert (check.verdict, check.measured, check.allowed) == ("fail", 1, 2)
    assert one("optim-race", race, must_reach=("adam",)).verdict == "pass"


def test_how_a_command_ended_is_a_check_of_its_own():
    assert one("list", document("list", [{"name": "a"}])).verdict == "pass"
    assert one("list", document("list", [])).verdict == "failed"
    assert one("flops x", None, code=2, words="no such thing", max_params=1).verdict == "refused"
    assert one("compare a b", None, code=4, words="a is missing").verdict == "no baseline"
    assert one("claims", document("claims", []), code=1).verdict == "fail"
    # A crash ends with 1 too, but leaves no document.
    check = one("flops x", None, code=1, words="RuntimeError: oh")
    assert (check.verdict, check.reason) == ("failed", "RuntimeError: oh")
    assert one("flops x", None, code=-9, words="ended by SIGKILL").verdict == "failed"
    checks = judged("time x y", time_document(timed(), timed("huge", status="failed")), code=5, max_median_s=1)
    assert [(check.limit, check.verdict) for check in checks] == [("completes", "failed"), ("max_median_s", "pass")]
    assert checks[0].reason == "huge: OutOfMemoryError: it was too big"
    checks = judged("time y", time_document(timed("huge", status="failed")), code=5, max_median_s=1)
    assert [check.verdict for check in checks] == ["failed", "failed"]


def test_the_code_is_that_of_the_worst_verdict():
    def code(*verdicts, strict=False):
        return exit_code([Check("e", "c", "l", verdict) for verdict in verdicts], strict=strict)

    assert code() == code("pass", "saved", "advisory", "inconclusive") == 0
    assert code("inconclusive", strict=True) == 3
    assert code("inconclusive", "advisory", strict=True) == 4
    assert code("no baseline", "inconclusive") == 4
    assert code("no baseline", "failed") == 5
    assert code("failed", "refused") == 2
    assert code("failed", "refused", "fail") == 1
    assert (
        exit_code([*not_run(Entry("e", ("list",), {}), "interrupted"), Check("e", "c", "l", "fail")], strict=True)
        == 130
    )


def test_what_was_skipped_passes_no_suite_in_silence():
    both = judged("time x", time_document(timed(), skipped("half")), max_median_s=1)
    assert [(check.limit, check.verdict) for check in both] == [("completes", "inconclusive"), ("max_median_s", "pass")]
    assert both[0].reason == "not measured: half: torch cannot do this"
    assert (exit_code(both, strict=False), exit_code(both, strict=True)) == (0, 3)
    nothing = judged("time x", time_document(skipped("half")))
    assert [(check.limit, check.verdict) for check in nothing] == [("completes", "failed")]
    assert exit_code(nothing, strict=False) == ExitCode.TRIALS_FAILED
    refused = judged("time x", time_document(skipped("half")), code=2, words="nothing was timed", max_median_s=1)
    assert [check.verdict for check in refused] == ["refused"]
    assert exit_code(refused, strict=False) == ExitCode.USAGE


def test_what_verify_skips_by_its_method_is_counted_by_its_own_limit():
    rows = [verified(), verified() | {"status": "skipped", "passed": None}]
    assert one("verify all", document("verify", rows)).verdict == "pass"


@pytest.mark.parametrize("contention", [QUIET, LOUD])
def test_a_network_that_sleeps_fails_a_limit_of_its_time(contention):
    """2 s asleep and 0.3 ms of computing, as a real row says it; also beside load, which makes nobody sleep."""
    blocks = [Block(number, (2.0,), 0.0003, contention, idle_s=1.9997) for number in range(8)]
    timing = Timing(Cell("sleeps", (3, 16, 16)), CellCost(), Plan(), Facts(0, 0, 2.0), Sampling(blocks), "done", "")
    check = one("time sleeps", time_document(timing.row()), max_median_s=0.010)
    assert (check.verdict, check.measured) == ("fail", 2.0)
    before = {"median_s": 0.01, "ci_low_s": 0.01, "ci_high_s": 0.01, "contention": "none"}
    base = time_document(timing.row() | before)
    assert one("time sleeps", time_document(timing.row()), base, max_slowdown=0.1).verdict == "fail"


BUSY = {"contention": "crowded", "basis": "cpu"}


@pytest.mark.parametrize(
    ("row", "verdict"),
    [
        # 85 ms of processor time are 3 ms on no quiet machine; 5 ms may be.
        (timed(median=0.085, low=0.08, high=0.09, **BUSY), "fail"),
        (timed(median=0.0055, low=0.0054, high=0.0056, **BUSY), "inconclusive"),
        # Two threads by the wall clock: what they take alone was estimated.
        (timed(median=0.058, low=0.05, high=0.06, contention="crowded", basis="wall", unloaded_s=0.020), "fail"),
        (
            timed(median=0.058, low=0.05, high=0.06, contention="crowded", basis="wall", unloaded_s=0.005),
            "inconclusive",
        ),
        (timed(median=0.058, low=0.05, high=0.06, contention="crowded", basis="wall"), "inconclusive"),
    ],
)
def test_what_load_cannot_explain_is_a_failure(row, verdict):
    assert one("time x", time_document(row), max_median_s=0.003).verdict == verdict
    assert one("time x", time_document(row), max_p99_s=0.003).verdict == verdict


def test_a_slowdown_that_load_cannot_explain_fails_too():
    base = time_document(timed(basis="cpu"))
    slow = time_document(timed(median=0.05, low=0.049, high=0.051, **BUSY))
    slower = time_document(timed(median=0.019, low=0.0189, high=0.0191, **BUSY))
    assert one("time x", slow, base, max_slowdown=0.1).verdict == "fail"
    assert one("time x", slower, base, max_slowdown=0.1).verdict == "inconclusive"


@pytest.mark.parametrize(
    ("limit", "allowed", "verdict"),
    [
        ("max_p90_s", 0.013, "pass"),
        ("max_p90_s", 0.0115, "inconclusive"),
        ("max_p90_s", 0.010, "fail"),
        ("max_p99_s", 0.1, "inconclusive"),
        ("min_images_per_s", 95, "pass"),
        ("min_images_per_s", 100, "inconclusive"),
        ("min_images_per_s", 105, "fail"),
        ("max_peak_bytes", 123, "pass"),
        ("max_peak_bytes", 122, "fail"),
        ("max_resident_bytes", 1e9, "failed"),
    ],
)
def test_percentiles_throughput_and_memory_have_limits(limit, allowed, verdict):
    """A p90 of 11 to 12 ms, 98 to 102 images a second, and a p99 that so few calls do not bound."""
    row = timed(p90_s=0.0114, p90_low_s=0.011, p90_high_s=0.012, samples=200)
    check = one("time x", time_document(row), **{limit: allowed})
    assert check.verdict == verdict
    if limit == "min_images_per_s":
        assert (check.measured, check.measured_low, check.measured_high) == pytest.approx(
            (100, 0.01 * 100 / 0.0102, 0.01 * 100 / 0.0098)
        )


def test_pipelined_calls_are_the_throughput_where_they_were_timed():
    row = timed(throughput_images_per_s=200)
    assert one("time x", time_document(row), min_images_per_s=150).verdict == "pass"


@pytest.mark.parametrize(
    ("row", "allowed", "resolved"),
    [
        ({}, 0.05, "pass"),  # decided
        ({"low": 0.0099, "high": 0.0101}, 0.05, "pass"),  # undecided at 1%
        ({"low": 0.009, "high": 0.011}, 0.05, "fail"),  # undecided at 10%
        ({"low": 0.009, "high": 0.011}, 0.15, "pass"),
        ({"low": 0.0099, "high": 0.0101, "contention": "steal"}, 0.05, "fail"),
    ],
)
def test_must_resolve_says_when_undecided_is_a_failure(row, allowed, resolved):
    limit = 0.02 if not row else 0.0095 if "contention" in row else 0.010
    checks = judged("time x", time_document(timed(**row)), max_median_s=limit, must_resolve=allowed)
    assert [check.limit for check in checks] == ["max_median_s", "must_resolve"]
    assert checks[1].verdict == resolved
    assert checks[0].verdict == ("inconclusive" if row else "pass")


def test_one_set_of_processes_decides_nothing():
    row = {"head": "b", "ratio": 1.5, "ci_low": None, "ci_high": None, "margin": 0.02, "seconds": 12.3}
    check = one("ab a b", document("ab", [row]), max_slowdown=0.05)
    assert (check.verdict, check.measured) == ("inconclusive", 1.5)
    assert "--seconds 26" in check.reason
