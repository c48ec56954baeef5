"""Where figures jumped: exact ones at every commit that changed them, times by change points that cry no wolf."""

from __future__ import annotations

import math
import random

import pytest

from mlcv_bench.errors import BaselineError, UsageError
from mlcv_bench.history.bisecting import answer_of, target_of
from mlcv_bench.history.database import History, NewResult
from mlcv_bench.history.jumps import search
from mlcv_bench.history.levels import FEWEST, level_changes
from mlcv_bench.history.request import BisectRequest, JumpRequest, Selection
from tests.history.documents import commit, cost, document, filled, sha, timed


def noisy(levels, noise=0.01, seed=0):
    chance = random.Random(seed)
    return [0.01 * level * math.exp(chance.gauss(0.0, noise)) for level in levels]


def found(path, since=None, fail_above=0.05, **more):
    selection = Selection(path, **{"last": 50, **more})
    with History(path) as history:
        return search(history, JumpRequest(selection, fail_above, since))


def times(path, medians, **more):
    return filled(path, [document("time", timed(median, **more)) for median in medians])


def test_an_exact_figure_is_named_at_every_commit_that_changed_it(tmp_path):
    path = filled(tmp_path / "h", [document("cost", cost(value)) for value in (10, 10, 12, 12, 9, 11)])
    result = found(path, columns=("params",))
    told = [(one.commit, one.change, one.base, one.new, one.standing) for one in result.jumps]
    # From 9 to 11 stands: 11 is more than 9. From 10 to 12 stands too: 11 is more than 10.
    assert told == [
        (sha(5), "worse", 9, 11, True),
        (sha(4), "better", 12, 9, False),
        (sha(2), "worse", 10, 12, True),
    ]
    assert (result.jumps[0].after, result.jumps[0].until) == (sha(4), sha(5))
    assert [one.standing for one in found(path, since=sha(2)[:40], columns=("params",)).jumps] == [True, False, False]
    with pytest.raises(UsageError, match="is none of the last 6 commits"):
        found(path, since="deadbeef")


def test_what_is_repaired_is_not_worse_and_a_proof_that_fails_is(tmp_path):
    path = filled(tmp_path / "h", [document("cost", cost(value)) for value in (10, 12, 10)])
    assert not found(path).worse
    rows = [{"subject": "a", "case": "b", "passed": passed} for passed in (True, True, False)]
    result = found(filled(tmp_path / "v", [document("verify", row) for row in rows]))
    assert [(one.column, one.base, one.new, one.standing) for one in result.jumps] == [
        ("passed", "true", "false", True)
    ]


def test_a_slower_level_is_found_with_its_range_ratio_and_interval(tmp_path):
    (one,) = found(times(tmp_path / "h", noisy([1.0] * 20 + [1.1] * 20))).jumps
    assert one.change == "worse"
    assert one.standing
    assert one.commit == sha(20)
    assert int(one.after[:4], 16) <= 20 <= int(one.until[:4], 16) - 1
    assert one.ratio_low < 1.1 < one.ratio_high
    assert one.ratio == pytest.approx(1.1, rel=0.01)
    again = found(times(tmp_path / "r", noisy([1.0] * 15 + [1.2] * 15 + [1.0] * 15)))
    assert [(one.commit, one.change, one.standing) for one in again.jumps] == [
        (sha(30), "better", False),
        (sha(15), "worse", False),
    ]
    small = found(times(tmp_path / "s", noisy([1.0] * 20 + [1.03] * 20, noise=0.002)))
    assert (small.jumps, small.within) == ([], 1)


def test_times_of_unlike_machines_clocks_and_loads_are_never_held_against_each_other(tmp_path):
    medians = noisy([1.0] * 20 + [2.0] * 20)
    elsewhere = [document("time", timed(median), cpu=f"Processor {at // 20}") for at, median in enumerate(medians)]
    assert found(filled(tmp_path / "machine", elsewhere)).jumps == []
    clocks = [document("time", timed(value, basis="cpu" if at < 20 else "wall")) for at, value in enumerate(medians)]
    assert found(filled(tmp_path / "clock", clocks)).jumps == []
    loads = [
        document("time", timed(value, contention="crowded" if at >= 20 else "none")) for at, value in enumerate(medians)
    ]
    result = found(filled(tmp_path / "load", loads))
    assert result.jumps == []
    assert list(result.undecided) == ["at the newest commit it was measured beside other load"]
    host = [document("time", timed(median), host=f"host {at}") for at, median in enumerate(medians)]
    assert [one.commit for one in found(filled(tmp_path / "host", host)).jumps] == [sha(20)]


