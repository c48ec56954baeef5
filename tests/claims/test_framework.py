"""Claims: the rule from numbers to a verdict, selection, exit codes."""

from __future__ import annotations

import csv
import dataclasses
import importlib
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlcv_bench.claims.claim import CLAIMS, Claim, ClaimsRequest, ExperimentResult, examine
from mlcv_bench.claims.quantity import Quantity
from mlcv_bench.cli.claims import claims, ending
from mlcv_bench.errors import TrialsFailedError, UsageError
from mlcv_bench.records import row_of
from mlcv_bench.report.claims import claims_report

MET = Quantity("met", 1.0, 1.0)
UNMET = Quantity("unmet", 2.0, 1.0)
OPEN = Quantity("open", 0.1, 0.0, relation=">", interval=(-0.1, 0.3))
LIMIT = Quantity("limit", 1.0, 1.0, role="limit")
OPEN_LIMIT = Quantity("open limit", 0.1, 0.0, relation=">", interval=(-0.1, 0.3), role="limit")
NO_LIMIT = Quantity("limit", 2.0, 1.0, role="limit")


@pytest.mark.parametrize(
    ("quantities", "verdict"),
    [
        ((MET,), "holds"),
        ((MET, LIMIT), "holds_with_limit"),
        ((MET, NO_LIMIT), "does_not_hold"),
        ((MET, LIMIT, NO_LIMIT), "does_not_hold"),
        ((MET, UNMET, LIMIT), "does_not_hold"),
        ((MET, OPEN, LIMIT), "not_decided"),
        ((MET, OPEN_LIMIT), "not_decided"),
        ((MET, OPEN, NO_LIMIT), "does_not_hold"),
        ((UNMET, OPEN), "does_not_hold"),
    ],
)
def test_the_rule(quantities, verdict):
    assert ExperimentResult(quantities, "").verdict == verdict


WORSE = ("holds", "holds_with_limit", "not_decided", "does_not_hold")


@given(
    st.lists(st.tuples(st.sampled_from(["statement", "limit"]), st.sampled_from([MET, OPEN, UNMET])), min_size=1),
    st.data(),
)
def test_a_quantity_that_gets_worse_makes_no_verdict_better(drawn, data):
    number = data.draw(st.integers(0, len(drawn) - 1))
    role, before = drawn[number]
    after = data.draw(st.sampled_from({MET: [OPEN, UNMET], OPEN: [UNMET], UNMET: [UNMET]}[before]))

    def verdict(parts):
        return WORSE.index(
            ExperimentResult(tuple(dataclasses.replace(one, role=role) for role, one in parts), "").verdict
        )

    assert verdict([*drawn[:number], (role, after), *drawn[number + 1 :]]) >= verdict(drawn)


@pytest.mark.parametrize(
    ("quantity", "met"),
    [
        (Quantity("", 1.05, 1.0, 0.1), True),
        (Quantity("", 1.2, 1.0, 0.1), False),
        (Quantity("", 105.0, 100.0, 0.1, relative=True), True),
        (Quantity("", 1.0, 1.0, relation="<"), False),
        (Quantity("", 1.0, 1.0, relation="<="), True),
        (Quantity("", 0.9, 1.0, relation=">="), False),
        (Quantity("", float("nan"), 1.0, 10.0), False),
        (Quantity("", float("inf"), float("inf")), True),
        (Quantity("", float("inf"), 1.0, relation=">"), True),
        (Quantity("", 1.0, 1.2, interval=(0.9, 1.1)), False),
        (Quantity("", 1.0, 1.05, 0.2, interval=(0.9, 1.1)), True),
        (Quantity("", 1.0, 1.05, 0.1, interval=(0.9, 1.1)), None),
        (Quantity("", 1.0, 1.05, interval=(0.9, 1.1)), None),
        (Quantity("", 1.0, 1.0, 0.1, interval=(-9.0, 11.0)), None),
        (Quantity("", 1.0, 2.0, 0.5, interval=(0.9, 1.1)), False),
        (Quantity("", 1.0, 1.0, 0.1, interval=(float("nan"), float("nan"))), None),
        (Quantity("", 1.0, 0.0, relation=">", interval=(0.9, 1.1)), True),
        (Quantity("", -1.0, 0.0, relation=">", interval=(-1.1, -0.9)), False),
        (Quantity("", 1.0, 1.0, 0.2, relation="<=", interval=(0.9, 1.1)), True),
        (Quantity("", 1.0, 1.0, relation=">=", interval=(0.9, 1.1)), None),
    ],
)
def test_when_a_quantity_is_met(quantity, met):
    assert quantity.met is met


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=lambda claim: claim.id)
def test_a_limit_is_named_where_there_is_one(claim):
    assert bool(claim.limit) == (claim.expected == "holds_with_limit")


