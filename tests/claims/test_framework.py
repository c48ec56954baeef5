"""Claims: the rule from numbers to a verdict, selection, exit codes."""

from __future__ import annotations

import csv
import importlib
import io

import pytest

from mlcv_bench.claims.catalog import CLAIMS, select
from mlcv_bench.claims.claim import Claim, Finding, Quantity, examine
from mlcv_bench.errors import UsageError

MET = Quantity("met", 1.0, 1.0)
UNMET = Quantity("unmet", 2.0, 1.0)
OPEN = Quantity("open", 0.1, 0.0, relation=">", interval=(-0.1, 0.3))
LIMIT = Quantity("limit", 1.0, 1.0, role="limit")
NO_LIMIT = Quantity("limit", 2.0, 1.0, role="limit")


@pytest.mark.parametrize(
    ("quantities", "verdict"),
    [
        ((MET,), "holds"),
        ((MET, LIMIT), "holds_with_limit"),
        ((MET, NO_LIMIT), "holds"),
        ((MET, LIMIT, NO_LIMIT), "holds"),
        ((MET, UNMET, LIMIT), "does_not_hold"),
        ((MET, OPEN, LIMIT), "not_decided"),
        ((UNMET, OPEN), "does_not_hold"),
    ],
)
def test_the_rule(quantities, verdict):
    assert Finding(quantities, "").verdict == verdict


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
        (Quantity("", float("inf"), 1.0, relation=">"), True),
        (Quantity("", 1.0, 1.2, interval=(0.9, 1.1)), False),
        (Quantity("", 1.0, 1.05, interval=(0.9, 1.1)), True),
        (Quantity("", 1.0, 0.0, relation=">", interval=(0.9, 1.1)), True),
        (Quantity("", -1.0, 0.0, relation=">", interval=(-1.1, -0.9)), False),
    ],
)
def test_when_a_quantity_is_met(quantity, met):
    assert quantity.met is met


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
    assert [claim.id for claim in select(["1.1-sphere"], [], everything=False)] == ["1.1-sphere"]
    assert {claim.section for claim in select([], ["1.3"], everything=True)} == {"1.3"}
    assert len(select([], ["1"], everything=True)) > 20
    with pytest.raises(UsageError, match=r"1.1-sphere"):
        select(["1.1-spere"], [], everything=False)
    with pytest.raises(UsageError, match=r"no claim belongs to section 7"):
        select([], ["7"], everything=False)


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
        "rules.BUILT_IN = (sgd, *rules.BUILT_IN[1:])\n"
    )
    from pathlib import Path

    root = Path(__file__).parents[2]
    done = command("claims", "--id", "1.1-sphere", env={"PYTHONPATH": f"{tmp_path}:{root}"}, check=1)
    assert "recorded as 'holds with a limit', this run says 'does not hold'" in done.stderr
