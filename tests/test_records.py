"""Records, trials, environment: the vocabulary."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlcv_bench import environment
from mlcv_bench.errors import UsageError
from mlcv_bench.records import Column, plain_text, row_of, shape_text
from mlcv_bench.trials import NotApplicableError, outcome_of


@given(st.floats(allow_nan=False))
def test_numbers_keep_full_precision(number):
    assert float(plain_text(number)) == number


def test_plain_text_of_every_kind():
    assert plain_text(None) == ""
    assert plain_text([True]) == "true"
    assert plain_text((1.0, 2.5)) == "1.0 2.5"
    assert plain_text(float("inf")) == "inf"
    assert math.isnan(float(plain_text(float("nan"))))
    assert shape_text((3, 224, 224)) == "3x224x224"


def test_column_scales_and_rounds_for_people_only():
    column = Column("macs", "MACs", "G", ",.2f", 1e9)
    assert column.text(4_089_184_256) == "4.09"
    assert column.text(None) == "-"
    assert column.title == "MACs [G]"
    assert Column("ok", "ok").text(value=False) == "no"


def test_row_hides_and_flattens():
    @dataclass(frozen=True)
    class Record:
        a: int = 1
        secret: int = field(default=2, metadata={"hidden": True})
        more: dict = field(default_factory=lambda: {"b": 3}, metadata={"flatten": True})

    assert row_of(Record()) == {"a": 1, "b": 3}


def test_one_failing_trial_costs_no_other():
    def measure(subject):
        if subject == "bad":
            raise ValueError("broken\nsecond line")
        if subject == "odd":
            raise NotApplicableError("has no batch norm")
        return subject

    outcomes = [outcome_of(partial(measure, name)) for name in ("good", "bad", "odd", "good")]
    assert [outcome.status for outcome in outcomes] == ["done", "failed", "skipped", "done"]
    assert outcomes[1].reason.startswith("ValueError: broken; it failed in ")
    assert outcomes[2].reason == "has no batch norm"


def test_usage_error_ends_the_run():
    def measure():
        raise UsageError("wrong")

    with pytest.raises(UsageError, match="wrong"):
        outcome_of(measure)


def test_environment_tells_what_decides_a_figure():
    found = environment.capture(command="mlcv-bench x")
    assert found.command == "mlcv-bench x"
    assert found.usable_cores >= 1
    assert found.versions["torch"]
    assert set(found.as_dict()) >= {"cpu", "versions", "threads", "flags", "commit"}