def test_a_verdict_that_changed_is_explained_by_its_numbers(monkeypatch):
    claim = Claim("x-y", "9", "Nothing.", "nowhere:nothing", "holds")
    for finding, words in (
        (ExperimentResult((MET,), "All is well."), "All is well."),
        (ExperimentResult((MET, NO_LIMIT), "All is well."), "Not met: limit, 2, where = 1 is predicted."),
        (ExperimentResult((OPEN,), "All is well."), "Open: open, 0.1, where > 0 is predicted."),
        (ExperimentResult((MET, LIMIT), "All is well."), "Every quantity is met."),
    ):
        monkeypatch.setattr(Claim, "experiment", lambda self, finding=finding: lambda: finding)
        assert examine(claim).explanation == words


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=lambda claim: claim.id)
def test_every_claim_has_its_experiment(claim):
    module, _, name = claim.place.partition(":")
    assert callable(getattr(importlib.import_module(module), name))
    assert claim.remark.endswith(".")


def test_an_experiment_that_raises_is_a_failed_row():
    claim = Claim("x-y", "9", "Nothing.", "math:nothing", "holds")
    found = examine(claim, iter([0.0, 2.0]).__next__)
    assert (found.status, found.verdict, found.seconds) == ("failed", None, 2.0)
    assert "nothing" in found.reason


def test_selection():
    assert [claim.id for claim in ClaimsRequest(("1.1-sphere",)).chosen()] == ["1.1-sphere"]
    assert {claim.section for claim in ClaimsRequest(sections=("1.3",), everything=True).chosen()} == {"1.3"}
    assert len(ClaimsRequest(sections=("1",), everything=True).chosen()) > 20
    with pytest.raises(UsageError, match=r"1.1-sphere"):
        ClaimsRequest(("1.1-spere",)).check()
    with pytest.raises(UsageError, match=r"--id or --all, not both"):
        ClaimsRequest(("1.1-sphere",), everything=True).check()
    with pytest.raises(UsageError, match=r"no claim belongs to section 7"):
        ClaimsRequest(sections=("7",)).check()


def test_the_overview_names_limits_and_shows_numbers_when_asked(monkeypatch):
    found = examine(CLAIMS["1.1-sphere"])
    (table,) = claims_report([found]).tables
    assert table.rows[0]["remark_text"] == f"{found.remark} Limit: {CLAIMS['1.1-sphere'].limit}."
    assert [len(one.rows) for one in claims_report([found], numbers=True).tables] == [1, 5]
    assert row_of(found)["limit"] == CLAIMS["1.1-sphere"].limit
    monkeypatch.setattr(Claim, "experiment", lambda self: lambda: ExperimentResult((MET,), ""))
    assert not examine(CLAIMS["1.1-sphere"]).limit


@pytest.mark.parametrize(
    ("options", "missing"),
    [
        ({}, [claim.id for claim in CLAIMS.values() if not claim.quick]),
        ({"sections": ["1"]}, ["1.4-nesterov-beats-adam", "1.4-nesterov-beats-adam-on-mnist"]),
        ({"everything": True}, []),
        ({"ids": ["1.1-sphere"]}, []),
    ],
)
def test_the_overview_says_what_was_left_out_and_why(options, missing, monkeypatch, capsys):
    monkeypatch.setattr("mlcv_bench.execution.processes.in_turn", lambda function, chosen, workers: [])
    claims(**options).run()
    said = " ".join(capsys.readouterr().out.split())
    assert ("Left out, since each takes minutes (--all tests them):" in said) == bool(missing)
    assert all(name in said for name in missing)


def test_the_command(command, tmp_path):
    done = command("claims", "--id", "1.1-sphere", "-o", "claims.csv", "-o", "claims.md", check=0)
    assert "holds with a limit" in done.stdout
    assert "|x1|/|x0| at eta = 1.5/L" in done.stdout
    (row,) = csv.DictReader(io.StringIO((tmp_path / "claims.csv").read_text()))
    assert list(row)[:10] == [
        *("id", "section", "remark", "verdict", "measured", "predicted", "tolerance", "unit", "seconds", "explanation")
    ]
    assert (row["verdict"], row["predicted"]) == ("holds_with_limit", "0.0")
    assert "1.1-spher" in command("claims", "--id", "1.1-spher", check=2).stderr
    assert "not both" in command("claims", "--id", "1.1-sphere", "--section", "1.1", check=2).stderr


def test_a_changed_verdict_is_exit_code_1(command, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "from mlcv_bench.optimizers import rules\n"
        "def sgd(x, g, t, lr=0.01):\n    return x - 0.5 * lr * g\n"
        "rules.sgd = sgd\n"
    )
    from pathlib import Path

    root = Path(__file__).parents[2]
    done = command(
        "claims", "--id", "1.1-sphere", "--quiet", env={"PYTHONPATH": f"{tmp_path}:{root}"}, check=1, fresh=True
    )
    assert "1.1-sphere: recorded as 'holds with a limit', this run says 'does not hold'" in done.stderr


def test_what_failed_and_what_changed_are_named_together():
    found = examine(CLAIMS["1.1-sphere"])
    failed = examine(Claim("x-y", "9", "Nothing.", "math:nothing", "holds"))
    assert ending([found]) == 0
    with pytest.raises(TrialsFailedError, match=r"^x-y failed: .*nothing.*; 1.1-sphere: recorded as 'holds', this run"):
        ending([failed, dataclasses.replace(found, expected="holds")])