def test_repeated_results_of_one_commit_count_by_their_median(tmp_path):
    path = times(tmp_path / "h", noisy([1.0] * 30))
    with History(path, create=True) as history:
        for median in (0.05, 0.01):
            history.add([NewResult(commit(29), dirty=False, document=document("time", timed(median)))])
    # One outlier among three is none.
    assert not found(path).undecided
    assert found(path).jumps == []


def test_what_cannot_be_said_yet_is_undecided(tmp_path):
    few = found(times(tmp_path / "few", noisy([1.0] * (FEWEST - 1))))
    assert next(iter(few.undecided)).startswith(f"fewer than {FEWEST} commits")
    outlier = found(times(tmp_path / "last", noisy([1.0] * 30 + [1.5])))
    assert outlier.jumps == []
    assert next(iter(outlier.undecided)).startswith("the newest of it is 1.4")
    with pytest.raises(BaselineError, match="holds one commit"):
        found(times(tmp_path / "one", [0.01]))
    with pytest.raises(UsageError, match="did you mean macs"):
        found(filled(tmp_path / "cost", [document("cost", cost(1))] * 2), columns=("mac",))


def test_figures_of_other_settings_are_another_series(tmp_path):
    row = {"surface": "canyon", "optimizer": "adam", "outcome": "converged"}
    races = [
        document("optim-race", row | {"first_hit": steps // 2}) | {"settings": {"steps": steps}}
        for steps in (100, 100, 200, 200)
    ]
    assert found(filled(tmp_path / "h", races)).jumps == []


@pytest.mark.parametrize("shape", ["normal", "heavy tails", "outliers"])
def test_no_noise_makes_a_change_and_no_outlier_does(shape):
    """A quick look; benchmarks/history_errors.py counts: at most 1 of 100 histories."""
    chance = random.Random(0)
    draw = {
        "normal": lambda: chance.gauss(0.0, 0.05),
        "heavy tails": lambda: chance.gauss(0.0, 0.03) / math.sqrt(chance.gammavariate(1.5, 2 / 3)),
        "outliers": lambda: chance.gauss(0.0, 0.05) + (0.5 if chance.random() < 0.05 else 0.0),
    }[shape]
    alarms = sum(bool(level_changes([math.exp(draw()) for _ in range(50)])) for _ in range(40))
    assert alarms <= 3


def test_the_range_of_a_change_holds_its_commit():
    hits = places = 0
    for seed in range(40):
        changes = level_changes(noisy([1.0] * 25 + [1.1] * 25, noise=0.05, seed=seed))
        hits += any(one.first <= 25 <= one.last for one in changes)
        places += any(abs(one.place - 25) <= 3 for one in changes)
    assert hits >= 34
    assert places >= 34


def test_values_without_any_noise_are_no_trouble():
    assert level_changes([1.0] * 30) == []
    (one,) = level_changes([1.0] * 15 + [2.0] * 15)
    assert (one.place, one.first, one.last, one.ratio.middle) == (15, 15, 15, pytest.approx(2.0))


def fingerprint(norm, quantity="output", projection=0.5):
    row = {"network": "net", "input": "3x8x8", "weights": "drawn", "mode": "eval", "scale": 1.0, "quantity": quantity}
    more = {"shape": "2x4", "projections": [projection * norm], "tolerance": 1e-9, "random": False, "seed": 0}
    return row | {"norm": norm} | more


def test_a_network_that_computes_otherwise_is_one_jump_however_many_quantities_moved(tmp_path):
    """Rounding is no change: 1e-12 of the norm is within the tolerance."""
    norms = (2.0, 2.0 + 2e-12, 3.0, 3.0)
    quantities = ("output", "gradient")
    documents = [document("fingerprint", *(fingerprint(norm, one) for one in quantities)) for norm in norms]
    (one,) = found(filled(tmp_path / "h", documents)).jumps
    assert (one.commit, one.row, one.column, one.change) == (sha(2), "net", "what it computes", "changed")
    assert one.standing
    assert one.reason.startswith("computes otherwise: its output")
    repaired = found(filled(tmp_path / "r", [*documents[:3], documents[0]]))
    assert [(one.commit, one.standing) for one in repaired.jumps] == [(sha(3), False), (sha(2), False)]


def test_the_second_of_two_rows_of_one_name_can_be_bisected(tmp_path):
    row = {"subject": "resnext", "case": "a control", "quantity": "output", "passed": True, "status": "done"}
    good, bad = (document("verify", row, row | {"passed": passed}) for passed in (True, False))
    path = filled(tmp_path / "h.sqlite", [good, good, bad])
    with History(path) as history:
        target = target_of(history, BisectRequest(Selection(path, last=50)))
    assert (target.jump.row, target.jump.after, target.jump.until) == ("resnext a control output (2)", sha(1), sha(2))
    assert target.arguments == ("verify",)
    assert [answer_of(target, one) for one in (good, bad)] == ["good", "bad"]
