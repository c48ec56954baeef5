"""The optimizers' subjects of `verify`: they pass, their controls are noticed, and what differs is reported."""

from __future__ import annotations

import pytest

from mlcv_bench import verify
from mlcv_bench.equivalence.optimizers import TOLERANCE
from mlcv_bench.equivalence.subject import SUBJECTS


@pytest.mark.parametrize("subject", [name for name, one in SUBJECTS.items() if "optimizers:" in one.cases])
def test_the_subject_passes_and_every_control_is_noticed(subject):
    found = verify(subject)
    assert found.passed
    judged = [record for record in found.records if record.proof == "rounding"]
    assert judged
    assert all(record.max_rel_error <= TOLERANCE for record in judged)
    assert all(record.control_detected for record in found.controls)
    assert {record.quantity for record in judged} <= {record.quantity for record in found.controls}


def test_l2_is_reported_where_it_is_not_decay():
    reported = [record for record in verify("weight-decay").records if record.proof == "report"]
    assert len(reported) == 6
    assert all(record.passed is None and record.max_rel_error > 1e-3 for record in reported)
